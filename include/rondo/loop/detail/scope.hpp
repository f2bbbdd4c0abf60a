// Where tasks belong: a scope holds its tasks, cancels them, and ends when the last one has.
//
// Scopes form a tree through tasks: a scope's parent is the one its holder was in when it entered it,
// and a task is in the innermost scope it has entered, at first in the one it was spawned into. So
// everything below a scope is found from it: its tasks, and what these are in.
#pragma once

#include <rondo/loop/op.hpp>
#include <rondo/base/time.hpp>

#include <cstddef>
#include <exception>
#include <utility>

namespace rondo::detail {

/// The core of every scope: the loop's root, groups, and the cancel scopes that hold no task but their
/// own. Not movable: its tasks point to it. Its loop knows those that hold tasks, for reports.
class RONDO_API scope : links {
 public:
    /// What a scope does when one of its tasks has ended; the outcome is still in the fiber. Of plain successes it
    /// hears if it wants to, or if there is a line.
    using ended_hook = void (*)(scope&, fiber&) noexcept;

    /// `kind` is for reports, a literal.
    explicit scope(scheduler& l, ended_hook hook, const char* kind = "scope") noexcept
        : its_loop(l), on_ended_(hook), kind_(kind) {}
    ~scope() {
        if (count_ != 0) [[unlikely]]
            destroyed_with_tasks();
        if (linked()) unlink();
    }
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;

    scheduler& its_loop;

    // --- who is in it

    /// Makes this the innermost scope of `f`, a running task, until leave().
    void enter(fiber& f) noexcept;
    void leave() noexcept;
    /// The task that has entered it; null for a root.
    fiber* holder() const noexcept { return holder_; }
    /// The coroutine of that task which did; it may be gone.
    const promise_base* entered_by() const noexcept { return entered_by_; }
    /// What the holder was in before; null for a root.
    scope* parent() const noexcept { return parent_; }

    const ring<fiber>& tasks() const noexcept { return tasks_; }
    std::size_t size() const noexcept { return count_; }
    /// `waits` is completed with 0 when the last task has ended.
    void tell_when_empty(op& waits) noexcept { awaited_by_ = &waits; }

    // --- cancelling

    /// Asks every task in it to end; tasks spawned later are cancelled at birth. O(tasks below it).
    void cancel() noexcept;
    bool cancelled() const noexcept { return cancelled_; }
    /// What is cancelled outside does not reach in.
    bool is_shielded() const noexcept { return shielded_; }
    /// Puts the shield up or down; who does so while the scope is entered renews the cancellation below it.
    void shield(bool up) noexcept { shielded_ = up; }
    /// Whether the task that has entered it is cancelled where it came from; and whether it was so for a moment at
    /// least, since it entered it or since that was forgotten.
    bool cancelled_outside() const noexcept { return cancelled_outside_; }
    bool was_cancelled_outside() const noexcept { return was_cancelled_outside_; }
    void forget_cancelled_outside() noexcept { was_cancelled_outside_ = false; }
    /// Whether what waits in it is cancelled; a task of it may be so for itself (is_cancelled). O(1): whoever
    /// cancels, or moves a shield, has told every scope below.
    bool is_cut() const noexcept { return cancelled_ || (cancelled_outside_ && !shielded_); }

    // --- for reports

    const char* kind() const noexcept { return kind_; }      // "task group"
    const char* reason() const noexcept { return reason_; }  // why it was cancelled, if anyone said
    time_point deadline() const noexcept { return deadline_; }

 protected:
    static constexpr std::size_t no_limit = ~std::size_t{0};

