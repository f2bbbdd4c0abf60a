// Which line of a program a report shows.
#pragma once

#include <rondo/loop/detail/scope.hpp>

#include "base/place_text.hpp"

#include <source_location>
#include <string>
#include <string_view>

namespace rondo::detail {

/// Where a task is: its innermost await outside of this library, for a user knows tcp_listener::accept()
/// by the line that calls it. If there is none, where it was spawned. Line 0 if that is not known.
RONDO_API std::source_location shown_place(const fiber& f) noexcept;

/// That of the task that runs; line 0 if none does.
std::source_location calling_place() noexcept;

/// Whether it is that of a run() that does not know its caller's line.
bool is_main_task(const fiber& f) noexcept;

/// " at file:line", or nothing.
RONDO_API std::string at_place(const std::source_location& place);

/// A line, of level debug, that names the first few of the tasks that are left in the root scope, if there are any.
/// They are about to be cancelled.
void log_leftovers(const scope& root, const char* when) noexcept;
/// At level error: the tasks that were cancelled then, and are left for ever.
void log_stranded(const scope& root) noexcept;

}  // namespace rondo::detail
