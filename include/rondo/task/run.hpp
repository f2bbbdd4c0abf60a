// Where a program meets the loop: run(fn, args...) and run_main(fn, args...).
#pragma once

#include <rondo/task/spawn.hpp>

#include <type_traits>

namespace rondo {
namespace detail {

/// Turns `l` until `main` has ended and its root scope is empty; throws deadlock_error when `main`
/// can never end.
RONDO_API void run_to_end(loop& l, fiber& main);

/// A handle's share, for as long as this lives.
struct hold {
    explicit hold(fiber& fiber_held) noexcept : f(fiber_held) { f.flags |= fiber::held; }
    ~hold() { release_handle(f); }
    hold(const hold&) = delete;
    hold& operator=(const hold&) = delete;
    fiber& f;
};

}  // namespace detail

/// Runs `fn(args...)`, which gives a task<T>, as the main task of `l`; returns its value or rethrows
/// its error. When it ends, tasks left in the root scope are cancelled and awaited. Throws
/// deadlock_error, with the await tree, when the main task waits for what can never happen, and on `sim`
/// livelock_error, with the busiest tasks and callbacks, after loop_options::step_limit.
/// loop::stop() cancels the main task as well; if that ends it, io_error(operation_canceled) "run was
/// ended by loop::stop()" is thrown, and stopped() is true.
template <class F, class... Args>
decltype(auto) run_on(detail::loop_at at, F&& f, Args&&... args) {
    loop& l = at.of;
    l.check_thread("run_on", at.place);
    using value = detail::child_value<std::decay_t<F>, std::decay_t<Args>...>;
    detail::hold main(detail::make_child(l.root(), at.place, std::forward<F>(f),
                                         std::forward<Args>(args)...));
    detail::run_to_end(l, main.f);
    return detail::take_result<value>(main.f);
}

/// The same on a loop of its own, made with `options`.
template <class F, class... Args>
decltype(auto) run(const loop_options& options, F&& f, Args&&... args) {
    loop l(options);
    return run_on(l, std::forward<F>(f), std::forward<Args>(args)...);
}

/// The same with default options: RONDO_BACKEND chooses the backend. A value it cannot have throws
/// io_error(invalid_argument) from the loop's constructor, and so from here.
template <class F, class... Args>
    requires(!std::is_convertible_v<F&&, const loop_options&>)
decltype(auto) run(F&& f, Args&&... args) {
    return run(loop_options{}, std::forward<F>(f), std::forward<Args>(args)...);
}

/// What main() returns: run(), with the error printed to standard error if one escapes. The exit
/// code is the task's int, or 0; 1 after an error.
template <class... Args>
int run_main(Args&&... args) noexcept {
    try {
        using value = decltype(run(std::forward<Args>(args)...));
        if constexpr (std::is_same_v<value, int>) {
            return run(std::forward<Args>(args)...);
        } else {
            static_cast<void>(run(std::forward<Args>(args)...));
            return 0;
        }
    } catch (...) {
        detail::report_escaped(std::current_exception());
        return 1;
    }
}

}  // namespace rondo
