// UDP: datagrams, one by one or in batches, connected or not, to one peer, a group or all.
//
// A datagram comes whole or not at all, and may come twice, or after later ones. One of no bytes is a datagram like any
// other: nothing here has an end. What is longer than the place it is received into is cut, and says so.
//
// One task receives and one task sends on a socket at a time; a second one gets device_or_resource_busy. A socket must
// outlive the waits on it, may be moved while nobody waits, and belongs to the loop that was running when it was made.
//
// A socket that is not connected hears nothing of what became of its datagrams, and what one peer's host says of them
// (connection_refused, host_unreachable) ends no receive: another peer's datagram may be the next. A connected one has
// one peer, and whoever uses it next is told, once.
#pragma once

#include <rondo/base/bytes.hpp>
#include <rondo/io/detail/io.hpp>
#include <rondo/io/detail/socket.hpp>
#include <rondo/net/endpoint.hpp>
#include <rondo/task/attempt.hpp>
#include <rondo/task/task.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

namespace rondo {

class udp_socket;

/// What a receive gives. Its bytes are the first `size` of the place.
struct received_datagram {
    std::size_t size = 0;
    endpoint sender;
    bool truncated = false;  // it was longer than the place; the rest is lost
    std::size_t segment_size = 0;  // not 0: several datagrams in a row, see udp_options::receive_segments
};

/// One of a batch: a place to receive into, or bytes to send. A value that refers to memory of the caller's, which must
/// stay valid until the operation ends. What has been received can be sent back as it is: its peer is the sender.
class datagram : private raw_datagram {
 public:
    datagram() noexcept = default;
    /// To receive into. Of a larger place the first 4 GiB are used.
    static datagram place(writable_bytes into) noexcept {
        datagram made;
        made.data = into.data();
        made.capacity = at_most(into.size());
        return made;
    }
    /// To send, to that peer, or to the one that the socket is connected to. What is larger than any datagram is
    /// refused when it is sent. `segment_size`: see udp_socket::send_segments().
    explicit datagram(bytes_view bytes, const endpoint& to = {}, std::uint16_t segment_size = 0) noexcept {
        data = const_cast<void*>(bytes.data());  // its capacity is 0: nothing is ever received into it
        raw_datagram::size = at_most(bytes.size());
        address = to.raw();
        segment = segment_size;
    }

    /// What is to be sent, or has come.
    std::span<const std::byte> bytes() const noexcept { return {static_cast<const std::byte*>(data), size()}; }
    std::string_view text() const noexcept { return {static_cast<const char*>(data), size()}; }
    std::size_t size() const noexcept { return raw_datagram::size; }
    /// Of a place: sends so many of its bytes.
    void resize(std::size_t count) noexcept {
        RONDO_ASSERT(count <= capacity, "a datagram larger than its place");
        raw_datagram::size = static_cast<std::uint32_t>(count);
    }
    /// From whom, or to whom.
    endpoint peer() const noexcept { return endpoint(address); }
    /// To whom it is sent.
    void set_peer(const endpoint& to) noexcept { address = to.raw(); }
    /// What has come was longer than its place.
    bool truncated() const noexcept { return raw_datagram::truncated; }
    std::size_t segment_size() const noexcept { return segment; }

 private:
    friend class udp_socket;

    static std::uint32_t at_most(std::size_t size) noexcept {
        return static_cast<std::uint32_t>(size < UINT32_MAX ? size : UINT32_MAX);
    }
};

/// How a socket begins. Trivially copyable on purpose.
struct udp_options {
    bool reuse_address = false;  // others may bind the same port; for receivers of one multicast group on one host
    bool reuse_port = false;  // several sockets share the port, each has the datagrams of some senders
    bool v6_only = true;  // an IPv6 socket has nothing to do with IPv4
    bool broadcast = false;  // it may send to broadcast addresses
    /// Where the kernel can (UDP_GRO), several datagrams of one sender come in one place, which should then have
    /// 64 KiB; `segment_size` says so. Where it cannot, they come one by one.
    bool receive_segments = false;
    int receive_buffer_size = 0;  // of the kernel's, in bytes; 0: what is usual here
    int send_buffer_size = 0;
};

namespace detail {

struct datagram_functions;
RONDO_API extern const op_vtable receive_datagrams_vtable;
RONDO_API extern const op_vtable send_datagrams_vtable;

/// A datagram that a losing arm of select_one() has received, or the error: the next receive gets it.
struct kept_datagram;
struct RONDO_API free_kept {
    void operator()(kept_datagram* what) const noexcept;
};

class RONDO_API datagram_receive : public io_awaiter {
 protected:
    explicit datagram_receive(udp_socket& socket) noexcept;

