#include <rondo/task/retry.hpp>

#include "loop/random_fraction.hpp"

#include <algorithm>

namespace rondo {

retry_budget::retry_budget(double most, double per_success) noexcept
    : most_(std::max(most, 0.0)), per_success_(std::max(per_success, 0.0)), left_(most_) {}

bool retry_budget::take() noexcept {
    if (left_ < 1) return false;
    left_ -= 1;
    return true;
}

void retry_budget::succeeded() noexcept { left_ = std::min(most_, left_ + per_success_); }

namespace detail {

namespace {

bool is_the_worlds(const std::exception_ptr& error) {
    const std::error_code code = code_of(error);
    return code && code != std::errc::operation_canceled;
}

/// `whole`, of which the part `jitter` is random.
duration with_jitter(duration whole, double jitter) noexcept {
    const double part = std::clamp(jitter, 0.0, 1.0);
    return duration(static_cast<duration::rep>(static_cast<double>(whole.count()) * (1 - part * random_fraction())));
}

}  // namespace

bool retrying::again_after(const std::exception_ptr& error, duration& pause) {
    if (++failed_ >= policy_.attempts) return false;
    if (policy_.retries != nullptr ? !policy_.retries(error) : !is_the_worlds(error)) return false;
    const duration longest = std::max(policy_.longest_delay.value(), duration::zero());
    const duration whole = std::clamp(next_, duration::zero(), longest);
    const double later = static_cast<double>(whole.count()) * std::max(policy_.factor, 1.0);
    next_ = later < static_cast<double>(longest.count()) ? duration(static_cast<duration::rep>(later)) : longest;
    pause = with_jitter(whole, policy_.jitter);
    if (delay(pause).after(now()) >= current_deadline()) return false;
    return policy_.budget == nullptr || policy_.budget->take();
}

}  // namespace detail
}  // namespace rondo
