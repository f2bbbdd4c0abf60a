#include <rondo/task/start.hpp>

#include <rondo/loop/detail/extras.hpp>

#include <cerrno>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace rondo::detail {

const op_vtable start_op::table = {&cancel, &wake_owner, &describe};

void start_op::wait_for(fiber& child) noexcept {
    later_cancel::target = &child;
    child.awaited_by = this;
    state = armed;
}

// The child is running: it goes on as one of its group.
void start_op::report() noexcept {
    fiber& f = *std::exchange(later_cancel::target, nullptr);
    f.awaited_by = nullptr;
    release_handle(f);
    ready_ = true;
    current->complete(*this, 0);
}

// The caller is cancelled, and so is the child: this wait ends when that has, or if it reports all the same.
void start_op::cancel(op& o) noexcept {
    auto& self = static_cast<start_op&>(o);
    if (self.was_asked_) return;
    self.state = cancelling;
    self.was_asked_ = true;
    cancel_later(self);
}

void start_op::describe(const op& o, char* text, std::size_t size) noexcept {
    const fiber* const starting = static_cast<const start_op&>(o).child();
    std::snprintf(text, size, "%s to be ready", starting != nullptr ? task_label(*starting).text : "a task");
}

void start_op::throw_not_ready() const {
    if (child() == nullptr) throw_failure(result, "start");  // cancelled before it began
    child()->flags |= fiber::taken;
    if (child()->flags & fiber::has_error) rethrow_of(*child());
    if (was_asked_) throw_cancelled();
    if (child()->flags & fiber::has_value)
        throw std::logic_error("start: task " + std::to_string(child()->id) + " ended before it was ready");
    throw io_error(errno_code(ECANCELED), "start", std::to_string(child()->id) + ", which was cancelled");
}

failure start_op::why_not_ready() const {
    failure failed = child() != nullptr && !was_asked_ ? failure_of(*child()) : failure(std::error_code());
    if (!failed.code()) throw_not_ready();
    child()->flags |= fiber::taken;
    return failed;
}

}  // namespace rondo::detail