    bool begin(raw_datagram* first, std::size_t count) noexcept;
    /// Of an operation that has failed; throws `cancelled` if it was that.
    rondo::failure why() const;
    [[noreturn]] void fail() const;

    udp_socket* socket_;
    raw_address peer_;  // of no family: not connected

 private:
    friend struct datagram_functions;
    /// False: that was about somebody else, and it goes on.
    bool settled() noexcept;
    std::uint16_t refusals_ = 0;
};

class RONDO_API receive_datagram_awaiter : public datagram_receive, public awaits_io<receive_datagram_awaiter> {
 public:
    receive_datagram_awaiter(udp_socket& socket, writable_bytes into) noexcept : datagram_receive(socket) {
        one_.data = into.data();
        one_.capacity = static_cast<std::uint32_t>(into.size() < transfer_max ? into.size() : transfer_max);
    }

    bool start() noexcept { return begin(&one_, 1); }
    void give_back() noexcept;
    rondo::result<received_datagram> finish() const;
    received_datagram await_resume() const {
        if (result < 0) [[unlikely]]
            fail();
        return taken();
    }

 private:
    received_datagram taken() const noexcept {
        return {one_.size, endpoint(one_.address), one_.truncated, one_.segment};
    }
    raw_datagram one_;
};

class RONDO_API receive_datagrams_awaiter : public datagram_receive, public awaits_io<receive_datagrams_awaiter> {
 public:
    receive_datagrams_awaiter(udp_socket& socket, raw_datagram* first, std::size_t count) noexcept
        : datagram_receive(socket), first_(first), count_(count) {}

    bool start() noexcept { return begin(first_, count_); }
    rondo::result<std::size_t> finish() const;
    std::size_t await_resume() const {
        if (result < 0) [[unlikely]]
            fail();
        return static_cast<std::size_t>(result);
    }

 private:
    raw_datagram* first_;
    std::size_t count_;
};

class RONDO_API datagram_send : public io_awaiter {
 protected:
    explicit datagram_send(udp_socket& socket) noexcept;

    bool begin(raw_datagram* first, std::size_t count) noexcept;
    rondo::failure why(const raw_address& to) const;
    [[noreturn]] void fail(const raw_address& to) const;

    udp_socket* socket_;
    raw_address peer_;

 private:
    friend struct datagram_functions;
};

class RONDO_API send_datagram_awaiter : public datagram_send, public awaits_io<send_datagram_awaiter> {
 public:
    send_datagram_awaiter(udp_socket& socket, const raw_datagram& what, std::size_t* sent) noexcept
        : datagram_send(socket), one_(what), sent_(sent) {}

    bool start() noexcept { return begin(&one_, 1); }
    rondo::result<void> finish() const;
    void await_resume() const {
        if (sent_ != nullptr) [[unlikely]]
            *sent_ = one_.sent;
        if (result < 0) [[unlikely]]
            fail(one_.address);
    }

 private:
    raw_datagram one_;
    std::size_t* sent_;
};

class RONDO_API send_datagrams_awaiter : public datagram_send, public awaits_io<send_datagrams_awaiter> {
 public:
    send_datagrams_awaiter(udp_socket& socket, raw_datagram* first, std::size_t count, std::size_t* sent) noexcept
        : datagram_send(socket), first_(first), count_(count), sent_(sent) {}

    bool start() noexcept { return begin(first_, count_); }
    rondo::result<std::size_t> finish() const;
    std::size_t await_resume() const {
        if (sent_ != nullptr) *sent_ = moved;
        if (result < 0) [[unlikely]]
            fail(refused());
        return static_cast<std::size_t>(result);
    }

 private:
    const raw_address& refused() const noexcept { return moved < count_ ? first_[moved].address : peer_; }
    raw_datagram* first_;
    std::size_t count_;
    std::size_t* sent_;
};

}  // namespace detail

/// A UDP socket. Move-only; the destructor never waits.
class RONDO_API udp_socket {
 public:
    udp_socket() noexcept = default;
    udp_socket(udp_socket&&) noexcept = default;
    udp_socket& operator=(udp_socket&&) noexcept = default;
    ~udp_socket() = default;

    // --- making one; needs a running loop

    /// Receives at `at`; port 0 lets the kernel choose (see local()). Throws io_error (address_in_use,
    /// permission_denied ...) that names the address.
    static udp_socket bind(const endpoint& at, const udp_options& options = {});
    /// Receives at an address as text; throws system_error(invalid_argument) if it is none.
    static udp_socket bind(std::string_view address, std::uint16_t port, const udp_options& options = {}) {
        return bind(endpoint(address, port), options);
    }
    static rondo::result<udp_socket> try_bind(const endpoint& at, const udp_options& options = {}) noexcept;
    static rondo::result<udp_socket> try_bind(std::string_view address, std::uint16_t port,
                                              const udp_options& options = {}) noexcept;

