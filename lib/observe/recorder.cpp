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

const char* name_of(recorded_event::packet_kind what) noexcept {
    constexpr const char* names[] = {"syn", "syn_ack", "ack", "refusal", "data", "reset", "datagram", "unreachable"};
    return names[static_cast<std::size_t>(what)];
}

// --- the record -----------------------------------------------------------------------------------------

record::record(const recorder_options& options)
    : most_(std::max(options.events, std::size_t{1})), name_(options.name), waits_(options.waits) {
    events_.reserve(most_);
    lanes_.reserve(8);
    names_.reserve(8);
}

record::~record() = default;

void record::clear() noexcept {
    events_.clear();
    next_ = 0;
    seen_ = 0;
    for (record_lane* l : lanes_) l->phase_told_ = false;
    while (!lanes_.empty() && lanes_.back()->gone_) {
        lanes_.pop_back();
        names_.pop_back();
    }
}

void record::enter(record_lane& l, std::string_view name) noexcept {
    if (lanes_.size() == recorded_event::no_host) return;
    try {
        names_.emplace_back(name);
        lanes_.push_back(&l);
        l.number_ = static_cast<std::uint16_t>(lanes_.size() - 1);
    } catch (const std::bad_alloc&) {
        names_.resize(lanes_.size());
    }
}

/// Virtual time stands still during a step, but what follows from what should be seen: a nanosecond for each event.
recorded_event& record::add(std::uint16_t to, kind what, time_point when) noexcept {
    ++seen_;
    if (to < lanes_.size()) {
        time_point& last = lanes_[to]->last_;
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

recorded_event& record::note(kind what) noexcept {
    record_lane* const to = latest_ < lanes_.size() ? lanes_[latest_] : usual_;
    if (to == nullptr) return lost_;
    return to->gone_ ? add(latest_, what, to->last_) : to->add(what);
}

void record::mark(std::string_view text) noexcept { write(note(kind::mark).text, text); }

void record::decided(std::uint64_t choice, std::string_view text) noexcept {
    recorded_event& e = note(kind::decided);
    e.number = choice;
    write(e.text, text);
}

// --- what one loop did ----------------------------------------------------------------------------------

time_point record_lane::exact_now() const noexcept { return observed::exact_now(); }

std::uint16_t record_lane::number() noexcept {
    if (number_ == recorded_event::no_host) [[unlikely]] {
        into_.enter(*this, into_.name_);
        if (number_ == recorded_event::no_host) return into_.latest_;
    }
    return into_.latest_ = number_;
}

/// What ends a step, what it has made ready, and the begin of the next one follow each other at once: one look at
/// the clock does for all.
recorded_event& record_lane::add(recorded_event::kind what) noexcept {
    const std::uint16_t at = number();
    const time_point when = no_time_passed_ ? last_ : exact_now();
    no_time_passed_ = what != recorded_event::kind::step && what != recorded_event::kind::mark &&
                      what != recorded_event::kind::decided;
    if (!phase_told_) {
        phase_told_ = true;
        into_.add(at, recorded_event::kind::phase, when).detail = static_cast<std::uint8_t>(in_);
    }
    return into_.add(at, what, when);
}

void record_lane::on(const loop_event& e) noexcept {
    using kind = recorded_event::kind;
    switch (e.kind) {
        case loop_event_kind::phase: return enter_phase(e.phase);
        case loop_event_kind::polled: return polled(e.count);
        case loop_event_kind::timers_due: return;
        case loop_event_kind::spawned: {
            recorded_event& written = add(kind::spawned, e.task);
            written.place = written.spawned;
            write(written.text, e.task.name());
            return;
        }
        case loop_event_kind::ready: add(kind::ready).task = e.task.number(); return;
        case loop_event_kind::step: {
            recorded_event& written = add(kind::step, e.task);
            written.detail = static_cast<std::uint8_t>(e.step);
            written.place = written.task != 0 ? e.task.place() : e.place;
            written.number = static_cast<std::uint64_t>(std::int64_t{e.task.result()});
            write(written.text, e.task.name());
            return;
        }
        case loop_event_kind::waits: {
            recorded_event& written = add(kind::waits, e.task);
            written.place = e.task.place();
            written.root = e.task.root();
            if (into_.waits_) e.task.waits_for(written.text, sizeof written.text);
            return;
        }
        case loop_event_kind::ended: {
            if (e.ending == task_ending::error) add_failure(e.task);
            recorded_event& written = add(kind::ended, e.task);
            written.detail = static_cast<std::uint8_t>(e.ending);
            write(written.text, e.task.name());
            return;
        }
        case loop_event_kind::step_end: add(kind::step_end); return;
    }
}

recorded_event& record_lane::add(recorded_event::kind what, task_view task) noexcept {
    recorded_event& e = add(what);
    e.task = task.number();
    e.spawned = task.spawned();
    return e;
}

void record_lane::add_failure(task_view task) noexcept {
    char text[4 * sizeof recorded_event::text];
    task.error(text, sizeof text);
    const std::source_location place = task.failed_at();
    std::string_view left = text;
    for (std::uint8_t part = 0; part < 4 && (part == 0 || !left.empty()); ++part) {
        recorded_event& written = add(recorded_event::kind::failed, task);
        written.place = place;
        written.detail = part;
        write(written.text, left);
        left.remove_prefix(std::string_view(written.text).size());
    }
}

/// Most phases of most turns pass without an event: only when one comes it is known that this is not so.
void record_lane::enter_phase(phase p) noexcept {
    number();
    in_ = p;
    phase_told_ = false;
    if (p == phase::poll) poll_began_ = exact_now();
    if (p == phase::poll || p == phase::none) no_time_passed_ = false;
}

void record_lane::polled(std::uint32_t completions) noexcept {
    const time_point now = exact_now();
    const duration waited = now - poll_began_;
    if (waited <= duration::zero() && completions == 0) return;
    recorded_event& e = into_.add(number(), recorded_event::kind::polled, now);
    e.number = static_cast<std::uint64_t>(std::max(waited, duration::zero()).count());
    e.size = completions;
}

// --- of one loop, or of one after the other -------------------------------------------------------------

recorder::recorder(const recorder_options& options) : record(options), record_lane(static_cast<record&>(*this)) {
    usual_ = this;
}

recorder::~recorder() = default;

}  // namespace rondo
