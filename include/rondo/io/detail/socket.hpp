// A descriptor and the loop it belongs to: what streams and listeners of every kind are made of.
#pragma once

#include <rondo/base/detail/take.hpp>
#include <rondo/io/detail/io.hpp>

#include <cstdint>
#include <utility>

namespace rondo::detail {

/// Owns a descriptor of any kind, be it a socket, a pipe or a terminal. The destructor never waits: it hands the
/// descriptor to the loop, which ends what is in flight and closes it. If the loop is gone, it closes it itself.
class RONDO_API socket_handle {
 public:
    socket_handle() noexcept = default;
    socket_handle(scheduler& home, int fd) noexcept : loop_(home.serial()), fd_(fd) {}
    socket_handle(socket_handle&& other) noexcept : loop_(other.loop_), fd_(take(other.fd_, -1)) {}
    socket_handle& operator=(socket_handle other) noexcept {
        trade(loop_, other.loop_);
        trade(fd_, other.fd_);
        return *this;
    }
    ~socket_handle();

    bool open() const noexcept { return fd_ >= 0; }
    int fd() const noexcept { return fd_; }
    /// The loop it belongs to; null when that is gone.
    scheduler* home() const noexcept { return scheduler::living(loop_); }
    int release() noexcept { return take(fd_, -1); }

    /// Makes a call that never blocks, about this descriptor: its result, or a negative errno (-EBADF when this is
    /// closed, or its loop is gone).
    int control(sys_op& call) const noexcept;
    int set(sys_op::option which, int value) const noexcept;
    /// Closing will reset the connection instead of ending it in peace.
    int reset_on_close() const noexcept;

 private:
    std::uint32_t loop_ = 0;  // its serial number
    int fd_ = -1;
};

/// Has taken the descriptor over from its owner, and drops it if nobody awaits this.
class RONDO_API close_awaiter : public io_awaiter, public awaits<close_awaiter, wait_manner::shielded> {
 public:
    explicit close_awaiter(socket_handle& socket) noexcept
        : io_awaiter(io_kind::close, -1), socket_(std::move(socket)) {
        if (socket_.home() == nullptr) socket_ = {};  // the loop is gone: nobody could wait for it
    }

    bool await_ready() const noexcept { return !socket_.open(); }
    bool start() noexcept;
    rondo::result<void> finish() const noexcept;
    void await_resume() const;

 private:
    socket_handle socket_;
};

/// Gives a descriptor back to its program. Its owner keeps it if that fails.
class RONDO_API release_awaiter : public io_awaiter, public awaits<release_awaiter, wait_manner::shielded> {
 public:
    /// `holds_something`: that has been read, or accepted, and nobody has asked for yet.
    release_awaiter(socket_handle& socket, bool holds_something) noexcept
        : io_awaiter(io_kind::close, socket.fd()), socket_(&socket), holds_something_(holds_something) {
        flags = hand_over;
    }

    bool start() noexcept;
    rondo::result<int> finish() noexcept;
    int await_resume();

 private:
    socket_handle* socket_;
    bool holds_something_;
};

/// Makes `fd` one of the running loop's: a socket that listens, or is connected. `kind` as sys_op::call::adopt has it.
RONDO_API rondo::result<socket_handle> adopt_socket(int fd, bool listening, int kind = 0) noexcept;
inline int adopt_kind(unix_type type) noexcept { return 1 + static_cast<int>(type); }

/// What a call that never blocks has answered.
inline rondo::result<void> as_result(int answer) noexcept {
    if (answer < 0) return errno_code(-answer);
    return {};
}

}  // namespace rondo::detail
