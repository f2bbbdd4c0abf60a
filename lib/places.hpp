// Which line of a program a report shows.
#pragma once

#include <rondo/op.hpp>

#include <source_location>
#include <string>

namespace rondo::detail {

/// Where a task is: its innermost await outside of this library, for a user knows tcp_listener::accept()
/// by the line that calls it. If there is none, where it was spawned, or what the library knows. Line 0
/// if that is nothing.
std::source_location shown_place(const fiber& f) noexcept;

/// " at file:line", or nothing.
std::string at_place(const std::source_location& place);

}  // namespace rondo::detail
