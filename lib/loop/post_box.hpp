// Posting to a loop that may be asleep: the inbox, and who must be woken.
//
// The loop says that it sleeps before it looks into the inbox for the last time, and who posts looks whether
// it sleeps after the post is in: one of the two sees the other (Dekker). So it is with the loop's end: who
// is about to touch the loop counts as a visitor before it looks whether the inbox is closed, and the loop,
// having closed it, goes only when nobody visits. All of this is sequentially consistent for that reason.
//
// Once a turn the loop takes what has come and puts it behind what waits already; it runs only so much of that in
// a turn. The inbox is turned round when it is taken, so each post is turned round once, however long it waits, and
// a turn takes no longer for that than it took to post them.
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
    /// While `limit` posts wait, reserve() refuses.
    post_box(Target& target, std::size_t limit) noexcept : limit_(limit), target_(&target) {}

    // --- any thread

    /// False when closed.
    bool post(ready_node& node) noexcept { return put_into(inbox_, node); }
    /// Posts what must be heard in a flood: it goes before all that wait.
    bool post_urgently(ready_node& node) noexcept { return put_into(urgent_, node); }

    /// A place for a post, if one is left. Posts without one are not counted here, which would cost each of them
    /// as much as the post itself; the loop tells how many it has left over.
    bool reserve() noexcept {
        std::size_t n = reserved_.load(std::memory_order_relaxed);
        do {
            if (n >= limit_ || left_over_.load(std::memory_order_relaxed) >= limit_) return false;
        } while (!reserved_.compare_exchange_weak(n, n + 1, std::memory_order_relaxed, std::memory_order_relaxed));
        return true;
    }
    /// The post that has the place has left the queue, or was not made.
    void unreserve() noexcept { reserved_.fetch_sub(1, std::memory_order_relaxed); }

    /// Wakes the loop whatever it does, if it is still there.
    void wake() noexcept {
        visitors_.fetch_add(1, std::memory_order_seq_cst);
        if (!closed()) target_->wake();
        visitors_.fetch_sub(1, std::memory_order_seq_cst);
    }

    bool closed() const noexcept { return inbox_.closed(); }

    // --- the loop's thread

    /// About to block. False: there are posts, do not.
    bool sleep() noexcept {
        sleeping_.store(true, std::memory_order_seq_cst);
        return !has_posts();
    }
    /// While nobody posts.
    void retarget(Target& instead) noexcept { target_ = &instead; }
    void awake() noexcept { sleeping_.store(false, std::memory_order_relaxed); }
    bool has_posts() const noexcept { return !waiting_.empty() || !inbox_.empty() || !urgent_.empty(); }

    /// Takes what was posted, behind what waits already. How many wait.
    std::size_t collect() noexcept {
        auto [nodes, count] = inbox_.take();
        waiting_.append(nodes);
        auto [first, more] = urgent_.take();
        first.append(waiting_);
        waiting_ = std::move(first);
        return waiting_count_ += count + more;
    }
    /// One that waits, the oldest.
    ready_node& next() noexcept {
        --waiting_count_;
        return waiting_.pop();
    }
    std::size_t waiting() const noexcept { return waiting_count_; }
    /// The turn runs no more posts: those that wait are left over.
    void tell_left_over() noexcept {
        if (left_over_.load(std::memory_order_relaxed) != waiting_count_)
            left_over_.store(waiting_count_, std::memory_order_relaxed);
    }

    /// Refuses posts from now on, and gives those that never ran. The target may go when nobody visits.
    queue<ready_node> close() noexcept {
        queue<ready_node> rest = inbox_.close().nodes;
        waiting_.append(rest);
        rest = urgent_.close().nodes;
        waiting_.append(rest);
        waiting_count_ = 0;
        return std::move(waiting_);
    }
    bool visited() const noexcept { return visitors_.load(std::memory_order_seq_cst) != 0; }

    template <class F>
    void for_each(F&& f) const {
        waiting_.for_each(f);
        inbox_.for_each(f);
        urgent_.for_each(f);
    }

 private:
    bool put_into(basic_inbox<Atomic>& box, ready_node& node) noexcept {
        if (!box.push(node)) return false;
        // One wakes it. Who comes meanwhile need not: it has yet to look into the inbox.
        if (sleeping_.load(std::memory_order_seq_cst) && sleeping_.exchange(false, std::memory_order_seq_cst)) wake();
        return true;
    }

    // What each post touches is on one line, and what the loop touches for each is on another.
    basic_inbox<Atomic> inbox_;
    Atomic<bool> sleeping_{false};
    const std::size_t limit_;
    Atomic<std::size_t> reserved_{0};
    Atomic<std::size_t> left_over_{0};
    Target* target_;

    alignas(64) queue<ready_node> waiting_;
    std::size_t waiting_count_ = 0;

    alignas(64) Atomic<std::size_t> visitors_{0};
    basic_inbox<Atomic> urgent_;
};

}  // namespace rondo::detail
