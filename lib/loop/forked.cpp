#include "forked.hpp"

#include "engine.hpp"

#include "left_behind.hpp"
#include "remote_state.hpp"

#include <cstdio>

namespace rondo::detail {

bool unwinding_in_child() noexcept {
    if (current == nullptr || !current->left_behind()) return false;
    const fiber* const f = current->current_fiber();
    return f != nullptr && (f->flags & fiber::cancel_pending) != 0;
}

void used_in_child(const char* what) noexcept {
    char message[160];
    std::snprintf(message, sizeof message, "%s: a loop cannot be used in a forked child; make a new one", what);
    assertion_failed(message, nullptr, {});
}

// Whether it was cancelled, or something around it, be it behind a shield.
static bool is_ending(const fiber& f) noexcept {
    const auto is_cancelled = [](const fiber& task) {
        return task.cancel_asked || (task.flags & fiber::cancel_pending) != 0;
    };
    if (is_cancelled(f)) return true;
    for (const scope* s = f.inside; s != nullptr; s = s->parent())
        if (s->cancelled() || (s->holder() != nullptr && is_cancelled(*s->holder()))) return true;
    return false;
}

// Takes no time and no memory, since most children are about to exec.
void engine::leave_behind(bool of_this_thread) noexcept {
    if (std::exchange(left_behind_, true)) return;
    in_a_child_->begin();
    backend_ = in_a_child_;
    shared_->leave_behind(*in_a_child_);
    if (!of_this_thread) return;
    ready_at_fork_.append(ticks_);
    ready_at_fork_.append(microtasks_);
    told_tick_ = told_microtask_ = nullptr;
}

void engine::turn_in_child() {
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
    queue<ready_node> ready(std::move(ready_at_fork_));
    while (!ready.empty()) {
        ready_node& node = ready.pop();
        const bool goes_on = node.what != ready_node::kind::callback && is_ending(static_cast<const fiber&>(node));
        (goes_on ? microtasks_ : ready_at_fork_).push(node);
    }
    if (!microtasks_.empty()) return drain();

    // Who unwinds may sleep meanwhile, behind a shield; nobody else may.
    bool unwinding = false;
    if (next_timer() != never) for_each_task([&](const fiber& f) { unwinding |= is_ending(f); });
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

// The tasks among what is due are woken; callbacks are the parent's to call.
void engine::wake_sleepers() noexcept {
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
    ring<linked_op> callbacks;
    while (!immediates_.empty()) {
        linked_op& o = immediates_.pop_front();
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
void engine::abandon() noexcept {
    registry::unlist(*this);
    root_.count_ = 0;
}

}  // namespace rondo::detail
