// UDP in the simulated network: datagrams, to one, to a group or to all, and what comes back when nobody is there. What
// becomes of them on their way is in wire.cpp.
#include "addresses.hpp"
#include "network.hpp"
#include "socket_state.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace rondo::simulated {
namespace {

/// What each counts for in a buffer besides its bytes: so an endless flood of empty ones is bounded, too.
constexpr std::uint32_t overhead = 256;

constexpr std::size_t most_groups = 20;  // as on Linux

std::uint32_t most_bytes(family f) { return f == family::v4 ? 65'507 : 65'527; }

bool is_connected(const socket& s) { return s.remote.port != 0; }

bool is_member(const socket& s, const raw_address& group) {
    return std::any_of(s.groups.begin(), s.groups.end(), [&](const raw_address& g) { return same_host(g, group); });
}

/// Whether a datagram from `source` to `to` is for `s`.
bool hears(const socket& s, const raw_address& source, const raw_address& to) {
    if (s.local.port != to.port) return false;
    if (is_connected(s) && (s.remote.port != source.port || !same_host(s.remote, source))) return false;
    if (is_multicast(to) && !is_member(s, to)) return false;
    if (is_multicast(to) || is_broadcast(to)) return same_host(s.local, to) || is_any(s.local);
    return covers(s.local, s.v6_only, to);
}

bool anybody_hears(const machine& m, const raw_address& source, const raw_address& to) {
    return std::any_of(m.datagram_sockets.begin(), m.datagram_sockets.end(),
                       [&](const socket* s) { return hears(*s, source, to); });
}

/// The most specific one. Among equals the one that was made last; but those that share a port on purpose
/// (reuse_port) have their share of the senders.
socket* receiver_of(const machine& m, const message& what) {
    const auto score = [&](const socket& s) {
        if (!hears(s, what.source, what.destination)) return 0;
        const int host = same_host(s.local, what.destination) ? 3 : s.local.kind == what.destination.kind ? 2 : 1;
        return host + (is_connected(s) ? 4 : 0);
    };
    int best = 0;
    for (const socket* s : m.datagram_sockets) best = std::max(best, score(*s));
    if (best == 0) return nullptr;
    std::size_t sharing = 0;
    socket* last = nullptr;
    for (socket* s : m.datagram_sockets) {
        if (score(*s) != best) continue;
        last = s;
        sharing += s->reuse_port;
    }
    if (sharing < 2) return last;
    std::size_t skip = what.source.port % sharing;
    for (socket* s : m.datagram_sockets)
        if (score(*s) == best && s->reuse_port && skip-- == 0) return s;
    return last;
}

/// Where a datagram to `remote` comes from.
raw_address source_of(const socket& s, const raw_address& remote) {
    raw_address source = s.local;
    if (!is_any(s.local)) return source;
    const machine& m = s.home;
    if (is_loopback(remote) || (!m.has_addresses() && (is_multicast(remote) || is_broadcast(remote)))) {
        source = loopback(remote.kind, 0);
    } else if (m.has_addresses()) {
        source = remote.kind == family::v4 ? m.v4 : m.v6;
    } else {
        source = remote;
    }
    source.port = s.local.port;
    return source;
}

}  // namespace

message* message::make(const void* from, std::uint32_t size) noexcept {
    void* const memory = std::malloc(sizeof(message) + size);
    if (memory == nullptr) return nullptr;
    auto* const made = new (memory) message;
    made->size = size;
    if (size > 0) std::memcpy(made->bytes(), from, size);
    return made;
}

void message::drop(message* what) noexcept { std::free(what); }

message* message::clone() const noexcept {
    message* const copy = make(bytes(), size);
    if (copy == nullptr) return nullptr;
    copy->source = source;
    copy->destination = destination;
    copy->target = target;
    return copy;
}

/// A port for who has none.
int network::give_port(socket& s) noexcept {
    if (s.local.port != 0) return 0;
    const std::uint16_t port = s.home.free_port();
    if (port == 0) return -EAGAIN;
    s.home.take_port(s, port);
    s.port_by_need = true;
    return 0;
}

int network::connect_datagrams(socket& s, const raw_address& to) noexcept {
    if (std::exchange(s.local_by_connect, false)) {
        const raw_address before = s.local;
        s.local = {};
        s.local.kind = s.family;
        s.local.port = before.port;
    }
    s.remote = {};
    s.remote.kind = s.family;
    if (to.kind == family::none) {
        if (std::exchange(s.port_by_need, false)) s.home.take_port(s, 0);
        return 0;
    }
    if (const int error = unfit(s, to); error != 0) return error;
    if (s.v6_only && is_mapped(to)) return -ENETUNREACH;
    raw_address remote = unmapped(to);
    if (is_any(remote)) remote = loopback(remote.kind, remote.port);
    if (remote.port == 0) return -EINVAL;
    if (is_broadcast(remote) && !s.broadcast) return -EACCES;
    if (!is_broadcast(remote) && !is_multicast(remote) && machine_for(s.home, remote) == nullptr) return -ENETUNREACH;
    if (const int error = give_port(s); error != 0) return error;
    s.local_by_connect = is_any(s.local);
    s.local = source_of(s, remote);
    s.remote = remote;
    return 0;
}

// Sending.

