// Between rondo's cancellation and std::stop_token, both ways.
//
//     // somebody else, on any thread, may stop what this runs
//     auto report = co_await rondo::with_stop_token(token, build_report, month);   // empty: it was stopped
//
//     // what is cancelled here is to stop others, who know stop tokens
//     co_await rondo::with_stop_source([&](std::stop_token token) -> rondo::task<> {
//         std::jthread worker([token] { crunch(token); });
//         co_await finished.wait();
//     });
//
// It is a header of its own because <stop_token> is dear to compile.
#pragma once

#include <rondo/base/detail/safe_argument.hpp>
#include <rondo/task/group.hpp>
#include <rondo/task/scope.hpp>
#include <rondo/task/task.hpp>

#include <memory>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace rondo {
namespace detail {

/// While it lives, a request to stop cancels the scope. It is left by the task that has made it, in the scope.
class RONDO_API stop_listener {
 public:
    /// Throws bad_alloc.
    stop_listener(cancel_scope& cancels, std::stop_token token);
    /// Waits for a request that another thread is just making, which takes no longer than a post.
    ~stop_listener();
    stop_listener(const stop_listener&) = delete;
    stop_listener& operator=(const stop_listener&) = delete;

    struct letter;

 private:
    struct parts;
    std::unique_ptr<parts> parts_;
};

/// Asks to stop when it is dropped before the body has ended: then its task was cancelled.
class stop_asker {
 public:
    stop_asker(std::stop_source source, const bool& body_ended) noexcept
        : source_(std::move(source)), body_ended_(&body_ended) {}
    stop_asker(stop_asker&& other) noexcept : source_(std::move(other.source_)), body_ended_(take(other.body_ended_)) {}
    stop_asker& operator=(stop_asker&&) = delete;
    ~stop_asker() {
        if (body_ended_ != nullptr && !*body_ended_) source_.request_stop();
    }

 private:
    std::stop_source source_;
    const bool* body_ended_;
};

/// Keeps it until it is cancelled, which is its only end.
RONDO_API task<> keep(stop_asker asker);
/// If the running task is cancelled.
RONDO_API void request_if_cancelled(std::stop_source& source);

template <class T, class F, class... Args>
task<or_nothing<T>> run_under_token(std::stop_token token, F fn, Args... args) {
    const auto body = [&](cancel_scope& scope) -> task<T> {
        const stop_listener listener(scope, std::move(token));
        co_return co_await fn(std::move(args)...);
    };
    co_return co_await with_cancel_scope(body);
}

template <class T, class F, class... Args>
task<T> run_under_source(F fn, Args... args) {
    std::stop_source source;
    bool ended = false;
    const auto body = [&](supervisor_group& group) -> task<T> {
        const struct at_end {
            std::stop_source& source;
            bool& ended;
            ~at_end() {
                ended = true;
                request_if_cancelled(source);
            }
        } last{source, ended};
        request_if_cancelled(source);
        group.spawn_background(keep, stop_asker(source, ended)).discard();
        co_return co_await fn(source.get_token(), std::move(args)...);
    };
    co_return co_await with_supervisor_group(body);
}

}  // namespace detail

/// Awaits `fn(args...)`, which gives a task<T>, in a cancel scope of its own, which is cancelled when `token` is asked
/// to stop: by any thread, at any time, also before. Gives what with_cancel_scope gives: an optional<T>, empty when
/// that cut it short; for a task<void>, whether it ran to its end. Function and arguments are copied.
/// If the token has a source when this begins, somebody outside may come and ask: it keeps the loop alive, and that it
/// waits is no deadlock. Throws bad_alloc.
/// Cancel: as of what it runs. A request that comes when it has ended is nobody's business.
template <class F, class... Args>
[[nodiscard]] auto with_stop_token(std::stop_token token, F&& fn, Args&&... args) {
    RONDO_ASSERT_SAFE_CALLABLE(F);
    using function = std::decay_t<F>;
    using value = typename std::invoke_result_t<function&, std::decay_t<Args>...>::value_type;
    return detail::run_under_token<value, function, std::decay_t<Args>...>(std::move(token), std::forward<F>(fn),
                                                                           std::forward<Args>(args)...);
}

/// Awaits `fn(token, args...)`, which gives a task<T>, and gives its value or throws its error. `token`, a
/// std::stop_token, is asked to stop when the task is cancelled in it, or further out: on the loop's thread, as soon as
/// the loop goes on with its tasks, even while `fn` waits behind a shield for those who shall stop. That `fn` ends by
/// itself asks nobody to stop. Function and arguments are copied. What its token's std::stop_callbacks do must not
/// throw, and holds up the loop. Throws bad_alloc.
/// Cancel: as of `fn`.
template <class F, class... Args>
[[nodiscard]] auto with_stop_source(F&& fn, Args&&... args) {
    RONDO_ASSERT_SAFE_CALLABLE(F);
    using function = std::decay_t<F>;
    using value = typename std::invoke_result_t<function&, std::stop_token, std::decay_t<Args>...>::value_type;
    return detail::run_under_source<value, function, std::decay_t<Args>...>(std::forward<F>(fn),
                                                                            std::forward<Args>(args)...);
}

}  // namespace rondo
