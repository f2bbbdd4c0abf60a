// The plain waits: for time, and for a place in one of the loop's queues.
//
// Cancel, for all of them: the wait ends at once with `cancelled`; nothing is lost. They fail in no
// other way (but sleeping may throw bad_alloc), so attempt() has nothing to add; it takes them all the same.
#pragma once

#include <rondo/loop/detail/scheduler.hpp>
#include <rondo/task/wait.hpp>

namespace rondo {
namespace detail {

RONDO_API void start_sleep(op& o, time_point deadline);  // throws bad_alloc
inline void queue_yield(fiber& f) noexcept { current->make_ready(f); }
inline void queue_microtask(fiber& f) noexcept { current->make_ready_as_microtask(f); }
inline void queue_tick(fiber& f) noexcept { current->make_ready_as_tick(f); }

RONDO_API extern const op_vtable sleep_vtable;
RONDO_API extern const op_vtable immediate_vtable;

class RONDO_API sleep_awaiter : public op, public awaits<sleep_awaiter, wait_manner::prompt> {
 public:
    explicit sleep_awaiter(time_point deadline) noexcept : op(sleep_vtable), deadline_(deadline) {}

    bool start() {
        start_sleep(*this, deadline_);
        return true;
    }
    /// A moment that has come is there at once. Without memory it fails with ENOMEM.
    bool start_as_arm() noexcept;
    void give_back() noexcept {}
    void await_resume() const {
        if (result < 0) [[unlikely]]
            throw_failure(result, "sleep");
    }
    rondo::result<void> finish() const {
        await_resume();
        return {};
    }

    static void describe(const op& o, char* text, std::size_t size) noexcept;

 private:
    time_point deadline_;
};

/// A wait for a place in a ready queue: `Queue` says which. It is not an op of its own: a task that is
/// ready has nothing left to wait for.
template <void (*Queue)(fiber&) noexcept>
class queue_awaiter {
 public:
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) noexcept {
        promise_base& p = promise_of(h);
        fiber& f = *p.owner;
        p.site = site;
        if (f.flags & fiber::cancel_pending) [[unlikely]] {
            refused_ = true;
            return refuse_queueing(f);
        }
        f.waiting = &in_queue;
        Queue(f);
        return true;
    }
    void await_resume() const {
        if (refused_) [[unlikely]]
            throw_cancelled();
    }
    rondo::result<void> finish() const {
        await_resume();
        return {};
    }

 private:
    bool refused_ = false;
};

RONDO_API void queue_immediate(linked_op& o) noexcept;

class immediate_awaiter : public linked_op, public awaits<immediate_awaiter, wait_manner::prompt> {
 public:
    immediate_awaiter() noexcept : linked_op(immediate_vtable) {}

    bool start() noexcept {
        queue_immediate(*this);
        return true;
    }
    void give_back() noexcept {}
    void await_resume() const {
        if (result < 0) [[unlikely]]
            throw_failure(result, "immediate");
    }
    rondo::result<void> finish() const {
        await_resume();
        return {};
    }
};

}  // namespace detail

/// Waits until `after` from the loop's cached time has passed: resumed in the first timers phase at
/// or after that. Zero or less waits for the next timers phase; what cannot be counted, for ever.
[[nodiscard]] inline detail::sleep_awaiter sleep_for(delay after) noexcept {
    return detail::sleep_awaiter(after.after(now()));
}

/// Waits until the loop's time is `when` or later; a time that has passed is the next timers phase.
[[nodiscard]] inline detail::sleep_awaiter sleep_until(time_point when) noexcept { return detail::sleep_awaiter(when); }

/// Lets every task that is ready run first. Counts against the wake-up budget of the drain, so
/// tasks that yield to each other for ever do not starve timers and I/O.
[[nodiscard]] inline auto yield() noexcept { return detail::queue_awaiter<detail::queue_yield>(); }

/// Goes on from the microtask queue: behind the microtasks that are queued, before any I/O. A task
/// that does nothing else starves the loop, as in Node (reported as a storm); prefer yield().
[[nodiscard]] inline auto microtask() noexcept { return detail::queue_awaiter<detail::queue_microtask>(); }

/// Goes on from the tick queue: before all microtasks. The warning of microtask() holds.
[[nodiscard]] inline auto next_tick() noexcept { return detail::queue_awaiter<detail::queue_tick>(); }

/// Goes on in the next check phase, after I/O was looked at.
[[nodiscard]] inline detail::immediate_awaiter immediate() noexcept { return {}; }

}  // namespace rondo
