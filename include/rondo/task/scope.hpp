// Cancel scopes: a region of a task that can be cancelled, limited in time, or shielded as a whole.
//
//     auto row = co_await rondo::with_timeout(2s, fetch_row, id);
//
// A scope is entered and left by one awaited call, runs its function on the same task, and reaches
// into everything the function awaits and every task it starts in groups. It is level-triggered
// (Trio's word): once it is cancelled, each further wait inside throws `cancelled` again. The scope
// that was cancelled absorbs it; a cancellation from further out goes on its way. What the function
// completed in time is never thrown away: with a result, the deadline no longer matters.
//
// The function is called at once, so its arguments need only live as long as the co_await.
#pragma once

#include <rondo/loop/detail/scope.hpp>
#include <rondo/loop/loop.hpp>
#include <rondo/task/spawn.hpp>
#include <rondo/task/task.hpp>
#include <rondo/base/time.hpp>

#include <optional>
#include <string_view>
#include <utility>

namespace rondo {

/// What with_timeout and with_deadline throw: a system_error with errc::timed_out.
class RONDO_API timeout_error : public std::system_error {
 public:
    timeout_error();
    ~timeout_error() override;
};

struct scope_options {
    time_point deadline = never;
    bool shielded = false;
};

/// A region of the task that entered it. Its functions are for the loop's thread.
class RONDO_API cancel_scope : detail::scope {
 public:
    /// Cancels what runs inside; `reason` is for reports and must outlive the scope (a literal).
    /// Does not wait. No effect when it is cancelled or left already.
    void cancel(const char* reason = "") noexcept;
    /// Whether it was cancelled, by cancel() or by its deadline.
    bool cancelled() const noexcept { return scope::cancelled; }
    bool deadline_passed() const noexcept { return expired_; }
    const char* reason() const noexcept { return scope::reason; }

    time_point deadline() const noexcept { return scope::deadline; }
    /// Moves the deadline; `never` takes it away. One that has passed already cancels at once.
    /// Throws bad_alloc.
    void set_deadline(time_point deadline);

    /// Shielded, nothing that is cancelled further out reaches in; its own cancel() and deadline do.
    void set_shielded(bool shielded) noexcept;
    bool is_shielded() const noexcept { return shielded; }

 protected:
    explicit cancel_scope(const scope_options& options) noexcept;
    ~cancel_scope();
    void begin(detail::fiber& f);
    void end() noexcept;
    /// Whether a `cancelled` that comes out of it ends here.
    bool absorbs() const noexcept;

 private:
    struct deadline_op : op {
        explicit deadline_op(cancel_scope& scope) noexcept;
        static const op_vtable table;
        cancel_scope& of;
    };
    static void expire(op& o) noexcept;
    void disarm() noexcept;

    bool expired_ = false;
    deadline_op timer_;
};

/// The earliest deadline around the running task, as far as the next shield: `never` if there is none, and
/// time_point::min() if it is cancelled, by a scope or by its handle.
[[nodiscard]] RONDO_API time_point current_deadline() noexcept;

namespace detail {

/// What a body that was cut short by its own scope becomes.
enum class cut_short { throws_timeout, is_empty, throws_cancelled };

template <class T>
using or_nothing = std::conditional_t<std::is_void_v<T>, bool, std::optional<T>>;

[[noreturn]] RONDO_API void throw_timeout();

/// Awaiting this enters a scope, runs `body` on the same task, and leaves the scope.
template <class T, cut_short How>
class [[nodiscard]] scoped : cancel_scope {
    static_assert(!std::is_reference_v<T> || How != cut_short::is_empty, "let it return a pointer instead");

 public:
    using value_type = std::conditional_t<How == cut_short::is_empty, or_nothing<T>, T>;

    template <class Call>
    scoped(const scope_options& options, Call&& call) : cancel_scope(options), body_(call(static_cast<cancel_scope&>(*this))) {}

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) {
        static_assert(rondo_promise<Promise>, "only a coroutine that a rondo loop runs (task<T>) can enter a scope");
        cancel_scope::begin(*h.promise().owner);
        body_.await_suspend(h, site);
    }
    value_type await_resume() {
        if (was_cut_short()) {
            if constexpr (How == cut_short::throws_timeout) throw_timeout();
            if constexpr (How == cut_short::is_empty) return value_type{};
        }
        return take();
    }
    /// For attempt().
    result<value_type> finish() {
        if (was_cut_short()) {
            if constexpr (How == cut_short::throws_timeout) return std::make_error_code(std::errc::timed_out);
            if constexpr (How == cut_short::is_empty) return value_type{};
        }
        if (body_.outcome().has_error()) {
            const std::error_code code = code_of(body_.outcome().error());
            if (code) return code;
        }
        if constexpr (std::is_void_v<value_type>) {
            take();
            return {};
        } else {
            return take();
        }
    }

