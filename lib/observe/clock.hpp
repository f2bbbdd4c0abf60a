// What time it is within a step: that of the loop that runs, and not its cached one.
#pragma once

#include <rondo/loop/loop.hpp>

namespace rondo::observed {

inline time_point exact_now() noexcept {
    if (loop* const l = detail::current) return l->io().now();
    return loop_clock::now();
}

}  // namespace rondo::observed
