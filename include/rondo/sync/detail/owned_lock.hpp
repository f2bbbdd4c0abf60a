// What mutex and shared_mutex have in common: an owner, tasks that wait to be the next, and the deadlock
// that is found when it arises.
//
// The owner is a task. So each task that waits for a lock points to another task, and these arrows are a
// chain: a lock() that would close it to a circle could never return, nor could any other in it. It is
// refused instead. Nobody looks unless there is something to wait for.
#pragma once

#include <rondo/loop/detail/extras.hpp>
#include <rondo/task/detail/named_queue.hpp>

namespace rondo::detail {

/// A wait for a lock; or, of a condition, one that will be.
struct RONDO_API lock_wait : wait_op {
    lock_wait(owned_lock& l, bool is_shared) noexcept : lock_wait(table, &l, is_shared) {}

    owned_lock* wanted;     // null: it does not wait for a lock at present
    bool shared;            // with others like it
    bool cut_short = false;  // by a cancel, before it wanted the lock: it completes with -ECANCELED

    static const op_vtable table;

 protected:
    lock_wait(const op_vtable& vtable, owned_lock* l, bool is_shared) noexcept
        : wait_op(vtable), wanted(l), shared(is_shared) {}
};

/// A condition's wait: first it stands in the condition's queue, then in that of the mutex; it completes once.
struct RONDO_API condition_wait : lock_wait {
    condition_wait(named_queue& condition_queue, owned_lock* l) noexcept
        : lock_wait(table, nullptr, false), in(&condition_queue), lock(l) {}
    bool start() noexcept;
    named_queue* in;
    owned_lock* lock;
    static const op_vtable table;
};

class RONDO_API owned_lock {
 public:
    owned_lock(const char* kind, const char* name) noexcept : waits_(kind, name) {}
    ~owned_lock() {
        if (owner_ != nullptr || readers_ != 0) [[unlikely]]
            destroyed_while_held();
    }
    owned_lock(const owned_lock&) = delete;
    owned_lock& operator=(const owned_lock&) = delete;

    /// What start() of a wait calls. True: it waits. False: it has the lock, or `result` says why it never will.
    bool start(lock_wait& w) noexcept {
        if (w.owner->more == nullptr && !may_own(w)) return false;
        return !try_lock(*w.owner, w.shared) && wait_or_refuse(w);
    }
    /// Nobody overtakes who waits. A task that is to own it must have extras.
    bool try_lock(fiber& f, bool shared) noexcept {
        if (owner_ != nullptr || !waits_.empty()) return false;
        if (shared) return ++readers_, true;
        if (readers_ != 0) return false;
        own(f);
        return true;
    }
    /// Does the same for the running task, and asserts that there is one. Throws bad_alloc.
    bool try_lock_here(bool shared);
    void unlock() noexcept {
        if (owner_ != current_task()) [[unlikely]]
            not_the_owner();
        disown();
        if (!waits_.empty()) hand_over();
    }
    void unlock_shared() noexcept {
        if (--readers_ == 0 && !waits_.empty()) hand_over();
    }
    /// `w`, armed and in no queue, goes on to wait for this lock.
    void wait_next(lock_wait& w) noexcept;
    void cancel(lock_wait& w) noexcept;

    bool locked() const noexcept { return owner_ != nullptr; }
    std::size_t readers() const noexcept { return readers_; }
    std::size_t waiting() const noexcept { return waits_.size(); }
    const char* name() const noexcept { return waits_.name(); }
    std::string title() const { return waits_.title(); }
    const fiber* owner() const noexcept { return owner_; }
    const owned_lock* next_of_owner() const noexcept { return next_; }
    /// "mutex 'accounts', held by task 7, 2 waiting".
    void describe(char* text, std::size_t size) const noexcept;

    /// Throws what `w.result`, which is negative, stands for.
    [[noreturn]] static void fail(const lock_wait& w);

 private:
    static const fiber* current_task() noexcept { return current != nullptr ? current->current_fiber() : nullptr; }
    void own(fiber& f) noexcept {
        owner_ = &f;
        next_ = f.more->locks;
        link_ = &f.more->locks;
        if (next_ != nullptr) next_->link_ = &next_;
        f.more->locks = this;
    }
    void disown() noexcept {
        owner_ = nullptr;
        *link_ = next_;
        if (next_ != nullptr) next_->link_ = link_;
    }
    static bool may_own(lock_wait& w) noexcept;
    bool wait_or_refuse(lock_wait& w) noexcept;
    void hand_over() noexcept;
    [[noreturn]] void not_the_owner() const noexcept;
    [[noreturn]] void destroyed_while_held() const noexcept;

    named_queue waits_;
    fiber* owner_ = nullptr;
    std::size_t readers_ = 0;
    owned_lock* next_ = nullptr;   // of the same owner
    owned_lock** link_ = nullptr;  // what points to this in the owner's list
};

}  // namespace rondo::detail