int network::send_datagram(socket& s, const void* from, std::size_t size, const raw_address& to) noexcept {
    raw_address remote = s.remote;
    if (to.kind != family::none) {
        if (const int error = unfit(s, to); error != 0) return error;
        if (s.v6_only && is_mapped(to)) return -ENETUNREACH;
        remote = unmapped(to);
        if (remote.port == 0) return -EINVAL;
        if (is_any(remote)) remote = loopback(remote.kind, remote.port);
    } else if (!is_connected(s)) {
        return -EDESTADDRREQ;
    }
    if (size > most_bytes(remote.kind)) return -EMSGSIZE;
    const bool to_many = is_multicast(remote) || is_broadcast(remote);
    if (is_broadcast(remote) && !s.broadcast) return -EACCES;
    machine* const there = to_many ? nullptr : machine_for(s.home, remote);
    if (!to_many && there == nullptr) return -ENETUNREACH;
    if (const int error = take_error(s, 0); error != 0) return update(s), error;
    if (s.unsent_size >= s.send_buffer) return -EAGAIN;
    if (lacks(s, &shortages::buffers)) return -ENOBUFS;
    if (const int error = give_port(s); error != 0) return error;
    if (!to_many) return post_datagram(s, *there, remote, from, size);

    const raw_address source = source_of(s, remote);
    int result = 0;
    for (const auto& m : machines_) {
        const bool own = m.get() == &s.home;
        if (is_multicast(remote) && (own ? !s.multicast_loop : s.multicast_ttl == 0)) continue;
        if (result == 0 && anybody_hears(*m, source, remote)) result = post_datagram(s, *m, remote, from, size);
    }
    return result;
}

int network::post_datagram(socket& s, machine& there, const raw_address& to, const void* from,
                           std::size_t size) noexcept {
    if (!make_room() || !make_links(s.home, there)) return -ENOBUFS;
    message* const made = message::make(from, static_cast<std::uint32_t>(size));
    if (made == nullptr) return -ENOBUFS;
    made->source = source_of(s, to);
    made->destination = to;
    made->target = &there;
    packet p{packet::kind::datagram, &s, made->size};
    p.content = made;
    post(p);
    return 0;
}

// Arriving.

/// False: there is no room for it. It is the caller's then.
bool network::keep(socket& s, message& arrived) noexcept {
    const std::uint32_t size = arrived.size + overhead;
    if (s.inbox_size != 0 && s.inbox_size + size > s.receive_buffer) return false;
    s.inbox.push(arrived);
    ++s.inbox_count;
    s.inbox_size += size;
    update(s);
    return true;
}

void network::datagram_arrived(packet& p) noexcept {
    const message& what = *p.content;
    machine& m = *what.target;
    if (is_multicast(what.destination) || is_broadcast(what.destination)) {
        for (socket* s : m.datagram_sockets) {
            if (!hears(*s, what.source, what.destination)) continue;
            message* const copy = what.clone();
            if (copy != nullptr && !keep(*s, *copy)) message::drop(copy);
        }
    } else if (socket* const receiver = receiver_of(m, what); receiver == nullptr) {
        packet answer{packet::kind::unreachable, p.to};
        answer.content = std::exchange(p.content, nullptr);
        post(answer);
    } else if (keep(*receiver, *p.content)) {
        p.content = nullptr;
    }
}

/// Linux tells nobody but a socket that is connected to just there: another one could not say whom it is about.
void network::unreachable_arrived(const packet& p) noexcept {
    socket& s = *p.to;
    const raw_address& there = p.content->destination;
    if (s.closed() || s.remote.port != there.port || !same_host(s.remote, there)) return;
    s.error = ECONNREFUSED;
    update(s);
}

int network::receive_datagram(socket& s, raw_datagram& into) noexcept {
    if (const int error = take_error(s, 0); error != 0) return update(s), error;
    if (s.inbox.empty()) return -EAGAIN;
    message& oldest = s.inbox.pop();
    --s.inbox_count;
    s.inbox_size -= oldest.size + overhead;
    into.size = std::min(into.capacity, oldest.size);
    into.sent = 0;
    into.segment = 0;
    into.truncated = oldest.size > into.capacity;
    into.address = as_seen(s.family, oldest.source);
    if (into.size > 0) std::memcpy(into.data, oldest.bytes(), into.size);
    message::drop(&oldest);
    update(s);
    return 0;
}

// Groups, and the end.

int network::join_group(socket& s, const raw_address& group, int interface) noexcept {
    if (group.kind != s.family || !is_multicast(group)) return -EINVAL;
    if (!is_interface(interface)) return -ENODEV;
    if (is_member(s, group)) return -EADDRINUSE;
    if (s.groups.size() == most_groups) return -ENOBUFS;
    if (!reserve(s.groups, s.groups.size() + 1)) return -ENOMEM;
    s.groups.push_back(group);
    return 0;
}

int network::leave_group(socket& s, const raw_address& group, int interface) noexcept {
    if (group.kind != s.family || !is_multicast(group)) return -EINVAL;
    if (!is_interface(interface)) return -ENODEV;
    if (!is_member(s, group)) return -EADDRNOTAVAIL;
    std::erase_if(s.groups, [&](const raw_address& g) { return same_host(g, group); });
    return 0;
}

/// Its port is free at once, and what still comes for it finds nobody.
void network::close_datagrams(socket& s) noexcept {
    std::erase(s.home.datagram_sockets, &s);
    s.home.take_port(s, 0);
    s.remote.port = 0;
    s.error = 0;
    while (!s.inbox.empty()) message::drop(&s.inbox.pop());
    s.inbox_count = s.inbox_size = 0;
}

}  // namespace rondo::simulated
