// One try at what is not done all day: gathering writes, accepting, connecting, polling.
#include "backend.hpp"

#include "backend/datagrams.hpp"
#include "backend/messages.hpp"
#include "backend/splices.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace rondo::detail::epoll {

constexpr int window_size = 64;        // iovecs per sendmsg
constexpr int accepts_per_event = 16;  // transient failures in a row before others get a turn

// sendmsg and not writev: only it takes MSG_NOSIGNAL.
std::int32_t epoll_backend::attempt_vector(record& r, io_op& what) noexcept {
    span_cursor cursor(what);
    iovec window[window_size];
    if (budget_.spent()) {
        const std::size_t size = cursor.fill(window, byte_budget::small + 1).bytes;
        if (must_wait_a_turn(what, static_cast<std::uint32_t>(size))) return go_on_later(r);
    }
    turn_share share(budget_);
    while (!cursor.at_end()) {
        if (share.used_up()) return go_on_later(r);
        msghdr message{};
        message.msg_iov = window;
        message.msg_iovlen = cursor.fill(window, share.portion(most_moved)).pieces;
        const ssize_t n = ::sendmsg(what.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            what.moved += static_cast<std::uint32_t>(n);
            cursor.advance(static_cast<std::size_t>(n));
            share.spend(static_cast<std::size_t>(n));
            if (!(what.flags & io_op::all)) break;
        } else if (errno == EAGAIN) {
            r.bits |= record::full;
            return would_block;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return static_cast<std::int32_t>(what.moved);
}

std::int32_t epoll_backend::attempt_accept(record& r, io_op& what) noexcept {
    for (int i = 0; i < accepts_per_event; ++i) {
        const int fd = ::accept4(what.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            if (forget(fd, r.bits & (record::known | record::plain)) == nullptr) {
                refuse_connection(fd);
                return -ENOMEM;
            }
            return fd;
        }
        if (errno == EAGAIN) {
            r.bits |= record::dry;
            return would_block;
        }
        if (!accept_is_transient(errno) || ++what.moved == accept_patience) return -errno;
    }
    return go_on_later(r);
}

std::int32_t epoll_backend::attempt_connect(record& r, io_op& what) noexcept {
    if (what.state == op::armed) {  // announced: how did it end?
        int error = 0;
        socklen_t size = sizeof error;
        if (::getsockopt(what.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) error = errno;
        return -error;
    }
    const socket_address to(*static_cast<const raw_address*>(what.data));
    if (::connect(what.fd, to.data(), to.size) == 0) return 0;
    // Interrupted, it goes on in the background just the same.
    if (errno != EINPROGRESS && errno != EINTR) return -errno;
    r.bits |= record::full;
    return would_block;
}

std::int32_t epoll_backend::attempt_datagrams(record& r, io_op& what) noexcept {
    if (budget_.spent() && what.state != op::armed && !moves_little(what)) return go_on_later(r);
    const bool receiving = what.kind == io_kind::receive_datagrams;
    bool emptied = false;
    const std::int32_t result = receiving ? receive_datagrams(what, budget_, emptied) : send_datagrams(what, budget_);
    if (result == out_of_share) return go_on_later(r);
    if (result == would_block) r.bits |= receiving ? record::dry : record::full;
    if (result == would_block && !receiving)
        if (const int error = watch_room(r, what.fd)) return error;
    if (emptied && (r.bits & (record::udp | record::hung)) == record::udp) r.bits |= record::dry;
    return result;
}

std::int32_t epoll_backend::attempt_file(record& r, io_op& what) noexcept {
    const std::int32_t result = move_file_bytes(what, r.kind, budget_, buffers_);
    if (result == out_of_share) return go_on_later(r);
    if (result == would_block) r.bits |= is_reader(what.kind) ? record::dry : record::full;
    return result;
}

std::int32_t epoll_backend::attempt_message(record& r, io_op& what) noexcept {
    if (budget_.spent() && what.state != op::armed && !message_is_small(what)) return go_on_later(r);
    const bool receiving = what.kind == io_kind::receive_message;
    const std::int32_t result = receiving ? take_message(what) : send_message(what, budget_);
    if (result == out_of_share) return go_on_later(r);
    if (result == would_block) r.bits |= receiving ? record::dry : record::full;
    return result;
}

std::int32_t epoll_backend::take_message(io_op& what) noexcept {
    return receive_message(what, budget_, [this](int fd) { return forget(fd, 0) != nullptr; });
}

// Plain TCP has no urgent byte for splice(2) to stop at, or an edge will tell of it. Of others the kernel is asked.
std::int32_t epoll_backend::attempt_splice_in(record& r, io_op& what) noexcept {
    if (must_wait_a_turn(what, what.size)) return go_on_later(r);
    const std::int32_t result = splice_in(what, budget_, pipes_);
    if (result != would_block) return result;
    if (!(r.bits & record::plain) && has_input(what.fd)) return 0;
    r.bits |= record::dry;
    return would_block;
}

std::int32_t epoll_backend::attempt_splice_out(record& r, io_op& what) noexcept {
    if (must_wait_a_turn(what, what.size)) return go_on_later(r);
    const std::int32_t result = splice_out(what, budget_);
    if (result == would_block) r.bits |= record::full;
    return result;
}

std::int32_t epoll_backend::attempt_poll(record& r, io_op& what) noexcept {
    if (r.bits & record::foreign && what.state == op::armed) return 0;  // the event says so
    const bool in = what.kind == io_kind::poll_in;
    pollfd ready{what.fd, static_cast<short>(in ? POLLIN | POLLRDHUP : POLLOUT), 0};
    int n;
    do {
        n = ::poll(&ready, 1, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    if (ready.revents & POLLNVAL) return -EBADF;
    if (n > 0) return 0;
    r.bits |= in ? record::dry : record::full;
    return would_block;
}

// Always asks, since an event may be old news: somebody else reads what this waits for.
std::int32_t epoll_backend::attempt_watch(const io_op& what) noexcept {
    pollfd ready{what.fd, poll_events(what.size), 0};
    int n;
    do {
        n = ::poll(&ready, 1, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    if (ready.revents & POLLNVAL) return -EBADF;
    return n > 0 ? poll_result(ready.revents, what.size) : would_block;
}

}  // namespace rondo::detail::epoll
