// Chance in the library's own decisions.
#pragma once

#include <rondo/loop/detail/scheduler.hpp>

namespace rondo::detail {

/// A number in [0, 1) of the running loop; on `sim` it comes from the oracle.
inline double random_fraction() noexcept { return static_cast<double>(running().io().random() >> 11) * 0x1p-53; }

}  // namespace rondo::detail
