// Unix datagrams: messages to names, on one machine.
//
// A datagram comes whole, once, and in the order in which its sender has sent it: none is lost, a sender waits instead.
// One of no bytes is a datagram like any other: nothing here has an end. What is longer than the place it is received
// into is cut, and says so. Descriptors can go along.
//
// One task receives and one task sends on a socket at a time; a second one gets device_or_resource_busy. A socket must
// outlive the waits on it, may be moved while nobody waits, and belongs to the loop that was running when it was made.
//
// When a receiver is full (on Linux by net.unix.max_dgram_qlen datagrams, ten), the kernel tells a sender that is
// connected to it when there is room. It tells nobody else: a send_to() to such a one asks again after 1 ms, doubling
// to 64 ms. So connect(), if it is always the same one.
#pragma once

#include <rondo/net/detail/unix_messages.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

namespace rondo {

class unix_datagram_socket;

/// What a receive gives. Its bytes are the first `size` of the place, its descriptors the first of their places.
struct received_unix_datagram {
    std::size_t size = 0;
    unix_address sender;  // without a name, if it has not bound its socket
    bool truncated = false;  // it was longer than the place; the rest is lost
    std::size_t descriptors = 0;
};

/// How to bind to a path.
struct unix_bind_options {
    std::uint16_t mode = 0600;  // of the file, whatever the umask: who may write to it may send
    bool replace = true;  // the file of a socket that is gone makes room
};

namespace detail {

class RONDO_API receive_unix_datagram_awaiter : public message_receive,
                                                public awaits_io<receive_unix_datagram_awaiter> {
 public:
    receive_unix_datagram_awaiter(unix_datagram_socket& socket, writable_bytes into,
                                  std::span<owned_descriptor> places) noexcept;

    bool start() noexcept { return begin(&from_); }
    rondo::result<received_unix_datagram> finish() const {
        if (result < 0) return why();
        return received_unix_datagram{static_cast<std::size_t>(result), unix_address(from_), what_.truncated,
                                      what_.descriptor_count};
    }
    received_unix_datagram await_resume() const { return *finish(); }

 private:
    raw_unix_name from_;
};

}  // namespace detail

/// A Unix datagram socket. Move-only; the destructor never waits. It removes its file when it is closed or destroyed,
/// if the file is still the one that it made.
class RONDO_API unix_datagram_socket : public detail::message_socket {
 public:
    unix_datagram_socket() noexcept = default;
    unix_datagram_socket(unix_datagram_socket&& other) noexcept
        : message_socket(std::move(other)), bound_(std::exchange(other.bound_, {})) {}
    unix_datagram_socket& operator=(unix_datagram_socket&& other) noexcept;
    ~unix_datagram_socket() { remove_file(); }

    // --- making one; needs a running loop

    /// Receives at `at`. Throws io_error that names the address, as unix_listener::bind() does. A socket file that
    /// nobody has is replaced, unless the options forbid it.
    static unix_datagram_socket bind(const unix_address& at, const unix_bind_options& options = {});
    static rondo::result<unix_datagram_socket> try_bind(const unix_address& at,
                                                        const unix_bind_options& options = {}) noexcept;
    /// Without a name: nobody can send to it, unless they are connected. Throws io_error.
    static unix_datagram_socket unbound();
    static rondo::result<unix_datagram_socket> try_unbound() noexcept;
    /// Two sockets that are connected with each other (socketpair). Throws io_error.
    static std::pair<unix_datagram_socket, unix_datagram_socket> pair();
    static rondo::result<std::pair<unix_datagram_socket, unix_datagram_socket>> try_pair() noexcept;
    /// Takes one over that somebody else has made, as tcp_stream::from_fd() does. Its file is none of its business.
    static unix_datagram_socket from_fd(int fd);
    static rondo::result<unix_datagram_socket> try_from_fd(int fd) noexcept;

    // --- one peer

