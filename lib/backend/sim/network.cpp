#include "network.hpp"

#include "addresses.hpp"
#include "socket_state.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace rondo::simulated {

// Machines.

network::network(oracle& decisions) noexcept : oracle_(decisions) {}

network::~network() {
    for (const packet& p : packets_) message::drop(p.content);
    for (const auto& m : machines_)
        while (!m->sockets.empty()) discard(m->sockets.front());
}

machine& network::add_machine(const raw_address& v4, const raw_address& v6) {
    machines_.push_back(std::make_unique<machine>(*this, static_cast<std::uint32_t>(machines_.size()), v4, v6));
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

static int first_descriptor_of(const machine& m) {
    return first_descriptor + static_cast<int>(m.index) * descriptors_per_machine;
}

/// One that has gone with the letter in which it was; null if there is none.
static socket* only_in_letters(machine& m) {
    socket* found = nullptr;
    m.sockets.for_each([&](socket& s) {
        const auto gone = [](const socket& x) { return x.closed() && x.packets == 0; };
        if (gone(s) && (s.peer == nullptr || gone(*s.peer))) found = &s;
    });
    return found;
}

void network::crash(machine& m, bool silently) noexcept {
    m.sockets.for_each([](socket& s) {
        while (!s.letters.empty()) {
            letter& lost = s.letters.pop();
            for (socket* held : lost.rights()) --held->held;
            std::free(&lost);
        }
        s.letter_count = s.letters_size = 0;
    });
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
    m.datagram_sockets.clear();
    m.sockets.for_each([&](socket& s) {
        m.take_port(s, 0);
        stop_probing(s);
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
        leave_table(*s, first_descriptor_of(m) + static_cast<int>(i));
        release(*s);
    }
    while (socket* const lost = only_in_letters(m)) release(*lost);
    if (silently) watch_peers();
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
    const wide most = last_moment.time_since_epoch().count();
    return time_point(duration(static_cast<std::int64_t>(std::min(local, most))));
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

socket* network::create(machine& m, family kind, bool datagrams) noexcept {
    auto* s = new (std::nothrow) socket(m, kind, datagrams);
    if (s == nullptr) return nullptr;
    m.sockets.push_back(*s);
    ++all_count_;
    if (make_room()) return s;
    discard(*s);
    return nullptr;
}

/// Gives `s` a number, perhaps one more.
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
    ++s.numbers;
    const int fd = first_descriptor_of(m) + static_cast<int>(m.lowest_free++);
    if (s.fd < 0) s.fd = fd;
    return fd;
}

void network::leave_table(socket& s, int fd) noexcept {
    machine& m = s.home;
    const auto index = static_cast<std::size_t>(fd - first_descriptor_of(m));
    m.table[index] = nullptr;
    m.lowest_free = std::min(m.lowest_free, index);
    --m.open;
    --s.numbers;
    if (s.fd != fd) return;
    const auto other = s.numbers > 0 ? std::find(m.table.begin(), m.table.end(), &s) : m.table.end();
    s.fd = other != m.table.end() ? first_descriptor_of(m) + static_cast<int>(other - m.table.begin()) : -1;
}

/// Whether the machine of `s` has just run out of something.
bool network::lacks(const socket& s, std::uint32_t shortages::* what) noexcept {
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
    while (!s.inbox.empty()) message::drop(&s.inbox.pop());
    while (!s.letters.empty()) std::free(&s.letters.pop());
    s.unlink();
    --all_count_;
    delete &s;
}

int network::open(machine& m, family kind, bool datagrams) noexcept {
    if (kind == family::none) return -EAFNOSUPPORT;
    if (datagrams && !reserve(m.datagram_sockets, m.datagram_sockets.size() + 1)) return -ENOMEM;
    socket* s = create(m, kind, datagrams);
    if (s == nullptr) return -ENOMEM;
    const int fd = lacks(*s, &shortages::memory) ? -ENOMEM : lacks(*s, &shortages::buffers) ? -ENOBUFS : enter(*s);
    if (fd < 0) {
        discard(*s);
    } else {
        if (datagrams) m.datagram_sockets.push_back(s);
        update(*s);
    }
    return fd;
}

int network::pair(machine& m, unix_type type, int (&fds)[2]) noexcept {
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
        ends[i]->type = type;
        if (type != unix_type::stream) ends[i]->send_buffer = message_buffer;
        ends[i]->latency = duration::zero();
        if (type == unix_type::datagram) {
            ends[i]->aim = ends[1 - i];
            continue;
        }
        ends[i]->peer = ends[1 - i];
        ends[i]->state = phase::connected;
    }
    for (socket* s : ends) update(*s);
    return 0;
}

int network::watch_clock(machine& m) noexcept {
    socket* const s = create(m, family::none);
    if (s == nullptr) return -ENOMEM;
    const int fd = enter(*s);
    if (fd < 0) {
        discard(*s);
    } else {
        s->watches_clock = true;
    }
    return fd;
}

int network::watch_clock_anew(socket& s) noexcept {
    if (!s.watches_clock) return -EINVAL;
    update(s.reader, false);
    return 0;
}

void network::set_wall_offset(machine& m, duration ahead) noexcept {
    if (m.wall_offset == ahead) return;
    m.wall_offset = ahead;
    m.sockets.for_each([&](socket& s) {
        if (s.watches_clock && !s.closed()) update(s.reader, true);
    });
}

void network::close(socket& s) noexcept {
    RONDO_ASSERT(!s.reader.op && !s.writer.op && !s.closer.op, "close while an op is armed");
    end(s);
    leave_table(s, s.fd);
    release(s);
}

void network::close_number(socket& s, int fd) noexcept { leave_table(s, fd); }

/// What its peers notice when nobody has it any more.
void network::end(socket& s) noexcept {
    stop_probing(s);
    if (s.datagrams) {
        close_datagrams(s);
    } else if (s.state == phase::listening) {
        close_listener(s);
    } else if (s.state == phase::connected) {
        // Bytes nobody has read will never be: the peer must not believe that they were.
        if (s.reset_on_close || s.arrived > 0 || s.letter_count > 0) {
            abort(s);
        } else {
            s.peer->ending = true;
            transmit(*s.peer);
        }
    }
    if (s.is_unix()) forget_aim(s);
    drop_letters(s);
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

// Options.

int network::set_option(socket& s, sys_op::option which, int value) noexcept {
    constexpr int buffer_limit = 16 << 20;
    constexpr int seconds_limit = 32767, count_limit = 127;
    const auto is_from_1_to = [&](int most) { return value >= 1 && value <= most; };
    const auto buffer = static_cast<std::uint32_t>(std::clamp(value, 1, buffer_limit));
    switch (which) {
        case sys_op::option::no_delay: s.no_delay = value != 0; return 0;
        case sys_op::option::keep_alive:
            if (value != 0 && !s.keep_alive) s.heard_at = moment_;
            s.keep_alive = value != 0;
            s.keep_alive ? watch_peer(s) : stop_probing(s);
            return 0;
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
        case sys_op::option::broadcast: s.broadcast = value != 0; return 0;
        case sys_op::option::ttl:
            if (value < 1 || value > 255) return -EINVAL;
            s.ttl = value;
            return 0;
        case sys_op::option::multicast_ttl:
            if (value < 0 || value > 255) return -EINVAL;
            s.multicast_ttl = value;
            return 0;
        case sys_op::option::multicast_loop: s.multicast_loop = value != 0; return 0;
        case sys_op::option::multicast_interface:
            if (is_interface(value)) return 0;
            return s.family == family::v4 ? -EADDRNOTAVAIL : -ENODEV;
        case sys_op::option::receive_segments:
        case sys_op::option::keep_alive_idle:
        case sys_op::option::keep_alive_interval:
            if (s.family == family::none) return -EOPNOTSUPP;
            if (!is_from_1_to(seconds_limit)) return -EINVAL;
            (which == sys_op::option::keep_alive_idle ? s.keep_idle : s.keep_interval) = std::chrono::seconds(value);
            return 0;
        case sys_op::option::keep_alive_count:
            if (s.family == family::none) return -EOPNOTSUPP;
            if (!is_from_1_to(count_limit)) return -EINVAL;
            s.keep_count = value;
            return 0;
        case sys_op::option::user_timeout:
            if (s.family == family::none) return -EOPNOTSUPP;
            if (value < 0) return -EINVAL;
            s.user_timeout = std::chrono::milliseconds(value);
            return 0;
        case sys_op::option::cork:
            if (s.family == family::none) return -EOPNOTSUPP;
            s.cork = value != 0;
            return 0;
        case sys_op::option::late_port: return 0;
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
        case sys_op::option::error:
            value = -take_error(s, 0);
            if (s.datagrams) update(s);
            return 0;
        case sys_op::option::broadcast: value = s.broadcast; return 0;
        case sys_op::option::ttl: value = s.ttl; return 0;
        case sys_op::option::multicast_ttl: value = s.multicast_ttl; return 0;
        case sys_op::option::multicast_loop: value = s.multicast_loop; return 0;
        case sys_op::option::keep_alive_idle: value = static_cast<int>(s.keep_idle / std::chrono::seconds(1)); return 0;
        case sys_op::option::keep_alive_interval:
            value = static_cast<int>(s.keep_interval / std::chrono::seconds(1));
            return 0;
        case sys_op::option::keep_alive_count: value = s.keep_count; return 0;
        case sys_op::option::user_timeout:
            value = static_cast<int>(s.user_timeout / std::chrono::milliseconds(1));
            return 0;
        case sys_op::option::cork: value = s.cork; return 0;
        case sys_op::option::multicast_interface:
        case sys_op::option::receive_segments:
        case sys_op::option::late_port: break;
    }
    return -ENOPROTOOPT;
}

// Readiness.

namespace {

bool readable(const socket& s) {
    if (s.datagrams) return !s.inbox.empty() || s.error != 0;
    if (s.type == unix_type::datagram) return !s.letters.empty() || s.read_ended;
    switch (s.state) {
        case phase::fresh:
        case phase::failed: return true;  // poll says "hung up"
        case phase::listening: return s.acceptable > 0;
        case phase::connecting: return false;
        case phase::connected: break;
    }
    return s.arrived > 0 || !s.letters.empty() || s.end_arrived || s.dead || s.read_ended;
}

bool writable(const socket& s) {
    if (s.datagrams) return s.unsent_size <= s.send_buffer / 2 || s.error != 0;
    if (s.type == unix_type::datagram) return s.aim == nullptr || has_room(*s.aim, s);
    switch (s.state) {
        case phase::fresh:
        case phase::failed: return true;
        case phase::listening:
        case phase::connecting: return false;
        case phase::connected: break;
    }
    if (s.dead || s.peer->ending) return true;
    if (s.type == unix_type::packet) return has_room(*s.peer, s);
    // Only when a third is free, as on Linux: else each small read would wake the writer.
    return space(s) > 0 && space(s) >= s.send_buffer / 3;
}

}  // namespace

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
    const std::uint64_t words[] = {what, static_cast<std::uint64_t>(fd), static_cast<std::uint64_t>(result),
                                   static_cast<std::uint64_t>(moment_.time_since_epoch().count())};
    for (const std::uint64_t word : words) {
        hash_ = (hash_ ^ word) * 0x100000001b3;  // FNV-1a, by words ...
        hash_ ^= hash_ >> 32;                    // ... so that high bits count, too
    }
}

}  // namespace rondo::simulated
