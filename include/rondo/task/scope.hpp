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
#include <rondo/loop/detail/scheduler.hpp>
#include <rondo/task/spawn.hpp>
#include <rondo/task/task.hpp>
#include <rondo/base/time.hpp>

#include <optional>
#include <string_view>
#include <utility>

namespace rondo {

/// A limit in time, for reports.
struct time_limit {
    const char* kind = "a limit";  // "with_timeout"
    duration length = duration::max();  // how long it was; the largest where it was a moment
    std::source_location place = {};    // where it was set; line 0 if unknown
};

/// What with_timeout and with_deadline throw. `code() == std::errc::timed_out` holds, as for the ETIMEDOUT of a
/// connection, but it is no code of errno: its category is limit_category().
class RONDO_API timeout_error : public std::system_error {
 public:
    explicit timeout_error(const time_limit& passed);
    ~timeout_error() override;

    /// "timed out after 2 s (with_timeout at fetch.cpp:22)"
    const char* what() const noexcept override { return text_; }
    const time_limit& limit() const noexcept { return limit_; }

 private:
    time_limit limit_;
    char text_[128];
};

/// The category of the code in a timeout_error, and of what attempt() gives in its place. No error of the system's has
/// it.
[[nodiscard]] RONDO_API const std::error_category& limit_category() noexcept;

/// What a scope begins with.
struct scope_options {
    time_point deadline = never;  // cancels it
    bool shielded = false;        // what is cancelled further out does not reach in
};

/// A region of the task that entered it. Its functions are for the loop's thread.
class RONDO_API cancel_scope : detail::scope {
 public:
    /// Cancels what runs inside; `reason` is for reports and must outlive the scope (a literal).
    /// Does not wait. No effect when it is cancelled or left already.
    void cancel(const char* reason = "") noexcept;
    /// Whether it was cancelled, by cancel() or by its deadline.
    using scope::cancelled;
    /// Whether it was the deadline that cancelled it.
    bool deadline_passed() const noexcept { return expired_; }
    using scope::reason;

    using scope::deadline;
    /// Moves the deadline; `never` takes it away. One that has passed already cancels at once.
    /// Throws bad_alloc.
    void set_deadline(time_point deadline);

    /// Shielded, nothing that is cancelled further out reaches in; its own cancel() and deadline do.
    void set_shielded(bool shielded) noexcept;
    using scope::is_shielded;

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

/// Throws a timeout_error.
[[noreturn]] RONDO_API void throw_timeout(const time_limit& passed);
/// What attempt() makes of it.
[[nodiscard]] RONDO_API failure timeout_failure(const time_limit& passed) noexcept;

/// A duration as with_timeout takes it, which knows where it was said.
struct limit_after {
    template <class D>
        requires std::convertible_to<D, delay>
    limit_after(D limit, std::source_location at = std::source_location::current()) noexcept  // NOLINT(*-explicit-*)
        : length(delay(limit)), place(at) {}
    delay length;
    std::source_location place;
};
/// A moment as with_deadline takes it, which knows where it was said.
struct limit_at {
    limit_at(time_point when,
             std::source_location at = std::source_location::current()) noexcept  // NOLINT(*-explicit-*)
        : deadline(when), place(at) {}
    time_point deadline;
    std::source_location place;
};

/// Awaiting this enters a scope, runs `body` on the same task, and leaves the scope.
template <class T, cut_short How>
class [[nodiscard]] scoped : cancel_scope {
    static_assert(!std::is_reference_v<T> || How != cut_short::is_empty, "let it return a pointer instead");

 public:
    using value_type = std::conditional_t<How == cut_short::is_empty, or_nothing<T>, T>;

