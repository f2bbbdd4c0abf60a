#include <rondo/loop/detail/scope.hpp>

#include <rondo/loop/detail/extras.hpp>

#include "engine.hpp"

#include <algorithm>
#include <cstdio>

namespace rondo::detail {

// --- cancelling ----------------------------------------------------------------------------------------

namespace {

// That cancellation is over, and with it all that was counted of it: the task may live on for years, and meet
// as many others as it likes.
void cancelled_no_more(fiber& f) noexcept {
    f.flags &= static_cast<std::uint8_t>(~fiber::cancel_pending);
    f.told_cancelled = 0;
    f.waits_refused = 0;
}

// A wait is only asked to end: that queues, and changes none of the lists that are walked.
void interrupt(fiber& f) noexcept {
    f.flags |= fiber::cancel_pending;
    if (f.waiting == nullptr || !f.waiting->pending()) return;
    // A task may be cancelled while its loop does not run: its ops look for the current one.
    scheduler* const outer = std::exchange(current, &f.inside->its_loop);
    f.waiting->vt->cancel(*f.waiting);
    current = outer;
}

// A cancelled task that was one too many ends without having run, whatever is shielded in the meantime. It is
// beyond the limit until then.
void end_without_turn(fiber& f) noexcept {
    f.flags |= fiber::cancel_pending;
    f.told_cancelled = 1;
    f.inside->its_loop.make_ready(f);
}

// Its first step will be its end: it had no turn.
bool will_not_run(const fiber& f) noexcept { return f.what == ready_node::kind::first_step && f.told_cancelled != 0; }

}  // namespace

// A cancellation on its way through the tree. While it lives, the timers of the sleeps that it ends leave their heap
// together, at its end, and the tasks of cancel_later() are remembered. One may begin inside another.
class cancel_walk {
 public:
    explicit cancel_walk(scheduler& l) noexcept
        : postponed_(engine::of(l).postponed_cancels()),
          clearing_(engine::of(l).clear_timers()),
          is_inner_(std::exchange(postponed_.walking, true)) {}
    ~cancel_walk() {
        if (!is_inner_) postponed_.walking = false;
    }
    cancel_walk(const cancel_walk&) = delete;
    cancel_walk& operator=(const cancel_walk&) = delete;

    /// The tasks of `s` are to be visited.
    void reach(scope& s) noexcept { push(reached_, s); }
    /// `f` and the scopes it has entered below `outermost`, which it is in: down to the first shield, which learns
    /// what it keeps out.
    void reach(fiber& f, const scope* outermost) noexcept {
        scope* shield = nullptr;
        for (scope* s = f.inside; s != outermost; s = s->parent_)
            if (s->shielded_) shield = s;
        if (shield == nullptr) {
            interrupt(f);
        } else {
            shield->set_cancelled_outside(true);
        }
        for (scope* s = shield == nullptr ? f.inside : shield->parent_; s != outermost; s = s->parent_) {
            s->set_cancelled_outside(true);
            reach(*s);
        }
    }
    /// A task that is cancelled for itself, with what it has entered.
    void reach_task(fiber& f) noexcept {
        f.cancel_asked = 1;
        if (f.inside->gives_up_turn(f)) return end_without_turn(f);
        const scope* home = f.inside;
        while (home->holder_ == &f) home = home->parent_;
        reach(f, home);
    }
    /// Visits the scopes that were reached, and all that is reached through these; then the tasks of cancel_later().
    /// Each of those may wait for another one: they follow one after another, so that a long chain needs no stack.
    void visit_all() noexcept {
        visit_reached();
        if (is_inner_) return;
        while (later_cancel* const next = postponed_.first) {
            postponed_.first = next->next;
            reach_task(*next->target);
            visit_reached();
        }
    }

    /// After a shield was moved: `f` and the scopes it has entered below `outermost`, from the outside in. `outside`:
    /// whether it is cancelled in `outermost`, as far as it is concerned.
    void renew(fiber& f, const scope* outermost, bool outside) noexcept {
        scope* entered = nullptr;
        for (scope* s = f.inside; s != outermost; s = s->parent_) push(entered, *s);
        while (entered != nullptr) {
            scope& s = pop(entered);
            s.set_cancelled_outside(outside);
            outside = s.is_cut();
            reach(s);
        }
        if (!outside) {
            if (!will_not_run(f)) cancelled_no_more(f);
        } else if (!(f.flags & fiber::cancel_pending)) {
            interrupt(f);
        }
    }
    void renew_all() noexcept {
        while (reached_ != nullptr) {
            scope& s = pop(reached_);
            s.tasks_.for_each([&](fiber& f) { renew(f, &s, s.is_cut() || f.cancel_asked); });
            if (s.is_cut()) end_line(s);
        }
        visit_all();
    }

