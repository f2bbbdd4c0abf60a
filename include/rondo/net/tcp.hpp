// TCP: listeners and streams. What a stream can do, and what holds for all of them, is in io/stream.hpp.
#pragma once

#include <rondo/base/bytes.hpp>
#include <rondo/base/time.hpp>
#include <rondo/io/detail/connect.hpp>
#include <rondo/io/listener.hpp>
#include <rondo/io/stream.hpp>
#include <rondo/net/endpoint.hpp>
#include <rondo/task/task.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace rondo {

class tcp_cork;

/// How to connect. Trivially copyable on purpose.
struct connect_options {
    endpoint local;              // to connect from; port 0: any; empty: as the kernel chooses
    bool reuse_address = false;  // from a port at which older connections linger, to another peer
};

static_assert(std::is_trivially_copyable_v<connect_options>);

/// When keep-alive asks whether the peer is still there. In whole seconds, rounded up, from 1 to 32767.
struct keep_alive_times {
    duration idle = std::chrono::hours(2);         // nothing has come for so long: the first probe
    duration interval = std::chrono::seconds(75);  // between probes that nobody answers
    int count = 9;                                 // so many, and the connection is over: timed_out. Up to 127
};

static_assert(std::is_trivially_copyable_v<keep_alive_times>);

/// A connected TCP stream. Move-only. Nagle's algorithm is off unless asked for.
class RONDO_API tcp_stream : public descriptor_stream {
 public:
    tcp_stream() noexcept = default;

    /// Connects to `to`. Throws io_error (connection_refused, timed_out, network_unreachable ...) that
    /// names the peer; connection_refused also where the kernel has connected the socket to itself.
    /// Cancel: the attempt is given up and its socket closed.
    [[nodiscard]] static detail::connect_awaiter<tcp_stream> connect(const endpoint& to) noexcept {
        return {sys_op::call::tcp_socket, to.raw()};
    }
    /// Connects to an address as text; throws system_error(invalid_argument) if it is none.
    [[nodiscard]] static detail::connect_awaiter<tcp_stream> connect(std::string_view address, std::uint16_t port) {
        return connect(endpoint(address, port));
    }
    /// Likewise, from a local address. What is wrong with that (address_in_use, address_not_available) is an
    /// io_error which names it.
    [[nodiscard]] static detail::connect_awaiter<tcp_stream> connect(const endpoint& to,
                                                                     const connect_options& options) noexcept {
        return {sys_op::call::tcp_socket, to.raw(), {options.local.raw(), options.reuse_address}};
    }

    /// Takes a connected TCP socket over that the program has from elsewhere. Throws io_error that names it, and then
    /// it is the caller's as before: bad_file_descriptor, not_a_socket, address_family_not_supported (it is not of the
    /// Internet), wrong_protocol_type (no stream), protocol_not_supported (a stream, but not TCP), invalid_argument (it
    /// listens), not_connected, device_or_resource_busy (a task waits for it). It becomes non-blocking, for whoever
    /// shares it, too, and close-on-exec; its options stay. not_simulated in a simulated world.
    static tcp_stream from_fd(int fd);
    static rondo::result<tcp_stream> try_from_fd(int fd) noexcept;

    /// Ends the writing, as shutdown() does, and waits until the peer's host has acknowledged all that was written:
    /// true; false if that has not happened within `at_most`, or the connection is over. Close afterwards. The peer's
    /// program may not have read it yet; an answer says more. Throws io_error. It looks at the connection now and then,
    /// since nothing announces an acknowledgement. Cancel: the writing has ended.
    [[nodiscard]] task<bool> linger(delay at_most);

    /// Closing will reset the connection (SO_LINGER 0). Throws io_error.
    void reset_on_close();
    rondo::result<void> try_reset_on_close() noexcept;

    /// The address of the other side, as it was when the connection was made.
    endpoint peer() const noexcept { return endpoint(peer_); }
    /// Throws io_error.
    endpoint local() const;
    rondo::result<endpoint> try_local() const noexcept;

    // --- options; each throws io_error, but for those that begin with try_: try_no_delay(), try_keep_alive(),
    // try_receive_buffer_size(), try_send_buffer_size()

    void no_delay(bool on);  // TCP_NODELAY: what is small is not held back until there is more
    /// SO_KEEPALIVE as the system has it: on Linux the first probe comes after two hours.
    void keep_alive(bool on);
    /// On, at these times; invalid_argument when one is out of range, and perhaps some are set then.
    void keep_alive(const keep_alive_times& times);
    /// What was written and not acknowledged for so long ends the connection (timed_out), whatever the system's limits
    /// are; 0: as the system has it, about a quarter of an hour. Rounded up to milliseconds. On Linux, this counts for
    /// a peer as well that acknowledges, and reads nothing; and ends keep-alive instead of its count.
    void user_timeout(delay at_most);
    /// On: segments that are not full are held back, for at most 200 ms; off: what was held back goes out. See
    /// tcp_cork. A simulated world holds nothing back.
    void cork(bool on);
    void receive_buffer_size(int bytes);  // SO_RCVBUF: of the kernel's
    void send_buffer_size(int bytes);  // SO_SNDBUF
    rondo::result<void> try_no_delay(bool on) noexcept;
    rondo::result<void> try_keep_alive(bool on) noexcept;
    rondo::result<void> try_receive_buffer_size(int bytes) noexcept;
    rondo::result<void> try_send_buffer_size(int bytes) noexcept;
    rondo::result<void> try_keep_alive(const keep_alive_times& times) noexcept;
    rondo::result<void> try_user_timeout(delay at_most) noexcept;
    rondo::result<void> try_cork(bool on) noexcept;

