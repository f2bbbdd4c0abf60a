// Unix sockets of the kernel's: their names, and the files that these have become.
#pragma once

#include <rondo/loop/backend.hpp>

namespace rondo::detail {

// Each answers 0, or a negative errno.

int bind_unix(int fd, unix_binding& to) noexcept;
int unlink_unix(const unix_binding& bound) noexcept;
int connect_unix(int fd, const raw_unix_name& to) noexcept;
int unix_local_name(int fd, raw_unix_name& into) noexcept;
int unix_peer_name(int fd, raw_unix_name& into) noexcept;
int look_at_peer(int fd, peer_credentials& into) noexcept;

}  // namespace rondo::detail
