// The wall clock: what it shows, and sleeping until it shows a moment.
//
//     const auto next = std::chrono::ceil<std::chrono::hours>(rondo::wall_now());
//     co_await rondo::sleep_until(next);  // at the full hour, whoever sets the clock meanwhile
//
// It can be set, forward and back, and goes on while the machine is suspended. A limit or a pause belongs to the
// loop's own clock (base/time.hpp), which does neither; an appointment belongs to this one.
#pragma once

#include <rondo/base/time.hpp>
#include <rondo/loop/detail/wall_timer.hpp>
#include <rondo/task/wait.hpp>

#include <chrono>
#include <cstdint>

namespace rondo {

/// What the wall clock of the running loop shows right now; without a loop, that of the system. On `sim` it is
/// virtual, and shows 2000-01-01 00:00:00 UTC when a world begins (host::clock_offset sets it). O(1), not cached.
[[nodiscard]] RONDO_API std::chrono::system_clock::time_point wall_now() noexcept;

namespace detail {

class RONDO_API wall_sleep_awaiter : public wall_timer, public awaits<wall_sleep_awaiter, wait_manner::prompt> {
 public:
    explicit wall_sleep_awaiter(std::int64_t ns_since_1970) noexcept : wall_timer(ns_since_1970) {}

    bool start() {
        result = begin();
        return result == 0;
    }
    /// A moment that has come is there at once. Without memory it fails with ENOMEM.
    bool start_as_arm() noexcept;
    void give_back() noexcept {}
    void await_resume() const {
        if (result < 0) [[unlikely]]
            throw_failure(result, "sleep until a time of the wall clock");
    }
    rondo::result<void> finish() const;
};

}  // namespace detail

/// Waits until the wall clock shows `when` or later. When it is set meanwhile, or the machine was suspended, the wait
/// ends earlier or later accordingly; it never ends before the clock shows `when`. A moment that has passed is the next
/// timers phase; one that nanoseconds since 1970 cannot hold never comes.
/// While tasks of a loop wait so, it has one descriptor more: without one this throws io_error. Throws bad_alloc.
/// Cancel: the wait ends at once with `cancelled`; nothing is lost. O(log n).
template <class Duration>
[[nodiscard]] detail::wall_sleep_awaiter sleep_until(
    std::chrono::time_point<std::chrono::system_clock, Duration> when) noexcept {
    return detail::wall_sleep_awaiter(delay(when.time_since_epoch()).value().count());
}

}  // namespace rondo
