#include <rondo/channel/oneshot.hpp>

#include <cstdio>

namespace rondo::detail {

namespace {
void cancel(op& o) noexcept {
    static_cast<oneshot_wait&>(o).leave();
    current->complete(o, -ECANCELED);
}
const char* name_in(const op& o) noexcept { return static_cast<const oneshot_wait&>(o).on->name; }
}  // namespace

const op_vtable oneshot_wait::for_value = {&cancel, &wake_owner,
                                           [](const op& o, char* text, std::size_t size) noexcept {
                                               if (*name_in(o) == '\0') {
                                                   std::snprintf(text, size, "receive from a oneshot");
                                               } else {
                                                   std::snprintf(text, size, "receive from oneshot '%s'", name_in(o));
                                               }
                                           }};
const op_vtable oneshot_wait::for_leaving = {
    &cancel, &wake_owner, [](const op& o, char* text, std::size_t size) noexcept {
        if (*name_in(o) == '\0') {
            std::snprintf(text, size, "a oneshot's receiver to go");
        } else {
            std::snprintf(text, size, "the receiver of oneshot '%s' to go", name_in(o));
        }
    }};

oneshot_end::oneshot_end(oneshot_end&& from) noexcept : other(std::exchange(from.other, nullptr)), name(from.name) {
    RONDO_ASSERT(from.waiting == nullptr, "an end of a oneshot was moved while a task waits on it");
    if (other != nullptr) other->other = this;
}

oneshot_end::~oneshot_end() {
    RONDO_ASSERT(waiting == nullptr, "an end of a oneshot was destroyed while a task waits on it");
    part();
}

void oneshot_end::part() noexcept {
    if (other == nullptr) return;
    oneshot_end& left = *std::exchange(other, nullptr);
    left.other = nullptr;
    left.wake();
}

// It stands at its end until its task goes on: who took the value in between would leave it with nothing.
bool oneshot_end::wait(oneshot_wait& w, bool over) noexcept {
    RONDO_ASSERT(waiting == nullptr, "two tasks wait on one end of a oneshot");
    waiting = &w;
    if (over || other == nullptr) return false;
    w.state = op::armed;
    return true;
}

void oneshot_end::wake() noexcept {
    if (waiting != nullptr && waiting->pending()) running().complete(*waiting, 0);
}

}  // namespace rondo::detail
