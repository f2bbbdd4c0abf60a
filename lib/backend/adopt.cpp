#include "adopt.hpp"

#include "unix_names.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

namespace rondo::detail {

/// An option of the level of sockets, or a negative errno.
static int ask(int fd, int name) noexcept {
    int value = 0;
    socklen_t size = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0 ? -errno : value;
}

/// 0, or why it is no TCP socket.
static int fault_of_tcp(int fd, int family) noexcept {
    if (family != AF_INET && family != AF_INET6) return -EAFNOSUPPORT;
    const int type = ask(fd, SO_TYPE);
    if (type < 0) return type;
    if (type != SOCK_STREAM) return -EPROTOTYPE;
    const int protocol = ask(fd, SO_PROTOCOL);
    if (protocol < 0) return protocol;
    return protocol == IPPROTO_TCP ? 0 : -EPROTONOSUPPORT;
}

/// 0, or why it is not what it has to be.
static int fault_of(int fd, int kind, bool listening) noexcept {
    const int family = ask(fd, SO_DOMAIN);
    if (family < 0) return family;
    if (kind == 0) {
        if (const int fault = fault_of_tcp(fd, family); fault != 0) return fault;
    } else {
        if (family != AF_UNIX) return -EAFNOSUPPORT;
        const auto wanted = static_cast<unix_type>(kind - 1);
        const int type = ask(fd, SO_TYPE);
        if (type < 0) return type;
        if (type != unix_socket_type(wanted)) return -EPROTOTYPE;
        if (wanted == unix_type::datagram) return 0;
    }
    const int listens = ask(fd, SO_ACCEPTCONN);
    if (listens < 0) return listens;
    if ((listens != 0) != listening) return -EINVAL;
    if (listening) return 0;
    sockaddr_storage peer;
    socklen_t size = sizeof peer;
    return ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) < 0 ? -errno : 0;
}

int make_ours(int fd, int kind, bool listening) noexcept {
    if (const int fault = fault_of(fd, kind, listening); fault != 0) return fault;
    const int of_file = ::fcntl(fd, F_GETFL);
    const int of_number = ::fcntl(fd, F_GETFD);
    if (of_file < 0 || of_number < 0) return -errno;
    if (::fcntl(fd, F_SETFD, of_number | FD_CLOEXEC) < 0) return -errno;
    if (::fcntl(fd, F_SETFL, of_file | O_NONBLOCK) == 0) return 0;
    const int refused = errno;
    ::fcntl(fd, F_SETFD, of_number);
    return -refused;
}

}  // namespace rondo::detail
