// attempt(operation): the non-throwing spelling of every operation.
#pragma once

#include <rondo/task/task.hpp>

namespace rondo {
namespace detail {

/// An awaitable whose outcome is available as a result<T>, without a throw.
template <class A>
concept attemptable = requires(A a) { a.finish(); };

/// A handle of what can be awaited so.
template <class H>
concept attemptable_handle = requires(H& h) {
    { h.operator co_await() } -> attemptable;
};

template <class A>
concept can_attempt = attemptable<A> || attemptable_handle<A> || is_task<A>;

template <class A>
class attempt_awaiter : public A {
 public:
    explicit attempt_awaiter(A&& operation) : A(std::move(operation)) {}
    auto await_resume() { return A::finish(); }
};

/// Of a wait that cannot move (a scope), made where it is attempted: lives as long as that expression.
template <class A>
class [[nodiscard]] attempt_in_place {
 public:
    explicit attempt_in_place(A& operation) noexcept : of_(operation) {}
    attempt_in_place operator co_await() && noexcept { return *this; }
    attempt_in_place operator co_await() & = delete;  // it was kept in a variable, and the scope is gone

    bool await_ready() noexcept { return of_.await_ready(); }
    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) {
        return of_.await_suspend(h, site);
    }
    auto await_resume() { return of_.finish(); }

 private:
    A& of_;
};

template <class T>
class attempt_task : public task<T> {
 public:
    explicit attempt_task(task<T>&& t) noexcept : task<T>(std::move(t)) {}

    result<T> await_resume() {
        auto& out = this->outcome();
        if (out.has_error()) {
            const std::error_code code = code_of(out.error());
            if (!code) std::rethrow_exception(out.error());
            return code;
        }
        if constexpr (std::is_void_v<T>) {
            return {};
        } else {
            return out.take();
        }
    }
};

}  // namespace detail

/// `co_await attempt(stream.read_some(buffer))` gives a result<T> where `co_await
/// stream.read_some(buffer)` would throw a system_error. A task works too: its system_errors become
/// results, and everything else it throws still does. `cancelled` is thrown in both spellings, so
/// that `if (!r) continue;` cannot spin in a cancelled task. `attempt(sleep_for(1s))`, and of the other
/// plain waits, is a result<void> that holds a value: they only ever end by `cancelled`.
/// A wait of your own works if it has a `finish()` that gives a result.
template <detail::attemptable A>
    requires std::is_move_constructible_v<A>
[[nodiscard]] auto attempt(A operation) {
    return detail::attempt_awaiter<A>(std::move(operation));
}

/// Of `with_timeout(...)` and the like, where running out of time becomes errc::timed_out: in the same expression.
template <detail::attemptable A>
    requires(!std::is_move_constructible_v<A> && !std::is_reference_v<A>)
[[nodiscard]] auto attempt(A&& operation) noexcept {
    return detail::attempt_in_place<A>(operation);
}

/// Also for what is awaited through a handle: `co_await attempt(child)`.
template <detail::attemptable_handle H>
[[nodiscard]] auto attempt(H& h) {
    return attempt(h.operator co_await());
}

template <class T>
[[nodiscard]] auto attempt(task<T> t) noexcept {
    return detail::attempt_task<T>(std::move(t));
}

template <class A>
    requires(!detail::can_attempt<std::remove_cvref_t<A>>)
void attempt(A&&) {
    static_assert(detail::can_attempt<std::remove_cvref_t<A>>,
                  "attempt takes a task, a task_handle, or a wait whose finish() gives a result");
}

}  // namespace rondo
