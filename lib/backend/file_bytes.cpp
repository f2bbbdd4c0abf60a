#include "file_bytes.hpp"

#include "base/report.hpp"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <span>

namespace rondo::detail {
namespace {

constexpr int window_size_max = 64;  // iovecs per call

/// A call's answer: >= 0, or -errno.
ssize_t outcome(ssize_t n) noexcept { return n >= 0 ? n : -errno; }

/// What poll(2) says at once; 0: nothing, or it cannot tell.
short events_of(int fd, short wanted) noexcept {
    pollfd asked{fd, wanted, 0};
    return ::poll(&asked, 1, 0) > 0 ? asked.revents : short{0};
}

/// Whether the kernel, or a filter in front of it, does not know a flag for this kind of file.
bool is_unknown(ssize_t result) noexcept {
    return result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL || result == -EPERM;
}

// Since Linux 6.5 a pipe can be asked not to wait by one call. What cannot is asked whether it is ready, and then
// takes the call; it may wait all the same, if somebody else comes in between.
ssize_t read_shared(int fd, void* into, std::size_t size) noexcept {
    const iovec place{into, size};
    const ssize_t n = outcome(::preadv2(fd, &place, 1, -1, RWF_NOWAIT));
    if (!is_unknown(n)) return n;
    if (events_of(fd, POLLIN) == 0) return -EAGAIN;
    return outcome(::read(fd, into, size));
}

ssize_t read_now(int fd, file_kind kind, void* into, std::size_t size) noexcept {
    switch (kind) {
        case file_kind::shared_socket: return outcome(::recv(fd, into, size, MSG_DONTWAIT));
        case file_kind::shared: return read_shared(fd, into, size);
        default: break;
    }
    const ssize_t n = outcome(::read(fd, into, size));
    // Linux says EIO when the last one who had the terminal open has closed it.
    if (n == -EIO && kind == file_kind::master) return 0;
    if (n == 0 && size != 0 && kind == file_kind::fifo && !(events_of(fd, POLLIN) & (POLLIN | POLLHUP))) return -EAGAIN;
    return n;
}

/// As many bytes as `size` of the front of `parts`, which is left as it was.
ssize_t write_front(int fd, std::span<const iovec> parts, std::size_t size) noexcept {
    const std::size_t first = std::min(parts.front().iov_len, size);
    return outcome(::write(fd, parts.front().iov_base, first));
}

ssize_t write_shared(int fd, std::span<const iovec> parts) noexcept {
    const no_write_signals errors_only;
    const ssize_t n = outcome(::pwritev2(fd, parts.data(), static_cast<int>(parts.size()), -1, RWF_NOWAIT));
    if (!is_unknown(n)) return n;
    if (events_of(fd, POLLOUT) == 0) return -EAGAIN;
    return write_front(fd, parts, PIPE_BUF);  // so much a pipe takes that is ready
}

// A pipe that nobody reads sends SIGPIPE to the thread that writes. Linux can be asked not to since 6.18
// (RWF_NOSIGNAL); else it is held back and taken, which costs four calls more.
ssize_t write_to_pipe(int fd, std::span<const iovec> parts) noexcept {
    constexpr int no_signal = 0x100;  // headers are older than kernels
    static constinit std::atomic<bool> known{true};
    const int count = static_cast<int>(parts.size());
    if (known.load(std::memory_order_relaxed)) {
        const ssize_t n = outcome(::pwritev2(fd, parts.data(), count, -1, no_signal));
        if (!is_unknown(n)) return n;
        known.store(false, std::memory_order_relaxed);
    }
    const no_write_signals errors_only;
    return outcome(::writev(fd, parts.data(), count));
}

ssize_t write_now(int fd, file_kind kind, std::span<const iovec> parts) noexcept {
    const int count = static_cast<int>(parts.size());
    switch (kind) {
        case file_kind::pipe:
        case file_kind::fifo: return write_to_pipe(fd, parts);
        case file_kind::shared: return write_shared(fd, parts);
        case file_kind::shared_socket: {
            msghdr message{};
            message.msg_iov = const_cast<iovec*>(parts.data());  // which it only reads
            message.msg_iovlen = parts.size();
            return outcome(::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
        }
        case file_kind::terminal:
        case file_kind::master: return outcome(::writev(fd, parts.data(), count));  // SIGTTOU does what it always does
        case file_kind::regular:
        case file_kind::none: break;
    }
    const no_write_signals errors_only;  // SIGXFSZ, where it grows too large
    return outcome(::writev(fd, parts.data(), count));
}

/// Whether it would move more than a quiet stream does, when the bytes of the turn are spent.
bool must_wait_a_turn(const io_op& what, const byte_budget& budget, std::size_t size) noexcept {
    return budget.spent() && size > byte_budget::small && what.state != op::armed;
}

std::int32_t receive(io_op& what, file_kind kind, byte_budget& budget) noexcept {
    if (must_wait_a_turn(what, budget, left_to_move(what))) return out_of_share;
    turn_share share(budget);
    for (;;) {
        auto* const into = static_cast<std::byte*>(what.data) + what.moved;
        const ssize_t n = read_now(what.fd, kind, into, share.portion(left_to_move(what)));
        if (n == -EINTR) continue;
        if (n == -EAGAIN) return would_block;
        if (n < 0) return static_cast<std::int32_t>(n);
        what.moved += static_cast<std::uint32_t>(n);
        share.spend(static_cast<std::size_t>(n));
        if (n == 0 || !(what.flags & io_op::all) || left_to_move(what) == 0)
            return static_cast<std::int32_t>(what.moved);
        if (share.used_up()) return out_of_share;
    }
}

std::int32_t borrow(io_op& what, file_kind kind, byte_budget& budget, buffer_pool& lent) noexcept {
    what.data = nullptr;
    what.size = 0;
    what.buffer = chunk::heap;
    if (must_wait_a_turn(what, budget, lent.size())) return out_of_share;
    chunk* const taken = lent.take();
    if (taken == nullptr) return -ENOMEM;
    ssize_t n;
    do {
        n = read_now(what.fd, kind, taken->data, budget.portion(lent.size()));
    } while (n == -EINTR);
    if (n <= 0) {
        lent.give_back(*taken);
        return n == -EAGAIN ? would_block : static_cast<std::int32_t>(n);
    }
    what.data = taken->data;
    what.size = static_cast<std::uint32_t>(n);
    budget.spend(what.size);
    return static_cast<std::int32_t>(n);
}

std::int32_t send(io_op& what, file_kind kind, byte_budget& budget) noexcept {
    const std::span whole(static_cast<const std::byte*>(what.data), what.size);
    span_cursor cursor = what.kind == io_kind::send ? span_cursor({&whole, 1}, what.moved) : span_cursor(what);
    iovec window[window_size_max];
    if (budget.spent() && must_wait_a_turn(what, budget, cursor.fill(window, byte_budget::small + 1).bytes))
        return out_of_share;
    turn_share share(budget);
    while (!cursor.at_end()) {
        if (share.used_up()) return out_of_share;
        const std::size_t pieces = cursor.fill(window, share.portion(most_moved)).pieces;
        const ssize_t n = write_now(what.fd, kind, {window, pieces});
        if (n == -EINTR) continue;
        if (n == -EAGAIN) return would_block;
        if (n < 0) return static_cast<std::int32_t>(n);
        what.moved += static_cast<std::uint32_t>(n);
        cursor.advance(static_cast<std::size_t>(n));
        share.spend(static_cast<std::size_t>(n));
        if (!(what.flags & io_op::all)) break;
    }
    return static_cast<std::int32_t>(what.moved);
}

}  // namespace

file_kind look_at_file(int fd) noexcept {
    struct stat what{};
    if (::fstat(fd, &what) != 0) return file_kind::regular;  // a call will tell what is wrong
    if (S_ISSOCK(what.st_mode)) return file_kind::shared_socket;
    if (!S_ISFIFO(what.st_mode) && !S_ISCHR(what.st_mode)) return file_kind::regular;
    if (!(::fcntl(fd, F_GETFL) & O_NONBLOCK)) return file_kind::shared;
    if (S_ISFIFO(what.st_mode)) return file_kind::pipe;
    int number = 0;
    return ::ioctl(fd, TIOCGPTN, &number) == 0 ? file_kind::master : file_kind::terminal;
}

std::int32_t move_file_bytes(io_op& what, file_kind kind, byte_budget& budget, buffer_pool& lent) noexcept {
    switch (what.kind) {
        case io_kind::receive: return receive(what, kind, budget);
        case io_kind::borrow: return borrow(what, kind, budget, lent);
        default: return send(what, kind, budget);
    }
}

int try_file_bytes(const sys_op& what, file_kind kind, byte_budget& budget) noexcept {
    const std::uint32_t size = budget.portion(what.size);
    ssize_t n;
    do {
        const iovec bytes{what.data, size};
        n = what.what == sys_op::call::try_send ? write_now(what.fd, kind, {&bytes, 1})
                                                : read_now(what.fd, kind, what.data, size);
    } while (n == -EINTR);
    if (n > 0) budget.spend(static_cast<std::size_t>(n));
    return static_cast<int>(n);
}

}  // namespace rondo::detail
