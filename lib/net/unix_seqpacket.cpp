#include <rondo/net/unix_seqpacket.hpp>

namespace rondo {

// --- unix_seqpacket

rondo::result<unix_seqpacket> unix_seqpacket::try_connect(const unix_address& to) noexcept {
    rondo::result<detail::socket_handle> socket = detail::make_unix_connected(unix_type::packet, to);
    if (!socket) return socket.error();
    return unix_seqpacket(*std::move(socket));
}

rondo::result<std::pair<unix_seqpacket, unix_seqpacket>> unix_seqpacket::try_pair() noexcept {
    rondo::result<std::pair<detail::socket_handle, detail::socket_handle>> made =
        detail::make_unix_pair(unix_type::packet);
    if (!made) return made.error();
    return std::pair(unix_seqpacket(std::move(made->first)), unix_seqpacket(std::move(made->second)));
}
std::pair<unix_seqpacket, unix_seqpacket> unix_seqpacket::pair() {
    return detail::unix_value(try_pair(), "make a pair of Unix sockets");
}

rondo::result<unix_seqpacket> unix_seqpacket::try_from_fd(int fd) noexcept {
    rondo::result<detail::socket_handle> socket =
        detail::adopt_socket(fd, false, detail::adopt_kind(unix_type::packet));
    if (!socket) return socket.error();
    return unix_seqpacket(*std::move(socket));
}
unix_seqpacket unix_seqpacket::from_fd(int fd) {
    return detail::unix_value(try_from_fd(fd), "adopt a connection, descriptor", std::to_string(fd));
}

rondo::result<received_packet> unix_seqpacket::try_receive(writable_bytes into,
                                                           std::span<owned_descriptor> descriptors) noexcept {
    raw_message what = detail::place_for(into);
    const std::int32_t got = receive_now(what, descriptors);
    if (got < 0) return errno_code(-got);
    return received_packet{static_cast<std::size_t>(got), what.ended, what.truncated, what.descriptor_count};
}

rondo::result<void> unix_seqpacket::try_send(bytes_view bytes, std::span<const int> descriptors) noexcept {
    const std::int32_t sent = send_now(detail::message_kind::packet, bytes, {}, descriptors);
    if (sent < 0) return errno_code(-sent);
    return {};
}

rondo::result<void> unix_seqpacket::try_shutdown() noexcept {
    sys_op call{.what = sys_op::call::shutdown_write};
    return detail::as_result(socket().control(call));
}
void unix_seqpacket::shutdown() {
    const rondo::result<void> done = try_shutdown();
    if (!done) throw io_error(done.error(), "shutdown", detail::unix_subject(socket()));
}

rondo::result<peer_credentials> unix_seqpacket::try_credentials() const noexcept {
    return detail::unix_credentials(socket());
}
peer_credentials unix_seqpacket::credentials() const {
    return detail::unix_value(try_credentials(), "peer credentials");
}

// --- unix_seqpacket_listener

rondo::result<unix_seqpacket_listener> unix_seqpacket_listener::try_bind(const unix_address& at,
                                                                         const unix_listen_options& options) noexcept {
    rondo::result<detail::socket_handle> socket = detail::make_unix(unix_type::packet);
    if (!socket) return socket.error();
    unix_seqpacket_listener listener(*std::move(socket));
    const rondo::result<void> listens = listener.listen_at(at, options);
    if (!listens) return listens.error();
    return listener;
}
unix_seqpacket_listener unix_seqpacket_listener::bind(const unix_address& at, const unix_listen_options& options) {
    return detail::unix_value(try_bind(at, options), "listen at", at.to_string());
}

rondo::result<unix_seqpacket_listener> unix_seqpacket_listener::try_from_fd(int fd) noexcept {
    rondo::result<detail::socket_handle> socket = detail::adopt_socket(fd, true, detail::adopt_kind(unix_type::packet));
    if (!socket) return socket.error();
    unix_seqpacket_listener listener(*std::move(socket));
    listener.learn_name();
    return listener;
}
unix_seqpacket_listener unix_seqpacket_listener::from_fd(int fd) {
    return detail::unix_value(try_from_fd(fd), "adopt a listener, descriptor", std::to_string(fd));
}

}  // namespace rondo
