#include <rondo/detail/scope.hpp>

#include <rondo/attempt.hpp>
#include <rondo/loop.hpp>
#include <rondo/spawn.hpp>

#include <cerrno>
#include <cstdio>
#include <typeinfo>

namespace rondo::detail {

void scope::cancel() noexcept {
    cancelled = true;
    // Cancelling only queues, so nobody leaves the list during the walk.
    fibers.for_each([](fiber& f) { cancel_fiber(f); });
}

void cancel_fiber(fiber& f) noexcept {
    if (f.flags & fiber::ended) return;
    if (f.home != nullptr) f.home->of.check_thread("cancel");
    f.flags |= fiber::cancel_pending;
    if (f.waiting == nullptr || !f.waiting->pending()) return;
    // A task may be cancelled while its loop does not run: its ops look for the current one.
    loop* const outer = std::exchange(current, &f.home->of);
    f.waiting->vt->cancel(*f.waiting);
    current = outer;
}

namespace {

// Nobody asked for the outcome of a task that failed. If the handle goes because another error is
// already on its way up, that one is the program's; this one is logged. Else it is unhandled.
void unseen_error(fiber& f) noexcept {
    const std::exception_ptr error = f.vt->error(f);
    if (current != nullptr && std::uncaught_exceptions() == 0)
        return current->report_unhandled(error, f.place);
    static log_gate gate;
    write_log(gate, log_level::error, f.place, "task %u failed, and nobody looked at it: %s",
              static_cast<unsigned>(f.id), message_of(error).c_str());
}

}  // namespace

void release_handle(fiber& f) noexcept {
    f.flags &= static_cast<std::uint8_t>(~fiber::held);
    if (!(f.flags & fiber::ended)) return;
    if ((f.flags & (fiber::has_error | fiber::taken)) == fiber::has_error) unseen_error(f);
    f.vt->free(f);
}

bool is_cancellation(const std::exception_ptr& error) noexcept {
    return error && *error.__cxa_exception_type() == typeid(cancelled);
}

std::error_code failure_of(fiber& f) noexcept {
    if (f.flags & fiber::has_value) return {};
    if (f.flags & fiber::has_error) return code_of(f.vt->error(f));
    return errno_code(ECANCELED);
}

void throw_child_cancelled(const fiber& f) {
    throw io_error(errno_code(ECANCELED), "await task", std::to_string(f.id) + ", which was cancelled:");
}

namespace {
constexpr op_vtable join_vtable = {
    [](op& o) noexcept {
        static_cast<join_op&>(o).target.joiner = nullptr;
        current->complete(o, -ECANCELED);
    },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        std::snprintf(text, size, "task %u", static_cast<unsigned>(static_cast<const join_op&>(o).target.id));
    },
};
}  // namespace

join_op::join_op(fiber& f) noexcept : op(join_vtable), target(f) {}

bool join_op::start() noexcept {
    if (target.flags & fiber::ended) {
        owner->waiting = nullptr;
        return false;
    }
    RONDO_ASSERT(target.joiner == nullptr, "two tasks await one task handle");
    RONDO_ASSERT(&target != owner, "a task awaits itself");
    target.joiner = this;
    state = armed;
    return true;
}

}  // namespace rondo::detail
