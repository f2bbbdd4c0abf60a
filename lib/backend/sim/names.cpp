// Who has which address and port, on each machine of the simulated network.
#include "addresses.hpp"
#include "network.hpp"
#include "socket_state.hpp"

#include <algorithm>
#include <cerrno>

namespace rondo::simulated {

bool machine::owns(const raw_address& host) const noexcept {
    return has_addresses() && (same_host(v4, host) || same_host(v6, host));
}

/// Port 0: gives the port back.
void machine::take_port(socket& s, std::uint16_t port) noexcept {
    if (s.local.port >= first_ephemeral) --port_users[s.local.port - first_ephemeral];
    if (port >= first_ephemeral) ++port_users[port - first_ephemeral];
    s.local.port = port;
}

/// The next free port for who does not care which; 0 when all are taken.
std::uint16_t machine::free_port() noexcept {
    for (std::size_t tried = 0; tried < port_users.size(); ++tried) {
        const std::size_t free = next_port++ % port_users.size();
        if (port_users[free] == 0) return static_cast<std::uint16_t>(first_ephemeral + free);
    }
    return 0;
}

bool machine::port_taken(const socket& s, const raw_address& address, bool to_listen) const noexcept {
    bool taken = false;
    sockets.for_each([&](const socket& other) {
        if (&other == &s || other.local.port != address.port || other.datagrams != s.datagrams) return;
        if (!covers(other.local, other.v6_only, address) && !covers(address, s.v6_only, other.local)) return;
        if (s.reuse_port && other.reuse_port) return;
        const bool listens = other.state == phase::listening;
        if (to_listen ? !listens : s.reuse_address && other.reuse_address && !listens) return;
        taken = true;
    });
    return taken;
}

bool machine::somebody_has(const raw_address& host) const noexcept {
    bool found = false;
    sockets.for_each([&](const socket& s) { found |= s.local.port != 0 && same_host(s.local, host); });
    return found;
}

/// The most specific one; among equals (reuse_port) the oldest.
socket* machine::listener_for(const raw_address& to) const noexcept {
    socket* best = nullptr;
    int best_score = 0;
    for (socket* s : listeners) {
        if (s->local.port != to.port || !covers(s->local, s->v6_only, to)) continue;
        const int score = same_host(s->local, to) ? 3 : s->local.kind == to.kind ? 2 : 1;
        if (score > best_score) {
            best = s;
            best_score = score;
        }
    }
    return best;
}

int network::bind(socket& s, const raw_address& address) noexcept {
    if (const int error = unfit(s, address); error != 0) return error;
    if (s.state != phase::fresh || s.local.port != 0) return -EINVAL;
    if (s.v6_only && is_mapped(address)) return -EINVAL;
    const raw_address local = unmapped(address);
    machine& m = s.home;
    if (m.has_addresses() && !is_any(local) && !is_loopback(local) && !m.owns(local)) return -EADDRNOTAVAIL;
    const std::uint16_t port = local.port != 0 ? local.port : m.free_port();
    if (port == 0 || (local.port != 0 && m.port_taken(s, local, false))) return -EADDRINUSE;
    s.local = local;
    s.local.port = 0;
    m.take_port(s, port);
    return 0;
}

int network::local_address(const socket& s, raw_address& out) const noexcept {
    out = as_seen(s.family, s.local);
    return 0;
}

int network::peer_address(const socket& s, raw_address& out) const noexcept {
    if (s.datagrams ? s.remote.port == 0 : s.state != phase::connected || over(s)) return -ENOTCONN;
    out = as_seen(s.family, s.remote);
    return 0;
}

}  // namespace rondo::simulated
