// Where a program meets the loop: run(fn, args...) and run_main(fn, args...).
#pragma once

#include <rondo/loop/loop.hpp>
#include <rondo/task/spawn.hpp>

#include <type_traits>
#include <utility>

namespace rondo {
namespace detail {

/// Turns its loop until `main` has ended and its root scope is empty; throws deadlock_error when `main`
/// can never end.
RONDO_API void run_to_end(scheduler& on, fiber& main);

/// A handle's share, for as long as this lives.
struct hold {
    explicit hold(fiber& fiber_held) noexcept : f(fiber_held) { f.flags |= fiber::held; }
    ~hold() { release_handle(f); }
    hold(const hold&) = delete;
    hold& operator=(const hold&) = delete;
    fiber& f;
};

/// SIGINT and SIGTERM, as run_main() takes them while this lives.
class RONDO_API main_signals {
 public:
    main_signals(scheduler& on, fiber& main, bool wanted);
    ~main_signals();
    main_signals(const main_signals&) = delete;
    main_signals& operator=(const main_signals&) = delete;

    /// The one that has ended the main task; 0 if none has, or it made something of its cancellation.
    int ended_by() const noexcept;

 private:
    struct state;
    state* const state_;  // its own; null: not wanted
};

/// Ends the process by the signal, as if nobody had caught it. Returns only if it is blocked or ignored: the exit code
/// that a shell would give.
RONDO_API int end_by_signal(int signal) noexcept;

/// As run(); `signal` is the one that has ended the main task: then nothing is returned.
template <class T, class F, class... Args>
int run_program(int& signal, const loop_options& options, F&& f, Args&&... args) {
    loop l(options);
    const loop_at at(l);
    hold main(make_child(at.on.root(), at.place, std::forward<F>(f), std::forward<Args>(args)...));
    const main_signals signals(at.on, main.f, options.cancel_on_signals);
    run_to_end(at.on, main.f);
    signal = signals.ended_by();
    if (signal != 0) return 0;
    if constexpr (std::is_same_v<T, int>) {
        return take_result<int>(main.f);
    } else {
        static_cast<void>(take_result<T>(main.f));
        return 0;
    }
}
template <class T, class F, class... Args>
    requires(!std::is_convertible_v<F &&, const loop_options&>)
int run_program(int& signal, F&& f, Args&&... args) {
    return run_program<T>(signal, loop_options{}, std::forward<F>(f), std::forward<Args>(args)...);
}

}  // namespace detail

/// Runs `fn(args...)`, which gives a task<T>, as the main task of `l`; returns its value or rethrows
/// its error. When it ends, tasks left in the root scope are cancelled and awaited. Throws
/// deadlock_error, with the await tree, when the main task waits for what can never happen, and on `sim`
/// livelock_error, with the busiest tasks and callbacks, after loop_options::step_limit.
/// loop::stop() cancels the main task as well; if that ends it, io_error(operation_canceled) "run was
/// ended by loop::stop()" is thrown, and stopped() is true.
template <class F, class... Args>
decltype(auto) run_on(detail::loop_at at, F&& f, Args&&... args) {
    at.on.check_thread("run_on", at.place);
    using value = detail::child_value<std::decay_t<F>, std::decay_t<Args>...>;
    detail::hold main(detail::make_child(at.on.root(), at.place, std::forward<F>(f), std::forward<Args>(args)...));
    detail::run_to_end(at.on, main.f);
    return detail::take_result<value>(main.f);
}

/// Does what run_on does, on a loop of its own that is made with `options`.
template <class F, class... Args>
decltype(auto) run(const loop_options& options, F&& f, Args&&... args) {
    loop l(options);
    return run_on(l, std::forward<F>(f), std::forward<Args>(args)...);
}

/// Does what the other run() does, with default options: RONDO_BACKEND chooses the backend. If it has a value that
/// means nothing, the loop's constructor throws io_error(invalid_argument), and so does this.
template <class F, class... Args>
    requires(!std::is_convertible_v<F &&, const loop_options&>)
decltype(auto) run(F&& f, Args&&... args) {
    return run(loop_options{}, std::forward<F>(f), std::forward<Args>(args)...);
}

/// What main() returns: run(), with the error printed to standard error if one escapes. The exit
/// code is the task's int, or 0; 1 after an error.
///
/// SIGINT and SIGTERM cancel the main task, unless somebody else listens for them (serve(), signals); when it has
/// unwound, the process ends by that signal, so that a shell sees 130 or 143. A second one ends it at once. One that is
/// ignored when the program begins (nohup, a shell's `&`) stays ignored. With loop_options::cancel_on_signals false
/// they do what they did.
template <class... Args>
int run_main(Args&&... args) noexcept {
    using value = decltype(run(std::forward<Args>(args)...));
    int signal = 0;
    try {
        const int code = detail::run_program<value>(signal, std::forward<Args>(args)...);
        if (signal == 0) return code;
    } catch (...) {
        detail::report_escaped(std::current_exception());
        return 1;
    }
    return detail::end_by_signal(signal);
}

}  // namespace rondo
