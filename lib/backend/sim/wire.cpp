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
    bool operator()(const packet& a, const packet& b) const { return a.at != b.at ? a.at > b.at : a.number > b.number; }
};

// A latency is mostly short and now and then long: k of `steps` adds k * k parts of the most there is.
constexpr std::uint32_t steps = 32;
constexpr std::int64_t parts = (steps - 1) * (steps - 1);

time_point after(time_point from, duration way) { return from + std::min(way, last_moment - from); }

/// How long a sender waits before it sends again, as Linux does: SYNs give up after 127 s, data after 924 s.
duration patience(const packet& p) {
    const bool data = p.what == packet::kind::data;
    const duration first = data ? std::chrono::milliseconds(200) : std::chrono::seconds(1);
    return std::min<duration>(first * (std::int64_t{1} << std::min<int>(p.attempt, 20)), std::chrono::seconds(120));
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

/// A datagram in pieces is lost with any of them.
bool network::is_lost(const packet& p, const link& l) noexcept {
    std::uint32_t pieces = 1;
    if (p.what == packet::kind::datagram && l.packet_size != 0)
        pieces = std::max((p.size + l.packet_size - 1) / l.packet_size, 1u);
    bool lost = false;
    while (pieces-- > 0) lost |= oracle_.happens(choice::packet_loss, l.loss);
    return lost;
}

/// Takes the timer of its keep-alive away.
void network::stop_probing(socket& s) noexcept {
    if (!s.probing) return;
    s.probing = false;
    const auto timer = std::find_if(packets_.begin(), packets_.end(),
                                    [&](const packet& p) { return p.what == packet::kind::probe && p.to == &s; });
    if (timer == packets_.end()) return;  // it is being looked at
    packets_.erase(timer);
    std::make_heap(packets_.begin(), packets_.end(), later{});
    --s.packets;
}

/// Sends it, or sends it again.
void network::depart(packet p) noexcept {
    const time_point start = std::max(moment_, p.from().busy_until);
    if (p.attempt == 0) p.begun = start;
    if (!p.by_link()) {
        const std::int64_t k = oracle_.choose(choice::network_delay, steps);
        p.at = std::max(after(start, p.to->latency + longest_extra * (k * k) / parts), p.to->last_arrival);
        p.to->last_arrival = p.at;
        return put_under_way(p);
    }

    link& l = between(p.from(), p.target());
    const wire_tap::fate wanted = tap_ != nullptr ? tap_->judge(p) : wire_tap::fate{};
    p.sending = ++sendings_;
    tell(wire_tap::event::sent, p);
    if (wanted.drop || l.cuts != 0 || is_lost(p, l)) return lost(p);

    time_point gone = start;
    if (l.bytes_per_second != 0) {
        constexpr std::uint64_t header = 40;
        const std::uint64_t ns = (p.size + header) * 1'000'000'000 / l.bytes_per_second;
        gone = l.free_at = after(std::max(start, l.free_at), duration(static_cast<std::int64_t>(ns)));
    }
    p.held = wanted.extra;
    if (p.what == packet::kind::datagram && gone > moment_) {  // until then it fills the buffer of its sender
        p.queued = p.waiting = true;
        p.at = gone;
        p.to->unsent_size += p.size;
        update(*p.to);
        return put_under_way(p);
    }
    travel(p, gone);
}

/// It has left by its link.
void network::travel(packet p, time_point gone) noexcept {
    link& l = between(p.from(), p.target());
    const std::int64_t k = oracle_.choose(choice::network_delay, steps);
    const duration spread = std::max(l.latency_max - l.latency_min, duration::zero());
    p.at = after(after(gone, l.latency_min + spread / parts * (k * k)), p.held);
    if (oracle_.happens(choice::packet_order, l.held_up)) p.at = after(after(p.at, l.latency_max), l.latency_max);
    put_under_way(p);
    if (oracle_.happens(choice::packet_copy, l.copies) &&
        packets_.capacity() > packets_.size() + all_count_) {  // a copy must not take the room of others
        if (p.content != nullptr) p.content = p.content->clone();
        if (p.content == nullptr && p.what >= packet::kind::datagram) return;
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
    if (p.what == packet::kind::datagram || p.what == packet::kind::unreachable) {  // once only
        p.queued = false;
        p.at = moment_;
        return put_under_way(p);
    }
    if (p.what == packet::kind::reset) {  // once only; the other side learns when it sends something
        if (p.to->peer != nullptr) p.to->peer->unannounced = true;
        p.at = moment_;
        return put_under_way(p);
    }
    if (p.what == packet::kind::refusal) p.what = packet::kind::syn;  // no answer: it is asked again
    p.at = after(moment_, patience(p));
    if (p.attempt < 255) ++p.attempt;
    if (p.what == packet::kind::data) {
        socket& sender = *p.to->peer;
        sender.retransmits = std::max<std::uint32_t>(sender.retransmits, p.attempt);
        if (sender.user_timeout > duration::zero())
            p.at = std::max(std::min(p.at, after(p.begun, sender.user_timeout)), moment_);
    }
    put_under_way(p);
}

/// Whether its sender has sent it in vain for long enough.
bool network::is_out_of_patience(const packet& p, time_point at) noexcept {
    if (p.what != packet::kind::data || p.to->peer->user_timeout == duration::zero())
        return p.attempt > most_attempts(p.what);
    return at >= after(p.begun, p.to->peer->user_timeout);
}

/// The sender of these data has heard that they have arrived.
void network::acknowledged(const packet& p) noexcept {
    socket& sender = *p.to->peer;
    sender.retransmits = 0;
    sender.heard_at = moment_;
    if (p.attempt != 0) return;  // of which sending?
    const duration back = p.to->by_link() ? between(p.target(), p.from()).latency_min : p.to->latency;
    const duration sample = moment_ - p.begun + back;
    if (sender.rtt == duration::zero()) {
        sender.rtt = sample;
        sender.rtt_variation = sample / 2;
        return;
    }
    const duration off = sample - sender.rtt;  // RFC 6298
    sender.rtt += off / 8;
    sender.rtt_variation += (std::chrono::abs(off) - sender.rtt_variation) / 4;
}

/// Whether a lost packet still has to be sent again.
bool network::still_wanted(const packet& p) const noexcept {
    const socket& to = *p.to;
    switch (p.what) {
        case packet::kind::syn: return !to.closed() && to.state == socket::phase::connecting && to.peer == nullptr;
        case packet::kind::syn_ack:
            return to.state == socket::phase::connecting && to.peer != nullptr && !to.peer->dead;
        case packet::kind::ack: return to.listener != nullptr && !to.established && !to.dead;
        case packet::kind::data: return !to.peer->dead && (!to.dead || to.unannounced);
        case packet::kind::refusal:
        case packet::kind::reset:
        case packet::kind::datagram:
        case packet::kind::unreachable:
        case packet::kind::probe: break;
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
        case packet::kind::reset:
        case packet::kind::datagram:
        case packet::kind::unreachable:
        case packet::kind::probe: break;
    }
}

time_point network::next_arrival() const noexcept { return packets_.empty() ? never : packets_.front().at; }

void network::deliver() noexcept {
    while (!packets_.empty() && packets_.front().at <= now_) {
        std::pop_heap(packets_.begin(), packets_.end(), later{});
        packet p = packets_.back();
        packets_.pop_back();
        moment_ = p.at;
        const bool goes_on = p.waiting ? send_again(p) : !arrive(p);
        if (goes_on) continue;
        message::drop(p.content);
        --p.to->packets;
        release(*p.to);
    }
    moment_ = now_;
}

void network::take_time(const machine& m) noexcept {
    if (m.slow == 0 || m.prompt || tap_ == nullptr || !oracle_.happens(choice::slow_step, m.slow)) return;
    const time_point until = tap_->slow_until(m, after(now_, m.slow_by));
    if (until <= now_) return;
    move_to(until);
    deliver();
}

/// False when that is over: nobody needs it any more, or its sender gives up.
bool network::send_again(packet p) noexcept {
    if (p.what == packet::kind::probe) return probe(p);
    if (p.queued) {
        p.queued = p.waiting = false;
        p.to->unsent_size -= p.size;
        if (!p.to->closed()) update(*p.to);
        travel(p, moment_);
        return true;
    }
    if (!still_wanted(p)) return false;
    if (is_out_of_patience(p, moment_)) {
        give_up(p);
        return false;
    }
    p.waiting = false;
    if (p.what == packet::kind::data) ++p.to->peer->total_retransmits;
    depart(p);
    return true;
}

/// False when it has to go once more: it did not arrive after all, or nobody can tell its sender.
bool network::arrive(packet& p) noexcept {
    const bool by_link = p.by_link();
    if (by_link && (!p.target().up || between(p.from(), p.target()).cuts != 0)) return lost(p), false;
    record(100 + static_cast<std::uint32_t>(p.what), p.to->fd, p.size);
    if (by_link) tell(wire_tap::event::arrived, p);
    if (!act(p)) return lost(p), false;
    if (p.what != packet::kind::data || p.to->dead) return true;
    if (!by_link || p.size == 0) return acknowledged(p), true;

    if (between(p.target(), p.from()).cuts == 0) {
        acknowledged(p);
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
bool network::act(packet& p) noexcept {
    switch (p.what) {
        case packet::kind::syn: syn_arrived(*p.to); break;
        case packet::kind::syn_ack: syn_ack_arrived(*p.to); break;
        case packet::kind::ack: ack_arrived(*p.to); break;
        case packet::kind::refusal: refused(*p.to); break;
        case packet::kind::data: return data_arrived(*p.to, p.data_number, p.size, p.last);
        case packet::kind::reset: reset_arrived(*p.to); break;
        case packet::kind::datagram: datagram_arrived(p); break;
        case packet::kind::unreachable: unreachable_arrived(p); break;
        case packet::kind::probe: break;
    }
    return true;
}

void network::tell(wire_tap::event what, const packet& p) noexcept {
    if (tap_ != nullptr && p.by_link()) tap_->on_packet(what, p, moment_);
}

}  // namespace rondo::simulated
