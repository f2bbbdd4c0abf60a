#include <rondo/net/endpoint.hpp>

#include <rondo/io/detail/address_text.hpp>

#include <arpa/inet.h>
#include <net/if.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace rondo {

namespace {

using family = raw_address::family;

[[noreturn]] void refuse(std::string_view what, std::string_view text) {
    std::string quoted;
    for (const char c : text.substr(0, 80)) quoted += c >= ' ' && c < 127 ? c : '?';
    if (text.size() > 80) quoted += "...";
    throw std::system_error(errno_code(EINVAL), std::string("not ") + std::string(what) + ": '" + quoted + "'");
}

bool parse_zone(std::string_view zone, std::uint32_t& scope) noexcept {
    if (zone.empty() || zone.size() >= IF_NAMESIZE || zone.find('\0') != std::string_view::npos) return false;
    const auto [end, error] = std::from_chars(zone.data(), zone.data() + zone.size(), scope);
    if (error == std::errc() && end == zone.data() + zone.size()) return scope != 0;
    char name[IF_NAMESIZE] = "";
    std::memcpy(name, zone.data(), zone.size());
    scope = if_nametoindex(name);
    return scope != 0;
}

bool parse_address(std::string_view text, raw_address& into) noexcept {
    std::string_view digits = text;
    std::string_view zone;
    if (const auto percent = text.find('%'); percent != std::string_view::npos) {
        digits = text.substr(0, percent);
        zone = text.substr(percent + 1);
    }
    char terminated[INET6_ADDRSTRLEN] = "";
    if (digits.empty() || digits.size() >= sizeof terminated || digits.find('\0') != std::string_view::npos)
        return false;
    std::memcpy(terminated, digits.data(), digits.size());
    if (inet_pton(AF_INET, terminated, into.bytes) == 1) {
        into.kind = family::v4;
        return text.size() == digits.size();  // IPv4 has no zones
    }
    if (inet_pton(AF_INET6, terminated, into.bytes) != 1) return false;
    into.kind = family::v6;
    return text.size() == digits.size() || parse_zone(zone, into.scope);
}

bool parse_port(std::string_view text, std::uint16_t& port) noexcept {
    if (text.empty() || text.size() > 5) return false;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    return error == std::errc() && end == text.data() + text.size();
}

bool parse_endpoint(std::string_view text, raw_address& into) noexcept {
    std::string_view address;
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos) return false;
    if (!text.empty() && text.front() == '[') {
        if (colon < 2 || text[colon - 1] != ']') return false;
        address = text.substr(1, colon - 2);
        if (!parse_address(address, into) || into.kind != family::v6) return false;
    } else {
        address = text.substr(0, colon);
        if (!parse_address(address, into) || into.kind != family::v4) return false;
    }
    return parse_port(text.substr(colon + 1), into.port);
}

// Family, then bytes, then zone, then port: the order of `<=>`, and what `==` compares.
std::strong_ordering compare(const raw_address& a, const raw_address& b) noexcept {
    if (a.kind != b.kind) return a.kind <=> b.kind;
    const std::size_t size = a.kind == family::v4 ? 4 : 16;
    if (a.kind != family::none)
        if (const int order = std::memcmp(a.bytes, b.bytes, size); order != 0) return order <=> 0;
    if (a.scope != b.scope) return a.scope <=> b.scope;
    return a.port <=> b.port;
}

}  // namespace

// --- ip_address -----------------------------------------------------------------------------------------

result<ip_address> ip_address::try_parse(std::string_view text) noexcept {
    raw_address raw;
    if (!parse_address(text, raw)) return errno_code(EINVAL);
    return ip_address(raw);
}

ip_address ip_address::parse(std::string_view text) {
    const result<ip_address> parsed = try_parse(text);
    if (!parsed) refuse("an IP address", text);
    return *parsed;
}

ip_address ip_address::loopback_v4() noexcept {
    raw_address raw;
    raw.kind = family::v4;
    raw.bytes[0] = 127;
    raw.bytes[3] = 1;
    return ip_address(raw);
}

ip_address ip_address::loopback_v6() noexcept {
    raw_address raw;
    raw.kind = family::v6;
    raw.bytes[15] = 1;
    return ip_address(raw);
}

ip_address ip_address::any_v4() noexcept {
    raw_address raw;
    raw.kind = family::v4;
    return ip_address(raw);
}

ip_address ip_address::any_v6() noexcept {
    raw_address raw;
    raw.kind = family::v6;
    return ip_address(raw);
}

bool ip_address::is_loopback() const noexcept {
    if (is_v4()) return raw_.bytes[0] == 127;
    return *this == loopback_v6();
}

bool ip_address::is_unspecified() const noexcept { return *this == (is_v4() ? any_v4() : any_v6()); }

std::string ip_address::to_string() const { return detail::host_text(raw_).text; }

bool operator==(const ip_address& a, const ip_address& b) noexcept { return (a <=> b) == 0; }
std::strong_ordering operator<=>(const ip_address& a, const ip_address& b) noexcept { return compare(a.raw_, b.raw_); }

// --- endpoint -------------------------------------------------------------------------------------------

endpoint::endpoint(const ip_address& address, std::uint16_t port) noexcept : raw_(address.raw_) { raw_.port = port; }

result<endpoint> endpoint::try_parse(std::string_view text) noexcept {
    raw_address raw;
    if (!parse_endpoint(text, raw)) return errno_code(EINVAL);
    return endpoint(raw);
}

endpoint endpoint::parse(std::string_view text) {
    const result<endpoint> parsed = try_parse(text);
    if (!parsed) refuse("an address with a port (127.0.0.1:80, [::1]:80)", text);
    return *parsed;
}

ip_address endpoint::address() const noexcept {
    raw_address raw = raw_;
    raw.port = 0;
    return ip_address(raw);
}

std::string endpoint::to_string() const { return detail::address_text(raw_).text; }

bool operator==(const endpoint& a, const endpoint& b) noexcept { return (a <=> b) == 0; }
std::strong_ordering operator<=>(const endpoint& a, const endpoint& b) noexcept { return compare(a.raw_, b.raw_); }

}  // namespace rondo
