#include <rondo/task/outcome.hpp>

#include <cerrno>

namespace rondo {

task_outcome<void>::task_outcome(detail::fiber& ended) noexcept
    : error_(ended.vt->error(ended)), state_(detail::taken_state(ended)) {}

namespace detail {

task_state taken_state(fiber& ended) noexcept {
    RONDO_ASSERT(ended.flags & fiber::ended, "the outcome of a task that has not ended");
    ended.flags |= fiber::taken;
    if (ended.flags & fiber::has_error) return task_state::failed;
    return ended.flags & fiber::has_value ? task_state::succeeded : task_state::cancelled;
}

void throw_outcome(task_state state, const std::exception_ptr& error) {
    RONDO_ASSERT(state != task_state::failed || error, "the outcome of a task was moved from");
    if (state == task_state::failed) {
        hand_to_running_task(error);
        std::rethrow_exception(error);
    }
    throw io_error(errno_code(ECANCELED), "await task");
}

}  // namespace detail
}  // namespace rondo
