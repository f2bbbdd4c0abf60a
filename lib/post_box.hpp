// Posting to a loop that may be asleep: the inbox, and who must be woken.
//
// The loop says that it sleeps before it looks into the inbox for the last time, and who posts looks whether
// it sleeps after the post is in: one of the two sees the other (Dekker). All of this is sequentially
// consistent for that reason. What it wakes must outlive every thread that is inside post(): each counts as
// a visitor, and the loop goes only when the inbox is closed and there are none.
//
// `Atomic` is std::atomic, but for the test that tries every order in which threads may take these steps.
#pragma once

#include "inbox.hpp"

#include <atomic>
#include <cstddef>

namespace rondo::detail {

/// `Target` has wake(), for any thread.
template <class Target, template <class> class Atomic = std::atomic>
class post_box {
 public:
    explicit post_box(Target& target) noexcept : target_(&target) {}

    // --- any thread

    /// False when closed.
    bool post(ready_node& node) noexcept {
        if (inbox_.closed()) return false;  // before the visit: closing waits until there are none
        const visit here(*this);
        if (!inbox_.push(node)) return false;
        if (sleeping_.load(std::memory_order_seq_cst)) target_->wake();
        return true;
    }

    /// Wakes the loop whatever it does, if it is there.
    template <class Condition>
    void wake_if(Condition&& condition) noexcept {
        const visit here(*this);
        if (condition() && !inbox_.closed()) target_->wake();
    }

    // --- the loop's thread

    /// About to block. False: there is something in the inbox, do not.
    bool sleep() noexcept {
        sleeping_.store(true, std::memory_order_seq_cst);
        return inbox_.empty();
    }
    void awake() noexcept { sleeping_.store(false, std::memory_order_relaxed); }

    queue<ready_node> take() noexcept { return inbox_.take(); }
    bool has_posts() const noexcept { return !inbox_.empty(); }

    /// Refuses posts from now on, and gives what was posted. The target may go when nobody visits.
    queue<ready_node> close() noexcept { return inbox_.close(); }
    bool visited() const noexcept { return visitors_.load(std::memory_order_seq_cst) != 0; }

    template <class F>
    void for_each(F&& f) const {
        inbox_.for_each(f);
    }

 private:
    // A thread in here may be about to touch the target.
    struct visit {
        explicit visit(post_box& b) noexcept : of(b) { of.visitors_.fetch_add(1, std::memory_order_seq_cst); }
        ~visit() { of.visitors_.fetch_sub(1, std::memory_order_seq_cst); }
        post_box& of;
    };

    basic_inbox<Atomic> inbox_;
    Target* target_;
    Atomic<bool> sleeping_{false};
    Atomic<std::size_t> visitors_{0};
};

}  // namespace rondo::detail
