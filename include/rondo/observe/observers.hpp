// A loop has room for one observer; this one stands for several.
#pragma once

#include <rondo/loop/loop.hpp>

#include <array>
#include <cstddef>
#include <initializer_list>

namespace rondo {

/// Tells each of them, in their order. They must outlive it. At most eight, else invalid_argument is thrown.
class RONDO_API observers final : public observer {
 public:
    observers(std::initializer_list<observer*> all);

    void on_phase(phase p, time_point when) noexcept override;
    void on_polled(std::size_t completions, time_point now) noexcept override;
    void on_timers(time_point due, time_point now) noexcept override;
    void on_spawn(task_view task) noexcept override;
    void on_ready(task_view task) noexcept override;
    void on_step(step what, task_view task, std::source_location place) noexcept override;
    void on_wait(task_view task) noexcept override;
    void on_end(task_view task, ending how) noexcept override;
    void on_step_end() noexcept override;

 private:
    template <class F>
    void each(F&& f) noexcept {
        for (std::size_t i = 0; i < count_; ++i) f(*all_[i]);
    }
    std::array<observer*, 8> all_{};
    std::size_t count_ = 0;
};

}  // namespace rondo