    template <class Call>
    scoped(const scope_options& options, Call&& call, const time_limit& limit = {})
        : cancel_scope(options), limit_(limit), body_(call(static_cast<cancel_scope&>(*this))) {}

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> h, std::source_location site = std::source_location::current()) {
        static_assert(rondo_promise<Promise>, "only a coroutine that a rondo loop runs (task<T>) can enter a scope");
        cancel_scope::begin(*h.promise().owner);
        body_.await_suspend(h, site);
    }
    value_type await_resume() {
        if (was_cut_short()) {
            if constexpr (How == cut_short::throws_timeout) throw_timeout(limit_);
            if constexpr (How == cut_short::is_empty) return value_type{};
        }
        return take();
    }
    /// What attempt() gives.
    result<value_type> finish() {
        if (was_cut_short()) {
            if constexpr (How == cut_short::throws_timeout) return timeout_failure(limit_);
            if constexpr (How == cut_short::is_empty) return value_type{};
        }
        if (body_.outcome().has_error()) {
            rondo::failure why = failure_of(body_.outcome().error());
            if (why.code()) return why;
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

    time_limit limit_;
    task<T> body_;
};

/// A limit around a wait, which needs no frame.
template <class Wait, cut_short How>
class [[nodiscard]] scoped_wait : cancel_scope {
    using awaited_value = decltype(std::declval<Wait&>().await_resume());
    static_assert(!std::is_reference_v<awaited_value> || How != cut_short::is_empty,
                  "await it in a function that returns a pointer");

 public:
    using value_type = std::conditional_t<How == cut_short::is_empty, or_nothing<awaited_value>, awaited_value>;

    scoped_wait(const scope_options& options, Wait&& wait, const time_limit& limit)
        : cancel_scope(options), limit_(limit), wait_(std::forward<Wait>(wait)) {}

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h, std::source_location site = std::source_location::current()) {
        static_assert(rondo_promise<Promise>, "only a coroutine that a rondo loop runs (task<T>) can enter a scope");
        cancel_scope::begin(*h.promise().owner);
        if (wait_.await_ready()) return false;
        try {
            if constexpr (std::is_void_v<decltype(wait_.await_suspend(h, site))>) {
                wait_.await_suspend(h, site);
                return true;
            } else {
                return wait_.await_suspend(h, site);
            }
        } catch (...) {  // it did not start
            end();
            throw;
        }
    }
    value_type await_resume() {
        try {
            const leaving after_it{*this};
            if constexpr (How == cut_short::is_empty && std::is_void_v<awaited_value>) {
                wait_.await_resume();
                return true;
            } else {
                return wait_.await_resume();
            }
        } catch (const struct cancelled&) {  // the error, not the member
            if (!was_cut_short()) throw;
        }
        if constexpr (How == cut_short::is_empty) return value_type{};
        throw_timeout(limit_);
    }
    /// For attempt().
    result<value_type> finish()
        requires requires(Wait& w) { w.finish(); }
    {
        try {
            const leaving after_it{*this};
            auto got = wait_.finish();
            if (!got.has_value()) return got.failure();
            if constexpr (How == cut_short::is_empty && std::is_void_v<awaited_value>) {
                return true;
            } else if constexpr (std::is_void_v<awaited_value>) {
                return {};
            } else {
                return value_type(*std::move(got));
            }
        } catch (const struct cancelled&) {  // the error, not the member
            if (!was_cut_short()) throw;
        }
        if constexpr (How == cut_short::is_empty) return value_type{};
        return timeout_failure(limit_);
    }

 private:
    /// The wait may have entered a scope of its own, which is left first.
    struct leaving {
        scoped_wait& of;
        ~leaving() { of.end(); }
    };
    bool was_cut_short() const noexcept {
        return absorbs() && (How == cut_short::is_empty || (How == cut_short::throws_timeout && deadline_passed()));
    }

    time_limit limit_;
    Wait wait_;
};

/// What `co_await` takes as it is.
template <class W>
concept is_awaiter = requires(W& wait) {
    { wait.await_ready() } -> std::convertible_to<bool>;
    wait.await_resume();
};
/// What has an awaiter: a handle.
template <class W>
concept gives_awaiter = requires(W&& what) { std::forward<W>(what).operator co_await(); };

/// A wait is kept, unless it cannot be moved: then it lives as long as the expression in which it was made.
template <class W>
using kept_wait =
    std::conditional_t<std::is_move_constructible_v<std::remove_reference_t<W>> && !std::is_lvalue_reference_v<W>,
                       std::remove_reference_t<W>, std::remove_reference_t<W>&>;

template <class F>
struct kept_function {
    F fn;
};

/// A scoped body together with its closure, since the caller's own closure may be gone when this is awaited.
template <class T, cut_short How, class F>
class [[nodiscard]] scoped_closure : kept_function<F>, public scoped<T, How> {
 public:
    template <class Call>
    scoped_closure(const scope_options& options, F&& f, const Call& call, const time_limit& limit)
        : kept_function<F>{std::move(f)},
          scoped<T, How>(options, [&](cancel_scope& s) { return call(this->fn, s); }, limit) {}
};

/// The awaitable of `call(f, scope)`, a task<T>; made in place, because scopes do not move.
template <class T, cut_short How, class F, class Call>
auto make_scoped(const scope_options& options, F&& f, const Call& call, const time_limit& limit = {}) {
    RONDO_ASSERT_SAFE_CALLABLE(F);
    if constexpr (std::is_class_v<F>) {  // an rvalue
        return scoped_closure<T, How, F>(options, std::move(f), call, limit);
    } else {
        return scoped<T, How>(options, [&](cancel_scope& s) { return call(f, s); }, limit);
    }
}

/// `f` is a function that gives a task<T>, a task<T>, or what else can be awaited.
template <cut_short How, class F, class... Args>
auto run_scoped(const scope_options& options, const time_limit& limit, F&& f, Args&&... args) {
    using bare = std::remove_cvref_t<F>;
    if constexpr (is_task<bare>) {
        static_assert(sizeof...(Args) == 0, "a task that is made already takes no arguments");
        static_assert(!std::is_lvalue_reference_v<F>, "a task is awaited once: std::move it");
        return scoped<typename bare::value_type, How>(options, [&](cancel_scope&) { return std::move(f); }, limit);
    } else if constexpr (is_awaiter<bare>) {
        static_assert(sizeof...(Args) == 0, "what is awaited takes no arguments");
        return scoped_wait<kept_wait<F>, How>(options, static_cast<kept_wait<F>&&>(f), limit);
    } else if constexpr (gives_awaiter<F>) {
        static_assert(sizeof...(Args) == 0, "what is awaited takes no arguments");
        return scoped_wait<decltype(std::forward<F>(f).operator co_await()), How>(
            options, std::forward<F>(f).operator co_await(), limit);
    } else {
        return make_scoped<value_called<F&, Args...>, How>(
            options, std::forward<F>(f), [&](auto& fn, cancel_scope&) { return fn(std::forward<Args>(args)...); },
            limit);
    }
}

}  // namespace detail

/// Awaits what it is given, for at most `limit`, which counts from this call, not from the co_await: a function and its
/// arguments, `with_timeout(2s, fetch, url)`; a task, `with_timeout(2s, fetch(url))`; or an operation or a handle,
/// `with_timeout(2s, peer.write_all(text))`. Gives its value or throws its error. When the time is over, its waits
/// are cancelled, and when it has ended, timeout_error is thrown; unless it ended with a value or an error of its own:
/// then that is what happened. A limit of zero or less lets it run to its first wait. Awaiting allocates nothing beyond
/// the frame of a function. Throws bad_alloc.
template <class F, class... Args>
[[nodiscard]] auto with_timeout(detail::limit_after limit, F&& fn, Args&&... args) {
    return detail::run_scoped<detail::cut_short::throws_timeout>({.deadline = limit.length.after(now())},
                                                                 {"with_timeout", limit.length.value(), limit.place},
                                                                 std::forward<F>(fn), std::forward<Args>(args)...);
}
/// Does what with_timeout does, but the time ends at a moment of the loop's clock.
template <class F, class... Args>
[[nodiscard]] auto with_deadline(detail::limit_at limit, F&& fn, Args&&... args) {
    return detail::run_scoped<detail::cut_short::throws_timeout>({.deadline = limit.deadline},
                                                                 {"with_deadline", duration::max(), limit.place},
                                                                 std::forward<F>(fn), std::forward<Args>(args)...);
}

/// Does what with_timeout does, but running out of time is no error: it gives an optional<T>, which is empty when what
/// it awaits was cut short; if that has no value, it gives whether it ran to its end. The time counts from this call as
/// well.
template <class F, class... Args>
[[nodiscard]] auto move_on_after(delay limit, F&& fn, Args&&... args) {
    return detail::run_scoped<detail::cut_short::is_empty>({.deadline = limit.after(now())}, {}, std::forward<F>(fn),
                                                           std::forward<Args>(args)...);
}
template <class F, class... Args>
[[nodiscard]] auto move_on_at(time_point deadline, F&& fn, Args&&... args) {
    return detail::run_scoped<detail::cut_short::is_empty>({.deadline = deadline}, {}, std::forward<F>(fn),
                                                           std::forward<Args>(args)...);
}

/// Awaits a function, a task or an operation, as with_timeout does, out of reach of what is cancelled outside; that
/// takes effect at the first wait behind it. Give it a deadline (with_timeout inside) if it could wait for ever.
template <class F, class... Args>
[[nodiscard]] auto shield(F&& fn, Args&&... args) {
    return detail::run_scoped<detail::cut_short::throws_cancelled>({.shielded = true}, {}, std::forward<F>(fn),
                                                                   std::forward<Args>(args)...);
}

/// Awaits `fn(scope)`, which gives a task<T>, in a scope of its own that it, or whoever it hands the
/// reference to, can cancel, limit and shield. Gives an optional<T>, empty when the scope cut it short;
/// for a task<void>, whether it ran to its end.
template <class F>
[[nodiscard]] auto with_cancel_scope(F&& fn, scope_options options = {}) {
    return detail::make_scoped<detail::value_called<F&, cancel_scope&>, detail::cut_short::is_empty>(
        options, std::forward<F>(fn), [](auto& f, cancel_scope& s) { return f(s); });
}

}  // namespace rondo
