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

void loop_metrics::on_phase(phase p, time_point when) noexcept {
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

void loop_metrics::on_polled(std::size_t, time_point now) noexcept { latest_ = turn_began_ = now; }

void loop_metrics::on_timers(time_point due, time_point now) noexcept {
    latest_ = now;
    timer_lateness_.add(now - due);
}

void loop_metrics::on_ready(task_view task) noexcept {
    if (latest_ == never) look();
    waiting_task& place = ready_[task.number() % ready_.size()];
    if (place.task != 0) ++not_sampled_;
    place = {task.number(), latest_};
}

void loop_metrics::on_step(step, task_view task, std::source_location) noexcept {
    if (latest_ == never) look();
    if (task.number() == 0) return;
    waiting_task& place = ready_[task.number() % ready_.size()];
    if (place.task != task.number()) return;
    queue_wait_.add(latest_ - place.since);
    place.task = 0;
}

void loop_metrics::on_step_end() noexcept {
    const time_point began = latest_;
    look();
    step_time_.add(latest_ - began);
}

}  // namespace rondo