    /// Any other option of setsockopt(2), by level and name. Not for what the stream relies on: SO_LINGER makes
    /// closing block the loop's thread (linger() does not), and with SO_RCVTIMEO reads end. Throws io_error;
    /// not_simulated in a simulated world.
    void set_option(int level, int name, int value);
    void set_option(int level, int name, bytes_view value);
    rondo::result<void> try_set_option(int level, int name, int value) noexcept;
    rondo::result<void> try_set_option(int level, int name, bytes_view value) noexcept;
    /// Into `into`; returns how many bytes it has. Throws likewise.
    std::size_t get_option(int level, int name, writable_bytes into) const;
    int get_option(int level, int name) const;
    rondo::result<std::size_t> try_get_option(int level, int name, writable_bytes into) const noexcept;

    /// How the connection gets on. One or two system calls. Throws io_error.
    connection_info info() const;
    rondo::result<connection_info> try_info() const noexcept;

 private:
    friend class detail::accept_awaiter<tcp_stream>;
    friend class detail::connect_awaiter<tcp_stream>;

    static tcp_stream accepted(detail::socket_handle&& socket, const raw_address& peer) noexcept;
    static rondo::result<tcp_stream> connected(detail::socket_handle&& socket, const raw_address& peer) noexcept;
    static std::string peer_of(const descriptor_stream& stream);

    tcp_stream(detail::socket_handle&& socket, const raw_address& peer) noexcept
        : descriptor_stream(std::move(socket), peer_of), peer_(peer) {}

    raw_address peer_;
};

/// As long as it lives, the stream holds segments back that are not full: several writes go out in few packets.
/// What is written in one call does so anyway, and write_all() takes any number of parts. The stream must stay
/// where it is, and live longer. Throws io_error.
class RONDO_API tcp_cork {
 public:
    [[nodiscard]] explicit tcp_cork(tcp_stream& stream) : stream_(stream) { stream.cork(true); }
    ~tcp_cork() { static_cast<void>(stream_.try_cork(false)); }
    tcp_cork(const tcp_cork&) = delete;
    tcp_cork& operator=(const tcp_cork&) = delete;

 private:
    tcp_stream& stream_;
};

/// How to listen. Trivially copyable on purpose.
struct listen_options {
    int backlog = 1024;  // the kernel caps it at net.core.somaxconn
    bool reuse_address = true;  // a restarted server need not wait for TIME_WAIT
    bool reuse_port = false;  // several listeners share the port
    bool v6_only = true;  // an IPv6 listener does not take IPv4 connections
};

/// A listening TCP socket. Move-only.
class RONDO_API tcp_listener : public descriptor_listener {
 public:
    tcp_listener() noexcept = default;

    /// Listens at `at`; port 0 lets the kernel choose (see local()). Needs a running loop. Throws
    /// io_error (address_in_use, permission_denied ...) that names the address.
    static tcp_listener bind(const endpoint& at, const listen_options& options = {});
    /// Listens at an address as text; throws system_error(invalid_argument) if it is none.
    static tcp_listener bind(std::string_view address, std::uint16_t port, const listen_options& options = {}) {
        return bind(endpoint(address, port), options);
    }
    /// bind() without a throw; a text that is no address gives invalid_argument.
    static rondo::result<tcp_listener> try_bind(const endpoint& at, const listen_options& options = {}) noexcept;
    static rondo::result<tcp_listener> try_bind(std::string_view address, std::uint16_t port,
                                                const listen_options& options = {}) noexcept;

    /// Takes a TCP socket over that listens already, as tcp_stream::from_fd() does; invalid_argument if it does not
    /// listen.
    static tcp_listener from_fd(int fd);
    static rondo::result<tcp_listener> try_from_fd(int fd) noexcept;

    /// Waits for a connection. What is no fault of the listener is not an error: connections that died in
    /// the queue are skipped, and when descriptors or memory run out, or the kernel refuses for another
    /// reason, it logs, waits (5 ms doubling to 1 s), and tries again. Throws io_error when the listener
    /// itself is bad or closed.
    /// Cancel: no connection is lost; one that was accepted is returned all the same.
    [[nodiscard]] detail::accept_awaiter<tcp_stream> accept() noexcept {
        return detail::accept_awaiter<tcp_stream>(*this);
    }

    /// Throws io_error.
    endpoint local() const;
    rondo::result<endpoint> try_local() const noexcept;

    // --- options, which the connections begin with that come from now on; see tcp_stream

    void keep_alive(const keep_alive_times& times);
    void user_timeout(delay at_most);
    void set_option(int level, int name, int value);
    void set_option(int level, int name, bytes_view value);
    rondo::result<void> try_keep_alive(const keep_alive_times& times) noexcept;
    rondo::result<void> try_user_timeout(delay at_most) noexcept;
    rondo::result<void> try_set_option(int level, int name, int value) noexcept;
    rondo::result<void> try_set_option(int level, int name, bytes_view value) noexcept;
    std::size_t get_option(int level, int name, writable_bytes into) const;
    int get_option(int level, int name) const;
    rondo::result<std::size_t> try_get_option(int level, int name, writable_bytes into) const noexcept;

 private:
    void check(const rondo::result<void>& answer, const char* operation) const;
    explicit tcp_listener(detail::socket_handle&& socket) noexcept : descriptor_listener(std::move(socket)) {}
};

}  // namespace rondo
