// What the kernel is asked to watch, and what is forgotten when a number changes its owner.
#include "backend.hpp"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace rondo::detail::epoll {

/// Asked of a descriptor that was not made here: whether a short read says that it is empty.
static bool is_plain_tcp(int fd) noexcept {
    int protocol = 0;
    socklen_t size = sizeof protocol;
    if (::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) < 0 || protocol != IPPROTO_TCP) return false;
    char on_top[16];
    size = sizeof on_top;
    return ::getsockopt(fd, IPPROTO_TCP, TCP_ULP, on_top, &size) == 0 && size == 0;
}

// For room to write each datagram that has left would be an edge, and they leave one by one: that costs a twelfth of
// an echo. So it is watched from when there was none for the first time.
static std::uint32_t events_of(const record& r) noexcept {
    constexpr std::uint32_t reading = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET;
    return (r.bits & (record::udp | record::room)) == record::udp ? reading : reading | EPOLLOUT;
}

/// Somebody will wait for room to write. What has become true since it was asked for is an edge, too.
int epoll_backend::watch_room(record& r, int fd) noexcept {
    if ((r.bits & (record::udp | record::room)) != record::udp) return 0;
    r.bits |= record::room;
    return r.bits & record::registered ? change(EPOLL_CTL_MOD, r, fd, events_of(r)) : 0;
}

int epoll_backend::enroll(record& r, int fd) noexcept {
    if (!(r.bits & record::known)) {
        r.bits |= is_plain_tcp(fd) ? record::known | record::plain : record::known;
    }
    const int error = change(EPOLL_CTL_ADD, r, fd, events_of(r));
    if (error == 0) {
        r.bits |= record::registered;
        r.bits &= static_cast<std::uint16_t>(~record::foreign);
    }
    return error;
}

int epoll_backend::enroll_foreign(record& r, int fd) noexcept {
    const bool before = r.bits & record::foreign;
    std::uint32_t events = EPOLLONESHOT;
    if (r.reader != nullptr && r.reader->kind == io_kind::poll) {
        events |= static_cast<std::uint32_t>(poll_events(r.reader->size));
    } else if (r.reader != nullptr) {
        events |= EPOLLIN | EPOLLRDHUP;
    }
    if (r.writer != nullptr) events |= EPOLLOUT;
    r.bits |= record::foreign;
    return change(before ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, r, fd, events);
}

// The number may have been closed and reused without our knowing: then ADD and MOD swap roles.
int epoll_backend::change(int first, record& r, int fd, std::uint32_t events) noexcept {
    epoll_event event{events, {.u64 = mark_of(r)}};
    if (epoll_ctl(epoll_, first, fd, &event) == 0) return 0;
    if (errno != (first == EPOLL_CTL_ADD ? EEXIST : ENOENT)) return -errno;
    const int other = first == EPOLL_CTL_ADD ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    return epoll_ctl(epoll_, other, fd, &event) == 0 ? 0 : -errno;
}

// A number fresh from the kernel: whatever is on record is about a former owner. An op still there
// is a poll on a foreign descriptor that was closed under it.
record* epoll_backend::forget(int fd, std::uint16_t bits) noexcept {
    record* r = table_.get(fd);
    if (r == nullptr) return nullptr;
    for (io_op** slot : {&r->reader, &r->writer})
        if (*slot != nullptr) strand(*slot);
    r->bits = bits;
    ++r->generation;
    return r;
}

void epoll_backend::strand(io_op*& slot) noexcept {
    io_op& left = *std::exchange(slot, nullptr);
    left.flags |= io_op::closing;
    left.state = op::cancelling;
    left.data = stranded_;
    stranded_ = &left;
}

// While the descriptor is still the one it was: afterwards its registration could not be reached any more.
void epoll_backend::unwatch(record& r, int fd) noexcept {
    for (io_op** slot : {&r.reader, &r.writer})
        if (*slot != nullptr && (*slot)->flags & io_op::foreign) strand(*slot);
    if (!(r.bits & record::registered)) unregister(r, fd);
}

void epoll_backend::unregister(record& r, int fd) noexcept {
    // Not in a forked child: its copy of the epoll instance is the parent's.
    if (r.bits & (record::registered | record::foreign) && !forked()) epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
    r.bits = 0;
    ++r.generation;
}

int epoll_backend::release(record& r, int fd) noexcept {
    unregister(r, fd);
    // Linux frees the number before anything can interrupt: EINTR is no reason to try again.
    return ::close(fd) < 0 && errno != EINTR ? -errno : 0;
}

// One-shot: the other direction may still be waiting, or this one if it was not the news.
void epoll_backend::renew_foreign(record& r) noexcept {
    const io_op* const left = r.reader != nullptr ? r.reader : r.writer;
    if (left == nullptr) return;
    if (r.reader != nullptr && r.reader->kind != io_kind::poll) r.bits |= record::dry;
    if (r.writer != nullptr) r.bits |= record::full;
    if (enroll_foreign(r, left->fd) == 0) return;
    for (io_op* each : {r.reader, r.writer}) {  // closed by its owner meanwhile
        if (each == nullptr) continue;
        each->flags |= io_op::closing;
        each->state = op::cancelling;
    }
    r.bits |= record::asked;
    table_.enqueue(r);
}

}  // namespace rondo::detail::epoll
