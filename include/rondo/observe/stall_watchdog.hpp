// Says when a step takes too long, while it still does: which task, where it was spawned, and where it has waited
// last.
//
//     rondo::stall_watchdog watchdog({.limit = 50ms});
//     options.observer = &watchdog;
//
//     rondo warning: task 7, spawned at main.cpp:88, has held up its loop for 61 ms; it went on from  [session.cpp:112]
//
// A thread of its own looks four times in each `limit`; the loop only notes, for each step, where it is.
#pragma once

#include <rondo/loop/loop.hpp>

#include <cstdint>
#include <memory>
#include <source_location>

namespace rondo {

/// A step of a task, or a callback, that lasts too long, as stall_options::report gets it.
struct stall {
    std::uint32_t task;  // 0: a callback
    std::source_location spawned;  // of a task; line 0 if unknown
    std::source_location place;  // the await it went on from; of a callback, where it was made
    duration lasts;  // so far, or, when it is over, in all: at least, to a quarter of the limit
    bool over;  // a second report, of a step that was reported, when it has ended
    std::uint32_t missed;  // not reported before this one, for there were too many
};

struct stall_options {
    delay limit = std::chrono::milliseconds(50);  // at least 1 ms
    std::uint32_t per_minute = 5;  // stalls that are reported
    /// Called on the watchdog's thread; null: a warning is logged.
    void (*report)(const stall& s, void* context) noexcept = nullptr;
    void* context = nullptr;
};

/// To be given to one loop, as its observer; it must outlive the loop. Real time, also on `sim`.
class RONDO_API stall_watchdog final : public observer {
 public:
    /// Throws system_error when there can be no thread.
    explicit stall_watchdog(const stall_options& options = {});
    /// Ends the thread.
    ~stall_watchdog() override;
    stall_watchdog(const stall_watchdog&) = delete;
    stall_watchdog& operator=(const stall_watchdog&) = delete;

    /// How many there were, those not reported as well. Any thread.
    std::uint64_t stalls() const noexcept;

    void on(const loop_event& e) noexcept override;

 private:
    struct state;
    std::unique_ptr<state> state_;
};

}  // namespace rondo
