#include <rondo/net/unix.hpp>

#include <cerrno>

namespace rondo {

static_assert(std::is_trivially_copyable_v<unix_listen_options>);

// --- unix_stream

rondo::result<unix_stream> unix_stream::try_connect(const unix_address& to) noexcept {
    rondo::result<detail::socket_handle> socket = detail::make_unix_connected(unix_type::stream, to);
    if (!socket) return socket.error();
    return unix_stream(*std::move(socket));
}

rondo::result<std::pair<unix_stream, unix_stream>> unix_stream::try_pair() noexcept {
    rondo::result<std::pair<detail::socket_handle, detail::socket_handle>> made =
        detail::make_unix_pair(unix_type::stream);
    if (!made) return made.error();
    return std::pair(unix_stream(std::move(made->first)), unix_stream(std::move(made->second)));
}

std::pair<unix_stream, unix_stream> unix_stream::pair() {
    return detail::unix_value(try_pair(), "make a pair of Unix sockets");
}

rondo::result<unix_stream> unix_stream::try_from_fd(int fd) noexcept {
    rondo::result<detail::socket_handle> socket =
        detail::adopt_socket(fd, false, detail::adopt_kind(unix_type::stream));
    if (!socket) return socket.error();
    return unix_stream(*std::move(socket));
}

unix_stream unix_stream::from_fd(int fd) {
    return detail::unix_value(try_from_fd(fd), "adopt a connection, descriptor", std::to_string(fd));
}

rondo::result<peer_credentials> unix_stream::try_credentials() const noexcept {
    return detail::unix_credentials(socket());
}
peer_credentials unix_stream::credentials() const { return detail::unix_value(try_credentials(), "peer credentials"); }

rondo::result<unix_address> unix_stream::try_peer() const noexcept {
    return detail::unix_name(socket(), sys_op::call::unix_peer_name);
}
rondo::result<unix_address> unix_stream::try_local() const noexcept {
    return detail::unix_name(socket(), sys_op::call::unix_local_name);
}
unix_address unix_stream::peer() const { return detail::unix_value(try_peer(), "peer address"); }
unix_address unix_stream::local() const { return detail::unix_value(try_local(), "local address"); }

// --- unix_listener

rondo::result<unix_listener> unix_listener::try_bind(const unix_address& at,
                                                     const unix_listen_options& options) noexcept {
    rondo::result<detail::socket_handle> socket = detail::make_unix(unix_type::stream);
    if (!socket) return socket.error();
    unix_listener listener(*std::move(socket));
    const rondo::result<void> listens = listener.listen_at(at, options);
    if (!listens) return listens.error();
    return listener;
}

unix_listener unix_listener::bind(const unix_address& at, const unix_listen_options& options) {
    return detail::unix_value(try_bind(at, options), "listen at", at.to_string());
}

rondo::result<unix_listener> unix_listener::try_from_fd(int fd) noexcept {
    rondo::result<detail::socket_handle> socket = detail::adopt_socket(fd, true, detail::adopt_kind(unix_type::stream));
    if (!socket) return socket.error();
    unix_listener listener(*std::move(socket));
    listener.learn_name();
    return listener;
}

unix_listener unix_listener::from_fd(int fd) {
    return detail::unix_value(try_from_fd(fd), "adopt a listener, descriptor", std::to_string(fd));
}

}  // namespace rondo
