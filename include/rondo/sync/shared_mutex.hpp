// shared_mutex: many readers, or one writer.
//
// First come, first served: readers who ask behind a waiting writer wait for it, and readers who stand next
// to each other in the queue get it together. So neither sort can starve the other.
#pragma once

#include <rondo/sync/detail/owned_lock.hpp>
#include <rondo/base/detail/take.hpp>

#include <utility>

namespace rondo {

class RONDO_API shared_mutex {
    template <bool Shared>
    class basic_guard;
    template <bool Shared>
    class basic_awaiter;

 public:
    using guard = basic_guard<false>;
    using shared_guard = basic_guard<true>;
    using lock_awaiter = basic_awaiter<false>;
    using shared_awaiter = basic_awaiter<true>;

    /// `name` is for reports, and must outlive it.
    explicit shared_mutex(const char* name = "") noexcept : lock_("shared_mutex", name) {}

    /// Waits until nobody else has it. Result, errors, cancel: as mutex::lock().
    [[nodiscard]] lock_awaiter lock() noexcept;
    /// Waits until no writer has it, and none asked before. It is refused, as lock() is, if it would wait
    /// for a writer that waits for this task. Readers are counted, not known: a circle that leads through
    /// one, such as a task that reads and asks for lock() as well, shows only in the report of run().
    [[nodiscard]] shared_awaiter lock_shared() noexcept;
    /// Locks it if that needs no waiting; else the guard is empty. Nobody is overtaken. Only in a task. Throws
    /// bad_alloc.
    [[nodiscard]] guard try_lock();
    [[nodiscard]] shared_guard try_lock_shared();

    /// Whether a writer has it.
    bool locked() const noexcept { return lock_.locked(); }
    std::size_t readers() const noexcept { return lock_.readers(); }
    std::size_t waiting() const noexcept { return lock_.waiting(); }
    const char* name() const noexcept { return lock_.name(); }

 private:
    detail::owned_lock lock_;
};

/// Move-only. A writer's stays with its task, as mutex::guard; a reader's may go to another.
template <bool Shared>
class [[nodiscard("the shared_mutex is unlocked when this goes")]] shared_mutex::basic_guard {
 public:
    basic_guard() noexcept = default;
    basic_guard(basic_guard&& other) noexcept : of_(detail::take(other.of_)) {}
    basic_guard& operator=(basic_guard other) noexcept {
        detail::trade(of_, other.of_);
        return *this;
    }
    ~basic_guard() { unlock(); }

    explicit operator bool() const noexcept { return of_ != nullptr; }
    /// Now. No effect on an empty guard.
    void unlock() noexcept {
        if (of_ == nullptr) return;
        detail::owned_lock& held = *detail::take(of_);
        if constexpr (Shared) {
            held.unlock_shared();
        } else {
            held.unlock();
        }
    }

 private:
    friend class shared_mutex;
    explicit basic_guard(detail::owned_lock* of) noexcept : of_(of) {}
    detail::owned_lock* of_ = nullptr;
};

template <bool Shared>
class [[nodiscard, gnu::warn_unused]] shared_mutex::basic_awaiter : public detail::lock_wait,
                                                                    public awaits<basic_awaiter<Shared>> {
 public:
    explicit basic_awaiter(detail::owned_lock& l) noexcept : lock_wait(l, Shared) {}
    bool start() noexcept { return wanted->start(*this); }
    basic_guard<Shared> await_resume() const {
        if (result < 0) [[unlikely]]
            detail::owned_lock::fail(*this);
        return basic_guard<Shared>(wanted);
    }
    /// A deadlock is resource_deadlock_would_occur.
    rondo::result<basic_guard<Shared>> finish() const {
        if (result == -EDEADLK)
            return detail::failure_thrown_by(errno_code(EDEADLK), [this] { detail::owned_lock::fail(*this); });
        return await_resume();
    }
    /// What select_one() does with a losing arm: nobody takes what this wait has got, so it goes back.
    void give_back() noexcept {
        if (result >= 0) basic_guard<Shared>(wanted).unlock();
    }
};

// implementation

inline shared_mutex::lock_awaiter shared_mutex::lock() noexcept { return lock_awaiter(lock_); }
inline shared_mutex::shared_awaiter shared_mutex::lock_shared() noexcept { return shared_awaiter(lock_); }
inline shared_mutex::guard shared_mutex::try_lock() { return guard(lock_.try_lock_here(false) ? &lock_ : nullptr); }
inline shared_mutex::shared_guard shared_mutex::try_lock_shared() {
    return shared_guard(lock_.try_lock_here(true) ? &lock_ : nullptr);
}

}  // namespace rondo
