// Posting to a loop that may be asleep: the inbox, and who must be woken.
//
// The loop says that it sleeps before it looks into the inbox for the last time, and who posts looks whether
// it sleeps after the post is in: one of the two sees the other (Dekker). So it is with the loop's end: who
// is about to touch the loop counts as a visitor before it looks whether the inbox is closed, and the loop,
// having closed it, goes only when nobody visits. All of this is sequentially consistent for that reason.
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
        if (!inbox_.push(node)) return false;
        // One wakes it. Who comes meanwhile need not: it has yet to look into the inbox.
        if (sleeping_.load(std::memory_order_seq_cst) && sleeping_.exchange(false, std::memory_order_seq_cst)) wake();
        return true;
    }

    /// Wakes the loop whatever it does, if it is still there.
    void wake() noexcept {
        visitors_.fetch_add(1, std::memory_order_seq_cst);
        if (!inbox_.closed()) target_->wake();
        visitors_.fetch_sub(1, std::memory_order_seq_cst);
    }

    // --- the loop's thread

    /// About to block. False: there is something in the inbox, do not.
    bool sleep() noexcept {
        sleeping_.store(true, std::memory_order_seq_cst);
        return inbox_.empty();
    }
    /// While nobody posts.
    void retarget(Target& instead) noexcept { target_ = &instead; }
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
    basic_inbox<Atomic> inbox_;
    Target* target_;
    Atomic<bool> sleeping_{false};
    Atomic<std::size_t> visitors_{0};
};

}  // namespace rondo::detail
