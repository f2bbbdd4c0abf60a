// barrier: a number of tasks wait for each other, again and again.
//
//     const bool last = co_await barrier.arrive_and_wait();
//     if (last) merge(parts);   // the others go on after it
//
// The last one to arrive does not wait, and the others are only queued: what it does up to its next wait is
// done before any of them goes on. That is what std::barrier has a completion function for.
#pragma once

#include <rondo/task/detail/named_queue.hpp>

namespace rondo {

class RONDO_API barrier {
 public:
    class wait_awaiter;

    /// `name` is for reports, and must outlive it.
    explicit barrier(std::size_t parties, const char* name = "") noexcept;
    barrier(const barrier&) = delete;
    barrier& operator=(const barrier&) = delete;

    /// Waits until all parties have arrived; then the next round begins. Gives whether this task was the last.
    /// Cancel: it leaves the round, which needs one more arrival again. O(1), for the last O(parties).
    [[nodiscard]] wait_awaiter arrive_and_wait() noexcept;
    /// From now on there is one party less. Gives whether that was what the others waited for.
    bool arrive_and_drop() noexcept;

    std::size_t parties() const noexcept { return parties_; }
    /// How many have arrived, and wait.
    std::size_t waiting() const noexcept { return waits_.size(); }
    const char* name() const noexcept { return waits_.name(); }

 private:
    void open() noexcept;
    detail::named_queue waits_;
    std::size_t parties_;
};

class [[nodiscard]] barrier::wait_awaiter : public detail::queue_wait, public awaits<wait_awaiter> {
 public:
    explicit wait_awaiter(barrier& b) noexcept : queue_wait(b.waits_), of_(&b) {}
    bool start() noexcept {
        last_ = of_->waits_.size() + 1 >= of_->parties_;
        if (!last_) return stand();
        of_->open();
        return false;
    }
    bool await_resume() const {
        check();
        return last_;
    }
    rondo::result<bool> finish() const { return await_resume(); }

 private:
    barrier* of_;
    bool last_ = false;
};

// implementation

inline barrier::wait_awaiter barrier::arrive_and_wait() noexcept { return wait_awaiter(*this); }

}  // namespace rondo