    /// From now on send() goes to whoever has that name now, and only they can send to this (what had come before is
    /// there still). Sends nothing, and waits for nothing. May be called again for another peer. Throws io_error:
    /// no_such_file_or_directory, connection_refused, operation_not_permitted if they are connected to somebody else.
    void connect(const unix_address& to);
    rondo::result<void> try_connect(const unix_address& to) noexcept;
    /// Anybody may be a peer again. Throws io_error.
    void disconnect();
    rondo::result<void> try_disconnect() noexcept;

    // --- receiving

    /// Waits for a datagram. Throws io_error: message_size if more descriptors came than there are places,
    /// too_many_files_open if this process may have no more; they are closed then, and that datagram is lost with them.
    /// What was in `descriptors` is closed; without any place, descriptors that come are closed. `into` and the places
    /// must stay valid until this ends. An arm of select_one() that has lost leaves what it received to the next
    /// receive. Cancel: no datagram is lost.
    [[nodiscard]] detail::receive_unix_datagram_awaiter receive_from(
        writable_bytes into, std::span<owned_descriptor> descriptors = {}) noexcept {
        return {*this, into, descriptors};
    }
    /// The same; the name for a connected socket.
    [[nodiscard]] detail::receive_unix_datagram_awaiter receive(writable_bytes into,
                                                                std::span<owned_descriptor> descriptors = {}) noexcept {
        return {*this, into, descriptors};
    }
    /// What is there without waiting, or resource_unavailable_try_again.
    rondo::result<received_unix_datagram> try_receive_from(writable_bytes into,
                                                           std::span<owned_descriptor> descriptors = {}) noexcept;
    rondo::result<received_unix_datagram> try_receive(writable_bytes into,
                                                      std::span<owned_descriptor> descriptors = {}) noexcept {
        return try_receive_from(into, descriptors);
    }

    // --- sending: bytes and descriptors must stay valid until it ends

    /// Sends one datagram to whoever has that name, with copies of `descriptors`, 253 at most, when that one has room:
    /// see above. Throws io_error that names them: no_such_file_or_directory, connection_refused (the file is there and
    /// nobody has it, or nobody has the abstract name), message_size if it is larger than the send buffer,
    /// operation_not_permitted if they are connected to somebody else ...; it has not been sent then.
    /// Cancel: it has not been sent.
    [[nodiscard]] detail::message_send send_to(bytes_view bytes, const unix_address& to,
                                               std::span<const int> descriptors = {}) noexcept {
        return {*this, detail::message_kind::datagram, bytes, to, descriptors};
    }
    /// To the peer that it is connected to, when that one has room. Throws io_error: not_connected if there is none,
    /// connection_refused if it has gone, once. Cancel: it has not been sent.
    [[nodiscard]] detail::message_send send(bytes_view bytes, std::span<const int> descriptors = {}) noexcept {
        return {*this, detail::message_kind::datagram, bytes, {}, descriptors};
    }
    /// Without waiting: resource_unavailable_try_again if there is no room.
    rondo::result<void> try_send_to(bytes_view bytes, const unix_address& to,
                                    std::span<const int> descriptors = {}) noexcept;
    rondo::result<void> try_send(bytes_view bytes, std::span<const int> descriptors = {}) noexcept {
        return try_send_to(bytes, {}, descriptors);
    }

    /// As message_socket has it; the file is removed before.
    [[nodiscard]] detail::close_awaiter close() noexcept {
        remove_file();
        return message_socket::close();
    }

 private:
    friend class detail::receive_unix_datagram_awaiter;

    explicit unix_datagram_socket(detail::socket_handle&& socket) noexcept : message_socket(std::move(socket)) {}
    void remove_file() noexcept { detail::remove_unix_file(socket(), bound_); }

    unix_binding bound_;
};

// --- implementation

namespace detail {

inline receive_unix_datagram_awaiter::receive_unix_datagram_awaiter(unix_datagram_socket& socket, writable_bytes into,
                                                                    std::span<owned_descriptor> places) noexcept
    : message_receive(socket, into, places) {}

}  // namespace detail

static_assert(std::is_trivially_copyable_v<unix_bind_options> && std::is_trivially_copyable_v<received_unix_datagram>);

}  // namespace rondo
