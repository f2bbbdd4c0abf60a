#include "step_limit.hpp"

#include <algorithm>

namespace rondo::detail {

namespace {
constexpr std::uint64_t seconds_in_a_run = 100;

std::uint64_t sum_or_none(std::uint64_t taken, std::uint64_t more) noexcept {
    return more < step_limit::none - taken ? taken + more : step_limit::none;
}
}  // namespace

void step_limit::begin_run(std::uint64_t per_second, std::uint64_t taken, time_point now) noexcept {
    per_second_ = per_second;
    allow(per_second, taken, now);
    of_run_ = per_second < none / seconds_in_a_run ? sum_or_none(taken, seconds_in_a_run * per_second) : none;
}

void step_limit::allow(std::uint64_t more, std::uint64_t taken, time_point now) noexcept {
    allowed_ = more;
    since_ = now;
    at_ = sum_or_none(taken, more);
}

bool step_limit::is_reached(std::uint64_t taken, time_point now) noexcept {
    if (taken <= at_) return false;
    if (taken > of_run_ || now - since_ < std::chrono::seconds(1)) return true;
    allow(std::min(per_second_, of_run_ - taken), taken, now);
    return false;
}

}  // namespace rondo::detail
