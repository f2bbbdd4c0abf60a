// Nothing but the loop's own work is between two steps of a turn, so the end of one is the begin of the next: one
// look at the clock does for both.
#include <rondo/observe/loop_metrics.hpp>

#include "clock.hpp"

namespace rondo {

void loop_metrics::clear() noexcept {
    for (histogram* h : {&timer_lateness_, &queue_wait_, &step_time_, &turn_time_}) h->clear();
    not_sampled_ = 0;
}

void loop_metrics::look() noexcept {
    latest_ = observed::exact_now();
    if (turn_began_ == never) turn_began_ = latest_;
}

void loop_metrics::on(const loop_event& e) noexcept {
    switch (e.kind) {
        case loop_event_kind::phase: return enter(e.phase, e.when);
        case loop_event_kind::polled: latest_ = turn_began_ = e.when; return;
        case loop_event_kind::timers_due:
            latest_ = e.when;
            timer_lateness_.add(e.when - e.due);
            return;
        case loop_event_kind::spawned:
        case loop_event_kind::ready: return becomes_ready(e.task.number());
        case loop_event_kind::step: return begin_step(e.task.number());
        case loop_event_kind::step_end: return end_step();
        case loop_event_kind::waits:
        case loop_event_kind::ended: return;
    }
}

void loop_metrics::enter(phase p, time_point when) noexcept {
    if (p == phase::none) {
        latest_ = turn_began_ = never;
        return;
    }
    if (latest_ == never || when > latest_) latest_ = when;
    if (p != phase::poll) return;
    if (turn_began_ == never) turn_began_ = latest_;
    look();
    turn_time_.add(latest_ - turn_began_);
}

void loop_metrics::becomes_ready(std::uint32_t task) noexcept {
    if (latest_ == never) look();
    waiting_task& place = ready_[task % ready_.size()];
    if (place.task != 0) ++not_sampled_;
    place = {task, latest_};
}

void loop_metrics::begin_step(std::uint32_t task) noexcept {
    if (latest_ == never) look();
    if (task == 0) return;
    waiting_task& place = ready_[task % ready_.size()];
    if (place.task != task) return;
    queue_wait_.add(latest_ - place.since);
    place.task = 0;
}

void loop_metrics::end_step() noexcept {
    const time_point began = latest_;
    look();
    step_time_.add(latest_ - began);
}

}  // namespace rondo
