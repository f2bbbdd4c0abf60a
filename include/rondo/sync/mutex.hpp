// mutex: one at a time, across waits.
//
//     auto guard = co_await accounts.lock();   // unlocked when `guard` goes
//
// One thread needs no mutex as long as it does not wait: code between two co_awaits runs alone. A mutex is
// for what must stay together although a co_await lies within. It goes to those who wait in the order in
// which they asked. A lock() that could never return, because the owners wait for each other in a circle,
// throws deadlock_error at once.
#pragma once

#include <rondo/sync/detail/owned_lock.hpp>
#include <rondo/base/detail/take.hpp>

#include <utility>

namespace rondo {

class condition;
class once;

class RONDO_API mutex {
 public:
    class guard;
    class lock_awaiter;

    /// `name` is for reports, and must outlive it.
    explicit mutex(const char* name = "") noexcept : lock_("mutex", name) {}

    /// Waits until it is this task's; gives a guard that unlocks it. Throws io_error
    /// (resource_deadlock_would_occur) when the task has it already, and deadlock_error, whose what() lists the
    /// tasks and where they wait, when its owner waits, be it through others, for a lock of this task; bad_alloc.
    /// Cancel: it has not got it. If it was handed over before the cancel came, it is this task's, and the
    /// cancel meets its next wait. O(1); if it must wait while others wait for locks of this task, O(tasks that
    /// wait for each other).
    [[nodiscard]] lock_awaiter lock() noexcept;
    /// Locks it if it is free; else gives an empty guard. Only in a task. Throws bad_alloc.
    [[nodiscard]] guard try_lock();

    bool locked() const noexcept { return lock_.locked(); }
    std::size_t waiting() const noexcept { return lock_.waiting(); }
    const char* name() const noexcept { return lock_.name(); }

 private:
    friend class condition;
    friend class once;
    mutex(const char* kind, const char* name) noexcept : lock_(kind, name) {}
    detail::owned_lock lock_;
};

/// Move-only. It stays with the task that locked: only that one may unlock, and must before it ends. Both
/// are asserted.
class [[nodiscard("the mutex is unlocked when this goes")]] mutex::guard {
 public:
    guard() noexcept = default;
    guard(guard&& other) noexcept : of_(detail::take(other.of_)) {}
    guard& operator=(guard other) noexcept {
        detail::trade(of_, other.of_);
        return *this;
    }
    ~guard() { unlock(); }

    explicit operator bool() const noexcept { return of_ != nullptr; }
    /// Now. No effect on an empty guard.
    void unlock() noexcept {
        if (of_ != nullptr) detail::take(of_)->unlock();
    }

 private:
    friend class mutex;
    friend class condition;
    explicit guard(detail::owned_lock* of) noexcept : of_(of) {}
    detail::owned_lock* of_ = nullptr;
};

class [[nodiscard, gnu::warn_unused]] mutex::lock_awaiter : public detail::lock_wait, public awaits<lock_awaiter> {
 public:
    explicit lock_awaiter(detail::owned_lock& l) noexcept : lock_wait(l, false) {}
    bool start() noexcept { return wanted->start(*this); }
    guard await_resume() const {
        if (result < 0) [[unlikely]]
            detail::owned_lock::fail(*this);
        return guard(wanted);
    }
    /// Either deadlock is resource_deadlock_would_occur.
    rondo::result<guard> finish() const {
        if (result == -EDEADLK)
            return detail::failure_thrown_by(errno_code(EDEADLK), [this] { detail::owned_lock::fail(*this); });
        return await_resume();
    }
    /// What select_one() does with a losing arm: nobody takes what this wait has got, so it goes back.
    void give_back() noexcept {
        if (result >= 0) wanted->unlock();
    }
};

// implementation

inline mutex::lock_awaiter mutex::lock() noexcept { return lock_awaiter(lock_); }
inline mutex::guard mutex::try_lock() { return guard(lock_.try_lock_here(false) ? &lock_ : nullptr); }

}  // namespace rondo
