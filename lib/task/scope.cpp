#include <rondo/task/scope.hpp>

#include <cstdio>
#include <cstring>

namespace rondo {

namespace {

enum { limit_passed = 1 };

class limits final : public std::error_category {
 public:
    const char* name() const noexcept override { return "limit"; }
    std::string message(int) const override { return "the time limit has passed"; }
    bool equivalent(int, const std::error_condition& condition) const noexcept override {
        return condition == std::errc::timed_out;
    }
};

std::error_code timeout_code() noexcept { return {limit_passed, limit_category()}; }

/// The last part of a path.
const char* file_of(const std::source_location& place) noexcept {
    const char* const slash = std::strrchr(place.file_name(), '/');
    return slash != nullptr ? slash + 1 : place.file_name();
}

}  // namespace

const std::error_category& limit_category() noexcept {
    static const limits category;
    return category;
}

timeout_error::timeout_error(const time_limit& passed) : std::system_error(timeout_code()), limit_(passed) {
    char length[32] = "";
    if (passed.length != duration::max())
        std::snprintf(length, sizeof length, " after %g s", std::chrono::duration<double>(passed.length).count());
    if (passed.place.line() != 0) {
        std::snprintf(text_, sizeof text_, "timed out%s (%s at %s:%u)", length, passed.kind, file_of(passed.place),
                      static_cast<unsigned>(passed.place.line()));
    } else {
        std::snprintf(text_, sizeof text_, "timed out%s (%s)", length, passed.kind);
    }
}
timeout_error::~timeout_error() = default;

namespace detail {
void throw_timeout(const time_limit& passed) { throw timeout_error(passed); }
failure timeout_failure(const time_limit& passed) noexcept {
    try {
        return {timeout_code(), std::make_exception_ptr(timeout_error(passed))};
    } catch (const std::bad_alloc&) {
        return timeout_code();
    }
}
}  // namespace detail

// The op of a deadline. Nobody waits for it, so it makes nobody ready: when it is due, it cancels.

namespace {
void describe_deadline(const op&, char* text, std::size_t size) noexcept { std::snprintf(text, size, "a deadline"); }
}  // namespace

const op_vtable cancel_scope::deadline_op::table = {[](op&) noexcept {}, &expire, &describe_deadline};

cancel_scope::deadline_op::deadline_op(cancel_scope& scope) noexcept : op(table), of(scope) {}

void cancel_scope::expire(op& o) noexcept {
    cancel_scope& self = static_cast<deadline_op&>(o).of;
    self.expired_ = !self.cancelled();
    self.cancel("its deadline has passed");
}

cancel_scope::cancel_scope(const scope_options& options) noexcept
    : scope(detail::running(), [](scope&, detail::fiber&) noexcept {}, "cancel scope"), timer_(*this) {
    scope::set_deadline(options.deadline);
    shield(options.shielded);
}

cancel_scope::~cancel_scope() { RONDO_ASSERT(holder() == nullptr, "a scope was destroyed while its body runs"); }

// What may throw comes first: then nothing has been entered.
void cancel_scope::begin(detail::fiber& f) {
    if (deadline() <= its_loop.now()) {
        expire(timer_);
    } else if (deadline() != never) {
        timer_.owner = &f;
        its_loop.add_timer(timer_, deadline());
    }
    enter(f);
}

void cancel_scope::end() noexcept {
    disarm();
    leave();
}

bool cancel_scope::absorbs() const noexcept {
    // Left already: what is pending now comes from further out, and goes on; a shield has kept it out.
    return cancelled() && (is_shielded() || !(its_loop.current_fiber()->flags & detail::fiber::cancel_pending));
}

void cancel_scope::disarm() noexcept {
    if (!timer_.pending()) return;
    its_loop.remove_timer(timer_);
    timer_.state = op::idle;
}

void cancel_scope::cancel(const char* reason) noexcept {
    if (cancelled()) return;
    set_reason(reason);
    if (holder() != nullptr) {
        scope::cancel();
    } else {
        begin_cancelled();  // the body is still being made
    }
}

void cancel_scope::set_deadline(time_point deadline) {
    scope::set_deadline(deadline);
    if (holder() == nullptr || cancelled()) return;
    disarm();
    if (deadline <= its_loop.now()) return expire(timer_);
    timer_.owner = holder();
    if (deadline != never) its_loop.add_timer(timer_, deadline);
}

void cancel_scope::set_shielded(bool value) noexcept {
    if (is_shielded() == value) return;
    shield(value);
    if (holder() != nullptr) detail::renew_cancellation(*this);
}

time_point current_deadline() noexcept {
    const detail::fiber* f = detail::running().current_fiber();
    RONDO_ASSERT(f != nullptr, "current_deadline() is for tasks");
    if (detail::is_cancelled(*f)) return time_point::min();
    time_point earliest = never;
    for (const detail::scope* s = f->inside; s != nullptr; s = s->parent()) {
        if (s->deadline() < earliest) earliest = s->deadline();
        if (s->is_shielded()) break;
    }
    return earliest;
}

}  // namespace rondo