 private:
    // Stacks go through the scopes themselves: the tree may be as deep as there is memory.
    static void push(scope*& top, scope& s) noexcept { s.next_visited_ = std::exchange(top, &s); }
    static scope& pop(scope*& top) noexcept { return *std::exchange(top, top->next_visited_); }

    static void end_line(scope& s) noexcept {
        while (s.in_line_ != 0) end_without_turn(s.next_in_turn());
    }

    void visit_reached() noexcept {
        while (reached_ != nullptr) {
            scope& s = pop(reached_);
            end_line(s);
            s.tasks_.for_each([&](fiber& f) { reach(f, &s); });
        }
    }

    postponed_cancels& postponed_;
    timer_heap::clearing clearing_;
    const bool is_inner_;
    scope* reached_ = nullptr;
};

void scope::cancel() noexcept {
    if (cancelled_) return;
    const bool was_cut = is_cut();
    cancelled_ = true;
    open_wide_ = false;
    if (was_cut) return;  // from further out: then all that is below has been asked
    cancel_walk walk(its_loop);
    if (holder_ == nullptr) {
        walk.reach(*this);
    } else {
        // What it keeps out, and what is cancelled outside, is another matter.
        const bool shielded = std::exchange(shielded_, false);
        const bool outside = cancelled_outside_, once = was_cancelled_outside_;
        walk.reach(*holder_, parent_);
        shielded_ = shielded;
        cancelled_outside_ = outside;
        was_cancelled_outside_ = once;
    }
    walk.visit_all();
}

void cancel_fiber(fiber& f) noexcept {
    if (f.flags & fiber::ended) return;
    f.inside->its_loop.check_thread("cancel() of the task spawned here", f.place);
    cancel_walk walk(f.inside->its_loop);
    walk.reach_task(f);
    walk.visit_all();
}

void cancel_later(later_cancel& c) noexcept {
    postponed_cancels& postponed = engine::of(*current).postponed_cancels();
    if (!postponed.walking) return cancel_fiber(*c.target);
    c.next = std::exchange(postponed.first, &c);
}

void renew_cancellation(scope& s) noexcept {
    if (s.cancelled() || !s.cancelled_outside()) return;  // its shield changes nothing
    cancel_walk walk(s.its_loop);
    walk.renew(*s.holder(), s.parent(), true);
    walk.renew_all();
}

// --- scopes of a task ----------------------------------------------------------------------------------

void scope::enter(fiber& f) noexcept {
    holder_ = &f;
    entered_by_ = f.leaf;
    parent_ = f.inside;
    cancelled_outside_ = was_cancelled_outside_ = (f.flags & fiber::cancel_pending) != 0;
    f.inside = this;
    if (cancelled_) f.flags |= fiber::cancel_pending;
    if (shielded_ && !cancelled_) f.flags &= static_cast<std::uint8_t>(~fiber::cancel_pending);
}

void scope::leave() noexcept {
    fiber& f = *std::exchange(holder_, nullptr);
    RONDO_ASSERT(f.inside == this, "scopes are left in the reverse order");
    f.inside = parent_;
    if (cancelled_outside_) {
        f.flags |= fiber::cancel_pending;
    } else {
        cancelled_no_more(f);
    }
}

void scope::destroyed_with_tasks() const noexcept {
    constexpr std::size_t most = 8;
    char text[128 + most * sizeof(task_label)];
    std::size_t size = 0;
    const auto add = [&](const char* format, auto... values) {
        const int n = std::snprintf(text + size, sizeof text - size, format, values...);
        size = std::min(size + static_cast<std::size_t>(n), sizeof text - 1);
    };
    add(count_ == 1 ? "a scope was destroyed with %zu live task in it: "
                    : "a scope was destroyed with %zu live tasks in it: ",
        count_);
    std::size_t named = 0;
    tasks_.for_each([&](const fiber& f) {
        if (named++ < most) add("%s%s", named == 1 ? "" : ", ", task_label(f).text);
    });
    if (named > most) add(" and %zu more", named - most);
    const fiber& first = tasks_.front();
    assertion_failed(text, nullptr, first.leaf != nullptr ? first.leaf->site : first.place);
}

}  // namespace rondo::detail
