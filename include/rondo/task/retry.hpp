// retry: tries again what has failed, after a while, a few times.
//
//     auto page = co_await rondo::retry({.attempts = 4}, fetch, url);
//
// Between two attempts it waits: first `first_delay`, then `factor` times as long each time, and of that a random part
// ("full jitter", AWS Architecture Blog, 2015), so that those who failed together do not come back together. It does
// not wait beyond a deadline around it: where the next attempt would come too late, it gives up at once.
#pragma once

#include <rondo/base/error.hpp>
#include <rondo/base/time.hpp>
#include <rondo/task/scope.hpp>
#include <rondo/task/suspend.hpp>
#include <rondo/task/task.hpp>

#include <cstdint>
#include <exception>
#include <system_error>
#include <type_traits>
#include <utility>

namespace rondo {

/// Bounds how many retries there are altogether, so that they do not double the load of a service that is down: each
/// success earns a part of one, each retry costs one (Finagle, gRPC). For the tasks of one loop; it must outlive them.
class RONDO_API retry_budget {
 public:
    /// Begins with, and never has more than, `most` retries; each success brings back `per_success` of one.
    explicit retry_budget(double most = 10, double per_success = 0.1) noexcept;

    /// Whether a retry may be made; it is then paid.
    bool take() noexcept;
    void succeeded() noexcept;
    double left() const noexcept { return left_; }

 private:
    double most_;
    double per_success_;
    double left_;
};

struct retry_policy {
    int attempts = 3;  // altogether; less than 1 counts as 1
    delay first_delay = std::chrono::milliseconds(100);
    double factor = 2;
    delay longest_delay = std::chrono::seconds(30);
    /// Which part of each delay is random: at 1 it is anything from nothing to all of it, at 0 always all of it.
    double jitter = 1;
    /// Which errors are tried again. Null: every std::system_error but those of a cancellation.
    bool (*retries)(const std::exception_ptr& error) = nullptr;
    retry_budget* budget = nullptr;
};

namespace detail {

/// Where a retry() stands.
class RONDO_API retrying {
 public:
    explicit retrying(const retry_policy& policy) noexcept : policy_(policy), next_(policy.first_delay.value()) {}

    /// Whether to try again after this error, and then how long to wait first.
    bool again_after(const std::exception_ptr& error, duration& pause);
    void succeeded() noexcept {
        if (policy_.budget != nullptr) policy_.budget->succeeded();
    }

 private:
    retry_policy policy_;
    duration next_;
    int failed_ = 0;
};

}  // namespace detail

/// Awaits `fn(args...)`, a task<T>, until it succeeds: gives its value. When it has failed `attempts` times, or with an
/// error that is not to be tried again, or the budget is used up, or a deadline would pass meanwhile: throws the last
/// error. `fn` and `args` are kept, and given to each attempt as lvalues. One frame, besides those of `fn`.
/// Cancel: ends the attempt, or the pause between two; nothing is tried again.
template <class F, class... Args>
[[nodiscard]] auto retry(retry_policy policy, F fn, Args... args) -> task<detail::value_called<F&, Args&...>> {
    using value = detail::value_called<F&, Args&...>;
    detail::retrying state(policy);
    for (;;) {
        std::exception_ptr error;
        try {
            if constexpr (std::is_void_v<value>) {
                co_await fn(args...);
                state.succeeded();
                co_return;
            } else {
                decltype(auto) got = co_await fn(args...);
                state.succeeded();
                co_return static_cast<decltype(got)&&>(got);
            }
        } catch (const std::exception&) {
            error = std::current_exception();
        }
        duration pause{};
        const bool again = state.again_after(error, pause);
        if (!again) std::rethrow_exception(error);
        error = nullptr;
        co_await sleep_for(pause);
    }
}

}  // namespace rondo
