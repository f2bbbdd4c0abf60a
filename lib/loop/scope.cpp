#include <rondo/loop/detail/scope.hpp>

#include <rondo/task/attempt.hpp>
#include <rondo/loop/detail/extras.hpp>
#include <rondo/loop/loop.hpp>
#include <rondo/task/spawn.hpp>
#include <rondo/task/start.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <typeinfo>

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
    loop* const outer = std::exchange(current, &f.inside->of);
    f.waiting->vt->cancel(*f.waiting);
    current = outer;
}

// The scopes whose tasks are still to be visited. A stack through the scopes themselves: the tree may
// be as deep as there is memory.
struct to_visit {
    scope* top = nullptr;
    void push(scope& s) noexcept { s.next_visited = std::exchange(top, &s); }
    scope& pop() noexcept { return *std::exchange(top, top->next_visited); }
};

// `f` and the scopes it has entered below `outermost`, which it is in: down to the first shield, which learns
// what it keeps out.
void reach(fiber& f, const scope* outermost, to_visit& more) noexcept {
    scope* shield = nullptr;
    for (scope* s = f.inside; s != outermost; s = s->parent)
        if (s->shielded) shield = s;
    if (shield == nullptr) {
        interrupt(f);
    } else {
        shield->is_cancelled_outside(true);
    }
    for (scope* s = shield == nullptr ? f.inside : shield->parent; s != outermost; s = s->parent) {
        s->is_cancelled_outside(true);
        more.push(*s);
    }
}

// Cancelled tasks that were one too many end without having run, whatever is shielded in the meantime. They
// are beyond the limit until then.
void end_waiting(scope& s) noexcept {
    while (s.waiting_count != 0) {
        fiber& f = s.next_in_turn();
        f.flags |= fiber::cancel_pending;
        f.told_cancelled = 1;
        s.of.make_ready(f);
    }
}

// Its first step will be its end: end_waiting() has met it.
bool will_not_run(const fiber& f) noexcept {
    return f.what == ready_node::kind::first_step && f.told_cancelled != 0;
}

void reach_all(to_visit& more) noexcept {
    while (more.top != nullptr) {
        scope& s = more.pop();
        end_waiting(s);
        s.fibers.for_each([&](fiber& f) { reach(f, &s, more); });
    }
}

void ask(fiber& f, to_visit& more) noexcept {
    f.flags |= fiber::cancel_asked;
    const scope* home = f.inside;
    while (home->holder == &f) home = home->parent;
    reach(f, home, more);
}

// One walk through what is to be cancelled: it is under way from here to the end of the block. Then come
// the children whose start() was interrupted. They are no scopes of the one who waits, and each may wait
// in a start() itself: one after another, so that a long chain of them needs no stack.
class walk {
 public:
    explicit walk(loop& l) noexcept
        : asked_(l.asked_to_end()), clearing_(l.clear_timers()), inner_(std::exchange(asked_.walking, true)) {}
    ~walk() {
        reach_all(more);
        if (inner_) return;
        while (start_op* o = asked_.first) {
            asked_.first = o->next_asked;
            ask(*o->child(), more);
            reach_all(more);
        }
        asked_.walking = false;
    }
    walk(const walk&) = delete;
    walk& operator=(const walk&) = delete;

    to_visit more;

 private:
    asked_starts& asked_;
    timer_heap::clearing clearing_;
    const bool inner_;
};

}  // namespace

void scope::cancel() noexcept {
    if (cancelled) return;
    const bool was_cut = is_cut();
    cancelled = true;
    open_wide = false;
    if (was_cut) return;  // from further out: then all that is below has been asked
    walk w(of);
    if (holder == nullptr) {
        w.more.push(*this);
    } else {
        // What it keeps out, and what is cancelled outside, is another matter.
        const bool shield = std::exchange(shielded, false);
        const bool outside = cancelled_outside, once = was_cancelled_outside;
        reach(*holder, parent, w.more);
        shielded = shield;
        cancelled_outside = outside;
        was_cancelled_outside = once;
    }
}

void cancel_fiber(fiber& f) noexcept {
    if (f.flags & fiber::ended) return;
    f.inside->of.check_thread("cancel() of the task spawned here", f.place);
    walk w(f.inside->of);
    ask(f, w.more);
}

void cancel_child_of(start_op& o) noexcept {
    asked_starts& asked = current->asked_to_end();
    if (!asked.walking) return cancel_fiber(*o.child());
    o.next_asked = std::exchange(asked.first, &o);
}

void renew_cancellation(scope& s) noexcept {
    if (s.cancelled || !s.cancelled_outside) return;  // its shield changes nothing
    const walk w(s.of);
    to_visit more;
    // From the outside in. `outside`: whether `f` is cancelled in `outermost`, as far as it is concerned.
    const auto renew = [&more](fiber& f, const scope* outermost, bool outside) {
        to_visit own;
        for (scope* at = f.inside; at != outermost; at = at->parent) own.push(*at);
        while (own.top != nullptr) {
            scope& at = own.pop();
            at.is_cancelled_outside(outside);
            outside = at.is_cut();
            more.push(at);
        }
        if (!outside) {
            if (!will_not_run(f)) cancelled_no_more(f);
        } else if (!(f.flags & fiber::cancel_pending)) {
            interrupt(f);
        }
    };
    renew(*s.holder, s.parent, true);
    while (more.top != nullptr) {
        scope& next = more.pop();
        next.fibers.for_each([&](fiber& f) { renew(f, &next, next.is_cut() || (f.flags & fiber::cancel_asked)); });
        if (next.is_cut()) end_waiting(next);
    }
}