    /// So many tasks run at once; the others stand in line. Before the first one is spawned.
    void limit_running(std::size_t most) noexcept { max_running_ = most; }
    void hear_of_successes(bool hears) noexcept {
        hears_successes_ = hears;
        ends_plainly_ = false;
    }
    /// Closed, nothing may be spawned into it.
    void close() noexcept {
        closed_ = true;
        open_wide_ = false;
    }
    void open() noexcept { closed_ = false; }
    bool is_closed() const noexcept { return closed_; }
    /// It is cancelled before anyone has entered it.
    void begin_cancelled() noexcept { cancelled_ = true; }
    void set_reason(const char* why) noexcept { reason_ = why; }
    void set_deadline(time_point deadline) noexcept { deadline_ = deadline; }

 private:
    friend class ring<scope>;
    friend class scheduler;
    friend class engine;
    friend class cancel_walk;
    [[noreturn]] void destroyed_with_tasks() const noexcept;

    // The line of those that may not start yet, which are the last of its tasks: a task takes its place at the end, the
    // first one has its turn, or one of them gives its place up (false if it had none). O(1) each.
    void wait_for_turn(fiber& f) noexcept {
        f.waiting = &in_line;
        if (in_line_++ == 0) first_in_line_ = &f;
    }
    fiber& next_in_turn() noexcept {
        --in_line_;
        first_in_line_->waiting = nullptr;
        return *std::exchange(first_in_line_, tasks_.after(*first_in_line_));
    }
    bool gives_up_turn(fiber& f) noexcept {
        if (f.waiting != &in_line) return false;
        if (&f == first_in_line_) return next_in_turn(), true;
        --in_line_;
        f.waiting = nullptr;
        tasks_.move_before(f, *first_in_line_);
        return true;
    }
    /// Whether as many run as may.
    bool is_full() const noexcept { return count_ - in_line_ >= max_running_; }

    void set_cancelled_outside(bool is) noexcept {
        cancelled_outside_ = is;
        was_cancelled_outside_ |= is;
    }

    ended_hook on_ended_;
    ring<fiber> tasks_;
    fiber* first_in_line_ = nullptr;  // only if `in_line_` says so
    std::size_t in_line_ = 0;
    std::size_t max_running_ = no_limit;
    std::size_t count_ = 0;
    op* awaited_by_ = nullptr;
    scope* parent_ = nullptr;
    fiber* holder_ = nullptr;
    const promise_base* entered_by_ = nullptr;
    scope* next_visited_ = nullptr;  // while a cancellation walks
    time_point deadline_ = never;
    const char* kind_;
    const char* reason_ = "";
    bool closed_ = false;
    bool cancelled_ = false;
    bool shielded_ = false;
    bool cancelled_outside_ = false;
    bool was_cancelled_outside_ = false;
    bool hears_successes_ = true;
    // These two are computed when a task is spawned into it and one of them is false: each spares every spawn, and
    // every end, several questions. It is known to its loop, not cancelled, and without a limit, so what is spawned
    // into it needs no second look; and nobody need hear of a plain success.
    bool open_wide_ = false;
    bool ends_plainly_ = false;
};

/// A task that is to be cancelled because the one that waits for it is, although it is in no scope of that one.
struct later_cancel {
    fiber* target = nullptr;
    later_cancel* next = nullptr;
};

/// The cancels that a loop puts off while a walk that cancels goes on.
struct postponed_cancels {
    later_cancel* first = nullptr;
    bool walking = false;
};

/// Whether what the task waits for now has to answer "cancelled".
inline bool is_cancelled(const fiber& f) noexcept {
    const scope& in = *f.inside;
    return in.is_cut() || (in.holder() != &f && f.cancel_asked != 0);
}

/// After a shield was put up or taken down: what every task below may wait for. O(tasks below it).
RONDO_API void renew_cancellation(scope& s) noexcept;

/// Cancels one fiber: every later wait answers -ECANCELED, and the present one is asked to end.
RONDO_API void cancel_fiber(fiber& f) noexcept;

/// Cancels `c.target`: now, or at the end of the walk that goes on. `c` stays where it is until then.
RONDO_API void cancel_later(later_cancel& c) noexcept;

}  // namespace rondo::detail
