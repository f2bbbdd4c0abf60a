#include "network.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace rondo::simulated {
namespace {

using family = raw_address::family;
using phase = socket::phase;

constexpr std::size_t host_size(family f) { return f == family::v4 ? 4 : 16; }

bool same_host(const raw_address& a, const raw_address& b) {
    return a.kind == b.kind && std::memcmp(a.bytes, b.bytes, host_size(a.kind)) == 0;
}

bool is_any(const raw_address& a) {
    constexpr std::uint8_t zero[16] = {};
    return std::memcmp(a.bytes, zero, host_size(a.kind)) == 0;
}

raw_address loopback(family f, std::uint16_t port) {
    raw_address a;
    a.kind = f;
    a.port = port;
    if (f == family::v4) a.bytes[0] = 127;
    a.bytes[host_size(f) - 1] = 1;
    return a;
}

bool is_loopback(const raw_address& a) {
    return (a.kind == family::v4 && a.bytes[0] == 127) || same_host(a, loopback(a.kind, 0));
}

constexpr std::uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool is_mapped(const raw_address& a) {
    return a.kind == family::v6 && std::memcmp(a.bytes, mapped_prefix, sizeof mapped_prefix) == 0;
}

/// ::ffff:1.2.3.4 as 1.2.3.4: there is one form of an address in here.
raw_address unmapped(const raw_address& a) {
    if (!is_mapped(a)) return a;
    raw_address v4;
    v4.kind = family::v4;
    v4.port = a.port;
    std::memcpy(v4.bytes, a.bytes + sizeof mapped_prefix, 4);
    return v4;
}

/// What a program with a socket of family `f` gets to see.
raw_address as_seen(family f, const raw_address& a) {
    if (f != family::v6 || a.kind != family::v4) return a;
    raw_address v6;
    v6.kind = family::v6;
    v6.port = a.port;
    std::memcpy(v6.bytes, mapped_prefix, sizeof mapped_prefix);
    std::memcpy(v6.bytes + sizeof mapped_prefix, a.bytes, 4);
    return v6;
}

/// 0, or why a socket like `s` cannot use `a`.
int unfit(const socket& s, const raw_address& a) {
    if (a.kind == s.family) return 0;
    return s.family == family::v6 && a.kind == family::v4 ? -EINVAL : -EAFNOSUPPORT;
}

/// Whether a socket bound to `local` is meant by (or in the way of) the host `a`.
bool covers(const raw_address& local, bool v6_only, const raw_address& a) {
    if (same_host(local, a)) return true;
    if (!is_any(local)) return false;
    return local.kind == a.kind || (local.kind == family::v6 && !v6_only);
}

int take_error(socket& s, int otherwise) {
    if (s.error == 0) return otherwise;
    const int error = s.error;
    s.error = 0;
    return -error;
}

std::uint32_t space(const socket& s) {
    const std::uint32_t used = s.peer->bytes.size() - s.peer->arrived + s.peer->unacknowledged;
    return s.send_buffer > used ? s.send_buffer - used : 0;
}

/// Both directions have ended, or there was a reset: as good as not connected.
bool over(const socket& s) { return s.dead || (s.end_arrived && s.peer->end_arrived); }

bool readable(const socket& s) {
    switch (s.state) {
        case phase::fresh:
        case phase::failed: return true;  // poll says "hung up"
        case phase::listening: return s.acceptable > 0;
        case phase::connecting: return false;
        case phase::connected: break;
    }
    return s.arrived > 0 || s.end_arrived || s.dead;
}

bool writable(const socket& s) {
    switch (s.state) {
        case phase::fresh:
        case phase::failed: return true;
        case phase::listening:
        case phase::connecting: return false;
        case phase::connected: break;
    }
    if (s.dead || s.peer->ending) return true;
    // Only when a third is free, as on Linux: else each small read would wake the writer.
    return space(s) > 0 && space(s) >= s.send_buffer / 3;
}

template <class T>
bool reserve(std::vector<T>& items, std::size_t count) noexcept {
    if (count <= items.capacity()) return true;
    try {
        items.reserve(std::max(count, 2 * items.capacity()));
    } catch (const std::bad_alloc&) {
        return false;
    }
    return true;
}

}  // namespace

// Machines.

network::network(oracle& decisions) noexcept : oracle_(decisions) {}

