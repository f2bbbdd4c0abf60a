// What the awaiters of I/O have in common.
#pragma once

#include <rondo/loop/detail/scheduler.hpp>
#include <rondo/task/wait.hpp>

#include <cstddef>
#include <string>

namespace rondo::detail {

RONDO_API extern const op_vtable io_vtable;

/// The kernel transfers a little less than 2 GiB at a time.
inline constexpr std::size_t transfer_max = 0x7fff'f000;

/// An io_op that a task awaits. Derived classes are waits as task/wait.hpp has them: `prompt`, since the loop counts
/// itself how many of them are over at once. They turn `result` into a value in `finish()`, which gives a
/// rondo::result<T> (mind that `result` alone is the op's own member); awaiting the op itself throws instead.
struct io_awaiter : io_op {
    io_awaiter(io_kind k, int descriptor, const op_vtable& table = io_vtable) noexcept : io_op(table, k, descriptor) {}

    bool start() noexcept { return !current->submit(*this); }

    /// Throws `cancelled` if it ended because its task was cancelled; the non-throwing spelling does so, too.
    RONDO_API void check_cancelled() const;
};

/// Makes one awaitable: a second base of it.
template <class Wait>
using awaits_io = awaits<Wait, wait_manner::prompt>;

/// What the vtables of I/O are made of: asks the backend to end the op, and describes it by its descriptor.
RONDO_API void cancel_io(op& o) noexcept;
RONDO_API void describe_io(const op& o, char* text, std::size_t size) noexcept;

/// An io_error, or `not_simulated` when that is what the simulated backend of the running loop says.
[[noreturn]] RONDO_API void throw_refused(std::error_code why, const char* operation, std::string subject);

/// `cancelled` if that is what it was, else an io_error with the operation and whom it was about.
[[noreturn]] RONDO_API void throw_io(int negative_errno, const char* operation, std::string subject);

}  // namespace rondo::detail
