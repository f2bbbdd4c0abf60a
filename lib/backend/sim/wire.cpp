// Packets on their way: how long they take, what becomes of them on a link, and what a sender does
// when nothing comes back.
#include "network.hpp"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

namespace rondo::simulated {
namespace {

/// The order of the heap of packets: true when `a` acts after `b`.
struct later {
    bool operator()(const packet& a, const packet& b) const {
        return a.at != b.at ? a.at > b.at : a.number > b.number;
    }
};

time_point after(time_point from, duration way) {
    return from + std::min(way, last_moment - from);
}

/// How long a sender waits before it sends again, as Linux does: SYNs give up after 127 s, data after 924 s.
duration patience(const packet& p) {
    const bool data = p.what == packet::kind::data;
    const duration first = data ? std::chrono::milliseconds(200) : std::chrono::seconds(1);
    return std::min<duration>(first * (std::int64_t{1} << std::min<int>(p.attempt, 20)),
                              std::chrono::seconds(120));
}
constexpr int most_attempts(packet::kind what) { return what == packet::kind::data ? 15 : 6; }

}  // namespace

bool network::more_room(std::size_t wanted) noexcept {
    try {
        packets_.reserve(std::max(wanted, 2 * packets_.capacity()));
    } catch (const std::bad_alloc&) {
        return false;
    }
    return true;
}

void network::post(packet p) noexcept {
    ++p.to->packets;
    if (p.to->latency == duration::zero()) {
        act(p);
        --p.to->packets;
        return;
    }
    depart(p);
}

void network::put_under_way(const packet& p) noexcept {
    packets_.push_back(p);
    packets_.back().number = ++packet_count_;
    std::push_heap(packets_.begin(), packets_.end(), later{});
}

/// Sends it, or sends it again.
void network::depart(packet p) noexcept {
    const time_point start = std::max(moment_, p.from().busy_until);
    // Mostly short and now and then long: k of `steps` adds k * k parts of the most there is.
    constexpr std::uint32_t steps = 32;
    constexpr std::int64_t parts = (steps - 1) * (steps - 1);
    if (!p.to->by_link()) {
        const std::int64_t k = oracle_.choose(choice::network_delay, steps);
        p.at = std::max(after(start, p.to->latency + longest_extra * (k * k) / parts), p.to->last_arrival);
        p.to->last_arrival = p.at;
        return put_under_way(p);
    }

    link& l = between(p.from(), p.target());
    const wire_tap::fate wanted = tap_ != nullptr ? tap_->judge(p) : wire_tap::fate{};
    p.sending = ++sendings_;
    tell(wire_tap::event::sent, p);
    if (wanted.drop || l.cuts != 0 || oracle_.happens(choice::packet_loss, l.loss)) return lost(p);

    time_point gone = start;
    if (l.bytes_per_second != 0) {
        constexpr std::uint64_t header = 40;
        const std::uint64_t ns = (p.size + header) * 1'000'000'000 / l.bytes_per_second;
        gone = l.free_at = after(std::max(start, l.free_at), duration(static_cast<std::int64_t>(ns)));
    }
    const std::int64_t k = oracle_.choose(choice::network_delay, steps);
    const duration spread = std::max(l.latency_max - l.latency_min, duration::zero());
    p.at = after(after(gone, l.latency_min + spread / parts * (k * k)), wanted.extra);
    if (oracle_.happens(choice::packet_order, l.held_up)) p.at = after(after(p.at, l.latency_max), l.latency_max);
    put_under_way(p);
    if (oracle_.happens(choice::packet_copy, l.copies) &&
        packets_.capacity() > packets_.size() + all_count_) {  // a copy must not take the room of others
        ++p.to->packets;
        p.at = after(p.at, l.latency_min);
        tell(wire_tap::event::copied, p);
        put_under_way(p);
    }
}

/// It will not arrive. Its sender sends it again later, and gives up in the end.
void network::lost(packet p) noexcept {
    tell(wire_tap::event::lost, p);
    p.waiting = true;
    if (p.what == packet::kind::reset) {  // once only; the other side learns when it sends something
        if (p.to->peer != nullptr) p.to->peer->unannounced = true;
        p.at = moment_;
        return put_under_way(p);
    }
    if (p.what == packet::kind::refusal) p.what = packet::kind::syn;  // no answer: it is asked again
    p.at = after(moment_, patience(p));
    ++p.attempt;
    put_under_way(p);
}

/// Whether a lost packet still has to be sent again.
bool network::still_wanted(const packet& p) const noexcept {
    const socket& to = *p.to;
    switch (p.what) {
        case packet::kind::syn:
            return !to.closed() && to.state == socket::phase::connecting && to.peer == nullptr;
        case packet::kind::syn_ack:
            return to.state == socket::phase::connecting && to.peer != nullptr && !to.peer->dead;
        case packet::kind::ack: return to.listener != nullptr && !to.established && !to.dead;
        case packet::kind::data:
            return !to.peer->dead && (!to.dead || to.unannounced);
        case packet::kind::refusal:
        case packet::kind::reset: break;
    }
    return false;
}

void network::give_up(const packet& p) noexcept {
    tell(wire_tap::event::gave_up, p);
    socket& to = *p.to;
    switch (p.what) {
        case packet::kind::syn:
            to.state = socket::phase::failed;
            to.error = ETIMEDOUT;
            return update(to);
        case packet::kind::syn_ack:  // the client, too, has heard nothing for as long
            to.state = socket::phase::connected;
            to.unreported = true;
            timed_out(to);
            [[fallthrough]];
        case packet::kind::ack: {
            socket& child = p.what == packet::kind::ack ? to : *to.peer;
            child.dead = child.unannounced = true;
            if (child.listener != nullptr) drop_pending(child);
            return;
        }
        case packet::kind::data: return timed_out(*to.peer);
        case packet::kind::refusal:
        case packet::kind::reset: break;
    }
}

time_point network::next_arrival() const noexcept {
    return packets_.empty() ? never : packets_.front().at;
}

void network::deliver() noexcept {
    while (!packets_.empty() && packets_.front().at <= now_) {
        std::pop_heap(packets_.begin(), packets_.end(), later{});
        packet p = packets_.back();
        packets_.pop_back();
        moment_ = p.at;
        const bool goes_on = p.waiting ? send_again(p) : !arrive(p);
        if (goes_on) continue;
        --p.to->packets;
        release(*p.to);
    }
    moment_ = now_;
}

/// False when that is over: nobody needs it any more, or its sender gives up.
bool network::send_again(packet p) noexcept {
    if (!still_wanted(p)) return false;
    if (p.attempt > most_attempts(p.what)) {
        give_up(p);
        return false;
    }
    p.waiting = false;
    depart(p);
    return true;
}

/// False when it has to go once more: it did not arrive after all, or nobody can tell its sender.
bool network::arrive(packet p) noexcept {
    const bool by_link = p.to->by_link();
    if (by_link && (!p.target().up || between(p.from(), p.target()).cuts != 0)) return lost(p), false;
    record(100 + static_cast<std::uint32_t>(p.what), p.to->fd, p.size);
    if (by_link) tell(wire_tap::event::arrived, p);
    if (!act(p)) return lost(p), false;
    if (!by_link || p.what != packet::kind::data || p.size == 0 || p.to->dead) return true;

    if (between(p.target(), p.from()).cuts == 0) {
        if (!p.arrived) return true;
        p.to->unacknowledged -= p.size;
        update(*p.to->peer);
        return true;
    }
    if (!p.arrived) p.to->unacknowledged += p.size;
    p.arrived = true;
    lost(p);
    return false;
}

/// False when there was no memory for it.
bool network::act(const packet& p) noexcept {
    switch (p.what) {
        case packet::kind::syn: syn_arrived(*p.to); break;
        case packet::kind::syn_ack: syn_ack_arrived(*p.to); break;
        case packet::kind::ack: ack_arrived(*p.to); break;
        case packet::kind::refusal: refused(*p.to); break;
        case packet::kind::data: return data_arrived(*p.to, p.data_number, p.size, p.last);
        case packet::kind::reset: reset_arrived(*p.to); break;
    }
    return true;
}

void network::tell(wire_tap::event what, const packet& p) noexcept {
    if (tap_ != nullptr && p.to->by_link()) tap_->on_packet(what, p, moment_);
}

}  // namespace rondo::simulated
