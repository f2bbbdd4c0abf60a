#include "report.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

namespace rondo::detail {

namespace {

constexpr int write_signals[] = {SIGPIPE, SIGXFSZ, SIGTTOU};

constinit std::atomic<std::uint64_t> lost{0};
constinit std::atomic<std::uint64_t> untold{0};  // of these, how many no message has told of
constinit std::atomic<bool> line_open{false};    // the latest message was cut within a line

// All below give what write() gives, or -errno.

ssize_t outcome(ssize_t n) noexcept { return n >= 0 ? n : -errno; }

// Another open file, of the same pipe or terminal: O_NONBLOCK on that of standard error itself would be seen by
// everyone who shares it. Not with a file: that would have a position of its own.
ssize_t write_reopened(int fd, std::string_view text) noexcept {
    char path[32] = "/proc/thread-self/fd/";
    char* const number = path + std::strlen(path);
    *std::to_chars(number, path + sizeof path - 1, fd).ptr = '\0';
    const int own = ::open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own < 0) return -EOPNOTSUPP;
    const ssize_t n = outcome(::write(own, text.data(), text.size()));
    ::close(own);
    return n;
}

// A pipe that is ready takes a page as a whole. It may block all the same, if someone else who writes to it comes
// first.
ssize_t write_when_ready(int fd, std::string_view text) noexcept {
    pollfd ready{fd, POLLOUT, 0};
    if (const int n = ::poll(&ready, 1, 0); n <= 0) return n < 0 ? -errno : -EAGAIN;
    return outcome(::write(fd, text.data(), text.size()));
}

ssize_t write_now(int fd, std::string_view text) noexcept {
    struct stat what{};
    if (::fstat(fd, &what) != 0) return -errno;
    if (S_ISSOCK(what.st_mode)) return outcome(::send(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
    if (!S_ISFIFO(what.st_mode) && !S_ISCHR(what.st_mode)) return outcome(::write(fd, text.data(), text.size()));
    const iovec part{const_cast<char*>(text.data()), text.size()};
    ssize_t n = outcome(::pwritev2(fd, &part, 1, -1, RWF_NOWAIT));  // pipes, since Linux 6.5
    if (n != -EOPNOTSUPP && n != -ENOSYS && n != -EINVAL && n != -EPERM) return n;
    if (S_ISFIFO(what.st_mode) || ::isatty(fd) == 1) n = write_reopened(fd, text);
    return n == -EOPNOTSUPP || n == -ENOSYS || n == -EINVAL || n == -EPERM ? write_when_ready(fd, text) : n;
}

}  // namespace

no_write_signals::no_write_signals() noexcept {
    sigset_t these;
    sigemptyset(&these);
    for (const int signal : write_signals) sigaddset(&these, signal);
    pthread_sigmask(SIG_BLOCK, &these, &before_);
    sigpending(&pending_);
}

// These are sent to the thread that writes, so one that is pending now and was not before came from here.
no_write_signals::~no_write_signals() {
    const int saved = errno;
    sigset_t pending;
    sigpending(&pending);
    for (const int signal : write_signals) {
        if (sigismember(&pending, signal) != 1 || sigismember(&pending_, signal) == 1) continue;
        sigset_t one;
        sigemptyset(&one);
        sigaddset(&one, signal);
        const timespec at_once{0, 0};
        while (sigtimedwait(&one, nullptr, &at_once) < 0 && errno == EINTR) {
        }
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    errno = saved;
}

report::~report() { flush(); }

report& report::add(std::string_view text) noexcept {
    while (!text.empty() && !lost_) {
        if (size_ == sizeof text_) flush();
        const std::size_t n = std::min(text.size(), sizeof text_ - size_);
        std::memcpy(text_ + size_, text.data(), n);
        size_ += n;
        text.remove_prefix(n);
    }
    return *this;
}

report& report::add(std::uint32_t number) noexcept {
    char digits[10];
    return add({digits, static_cast<std::size_t>(std::to_chars(digits, digits + sizeof digits, number).ptr - digits)});
}

void report::flush() noexcept {
    if (size_ == 0 || lost_) return;
    const no_write_signals guard;
    if (!std::exchange(begun_, true)) tell_lost();
    if (!lost_) write({text_, size_});
    size_ = 0;
}

void report::tell_lost() noexcept {
    const std::uint64_t count = untold.exchange(0);
    const bool open = line_open.exchange(false);
    if (count == 0 && !open) return;
    char note[96];
    const int size =
        count == 0 ? std::snprintf(note, sizeof note, "\n")
                   : std::snprintf(note, sizeof note, "%srondo warning: %llu %s lost: standard error did not take %s\n",
                                   open ? "\n" : "", static_cast<unsigned long long>(count),
                                   count == 1 ? "message was" : "messages were", count == 1 ? "it" : "them");
    if (write({note, static_cast<std::size_t>(size)})) return;
    untold.fetch_add(count);
    if (open) line_open = true;
}

/// All of it, or the message is lost.
bool report::write(std::string_view text) noexcept {
    while (!text.empty()) {
        const ssize_t n = write_now(STDERR_FILENO, text);
        if (n > 0) {
            last_ = text[static_cast<std::size_t>(n) - 1];
            text.remove_prefix(static_cast<std::size_t>(n));
        } else if (n != -EINTR && (n != -EAGAIN || !wait_for_room())) {
            lost_ = true;
            lost.fetch_add(1);
            untold.fetch_add(1);
            if (last_ != '\n') line_open = true;
            return false;
        }
    }
    return true;
}

bool report::wait_for_room() noexcept {
    using clock = std::chrono::steady_clock;
    if (patience_.count() == 0) return false;
    const clock::time_point now = clock::now();
    if (give_up_ == clock::time_point()) give_up_ = now + patience_;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(give_up_ - now).count();
    pollfd room{STDERR_FILENO, POLLOUT, 0};
    return left > 0 && ::poll(&room, 1, static_cast<int>(left)) != 0;
}

std::uint64_t reports_lost() noexcept { return lost.load(); }

void hold_standard_error() noexcept {
    if (::fcntl(STDERR_FILENO, F_GETFD) >= 0) return;
    const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);  // the lowest number there is: perhaps another one
    if (null < 0 || null == STDERR_FILENO) return;
    const int second = ::fcntl(null, F_DUPFD_CLOEXEC, STDERR_FILENO);
    ::close(null);
    if (second > STDERR_FILENO) ::close(second);  // someone else was first
}

}  // namespace rondo::detail
