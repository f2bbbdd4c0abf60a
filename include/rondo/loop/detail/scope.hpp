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

namespace rondo::detail {

/// The core of every scope: the loop's root, groups, and the cancel scopes that hold no task but their
/// own. Not movable: its tasks point to it. Its loop knows those that hold tasks, for reports.
class RONDO_API scope : links {
 public:
    /// What a scope does when one of its fibers has ended; the outcome is still in the fiber. Of plain
    /// successes it hears only if `hears_successes`.
    using ended_hook = void (*)(scope&, fiber&) noexcept;

    /// `kind` is for reports, a literal.
    explicit scope(loop& l, ended_hook hook, const char* kind = "scope") noexcept
        : of(l), on_ended(hook), label(kind) {}
    ~scope() {
        if (count != 0) [[unlikely]]
            destroyed_with_tasks();
        if (linked()) unlink();
    }
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;

    /// Makes this the innermost scope of `f`, a running task, until leave().
    void enter(fiber& f) noexcept;
    void leave() noexcept;

    /// A task of it that may not start yet, and the one that is next.
    void wait_for_turn(fiber& f) noexcept {
        waiting_to_start.push(f);
        ++waiting_count;
    }
    fiber& next_in_turn() noexcept {
        --waiting_count;
        return static_cast<fiber&>(waiting_to_start.pop());
    }
    /// From now on its hook is told about plain successes.
    void hear_successes() noexcept {
        hears_successes = true;
        ends_plainly = false;
    }
    /// Whether what waits in it is cancelled; a task of it may be so for itself (is_cancelled). O(1): whoever
    /// cancels, or moves a shield, has told every scope below.
    bool is_cut() const noexcept { return cancelled || (cancelled_outside && !shielded); }
    void is_cancelled_outside(bool is) noexcept {
        cancelled_outside = is;
        was_cancelled_outside |= is;
    }
    /// Whether as many run as may.
    bool is_full() const noexcept { return count - waiting_count >= max_running; }

    /// Asks every task in it to end; tasks spawned later are cancelled at birth. O(tasks below it).
    void cancel() noexcept;

    loop& of;
    ended_hook on_ended;
    ring<fiber> fibers;
    queue<ready_node> waiting_to_start;      // of `fibers`, those that are one too many
    std::size_t waiting_count = 0;
    std::size_t max_running = ~std::size_t{0};
    std::size_t count = 0;
    op* joiner = nullptr;                    // completed with 0 when `count` falls to 0
    scope* parent = nullptr;                 // what the holder was in before; null for a root
    fiber* holder = nullptr;                 // the task that has entered it; null for a root
    const promise_base* entered_by = nullptr;  // the coroutine that did; only compared
    scope* next_visited = nullptr;           // during cancel()
    time_point deadline = never;             // for current_deadline()
    const char* label;                       // "task group"
    const char* reason = "";                 // why it was cancelled, if anyone said
    bool closed = false;                     // nothing may be spawned into it
    bool cancelled = false;
    bool shielded = false;                   // what is cancelled outside does not reach in
    bool cancelled_outside = false;          // the task that has entered it is cancelled where it came from
    bool was_cancelled_outside = false;      // that was so for a moment at least, since it was entered
    bool hears_successes = true;
    /// What is spawned into it needs no second look: it is known to its loop, not cancelled, and without a limit.
    bool open_wide = false;
    /// Nobody need hear of a plain success.
    bool ends_plainly = false;

 private:
    friend class ring<scope>;
    friend class rondo::loop;
    [[noreturn]] void destroyed_with_tasks() const noexcept;
};

class start_op;

/// A loop's: during a walk that cancels, the start()s it met.
struct asked_starts {
    start_op* first = nullptr;
    bool walking = false;
};

/// Waits until a scope that the task has entered is empty. Shielded by nature: who cancels this task
/// cancels the scope's.
class RONDO_API empty_awaiter : op {
 public:
    explicit empty_awaiter(scope& s) noexcept;
    bool await_ready() const noexcept { return scope_.count == 0; }
    template <rondo_promise Promise>
    void await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) noexcept {
        begin_shielded(*this, h.promise(), site);
        state = armed;
        scope_.joiner = this;
    }
    void await_resume() const noexcept {}

 private:
    static void describe(const op& o, char* text, std::size_t size) noexcept;
    static const op_vtable table;
    scope& scope_;
};

/// Whether what the task waits for now has to answer "cancelled".
inline bool is_cancelled(const fiber& f) noexcept {
    const scope& in = *f.inside;
    return in.is_cut() || (in.holder != &f && (f.flags & fiber::cancel_asked) != 0);
}

/// After a shield was put up or taken down: what every task below may wait for. O(tasks below it).
RONDO_API void renew_cancellation(scope& s) noexcept;

/// Cancels one fiber: every later wait answers -ECANCELED, and the present one is asked to end.
RONDO_API void cancel_fiber(fiber& f) noexcept;

}  // namespace rondo::detail
