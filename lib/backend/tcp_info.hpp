// What the kernel tells about a TCP connection. In a file of its own: the C library's <netinet/tcp.h> does not know all
// of it, and cannot stand beside the kernel's header that does.
#pragma once

#include <rondo/loop/backend.hpp>

namespace rondo::detail {

/// 0, or a negative errno: -EOPNOTSUPP of what is no TCP.
int look_at_connection(int fd, connection_info& into) noexcept;

}  // namespace rondo::detail
