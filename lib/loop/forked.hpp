// What a loop does in a forked child.
//
// The child may be the copy of a program in the middle of a turn. The task or callback that has forked runs on; it
// will exec, exit, throw, or drop what it has. Whatever else was ready at that moment is the parent's to run, and must
// not be run twice: here it stays where it is. Only who is cancelled goes on, to unwind, so that an exception can
// leave groups, and run(). What the loop calls meanwhile is in left_behind.hpp.
#pragma once

namespace rondo::detail {

/// Whether it is a task that unwinds who calls, in a forked child. It may have got what it waited for when it was
/// cancelled, and goes on until its next wait: what it calls meanwhile is no bug, and has no effect.
bool unwinding_in_child() noexcept;

/// Asserts that `what` was done with the parent's in a forked child.
[[noreturn]] void used_in_child(const char* what) noexcept;

}  // namespace rondo::detail