 private:
    bool was_cut_short() {
        end();
        outcome<T>& out = body_.outcome();
        return out.has_error() && absorbs() && is_cancellation(out.error()) &&
               (How == cut_short::is_empty || (How == cut_short::throws_timeout && deadline_passed()));
    }
    value_type take() {
        if constexpr (How == cut_short::is_empty && std::is_void_v<T>) {
            body_.outcome().take();
            return true;
        } else {
            return body_.outcome().take();
        }
    }

    task<T> body_;
};

template <class F>
struct kept_function {
    F fn;
};

/// The same with the closure whose body it is, which may be gone when this is awaited.
template <class T, cut_short How, class F>
class [[nodiscard]] scoped_closure : kept_function<F>, public scoped<T, How> {
 public:
    template <class Call>
    scoped_closure(const scope_options& options, F&& f, const Call& call)
        : kept_function<F>{std::move(f)}, scoped<T, How>(options, [&](cancel_scope& s) { return call(this->fn, s); }) {}
};

template <class F, class... Args>
using value_called = typename std::invoke_result_t<F&, Args...>::value_type;

/// The awaitable of `call(f, scope)`, a task<T>; made in place, because scopes do not move.
template <class T, cut_short How, class F, class Call>
auto make_scoped(const scope_options& options, F&& f, const Call& call) {
    RONDO_ASSERT_SAFE_CALLABLE(F);
    if constexpr (std::is_class_v<F>) {  // an rvalue
        return scoped_closure<T, How, F>(options, std::move(f), call);
    } else {
        return scoped<T, How>(options, [&](cancel_scope& s) { return call(f, s); });
    }
}

template <cut_short How, class F, class... Args>
auto run_scoped(const scope_options& options, F&& f, Args&&... args) {
    return make_scoped<value_called<F, Args...>, How>(options, std::forward<F>(f), [&](auto& fn, cancel_scope&) {
        return fn(std::forward<Args>(args)...);
    });
}

}  // namespace detail

/// Awaits `fn(args...)`, a task<T>, for at most `limit`, which counts from this call, not from the co_await:
/// gives its value or throws its error. When the time is over, its waits are cancelled, and when it has ended,
/// timeout_error is thrown; unless it ended with a value or an error of its own: then that is what happened. A
/// limit of zero or less lets it run to its first wait. Awaiting allocates nothing beyond fn's frame. Throws
/// bad_alloc.
template <class F, class... Args>
[[nodiscard]] auto with_timeout(delay limit, F&& fn, Args&&... args) {
    return detail::run_scoped<detail::cut_short::throws_timeout>({.deadline = limit.after(now())}, std::forward<F>(fn),
                                                                 std::forward<Args>(args)...);
}
/// The same until a moment of the loop's clock.
template <class F, class... Args>
[[nodiscard]] auto with_deadline(time_point deadline, F&& fn, Args&&... args) {
    return detail::run_scoped<detail::cut_short::throws_timeout>({.deadline = deadline}, std::forward<F>(fn),
                                                                 std::forward<Args>(args)...);
}

/// As with_timeout, but running out of time is no error: gives an optional<T>, empty when it was cut short; for a
/// task<void>, whether it ran to its end. The time counts from this call as well.
template <class F, class... Args>
[[nodiscard]] auto move_on_after(delay limit, F&& fn, Args&&... args) {
    return detail::run_scoped<detail::cut_short::is_empty>({.deadline = limit.after(now())}, std::forward<F>(fn),
                                                           std::forward<Args>(args)...);
}
template <class F, class... Args>
[[nodiscard]] auto move_on_at(time_point deadline, F&& fn, Args&&... args) {
    return detail::run_scoped<detail::cut_short::is_empty>({.deadline = deadline}, std::forward<F>(fn),
                                                           std::forward<Args>(args)...);
}

/// Awaits `fn(args...)` out of reach of what is cancelled outside; that takes effect at the first wait
/// behind it. Give it a deadline (with_timeout inside) if it could wait for ever.
template <class F, class... Args>
[[nodiscard]] auto shield(F&& fn, Args&&... args) {
    return detail::run_scoped<detail::cut_short::throws_cancelled>({.shielded = true}, std::forward<F>(fn),
                                                                   std::forward<Args>(args)...);
}

/// Awaits `fn(scope)`, which gives a task<T>, in a scope of its own that it, or whoever it hands the
/// reference to, can cancel, limit and shield. Gives an optional<T>, empty when the scope cut it short;
/// for a task<void>, whether it ran to its end.
template <class F>
[[nodiscard]] auto with_cancel_scope(F&& fn, scope_options options = {}) {
    return detail::make_scoped<detail::value_called<F, cancel_scope&>, detail::cut_short::is_empty>(
        options, std::forward<F>(fn), [](auto& f, cancel_scope& s) { return f(s); });
}

}  // namespace rondo
