// How long things take in a loop: four histograms, to be given to it as its observer.
//
//     rondo::loop_metrics metrics;
//     options.observer = &metrics;
//     ...
//     std::string text = rondo::prometheus_text(rondo::this_loop(), &metrics);   // rondo/observe/prometheus.hpp
//
// One look at the clock for each step, two for each turn; no allocation. On `sim` it is virtual time.
#pragma once

#include <rondo/loop/loop.hpp>
#include <rondo/observe/histogram.hpp>

#include <array>
#include <cstdint>

namespace rondo {

/// All members are for the loop's thread.
class RONDO_API loop_metrics final : public observer {
 public:
    loop_metrics() noexcept = default;

    /// By how much the most overdue timer of each timers phase was late.
    const histogram& timer_lateness() const noexcept { return timer_lateness_; }
    /// From the begin of the step that woke a task, or of its phase, to the task's own step. More than a thousand
    /// tasks that are ready at once are a sample: not_sampled() counts the others.
    const histogram& queue_wait() const noexcept { return queue_wait_; }
    std::uint64_t not_sampled() const noexcept { return not_sampled_; }
    /// How long the steps of tasks and the callbacks took: what holds up everyone else.
    const histogram& step_time() const noexcept { return step_time_; }
    /// From the end of a poll to the begin of the next one.
    const histogram& turn_time() const noexcept { return turn_time_; }

    void clear() noexcept;

    void on(const loop_event& e) noexcept override;

 private:
    /// Since when a task is ready, found by its number; a later one may take the place.
    struct waiting_task {
        std::uint32_t task = 0;
        time_point since{};
    };
    void enter(phase p, time_point when) noexcept;
    void becomes_ready(std::uint32_t task) noexcept;
    void begin_step(std::uint32_t task) noexcept;
    void end_step() noexcept;
    void look() noexcept;

    histogram timer_lateness_, queue_wait_, step_time_, turn_time_;
    std::uint64_t not_sampled_ = 0;
    time_point latest_ = never;     // the latest look at the clock; never: the loop does not run
    time_point turn_began_ = never;
    std::array<waiting_task, 1024> ready_{};
};

}  // namespace rondo
