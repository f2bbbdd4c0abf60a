// A line of a program, as reports show it.
#pragma once

#include <source_location>
#include <string_view>

namespace rondo::detail {

/// Whether a line is of this library, not of the program.
bool is_ours(const std::source_location& place) noexcept;

bool same_line(const std::source_location& a, const std::source_location& b) noexcept;

/// The name of its file, without the folders.
std::string_view base_name(const std::source_location& place) noexcept;

/// The name of the function it is in; empty where the compiler knows none.
std::string_view function_of(const std::source_location& place) noexcept;

}  // namespace rondo::detail