// --- scopes of a task ----------------------------------------------------------------------------------

void scope::enter(fiber& f) noexcept {
    holder = &f;
    entered_by = f.leaf;
    parent = f.inside;
    cancelled_outside = was_cancelled_outside = (f.flags & fiber::cancel_pending) != 0;
    f.inside = this;
    if (cancelled) f.flags |= fiber::cancel_pending;
    if (shielded && !cancelled) f.flags &= static_cast<std::uint8_t>(~fiber::cancel_pending);
}

void scope::leave() noexcept {
    fiber& f = *std::exchange(holder, nullptr);
    RONDO_ASSERT(f.inside == this, "scopes are left in the reverse order");
    f.inside = parent;
    if (cancelled_outside) {
        f.flags |= fiber::cancel_pending;
    } else {
        cancelled_no_more(f);
    }
}

const op_vtable empty_awaiter::table = {[](op&) noexcept {}, &wake_owner, &describe};

empty_awaiter::empty_awaiter(scope& s) noexcept : op(table), scope_(s) {}

void empty_awaiter::describe(const op& o, char* text, std::size_t size) noexcept {
    const std::size_t count = static_cast<const empty_awaiter&>(o).scope_.count;
    std::snprintf(text, size, "%zu %s", count, count == 1 ? "task" : "tasks");
}

void scope::destroyed_with_tasks() const noexcept {
    constexpr std::size_t most = 8;
    char text[128 + most * sizeof(task_label)];
    std::size_t size = 0;
    const auto add = [&](const char* format, auto... values) {
        const int n = std::snprintf(text + size, sizeof text - size, format, values...);
        size = std::min(size + static_cast<std::size_t>(n), sizeof text - 1);
    };
    add(count == 1 ? "a scope was destroyed with %zu live task in it: " : "a scope was destroyed with %zu live tasks in it: ",
        count);
    std::size_t named = 0;
    fibers.for_each([&](const fiber& f) {
        if (named++ < most) add("%s%s", named == 1 ? "" : ", ", task_label(f).text);
    });
    if (named > most) add(" and %zu more", named - most);
    const fiber& first = fibers.front();
    assertion_failed(text, nullptr, first.leaf != nullptr ? first.leaf->site : first.place);
}

// --- handles -------------------------------------------------------------------------------------------

void set_name(fiber& f, std::string name) { extras_of(f).name = std::move(name); }

std::string_view name_of(const fiber& f) noexcept {
    return f.more != nullptr ? std::string_view(f.more->name) : std::string_view();
}

namespace {

// Nobody asked for the outcome of a task that failed. If the handle goes because another error is
// already on its way up, that one is the program's; this one is logged. Else it is unhandled.
[[gnu::noinline]] void unseen_error(fiber& f) noexcept {
    const std::exception_ptr error = f.vt->error(f);
    if (current != nullptr && std::uncaught_exceptions() == 0)
        return current->report_unhandled(error, f.place);
    static log_gate gate;
    write_log(gate, log_level::error, f.place, "%s failed, and nobody looked at it: %s", task_label(f).text,
              message_of(error).c_str());
}

}  // namespace

void release_unusual(fiber& f) noexcept {
    f.flags &= static_cast<std::uint8_t>(~fiber::held);
    if (!(f.flags & fiber::ended))
        return f.inside->of.check_thread("dropping the handle of the task spawned here", f.place);
    if (f.flags & fiber::kept) return;
    if ((f.flags & (fiber::has_error | fiber::taken)) == fiber::has_error) [[unlikely]]
        unseen_error(f);
    free_block(f);
}

bool is_cancellation(const std::exception_ptr& error) noexcept {
    return error && *error.__cxa_exception_type() == typeid(cancelled);
}

std::error_code failure_of(fiber& f) noexcept {
    if (f.flags & fiber::has_value) return {};
    if (f.flags & fiber::has_error) return code_of(f.vt->error(f));
    return errno_code(ECANCELED);
}

void throw_child_cancelled(const fiber& f) {
    throw io_error(errno_code(ECANCELED), "await task", std::to_string(f.id) + ", which was cancelled");
}

void rethrow_of(fiber& f) {
    const std::exception_ptr error = f.vt->error(f);
    const fiber* joiner = current != nullptr ? current->current_fiber() : nullptr;
    if (joiner != nullptr) note_joined(error, joiner->leaf);
    std::rethrow_exception(error);
}

const op_vtable join_op::table = {
    [](op& o) noexcept {
        static_cast<join_op&>(o).target.joiner = nullptr;
        current->complete(o, -ECANCELED);
    },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        std::snprintf(text, size, "%s", task_label(static_cast<const join_op&>(o).target).text);
    },
};

bool join_op::start() noexcept {
    if (target.flags & fiber::ended) {
        owner->waiting = nullptr;
        return false;
    }
    RONDO_ASSERT(target.joiner == nullptr, "two tasks await one task handle");
    RONDO_ASSERT(&target != owner, "a task awaits itself");
    if (debug_enabled) [[unlikely]]
        target.inside->of.assert_here("awaiting a task", owner->leaf->site);
    target.joiner = this;
    state = armed;
    return true;
}

}  // namespace rondo::detail

namespace rondo {

void name_task(std::string name) {
    detail::fiber* const self = this_loop().current_fiber();
    RONDO_ASSERT(self != nullptr, "name_task() is for tasks");
    detail::set_name(*self, std::move(name));
}

}  // namespace rondo
