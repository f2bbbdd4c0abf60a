// What the awaiters of I/O have in common.
#pragma once

#include <rondo/loop/loop.hpp>

namespace rondo::detail {

RONDO_API extern const op_vtable io_vtable;
RONDO_API extern const op_vtable stream_vtable;

/// An io_op that a task awaits. Derived classes turn `result` into a value in `finish()`, which
/// gives a rondo::result<T> (mind that `result` alone is the op's own member); awaiting the op itself throws instead (see attempt.hpp).
struct io_awaiter : io_op {
    io_awaiter(io_kind k, int descriptor, const op_vtable& table = io_vtable) noexcept
        : io_op(table, k, descriptor) {}

    bool await_ready() const noexcept { return false; }

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) noexcept {
        if (!begin(*this, promise_of(h), site)) return suspended(*this);
        return !current->submit(*this);
    }

    /// Whether it ended because its task was cancelled; then awaiting throws `cancelled`, also in
    /// the non-throwing spelling.
    RONDO_API void check_cancelled() const;
};

/// `cancelled` if that is what it was, else an io_error with the operation and whom it was about.
[[noreturn]] RONDO_API void throw_io(int negative_errno, const char* operation, std::string subject);

}  // namespace rondo::detail
