// Unix sockets of packets (SOCK_SEQPACKET): a connection, as a stream is, that keeps messages apart.
//
// A packet comes whole, once, and in order, or is refused when it is sent: it may be nearly as large as the send buffer
// (200 KiB, if nobody has changed that). What is longer than the place it is received into is cut, and says so.
// Descriptors can go along.
//
// The kernel tells the end of a connection and a packet of no bytes in the same words. So a packet here has at least
// one byte: to send none is refused (invalid_argument). Those that somebody else's program sends are received as such,
// but for the last ones in front of the end, which pass for it.
//
// One task receives and one task sends on a socket at a time; a second one gets device_or_resource_busy. A socket must
// outlive the waits on it, may be moved while nobody waits, and belongs to the loop that was running when it was made.
#pragma once

#include <rondo/net/detail/unix_messages.hpp>

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

namespace rondo {

class unix_seqpacket;

/// What a receive gives. Its bytes are the first `size` of the place, its descriptors the first of their places.
struct received_packet {
    std::size_t size = 0;
    bool end = false;  // no packet: the other side will send no more
    bool truncated = false;  // it was longer than the place; the rest is lost
    std::size_t descriptors = 0;
};

namespace detail {

class RONDO_API receive_packet_awaiter : public message_receive, public awaits_io<receive_packet_awaiter> {
 public:
    receive_packet_awaiter(unix_seqpacket& socket, writable_bytes into, std::span<owned_descriptor> places) noexcept;

    bool start() noexcept { return begin(nullptr); }
    rondo::result<received_packet> finish() const {
        if (result < 0) return why();
        return received_packet{static_cast<std::size_t>(result), what_.ended, what_.truncated, what_.descriptor_count};
    }
    received_packet await_resume() const { return *finish(); }
};

}  // namespace detail

/// One end of a connection of packets. Move-only; the destructor never waits.
class RONDO_API unix_seqpacket : public detail::message_socket {
 public:
    unix_seqpacket() noexcept = default;

    // --- making one; needs a running loop

    /// Connects to who listens at `to`, as unix_stream::connect() does. Throws io_error that names the address, e.g.
    /// wrong_protocol_type if it is no socket of packets. Cancel: the attempt is given up and its socket closed.
    [[nodiscard]] static detail::unix_connect_awaiter<unix_seqpacket> connect(const unix_address& to) noexcept {
        return {unix_type::packet, to};
    }
    /// Without waiting: resource_unavailable_try_again if the queue of the listener is full.
    static rondo::result<unix_seqpacket> try_connect(const unix_address& to) noexcept;
    /// Two that are connected with each other (socketpair). Throws io_error.
    static std::pair<unix_seqpacket, unix_seqpacket> pair();
    static rondo::result<std::pair<unix_seqpacket, unix_seqpacket>> try_pair() noexcept;
    /// Takes one over that somebody else has made and connected, as tcp_stream::from_fd() does.
    static unix_seqpacket from_fd(int fd);
    static rondo::result<unix_seqpacket> try_from_fd(int fd) noexcept;

    // --- packets

    /// Waits for a packet, or the end. Throws io_error: connection_reset, once, if the peer has closed and left packets
    /// unread (what it had sent before comes after that); message_size if more descriptors came than there are places,
    /// too_many_files_open if this process may have no more: they are closed then, and that packet is lost with them.
    /// What was in `descriptors` is closed; without any place, descriptors that come are closed. `into` and the places
    /// must stay valid until this ends. An arm of select_one() that has lost leaves what it received to the next
    /// receive. Cancel: no packet is lost.
    [[nodiscard]] detail::receive_packet_awaiter receive(writable_bytes into,
                                                         std::span<owned_descriptor> descriptors = {}) noexcept {
        return {*this, into, descriptors};
    }
    /// What is there without waiting, or resource_unavailable_try_again.
    rondo::result<received_packet> try_receive(writable_bytes into,
                                               std::span<owned_descriptor> descriptors = {}) noexcept;

    /// Sends one packet of at least one byte, with copies of `descriptors`, 253 at most, when the peer has room. Throws
    /// io_error: invalid_argument; message_size if it is larger than the send buffer; broken_pipe, connection_reset
    /// ...; it has not been sent then. Bytes and descriptors must stay valid until this ends. Cancel: it has not been
    /// sent.
    [[nodiscard]] detail::message_send send(bytes_view bytes, std::span<const int> descriptors = {}) noexcept {
        return {*this, detail::message_kind::packet, bytes, {}, descriptors};
    }
    /// Without waiting: resource_unavailable_try_again if there is no room.
    rondo::result<void> try_send(bytes_view bytes, std::span<const int> descriptors = {}) noexcept;

    /// No more sending from this side; the peer receives what was sent, and then the end. Throws io_error.
    void shutdown();
    rondo::result<void> try_shutdown() noexcept;

    /// As unix_stream::credentials(). Throws io_error.
    peer_credentials credentials() const;
    rondo::result<peer_credentials> try_credentials() const noexcept;

 private:
    friend class detail::accept_awaiter<unix_seqpacket>;
    friend class detail::unix_connect_awaiter<unix_seqpacket>;

    static unix_seqpacket accepted(detail::socket_handle&& socket, const raw_address&) noexcept {
        return unix_seqpacket(std::move(socket));
    }
    explicit unix_seqpacket(detail::socket_handle&& socket) noexcept : message_socket(std::move(socket)) {}
};

/// A listening Unix socket of packets. Otherwise as unix_listener: `serve` takes it.
class RONDO_API unix_seqpacket_listener : public detail::unix_listener_base {
 public:
    unix_seqpacket_listener() noexcept = default;

    static unix_seqpacket_listener bind(const unix_address& at, const unix_listen_options& options = {});
    static rondo::result<unix_seqpacket_listener> try_bind(const unix_address& at,
                                                           const unix_listen_options& options = {}) noexcept;
    static unix_seqpacket_listener from_fd(int fd);
    static rondo::result<unix_seqpacket_listener> try_from_fd(int fd) noexcept;

    /// Waits for a connection, as tcp_listener::accept() does.
    [[nodiscard]] detail::accept_awaiter<unix_seqpacket> accept() noexcept {
        return detail::accept_awaiter<unix_seqpacket>(*this);
    }

 private:
    explicit unix_seqpacket_listener(detail::socket_handle&& socket) noexcept : unix_listener_base(std::move(socket)) {}
};

// --- implementation

namespace detail {

inline receive_packet_awaiter::receive_packet_awaiter(unix_seqpacket& socket, writable_bytes into,
                                                      std::span<owned_descriptor> places) noexcept
    : message_receive(socket, into, places) {}

}  // namespace detail

static_assert(std::is_trivially_copyable_v<received_packet>);

}  // namespace rondo
