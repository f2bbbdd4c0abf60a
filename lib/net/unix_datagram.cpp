#include <rondo/net/unix_datagram.hpp>

#include <cerrno>

namespace rondo {

unix_datagram_socket& unix_datagram_socket::operator=(unix_datagram_socket&& other) noexcept {
    if (this == &other) return *this;
    remove_file();
    message_socket::operator=(std::move(other));
    bound_ = std::exchange(other.bound_, {});
    return *this;
}

// --- making one

rondo::result<unix_datagram_socket> unix_datagram_socket::try_unbound() noexcept {
    rondo::result<detail::socket_handle> socket = detail::make_unix(unix_type::datagram);
    if (!socket) return socket.error();
    return unix_datagram_socket(*std::move(socket));
}
unix_datagram_socket unix_datagram_socket::unbound() { return detail::unix_value(try_unbound(), "make a socket"); }

rondo::result<unix_datagram_socket> unix_datagram_socket::try_bind(const unix_address& at,
                                                                   const unix_bind_options& options) noexcept {
    rondo::result<unix_datagram_socket> made = try_unbound();
    if (!made) return made;
    unix_binding to{.name = at.name(), .mode = options.mode, .replace = options.replace};
    if (const rondo::result<void> bound = detail::bind_unix(made->socket(), to); !bound) return bound.error();
    made->bound_ = to;
    return made;
}
unix_datagram_socket unix_datagram_socket::bind(const unix_address& at, const unix_bind_options& options) {
    return detail::unix_value(try_bind(at, options), "bind to", at.to_string());
}

rondo::result<std::pair<unix_datagram_socket, unix_datagram_socket>> unix_datagram_socket::try_pair() noexcept {
    rondo::result<std::pair<detail::socket_handle, detail::socket_handle>> made =
        detail::make_unix_pair(unix_type::datagram);
    if (!made) return made.error();
    return std::pair(unix_datagram_socket(std::move(made->first)), unix_datagram_socket(std::move(made->second)));
}
std::pair<unix_datagram_socket, unix_datagram_socket> unix_datagram_socket::pair() {
    return detail::unix_value(try_pair(), "make a pair of Unix sockets");
}

rondo::result<unix_datagram_socket> unix_datagram_socket::try_from_fd(int fd) noexcept {
    rondo::result<detail::socket_handle> socket =
        detail::adopt_socket(fd, false, detail::adopt_kind(unix_type::datagram));
    if (!socket) return socket.error();
    return unix_datagram_socket(*std::move(socket));
}
unix_datagram_socket unix_datagram_socket::from_fd(int fd) {
    return detail::unix_value(try_from_fd(fd), "adopt a socket, descriptor", std::to_string(fd));
}

// --- one peer

rondo::result<void> unix_datagram_socket::try_connect(const unix_address& to) noexcept {
    if (to.is_unnamed()) return errno_code(EINVAL);
    return detail::connect_unix(socket(), to);
}
rondo::result<void> unix_datagram_socket::try_disconnect() noexcept { return detail::connect_unix(socket(), {}); }

void unix_datagram_socket::connect(const unix_address& to) {
    const rondo::result<void> done = try_connect(to);
    if (!done) throw io_error(done.error(), "connect", to.to_string());
}
void unix_datagram_socket::disconnect() {
    const rondo::result<void> done = try_disconnect();
    if (!done) throw io_error(done.error(), "disconnect");
}

// --- what does not wait

rondo::result<received_unix_datagram> unix_datagram_socket::try_receive_from(
    writable_bytes into, std::span<owned_descriptor> descriptors) noexcept {
    raw_message what = detail::place_for(into);
    raw_unix_name from;
    what.name = &from;
    const std::int32_t got = receive_now(what, descriptors);
    if (got < 0) return errno_code(-got);
    return received_unix_datagram{static_cast<std::size_t>(got), unix_address(from), what.truncated,
                                  what.descriptor_count};
}

rondo::result<void> unix_datagram_socket::try_send_to(bytes_view bytes, const unix_address& to,
                                                      std::span<const int> descriptors) noexcept {
    const std::int32_t sent = send_now(detail::message_kind::datagram, bytes, to, descriptors);
    if (sent < 0) return errno_code(-sent);
    return {};
}

}  // namespace rondo
