#include "posix.hpp"

#include "adopt.hpp"
#include "base/fork.hpp"
#include "datagrams.hpp"
#include "files.hpp"
#include "process_signals.hpp"
#include "tcp_info.hpp"
#include "unix_names.hpp"

#include <dirent.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>

namespace rondo::detail {
namespace {

std::int64_t read_clock(clockid_t which) noexcept {
    timespec at;
    clock_gettime(which, &at);
    return std::int64_t{at.tv_sec} * 1'000'000'000 + at.tv_nsec;
}

std::uint64_t split_mix(std::uint64_t& state) noexcept {
    std::uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

int or_errno(long result) noexcept { return result < 0 ? -errno : static_cast<int>(result); }

template <class Call>
int uninterrupted(Call call) noexcept {
    int result;
    do {
        result = or_errno(call());
    } while (result == -EINTR);
    return result;
}

struct option_name {
    int level, name;
};

option_name name_of_option(sys_op::option which) noexcept {
    switch (which) {
        case sys_op::option::no_delay: return {IPPROTO_TCP, TCP_NODELAY};
        case sys_op::option::keep_alive: return {SOL_SOCKET, SO_KEEPALIVE};
        case sys_op::option::reuse_address: return {SOL_SOCKET, SO_REUSEADDR};
        case sys_op::option::reuse_port: return {SOL_SOCKET, SO_REUSEPORT};
        case sys_op::option::v6_only: return {IPPROTO_IPV6, IPV6_V6ONLY};
        case sys_op::option::receive_buffer: return {SOL_SOCKET, SO_RCVBUF};
        case sys_op::option::send_buffer: return {SOL_SOCKET, SO_SNDBUF};
        case sys_op::option::error: return {SOL_SOCKET, SO_ERROR};
        case sys_op::option::broadcast: return {SOL_SOCKET, SO_BROADCAST};
        case sys_op::option::ttl:
        case sys_op::option::multicast_ttl:
        case sys_op::option::multicast_loop:
        case sys_op::option::multicast_interface:
        case sys_op::option::receive_segments: break;  // datagrams.cpp knows them
        case sys_op::option::keep_alive_idle: return {IPPROTO_TCP, TCP_KEEPIDLE};
        case sys_op::option::keep_alive_interval: return {IPPROTO_TCP, TCP_KEEPINTVL};
        case sys_op::option::keep_alive_count: return {IPPROTO_TCP, TCP_KEEPCNT};
        case sys_op::option::user_timeout: return {IPPROTO_TCP, TCP_USER_TIMEOUT};
        case sys_op::option::cork: return {IPPROTO_TCP, TCP_CORK};
        case sys_op::option::late_port: return {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT};
    }
    return {-1, -1};
}

int type_of(const sys_op& what) noexcept { return unix_socket_type(static_cast<unix_type>(what.value)); }

/// getsockname or getpeername into a raw_address.
template <class Call>
int address_of(sys_op& what, Call call) noexcept {
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    if (call(what.fd, reinterpret_cast<sockaddr*>(&from), &size) < 0) return -errno;
    *what.address = raw_address_of(&from);
    return 0;
}

}  // namespace

static int reset_on_close(int fd) noexcept {
    const linger now{1, 0};
    return ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

void refuse_connection(int fd) noexcept {
    reset_on_close(fd);
    ::close(fd);
}

bool accept_is_transient(int error) noexcept {
    switch (error) {
        case ECONNABORTED:
        case EINTR:
        case EPROTO:
        case ENETDOWN:
        case ENOPROTOOPT:
        case EHOSTDOWN:
        case ENONET:
        case EHOSTUNREACH:
        case EOPNOTSUPP:
        case ENETUNREACH:
        case EPERM:
        case ETIMEDOUT: return true;
        default: return false;
    }
}

short poll_events(std::uint32_t mask) noexcept {
    int events = 0;
    if (mask & poll_mask::in) events |= POLLIN | POLLRDHUP;
    if (mask & poll_mask::out) events |= POLLOUT;
    if (mask & poll_mask::urgent) events |= POLLPRI;
    return static_cast<short>(events);
}

std::int32_t poll_result(int found, std::uint32_t mask) noexcept {
    std::uint32_t there = 0;
    if (found & (POLLIN | POLLRDHUP)) there |= poll_mask::in;
    if (found & POLLOUT) there |= poll_mask::out;
    if (found & POLLPRI) there |= poll_mask::urgent;
    if (found & (POLLHUP | POLLERR)) there |= poll_mask::error | poll_mask::in | poll_mask::out;
    return static_cast<std::int32_t>(there & (mask | poll_mask::error));
}

span_cursor::span_cursor(std::span<const std::span<const std::byte>> spans, std::size_t moved) noexcept
    : at_(spans.data()), end_(at_ + spans.size()) {
    skip_empty();
    if (moved > 0) advance(moved);
}

span_cursor::filled span_cursor::fill(std::span<iovec> window, std::size_t most) const noexcept {
    std::size_t count = 0;
    std::size_t skip = offset_;
    const std::size_t all = std::min(left_, most);
    std::size_t left = all;
    for (auto* at = at_; at != end_ && count < window.size() && left > 0; ++at) {
        const std::size_t size = std::min(at->size() - skip, left);
        // sendmsg only reads what iov_base points at.
        if (size > 0) window[count++] = {const_cast<std::byte*>(at->data()) + skip, size};
        left -= size;
        skip = 0;
    }
    return {count, all - left};
}

void span_cursor::advance(std::size_t bytes) noexcept {
    left_ -= bytes;
    while (bytes > 0) {
        const std::size_t step = std::min(at_->size() - offset_, bytes);
        offset_ += step;
        bytes -= step;
        skip_empty();
    }
}

posix_backend::posix_backend() noexcept : forks_(forks()) {
    // The counter is never read back: every write is an edge for those who poll it, and adding one
    // at a time it would take centuries to block.
    wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    std::uint64_t seed[4];
    if (getrandom(seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) {
        // Early boot, or a filter: the clock and where the stack lies are better than a constant.
        std::uint64_t mix =
            static_cast<std::uint64_t>(read_clock(CLOCK_MONOTONIC)) ^ reinterpret_cast<std::uintptr_t>(&seed);
        for (auto& each : seed) each = split_mix(mix);
    }
    std::memcpy(random_, seed, sizeof random_);
    random_[0] |= 1;  // all zero is the one state the generator never leaves
}

posix_backend::~posix_backend() {
    if (wake_fd_ >= 0) ::close(wake_fd_);
}

time_point posix_backend::now() noexcept {
    last_now_ = time_point(duration(read_clock(CLOCK_MONOTONIC)));
    return last_now_;
}

std::int64_t posix_backend::wall_now() noexcept { return read_clock(CLOCK_REALTIME); }

// xoshiro256** (Blackman and Vigna): fast, and good for anything but secrets.
std::uint64_t posix_backend::random() noexcept {
    const std::uint64_t result = std::rotl(random_[1] * 5, 7) * 9;
    const std::uint64_t shifted = random_[1] << 17;
    random_[2] ^= random_[0];
    random_[3] ^= random_[1];
    random_[1] ^= random_[2];
    random_[0] ^= random_[3];
    random_[2] ^= shifted;
    random_[3] = std::rotl(random_[3], 45);
    return result;
}

// Runs in signal handlers and on any thread: one write, and errno as it was.
void posix_backend::wake() noexcept {
    const int saved = errno;
    const std::uint64_t one = 1;
    while (::write(wake_fd_, &one, sizeof one) < 0 && errno == EINTR) {
    }
    errno = saved;
}

int posix_backend::watch_signals(signal_watch& who) noexcept { return watch_process_signals(who); }
void posix_backend::unwatch_signals(signal_watch& who) noexcept { unwatch_process_signals(who); }

std::size_t posix_backend::descriptor_limit() noexcept {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return std::numeric_limits<std::size_t>::max();
    return static_cast<std::size_t>(limit.rlim_cur);
}

std::size_t posix_backend::open_descriptors() noexcept {
    DIR* const all = ::opendir("/proc/self/fd");
    if (all == nullptr) return 0;
    std::size_t count = 0;
    while (::readdir(all) != nullptr) ++count;
    ::closedir(all);
    return count - 3;  // ".", ".." and the directory itself
}

// A timer that is never due, and which the kernel ends early (TFD_TIMER_CANCEL_ON_SET) when CLOCK_REALTIME jumps
// against CLOCK_MONOTONIC: somebody has set it, there was a leap second, or the machine was suspended, which the
// monotonic clock does not count. Slewing, as NTP does, moves both clocks alike.
static int watch_clock(int fd) noexcept {
    const int made = fd >= 0 ? fd : ::timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (made < 0) return -errno;
    itimerspec end_of_time{};
    end_of_time.it_value.tv_sec = std::numeric_limits<std::int64_t>::max() / 1'000'000'000;  // the kernel's last one
    // ECANCELED: the clock was set since the last call. The timer is armed all the same.
    if (::timerfd_settime(made, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &end_of_time, nullptr) < 0 &&
        errno != ECANCELED) {
        const int error = errno;
        if (fd < 0) ::close(made);
        return -error;
    }
    return fd >= 0 ? 0 : made;
}

bool posix_backend::forked() const noexcept { return forks() != forks_; }

int posix_backend::call(sys_op& what) noexcept {
    switch (what.what) {
        case sys_op::call::tcp_socket: {
            const bool v6 = what.address != nullptr && what.address->kind == raw_address::family::v6;
            return or_errno(::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        }
        case sys_op::call::bind: {
            const socket_address to(*what.address);
            return or_errno(::bind(what.fd, to.data(), to.size));
        }
        case sys_op::call::listen: return or_errno(::listen(what.fd, what.value));
        case sys_op::call::local_address: return address_of(what, ::getsockname);
        case sys_op::call::peer_address: return address_of(what, ::getpeername);
        case sys_op::call::set_option: {
            if (is_datagram_option(what.which)) return set_datagram_option(what);
            const auto [level, name] = name_of_option(what.which);
            return or_errno(::setsockopt(what.fd, level, name, &what.value, sizeof what.value));
        }
        case sys_op::call::get_option: {
            if (is_datagram_option(what.which)) return get_datagram_option(what);
            const auto [level, name] = name_of_option(what.which);
            socklen_t size = sizeof what.value;
            return or_errno(::getsockopt(what.fd, level, name, &what.value, &size));
        }
        case sys_op::call::shutdown_write: return or_errno(::shutdown(what.fd, SHUT_WR));
        case sys_op::call::reset_on_close: return or_errno(reset_on_close(what.fd));
        case sys_op::call::stream_pair:
            return or_errno(::socketpair(AF_UNIX, type_of(what) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, what.fds));
        case sys_op::call::try_send:
        case sys_op::call::try_receive: {
            const std::uint32_t size = budget_.portion(what.size);
            const int moved = uninterrupted([&] {
                return what.what == sys_op::call::try_send
                           ? ::send(what.fd, what.data, size, MSG_NOSIGNAL | MSG_DONTWAIT)
                           : ::recv(what.fd, what.data, size, MSG_DONTWAIT);
            });
            if (moved > 0) budget_.spend(static_cast<std::size_t>(moved));
            return moved;
        }
        case sys_op::call::close: return ::close(what.fd) < 0 && errno != EINTR ? -errno : 0;
        case sys_op::call::watch_clock: return watch_clock(what.fd);
        case sys_op::call::udp_socket:
        case sys_op::call::udp_connect:
        case sys_op::call::try_send_datagrams:
        case sys_op::call::try_receive_datagrams:
        case sys_op::call::join_group:
        case sys_op::call::leave_group: return call_for_datagrams(what, budget_);
        case sys_op::call::shutdown_read: return or_errno(::shutdown(what.fd, SHUT_RD));
        case sys_op::call::tcp_info: return look_at_connection(what.fd, *static_cast<connection_info*>(what.data));
        case sys_op::call::set_any_option:
            return or_errno(::setsockopt(what.fd, what.level, what.name, what.data, static_cast<socklen_t>(what.size)));
        case sys_op::call::get_any_option: {
            auto size = static_cast<socklen_t>(what.size);
            const int result = or_errno(::getsockopt(what.fd, what.level, what.name, what.data, &size));
            return result < 0 ? result : static_cast<int>(size);
        }
        case sys_op::call::unwatch: return 0;
        case sys_op::call::adopt: return make_ours(what.fd, what.name, what.value != 0);
        case sys_op::call::unix_socket:
            return or_errno(::socket(AF_UNIX, type_of(what) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        case sys_op::call::unix_bind: return bind_to_unix_name(what.fd, *static_cast<unix_binding*>(what.data));
        case sys_op::call::unix_unlink: return unlink_unix(*static_cast<const unix_binding*>(what.data));
        case sys_op::call::unix_connect:
            return connect_to_unix_name(what.fd, *static_cast<const raw_unix_name*>(what.data));
        case sys_op::call::unix_local_name: return unix_local_name(what.fd, *static_cast<raw_unix_name*>(what.data));
        case sys_op::call::unix_peer_name: return unix_peer_name(what.fd, *static_cast<raw_unix_name*>(what.data));
        case sys_op::call::unix_credentials: return look_at_peer(what.fd, *static_cast<peer_credentials*>(what.data));
        case sys_op::call::pipe_pair:
        case sys_op::call::pipe_capacity:
        case sys_op::call::adopt_pipe:
        case sys_op::call::fifo_make:
        case sys_op::call::fifo_open:
        case sys_op::call::standard_stream:
        case sys_op::call::terminal_pair:
        case sys_op::call::terminal_number:
        case sys_op::call::terminal_window: return call_for_files(what);
        case sys_op::call::try_send_message:
        case sys_op::call::try_receive_message: break;  // descriptors may come: for who knows of these
        case sys_op::call::give_back_pipe: {
            auto& back = *static_cast<splice_pipe*>(what.pipe);
            if (!forked()) return pipes_.give_back(back, what.data, static_cast<std::uint32_t>(what.size));
            pipes_.drop(back);  // what is in there is the parent's
            return 0;
        }
    }
    return -EINVAL;
}

// What holds for every call.
static const char* usual_hint(int error) noexcept {
    switch (error) {
        case EPERM:
        case EACCES:
        case ENOSYS: return "was a seccomp filter put on after the loop was made?";
        case EBADF: return "did the program close a descriptor that is not its own?";
        default: return nullptr;
    }
}

void refused_by_kernel(const char* call, int error, const char* hint) noexcept {
    if (hint == nullptr) hint = usual_hint(error);
    char message[320];
    std::snprintf(message, sizeof message, "the kernel refused %s, and the loop cannot go on: %s (errno %d)%s%s", call,
                  std::strerror(error), error, hint != nullptr ? "; " : "", hint != nullptr ? hint : "");
    assertion_failed(message, nullptr, {});
}

std::string explain(const char* call, int error, const char* hint) {
    std::string text = call;
    text += ": ";
    text += std::strerror(error);
    if (hint != nullptr) text += std::string(" (") + hint + ")";
    return text;
}

}  // namespace rondo::detail
