// What time it is within a step: that of the loop that runs, and not its cached one.
#pragma once

#include <rondo/loop/detail/scheduler.hpp>

namespace rondo::observed {

inline time_point exact_now() noexcept {
    if (detail::scheduler* const s = detail::current) return s->io().now();
    return loop_clock::now();
}

}  // namespace rondo::observed
