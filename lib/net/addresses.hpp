// The addresses of a socket, as every kind that has an endpoint asks for them.
#pragma once

#include <rondo/io/detail/socket.hpp>
#include <rondo/net/endpoint.hpp>

namespace rondo::detail {

inline rondo::result<endpoint> address_of(const socket_handle& socket, sys_op::call which) noexcept {
    raw_address address;
    sys_op ask{.what = which, .address = &address};
    if (const int answer = socket.control(ask); answer < 0) return errno_code(-answer);
    return endpoint(address);
}

inline rondo::result<endpoint> local_address(const socket_handle& socket) noexcept {
    return address_of(socket, sys_op::call::local_address);
}

/// Throws io_error.
inline endpoint own_address(const socket_handle& socket) {
    const rondo::result<endpoint> address = local_address(socket);
    if (!address) throw io_error(address.error(), "local address");
    return *address;
}

}  // namespace rondo::detail
