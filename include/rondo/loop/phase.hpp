// The phases of a turn, in libuv's order:
//
//      timers (once, before the first turn)
//   +> pending -> idle -> prepare -> poll -> check -> close -> timers -> alive? -+
//   +----------------------------------------------------------------------------+
//
// After every callback, and after every task that a phase resumes, the whole tick queue runs, then the whole microtask
// queue, and both again while either is not empty. Rules and limits: docs/order.md.
#pragma once

#include <rondo/base/detail/config.hpp>

#include <cstdint>

namespace rondo {

enum class phase : std::uint8_t { none, timers, pending, idle, prepare, poll, check, close };

/// "timers", "pending", ...
[[nodiscard]] RONDO_API const char* name_of(phase p) noexcept;

}  // namespace rondo
