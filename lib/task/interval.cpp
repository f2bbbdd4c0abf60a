#include <rondo/task/interval.hpp>

#include "base/readable.hpp"

#include <cerrno>
#include <cstdio>
#include <new>
#include <utility>

namespace rondo {

time_point interval::take() noexcept {
    const time_point due = due_;
    const time_point now = rondo::now();
    due_ = delay(period_).after(due);
    if (now <= due) return due;
    if (missed_ == missed_ticks::delay) {
        due_ = delay(period_).after(now);
    } else if (missed_ == missed_ticks::skip && due_ <= now) {
        due_ = delay(period_ - (now - due) % period_).after(now);
    }
    return due;
}

void interval::reset(time_point first) noexcept {
    RONDO_ASSERT(!awaited_, "an interval is reset while a task waits for its tick");
    due_ = first;
}

const op_vtable interval::tick_awaiter::table = {
    [](op& o) noexcept {
        detail::current->remove_timer(o);
        detail::current->complete(o, -ECANCELED);
    },
    [](op& o) noexcept {
        o.vt->settled(o);
        detail::wake_owner(o);
    },
    &tick_awaiter::describe,
    nullptr,
    [](op& o) noexcept {
        static_cast<tick_awaiter&>(o).of_->awaited_ = false;
        return true;
    },
};

interval::tick_awaiter::tick_awaiter(interval& of) noexcept : op(table), of_(&of) {}

bool interval::tick_awaiter::start() {
    RONDO_ASSERT(!of_->awaited_, "one task at a time waits for the ticks of an interval");
    if (of_->due_ <= detail::current->now()) return false;
    detail::start_sleep(*this, of_->due_);
    of_->awaited_ = true;
    return true;
}

bool interval::tick_awaiter::start_as_arm() noexcept {
    try {
        return start();
    } catch (const std::bad_alloc&) {
        result = -ENOMEM;
        return false;
    }
}

void interval::tick_awaiter::describe(const op& o, char* text, std::size_t size) noexcept {
    const time_point due = static_cast<const tick_awaiter&>(o).of_->due_;
    std::snprintf(text, size, "tick, %s left", detail::readable_duration(due - o.owner->inside->its_loop.now()).text);
}

}  // namespace rondo
