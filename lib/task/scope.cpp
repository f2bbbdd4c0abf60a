#include <rondo/task/scope.hpp>

#include <cstdio>

namespace rondo {

timeout_error::timeout_error() : std::system_error(std::make_error_code(std::errc::timed_out)) {}
timeout_error::~timeout_error() = default;

namespace detail {
void throw_timeout() { throw timeout_error(); }
}  // namespace detail

// The op of a deadline. Nobody waits for it, so it makes nobody ready: when it is due, it cancels.

namespace {
void describe_deadline(const op&, char* text, std::size_t size) noexcept {
    std::snprintf(text, size, "a deadline");
}
}  // namespace

const op_vtable cancel_scope::deadline_op::table = {[](op&) noexcept {}, &expire, &describe_deadline};

cancel_scope::deadline_op::deadline_op(cancel_scope& scope) noexcept
    : op(table), of(scope) {}

void cancel_scope::expire(op& o) noexcept {
    cancel_scope& self = static_cast<deadline_op&>(o).of;
    self.expired_ = !self.cancelled();
    self.cancel("its deadline has passed");
}

cancel_scope::cancel_scope(const scope_options& options) noexcept
    : scope(this_loop(), [](scope&, detail::fiber&) noexcept {}, "cancel scope"), timer_(*this) {
    scope::deadline = options.deadline;
    shielded = options.shielded;
}

cancel_scope::~cancel_scope() { RONDO_ASSERT(holder == nullptr, "a scope was destroyed while its body runs"); }

// What may throw comes first: then nothing has been entered.
void cancel_scope::begin(detail::fiber& f) {
    if (scope::deadline <= of.now()) {
        expire(timer_);
    } else if (scope::deadline != never) {
        timer_.owner = &f;
        of.add_timer(timer_, scope::deadline);
    }
    enter(f);
}

void cancel_scope::end() noexcept {
    disarm();
    leave();
}

bool cancel_scope::absorbs() const noexcept {
    // Left already: what is pending now comes from further out, and goes on; a shield has kept it out.
    return cancelled() && (shielded || !(of.current_fiber()->flags & detail::fiber::cancel_pending));
}

void cancel_scope::disarm() noexcept {
    if (!timer_.pending()) return;
    of.remove_timer(timer_);
    timer_.state = op::idle;
}

void cancel_scope::cancel(const char* reason) noexcept {
    if (cancelled()) return;
    scope::reason = reason;
    if (holder != nullptr) {
        scope::cancel();
    } else {
        scope::cancelled = true;  // the body is still being made
    }
}

void cancel_scope::set_deadline(time_point deadline) {
    scope::deadline = deadline;
    if (holder == nullptr || cancelled()) return;
    disarm();
    if (deadline <= of.now()) return expire(timer_);
    timer_.owner = holder;
    if (deadline != never) of.add_timer(timer_, deadline);
}

void cancel_scope::set_shielded(bool value) noexcept {
    if (shielded == value) return;
    shielded = value;
    if (holder != nullptr) detail::renew_cancellation(*this);
}

time_point current_deadline() noexcept {
    const detail::fiber* f = this_loop().current_fiber();
    RONDO_ASSERT(f != nullptr, "current_deadline() is for tasks");
    if (detail::is_cancelled(*f)) return time_point::min();
    time_point earliest = never;
    for (const detail::scope* s = f->inside; s != nullptr; s = s->parent) {
        if (s->deadline < earliest) earliest = s->deadline;
        if (s->shielded) break;
    }
    return earliest;
}

}  // namespace rondo
