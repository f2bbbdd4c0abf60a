// condition: wait until what a mutex protects has changed.
//
//     auto guard = co_await lock.lock();
//     co_await not_empty.wait(guard, [&] { return !items.empty(); });
//
// Waiting unlocks the mutex and takes it again before it returns, whatever happened meanwhile.
#pragma once

#include <rondo/sync/mutex.hpp>
#include <rondo/task/task.hpp>

namespace rondo {

class RONDO_API condition {
 public:
    class wait_awaiter;

    /// `name` is for reports, and must outlive it.
    explicit condition(const char* name = "") noexcept : waits_("condition", name) {}
    condition(const condition&) = delete;
    condition& operator=(const condition&) = delete;

    /// Unlocks, waits for a notification, and locks again. It is not woken without one, but what it waits for
    /// may have changed again before it has the mutex: hence the form with a predicate. `guard` must hold.
    /// Cancel: throws `cancelled`, with the mutex locked again; taking it is shielded by nature. A
    /// notification that came before the cancel is this task's: it returns, and the cancel meets its next
    /// wait. One wait at a time with one guard, also in a select_one(). O(1).
    [[nodiscard]] wait_awaiter wait(mutex::guard& guard) noexcept;
    /// Waits so until `predicate()`, asked with the mutex locked, is true.
    template <class Predicate>
    [[nodiscard]] task<> wait(mutex::guard& guard, Predicate predicate) {
        RONDO_ASSERT_SAFE_CALLABLE(Predicate);
        return wait_until_true(*this, guard, std::move(predicate));
    }

    /// Wakes the task that has waited longest, if any waits: it takes the mutex as soon as that is free.
    /// The mutex need not be locked. O(1).
    void notify_one() noexcept;
    /// Wakes all who wait now; they take the mutex in that order. O(waiting).
    void notify_all() noexcept;

    std::size_t waiting() const noexcept { return waits_.size(); }
    const char* name() const noexcept { return waits_.name(); }

 private:
    template <class Predicate>
    static task<> wait_until_true(condition& self, mutex::guard& guard, Predicate predicate);
    detail::named_queue waits_;
};

class [[nodiscard]] condition::wait_awaiter : public detail::condition_wait, public awaits<wait_awaiter> {
 public:
    wait_awaiter(condition& c, mutex::guard& guard) noexcept : condition_wait(c.waits_, guard.of_), of_(&c) {
        RONDO_ASSERT(guard, "waiting for a condition needs the mutex locked");
    }
    void await_resume() const {
        if (result < 0) [[unlikely]]
            detail::throw_cancelled();
    }
    rondo::result<void> finish() const { return await_resume(), rondo::result<void>(); }
    /// What select_one() does with a losing arm: nobody takes what this wait has got, so it goes back. The
    /// mutex stays locked.
    void give_back() noexcept {
        if (result >= 0) of_->notify_one();
    }

 private:
    condition* of_;
};

// implementation

inline condition::wait_awaiter condition::wait(mutex::guard& guard) noexcept { return {*this, guard}; }

template <class Predicate>
task<> condition::wait_until_true(condition& self, mutex::guard& guard, Predicate predicate) {
    while (!predicate()) co_await self.wait(guard);
}

}  // namespace rondo
