// What Unix sockets of all types have in common: how they are made, bound, connected and adopted.
#pragma once

#include <rondo/io/listener.hpp>
#include <rondo/net/unix_address.hpp>
#include <rondo/task/wait.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace rondo {

/// How to listen at a path.
struct unix_listen_options {
    int backlog = 1024;  // the kernel caps it at net.core.somaxconn
    std::uint16_t mode = 0600;  // of the file, whatever the umask: who may write to it may connect
    bool replace = true;  // the file of a listener that is gone makes room
};

namespace detail {

struct unix_connect_functions;
RONDO_API extern const op_vtable unix_connect_vtable;

// What does not wait. Each needs a running loop, or a socket that is open.

RONDO_API rondo::result<socket_handle> make_unix(unix_type type) noexcept;
RONDO_API rondo::result<std::pair<socket_handle, socket_handle>> make_unix_pair(unix_type type) noexcept;
RONDO_API rondo::result<void> connect_unix(const socket_handle& socket, const unix_address& to) noexcept;
RONDO_API rondo::result<socket_handle> make_unix_connected(unix_type type, const unix_address& to) noexcept;
RONDO_API rondo::result<unix_address> unix_name(const socket_handle& socket, sys_op::call which) noexcept;
RONDO_API rondo::result<peer_credentials> unix_credentials(const socket_handle& socket) noexcept;
/// The name of the other side, or else its own, for errors. Throws bad_alloc.
RONDO_API std::string unix_subject(const socket_handle& socket);
/// Binds it, and learns what is to be removed in the end.
RONDO_API rondo::result<void> bind_unix(const socket_handle& socket, unix_binding& to) noexcept;
/// Removes the file of the name, while the socket is open, so that who looks for it meanwhile finds either somebody or
/// no file. Not in a forked child, where the file is the parent's; and not when the loop is gone: then the next one
/// replaces it.
RONDO_API void remove_unix_file(const socket_handle& socket, unix_binding& bound) noexcept;

/// The value, or throws io_error, or not_simulated.
template <class T>
T unix_value(rondo::result<T>&& answer, const char* operation, std::string subject = {}) {
    if (!answer) throw_refused(answer.error(), operation, std::move(subject));
    return *std::move(answer);
}

/// The kernel answers at once, and it does not tell when a full queue has room again: so this asks again after a while.
class RONDO_API unix_connect : public op {
 public:
    bool start() noexcept { return !settled(); }

 protected:
    unix_connect(unix_type type, const unix_address& to) noexcept : op(unix_connect_vtable), to_(to), type_(type) {}

    /// Of one that has failed; throws `cancelled` if it was that.
    rondo::failure why();

    socket_handle socket_;

 private:
    friend struct unix_connect_functions;
    /// False: the queue is full, and it waits for time.
    bool settled() noexcept;
    std::int32_t connect() noexcept;

    unix_address to_;
    std::uint16_t pause_ms_ = 0;  // the latest one
    unix_type type_;
};

/// Gives a Stream, which makes itself of the socket.
template <class Stream>
class unix_connect_awaiter : public unix_connect, public awaits<unix_connect_awaiter<Stream>> {
 public:
    unix_connect_awaiter(unix_type type, const unix_address& to) noexcept : unix_connect(type, to) {}

    rondo::result<Stream> finish() {
        if (result >= 0) return Stream::accepted(std::move(socket_), raw_address());
        return why();
    }
    Stream await_resume() {
        rondo::result<Stream> connected = finish();
        return *std::move(connected);
    }
};

/// A listener that has a name, and removes its file.
class RONDO_API unix_listener_base : public descriptor_listener {
 public:
    /// Removes the file and closes, as descriptor_listener::close() does.
    [[nodiscard]] close_awaiter close() noexcept {
        remove_file();
        return descriptor_listener::close();
    }
    /// As given to bind(); of one that was adopted, as the kernel has it.
    unix_address local() const noexcept { return unix_address(bound_.name); }

 protected:
    unix_listener_base() noexcept = default;
    unix_listener_base(unix_listener_base&& other) noexcept
        : descriptor_listener(std::move(other)), bound_(std::exchange(other.bound_, {})) {}
    unix_listener_base& operator=(unix_listener_base&& other) noexcept;
    ~unix_listener_base() { remove_file(); }
    explicit unix_listener_base(socket_handle&& socket) noexcept : descriptor_listener(std::move(socket)) {}

    rondo::result<void> listen_at(const unix_address& at, const unix_listen_options& options) noexcept;
    void learn_name() noexcept;

 private:
    void remove_file() noexcept { remove_unix_file(socket(), bound_); }
    unix_binding bound_;
};

}  // namespace detail
}  // namespace rondo
