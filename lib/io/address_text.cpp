#include <rondo/io/detail/address_text.hpp>

#include <arpa/inet.h>
#include <net/if.h>

#include <cstdio>
#include <cstring>

namespace rondo::detail {

using family = raw_address::family;

host_text::host_text(const raw_address& address) noexcept {
    if (address.kind == family::none) return;
    inet_ntop(address.kind == family::v4 ? AF_INET : AF_INET6, address.bytes, text, sizeof text);
    if (address.kind == family::v4 || address.scope == 0) return;
    const std::size_t size = std::strlen(text);
    char zone[IF_NAMESIZE];
    if (if_indextoname(address.scope, zone) != nullptr) {
        std::snprintf(text + size, sizeof text - size, "%%%s", zone);
    } else {
        std::snprintf(text + size, sizeof text - size, "%%%u", static_cast<unsigned>(address.scope));
    }
}

address_text::address_text(const raw_address& address) noexcept {
    const host_text host(address);
    const auto port = static_cast<unsigned>(address.port);
    switch (address.kind) {
        case family::v4: std::snprintf(text, sizeof text, "%s:%u", host.text, port); break;
        case family::v6: std::snprintf(text, sizeof text, "[%s]:%u", host.text, port); break;
        case family::none: std::snprintf(text, sizeof text, "(none)"); break;
    }
}

}  // namespace rondo::detail
