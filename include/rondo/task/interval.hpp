// Ticks that keep their phase.
//
//     rondo::interval ticks(100ms);
//     for (;;) {
//         co_await ticks.tick();  // after 100 ms, 200 ms, 300 ms, however long the work takes
//         sample();
//     }
//
// Each tick is due one period after the one before was due, not after it was taken: lateness does not add up. What
// happens when whole periods have passed meanwhile is said by `missed_ticks`. (Tokio's interval and its
// MissedTickBehavior; of these, Go's time.Ticker is `skip`.)
#pragma once

#include <rondo/base/time.hpp>
#include <rondo/task/suspend.hpp>
#include <rondo/task/wait.hpp>

#include <cstddef>
#include <cstdint>

namespace rondo {

/// When the next tick is due after one that was taken late.
enum class missed_ticks : std::uint8_t {
    burst,  // a period after that one was due: those that were missed come at once, one after the other
    delay,  // a period after that one was taken: none is made up for, and the phase moves
    skip,   // at the next moment of the old phase: none is made up for
};

/// For the loop's thread, and one task at a time. Nothing runs between two ticks: an interval that nobody waits for
/// costs nothing. Its time is that of the loop's clock, which is virtual on `sim`.
class RONDO_API interval {
 public:
    class tick_awaiter;

    /// The first tick is due one period from now. A period below 1 ns, or NaN, is 1 ns.
    explicit interval(delay period, missed_ticks missed = missed_ticks::burst) noexcept
        : interval(period_of(period).after(rondo::now()), period, missed) {}
    /// The first tick is due at `first`, be it past: `interval(now(), 100ms)` begins at once.
    interval(time_point first, delay period, missed_ticks missed = missed_ticks::burst) noexcept
        : due_(first), period_(period_of(period).value()), missed_(missed) {}
    interval(const interval&) = delete;
    interval& operator=(const interval&) = delete;

    /// Waits for the next tick, and gives the moment at which that was due. One that is due already is taken at
    /// once. It must outlive the wait. Throws bad_alloc.
    /// Cancel: no tick is lost; the next tick() waits for the same one. O(log n).
    [[nodiscard]] tick_awaiter tick() noexcept;

    /// When the next tick is due.
    time_point next() const noexcept { return due_; }
    duration period() const noexcept { return period_; }
    /// The next tick is due one period from now, or at `first`. While nobody waits for one.
    void reset() noexcept { reset(delay(period_).after(rondo::now())); }
    void reset(time_point first) noexcept;

 private:
    static delay period_of(delay period) noexcept { return period.value() > duration::zero() ? period : duration(1); }
    time_point take() noexcept;

    time_point due_;
    duration period_;
    missed_ticks missed_;
    bool awaited_ = false;
};

class [[nodiscard]] interval::tick_awaiter : public op, public awaits<tick_awaiter> {
 public:
    RONDO_API explicit tick_awaiter(interval& of) noexcept;

    RONDO_API bool start();
    RONDO_API bool start_as_arm() noexcept;
    void give_back() noexcept {}  // a tick is taken only by who gets it
    time_point await_resume() {
        if (result < 0) [[unlikely]]
            detail::throw_failure(result, "tick");
        return of_->take();
    }
    rondo::result<time_point> finish() { return await_resume(); }

 private:
    static const op_vtable table;
    static void describe(const op& o, char* text, std::size_t size) noexcept;

    interval* of_;
};

inline interval::tick_awaiter interval::tick() noexcept { return tick_awaiter(*this); }

}  // namespace rondo
