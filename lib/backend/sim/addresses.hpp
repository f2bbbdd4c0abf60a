// Addresses as the simulated network compares them.
#pragma once

#include "network.hpp"

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace rondo::simulated {

using family = raw_address::family;

constexpr std::size_t host_size(family f) { return f == family::v4 ? 4 : 16; }

inline bool same_host(const raw_address& a, const raw_address& b) {
    return a.kind == b.kind && std::memcmp(a.bytes, b.bytes, host_size(a.kind)) == 0;
}

inline bool is_any(const raw_address& a) {
    constexpr std::uint8_t zero[16] = {};
    return std::memcmp(a.bytes, zero, host_size(a.kind)) == 0;
}

inline raw_address loopback(family f, std::uint16_t port) {
    raw_address a;
    a.kind = f;
    a.port = port;
    if (f == family::v4) a.bytes[0] = 127;
    a.bytes[host_size(f) - 1] = 1;
    return a;
}

inline bool is_loopback(const raw_address& a) {
    return (a.kind == family::v4 && a.bytes[0] == 127) || same_host(a, loopback(a.kind, 0));
}

inline constexpr std::uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

inline bool is_mapped(const raw_address& a) {
    return a.kind == family::v6 && std::memcmp(a.bytes, mapped_prefix, sizeof mapped_prefix) == 0;
}

/// ::ffff:1.2.3.4 as 1.2.3.4: there is one form of an address in here.
inline raw_address unmapped(const raw_address& a) {
    if (!is_mapped(a)) return a;
    raw_address v4;
    v4.kind = family::v4;
    v4.port = a.port;
    std::memcpy(v4.bytes, a.bytes + sizeof mapped_prefix, 4);
    return v4;
}

/// What a program with a socket of family `f` gets to see.
inline raw_address as_seen(family f, const raw_address& a) {
    if (f != family::v6 || a.kind != family::v4) return a;
    raw_address v6;
    v6.kind = family::v6;
    v6.port = a.port;
    std::memcpy(v6.bytes, mapped_prefix, sizeof mapped_prefix);
    std::memcpy(v6.bytes + sizeof mapped_prefix, a.bytes, 4);
    return v6;
}

inline bool is_multicast(const raw_address& a) {
    return a.kind == family::v4 ? a.bytes[0] >= 224 && a.bytes[0] < 240 : a.bytes[0] == 0xff;
}

inline bool is_broadcast(const raw_address& a) {
    constexpr std::uint8_t all[4] = {255, 255, 255, 255};
    return a.kind == family::v4 && std::memcmp(a.bytes, all, sizeof all) == 0;
}

/// 0, or why a socket like `s` cannot use `a`.
inline int unfit(const socket& s, const raw_address& a) {
    if (a.kind == s.family) return 0;
    return s.family == family::v6 && a.kind == family::v4 ? -EINVAL : -EAFNOSUPPORT;
}

/// Whether a socket bound to `local` is meant by (or in the way of) the host `a`.
inline bool covers(const raw_address& local, bool v6_only, const raw_address& a) {
    if (same_host(local, a)) return true;
    if (!is_any(local)) return false;
    return local.kind == a.kind || (local.kind == family::v6 && !v6_only);
}

}  // namespace rondo::simulated
