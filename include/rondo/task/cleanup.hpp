// with_cleanup: what has to be done at the end and must wait for it, since a destructor cannot.
//
//     auto body = [&]() -> task<int> { co_return co_await transfer(connection); };
//     auto bye = [&]() -> task<> { co_await connection.say_goodbye(); };
//     const int sent = co_await with_cleanup(body, bye, 5s);
//
// It is `finally` for tasks: Python's `finally: await`, Trio's shielded CancelScope, Kotlin's
// `withContext(NonCancellable)`, in one, with the deadline that all of these leave to the reader.
#pragma once

#include <rondo/task/group.hpp>
#include <rondo/task/scope.hpp>

#include <type_traits>
#include <utility>

namespace rondo {
namespace detail {

/// What is thrown when body and cleanup have ended: no error is lost, and that of the body comes first. `cancelled`, if
/// the body has thrown it, is no error.
RONDO_API std::exception_ptr both_errors(std::exception_ptr body, std::exception_ptr cleanup) noexcept;

/// `cleanup`, cut short after `limit` from its first step.
RONDO_API task<> limited(cancel_scope& scope, task<> cleanup, delay limit);

template <class T, class Body, class Cleanup>
task<T> run_with_cleanup(Body body, Cleanup cleanup, delay limit) {
    // All memory that the cleanup needs to begin is had before the body runs: then it will run.
    scoped<void, cut_short::throws_timeout> closing(
        {.shielded = true}, [&](cancel_scope& scope) { return limited(scope, cleanup(), limit); });
    std::exception_ptr error;
    task<T> opened = task<T>::none();
    try {
        opened = body();
    } catch (...) {
        error = std::current_exception();
    }
    if (!opened.is_none()) {
        co_await settled<T>{opened};
        if (opened.outcome().has_error()) error = std::move(opened.outcome().error());
    }
    try {
        co_await closing;
    } catch (...) {
        error = both_errors(std::move(error), std::current_exception());
    }
    if (error) co_await end_with(std::move(error));
    co_return opened.outcome().take();
}

}  // namespace detail

/// Awaits `body()`, a task<T>, and then `cleanup()`, a task<>, however the body has ended: with a value, an
/// error or by cancellation. The cleanup is shielded, and cut short when `limit` has passed since its
/// start: no cancel waits for it for ever. Gives the body's value, or throws its error; what the cleanup
/// throws, timeout_error if it was cut short, is thrown alone after a success or a cancellation of the
/// body, and after its error in an exception_group with it, the body's first.
/// Both functions are called before the body's first step, so what they do ahead of their first
/// statement as a coroutine does not wait; if that, or memory, fails, nothing has run. They are copied or moved
/// and live until the end; what they refer to must outlive it.
/// Cancel: reaches the body only; when the cleanup is over, `cancelled` goes on.
template <class Body, class Cleanup>
[[nodiscard]] auto with_cleanup(Body&& body, Cleanup&& cleanup, delay limit) {
    RONDO_ASSERT_SAFE_CALLABLE(Body);
    RONDO_ASSERT_SAFE_CALLABLE(Cleanup);
    using body_type = std::decay_t<Body>;
    using cleanup_type = std::decay_t<Cleanup>;
    static_assert(std::is_void_v<detail::value_called<cleanup_type&>>, "the cleanup gives a task<>");
    return detail::run_with_cleanup<detail::value_called<body_type&>, body_type, cleanup_type>(
        std::forward<Body>(body), std::forward<Cleanup>(cleanup), limit);
}

}  // namespace rondo
