// TCP in the simulated network: how a connection begins, carries bytes, and ends. What travels between the two ends is
// in wire.cpp.
#include "addresses.hpp"
#include "network.hpp"
#include "socket_state.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace rondo::simulated {

// Connecting.

int network::listen(socket& s, int backlog) noexcept {
    constexpr std::uint32_t backlog_limit = 4096;  // SOMAXCONN; also what -1 asks for
    const auto wanted = std::min(static_cast<std::uint32_t>(backlog), backlog_limit);
    if (s.datagrams || s.type == unix_type::datagram) return -EOPNOTSUPP;
    if (s.state != phase::fresh && s.state != phase::listening) return -EINVAL;
    machine& m = s.home;
    const bool by_name = s.family == family::none;
    if (by_name && s.name.size == 0) return -EINVAL;
    if (s.local.port != 0 && m.port_taken(s, s.local, true)) return -EADDRINUSE;
    // One more than it says, as on Linux.
    if (!make_room() || !reserve(m.listeners, m.listeners.size() + 1) || !reserve(s.pending, wanted + 1))
        return -ENOMEM;
    if (s.local.port == 0 && !by_name) {
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
    if (s.datagrams) return connect_datagrams(s, to);
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
    child->keep_idle = listener->keep_idle;
    child->keep_interval = listener->keep_interval;
    child->keep_count = listener->keep_count;
    child->user_timeout = listener->user_timeout;
    child->heard_at = moment_;
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
    client.heard_at = moment_;
    update(client);
    post({packet::kind::ack, client.peer});
    watch_peer(client);
}

void network::ack_arrived(socket& child) noexcept {
    if (child.listener == nullptr || child.established) return;
    child.established = true;
    child.heard_at = moment_;
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
    const auto chosen = std::find_if(s.pending.begin(), s.pending.end(),
                                     [&](const socket* child) { return child->established && skip-- == 0; });
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

int network::receive(socket& s, void* into, std::size_t size, raw_message* with) noexcept {
    if (s.has_letters()) {  // by read(2), so to speak
        raw_message message{.data = into, .size = static_cast<std::uint32_t>(size)};
        std::uint32_t moved = 0;
        return receive_message(s, message, moved);
    }
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
        if (s.read_ended) return 0;
        return -EAGAIN;
    }
    if (!make_room()) return -ENOMEM;
    auto count = static_cast<std::uint32_t>(std::min<std::size_t>(size, s.arrived));
    if (count == 0) return 0;
    // What comes with descriptors ends a read, which has got them then.
    const letter* const next = s.letters.front();
    if (next != nullptr)
        count = static_cast<std::uint32_t>(std::min<std::uint64_t>(count, next->begin + next->size - s.consumed()));
    if (const auto fewer = oracle_.choose(choice::receive_size, count); fewer != 0) count = fewer;
    const bool reaches = next != nullptr && s.consumed() + count > next->begin;
    s.bytes.take(into, count);
    s.arrived -= count;
    s.sent -= count;
    const int lost = reaches ? deliver_to(s, take_from(s), with) : 0;
    transmit(s);
    update(s);
    if (s.is_pipe) update(*s.peer);  // what has arrived takes room until it is read
    return lost < 0 ? lost : static_cast<int>(count);
}

int network::send(socket& s, const void* from, std::size_t size) noexcept {
    if (s.has_letters()) {
        const raw_message message{.data = const_cast<void*>(from), .size = static_cast<std::uint32_t>(size)};
        return send_message(s, message, 0);
    }
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

/// The peer is not told, and may go on until the buffers are full.
int network::shutdown_read(socket& s) noexcept {
    if (s.state == phase::listening) return -EINVAL;
    if (s.state != phase::connected || over(s)) return -ENOTCONN;
    s.read_ended = true;
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
    const auto at =
        std::find_if(to.early.begin(), to.early.end(), [&](const socket::piece& p) { return p.number >= number; });
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
        to.received += bytes;
        to.end_arrived |= end;
        ++to.data_arrived;
    };
    append(size, last);
    to.heard_at = moment_;
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
    to.error = to.end_arrived || to.is_pipe ? EPIPE : ECONNRESET;  // what has arrived can still be read before
    to.undelivered = to.peer->bytes.size() - to.peer->arrived + to.peer->unacknowledged;
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

// Looking.

static tcp_state state_of(const socket& s) noexcept {
    switch (s.state) {
        case phase::fresh:
        case phase::failed: return tcp_state::closed;
        case phase::listening: return tcp_state::listening;
        case phase::connecting: return tcp_state::syn_sent;
        case phase::connected: break;
    }
    if (over(s)) return tcp_state::closed;
    if (s.listener != nullptr && !s.established) return tcp_state::syn_received;
    if (!s.peer->ending) return s.end_arrived ? tcp_state::close_wait : tcp_state::established;
    if (s.end_arrived) return tcp_state::last_ack;
    return s.peer->end_arrived ? tcp_state::fin_wait_2 : tcp_state::fin_wait_1;
}

int network::info(const socket& s, connection_info& into) const noexcept {
    if (s.family == family::none || s.datagrams) return -EOPNOTSUPP;
    into = {};
    into.state = state_of(s);
    into.rtt = s.rtt;
    into.rtt_variation = s.rtt_variation;
    into.retransmits = s.retransmits;
    into.total_retransmits = s.total_retransmits;
    into.bytes_received = s.received;
    if (s.peer == nullptr) return 0;
    const socket& far = *s.peer;
    into.bytes_acknowledged = far.received - far.unacknowledged;
    into.unsent = far.bytes.size() - far.sent;
    into.unacknowledged = s.undelivered + far.bytes.size() - far.arrived + far.unacknowledged;
    if (far.ending && !far.end_arrived) ++into.unacknowledged;
    return 0;
}

// Keep-alive.

/// Whether its peer's machine can answer it.
bool network::reaches_peer(const socket& s) const noexcept {
    return s.toward->up && between(s.home, *s.toward).cuts == 0 && between(*s.toward, s.home).cuts == 0;
}

void network::watch_peers() noexcept {
    for (const auto& m : machines_) m->sockets.for_each([&](socket& s) { watch_peer(s); });
}

/// Without memory for a timer nobody notices.
void network::watch_peer(socket& s) noexcept {
    if (!s.keep_alive || s.probing || s.state != phase::connected || s.dead || s.closed() || !s.by_link()) return;
    if (reaches_peer(s) && !s.peer->dead) return;
    const std::size_t wanted = packets_.size() + all_count_ + 2;  // for the timer, and for who posts then
    if (wanted > packets_.capacity() && !more_room(wanted)) return;
    // Those until now were answered.
    if (moment_ > s.heard_at) s.heard_at += (moment_ - s.heard_at) / s.keep_idle * s.keep_idle;
    s.probing = true;
    s.probes = 0;
    ++s.packets;
    packet timer{packet::kind::probe, &s};
    timer.waiting = true;
    timer.at = s.heard_at + std::min(s.keep_idle, last_moment - s.heard_at);
    put_under_way(timer);
}

/// False: there is no next one.
bool network::probe(packet timer) noexcept {
    socket& s = *timer.to;
    const auto again_after = [&](duration pause) {
        timer.at = moment_ + std::min(pause, last_moment - moment_);
        put_under_way(timer);
        return true;
    };
    s.probing = false;
    if (!s.keep_alive || s.dead || s.closed()) return false;
    if (reaches_peer(s)) {
        if (s.peer->dead) {
            if (std::exchange(s.peer->unannounced, false)) post({packet::kind::reset, &s});
        } else {
            s.heard_at = moment_;
        }
        return false;
    }
    s.probing = true;
    const socket& far = *s.peer;
    if (far.bytes.size() > far.arrived || far.unacknowledged > 0) return again_after(s.keep_idle);  // that says as much
    const bool enough = s.user_timeout > duration::zero() ? s.probes > 0 && moment_ - s.heard_at >= s.user_timeout
                                                          : s.probes >= s.keep_count;
    if (!enough) {
        ++s.probes;
        return again_after(s.keep_interval);
    }
    s.probing = false;
    timed_out(s);
    return false;
}

/// What `s` has sent was never acknowledged.
void network::timed_out(socket& s) noexcept {
    if (s.dead) return;
    s.dead = s.unannounced = true;
    s.error = ETIMEDOUT;
    update(s);
}

}  // namespace rondo::simulated
