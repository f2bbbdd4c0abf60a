// How many steps a loop may take before somebody asks whether it will ever end: in a closed world nothing else tells.
#pragma once

#include <rondo/base/time.hpp>
#include <rondo/loop/loop.hpp>

#include <cstdint>

namespace rondo::detail {

/// Counts in engine::steps_taken(), which each function is given as `taken`.
class step_limit {
 public:
    static constexpr std::uint64_t none = loop_options::no_step_limit;

    /// A run begins that may take `per_second` steps in a second of its loop's time, and a hundred times as many in
    /// all.
    void begin_run(std::uint64_t per_second, std::uint64_t taken, time_point now) noexcept;
    /// Behind `more` steps it is reached.
    void allow(std::uint64_t more, std::uint64_t taken, time_point now) noexcept;
    /// From here on the steps of a run are not limited, but by what is allowed.
    void end_run() noexcept { of_run_ = 0; }

    bool limits_run() const noexcept { return of_run_ != 0; }
    /// Who has let a second pass meanwhile works, and is allowed as many again, up to the limit of its run.
    bool is_reached(std::uint64_t taken, time_point now) noexcept;
    /// How many steps the latest allowance was for.
    std::uint64_t allowed() const noexcept { return allowed_; }

 private:
    std::uint64_t at_ = none;
    std::uint64_t of_run_ = 0;
    std::uint64_t per_second_ = none;
    std::uint64_t allowed_ = none;
    time_point since_{};
};

}  // namespace rondo::detail
