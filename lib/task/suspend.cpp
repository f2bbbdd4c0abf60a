#include <rondo/task/suspend.hpp>

#include <rondo/loop/loop.hpp>

#include "base/readable.hpp"

#include <cerrno>
#include <cstdio>
#include <new>

namespace rondo::detail {

void sleep_awaiter::describe(const op& o, char* text, std::size_t size) noexcept {
    const time_point until = static_cast<const sleep_awaiter&>(o).deadline_;
    if (until == never) {
        std::snprintf(text, size, "sleep, for ever");
    } else {
        std::snprintf(text, size, "sleep, %s left", readable_duration(until - o.owner->inside->its_loop.now()).text);
    }
}

const op_vtable sleep_vtable = {
    [](op& o) noexcept {
        scheduler& l = *current;
        l.remove_timer(o);
        l.complete(o, -ECANCELED);
    },
    &wake_owner,
    &sleep_awaiter::describe,
};

const op_vtable immediate_vtable = {
    [](op& o) noexcept {
        scheduler& l = *current;
        l.remove_immediate(static_cast<linked_op&>(o));
        l.complete(o, -ECANCELED);
    },
    &wake_owner,
    [](const op&, char* text, std::size_t size) noexcept { std::snprintf(text, size, "the check phase"); },
};

void start_sleep(op& o, time_point deadline) { current->add_timer(o, deadline); }

bool sleep_awaiter::start_as_arm() noexcept {
    if (deadline_ <= current->now()) return false;
    try {
        start_sleep(*this, deadline_);
    } catch (const std::bad_alloc&) {
        result = -ENOMEM;
        return false;
    }
    return true;
}

void queue_immediate(linked_op& o) noexcept { current->add_immediate(o); }

}  // namespace rondo::detail
