// Where tasks belong: a scope holds its tasks, cancels them, and ends when the last one has.
#pragma once

#include <rondo/op.hpp>

#include <cstddef>
#include <exception>

namespace rondo::detail {

/// The core of every scope: the loop's root, and what groups are made of. Not movable: its fibers
/// point to it.
class RONDO_API scope {
 public:
    /// What a scope does when one of its fibers has ended; the outcome is still in the fiber.
    using ended_hook = void (*)(scope&, fiber&) noexcept;

    explicit scope(loop& l, ended_hook hook) noexcept : of(l), on_ended(hook) {}
    ~scope() { RONDO_ASSERT(count == 0, "a scope was destroyed with live tasks in it"); }
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;

    /// Asks every task in it to end; tasks spawned later are cancelled at birth. O(tasks).
    void cancel() noexcept;

    loop& of;
    ended_hook on_ended;
    ring<fiber> fibers;
    std::size_t count = 0;
    op* joiner = nullptr;  // completed with 0 when `count` falls to 0
    bool cancelled = false;
};

/// Cancels one fiber: every later wait answers -ECANCELED, and the present one is asked to end.
RONDO_API void cancel_fiber(fiber& f) noexcept;

}  // namespace rondo::detail