    /// Without a port of its own until it is connected or sends: then the kernel chooses one. For clients. Throws
    /// io_error.
    static udp_socket unbound_v4(const udp_options& options = {});
    static udp_socket unbound_v6(const udp_options& options = {});
    static rondo::result<udp_socket> try_unbound_v4(const udp_options& options = {}) noexcept;
    static rondo::result<udp_socket> try_unbound_v6(const udp_options& options = {}) noexcept;

    // --- one peer

    /// From now on send() goes to `to`, and only what comes from there is received (what had come before still is).
    /// Sends nothing, and waits for nothing. May be called again for another peer. Throws io_error.
    void connect(const endpoint& to);
    rondo::result<void> try_connect(const endpoint& to) noexcept;
    /// Anybody may be a peer again. A port that was not asked for by bind() is given back. Throws io_error.
    void disconnect();
    rondo::result<void> try_disconnect() noexcept;
    /// Whether it has one peer.
    bool is_connected() const noexcept { return peer_.kind != raw_address::family::none; }
    /// Whom it is connected to; an empty endpoint if it is not.
    endpoint peer() const noexcept { return endpoint(peer_); }

    // --- receiving

    /// Waits for a datagram. Throws io_error. `into` must stay valid until this ends. An arm of select_one() that has
    /// lost leaves what it received to the next receive (and its bytes in `into`, too).
    /// Cancel: no datagram is lost.
    [[nodiscard]] detail::receive_datagram_awaiter receive_from(writable_bytes into) noexcept { return {*this, into}; }
    /// The same; the name for a connected socket. There it throws what the peer's host says about datagrams that were
    /// sent (connection_refused ...).
    [[nodiscard]] detail::receive_datagram_awaiter receive(writable_bytes into) noexcept { return {*this, into}; }
    /// Waits for at least one datagram, and takes those that are there, 64 at most, in one system call. Returns how
    /// many of `places`, from the first on, were filled; 0 only for no place at all. Array and places must stay valid
    /// until this ends. Cancel: no datagram is lost.
    [[nodiscard]] detail::receive_datagrams_awaiter receive_many(std::span<datagram> places) noexcept {
        return {*this, places.data(), places.size()};
    }
    /// What is there without waiting, or resource_unavailable_try_again.
    rondo::result<received_datagram> try_receive_from(writable_bytes into) noexcept;
    rondo::result<received_datagram> try_receive(writable_bytes into) noexcept { return try_receive_from(into); }
    rondo::result<std::size_t> try_receive_many(std::span<datagram> places) noexcept;

    // --- sending: the bytes must stay valid until it ends

    /// Sends one datagram, when there is room for it in the buffer of the socket. Throws io_error: message_size if it
    /// is too large for any packet, network_unreachable, operation_not_permitted ...; it has not been sent then, and
    /// others are not concerned. Cancel: it has not been sent.
    [[nodiscard]] detail::send_datagram_awaiter send_to(bytes_view bytes, const endpoint& to) noexcept {
        return {*this, datagram(bytes, to), nullptr};
    }
    /// To the peer that it is connected to (destination_address_required if it is not). Throws io_error, also what
    /// the peer's host says about an earlier datagram (connection_refused): this one has not been sent then.
    /// Cancel: it has not been sent.
    [[nodiscard]] detail::send_datagram_awaiter send(bytes_view bytes) noexcept {
        return {*this, datagram(bytes), nullptr};
    }
    /// Sends the bytes as datagrams of `segment_size`, the last one perhaps shorter, to `to` or to the peer it is
    /// connected to. The kernel cuts them where it can (UDP_SEGMENT), which costs much less than as many sends; the
    /// peer cannot tell. `sent`, if given, is set to how many bytes went out, however this ends.
    /// Cancel: it stops between two datagrams.
    [[nodiscard]] detail::send_datagram_awaiter send_segments(bytes_view bytes, std::uint16_t segment_size,
                                                              const endpoint& to = {},
                                                              std::size_t* sent = nullptr) noexcept {
        return {*this, datagram(bytes, to, segment_size), sent};
    }
    /// Sends all, in order, with as few system calls as it takes; returns how many. Ends with the first that is refused
    /// (io_error). `sent`, if given, is set to how many went out, however this ends: so the one it was about is
    /// `all[sent]`, and one can go on behind it. Array and bytes must stay valid until this ends.
    /// Cancel: it stops between two datagrams.
    [[nodiscard]] detail::send_datagrams_awaiter send_many(std::span<datagram> all,
                                                           std::size_t* sent = nullptr) noexcept {
        return {*this, all.data(), all.size(), sent};
    }
    /// Without waiting: resource_unavailable_try_again if there is no room. try_send_many() says how many of them went.
    rondo::result<void> try_send_to(bytes_view bytes, const endpoint& to) noexcept;
    rondo::result<void> try_send(bytes_view bytes) noexcept { return try_send_to(bytes, {}); }
    rondo::result<std::size_t> try_send_many(std::span<datagram> all) noexcept;

