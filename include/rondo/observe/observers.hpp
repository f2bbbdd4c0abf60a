// A loop has room for one observer; this one stands for several.
#pragma once

#include <rondo/loop/loop.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace rondo {

/// Tells each of them, in their order. They must outlive it. At most eight, else invalid_argument is thrown.
class RONDO_API observers final : public observer {
 public:
    observers(std::initializer_list<observer*> all);

    void on(const loop_event& e) noexcept override;
    /// Of the first that knows it.
    bool time_of(std::uint32_t task, task_time& into) const noexcept override;

 private:
    std::array<observer*, 8> all_{};
    std::size_t count_ = 0;
};

}  // namespace rondo
