// Who runs on this thread, for the messages of base, which knows neither loops nor tasks.
#pragma once

#include "report.hpp"

#include <atomic>
#include <cstdint>

namespace rondo::detail {

/// What whoever runs tasks tells about the one that runs on the calling thread.
struct who_runs {
    /// The number of the task; 0 outside of tasks.
    std::uint32_t (*task)() noexcept;
    /// Adds a line about the task, and nothing outside of tasks.
    void (*describe)(report& to) noexcept;
};

/// Set by the first loop of the process, and by the others to the same; null before.
inline constinit std::atomic<const who_runs*> asked_who_runs{nullptr};

}  // namespace rondo::detail
