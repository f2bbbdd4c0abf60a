// Events: tasks wait for something to have happened.
//
// An `event` stays set and lets everybody through until it is cleared. An `auto_event` lets one task through
// for each set(), and remembers one set() that nobody was waiting for.
#pragma once

#include <rondo/task/detail/named_queue.hpp>
#include <rondo/base/detail/take.hpp>

namespace rondo {

class RONDO_API event {
 public:
    class wait_awaiter;

    /// `name` is for reports, and must outlive it.
    explicit event(const char* name = "") noexcept : waits_("event", name) {}
    event(const event&) = delete;
    event& operator=(const event&) = delete;

    /// Wakes all who wait, also if clear() follows at once. No effect when it is set. O(waiting).
    void set() noexcept;
    void clear() noexcept { set_ = false; }
    bool is_set() const noexcept { return set_; }  // is_set(): wait() would not wait

    /// Waits until it is set. Cancel: nothing is lost. O(1).
    [[nodiscard]] wait_awaiter wait() noexcept;

    std::size_t waiting() const noexcept { return waits_.size(); }
    const char* name() const noexcept { return waits_.name(); }

 private:
    detail::named_queue waits_;
    bool set_ = false;
};

class [[nodiscard]] event::wait_awaiter : public detail::queue_wait, public awaits<wait_awaiter> {
 public:
    explicit wait_awaiter(event& e) noexcept : queue_wait(e.waits_), of_(&e) {}
    bool start() noexcept { return !of_->set_ && stand(); }
    void await_resume() const { check(); }
    rondo::result<void> finish() const { return check(), rondo::result<void>(); }

 private:
    event* of_;
};

class RONDO_API auto_event {
 public:
    class wait_awaiter;

    /// `name` is for reports, and must outlive it.
    explicit auto_event(const char* name = "") noexcept : waits_("auto_event", name) {}
    auto_event(const auto_event&) = delete;
    auto_event& operator=(const auto_event&) = delete;

    /// Wakes the task that has waited longest. If none waits, the next wait() goes through; a second set()
    /// adds nothing to that. O(1).
    void set() noexcept;
    /// Takes back a set() that nobody has had yet.
    void clear() noexcept { set_ = false; }
    bool is_set() const noexcept { return set_; }

    /// Waits for a set() of its own.
    /// Cancel: it has used none. A set() that came before the cancel is this task's: it goes through, and the
    /// cancel meets its next wait. O(1).
    [[nodiscard]] wait_awaiter wait() noexcept;
    /// Uses a set() that nobody has had yet, if there is one.
    bool try_wait() noexcept { return detail::take(set_); }

    std::size_t waiting() const noexcept { return waits_.size(); }
    const char* name() const noexcept { return waits_.name(); }

 private:
    detail::named_queue waits_;
    bool set_ = false;  // only while nobody waits
};

class [[nodiscard]] auto_event::wait_awaiter : public detail::queue_wait, public awaits<wait_awaiter> {
 public:
    explicit wait_awaiter(auto_event& e) noexcept : queue_wait(e.waits_), of_(&e) {}
    bool start() noexcept { return !of_->try_wait() && stand(); }
    void await_resume() const { check(); }
    rondo::result<void> finish() const { return check(), rondo::result<void>(); }
    /// What select_one() does with a losing arm: nobody takes what this wait has got, so it goes back.
    void give_back() noexcept {
        if (result >= 0) of_->set();
    }

 private:
    auto_event* of_;
};

// implementation

inline event::wait_awaiter event::wait() noexcept { return wait_awaiter(*this); }
inline auto_event::wait_awaiter auto_event::wait() noexcept { return wait_awaiter(*this); }

}  // namespace rondo
