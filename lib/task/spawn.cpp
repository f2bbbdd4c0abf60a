#include <rondo/task/spawn.hpp>

#include <rondo/base/log.hpp>
#include <rondo/loop/detail/extras.hpp>

#include <cerrno>
#include <cstdio>
#include <typeinfo>

namespace rondo::detail {

void set_name(fiber& f, std::string name) { extras_of(f).name = std::move(name); }

std::string_view name_of(const fiber& f) noexcept {
    return f.more != nullptr ? std::string_view(f.more->name) : std::string_view();
}

namespace {

// Nobody asked for the outcome of a task that failed. If the handle goes because another error is
// already on its way up, that one is the program's; this one is logged. Else it is unhandled.
[[gnu::noinline]] void unseen_error(fiber& f) noexcept {
    const std::exception_ptr error = f.vt->error(f);
    if (current != nullptr && std::uncaught_exceptions() == 0) return current->report_unhandled(error, f.place);
    static log_gate gate;
    write_log(gate, log_level::error, f.place, "%s failed, and nobody looked at it: %s", task_label(f).text,
              traced_message_of(error, f.place).c_str());
}

}  // namespace

void release_unusual(fiber& f) noexcept {
    f.flags &= static_cast<std::uint8_t>(~fiber::held);
    if (!(f.flags & fiber::ended))
        return f.inside->its_loop.check_thread("dropping the handle of the task spawned here", f.place);
    if (f.kept) return;
    if ((f.flags & (fiber::has_error | fiber::taken)) == fiber::has_error) [[unlikely]]
        unseen_error(f);
    free_block(f);
}

bool is_cancellation(const std::exception_ptr& error) noexcept {
    return error && *error.__cxa_exception_type() == typeid(cancelled);
}

failure failure_of(fiber& f) {
    if (f.flags & fiber::has_value) return std::error_code();
    if (f.flags & fiber::has_error) {
        const std::exception_ptr error = f.vt->error(f);
        hand_to_running_task(error);
        return failure_of(error);
    }
    return failure_thrown_by(errno_code(ECANCELED), [&f] { throw_child_cancelled(f); });
}

void throw_child_cancelled(const fiber& f) {
    throw io_error(errno_code(ECANCELED), "await task", std::to_string(f.id) + ", which was cancelled");
}

std::source_location latest_await() noexcept {
    const fiber* const spawner = current != nullptr ? current->current_fiber() : nullptr;
    return spawner != nullptr && spawner->leaf != nullptr ? spawner->leaf->site : std::source_location();
}

void hand_to_running_task(const std::exception_ptr& error) noexcept {
    const fiber* const joiner = current != nullptr ? current->current_fiber() : nullptr;
    if (joiner != nullptr && joiner->leaf != nullptr) note_joined(error, *joiner->leaf);
}

void rethrow_of(fiber& f) {
    const std::exception_ptr error = f.vt->error(f);
    hand_to_running_task(error);
    std::rethrow_exception(error);
}

const op_vtable join_op::table = {
    [](op& o) noexcept {
        static_cast<join_op&>(o).target.awaited_by = nullptr;
        current->complete(o, -ECANCELED);
    },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        std::snprintf(text, size, "%s", task_label(static_cast<const join_op&>(o).target).text);
    },
};

bool join_op::start() noexcept {
    if (target.flags & fiber::ended) return false;
    RONDO_ASSERT(target.awaited_by == nullptr, "two tasks await one task handle");
    RONDO_ASSERT(&target != owner, "a task awaits itself");
    if (debug_enabled) [[unlikely]]
        target.inside->its_loop.assert_here("awaiting a task", owner->leaf->site);
    target.awaited_by = this;
    state = armed;
    return true;
}

}  // namespace rondo::detail

namespace rondo {

void name_task(std::string name) {
    detail::fiber* const self = detail::running().current_fiber();
    RONDO_ASSERT(self != nullptr, "name_task() is for tasks");
    detail::set_name(*self, std::move(name));
}

}  // namespace rondo
