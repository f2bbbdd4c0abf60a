#include <rondo/observe/recorder.hpp>

#include "clock.hpp"

#include <algorithm>
#include <new>

namespace rondo {

namespace {

void write(char (&to)[45], std::string_view text) noexcept {
    std::size_t size = std::min(text.size(), sizeof to - 1);
    if (size < text.size())  // whole characters
        while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
    text.copy(to, size);
    to[size] = '\0';
}

}  // namespace

recorder::recorder(const recorder_options& options)
    : most_(std::max(options.events, std::size_t{1})), waits_(options.waits), name_(options.name) {
    events_.reserve(most_);
    lanes_.reserve(8);
    names_.reserve(8);
}

recorder::~recorder() = default;

void recorder::clear() noexcept {
    events_.clear();
    next_ = 0;
    seen_ = 0;
    for (lane& l : lanes_) l.phase_told = false;
    while (!lanes_.empty() && lanes_.back().gone) {
        lanes_.pop_back();
        names_.pop_back();
    }
}

/// Without memory for one more host, its events go to the latest one's.
std::uint16_t recorder::lane_of(const host* of) noexcept {
    const auto is = [&](const lane& l) { return l.of == of && !l.gone; };
    if (latest_ < lanes_.size() && is(lanes_[latest_])) return latest_;
    for (std::size_t i = lanes_.size(); i-- > 0;)
        if (is(lanes_[i])) return latest_ = static_cast<std::uint16_t>(i);
    if (lanes_.size() == recorded_event::no_host) return latest_;
    try {
        names_.push_back(of != nullptr ? of->name() : std::string(name_));
        lanes_.push_back({of});
        latest_ = static_cast<std::uint16_t>(lanes_.size() - 1);
    } catch (const std::bad_alloc&) {
        names_.resize(lanes_.size());
    }
    return latest_;
}

/// What ends a step, what it has made ready, and the begin of the next one follow each other at once: one look at
/// the clock does for all.
recorded_event& recorder::add(const host* of, kind what) noexcept {
    const std::uint16_t at = lane_of(of);
    if (at >= lanes_.size()) return add(at, what, {});
    lane& l = lanes_[at];
    const time_point when = l.no_time_passed ? l.last : of != nullptr ? of->now() : observed::exact_now();
    l.no_time_passed = what != kind::step && what != kind::mark;
    if (!l.phase_told) {
        l.phase_told = true;
        add(at, kind::phase, when).detail = static_cast<std::uint8_t>(l.in);
    }
    return add(at, what, when);
}

/// Virtual time stands still during a step, but what follows from what should be seen: a nanosecond for each event.
recorded_event& recorder::add(std::uint16_t to, kind what, time_point when) noexcept {
    ++seen_;
    if (to < lanes_.size()) {
        time_point& last = lanes_[to].last;
        if (when <= last) when = last + duration(1);
        last = when;
    }
    recorded_event* e = &lost_;
    if (events_.size() < most_) {
        e = &events_.emplace_back();  // there is room for it
    } else {
        e = &events_[next_];
        next_ = next_ + 1 == most_ ? 0 : next_ + 1;
        *e = {};
    }
    e->when = when;
    e->what = what;
    e->host = to;
    return *e;
}

void recorder::mark(std::string_view text) noexcept {
    const bool over = latest_ < lanes_.size() && lanes_[latest_].gone;
    recorded_event& e = over ? add(latest_, kind::mark, lanes_[latest_].last)
                             : add(latest_ < lanes_.size() ? lanes_[latest_].of : nullptr, kind::mark);
    write(e.text, text);
}

// --- of a host, or of a loop ------------------------------------------------------------------------

/// Most phases of most turns pass without an event: only when one comes it is known that this is not so.
void recorder::add_phase(const host* of, phase p) noexcept {
    const std::uint16_t at = lane_of(of);
    if (at >= lanes_.size()) return;
    lanes_[at].in = p;
    lanes_[at].phase_told = false;
    if (p == phase::poll) lanes_[at].poll_began = of != nullptr ? of->now() : observed::exact_now();
    if (p == phase::poll || p == phase::none) lanes_[at].no_time_passed = false;
}

void recorder::add_poll(const host* of, std::size_t completions) noexcept {
    const std::uint16_t at = lane_of(of);
    if (at >= lanes_.size()) return;
    const time_point now = of != nullptr ? of->now() : observed::exact_now();
    const duration waited = now - lanes_[at].poll_began;
    if (waited <= duration::zero() && completions == 0) return;
    recorded_event& e = add(at, kind::polled, now);
    e.number = static_cast<std::uint64_t>(std::max(waited, duration::zero()).count());
    e.size = static_cast<std::uint32_t>(completions);
}

void recorder::add_spawn(const host* of, task_view task) noexcept {
    recorded_event& e = add(of, kind::spawned);
    e.task = task.number();
    e.place = e.spawned = task.spawned();
    write(e.text, task.name());
}

void recorder::add_step(const host* of, observer::step what, task_view task, std::source_location place) noexcept {
    recorded_event& e = add(of, kind::step);
    e.detail = static_cast<std::uint8_t>(what);
    e.task = task.number();
    e.place = e.task != 0 ? task.place() : place;
    e.spawned = task.spawned();
    write(e.text, task.name());
}

void recorder::add_wait(const host* of, task_view task) noexcept {
    recorded_event& e = add(of, kind::waits);
    e.task = task.number();
    e.place = task.place();
    e.spawned = task.spawned();
    if (waits_) task.waits_for(e.text, sizeof e.text);
}

void recorder::add_end(const host* of, task_view task, ending how) noexcept {
    recorded_event& e = add(of, kind::ended);
    e.task = task.number();
    e.detail = static_cast<std::uint8_t>(how);
    e.spawned = task.spawned();
    write(e.text, task.name());
}

void recorder::on_phase(const host& of, phase p, time_point) noexcept { add_phase(&of, p); }
void recorder::on_polled(const host& of, std::size_t completions, time_point) noexcept { add_poll(&of, completions); }
void recorder::on_spawn(const host& of, task_view task) noexcept { add_spawn(&of, task); }
void recorder::on_ready(const host& of, task_view task) noexcept { add(&of, kind::ready).task = task.number(); }
void recorder::on_step(const host& of, observer::step what, task_view task, std::source_location place) noexcept {
    add_step(&of, what, task, place);
}
void recorder::on_wait(const host& of, task_view task) noexcept { add_wait(&of, task); }
void recorder::on_end(const host& of, task_view task, ending how) noexcept { add_end(&of, task, how); }
void recorder::on_step_end(const host& of) noexcept { add(&of, kind::step_end); }

void recorder::on_phase(phase p, time_point) noexcept { add_phase(nullptr, p); }
void recorder::on_polled(std::size_t completions, time_point) noexcept { add_poll(nullptr, completions); }
void recorder::on_spawn(task_view task) noexcept { add_spawn(nullptr, task); }
void recorder::on_ready(task_view task) noexcept { add(nullptr, kind::ready).task = task.number(); }
void recorder::on_step(observer::step what, task_view task, std::source_location place) noexcept {
    add_step(nullptr, what, task, place);
}
void recorder::on_wait(task_view task) noexcept { add_wait(nullptr, task); }
void recorder::on_end(task_view task, ending how) noexcept { add_end(nullptr, task, how); }
void recorder::on_step_end() noexcept { add(nullptr, kind::step_end); }

// --- of the world -------------------------------------------------------------------------------------

void recorder::on_packet(packet what, const packet_info& p, time_point when) noexcept {
    const std::uint16_t from = lane_of(&p.from);
    const std::uint16_t to = lane_of(&p.to);
    recorded_event& e = what == packet::arrived ? add(to, kind::packet, when)
                                                 : add(from, kind::packet, std::max(when, p.from.now()));
    e.host = from;
    e.peer = to;
    e.detail = static_cast<std::uint8_t>(what);
    e.sort = static_cast<std::uint8_t>(p.what);
    e.number = p.number;
    e.size = p.size;
    e.source_port = p.source.port();
    e.destination_port = p.destination.port();
}

void recorder::on_event(event what, const host* of, time_point when) noexcept {
    recorded_event& e =
        of != nullptr ? add(lane_of(of), kind::host, when) : add(recorded_event::no_host, kind::host, when);
    e.detail = static_cast<std::uint8_t>(what);
    if (what == event::stopped && e.host < lanes_.size()) lanes_[e.host].gone = true;
}

}  // namespace rondo
