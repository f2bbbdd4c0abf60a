// Making a socket and connecting it, as streams of every family do.
#pragma once

#include <rondo/io/detail/address_text.hpp>
#include <rondo/io/detail/io.hpp>
#include <rondo/io/detail/socket.hpp>

#include <utility>

namespace rondo::detail {

/// From where to connect.
struct connect_source {
    raw_address address;  // of no family: as the kernel chooses
    bool reuse_address = false;
};

/// Waits until the socket, made by the call `make`, is connected to the address, or has failed to.
class RONDO_API connect_wait : public io_awaiter, public awaits_io<connect_wait> {
 public:
    connect_wait(sys_op::call make, const raw_address& to, const connect_source& from = {}) noexcept
        : io_awaiter(io_kind::connect, -1), to_(to), from_(from), make_(make) {}

    bool start() noexcept;

 protected:
    /// The socket, be it connected or not, now owned by the caller; not open if none was made.
    socket_handle take_socket() noexcept;
    failure failed(std::error_code why) const noexcept;

    raw_address to_;

 private:
    int bind_to_source(int socket) const noexcept;

    connect_source from_;
    sys_op::call make_;
    bool bind_failed_ = false;
};

/// Gives a Stream, which makes itself of the connected socket, or says why it must not.
template <class Stream>
class connect_awaiter : public connect_wait {
 public:
    using connect_wait::connect_wait;

    rondo::result<Stream> finish() {
        socket_handle socket = take_socket();
        if (result < 0) {
            check_cancelled();
            return failed(errno_code(-result));
        }
        rondo::result<Stream> made = Stream::connected(std::move(socket), to_);
        if (!made) return failed(made.error());
        return made;
    }
    Stream await_resume() {
        rondo::result<Stream> connected = finish();
        return *std::move(connected);
    }
};

}  // namespace rondo::detail