network::~network() {
    for (const auto& m : machines_)
        while (!m->sockets.empty()) discard(m->sockets.front());
}

machine& network::add_machine(const raw_address& v4, const raw_address& v6) {
    machines_.push_back(
        std::make_unique<machine>(*this, static_cast<std::uint32_t>(machines_.size()), v4, v6));
    return *machines_.back();
}

link& network::link_between(machine& from, const machine& to) {
    if (from.links.size() <= to.index) from.links.resize(to.index + 1);
    std::unique_ptr<link>& there = from.links[to.index];
    if (there == nullptr) there = std::make_unique<link>();
    return *there;
}

/// Before anything is sent between them: packets are under way where nothing may fail.
bool network::make_links(machine& one, machine& other) noexcept {
    if (&one == &other) return true;
    try {
        link_between(one, other);
        link_between(other, one);
    } catch (const std::bad_alloc&) {
        return false;
    }
    return true;
}

link& network::between(const machine& from, const machine& to) noexcept { return *from.links[to.index]; }

machine* network::machine_at(const raw_address& host) const noexcept {
    for (const auto& m : machines_)
        if (m->owns(host)) return m.get();
    return nullptr;
}

machine* network::machine_for(machine& from, const raw_address& to) const noexcept {
    if (is_loopback(to)) return &from;
    if (from.has_addresses()) return machine_at(to);
    return from.somebody_has(to) ? &from : nullptr;
}

void network::crash(machine& m, bool silently) noexcept {
    while (!m.listeners.empty()) {
        socket& listener = *m.listeners.front();
        if (silently) {
            // Who was held back sends its SYN again, to nobody.
            while (!listener.held_back.empty()) {
                socket& client = listener.held_back.pop();
                post({packet::kind::syn, &client});
                --client.packets;
            }
            for (socket* child : listener.pending) {
                child->dead = child->unannounced = true;
                child->listener = nullptr;
                release(*child);
            }
            listener.pending.clear();
        }
        close_listener(listener);
        listener.state = phase::fresh;
    }
    m.sockets.for_each([&](socket& s) {
        m.take_port(s, 0);
        if (s.state != phase::connected || s.dead) return;
        if (silently) {
            s.dead = s.unannounced = true;
        } else {
            abort(s);
        }
    });
    m.up = false;
    for (std::size_t i = 0; i < m.table.size(); ++i) {
        socket* const s = m.table[i];
        if (s == nullptr) continue;
        leave_table(*s);
        release(*s);
    }
}

socket* machine::find(int fd) const noexcept {
    const std::int64_t first = first_descriptor + std::int64_t{descriptors_per_machine} * index;
    const auto at = static_cast<std::size_t>(fd - first);
    return at < table.size() ? table[at] : nullptr;
}

time_point machine::local_time() const noexcept {
    const time_point world = std::max(of.now(), busy_until);
    if (drift == 0 && drift_since == time_point{}) return world;
    __extension__ using wide = __int128;
    const wide passed = (world - drift_since).count();
    const wide local = drift_since_local.time_since_epoch().count() + passed + passed * drift / 1'000'000;
    return time_point(duration(static_cast<std::int64_t>(std::min<wide>(local, last_moment.time_since_epoch().count()))));
}

