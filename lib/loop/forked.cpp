// What a loop does in a forked child: see left_behind.hpp.
//
// The child may be the copy of a program in the middle of a turn. The task or callback that has forked runs on; it
// will exec, exit, throw, or drop what it has. Whatever else was ready at that moment is the parent's to run, and must
// not be run twice: here it stays where it is. Only who is cancelled goes on, to unwind, so that an exception can
// leave groups, and run().
#include <rondo/loop/loop.hpp>

#include "left_behind.hpp"
#include "remote_state.hpp"

namespace rondo {

// Whether it was cancelled, or something around it, be it behind a shield.
static bool is_ending(const detail::fiber& f) noexcept {
    constexpr auto cancelled = detail::fiber::cancel_pending | detail::fiber::cancel_asked;
    if ((f.flags & cancelled) != 0) return true;
    for (const detail::scope* s = f.inside; s != nullptr; s = s->parent)
        if (s->cancelled || (s->holder != nullptr && (s->holder->flags & cancelled) != 0)) return true;
    return false;
}

// Takes no time and no memory, since most children are about to exec.
void loop::leave_behind(bool of_this_thread) noexcept {
    if (std::exchange(left_behind_, true)) return;
    in_a_child_->begin();
    backend_ = in_a_child_;
    shared_->leave_behind(*in_a_child_);
    if (!of_this_thread) return;
    ready_at_fork_.append(ticks_);
    ready_at_fork_.append(microtasks_);
    told_tick_ = told_microtask_ = nullptr;
}

void loop::turn_in_child() {
    enter(phase::poll);
    // A result that had come already is the task's, but only who unwinds goes on with it.
    for (io_op* o : put_off_) {
        --armed_io_;
        complete(*o, o->result);
    }
    put_off_.clear();
    ready_at_fork_.append(ticks_);
    ready_at_fork_.append(microtasks_);
    told_tick_ = told_microtask_ = nullptr;
    detail::queue<detail::ready_node> ready(std::move(ready_at_fork_));
    while (!ready.empty()) {
        detail::ready_node& node = ready.pop();
        const bool goes_on = node.what != detail::ready_node::kind::callback &&
                             is_ending(static_cast<const detail::fiber&>(node));
        (goes_on ? microtasks_ : ready_at_fork_).push(node);
    }
    if (!microtasks_.empty()) return drain();

    // Who unwinds may sleep meanwhile, behind a shield; nobody else may.
    bool unwinding = false;
    if (next_timer() != never) for_each_task([&](const detail::fiber& f) { unwinding |= is_ending(f); });
    if (unwinding) {
        in_a_child_->look(batch_);
        if (batch_.size() == 0) in_a_child_->sleep_until(next_timer());
    } else if (unwinding_) {
        in_a_child_->look(batch_);
        stuck_ = batch_.size() == 0;  // only the outside could wake those that are left: drain_root() names them
    } else {
        backend_->wait(never, batch_);
    }
    refresh_now();
    for (const completion& c : batch_) {
        --armed_io_;
        complete(*c.what, c.result);
    }
    batch_.clear();
    wake_sleepers();
}

// Of what is due, the tasks; callbacks are the parent's to call.
void loop::wake_sleepers() noexcept {
    const auto wake_due = [&] {
        for (auto slot = timers_.take_due(); slot != timers_.none; slot = timers_.take_due()) {
            op& o = timers_.owner(slot);
            if (o.owner == nullptr) continue;
            timers_.release(slot);
            complete(o, 0);
        }
    };
    wake_due();  // in a phase that the fork has interrupted
    timers_.collect(now_);
    wake_due();
    detail::ring<detail::linked_op> callbacks;
    while (!immediates_.empty()) {
        detail::linked_op& o = immediates_.pop_front();
        if (o.owner == nullptr) {
            callbacks.push_back(o);
        } else {
            --immediate_count_;
            complete(o, 0);
        }
    }
    immediates_.splice_back(callbacks);
}

// What a loop was in the middle of will never end: exit() was called under run(), or the loop is of a thread that
// the child does not have. Its memory and descriptors are left to the end of the process.
void loop::abandon() noexcept {
    unlist();
    root_.count = 0;
}

}  // namespace rondo
