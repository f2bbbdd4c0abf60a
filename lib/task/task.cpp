#include <rondo/task/task.hpp>

namespace rondo::detail {

void miscompiled_frame() noexcept {
    // The frame is not where it should be, so nothing in it can be trusted, not even its place.
    assertion_failed(
        "GCC 12 miscompiled this coroutine: it awaits inside a condition (if, while, for, switch, do). "
        "Await into a named variable first; see docs/compilers.md",
        nullptr, {});
}

// A frame is destroyed by code of the compiler's, which calls the destructors of what is in it: one generator that
// was wrapped 200,000 times needs more stack than there is. So the last ones that still fit destroy what is further in
// when they are done themselves. `parent`, of which nobody is in need any more, links those.
void destroy_frame(promise_base& frame) noexcept {
    constexpr std::ptrdiff_t enough = 256 * 1024;
    static thread_local const char* outermost = nullptr;
    static thread_local promise_base* further_in = nullptr;
    const char* const here = static_cast<const char*>(__builtin_frame_address(0));
    const bool is_outermost = outermost == nullptr;
    if (is_outermost) outermost = here;
    if (outermost - here > enough) {
        frame.parent = std::exchange(further_in, &frame);
        return;
    }
    frame.self().destroy();
    while (further_in != nullptr) std::exchange(further_in, further_in->parent)->self().destroy();
    if (is_outermost) outermost = nullptr;
}

void destroy_unfinished(promise_base& task) noexcept {
    if (task.owner != nullptr)
        assertion_failed("a task was destroyed while it waits: cancel it, and let it end", nullptr, task.site);
    if (debug_enabled && std::uncaught_exceptions() == 0)  // else an error came before its turn
        assertion_failed("a task was made but never awaited: its body did not run", nullptr, task.site);
    destroy_frame(task);
}

}  // namespace rondo::detail
