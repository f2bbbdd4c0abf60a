// The core of every listening socket: accepting, and what happens when that goes wrong.
//
// To add a kind of listener, derive from descriptor_listener and give it `bind` and an `accept()` that returns
// detail::accept_awaiter<Stream>; the stream says by a static function `accepted` how it is made from a socket.
#pragma once

#include <rondo/io/detail/io.hpp>
#include <rondo/io/detail/socket.hpp>
#include <rondo/task/attempt.hpp>
#include <rondo/task/task.hpp>

#include <cerrno>
#include <cstdint>
#include <utility>

namespace rondo {

class descriptor_listener;

namespace detail {

struct accept_functions;
RONDO_API extern const op_vtable accept_vtable;

/// A connection that a losing arm of select_one() has accepted. The next accept() gets it. If there is none, it is
/// reset when the listener goes, as the kernel resets those that stand in its queue.
class RONDO_API unclaimed_connection : public socket_handle {
 public:
    using socket_handle::socket_handle;
    unclaimed_connection(unclaimed_connection&&) noexcept = default;
    unclaimed_connection& operator=(unclaimed_connection&& other) noexcept {
        refuse();
        socket_handle::operator=(std::move(other));
        return *this;
    }
    ~unclaimed_connection() { refuse(); }

 private:
    void refuse() noexcept;
};

/// Waits until the listener has given a socket, of whatever kind.
class RONDO_API accept_wait : public io_awaiter, public awaits_io<accept_wait> {
 public:
    explicit inline accept_wait(descriptor_listener& listener) noexcept;

    bool start() noexcept;
    void give_back() noexcept;

 protected:
    raw_address peer_;

 private:
    friend struct accept_functions;
    friend class rondo::descriptor_listener;
    /// False: that was not the end, and the accept goes on.
    bool settled() noexcept;
    /// Waits a while after an error that is not the fault of the listener. False: it does not, because the task is
    /// cancelled, or memory has run out.
    bool pause() noexcept;
    /// The listener is closed, or somebody has cancelled the task.
    void end_pause(std::int32_t with) noexcept;

    descriptor_listener* listener_;  // whose pausing_ this is, while it pauses
    std::uint16_t pause_ms_ = 0;  // that of the latest pause
    bool pausing_ = false;
};

/// Gives a Stream, which makes itself of the socket and the address of the other side.
template <class Stream>
class accept_awaiter : public accept_wait {
 public:
    using accept_wait::accept_wait;

    rondo::result<Stream> finish() {
        if (result >= 0) return Stream::accepted(socket_handle(*current, result), peer_);
        check_cancelled();
        return io_failure(errno_code(-result), "accept");
    }
    Stream await_resume() {
        if (result < 0) [[unlikely]]
            throw_io(result, "accept", {});
        return Stream::accepted(socket_handle(*current, result), peer_);
    }
};

}  // namespace detail

/// A socket that listens: the base of tcp_listener. Move-only, and made by what derives from it.
class RONDO_API descriptor_listener {
 public:
    /// Until it is closed.
    bool is_open() const noexcept { return socket_.open(); }
    /// The descriptor, still owned by the listener; -1 when closed. For looking, not for I/O.
    int native_handle() const noexcept { return socket_.fd(); }
    /// How often accept() had to wait because descriptors or memory ran out.
    std::uint64_t exhausted() const noexcept { return exhausted_; }
    /// How many connections accept() has passed over because they were reset while they stood in the queue.
    std::uint64_t died_in_queue() const noexcept { return died_in_queue_; }

    /// Closes, as descriptor_stream::close() does. Connections that nobody has accepted are refused.
    [[nodiscard]] detail::close_awaiter close() noexcept {
        unclaimed_ = {};
        end_pause();
        return detail::close_awaiter(socket_);
    }

    /// Gives the descriptor back, as descriptor_stream::release() does; connections that nobody has accepted stay in
    /// its queue. One that the loop has accepted already is resource_unavailable_try_again: accept() it, and try again.
    /// So is an accept() that pauses because descriptors or memory ran out.
    [[nodiscard]] detail::release_awaiter release() noexcept {
        return detail::release_awaiter(socket_, unclaimed_.open() || pausing_ != nullptr);
    }

 protected:
    descriptor_listener() noexcept = default;
    explicit descriptor_listener(detail::socket_handle&& socket) noexcept : socket_(std::move(socket)) {}
    descriptor_listener(descriptor_listener&& other) noexcept;
    descriptor_listener& operator=(descriptor_listener&& other) noexcept;
    ~descriptor_listener() { end_pause(); }

    const detail::socket_handle& socket() const noexcept { return socket_; }

 private:
    friend class detail::accept_wait;
    friend struct detail::accept_functions;
    /// An accept that pauses has no operation that the backend would end, when the socket goes.
    void end_pause() noexcept {
        if (pausing_ != nullptr) pausing_->end_pause(-EBADF);
    }

    detail::socket_handle socket_;
    detail::accept_wait* pausing_ = nullptr;
    detail::unclaimed_connection unclaimed_;
    raw_address unclaimed_peer_;
    std::uint64_t exhausted_ = 0;
    std::uint64_t died_in_queue_ = 0;
};

inline detail::accept_wait::accept_wait(descriptor_listener& listener) noexcept
    : io_awaiter(io_kind::accept, listener.socket_.fd(), accept_vtable), listener_(&listener) {}

}  // namespace rondo
