// Time as the loop sees it: nanoseconds of a clock that only goes forward.
#pragma once

#include <rondo/base/detail/config.hpp>

#include <chrono>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace rondo {

/// A length of time, as options keep it and as results have it. Functions take a `delay`, which cannot overflow.
using duration = std::chrono::nanoseconds;

/// The monotonic clock of the running loop. On `sim` it is virtual and starts at 0.
struct loop_clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<loop_clock>;
    static constexpr bool is_steady = true;

    /// The cached time of the loop that runs on this thread; else the system's monotonic time.
    [[nodiscard]] RONDO_API static time_point now() noexcept;
};

/// A moment of the loop's clock.
using time_point = loop_clock::time_point;

/// A moment that never comes: what a deadline too far away to count saturates to.
inline constexpr time_point never = time_point::max();

/// The loop's cached time (loop_clock::now()): it does not move while a callback runs.
[[nodiscard]] inline time_point now() noexcept { return loop_clock::now(); }

/// Any std::chrono duration, as a parameter. What nanoseconds cannot hold saturates, so
/// `hours::max()` is "never" rather than an overflow; NaN is 0.
class delay {
 public:
    template <class Rep, class Period>
    constexpr delay(std::chrono::duration<Rep, Period> d) noexcept  // NOLINT(*-explicit-*)
        : value_(saturate(d)) {}

    constexpr duration value() const noexcept { return value_; }

    /// `from` + this, saturated to `never`; a negative delay is `from`.
    constexpr time_point after(time_point from) const noexcept {
        if (value_.count() <= 0) return from;
        if (value_ > never - from) return never;
        return from + value_;
    }

 private:
    template <class Rep, class Period>
    static constexpr duration saturate(std::chrono::duration<Rep, Period> d) noexcept {
        if constexpr (std::is_same_v<std::chrono::duration<Rep, Period>, duration>) {
            return d;
        } else if constexpr (std::is_floating_point_v<Rep>) {
            const long double ns = static_cast<long double>(d.count()) * Period::num / Period::den * 1e9L;
            if (ns != ns) return duration::zero();
            if (ns >= 9.2e18L) return duration::max();
            if (ns <= -9.2e18L) return duration::min();
            return duration(static_cast<std::int64_t>(ns));
        } else {
            using ratio = std::ratio_divide<Period, std::nano>;
            __extension__ using wide = __int128;
            const wide ns = static_cast<wide>(d.count()) * ratio::num / ratio::den;
            if (ns > duration::max().count()) return duration::max();
            if (ns < duration::min().count()) return duration::min();
            return duration(static_cast<std::int64_t>(ns));
        }
    }

    duration value_;
};

}  // namespace rondo
