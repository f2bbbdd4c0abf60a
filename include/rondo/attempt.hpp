// attempt(operation): the non-throwing spelling of every operation.
#pragma once

#include <rondo/task.hpp>

namespace rondo {
namespace detail {

/// An awaitable whose outcome is available as a result<T>, without a throw.
template <class A>
concept attemptable = requires(A a) { a.finish(); };

template <class A>
class attempt_awaiter : public A {
 public:
    explicit attempt_awaiter(A&& operation) : A(std::move(operation)) {}
    auto await_resume() { return A::finish(); }
};

RONDO_API std::error_code code_of(const std::exception_ptr& error) noexcept;

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
/// that `if (!r) continue;` cannot spin in a cancelled task.
template <detail::attemptable A>
[[nodiscard]] auto attempt(A operation) {
    return detail::attempt_awaiter<A>(std::move(operation));
}

/// Also for what is awaited through a handle: `co_await attempt(child)`.
template <class H>
    requires requires(H& h) {
        { h.operator co_await() } -> detail::attemptable;
    }
[[nodiscard]] auto attempt(H& h) {
    return attempt(h.operator co_await());
}

template <class T>
[[nodiscard]] auto attempt(task<T> t) noexcept {
    return detail::attempt_task<T>(std::move(t));
}

}  // namespace rondo
