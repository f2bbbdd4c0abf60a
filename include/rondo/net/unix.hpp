// Unix sockets: streams and listeners on one machine. What a stream can do, and what holds for all of them, is in
// io/stream.hpp.
#pragma once

#include <rondo/io/listener.hpp>
#include <rondo/io/stream.hpp>
#include <rondo/loop/backend.hpp>
#include <rondo/task/wait.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace rondo {

class unix_stream;

/// The name of a Unix socket: a path, "/run/app.sock", or "@app", which is abstract: no file, and gone with its socket.
/// A value. (The path of a file whose name begins with '@' is "./@app".)
class RONDO_API unix_address {
 public:
    static constexpr std::size_t size_max = 107;  // bytes, without the '@'

    unix_address() noexcept = default;  // no name, as that of a client
    /// Throws system_error that quotes the text: filename_too_long if it has more than size_max bytes,
    /// invalid_argument if it is empty, or a path with a zero in it.
    unix_address(std::string_view text);  // NOLINT(*-explicit-*)
    unix_address(const char* text) : unix_address(std::string_view(text)) {}  // NOLINT(*-explicit-*)
    unix_address(const std::string& text) : unix_address(std::string_view(text)) {}  // NOLINT(*-explicit-*)
    explicit unix_address(const raw_unix_name& raw) noexcept : raw_(raw) {}
    static result<unix_address> try_parse(std::string_view text) noexcept;

    /// Which of the three kinds it is of.
    bool is_path() const noexcept { return raw_.size != 0 && raw_.bytes[0] != 0; }
    /// Likewise.
    bool is_abstract() const noexcept { return raw_.size != 0 && raw_.bytes[0] == 0; }
    /// Likewise.
    bool is_unnamed() const noexcept { return raw_.size == 0; }
    const raw_unix_name& name() const noexcept { return raw_; }

    /// In the form that the constructor reads, with what cannot be printed as \x1b; "(unnamed)" if it has no name.
    std::string to_string() const;

    friend bool operator==(const unix_address& a, const unix_address& b) noexcept { return a.text() == b.text(); }

 private:
    std::string_view text() const noexcept { return {raw_.bytes, raw_.size}; }
    raw_unix_name raw_;
};

namespace detail {

struct unix_connect_functions;
RONDO_API extern const op_vtable unix_connect_vtable;

/// The kernel answers at once, and it does not tell when a full queue has room again: so this asks again after a while.
class RONDO_API unix_connect_awaiter : public op, public awaits<unix_connect_awaiter> {
 public:
    explicit unix_connect_awaiter(const unix_address& to) noexcept : op(unix_connect_vtable), to_(to) {}

    bool start() noexcept { return !settled(); }
    rondo::result<unix_stream> finish();
    unix_stream await_resume();

 private:
    friend struct unix_connect_functions;
    /// False: the queue is full, and it waits for time.
    bool settled() noexcept;
    std::int32_t connect() noexcept;

    unix_address to_;
    socket_handle socket_;
    std::uint16_t pause_ms_ = 0;  // the latest one
};

}  // namespace detail

/// A connected Unix stream. Move-only.
class RONDO_API unix_stream : public descriptor_stream {
 public:
    unix_stream() noexcept = default;

    /// Connects to who listens at `to`. While the queue of the listener is full it waits, and asks again (1 ms doubling
    /// to 64 ms). Throws io_error that names the address: no_such_file_or_directory, connection_refused (the file is
    /// there and nobody listens, or nobody has the abstract name), permission_denied ...
    /// Cancel: the attempt is given up and its socket closed.
    [[nodiscard]] static detail::unix_connect_awaiter connect(const unix_address& to) noexcept {
        return detail::unix_connect_awaiter(to);
    }
    /// Without waiting: resource_unavailable_try_again if the queue is full. Needs a running loop.
    static rondo::result<unix_stream> try_connect(const unix_address& to) noexcept;

    /// Two streams that are connected with each other (socketpair). Needs a running loop. Throws io_error.
    static std::pair<unix_stream, unix_stream> pair();
    static rondo::result<std::pair<unix_stream, unix_stream>> try_pair() noexcept;

    /// Which process was at the other end when it connected, listened, or made the pair. It may have ended since, and
    /// its number may be another's: decide by the user and the group. Throws io_error.
    peer_credentials credentials() const;
    rondo::result<peer_credentials> try_credentials() const noexcept;

    /// The name of the other side: as a rule only a listener has one. Throws io_error.
    unix_address peer() const;
    rondo::result<unix_address> try_peer() const noexcept;
    /// Of a stream that was accepted, that of the listener. Throws io_error.
    unix_address local() const;
    rondo::result<unix_address> try_local() const noexcept;

 private:
    friend class detail::accept_awaiter<unix_stream>;
    friend class detail::unix_connect_awaiter;

    static unix_stream accepted(detail::socket_handle&& socket, const raw_address&) noexcept {
        return unix_stream(std::move(socket));
    }
    static std::string name_of(const descriptor_stream& stream);

    explicit unix_stream(detail::socket_handle&& socket) noexcept : descriptor_stream(std::move(socket), name_of) {}
};

/// How to listen at a path.
struct unix_listen_options {
    int backlog = 1024;  // the kernel caps it at net.core.somaxconn
    std::uint16_t mode = 0600;  // of the file, whatever the umask: who may write to it may connect
    bool replace = true;  // the file of a listener that is gone makes room
};

/// A listening Unix socket. Move-only. It removes its file when it is closed or destroyed, if the file is still the
/// one that it made.
class RONDO_API unix_listener : public descriptor_listener {
 public:
    unix_listener() noexcept = default;
    unix_listener(unix_listener&& other) noexcept
        : descriptor_listener(std::move(other)), bound_(std::exchange(other.bound_, {})) {}
    unix_listener& operator=(unix_listener&& other) noexcept;
    ~unix_listener() { remove_file(); }

    /// Listens at `at`. Needs a running loop. Throws io_error that names the address: address_in_use if somebody
    /// listens there, or a file is there that is no socket; permission_denied, no_such_file_or_directory ... of the
    /// directory. A socket file at which nobody listens is replaced, unless the options forbid it. Two processes that
    /// do that at the same moment may both succeed, and the file is that of the later one.
    static unix_listener bind(const unix_address& at, const unix_listen_options& options = {});
    static rondo::result<unix_listener> try_bind(const unix_address& at,
                                                 const unix_listen_options& options = {}) noexcept;

    /// Waits for a connection, as tcp_listener::accept() does.
    [[nodiscard]] detail::accept_awaiter<unix_stream> accept() noexcept {
        return detail::accept_awaiter<unix_stream>(*this);
    }

    /// Removes the file and closes, as descriptor_listener::close() does.
    [[nodiscard]] detail::close_awaiter close() noexcept {
        remove_file();
        return descriptor_listener::close();
    }

    /// As given to bind().
    unix_address local() const noexcept { return unix_address(bound_.name); }

 private:
    explicit unix_listener(detail::socket_handle&& socket) noexcept : descriptor_listener(std::move(socket)) {}
    void remove_file() noexcept;

    unix_binding bound_;
};

}  // namespace rondo
