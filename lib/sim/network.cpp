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
    const std::uint32_t used = s.peer->bytes.size() - s.peer->arrived;
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

/// The order of the heap of packets: true when `a` acts after `b`.
bool later(const packet& a, const packet& b) {
    return a.at != b.at ? a.at > b.at : a.number > b.number;
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

// Descriptors and sockets.

network::network(oracle& decisions) noexcept : oracle_(decisions) {}

network::~network() {
    while (!all_.empty()) discard(all_.front());
}

socket* network::find(int fd) const noexcept {
    if (fd < first_descriptor) return nullptr;
    const auto index = static_cast<std::size_t>(fd - first_descriptor);
    return index < table_.size() ? table_[index] : nullptr;
}

socket* network::create(raw_address::family family) noexcept {
    auto* s = new (std::nothrow) socket(family);
    if (s == nullptr) return nullptr;
    all_.push_back(*s);
    ++all_count_;
    if (make_room()) return s;
    discard(*s);
    return nullptr;
}

/// Gives `s` a number.
int network::enter(socket& s) noexcept {
    while (lowest_free_ < table_.size() && table_[lowest_free_] != nullptr) ++lowest_free_;
    if (lowest_free_ == table_.size()) {
        if (!reserve(table_, table_.size() + 1)) return -ENOMEM;
        table_.push_back(nullptr);
    }
    table_[lowest_free_] = &s;
    ++open_;
    s.fd = first_descriptor + static_cast<int>(lowest_free_++);
    return s.fd;
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
    take_port(s, 0);
    s.unlink();
    --all_count_;
    delete &s;
}

int network::open(raw_address::family family) noexcept {
    if (family == family::none) return -EAFNOSUPPORT;
    socket* s = create(family);
    if (s == nullptr) return -ENOMEM;
    const int fd = enter(*s);
    if (fd < 0) {
        discard(*s);
    } else {
        update(*s);
    }
    return fd;
}

int network::pair(int (&fds)[2]) noexcept {
    socket* ends[2] = {create(family::none), create(family::none)};
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
        std::erase(listeners_, &s);
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
    } else if (s.state == phase::connected) {
        // Bytes nobody has read will never be: the peer must not believe that they were.
        if (s.reset_on_close || s.arrived > 0) {
            abort(s);
        } else {
            s.peer->ending = true;
            transmit(*s.peer);
        }
    }
    const auto index = static_cast<std::size_t>(s.fd - first_descriptor);
    table_[index] = nullptr;
    lowest_free_ = std::min(lowest_free_, index);
    --open_;
    s.fd = -1;
    release(s);
}

// Addresses.

/// Port 0: gives the port back.
void network::take_port(socket& s, std::uint16_t port) noexcept {
    if (s.local.port >= first_ephemeral) --port_users_[s.local.port - first_ephemeral];
    if (port >= first_ephemeral) ++port_users_[port - first_ephemeral];
    s.local.port = port;
}

/// The next free port for who does not care which; 0 when all are taken.
std::uint16_t network::free_port() noexcept {
    for (std::size_t tried = 0; tried < port_users_.size(); ++tried) {
        const std::size_t index = next_port_++ % port_users_.size();
        if (port_users_[index] == 0) return static_cast<std::uint16_t>(first_ephemeral + index);
    }
    return 0;
}

