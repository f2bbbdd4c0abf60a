#include <rondo/net/tcp.hpp>

#include <rondo/task/suspend.hpp>

#include "addresses.hpp"

#include <algorithm>
#include <cerrno>
#include <limits>

namespace rondo {

namespace {

using detail::address_of;
using detail::local_address;
using detail::own_address;

// Linux lets a socket connect to itself, when the port that it is given is the one it wants. Nobody listens at a port
// of this machine that has just been given to a client: so the connection is refused.
bool has_met_itself(const detail::socket_handle& socket, const raw_address& peer) noexcept {
    const rondo::result<endpoint> own = local_address(socket);
    if (!own || own->port() != peer.port) return false;
    const rondo::result<endpoint> other = address_of(socket, sys_op::call::peer_address);
    return other && *other == *own;
}

// --- options

using which = sys_op::option;

rondo::result<void> set(const detail::socket_handle& socket, which option, int value) noexcept {
    return detail::as_result(socket.set(option, value));
}

/// In units of `unit`, rounded up; what an int cannot hold is as much as it can, and what is negative is -1.
int count_of(duration time, duration unit) noexcept {
    if (time < duration::zero()) return -1;
    const std::int64_t whole = time / unit + (time % unit > duration::zero() ? 1 : 0);
    return static_cast<int>(std::min<std::int64_t>(whole, std::numeric_limits<int>::max()));
}

rondo::result<void> set_keep_alive(const detail::socket_handle& socket, const keep_alive_times& times) noexcept {
    const int idle = count_of(times.idle, std::chrono::seconds(1));
    const int interval = count_of(times.interval, std::chrono::seconds(1));
    rondo::result<void> answer = set(socket, which::keep_alive_idle, idle);
    if (answer) answer = set(socket, which::keep_alive_interval, interval);
    if (answer) answer = set(socket, which::keep_alive_count, times.count);
    if (answer) answer = set(socket, which::keep_alive, 1);
    return answer;
}

rondo::result<void> set_user_timeout(const detail::socket_handle& socket, delay at_most) noexcept {
    const int ms = count_of(at_most.value(), std::chrono::milliseconds(1));
    if (ms == std::numeric_limits<int>::max()) return std::errc::invalid_argument;
    return set(socket, which::user_timeout, ms);
}

rondo::result<void> set_any(const detail::socket_handle& socket, int level, int name, bytes_view value) noexcept {
    sys_op call{.what = sys_op::call::set_any_option,
                .data = const_cast<void*>(value.data()),
                .size = value.size(),
                .level = level,
                .name = name};
    return detail::as_result(socket.control(call));
}

rondo::result<std::size_t> get_any(const detail::socket_handle& socket, int level, int name,
                                   writable_bytes into) noexcept {
    sys_op call{
        .what = sys_op::call::get_any_option, .data = into.data(), .size = into.size(), .level = level, .name = name};
    const int answer = socket.control(call);
    if (answer < 0) return errno_code(-answer);
    return static_cast<std::size_t>(answer);
}

bytes_view bytes_of(const int& value) noexcept { return {reinterpret_cast<const char*>(&value), sizeof value}; }
writable_bytes place_of(int& value) noexcept { return {reinterpret_cast<char*>(&value), sizeof value}; }

}  // namespace

// --- tcp_stream -------------------------------------------------------------------------------------------

// Every stream begins undelayed. In a forked child the parent does that, for the same connection.
tcp_stream tcp_stream::accepted(detail::socket_handle&& socket, const raw_address& peer) noexcept {
    if (!detail::current->left_behind()) socket.set(sys_op::option::no_delay, 1);
    return tcp_stream(std::move(socket), peer);
}

rondo::result<tcp_stream> tcp_stream::connected(detail::socket_handle&& socket, const raw_address& peer) noexcept {
    if (has_met_itself(socket, peer)) {
        socket.reset_on_close();  // else its port would be kept from who shall listen there
        return errno_code(ECONNREFUSED);
    }
    return accepted(std::move(socket), peer);
}

rondo::result<tcp_stream> tcp_stream::try_from_fd(int fd) noexcept {
    rondo::result<detail::socket_handle> socket = detail::adopt_socket(fd, false);
    if (!socket) return socket.error();
    const rondo::result<endpoint> peer = address_of(*socket, sys_op::call::peer_address);
    return tcp_stream(std::move(*socket),
                      peer ? peer->raw() : raw_address());  // gone this very moment: a read will tell
}

tcp_stream tcp_stream::from_fd(int fd) {
    rondo::result<tcp_stream> made = try_from_fd(fd);
    if (!made) detail::throw_refused(made.error(), "adopt a connection, descriptor", std::to_string(fd));
    return std::move(*made);
}

std::string tcp_stream::peer_of(const descriptor_stream& stream) {
    return static_cast<const tcp_stream&>(stream).peer().to_string();
}

rondo::result<endpoint> tcp_stream::try_local() const noexcept { return local_address(socket()); }
endpoint tcp_stream::local() const { return own_address(socket()); }

rondo::result<void> tcp_stream::try_reset_on_close() noexcept { return detail::as_result(socket().reset_on_close()); }

rondo::result<void> tcp_stream::try_no_delay(bool on) noexcept {
    return detail::as_result(socket().set(sys_op::option::no_delay, on));
}

rondo::result<void> tcp_stream::try_keep_alive(bool on) noexcept {
    return detail::as_result(socket().set(sys_op::option::keep_alive, on));
}

rondo::result<void> tcp_stream::try_receive_buffer_size(int bytes) noexcept {
    return detail::as_result(socket().set(sys_op::option::receive_buffer, bytes));
}

rondo::result<void> tcp_stream::try_send_buffer_size(int bytes) noexcept {
    return detail::as_result(socket().set(sys_op::option::send_buffer, bytes));
}

rondo::result<void> tcp_stream::try_keep_alive(const keep_alive_times& times) noexcept {
    return set_keep_alive(socket(), times);
}

rondo::result<void> tcp_stream::try_user_timeout(delay at_most) noexcept { return set_user_timeout(socket(), at_most); }
rondo::result<void> tcp_stream::try_cork(bool on) noexcept { return set(socket(), which::cork, on); }

rondo::result<void> tcp_stream::try_set_option(int level, int name, bytes_view value) noexcept {
    return set_any(socket(), level, name, value);
}

rondo::result<void> tcp_stream::try_set_option(int level, int name, int value) noexcept {
    return set_any(socket(), level, name, bytes_of(value));
}

rondo::result<std::size_t> tcp_stream::try_get_option(int level, int name, writable_bytes into) const noexcept {
    return get_any(socket(), level, name, into);
}

std::size_t tcp_stream::get_option(int level, int name, writable_bytes into) const {
    const rondo::result<std::size_t> got = try_get_option(level, name, into);
    if (!got) check(got.error(), "get option");
    return *got;
}

int tcp_stream::get_option(int level, int name) const {
    int value = 0;
    get_option(level, name, place_of(value));
    return value;
}

rondo::result<connection_info> tcp_stream::try_info() const noexcept {
    connection_info info;
    sys_op call{.what = sys_op::call::tcp_info, .data = &info};
    if (const int answer = socket().control(call); answer < 0) return errno_code(-answer);
    return info;
}

connection_info tcp_stream::info() const {
    const rondo::result<connection_info> got = try_info();
    if (!got) check(got.error(), "look at the connection");
    return *got;
}

task<bool> tcp_stream::linger(delay at_most) {
    const rondo::result<void> ended = try_shutdown();
    // One that is over already may have delivered all before.
    if (!ended && ended.error() != std::errc::not_connected) check(ended, "shutdown");
    const time_point limit = at_most.after(now());
    duration pause = std::chrono::milliseconds(1);
    for (;;) {
        const connection_info at = info();
        if (at.unacknowledged == 0) co_return true;
        const duration left = limit - now();
        if (at.state == tcp_state::closed || left <= duration::zero()) co_return false;
        co_await sleep_for(std::min(pause, left));
        pause = std::min<duration>(2 * pause, std::chrono::milliseconds(100));
    }
}

void tcp_stream::reset_on_close() { check(try_reset_on_close(), "set linger"); }
void tcp_stream::no_delay(bool on) { check(try_no_delay(on), "set no_delay"); }
void tcp_stream::keep_alive(bool on) { check(try_keep_alive(on), "set keep_alive"); }
void tcp_stream::receive_buffer_size(int bytes) { check(try_receive_buffer_size(bytes), "set receive buffer"); }
void tcp_stream::send_buffer_size(int bytes) { check(try_send_buffer_size(bytes), "set send buffer"); }

void tcp_stream::keep_alive(const keep_alive_times& times) { check(try_keep_alive(times), "set keep_alive"); }
void tcp_stream::user_timeout(delay at_most) { check(try_user_timeout(at_most), "set user_timeout"); }
void tcp_stream::cork(bool on) { check(try_cork(on), "set cork"); }
void tcp_stream::set_option(int level, int name, int value) { check(try_set_option(level, name, value), "set option"); }
void tcp_stream::set_option(int level, int name, bytes_view value) {
    check(try_set_option(level, name, value), "set option");
}

// --- tcp_listener -----------------------------------------------------------------------------------------

rondo::result<tcp_listener> tcp_listener::try_bind(const endpoint& at, const listen_options& options) noexcept {
    detail::scheduler& l = detail::running();
    raw_address address = at.raw();
    sys_op make{.what = sys_op::call::tcp_socket, .address = &address};
    const int fd = l.control(make);
    if (fd < 0) return errno_code(-fd);
    detail::socket_handle socket(l, fd);
    const bool v6 = address.kind == raw_address::family::v6;
    int r = 0;
    if (options.reuse_address) r = socket.set(sys_op::option::reuse_address, 1);
    if (r >= 0 && options.reuse_port) r = socket.set(sys_op::option::reuse_port, 1);
    if (r >= 0 && v6) r = socket.set(sys_op::option::v6_only, options.v6_only);
    sys_op bind_to{.what = sys_op::call::bind, .address = &address};
    if (r >= 0) r = socket.control(bind_to);
    sys_op listen{.what = sys_op::call::listen, .value = options.backlog};
    if (r >= 0) r = socket.control(listen);
    if (r < 0) return errno_code(-r);
    return tcp_listener(std::move(socket));
}

rondo::result<tcp_listener> tcp_listener::try_bind(std::string_view address, std::uint16_t port,
                                                   const listen_options& options) noexcept {
    const rondo::result<ip_address> at = ip_address::try_parse(address);
    if (!at) return at.error();
    return try_bind(endpoint(*at, port), options);
}

tcp_listener tcp_listener::bind(const endpoint& at, const listen_options& options) {
    rondo::result<tcp_listener> made = try_bind(at, options);
    if (!made) throw io_error(made.error(), "listen at", at.to_string());
    return std::move(*made);
}

rondo::result<tcp_listener> tcp_listener::try_from_fd(int fd) noexcept {
    rondo::result<detail::socket_handle> socket = detail::adopt_socket(fd, true);
    if (!socket) return socket.error();
    return tcp_listener(std::move(*socket));
}

tcp_listener tcp_listener::from_fd(int fd) {
    rondo::result<tcp_listener> made = try_from_fd(fd);
    if (!made) detail::throw_refused(made.error(), "adopt a listener, descriptor", std::to_string(fd));
    return std::move(*made);
}

rondo::result<endpoint> tcp_listener::try_local() const noexcept { return local_address(socket()); }
endpoint tcp_listener::local() const { return own_address(socket()); }

rondo::result<void> tcp_listener::try_keep_alive(const keep_alive_times& times) noexcept {
    return set_keep_alive(socket(), times);
}

rondo::result<void> tcp_listener::try_user_timeout(delay at_most) noexcept {
    return set_user_timeout(socket(), at_most);
}

rondo::result<void> tcp_listener::try_set_option(int level, int name, bytes_view value) noexcept {
    return set_any(socket(), level, name, value);
}

rondo::result<void> tcp_listener::try_set_option(int level, int name, int value) noexcept {
    return set_any(socket(), level, name, bytes_of(value));
}

rondo::result<std::size_t> tcp_listener::try_get_option(int level, int name, writable_bytes into) const noexcept {
    return get_any(socket(), level, name, into);
}

std::size_t tcp_listener::get_option(int level, int name, writable_bytes into) const {
    const rondo::result<std::size_t> got = try_get_option(level, name, into);
    if (!got) check(got.error(), "get option");
    return *got;
}

int tcp_listener::get_option(int level, int name) const {
    int value = 0;
    get_option(level, name, place_of(value));
    return value;
}

void tcp_listener::keep_alive(const keep_alive_times& times) { check(try_keep_alive(times), "set keep_alive"); }
void tcp_listener::user_timeout(delay at_most) { check(try_user_timeout(at_most), "set user_timeout"); }
void tcp_listener::set_option(int level, int name, int value) {
    check(try_set_option(level, name, value), "set option");
}
void tcp_listener::set_option(int level, int name, bytes_view value) {
    check(try_set_option(level, name, value), "set option");
}

void tcp_listener::check(const rondo::result<void>& answer, const char* operation) const {
    if (answer) return;
    const rondo::result<endpoint> at = try_local();
    detail::throw_refused(answer.error(), operation, at ? at->to_string() : std::string());
}

}  // namespace rondo
