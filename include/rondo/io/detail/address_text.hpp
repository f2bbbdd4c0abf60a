// An address as text, without memory: reports, which name the other side of a descriptor, may have none.
#pragma once

#include <rondo/loop/backend.hpp>

#include <cstddef>

namespace rondo::detail {

/// The address without its port, in the shortest form (RFC 5952 for IPv6), with the zone: "127.0.0.1",
/// "fe80::1%eth0". Empty if it is of no family.
struct RONDO_API host_text {
    explicit host_text(const raw_address& address) noexcept;
    char text[64] = "";  // INET6_ADDRSTRLEN is 46, a zone adds 16
};

/// With the port, as endpoint::parse() reads it: "127.0.0.1:80", "[::1]:80"; "(none)" if it is of no family.
struct RONDO_API address_text {
    explicit address_text(const raw_address& address) noexcept;
    char text[80];
};

}  // namespace rondo::detail
