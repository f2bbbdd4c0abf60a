// Who takes the steps: what a live-lock is reported with.
#pragma once

#include <rondo/loop/loop.hpp>

#include <compare>
#include <cstdint>
#include <map>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace rondo::detail {

/// So many more steps are taken, in so many turns at most, to see who takes them.
inline constexpr std::uint64_t counted_steps = 10'000;
inline constexpr int counted_turns = 1000;

/// Counts the steps of a loop that goes on for ever. Without memory it counts fewer.
class RONDO_API step_counts final : public observer {
 public:
    /// A task, or all callbacks made at one place.
    struct one {
        std::string_view host;  // empty: there is but one loop
        std::string label;      // "task 3 'name'", "timer"
        std::source_location place;
        std::uint64_t steps;
    };

    void on(const loop_event& e) noexcept override;
    void append_to(std::vector<one>& all, std::string_view host) const;

 private:
    struct key {
        std::uint32_t task;  // 0: a callback, and then the rest tells which
        const char* what;
        std::string_view file;
        std::uint32_t line;
        auto operator<=>(const key&) const = default;
        bool operator==(const key&) const = default;
    };
    void count(step_kind what, task_view task, std::source_location place) noexcept;

    phase phase_ = phase::none;
    std::map<key, one> counted_;  // no order of a hash: one run is one report
};

/// "; the busiest:" and a line for each of the first few.
RONDO_API std::string busiest_of(std::vector<step_counts::one> all);

/// "1.000000000 s"
RONDO_API std::string written_time(time_point t);

}  // namespace rondo::detail
