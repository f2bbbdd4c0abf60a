#include <rondo/task/suspend.hpp>

#include <rondo/loop/detail/extras.hpp>
#include <rondo/loop/loop.hpp>

#include "base/readable.hpp"

#include <cerrno>
#include <cstdio>
#include <new>

namespace rondo::detail {

namespace {

void describe_queued(const op&, char* text, std::size_t size) noexcept {
    std::snprintf(text, size, "ready to run");
}

}  // namespace

void wake_owner(op& o) noexcept { current->make_ready(*o.owner); }

void sleep_awaiter::describe(const op& o, char* text, std::size_t size) noexcept {
    const time_point until = static_cast<const sleep_awaiter&>(o).deadline_;
    if (until == never) {
        std::snprintf(text, size, "sleep, for ever");
    } else {
        std::snprintf(text, size, "sleep, %s left", readable_duration(until - o.owner->inside->of.now()).text);
    }
}

const op_vtable sleep_vtable = {
    [](op& o) noexcept {
        loop& l = *current;
        l.remove_timer(o);
        l.complete(o, -ECANCELED);
    },
    &wake_owner,
    &sleep_awaiter::describe,
};

namespace {
constexpr op_vtable queued_vtable = {[](op&) noexcept {}, [](op&) noexcept {}, &describe_queued};
}
op in_queue(queued_vtable);

const op_vtable immediate_vtable = {
    [](op& o) noexcept {
        loop& l = *current;
        l.remove_immediate(static_cast<linked_op&>(o));
        l.complete(o, -ECANCELED);
    },
    &wake_owner,
    [](const op&, char* text, std::size_t size) noexcept { std::snprintf(text, size, "the check phase"); },
};

void start_sleep(op& o, time_point deadline) {
    try {
        current->add_timer(o, deadline);
    } catch (...) {
        o.owner->waiting = nullptr;
        throw;
    }
}

bool sleep_awaiter::start() noexcept {
    if (deadline_ <= current->now()) return false;
    try {
        current->add_timer(*this, deadline_);
    } catch (const std::bad_alloc&) {
        result = -ENOMEM;
        return false;
    }
    return true;
}

void queue_immediate(linked_op& o) noexcept { current->add_immediate(o); }

bool refuse_queueing(fiber& f) noexcept {
    f.told_cancelled = 1;
    if (!current->refuse_cancelled(f)) return false;
    f.waiting = &in_queue;
    current->make_ready(f);
    return true;
}

void note_wait(fiber& f) noexcept {
    if (!f.inside->of.tracks_waits()) return;
    try {
        extras_of(f).waits_since = f.inside->of.now();
    } catch (const std::bad_alloc&) {
    }
}

bool begin_unusual(op& o) noexcept {
    fiber& f = *o.owner;
    if (f.flags & fiber::checked) {
        const loop* of = debug_enabled && o.vt->belongs_to != nullptr ? o.vt->belongs_to(o) : nullptr;
        if (of != nullptr) of->assert_here("awaiting a stream", f.leaf->site);
        note_wait(f);
    }
    if (!(f.flags & fiber::cancel_pending)) {
        f.waiting = &o;
        return true;
    }
    o.result = -ECANCELED;
    o.state = op::done;
    refuse_queueing(f);
    return false;
}

}  // namespace rondo::detail