/// The first moment at which local_time() is at least `local`.
time_point machine::world_time(time_point local) const noexcept {
    if (local == never || (drift == 0 && drift_since == time_point{})) return local;
    __extension__ using wide = __int128;
    const wide passed = (local - drift_since_local).count();
    if (passed <= 0) return drift_since;
    const wide world = (passed * 1'000'000 + 999'999 + drift) / (1'000'000 + drift);
    const wide most = (last_moment - drift_since).count();  // one that gains may show a moment the world has not
    return drift_since + duration(static_cast<std::int64_t>(std::min(world, most)));
}

half& machine::take_due(std::size_t n) noexcept {
    RONDO_ASSERT(n < due_count, "nobody there");
    detail::links* at = &due.front();
    while (n-- > 0) at = at->next_link;
    at->unlink();
    --due_count;
    return static_cast<half&>(*at);
}

// Descriptors and sockets.

socket* network::create(machine& m, raw_address::family family) noexcept {
    auto* s = new (std::nothrow) socket(m, family);
    if (s == nullptr) return nullptr;
    m.sockets.push_back(*s);
    ++all_count_;
    if (make_room()) return s;
    discard(*s);
    return nullptr;
}

/// Gives `s` a number.
int network::enter(socket& s) noexcept {
    machine& m = s.home;
    if (m.open >= m.descriptor_limit || lacks(s, &shortages::descriptors)) return -EMFILE;
    while (m.lowest_free < m.table.size() && m.table[m.lowest_free] != nullptr) ++m.lowest_free;
    if (m.lowest_free == m.table.size()) {
        if (m.lowest_free == descriptors_per_machine) return -ENFILE;
        if (!reserve(m.table, m.table.size() + 1)) return -ENOMEM;
        m.table.push_back(nullptr);
    }
    m.table[m.lowest_free] = &s;
    ++m.open;
    s.fd = first_descriptor + static_cast<int>(m.index) * descriptors_per_machine +
           static_cast<int>(m.lowest_free++);
    return s.fd;
}

void network::leave_table(socket& s) noexcept {
    machine& m = s.home;
    const auto index = static_cast<std::size_t>(
        s.fd - first_descriptor - static_cast<int>(m.index) * descriptors_per_machine);
    m.table[index] = nullptr;
    m.lowest_free = std::min(m.lowest_free, index);
    --m.open;
    s.fd = -1;
}

/// Whether the machine of `s` has just run out of something.
bool network::lacks(const socket& s, std::uint32_t shortages::*what) noexcept {
    return oracle_.happens(choice::resource_error, s.home.lacks.*what);
}

/// Frees `s`, and the other end with it, once neither the program nor the network needs them.
void network::release(socket& s) noexcept {
    const auto needed = [](const socket& x) { return !x.closed() || x.packets > 0; };
    if (needed(s)) return;
    if (s.peer != nullptr) {
        if (needed(*s.peer)) return;
        discard(*s.peer);
    }
    discard(s);
}

void network::discard(socket& s) noexcept {
    RONDO_ASSERT(!s.reader.linked() && !s.writer.linked() && !s.closer.linked(), "an op is left");
    s.home.take_port(s, 0);
    s.unlink();
    --all_count_;
    delete &s;
}

int network::open(machine& m, raw_address::family family) noexcept {
    if (family == family::none) return -EAFNOSUPPORT;
    socket* s = create(m, family);
    if (s == nullptr) return -ENOMEM;
    const int fd = lacks(*s, &shortages::memory)    ? -ENOMEM
                   : lacks(*s, &shortages::buffers) ? -ENOBUFS
                                                    : enter(*s);
    if (fd < 0) {
        discard(*s);
    } else {
        update(*s);
    }
    return fd;
}

int network::pair(machine& m, int (&fds)[2]) noexcept {
    socket* ends[2] = {create(m, family::none), create(m, family::none)};
    int result = ends[0] != nullptr && ends[1] != nullptr ? 0 : -ENOMEM;
    for (int i = 0; i < 2 && result >= 0; ++i) result = fds[i] = enter(*ends[i]);
    if (result < 0) {
        for (socket* s : ends) {
            if (s != nullptr && s->fd >= 0) {
                close(*s);
            } else if (s != nullptr) {
                discard(*s);
            }
        }
        return result;
    }
    for (int i = 0; i < 2; ++i) {
        ends[i]->peer = ends[1 - i];
        ends[i]->state = phase::connected;
        ends[i]->latency = duration::zero();
    }
    for (socket* s : ends) update(*s);
    return 0;
}

void network::close(socket& s) noexcept {
    RONDO_ASSERT(!s.reader.op && !s.writer.op && !s.closer.op, "close while an op is armed");
    if (s.state == phase::listening) {
        close_listener(s);
    } else if (s.state == phase::connected) {
        // Bytes nobody has read will never be: the peer must not believe that they were.
        if (s.reset_on_close || s.arrived > 0) {
            abort(s);
        } else {
            s.peer->ending = true;
            transmit(*s.peer);
        }
    }
    leave_table(s);
    release(s);
}

/// Whoever was in its queue is told.
void network::close_listener(socket& s) noexcept {
    std::erase(s.home.listeners, &s);
    for (socket* child : s.pending) {
        abort(*child);
        child->listener = nullptr;
        release(*child);
    }
    s.pending.clear();
    while (!s.held_back.empty()) {
        socket& client = s.held_back.pop();
        --client.packets;
        syn_arrived(client);
        release(client);
    }
}

// Addresses.

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

bool machine::port_taken(const socket& s, const raw_address& address,
                         bool to_listen) const noexcept {
    bool taken = false;
    sockets.for_each([&](const socket& other) {
        if (&other == &s || other.local.port != address.port) return;
        if (!covers(other.local, other.v6_only, address) &&
            !covers(address, s.v6_only, other.local))
            return;
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
    if (m.has_addresses() && !is_any(local) && !is_loopback(local) && !m.owns(local))
        return -EADDRNOTAVAIL;
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
    if (s.state != phase::connected || over(s)) return -ENOTCONN;
    out = as_seen(s.family, s.remote);
    return 0;
}

// Options.

int network::set_option(socket& s, sys_op::option which, int value) noexcept {
    constexpr int buffer_limit = 16 << 20;
    const auto buffer = static_cast<std::uint32_t>(std::clamp(value, 1, buffer_limit));
    switch (which) {
        case sys_op::option::no_delay: s.no_delay = value != 0; return 0;
        case sys_op::option::keep_alive: s.keep_alive = value != 0; return 0;
        case sys_op::option::reuse_address: s.reuse_address = value != 0; return 0;
        case sys_op::option::reuse_port: s.reuse_port = value != 0; return 0;
        case sys_op::option::v6_only:
            if (s.family != family::v6) return -ENOPROTOOPT;
            if (s.local.port != 0) return -EINVAL;
            s.v6_only = value != 0;
            return 0;
        case sys_op::option::receive_buffer:
            if (!make_room()) return -ENOMEM;
            s.receive_buffer = buffer;
            transmit(s);
            return 0;
        case sys_op::option::send_buffer:
            s.send_buffer = buffer;
            update(s);
            return 0;
        case sys_op::option::error: break;
    }
    return -ENOPROTOOPT;
}

int network::get_option(socket& s, sys_op::option which, int& value) noexcept {
    switch (which) {
        case sys_op::option::no_delay: value = s.no_delay; return 0;
        case sys_op::option::keep_alive: value = s.keep_alive; return 0;
        case sys_op::option::reuse_address: value = s.reuse_address; return 0;
        case sys_op::option::reuse_port: value = s.reuse_port; return 0;
        case sys_op::option::v6_only:
            if (s.family != family::v6) return -ENOPROTOOPT;
            value = s.v6_only;
            return 0;
        case sys_op::option::receive_buffer: value = static_cast<int>(s.receive_buffer); return 0;
        case sys_op::option::send_buffer: value = static_cast<int>(s.send_buffer); return 0;
        case sys_op::option::error: value = -take_error(s, 0); return 0;
    }
    return -ENOPROTOOPT;
}

// Connecting.

int network::listen(socket& s, int backlog) noexcept {
    constexpr std::uint32_t backlog_limit = 4096;  // SOMAXCONN; also what -1 asks for
    const auto wanted = std::min(static_cast<std::uint32_t>(backlog), backlog_limit);
    if (s.state != phase::fresh && s.state != phase::listening) return -EINVAL;
    machine& m = s.home;
    if (s.local.port != 0 && m.port_taken(s, s.local, true)) return -EADDRINUSE;
    // One more than it says, as on Linux.
    if (!make_room() || !reserve(m.listeners, m.listeners.size() + 1) ||
        !reserve(s.pending, wanted + 1))
        return -ENOMEM;
    if (s.local.port == 0) {
        const std::uint16_t port = m.free_port();
        if (port == 0) return -EADDRINUSE;
        m.take_port(s, port);
    }
    if (s.state == phase::fresh) m.listeners.push_back(&s);
    s.state = phase::listening;
    s.backlog = wanted;
    update(s);
    admit_held_back(s);
    return 0;
}

int network::connect(socket& s, const raw_address& to) noexcept {
    switch (s.state) {
        case phase::listening: return -EISCONN;
        case phase::connecting: return -EALREADY;
        case phase::connected:
            if (!s.unreported) return -EISCONN;
            s.unreported = false;
            return take_error(s, 0);
        case phase::failed:  // having said so, it may try again
            s.state = phase::fresh;
            return take_error(s, -ECONNABORTED);
        case phase::fresh: break;
    }
    if (const int error = unfit(s, to); error != 0) return error;
    if (s.v6_only && is_mapped(to)) return -ENETUNREACH;
    raw_address remote = unmapped(to);
    if (is_any(remote)) remote = loopback(remote.kind, remote.port);
    machine* const there = machine_for(s.home, remote);
    if (there == nullptr) return -ENETUNREACH;
    if (!make_room() || !make_links(s.home, *there)) return -ENOMEM;
    if (s.local.port == 0) {
        const std::uint16_t port = s.home.free_port();
        if (port == 0) return -EADDRNOTAVAIL;
        s.home.take_port(s, port);
    }
    if (is_any(s.local)) choose_local_address(s, remote);
    s.toward = there;
    s.remote = remote;
    s.state = phase::connecting;
    update(s);
    post({packet::kind::syn, &s});
    return -EINPROGRESS;
}

/// Where a packet to `remote` comes from.
void network::choose_local_address(socket& s, const raw_address& remote) noexcept {
    const std::uint16_t port = s.local.port;
    const machine& m = s.home;
    if (is_loopback(remote)) {
        s.local = loopback(remote.kind, port);
    } else if (m.has_addresses()) {
        s.local = remote.kind == family::v4 ? m.v4 : m.v6;
    } else {
        s.local = remote;
    }
    s.local.port = port;
}

void network::syn_arrived(socket& client) noexcept {
    if (client.closed() || client.state != phase::connecting || client.peer != nullptr) return;
    machine& m = *client.toward;
    socket* listener = m.listener_for(client.remote);
    if (listener != nullptr && listener->pending.size() > listener->backlog) {
        ++client.packets;
        listener->held_back.push(client);
        return;
    }
    socket* child = listener != nullptr ? create(m, listener->family) : nullptr;
    if (child == nullptr) {
        post({packet::kind::refusal, &client});
        return;
    }
    child->state = phase::connected;
    child->local = client.remote;
    child->local.port = 0;
    m.take_port(*child, client.remote.port);
    child->remote = client.local;
    child->toward = &client.home;
    child->reuse_address = listener->reuse_address;
    child->reuse_port = listener->reuse_port;
    child->v6_only = listener->v6_only;
    child->no_delay = listener->no_delay;
    child->keep_alive = listener->keep_alive;
    child->send_buffer = listener->send_buffer;
    child->receive_buffer = listener->receive_buffer;
    child->peer = &client;
    client.peer = child;
    child->listener = listener;
    listener->pending.push_back(child);
    update(*child);
    post({packet::kind::syn_ack, &client});
}

void network::syn_ack_arrived(socket& client) noexcept {
    if (client.closed()) {
        abort(client);
        return;
    }
    if (client.state != phase::connecting) return;  // a copy
    client.state = phase::connected;
    client.unreported = true;
    update(client);
    post({packet::kind::ack, client.peer});
}

void network::ack_arrived(socket& child) noexcept {
    if (child.listener == nullptr || child.established) return;
    child.established = true;
    ++child.listener->acceptable;
    update(*child.listener);
}

void network::refused(socket& client) noexcept {
    if (client.state != phase::connecting) return;  // a copy
    client.state = phase::failed;
    client.error = ECONNREFUSED;
    update(client);
}

int network::accept(socket& s) noexcept {
    if (s.state != phase::listening) return -EINVAL;
    if (s.acceptable == 0) return -EAGAIN;
    if (!make_room() || lacks(s, &shortages::memory)) return -ENOMEM;
    if (lacks(s, &shortages::buffers)) return -ENOBUFS;
    auto skip = oracle_.choose(choice::accept_order, s.acceptable);
    const auto chosen = std::find_if(s.pending.begin(), s.pending.end(), [&](const socket* child) {
        return child->established && skip-- == 0;
    });
    socket& child = **chosen;
    const bool aborted = lacks(s, &shortages::aborted);
    const int fd = aborted ? -EAGAIN : enter(child);
    if (fd < 0 && !aborted) return fd;
    if (aborted) abort(child);
    child.listener = nullptr;
    s.pending.erase(chosen);
    --s.acceptable;
    update(s);
    admit_held_back(s);
    if (!aborted) return fd;
    release(child);
    return accept(s);  // the next one, as the backends of real kernels do after ECONNABORTED
}

void network::admit_held_back(socket& listener) noexcept {
    while (!listener.held_back.empty() && listener.pending.size() <= listener.backlog) {
        socket& client = listener.held_back.pop();
        --client.packets;
        syn_arrived(client);
        release(client);
    }
}

// Bytes.

int network::receive(socket& s, void* into, std::size_t size) noexcept {
    switch (s.state) {
        case phase::fresh:
        case phase::listening: return -ENOTCONN;
        case phase::connecting: return -EAGAIN;
        case phase::failed: return take_error(s, 0);
        case phase::connected: break;
    }
    if (s.arrived == 0) {
        if (s.end_arrived) return 0;  // before any error, as on Linux
        if (s.dead) return take_error(s, 0);
        return -EAGAIN;
    }
    if (!make_room()) return -ENOMEM;
    auto count = static_cast<std::uint32_t>(std::min<std::size_t>(size, s.arrived));
    if (count == 0) return 0;
    if (const auto fewer = oracle_.choose(choice::receive_size, count); fewer != 0) count = fewer;
    s.bytes.take(into, count);
    s.arrived -= count;
    s.sent -= count;
    transmit(s);
    update(s);
    return static_cast<int>(count);
}

int network::send(socket& s, const void* from, std::size_t size) noexcept {
    if (s.state == phase::connecting) return -EAGAIN;
    if (s.state != phase::connected) return take_error(s, -EPIPE);
    if (s.dead || s.peer->ending) return take_error(s, -EPIPE);
    // What a real pair knows at once, TCP learns from the answer to the first bytes.
    if (s.latency == duration::zero() && s.peer->closed()) return -EPIPE;
    if (space(s) == 0) return -EAGAIN;
    if (!make_room()) return -ENOMEM;
    auto count = static_cast<std::uint32_t>(std::min<std::size_t>(size, space(s)));
    if (count == 0) return 0;
    if (const auto fewer = oracle_.choose(choice::send_size, count); fewer != 0) count = fewer;
    if (!s.peer->bytes.append(from, count)) return -ENOMEM;
    transmit(*s.peer);
    update(s);
    return static_cast<int>(count);
}

int network::shutdown_write(socket& s) noexcept {
    if (s.state == phase::listening) return 0;
    if (s.state != phase::connected || over(s)) return -ENOTCONN;
    if (!make_room()) return -ENOMEM;
    s.peer->ending = true;
    transmit(*s.peer);
    update(s);
    return 0;
}

/// Puts on the wire to `to` what its window has room for; behind the last byte, the end.
void network::transmit(socket& to) noexcept {
    if (to.bytes.size() == to.sent && (!to.ending || to.end_sent)) return;
    if (to.peer == nullptr || to.peer->dead || (to.dead && !to.unannounced)) return;
    const bool by_link = to.by_link();
    const std::uint32_t most = by_link ? between(*to.toward, to.home).packet_size : ~0u;
    do {
        const std::uint32_t window = to.receive_buffer > to.sent ? to.receive_buffer - to.sent : 0;
        const std::uint32_t count = std::min({window, to.bytes.size() - to.sent, most});
        const bool last = to.ending && !to.end_sent && to.sent + count == to.bytes.size();
        if (count == 0 && !last) return;
        to.sent += count;
        to.end_sent |= last;
        packet p{packet::kind::data, &to, count, last};
        p.data_number = to.data_sent++;
        post(p);
    } while (by_link && make_room());
}

/// False when there was no memory to keep it: then it has not arrived.
bool network::data_arrived(socket& to, std::uint64_t number, std::uint32_t size, bool last) noexcept {
    if (to.dead) {
        if (std::exchange(to.unannounced, false)) post({packet::kind::reset, to.peer});
        return true;
    }
    if (number < to.data_arrived) return true;  // a copy
    if (to.closed() && size > 0) {
        abort(to);  // nobody is there to read
        return true;
    }
    const auto at = std::find_if(to.early.begin(), to.early.end(),
                                 [&](const socket::piece& p) { return p.number >= number; });
    if (number > to.data_arrived) {
        if (at != to.early.end() && at->number == number) return true;
        try {
            to.early.insert(at, {number, size, last});
        } catch (const std::bad_alloc&) {
            return false;
        }
        return true;
    }
    const auto append = [&](std::uint32_t bytes, bool end) {
        to.arrived += bytes;
        to.end_arrived |= end;
        ++to.data_arrived;
    };
    append(size, last);
    std::size_t joined = 0;
    while (joined < to.early.size() && to.early[joined].number == to.data_arrived) {
        append(to.early[joined].size, to.early[joined].last);
        ++joined;
    }
    to.early.erase(to.early.begin(), to.early.begin() + static_cast<std::ptrdiff_t>(joined));
    update(to);
    update(*to.peer);  // its send buffer has room again
    return true;
}

/// Ends the connection of `s` with a reset to its peer, if there is anything left to end.
void network::abort(socket& s) noexcept {
    if (over(s)) return;
    s.dead = true;
    s.peer->bytes.truncate(s.peer->sent);
    post({packet::kind::reset, s.peer});
}

void network::reset_arrived(socket& to) noexcept {
    if (to.dead) return;
    to.dead = true;
    to.error = to.end_arrived ? EPIPE : ECONNRESET;  // what has arrived can still be read before
    to.peer->bytes.clear();
    to.peer->arrived = to.peer->sent = 0;
    if (to.listener != nullptr && !to.established) return drop_pending(to);
    update(to);
}

/// The client of a connection that accept has not seen gave up: accept never sees it.
void network::drop_pending(socket& child) noexcept {
    socket& listener = *std::exchange(child.listener, nullptr);
    std::erase(listener.pending, &child);
    admit_held_back(listener);
}

/// What `s` has sent was never acknowledged.
void network::timed_out(socket& s) noexcept {
    if (s.dead) return;
    s.dead = s.unannounced = true;
    s.error = ETIMEDOUT;
    update(s);
}

// Readiness.

void network::update(socket& s) noexcept {
    update(s.reader, readable(s));
    update(s.writer, writable(s));
}

void network::update(half& h, bool ready) noexcept {
    if (!ready) {
        h.since = 0;
    } else if (h.since == 0) {
        h.since = ++order_;
        if (h.op != nullptr) make_due(h);
    }
}

void network::make_due(half& h) noexcept {
    if (h.linked()) return;
    h.place = h.since != 0 ? h.since : ++order_;
    machine& m = h.of.home;
    m.due.insert_ordered(h, [&](const half& other) { return other.place < h.place; });
    ++m.due_count;
}

void network::record(std::uint32_t what, int fd, std::int64_t result) noexcept {
    ++events_;
    const std::uint64_t words[] = {what, static_cast<std::uint64_t>(fd),
                                   static_cast<std::uint64_t>(result),
                                   static_cast<std::uint64_t>(moment_.time_since_epoch().count())};
    for (const std::uint64_t word : words) {
        hash_ = (hash_ ^ word) * 0x100000001b3;  // FNV-1a, by words ...
        hash_ ^= hash_ >> 32;                    // ... so that high bits count, too
    }
}

// byte_queue

bool byte_queue::grow(std::uint32_t wanted) noexcept {
    std::uint32_t capacity = std::max(capacity_, 1024u);
    while (capacity < wanted) capacity *= 2;
    std::unique_ptr<std::byte[]> data(new (std::nothrow) std::byte[capacity]);
    if (data == nullptr) return false;
    const std::uint32_t size = size_;
    take(data.get(), size);
    data_ = std::move(data);
    capacity_ = capacity;
    head_ = 0;
    size_ = size;
    return true;
}

bool byte_queue::append(const void* from, std::uint32_t count) noexcept {
    if (size_ + count > capacity_ && !grow(size_ + count)) return false;
    const auto* bytes = static_cast<const std::byte*>(from);
    const std::uint32_t tail = (head_ + size_) & (capacity_ - 1);
    const std::uint32_t first = std::min(count, capacity_ - tail);
    std::memcpy(data_.get() + tail, bytes, first);
    std::memcpy(data_.get(), bytes + first, count - first);
    size_ += count;
    return true;
}

void byte_queue::take(void* into, std::uint32_t count) noexcept {
    RONDO_ASSERT(count <= size_, "more than there is");
    if (count == 0) return;
    auto* bytes = static_cast<std::byte*>(into);
    const std::uint32_t first = std::min(count, capacity_ - head_);
    std::memcpy(bytes, data_.get() + head_, first);
    std::memcpy(bytes + first, data_.get(), count - first);
    head_ = (head_ + count) & (capacity_ - 1);
    size_ -= count;
}

void byte_queue::clear() noexcept {
    data_.reset();
    capacity_ = head_ = size_ = 0;
}

}  // namespace rondo::simulated
