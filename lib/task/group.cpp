#include <rondo/task/group.hpp>

#include <rondo/loop/detail/extras.hpp>
#include <rondo/base/log.hpp>

#include "base/trace.hpp"

#include <cerrno>
#include <cstdio>

namespace rondo {
namespace detail {

const op_vtable empty_awaiter::table = {
    [](op&) noexcept {},
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        const std::size_t count = static_cast<const empty_awaiter&>(o).scope_.size();
        std::snprintf(text, size, "%zu %s", count, count == 1 ? "task" : "tasks");
    },
};

group::~group() {
    if (!empty()) return;  // the scope's own assertion names them
    RONDO_ASSERT(is_closed(), "a group was destroyed while its body runs");
}

void group::open(fiber& f, std::size_t limit) noexcept {
    limit_running(limit != 0 ? limit : 1);
    hear_of_successes(false);
    scope::open();
    enter(f);
}

void group::body_ended(const std::exception_ptr& error) noexcept {
    body_done_ = true;
    absorbs_ = cancelled();
    if (error || (!empty() && background_ == size())) cancel();
}

void group::close() noexcept {
    scope::close();
    leave();
}

void group::child_ended(fiber& f) noexcept {
    if (f.flags & fiber::background) {
        --background_;
    } else if (!(f.flags & (fiber::has_value | fiber::has_error)) && !start_op::waits_for(f)) {
        incomplete_ = true;
        cut_outside_ |= was_cut_outside(f);
    }
    if (body_done_ && size() == background_ && !empty()) cancel();
}

std::exception_ptr no_value_error() {
    return std::make_exception_ptr(
        io_error(errno_code(ECANCELED), "task group", "cancelled before its body gave a value"));
}

}  // namespace detail

// --- task_group ----------------------------------------------------------------------------------------

task_group::task_group(detail::scheduler& l, const task_group_options& options) noexcept
    : spawner(l, &ended, "task group"), options_(options) {}

void task_group::ended(detail::scope& base, detail::fiber& f) noexcept {
    auto& self = static_cast<task_group&>(of_core(base));
    self.child_ended(f);
    if (!(f.flags & detail::fiber::has_error) || detail::start_op::waits_for(f)) return;
    self.failed_.add(f);
    self.cancel();
}

void task_group::body_ended(const std::exception_ptr& error) noexcept {
    body_failed_first_ = failed_.empty();
    spawner::body_ended(error);
}

// Everything that failed, first failure first; `cancelled` is not a failure. A group is left by now: a
// cancel that is still pending comes from further out.
std::exception_ptr task_group::take_errors(std::exception_ptr body_error) noexcept {
    using detail::failures;
    const auto single = options_.unwrap_single ? failures::one::as_it_is : failures::one::in_a_group;
    if (!body_error || detail::is_cancellation(body_error)) {
        std::exception_ptr errors = failed_.take(single);
        return errors ? errors : body_error;
    }
    return body_failed_first_ ? failed_.take(single, body_error) : failed_.take(single, nullptr, body_error);
}

// --- supervisor_group ----------------------------------------------------------------------------------

supervisor_group::supervisor_group(detail::scheduler& l, const supervisor_group_options& options) noexcept
    : spawner(l, &ended, "supervisor group"), options_(options) {}

void supervisor_group::ended(detail::scope& base, detail::fiber& f) noexcept {
    using detail::fiber;
    auto& self = static_cast<supervisor_group&>(of_core(base));
    self.child_ended(f);
    if ((f.flags & (fiber::has_error | fiber::held)) != fiber::has_error) return;
    f.flags |= fiber::taken;
    const std::exception_ptr error = f.vt->error(f);
    if (self.options_.on_error != nullptr) return self.options_.on_error(error, f.place, self.options_.context);
    static detail::log_gate gate;
    detail::write_log(gate, log_level::error, f.place, "%s failed: %s", detail::task_label(f).text,
                      detail::traced_message_of(error, f.place).c_str());
    detail::release_trace(error);
}

}  // namespace rondo
