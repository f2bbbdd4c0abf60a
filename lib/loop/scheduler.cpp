#include <rondo/loop/detail/scheduler.hpp>

#include <rondo/loop/detail/extras.hpp>

#include "base/who_runs.hpp"
#include "engine.hpp"
#include "places.hpp"

#include <cstdio>
#include <new>

#include <unistd.h>

namespace rondo {

time_point loop_clock::now() noexcept {
    if (detail::current != nullptr) return detail::current->now();
    return time_point(std::chrono::steady_clock::now().time_since_epoch());
}

namespace detail {

constinit thread_local scheduler* current = nullptr;

namespace {

const fiber* running_task() noexcept { return current != nullptr ? current->current_fiber() : nullptr; }

constexpr who_runs who_runs_here = {
    []() noexcept {
        const fiber* const f = running_task();
        return f != nullptr ? f->id : 0;
    },
    [](report& to) noexcept {
        const fiber* const f = running_task();
        if (f == nullptr) return;
        to.add("  in ").add(task_label(*f).text);
        if (f->place.line() != 0) to.add(", spawned at ").add(f->place);
        if (f->leaf != nullptr) to.add(", last await at ").add(f->leaf->site);
        to.add('\n');
    },
};

}  // namespace

scheduler::scheduler(rondo::loop& l, scope::ended_hook root_child_ended) noexcept
    : root_(*this, root_child_ended, "loop"), loop_(l) {
    asked_who_runs.store(&who_runs_here, std::memory_order_release);
}
void wake_owner(op& o) noexcept { current->make_ready(*o.owner); }

scheduler& scheduler::of(rondo::loop& l) noexcept { return l.scheduler_; }
const scheduler& scheduler::of(const rondo::loop& l) noexcept { return l.scheduler_; }

// --- who runs, and what is ready

bool scheduler::queue_behind_others(fiber& f) noexcept {
    at_once_left_ = loop::waits_at_once;
    f.waiting = &in_queue;
    make_ready(f);
    return true;
}

bool scheduler::refuse_cancelled(fiber& f) noexcept {
    if (inline_left_ > 0) {
        --inline_left_;
        return false;
    }
    RONDO_ASSERT(f.waits_refused < fiber::most_waits_refused,
                 "a cancelled task would not end: it swallows `cancelled` for ever");
    ++f.waits_refused;
    if (f.waits_refused == 100) {
        static log_gate gate;
        write_log(gate, log_level::warning, shown_place(f),
                  "goes on waiting although it is cancelled: it swallows `cancelled`");
    }
    return true;
}

// --- tasks

void scheduler::adopt_unusual(fiber& f, scope& home) {
    if (home.closed_) assertion_failed("spawn or start into a group that has ended", nullptr, f.place);
    if (current_fiber_ != nullptr && current_fiber_->more != nullptr) inherit_extras(f, *current_fiber_);
    const bool limited = home.max_running_ != scope::no_limit;
    const bool waits = home.is_full();
    const bool checks_waits = engine::of(*this).checks_waits_;
    enroll(f, home);
    if (!home.linked()) scopes_.push_back(home);
    if (home.is_cut()) f.flags |= fiber::cancel_pending;
    if (checks_waits) f.flags |= fiber::checked;
    home.open_wide_ = !home.cancelled_ && !limited && !checks_waits;
    home.ends_plainly_ = !home.hears_successes_ && !limited;
    if (waits && !(f.flags & fiber::cancel_pending))  // else it ends at once, without a step
        return home.wait_for_turn(f);
    make_ready(f);
}

void scheduler::report_unhandled(std::exception_ptr error, std::source_location place) noexcept {
    engine::of(*this).report_unhandled(std::move(error), place);
}

void scheduler::add_dead_letter(const dead_letter& letter) noexcept {
    engine& self = engine::of(*this);
    ++self.stats_.dead_letters;
    if (const auto to = self.dead_letter_hook_; to.call != nullptr) to.call(letter, to.context);
}

// --- time

void scheduler::add_timer(op& o, time_point deadline) { engine::of(*this).timers_.add(o, deadline); }
void scheduler::move_timer(op& o, time_point deadline) noexcept { engine::of(*this).timers_.move(o, deadline); }
void scheduler::remove_timer(op& o) noexcept { engine::of(*this).timers_.remove(o); }

void scheduler::add_immediate(linked_op& o) noexcept {
    engine& self = engine::of(*this);
    o.state = op::armed;
    self.immediates_.push_back(o);
    ++self.immediate_count_;
}

void scheduler::remove_immediate(linked_op& o) noexcept {
    o.unlink();
    --engine::of(*this).immediate_count_;
}

// --- the world outside

// A task that never has to wait would run for ever: this completion goes round by the pending phase of
// the next turn, after everyone else's I/O.
bool scheduler::put_off(io_op& o) noexcept {
    try {
        engine::of(*this).put_off_.push_back(&o);
    } catch (const std::bad_alloc&) {
        o.owner->waiting = nullptr;
        return true;
    }
    ++engine::of(*this).stats_.put_off;
    ++armed_io_;
    o.state = op::done;
    return false;
}

// --- which loop it is

scheduler* scheduler::living(std::uint32_t serial) noexcept {
    scheduler* const running = current;
    return running != nullptr && running->serial() == serial ? running : registry::find(serial);
}

void scheduler::assert_thread(const char* what, std::source_location place) const noexcept {
    const engine& self = engine::of(*this);
    if (self.is_of_this_thread() || left_behind_) return;
    char message[160];
    std::snprintf(message, sizeof message,
                  "%s: a loop is for the thread that made it; that is thread %d, this is thread %d", what,
                  self.thread_id_, static_cast<int>(::gettid()));
    assertion_failed(message, nullptr, place);
}

void scheduler::assert_here(const char* what, std::source_location place) const noexcept {
    assert_thread(what, place);
    if (current == this) return;
    char message[128];
    std::snprintf(message, sizeof message, "%s: it belongs to another loop of this thread", what);
    assertion_failed(message, nullptr, place);
}

}  // namespace detail
}  // namespace rondo
