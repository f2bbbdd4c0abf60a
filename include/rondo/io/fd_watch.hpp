// Watching a descriptor of another library, which says for what, and changes its mind: curl, c-ares, libpq.
#pragma once

#include <rondo/io/detail/io.hpp>

#include <cstdint>

namespace rondo {

/// What a descriptor is ready for; a set.
enum class fd_events : std::uint8_t {
    none = 0,
    readable = poll_mask::in,
    writable = poll_mask::out,
    urgent = poll_mask::urgent,  // out-of-band data of TCP, and the like (POLLPRI)
    // It has failed, or was hung up: told without being asked for. With io_uring also when the peer has ended its side,
    // if nothing else is there and `readable` was not asked for.
    error = poll_mask::error,
};

constexpr fd_events operator|(fd_events a, fd_events b) noexcept {
    return static_cast<fd_events>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr fd_events operator&(fd_events a, fd_events b) noexcept {
    return static_cast<fd_events>(static_cast<unsigned>(a) & static_cast<unsigned>(b));
}
/// Whether there is one at all: `any(ready & fd_events::readable)`.
constexpr bool any(fd_events events) noexcept { return events != fd_events::none; }

class fd_watch;

namespace detail {

RONDO_API extern const op_vtable watch_vtable;
struct watch_functions;

class RONDO_API watch_awaiter : public io_awaiter, public awaits_io<watch_awaiter> {
 public:
    explicit watch_awaiter(fd_watch& watch) noexcept : io_awaiter(io_kind::poll, -1, watch_vtable), watch_(&watch) {
        flags = foreign;
    }

    bool start() noexcept;
    void give_back() noexcept {}  // what is ready stays ready
    rondo::result<fd_events> finish() const;
    fd_events await_resume() const;

 private:
    friend class rondo::fd_watch;
    friend struct watch_functions;
    /// False: that was not the end, and it goes on with what is wanted now.
    bool settled() noexcept;

    fd_watch* watch_;  // null once it has been closed
    bool changed_ = false;  // it was asked to end in order to begin anew
};

}  // namespace detail

/// One for each descriptor; one task waits on it at a time. Level-triggered: what is ready is told until somebody takes
/// it. The descriptor is another library's: it stays as blocking as it was, and the watch never closes it. For the
/// thread of the loop that is waited in.
class RONDO_API fd_watch {
 public:
    /// Asks nothing of the descriptor yet.
    explicit fd_watch(int fd, fd_events wanted = fd_events::none) noexcept : fd_(fd), wanted_(wanted) {}
    /// As close().
    ~fd_watch() { close(); }
    fd_watch(const fd_watch&) = delete;
    fd_watch& operator=(const fd_watch&) = delete;

    /// Waits until the descriptor is ready for something that is wanted, or has failed; returns for what of that. With
    /// nothing wanted it waits for a failure, or until something is. A regular file is always ready. Throws io_error:
    /// device_or_resource_busy (another task waits for it), bad_file_descriptor (it is none, or the watch was closed),
    /// operation_not_permitted (a filter forbids it to epoll); not_simulated in a simulated world. Cancel: nothing is
    /// lost.
    [[nodiscard]] detail::watch_awaiter wait() noexcept { return detail::watch_awaiter(*this); }
    /// want(), and then wait().
    [[nodiscard]] detail::watch_awaiter wait(fd_events wanted) noexcept {
        want(wanted);
        return wait();
    }

    /// What is waited for from now on, also by a wait that is under way: that goes on, and does not notice.
    void want(fd_events wanted) noexcept;
    fd_events wanted() const noexcept { return wanted_; }

    /// To be called before the descriptor is closed by whoever owns it: all waits for it end (bad_file_descriptor),
    /// and the kernel is asked nothing about it any more. Every further wait fails.
    void close() noexcept;
    /// -1 when closed.
    int fd() const noexcept { return fd_; }

 private:
    friend class detail::watch_awaiter;
    int fd_;
    fd_events wanted_;
    std::uint32_t loop_ = 0;  // the serial number of the one that was asked
    detail::watch_awaiter* waiting_ = nullptr;
};

}  // namespace rondo
