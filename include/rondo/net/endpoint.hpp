// Addresses: parsing, printing, comparing. No names are looked up here.
#pragma once

#include <rondo/loop/backend.hpp>
#include <rondo/base/error.hpp>

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace rondo {

/// An IPv4 or IPv6 address. A value.
class RONDO_API ip_address {
 public:
    /// "127.0.0.1", "::1", "fe80::1%eth0" or "fe80::1%2" (a zone names an interface of this machine).
    /// Throws system_error(invalid_argument) that quotes the text: names are not addresses.
    static ip_address parse(std::string_view text);
    static result<ip_address> try_parse(std::string_view text) noexcept;

    static ip_address loopback_v4() noexcept;  // 127.0.0.1
    static ip_address loopback_v6() noexcept;  // ::1
    static ip_address any_v4() noexcept;       // 0.0.0.0: to listen on all addresses
    static ip_address any_v6() noexcept;       // ::

    bool is_v4() const noexcept { return raw_.kind == raw_address::family::v4; }  // an IPv4 address
    bool is_v6() const noexcept { return raw_.kind == raw_address::family::v6; }  // an IPv6 address
    bool is_loopback() const noexcept;     // 127.0.0.0/8, ::1
    bool is_unspecified() const noexcept;  // 0.0.0.0, ::, or one that was never given a value

    /// The shortest form (RFC 5952 for IPv6), with the zone.
    std::string to_string() const;

    friend RONDO_API bool operator==(const ip_address& a, const ip_address& b) noexcept;
    friend RONDO_API std::strong_ordering operator<=>(const ip_address& a, const ip_address& b) noexcept;

 private:
    friend class endpoint;
    explicit ip_address(const raw_address& raw) noexcept : raw_(raw) {}
    raw_address raw_;
};

/// An address and a port. A value.
class RONDO_API endpoint {
 public:
    endpoint() noexcept = default;
    endpoint(const ip_address& address, std::uint16_t port) noexcept;
    /// `address` as ip_address::parse takes it. Throws as that does.
    endpoint(std::string_view address, std::uint16_t port) : endpoint(ip_address::parse(address), port) {}
    explicit endpoint(const raw_address& raw) noexcept : raw_(raw) {}

    /// "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80". Throws system_error(invalid_argument).
    static endpoint parse(std::string_view text);
    static result<endpoint> try_parse(std::string_view text) noexcept;

    ip_address address() const noexcept;
    std::uint16_t port() const noexcept { return raw_.port; }
    const raw_address& raw() const noexcept { return raw_; }

    /// In the form that parse() reads; "(none)" for an empty one.
    std::string to_string() const;

    friend RONDO_API bool operator==(const endpoint& a, const endpoint& b) noexcept;
    friend RONDO_API std::strong_ordering operator<=>(const endpoint& a, const endpoint& b) noexcept;

 private:
    raw_address raw_;
};

}  // namespace rondo
