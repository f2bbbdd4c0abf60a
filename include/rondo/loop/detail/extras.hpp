// What few tasks have, kept apart so that the others need no room for it: a name, the values of
// task_local that a task was spawned with, its locks, and since when it waits, where that is asked for.
#pragma once

#include <rondo/loop/op.hpp>
#include <rondo/base/time.hpp>

#include <cstdint>
#include <string>

namespace rondo::detail {

/// A value of a task_local, from where it was bound: the task that bound it has it, and every task spawned
/// meanwhile. Shared by those, on one thread.
struct binding {
    binding* outer;        // what was bound before
    const void* key;       // the task_local
    std::uint32_t shares;  // of tasks, and of bindings further in
    void (*destroy)(binding&) noexcept;
};

class owned_lock;

struct extras {
    std::string name;
    binding* locals = nullptr;
    time_point waits_since = never;  // the begin of the latest wait; see loop_options::track_waits
    owned_lock* locks = nullptr;  // those it owns, the latest in front
};

/// A task has ended as the owner of `lock`: nobody could unlock it any more.
[[noreturn]] RONDO_API void ended_with_lock(const owned_lock& lock) noexcept;

/// The extras of `f`, made if it has none. Throws bad_alloc.
RONDO_API extras& extras_of(fiber& f);
/// A child gets what its parent has that is inherited. Throws bad_alloc, and then the child is freed.
RONDO_API void inherit_extras(fiber& child, const fiber& parent);

/// How reports call a task: "task 7", or "task 7 'reader'". A long name is cut, an unprintable one escaped.
struct RONDO_API task_label {
    explicit task_label(const fiber& f) noexcept;
    char text[80];
};

RONDO_API void release_bindings(binding* innermost) noexcept;

}  // namespace rondo::detail