bool network::port_taken(const socket& s, const raw_address& address,
                         bool to_listen) const noexcept {
    bool taken = false;
    all_.for_each([&](const socket& other) {
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

bool network::reachable(const raw_address& host) const noexcept {
    if (is_loopback(host)) return true;
    bool found = false;
    all_.for_each([&](const socket& s) { found |= s.local.port != 0 && same_host(s.local, host); });
    return found;
}

/// The most specific one; among equals (reuse_port) the oldest.
socket* network::listener_for(const raw_address& to) const noexcept {
    socket* best = nullptr;
    int best_score = 0;
    for (socket* s : listeners_) {
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
    const std::uint16_t port = local.port != 0 ? local.port : free_port();
    if (port == 0 || (local.port != 0 && port_taken(s, local, false))) return -EADDRINUSE;
    s.local = local;
    s.local.port = 0;
    take_port(s, port);
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
    if (s.local.port != 0 && port_taken(s, s.local, true)) return -EADDRINUSE;
    // One more than it says, as on Linux.
    if (!make_room() || !reserve(listeners_, listeners_.size() + 1) ||
        !reserve(s.pending, wanted + 1))
        return -ENOMEM;
    if (s.local.port == 0) {
        const std::uint16_t port = free_port();
        if (port == 0) return -EADDRINUSE;
        take_port(s, port);
    }
    if (s.state == phase::fresh) listeners_.push_back(&s);
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
    if (!reachable(remote)) return -ENETUNREACH;
    if (!make_room()) return -ENOMEM;
    if (s.local.port == 0) {
        const std::uint16_t port = free_port();
        if (port == 0) return -EADDRNOTAVAIL;
        take_port(s, port);
    }
    if (is_any(s.local)) {
        const std::uint16_t port = s.local.port;
        s.local = is_loopback(remote) ? loopback(remote.kind, port) : remote;
        s.local.port = port;
    }
    s.remote = remote;
    s.state = phase::connecting;
    update(s);
    post({packet::kind::syn, &s});
    return -EINPROGRESS;
}

void network::syn_arrived(socket& client) noexcept {
    if (client.closed()) return;
    socket* listener = listener_for(client.remote);
    if (listener != nullptr && listener->pending.size() > listener->backlog) {
        ++client.packets;
        listener->held_back.push(client);
        return;
    }
    socket* child = listener != nullptr ? create(listener->family) : nullptr;
    if (child == nullptr) {
        post({packet::kind::refusal, &client});
        return;
    }
    child->state = phase::connected;
    child->local = client.remote;
    child->local.port = 0;
    take_port(*child, client.remote.port);
    child->remote = client.local;
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
    client.state = phase::connected;
    client.unreported = true;
    update(client);
    post({packet::kind::ack, client.peer});
}

void network::ack_arrived(socket& child) noexcept {
    if (child.listener == nullptr) return;
    child.established = true;
    ++child.listener->acceptable;
    update(*child.listener);
}

int network::accept(socket& s) noexcept {
    if (s.state != phase::listening) return -EINVAL;
    if (s.acceptable == 0) return -EAGAIN;
    if (!make_room()) return -ENOMEM;
    auto skip = oracle_.choose(choice::accept_order, s.acceptable);
    const auto chosen = std::find_if(s.pending.begin(), s.pending.end(), [&](const socket* child) {
        return child->established && skip-- == 0;
    });
    socket& child = **chosen;
    const int fd = enter(child);
    if (fd < 0) return fd;
    child.listener = nullptr;
    s.pending.erase(chosen);
    --s.acceptable;
    update(s);
    admit_held_back(s);
    return fd;
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
    if (to.peer == nullptr || to.dead || to.peer->dead) return;
    const std::uint32_t window = to.receive_buffer > to.sent ? to.receive_buffer - to.sent : 0;
    const std::uint32_t count = std::min(window, to.bytes.size() - to.sent);
    const bool last = to.ending && !to.end_sent && to.sent + count == to.bytes.size();
    if (count == 0 && !last) return;
    to.sent += count;
    to.end_sent |= last;
    post({packet::kind::data, &to, count, last});
}

void network::data_arrived(socket& to, std::uint32_t size, bool last) noexcept {
    if (to.dead) return;
    if (to.closed() && size > 0) {
        abort(to);  // nobody is there to read
        return;
    }
    to.arrived += size;
    to.end_arrived |= last;
    update(to);
    update(*to.peer);  // its send buffer has room again
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
    if (to.listener != nullptr && !to.established) {  // the client gave up: accept never sees it
        socket& listener = *to.listener;
        to.listener = nullptr;
        std::erase(listener.pending, &to);
        admit_held_back(listener);
        return;
    }
    update(to);
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
    due_.insert_ordered(h, [&](const half& other) { return other.place < h.place; });
    ++due_count_;
}

half& network::take_due(std::size_t n) noexcept {
    RONDO_ASSERT(n < due_count_, "nobody there");
    detail::links* at = &due_.front();
    while (n-- > 0) at = at->next_link;
    at->unlink();
    --due_count_;
    return static_cast<half&>(*at);
}

// Packets.

/// Makes sure that one packet can be posted now, and the last one of every socket whenever it is
/// due: closing must not fail. A packet that acts leaves its room to its answer.
bool network::make_room() noexcept { return reserve(packets_, packets_.size() + all_count_ + 1); }

void network::post(packet p) noexcept {
    ++p.to->packets;
    if (p.to->latency == duration::zero()) {
        act(p);
        --p.to->packets;
        return;
    }
    // Mostly short and now and then long: up to 9.6 ms.
    const std::uint32_t extra = oracle_.choose(choice::network_delay, 32);
    const duration way = p.to->latency + std::chrono::microseconds(10 * extra * extra);
    const duration left = last_moment - moment_;
    p.at = std::max(moment_ + std::min(way, left), p.to->last_arrival);
    p.to->last_arrival = p.at;
    p.number = ++packet_count_;
    packets_.push_back(p);
    std::push_heap(packets_.begin(), packets_.end(), later);
}

time_point network::next_arrival() const noexcept {
    return packets_.empty() ? never : packets_.front().at;
}

void network::deliver() noexcept {
    while (!packets_.empty() && packets_.front().at <= now_) {
        std::pop_heap(packets_.begin(), packets_.end(), later);
        const packet p = packets_.back();
        packets_.pop_back();
        moment_ = p.at;
        record(100 + static_cast<std::uint32_t>(p.what), p.to->fd, p.size);
        act(p);
        --p.to->packets;
        release(*p.to);
    }
    moment_ = now_;
}

void network::act(const packet& p) noexcept {
    switch (p.what) {
        case packet::kind::syn: return syn_arrived(*p.to);
        case packet::kind::syn_ack: return syn_ack_arrived(*p.to);
        case packet::kind::ack: return ack_arrived(*p.to);
        case packet::kind::refusal:
            p.to->state = phase::failed;
            p.to->error = ECONNREFUSED;
            return update(*p.to);
        case packet::kind::data: return data_arrived(*p.to, p.size, p.last);
        case packet::kind::reset: return reset_arrived(*p.to);
    }
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
