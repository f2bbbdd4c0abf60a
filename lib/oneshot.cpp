#include <rondo/oneshot.hpp>

#include <cstdio>

namespace rondo::detail {

namespace {
void cancel(op& o) noexcept {
    static_cast<oneshot_wait&>(o).on->waiting = nullptr;
    current->complete(o, -ECANCELED);
}
}  // namespace

const op_vtable oneshot_wait::for_value = {
    &cancel, &wake_owner,
    [](const op&, char* text, std::size_t size) noexcept { std::snprintf(text, size, "receive from a oneshot"); }};
const op_vtable oneshot_wait::for_leaving = {
    &cancel, &wake_owner,
    [](const op&, char* text, std::size_t size) noexcept { std::snprintf(text, size, "a oneshot's receiver to go"); }};

oneshot_end::oneshot_end(oneshot_end&& from) noexcept : other(std::exchange(from.other, nullptr)) {
    RONDO_ASSERT(from.waiting == nullptr, "an end of a oneshot was moved while a task waits on it");
    if (other != nullptr) other->other = this;
}

void oneshot_end::part() noexcept {
    RONDO_ASSERT(waiting == nullptr, "an end of a oneshot was destroyed while a task waits on it");
    if (other == nullptr) return;
    oneshot_end& left = *std::exchange(other, nullptr);
    left.other = nullptr;
    left.wake();
}

bool oneshot_end::wait(oneshot_wait& w) noexcept {
    if (other == nullptr) return false;
    RONDO_ASSERT(waiting == nullptr, "two tasks wait on one end of a oneshot");
    waiting = &w;
    w.state = op::armed;
    return true;
}

void oneshot_end::wake() noexcept {
    if (waiting != nullptr) this_loop().complete(*std::exchange(waiting, nullptr), 0);
}

}  // namespace rondo::detail
