// What a task can wait for: one contract, kept by the library's waits and by those of programs alike.
//
// A wait is an op (loop/op.hpp), and lies in the frame of the coroutine that awaits it, so waiting allocates nothing.
// Until it is started it may be moved; then it stays where it is, and ends exactly once. It has
//
//   bool start()              Begins. True: it waits, and something will complete it. False: it is over already, and
//                             `result` says how. What it throws leaves the co_await. `owner` is set by then.
//   void cancel() noexcept    Asks a wait that waits to end early: it leaves the place where it stands, and completes
//                             with -ECANCELED, or with the real result if that was faster; now or later.
//   finish()                  What it has come to, as a result<T>: this is what attempt() gives. Throws `cancelled`
//                             if `result` is -ECANCELED.
//   await_resume()            What co_await gives: the value, or an exception.
//   describe(text, size)      One line for dumps, const and noexcept, cut at `size`.
//
// and, to be an arm of select_one(), which needs a start() that is noexcept,
//
//   void give_back() noexcept Another arm was chosen, though this one had completed: undoes what it has got, as
//                             if it had never begun. Empty if there is nothing to undo.
//   bool start_as_arm() noexcept   Instead of start(), where an arm begins in another way.
//
// A program's wait derives from basic_wait, which has all but start() and cancel(). docs/task.md shows one.
#pragma once

#include <rondo/loop/detail/scheduler.hpp>

#include <cerrno>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <source_location>
#include <system_error>
#include <type_traits>
#include <utility>

namespace rondo {
namespace detail {

/// The rare ways of `begin`: checks, and a cancelled task. Answers -ECANCELED for a wait in one, and
/// counts it: a task that keeps waiting although every wait says "cancelled" is put behind the others,
/// and reported.
RONDO_API bool begin_unusual(op& o) noexcept;
/// Asked when a cancelled task wants to go into a ready queue. True: it has waited far too often since it was
/// cancelled, so it was put behind the others first.
RONDO_API bool refuse_queueing(fiber& f) noexcept;
/// Remembers since when the task waits, for reports. Best effort: without memory it does not.
RONDO_API void note_wait(fiber& f) noexcept;

/// How a wait begins. False: the task is cancelled and the op must not start; then await_suspend returns
/// `suspended(o)`.
inline bool begin(op& o, promise_base& p, std::source_location site) noexcept {
    fiber& f = *p.owner;
    p.site = site;
    o.owner = &f;
    if (f.flags & (fiber::cancel_pending | fiber::checked)) [[unlikely]]
        return begin_unusual(o);
    f.waiting = &o;
    return true;
}

/// How a wait begins that is shielded by nature (close, joins): it starts in a cancelled task too.
inline void begin_shielded(op& o, promise_base& p, std::source_location site) noexcept {
    p.site = site;
    o.owner = p.owner;
    if (p.owner->flags & fiber::checked) [[unlikely]]
        note_wait(*p.owner);
    p.owner->waiting = &o;
}

inline bool suspended(const op& o) noexcept { return o.owner->waiting != nullptr; }

/// What await_resume does with -ECANCELED, whatever has become of the cancel since: it was decided when the
/// wait ended.
[[noreturn]] RONDO_API void throw_cancelled();
/// What await_resume does with a result that nobody else explains.
[[noreturn]] RONDO_API void throw_failure(int negative_errno, const char* operation);

}  // namespace detail

/// What a task can wait for, as the head of this file says.
template <class W>
concept wait_operation = std::derived_from<W, op> && requires(W& wait) {
    { wait.start() } -> std::same_as<bool>;
    wait.await_resume();
};

/// A wait that can be an arm of select_one(): if another arm is chosen, it is as if this one had never begun.
template <class W>
concept reversible_wait = wait_operation<W> && requires(W& wait) {
    { wait.give_back() } noexcept;
} && (requires(W& wait) { { wait.start_as_arm() } noexcept -> std::same_as<bool>; } ||
      requires(W& wait) { { wait.start() } noexcept; });

/// What else awaiting means, besides starting and finishing.
enum class wait_manner : std::uint8_t {
    fair,      // once in loop::waits_at_once a wait that is over at once lets the other tasks run
    prompt,    // it never does: it can be over at once only a few times in a row, or counts that itself
    shielded,  // as `prompt`, and it starts in a cancelled task too: it is to end, whatever happens (close, joins)
};

/// Makes the op `Wait` awaitable: a second base of it, which needs no room.
template <class Wait, wait_manner Manner = wait_manner::fair>
class awaits {
 public:
    bool await_ready() const noexcept { return false; }

    template <class Promise>
    bool await_suspend(
        std::coroutine_handle<Promise> waiting,
        std::source_location site = std::source_location::current()) noexcept(noexcept(std::declval<Wait&>().start())) {
        auto& self = static_cast<Wait&>(*this);
        if constexpr (Manner == wait_manner::shielded) {
            detail::begin_shielded(self, detail::promise_of(waiting), site);
        } else if (!detail::begin(self, detail::promise_of(waiting), site)) {
            return detail::suspended(self);
        }
        if (started(self)) return true;
        self.owner->waiting = nullptr;
        if constexpr (Manner == wait_manner::fair) {
            return detail::current->let_others_run(*self.owner);
        } else {
            return false;
        }
    }

 private:
    static bool started(Wait& self) noexcept(noexcept(self.start())) {
        if constexpr (noexcept(self.start())) {
            return self.start();
        } else {
            try {
                return self.start();
            } catch (...) {  // the task goes on without having waited
                self.owner->waiting = nullptr;
                throw;
            }
        }
    }
};

/// The base of a program's wait. `Wait` has a start(), which ends with `return arm();` if it has to wait, and a
/// cancel(); and a `static constexpr const char* name` of what it waits for, which is what reports say.
/// Everything here is for the loop's thread, and while the loop runs.
template <class Wait, wait_manner Manner = wait_manner::fair>
class basic_wait : public op, public awaits<Wait, Manner> {
 public:
    /// Ends the wait: its task is queued, and goes on with `with`, a value of 0 or more, or a negative errno. Once.
    void complete(std::int32_t with = 0) noexcept { detail::running().complete(*this, with); }

    /// A wait that gives a value replaces this, and calls it first.
    rondo::result<void> finish() const {
        if (result >= 0) return {};
        if (result == -ECANCELED) detail::throw_cancelled();
        return detail::io_failure(errno_code(-result), Wait::name);
    }
    /// Throws a failure as an io_error.
    auto await_resume() {
        auto got = static_cast<Wait&>(*this).finish();
        if (!got.has_value()) detail::with_operation(got.failure(), Wait::name).raise();
        if constexpr (!std::is_void_v<typename decltype(got)::value_type>) return *std::move(got);
    }
    void describe(char* text, std::size_t size) const noexcept { std::snprintf(text, size, "%s", Wait::name); }

 protected:
    basic_wait() noexcept : op(table) {}
    /// What start() calls at its end: it waits from now on, and may be completed.
    bool arm() noexcept {
        state = op::armed;
        return true;
    }

 private:
    static constexpr op_vtable table = {
        [](op& o) noexcept { static_cast<Wait&>(o).cancel(); },
        &detail::wake_owner,
        [](const op& o, char* text, std::size_t size) noexcept { static_cast<const Wait&>(o).describe(text, size); },
    };
};

}  // namespace rondo