    // --- options; each throws io_error, but for those that begin with try_

    /// May it send to broadcast addresses?
    void broadcast(bool on);
    /// How many routers a datagram may pass, 1 to 255.
    void ttl(int hops);
    void receive_buffer_size(int bytes);
    void send_buffer_size(int bytes);
    rondo::result<void> try_broadcast(bool on) noexcept;
    rondo::result<void> try_ttl(int hops) noexcept;
    rondo::result<void> try_receive_buffer_size(int bytes) noexcept;
    rondo::result<void> try_send_buffer_size(int bytes) noexcept;

    // --- multicast: a socket gets what comes to its port for the groups that it has joined itself

    /// `interface`: its number (if_nametoindex(3)); 0: that of the group's zone, or else the usual one. Throws io_error
    /// (address_in_use: it has joined already; invalid_argument: no group).
    void join_group(const ip_address& group, unsigned interface = 0);
    /// With the same number. Throws io_error (address_not_available: it has not joined).
    void leave_group(const ip_address& group, unsigned interface = 0);
    /// Of datagrams to groups, 0 to 255; 0 does not leave this host. At first 1: it passes no router.
    void multicast_ttl(int hops);
    /// Whether members on this host hear what it sends, too. At first they do.
    void multicast_loop(bool on);
    /// By which interface datagrams to groups leave; 0: the usual one.
    void multicast_interface(unsigned interface);
    rondo::result<void> try_join_group(const ip_address& group, unsigned interface = 0) noexcept;
    rondo::result<void> try_leave_group(const ip_address& group, unsigned interface = 0) noexcept;
    rondo::result<void> try_multicast_ttl(int hops) noexcept;
    rondo::result<void> try_multicast_loop(bool on) noexcept;
    rondo::result<void> try_multicast_interface(unsigned interface) noexcept;

    // --- ending and looking

    /// Ends what other tasks do on this socket (bad_file_descriptor), waits until the kernel has let go of it, and
    /// closes. It is closed from the call on, also if nobody awaits it. What has come and was not received is dropped.
    /// Shielded: it works in a cancelled task and cannot be cancelled.
    [[nodiscard]] detail::close_awaiter close() noexcept {
        kept_ = nullptr;
        return detail::close_awaiter(socket_);
    }
    /// Whether it has a descriptor: it was made, and neither closed nor moved from.
    bool is_open() const noexcept { return socket_.open(); }
    explicit operator bool() const noexcept { return is_open(); }
    /// The descriptor, still owned by the socket; -1 when closed. For looking, not for I/O.
    int native_handle() const noexcept { return socket_.fd(); }
    /// Where it receives: port 0 if it is not bound yet. Throws io_error.
    endpoint local() const;
    rondo::result<endpoint> try_local() const noexcept;

 private:
    friend class detail::datagram_receive;
    friend class detail::receive_datagram_awaiter;
    friend class detail::datagram_send;
    friend struct detail::datagram_functions;

    explicit udp_socket(detail::socket_handle&& socket) noexcept : socket_(std::move(socket)) {}
    static rondo::result<udp_socket> make(const raw_address& of, const udp_options& options) noexcept;
    rondo::result<void> set(sys_op::option which, int value) noexcept;
    rondo::result<void> change_group(sys_op::call how, const ip_address& group, unsigned interface) noexcept;
    void check(const rondo::result<void>& answer, const char* operation, const endpoint& about = {}) const;

    detail::socket_handle socket_;
    raw_address peer_;
    bool bound_ = false;  // by bind(), and not by need
    bool receives_segments_ = false;
    std::unique_ptr<detail::kept_datagram, detail::free_kept> kept_;
};

// --- implementation

namespace detail {

inline datagram_receive::datagram_receive(udp_socket& socket) noexcept
    : io_awaiter(io_kind::receive_datagrams, socket.socket_.fd(), receive_datagrams_vtable),
      socket_(&socket),
      peer_(socket.peer_) {
    if (socket.receives_segments_) flags |= segments;
}

inline datagram_send::datagram_send(udp_socket& socket) noexcept
    : io_awaiter(io_kind::send_datagrams, socket.socket_.fd(), send_datagrams_vtable),
      socket_(&socket),
      peer_(socket.peer_) {}

}  // namespace detail

}  // namespace rondo
