// Unix sockets of the kernel's: their names, and the files that these have become.
#pragma once

#include <rondo/loop/backend.hpp>

#include <sys/socket.h>
#include <sys/un.h>

namespace rondo::detail {

/// A name as the kernel wants it.
struct unix_socket_address {
    explicit unix_socket_address(const raw_unix_name& name) noexcept;

    const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(&un); }

    sockaddr_un un{};
    socklen_t size;
};

/// A name as the kernel gives it.
raw_unix_name unix_name_of(const sockaddr_un& un, socklen_t size) noexcept;

/// SOCK_STREAM, and so on.
int unix_socket_type(unix_type type) noexcept;

// Each answers 0, or a negative errno.

int bind_to_unix_name(int fd, unix_binding& to) noexcept;
int unlink_unix(const unix_binding& bound) noexcept;
int connect_to_unix_name(int fd, const raw_unix_name& to) noexcept;
int unix_local_name(int fd, raw_unix_name& into) noexcept;
int unix_peer_name(int fd, raw_unix_name& into) noexcept;
int look_at_peer(int fd, peer_credentials& into) noexcept;

}  // namespace rondo::detail
