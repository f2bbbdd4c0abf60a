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
    auto await_resume() {
        auto got = A::finish();
        if constexpr (requires { static_cast<const char*>(A::name); }) {  // a wait of the program's
            if (!got.has_value()) return decltype(got)(with_operation(got.failure(), A::name));
        }
        return got;
    }
};

/// What attempt() gives for a wait that cannot move (a scope), and is made where it is attempted. It lives as long as
/// that expression.
template <class A>
class [[nodiscard]] attempt_in_place {
 public:
    explicit attempt_in_place(A& operation) noexcept : of_(operation) {}
    attempt_in_place operator co_await() && noexcept { return *this; }
    attempt_in_place operator co_await() & = delete;  // it was kept in a variable, and the scope is gone

    bool await_ready() noexcept { return of_.await_ready(); }
    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> h, std::source_location site = std::source_location::current()) {
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
            rondo::failure why = failure_of(out.error());
            if (!why.code()) why.raise();
            return why;
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
/// that `if (!r) continue;` cannot spin in a cancelled task. What failed, and with whom, is kept:
/// r.failure().message() says "connect 10.0.0.1:80: Connection refused", and r.value() throws what
/// `co_await` alone would have thrown. `attempt(sleep_for(1s))`, and of the other plain waits, is a
/// result<void> that holds a value: they only ever end by `cancelled`.
/// A wait of your own works if it has a `finish()` that gives a result.
template <detail::attemptable A>
    requires std::is_move_constructible_v<A>
[[nodiscard]] auto attempt(A operation) {
    return detail::attempt_awaiter<A>(std::move(operation));
}

/// This one takes `with_timeout(...)` and the like, which cannot move, in the expression that makes them. Running out
/// of time becomes errc::timed_out.
template <detail::attemptable A>
    requires(!std::is_move_constructible_v<A> && !std::is_reference_v<A>)
[[nodiscard]] auto attempt(A&& operation) noexcept {
    return detail::attempt_in_place<A>(operation);
}

/// This one takes what is awaited through a handle: `co_await attempt(child)`.
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
