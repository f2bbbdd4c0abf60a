// latch: tasks wait until a count has come down to zero, once.
#pragma once

#include <rondo/task/detail/named_queue.hpp>

namespace rondo {

class RONDO_API latch {
 public:
    class wait_awaiter;

    /// `name` is for reports, and must outlive it.
    explicit latch(std::size_t count, const char* name = "") noexcept : waits_("latch", name), count_(count) {}
    latch(const latch&) = delete;
    latch& operator=(const latch&) = delete;

    /// Counts down, and opens at zero: all who wait go on. Asserts that it does not fall below zero.
    void count_down(std::size_t n = 1) noexcept;
    /// Waits until it is open. Cancel: nothing is lost. O(1).
    [[nodiscard]] wait_awaiter wait() noexcept;
    /// Counts down and waits.
    /// Cancel: a task that was cancelled before has not counted; once it has, that stands.
    [[nodiscard]] wait_awaiter arrive_and_wait(std::size_t n = 1) noexcept;
    /// Whether it is open.
    bool try_wait() const noexcept { return count_ == 0; }

    std::size_t count() const noexcept { return count_; }
    std::size_t waiting() const noexcept { return waits_.size(); }
    const char* name() const noexcept { return waits_.name(); }

 private:
    detail::named_queue waits_;
    std::size_t count_;
};

class [[nodiscard]] latch::wait_awaiter : public detail::queue_wait, public awaits<wait_awaiter> {
 public:
    wait_awaiter(latch& l, std::size_t arrives) noexcept : queue_wait(l.waits_), of_(&l), arrives_(arrives) {}
    bool start() noexcept {
        if (arrives_ != 0) of_->count_down(arrives_);
        return !of_->try_wait() && stand();
    }
    void await_resume() const { check(); }
    rondo::result<void> finish() const { return check(), rondo::result<void>(); }

 private:
    latch* of_;
    std::size_t arrives_;
};

// implementation

inline latch::wait_awaiter latch::wait() noexcept { return {*this, 0}; }
inline latch::wait_awaiter latch::arrive_and_wait(std::size_t n) noexcept { return {*this, n}; }

}  // namespace rondo
