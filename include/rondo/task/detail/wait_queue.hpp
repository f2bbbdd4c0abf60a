// The one queue in which tasks wait for each other: for a permit, an item, an event.
//
// First in, first out. Whoever has what the first one waits for takes it out and completes it: the
// hand-off is the completion, so a cancel that comes later does not take the permit back. A wait that is
// cancelled leaves from the middle, and then the queue must be looked at again: the one behind it may ask
// for less (tokio #6450, embassy #6964, x/sync #10 are that look forgotten).
#pragma once

#include <rondo/loop/detail/scheduler.hpp>

#include <cerrno>
#include <cstddef>

namespace rondo::detail {

/// A wait that stands in a wait_queue.
struct wait_op : op, links {
    using op::op;
};

/// `Wait` is the wait_op of the queue's owner. Nothing is allocated, all is O(1) unless it says otherwise.
template <class Wait = wait_op>
class wait_queue {
 public:
    bool empty() const noexcept { return count_ == 0; }
    std::size_t size() const noexcept { return count_; }
    Wait& front() const noexcept { return waits_.front(); }
    /// The first that is not of the task `f`: a select_one() that both gives and takes does not answer itself.
    /// Null if there is none. O(waits of `f`).
    Wait* first_of_others(const fiber* f) const noexcept {
        if (empty()) return nullptr;
        if (front().owner != f) [[likely]]
            return &front();
        return behind_own(f);
    }

    /// Arms `w`, behind all others.
    void push(Wait& w) noexcept {
        w.state = op::armed;
        waits_.push_back(w);
        ++count_;
    }
    /// Takes out `w`, which stays armed: it goes on to wait elsewhere, or is completed.
    void remove(Wait& w) noexcept {
        --count_;
        w.unlink();
    }
    /// Takes out `w` and completes it: its task is queued, not resumed. Only while the loop runs.
    void complete(Wait& w, std::int32_t result = 0) noexcept {
        remove(w);
        running().complete(w, result);
    }
    void complete_first(std::int32_t result = 0) noexcept { complete(front(), result); }
    /// Whether the first is an arm of a select_one(), so that its task has other waits to undo.
    bool first_is_arm() const noexcept { return front().vt->done != &wake_owner; }
    /// Does what complete_first(0) does, in fewer instructions. The first wait must not be an arm of a select_one().
    void wake_first() noexcept {
        Wait& first = front();
        remove(first);
        first.result = 0;
        first.state = op::done;
        running().make_ready(*first.owner);
    }
    /// Takes out one that is cancelled. The owner looks at the queue again afterwards.
    void cancel(Wait& w) noexcept {
        remove(w);
        current->complete(w, -ECANCELED);
    }

    template <class F>
    void for_each(F&& f) const {
        waits_.for_each(f);
    }
    /// The first for which `wanted` holds; null if there is none.
    template <class F>
    Wait* find(F&& wanted) const {
        return waits_.find(wanted);
    }

 private:
    [[gnu::noinline]] Wait* behind_own(const fiber* f) const noexcept {
        Wait* w = &front();
        while (w != nullptr && w->owner == f) w = waits_.after(*w);
        return w;
    }

    ring<Wait> waits_;
    std::size_t count_ = 0;
};

}  // namespace rondo::detail
