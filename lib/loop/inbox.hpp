// The inbox: any thread pushes, the loop takes everything at once.
//
// A Treiber stack of callbacks. Its ABA problem does not arise: nobody pops a single node; the
// consumer exchanges the whole stack for an empty one, and a push only compares the head with what
// it will point to, whatever that is by then. A closed inbox has a head of its own, so that a push
// that comes too late knows. (A queue whose push exchanges the head and links behind it afterwards would
// come in order, but a thread that is held up between the two would hold up the loop.)
#pragma once

#include <rondo/loop/detail/callback.hpp>

#include <atomic>
#include <cstddef>

namespace rondo::detail {

template <template <class> class Atomic = std::atomic>
class basic_inbox {
 public:
    /// What was taken, oldest first, and how many they are.
    struct batch {
        queue<ready_node> nodes;
        std::size_t count = 0;
    };

    /// Any thread. False when closed.
    bool push(ready_node& node) noexcept {
        ready_node* head = head_.load(std::memory_order_relaxed);
        do {
            if (head == &closed_) return false;
            node.next = head;
        } while (!head_.compare_exchange_weak(head, &node, std::memory_order_seq_cst, std::memory_order_relaxed));
        return true;
    }

    /// The consumer: all nodes. O(n).
    batch take() noexcept {
        if (head_.load(std::memory_order_relaxed) == nullptr) return {};
        return in_order(head_.exchange(nullptr, std::memory_order_acquire));
    }

    /// The consumer: refuses pushes from now on, and takes what is there.
    batch close() noexcept { return in_order(head_.exchange(&closed_, std::memory_order_seq_cst)); }

    /// The consumer: looks at what is there, newest first. Pushes meanwhile do no harm: they come before.
    template <class F>
    void for_each(F&& f) const {
        const ready_node* at = head_.load(std::memory_order_acquire);
        if (at == &closed_) return;
        for (; at != nullptr; at = at->next) f(*at);
    }

    bool empty() const noexcept { return head_.load(std::memory_order_seq_cst) == nullptr; }
    bool closed() const noexcept { return head_.load(std::memory_order_seq_cst) == &closed_; }

 private:
    static batch in_order(ready_node* newest) noexcept {
        ready_node* oldest = nullptr;
        std::size_t count = 0;
        for (ready_node* at = newest; at != nullptr; ++count) {
            ready_node* const older = at->next;
            at->next = oldest;
            oldest = at;
            at = older;
        }
        return {queue<ready_node>(oldest, newest), count};
    }

    ready_node closed_;
    Atomic<ready_node*> head_{nullptr};
};

using inbox = basic_inbox<>;

}  // namespace rondo::detail
