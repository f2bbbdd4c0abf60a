// Which line of a program a report shows.
#pragma once

#include <rondo/loop/loop.hpp>

#include <source_location>
#include <string>
#include <string_view>

namespace rondo::detail {

/// Whether a line is of this library, not of the program.
bool is_ours(const std::source_location& place) noexcept;

/// The name of its file, without the folders.
std::string_view base_name(const std::source_location& place) noexcept;

/// The name of the function it is in; empty where the compiler knows none: clang, of a coroutine.
std::string_view function_of(const std::source_location& place) noexcept;

/// Where a task is: its innermost await outside of this library, for a user knows tcp_listener::accept()
/// by the line that calls it. If there is none, where it was spawned, or what the library knows. Line 0
/// if that is nothing.
std::source_location shown_place(const fiber& f) noexcept;

/// " at file:line", or nothing.
std::string at_place(const std::source_location& place);

/// A line, of level debug, that names the tasks that are left in the root scope, if there are any: the
/// first few of them. They are about to be cancelled.
void log_leftovers(const loop& l, const char* when) noexcept;
/// At level error: the tasks that were cancelled then, and are left for ever.
void log_stranded(const loop& l) noexcept;

}  // namespace rondo::detail
