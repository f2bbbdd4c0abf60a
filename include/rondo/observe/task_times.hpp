// Which tasks take the time of a loop: CPU time and the longest step of each, to be given to it as its observer.
//
//     rondo::task_times times;
//     options.observer = &times;
//     ...
//     std::fputs(rondo::await_tree().text().c_str(), stderr);  // the tree has them, also when a signal asks for it
//     rondo::write_metrics(text, times);  // by the line that spawns (rondo/observe/prometheus.hpp)
//
// Four looks at clocks for each step of a task, two of them system calls; no allocation once there have been as many
// tasks as live at a time.
#pragma once

#include <rondo/loop/observer.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <vector>

namespace rondo {

/// All members are for the loop's thread. CPU time is that of the thread during the steps of the task: what it
/// computes, and what the kernel does for it, but not how long it is held up.
/// On `sim` both times are those of the virtual clock, so they are the same in every run of a seed: a step takes what
/// loop::spin() lets pass in it, mostly nothing, and the steps are what can be compared.
class RONDO_API task_times final : public observer {
 public:
    /// What the tasks that one line has spawned have had, those that live and those that have ended.
    struct row {
        std::source_location spawned;
        std::uint64_t tasks = 0;  // that have taken a step
        task_time time;  // the sum; `longest` is that of one of them

        void merge(const row& more) noexcept;
    };

    task_times();
    ~task_times() override;
    task_times(const task_times&) = delete;
    task_times& operator=(const task_times&) = delete;

    /// The lines, the one that has had most CPU time first. O(n log n). Throws bad_alloc.
    std::vector<row> by_place() const;
    /// Steps that could not be counted, for want of memory.
    std::uint64_t not_counted() const noexcept;
    void clear() noexcept;

    /// Of a task that lives and has taken a step; without the step that runs.
    bool time_of(std::uint32_t task, task_time& into) const noexcept override;
    void on(const loop_event& e) noexcept override;

 private:
    struct state;
    std::unique_ptr<state> state_;
};

// implementation

inline void task_times::row::merge(const row& more) noexcept {
    tasks += more.tasks;
    time.cpu += more.time.cpu;
    time.steps += more.time.steps;
    if (time.longest_from.line() != 0 && more.time.longest <= time.longest) return;
    time.longest = more.time.longest;
    time.longest_from = more.time.longest_from;
}

}  // namespace rondo
