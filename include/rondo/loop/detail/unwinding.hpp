// Through which awaits and tasks an error came: remembered as it passes, for whoever reports it.
#pragma once

#include <rondo/loop/op.hpp>

#include <exception>
#include <source_location>

namespace rondo::detail {

/// Remembers the way of the current exception; `p` is the coroutine that it leaves now.
RONDO_API void note_unwinding(const promise_base& p) noexcept;
/// The same for an error that is not thrown: `p` ends with it.
RONDO_API void note_passed(const std::exception_ptr& error, const promise_base& p) noexcept;
/// A task has ended with this error before it had a coroutine.
RONDO_API void note_not_started(const std::exception_ptr& error, const fiber& f) noexcept;
/// An error that ended a task goes on to the coroutine that asks for its outcome.
RONDO_API void note_joined(const std::exception_ptr& error, const promise_base& joiner) noexcept;

/// The innermost await of the program through which an error came, as long as that is remembered; else line 0.
RONDO_API std::source_location thrown_at(const std::exception_ptr& error) noexcept;

/// Prints what a program died of, as describe() says it.
RONDO_API void report_escaped(const std::exception_ptr& error) noexcept;

}  // namespace rondo::detail
