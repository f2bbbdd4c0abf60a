// Bugs assert: one message, the task, the place, then abort. Always compiled in.
#pragma once

#include <rondo/base/detail/config.hpp>

#include <source_location>

namespace rondo::detail {

/// True when RONDO_DEBUG=1 was in the environment at start: the one debug switch. It turns on
/// checks that need a walk or a thread id; it changes no layout and no order.
RONDO_API extern bool debug_enabled;

/// Prints `what`, `condition` if any, the running task and `place`, then aborts.
[[noreturn]] RONDO_API void assertion_failed(const char* what, const char* condition,
                                             std::source_location place = std::source_location::current()) noexcept;

}  // namespace rondo::detail

#define RONDO_ASSERT(condition, what) ((condition) ? void() : ::rondo::detail::assertion_failed(what, #condition))
