#include "engine.hpp"

#include <rondo/loop/detail/unwinding.hpp>

#include <rondo/loop/detail/extras.hpp>

#include "base/environment.hpp"
#include "base/fork.hpp"
#include "clock_watch.hpp"
#include "left_behind.hpp"
#include "places.hpp"
#include "remote_state.hpp"
#include "base/report.hpp"
#include "step_counts.hpp"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>

#include <sched.h>
#include <unistd.h>

namespace rondo::detail {

namespace {
/// What the error hook threw, when run() cannot throw it any more.
void log_lost(const std::exception_ptr& error, std::source_location place) noexcept {
    static log_gate gate;
    write_log(gate, log_level::error, place, "the error hook threw, and nobody can catch it: %s",
              traced_message_of(error).c_str());
}

}  // namespace

// --- life ---------------------------------------------------------------------------------------

namespace {

std::unique_ptr<backend> make_backend_for(const loop_options& options, std::string& why) {
    if (options.factory == nullptr) return choose_backend(options.kind, options.backend, why);
    if (const char* fault = fault_of(options.backend)) throw io_error(errno_code(EINVAL), "backend_options:", fault);
    std::unique_ptr<backend> made = options.factory->make(options.backend, why);
    if (!made) throw io_error(errno_code(ENOTSUP), "the backend of the factory", "is not to be had: " + why);
    return made;
}

// What the root scope does with a task that ended: nobody is there to see an error.
void root_child_ended(scope& root, fiber& f) noexcept {
    if ((f.flags & fiber::has_error) && !(f.flags & fiber::held))
        root.its_loop.report_unhandled(f.vt->error(f), f.place);
}

}  // namespace

engine::engine(rondo::loop& l, const loop_options& options)
    : scheduler(l, &root_child_ended), options_(options), thread_(&thread_mark), thread_id_(::gettid()) {
    hold_standard_error();
    std::unique_ptr<backend> chosen = make_backend_for(options, why_backend_);
    any_order_ = options.kind == backend_kind::automatic && chosen->is_closed_world() && asks_for_any_order();
    set_observer(options_.observer);
    root_.hear_of_successes(false);
    tracks_waits_ = options_.track_waits;
    checks_waits_ = tracks_waits_ || debug_enabled;
    at_once_left_ = loop::waits_at_once;
    if (!chosen->is_closed_world()) {
        options_.step_limit = step_limit::none;
    } else if (options_.step_limit == step_limit::none) {
        // A world counts the steps of its hosts itself.
    } else if (const char* text = variable("RONDO_SIM_STEPS")) {
        options_.step_limit = number_in("RONDO_SIM_STEPS", text);
    }
    put_off_.reserve(64);
    put_off_round_.reserve(64);
    auto in_a_child = std::make_unique<class left_behind>(std::move(chosen));
    backend_ = &in_a_child->inside();
    shared_ = new remote_state(*backend_, options.post_limit);
    in_a_child_ = in_a_child.release();  // behind all that may throw: nobody would destroy it
    now_ = backend_->now();
    serial_ = registry::next_serial() & ~simulated_bit;
    if (backend_->is_closed_world()) serial_ |= simulated_bit;
    registry::enlist(*this);
}

engine::~engine() {
    if (left_behind_ && (running_ || !is_of_this_thread())) {
        abandon();
        return;
    }
    RONDO_ASSERT(!running_, "a loop was destroyed while it runs");
    check_thread("~loop");
    if (!left_behind_) log_leftovers(root_, "when its loop was destroyed");
    drain_root();
    clock_watch_.reset();
    shared_->close();
    scheduler* const outer = std::exchange(current, this);  // callables may look at the time
    orphan_handles();
    for (auto* queue : {&ticks_, &microtasks_, &ready_at_fork_})
        while (!queue->empty()) {
            auto& c = static_cast<callback&>(queue->pop());
            c.invoke(c, callback::act::drop);
        }
    current = outer;
    registry::unlist(*this);
    shared_->release();
    if (!left_behind_) flush_log();
    delete in_a_child_;
    if (!registry::is_last_here()) return;
    // What a burst has left need not stay for ever.
    if (frames_here->chunks > chunks_kept) trim_frames(chunks_kept);
    trim_crossing(crossing_chunks_kept);
}

clock_watch& engine::wall_clock() {
    if (clock_watch_ == nullptr) clock_watch_ = std::make_unique<clock_watch>(*this);
    return *clock_watch_;
}

void engine::trim() noexcept {
    timers_.shrink();
    for (auto* ops : {&put_off_, &put_off_round_})
        if (ops->empty()) std::vector<io_op*>().swap(*ops);
}

// --- driving -------------------------------------------------------------------------------------

class engine::running_scope {
 public:
    explicit running_scope(engine& l) : loop_(l) {
        if (l.running_) throw std::logic_error("rondo::loop: it is running already (run inside run)");
        l.check_thread("run");
        if (l.left_behind_ && !l.root_.cancelled()) used_in_child("run()");
        outer_ = std::exchange(current, &l);
        l.running_ = true;
        l.stuck_ = false;
        if (!l.unwinding_) l.gave_up_ = false;
        l.refresh_now();
    }
    ~running_scope() {
        loop_.enter(phase::none);
        loop_.running_ = false;
        loop_.until_ = nullptr;
        loop_.limit_.end_run();
        loop_.limit_steps(step_limit::none);
        loop_.stopped_ = std::exchange(loop_.stopping_, false);
        current = outer_;
    }

 private:
    engine& loop_;
    scheduler* outer_;
};

// What the error hook threw leaves run() here, between turns.
void engine::rethrow() {
    if (escaped_) std::rethrow_exception(std::exchange(escaped_, nullptr));
}

// First what is queued runs, then one act after the other, for as long as `next` names one. A run with a limit ends
// here, between two acts, when it goes on for ever.
template <class Next>
void engine::drive(Next next) {
    drain();
    for (;;) {
        rethrow();
        if (limit_.limits_run() && out_of_steps()) [[unlikely]]
            report_live_lock();
        switch (next()) {
            case act::nothing: return;
            case act::timers: run_timers(); break;
            case act::turn: turn(true); break;
            case act::look: turn(false); break;
        }
    }
}

void engine::run() {
    const running_scope running(*this);
    limit_run();
    // Like libuv, it asks whether anything keeps it alive before the first timers, not after: they may
    // leave only unreferenced callbacks, and these still get one turn.
    drive([this, asked = 0]() mutable {
        const bool more = ++asked == 2 || alive();
        if (!more || stopping_ || stuck_) return act::nothing;
        return asked == 1 ? act::timers : act::turn;
    });
}

bool engine::run_until(bool (*done)(void*), void* context) {
    const running_scope running(*this);
    until_ = done;
    until_context_ = context;
    drive([&, first = true]() mutable {
        if (done(context) || !alive()) return act::nothing;
        if (std::exchange(first, false)) return act::timers;
        return stopping_ || stuck_ ? act::nothing : act::turn;
    });
    return done(context);
}

void engine::step(bool first) {
    const running_scope running(*this);
    drive([&, over = false]() mutable {
        if (std::exchange(over, true) || (first && !alive())) return act::nothing;
        return first ? act::timers : act::look;
    });
}

bool engine::run_turn(bool may_block) {
    const running_scope running(*this);
    drain();
    turn(may_block);
    if (embedded_ && !may_block) {
        backend_->flush();
        // The foreign loop sleeps in our stead: from here on a post must make poll_fd() readable.
        if (!shared_->sleep()) backend_->wake();
    }
    rethrow();
    return alive();
}

void engine::stop(std::source_location place) noexcept {
    check_thread("stop", place);
    stopping_ = true;
}

void engine::drain_root() noexcept {
    if (root_.size() == 0 && armed_io_ == 0 && backend_->reaping() == 0) return;
    root_.cancel();
    unwinding_ = true;
    refresh_now();
    steps_when_asked_ = stats_.steps;
    bytes_when_asked_ = bytes_under_way();
    give_up_at_ = gave_up_ ? now_ : now_ + loop::patience_at_the_end;  // once is enough, if nothing has run since
    const bool was_stopped = stopped_;
    bool again;
    do {
        again = false;
        if (drops_callbacks_) judged_from_ = 0;
        try {
            // What is being closed or cancelled is waited for, as its end is near; and what is shielded.
            const bool done = run_until(
                [](void* self) {
                    auto& l = *static_cast<engine*>(self);
                    return l.root_.size() == 0 && l.armed_io_ == 0 && l.backend_->reaping() == 0;
                },
                this);
            again = !done && stopped_;  // a task that unwound has called stop(): the others still must
        } catch (...) {
            const std::exception_ptr thrown = std::current_exception();
            log_lost(thrown, {});
            again = !running_ && (root_.size() != 0 || armed_io_ != 0 || backend_->reaping() != 0);
        }
    } while (again);
    drops_callbacks_ = false;
    stopped_ = was_stopped;  // that of the program's own run
    unwinding_ = false;
    if (root_.size() != 0 && !gave_up_) log_stranded(root_);
    gave_up_ = root_.size() != 0;
    root_.cancelled_ = false;  // the next run_on() begins anew
}

// The last tasks unwind. What waits behind a shield for another thread, or for a peer, may wait for ever: so
// somebody has to lose patience. As long as tasks get on, or timers will let them, nobody does.
time_point engine::end_of_patience() noexcept {
    if (root_.size() == 0) return never;  // descriptors that close, which the kernel does
    if (stats_.steps != steps_when_asked_) {
        steps_when_asked_ = stats_.steps;
        give_up_at_ = now_ + loop::patience_at_the_end;
    } else if (now_ >= give_up_at_) {
        const std::uint64_t moved = bytes_under_way();
        if (moved == bytes_when_asked_ && !has_ending_timer()) {
            stuck_ = true;
            return now_;
        }
        bytes_when_asked_ = moved;
        give_up_at_ = now_ + loop::patience_at_the_end;
    }
    return backend_->is_closed_world() ? never : give_up_at_;
}

// What the waits of tasks have moved so far: a long write gets on without a step of its task.
std::uint64_t engine::bytes_under_way() const noexcept {
    std::uint64_t sum = 0;
    for_each_task([&](const fiber& f) {
        if (f.waiting != nullptr && f.waiting->vt->progress != nullptr) sum += f.waiting->vt->progress(*f.waiting);
    });
    return sum;
}

// A timer that will do something once. An interval goes on for ever, and says nothing.
bool engine::has_ending_timer() const noexcept {
    bool found = false;
    timers_.for_each([&](op& o, time_point) {
        found |= o.owner != nullptr || static_cast<const handle_node&>(o).what != handle_node::sort::interval;
    });
    return found;
}

// --- steps ----------------------------------------------------------------------------------------

// The trampoline: awaiting a task, and returning from one, only change `leaf`, so no chain of awaits,
// however long or deep, uses the stack. A wait leaves `leaf` alone and sets `waiting`. The root
// coroutine if that has ended, else null.
inline promise_base* engine::advance(fiber& f) noexcept {
    promise_base* at = f.leaf;
    promise_base* next = at;
    do {
        at = next;
        at->self().resume();
        next = f.leaf;
        if (next == at) {
            if (f.waiting != nullptr) [[likely]]
                return nullptr;
            assertion_failed("a task suspended on an awaitable that is not rondo's: nothing would resume it", nullptr,
                             at->site);
        }
    } while (next != nullptr);
    return at;
}

inline void engine::resume(fiber& f) noexcept {
    f.waiting = nullptr;
    current_fiber_ = &f;
    if (promise_base* const root = advance(f)) end(f, root);
}

void engine::end(fiber& f, promise_base* root) noexcept {
    if (root != nullptr) f.vt->finish(f, *root);
    finish(f);
}

template <bool Watched>
inline void engine::step(fiber& f) noexcept {
    if constexpr (Watched) {
        step_watched(f);
    } else {
        resume(f);
    }
}

template <bool Watched>
[[gnu::always_inline]] inline void engine::first_step(fiber& f) noexcept {
    f.what = ready_node::kind::wake_up;
    current_fiber_ = &f;
    if (f.flags & fiber::cancel_pending) [[unlikely]] {
        f.vt->discard(f);
        return Watched ? end_watched(f, nullptr) : end(f, nullptr);
    }
    f.vt->start(f);
    if (f.leaf == nullptr) [[unlikely]]
        return Watched ? end_watched(f, nullptr) : end(f, nullptr);
    if constexpr (Watched) {
        step<true>(f);
    } else if (promise_base* const root = advance(f)) {
        f.vt->finish(f, *root);
        finish(f);
    }
}

// A completion of a phase (the op's state is `done` already): the task it wakes runs as the phase's callback, then the
// queues drain.
inline void engine::deliver(op& o, std::int32_t result) noexcept {
    inline_left_ = loop::inline_completions;
    if (o.vt->done == &wake_owner && microtasks_.empty() && observer_ == nullptr) [[likely]] {
        ++stats_.steps;
        o.result = result;  // the short way of the lines below: queued, and taken at once
        resume(*o.owner);
    } else {
        deliver_otherwise(o, result);
    }
    if (!microtasks_.empty() || !ticks_.empty()) drain();
}

// An arm of select_one(), a wait that may go on, a deadline, an observer. Such a completion may queue nothing, one
// wake-up, or what else a cancel sets free: several tasks, and among them some that take their first step. Only
// a wake-up in front is the phase's own; the drain knows what to do with everything.
[[gnu::noinline]] void engine::deliver_otherwise(op& o, std::int32_t result) noexcept {
    const bool first = microtasks_.empty();
    complete(o, result);
    if (observer_ != nullptr) tell_ready();
    if (!first || microtasks_.empty() || microtasks_.front()->what != ready_node::kind::wake_up) return;
    ++stats_.steps;
    if (observer_ != nullptr) [[unlikely]] {
        step_watched(static_cast<fiber&>(take<true>(microtasks_, told_microtask_)));
    } else {
        resume(static_cast<fiber&>(microtasks_.pop()));
    }
}

void engine::drain() noexcept {
    if (observer_ == nullptr) [[likely]] {
        drain_queues<false>();
    } else {
        drain_queues<true>();
    }
}

// All ticks, then all microtasks, and again. Task wake-ups share the microtask queue and are
// bounded: when the budget is used up, the next wake-up and all behind it wait for the pending
// phase, so that two tasks that wake each other for ever do not hold off timers and I/O. Ticks
// never wait for a phase.
template <bool Watched>
void engine::drain_queues() noexcept {
    using kind = ready_node::kind;
    std::uint32_t budget = loop::wakeups_per_drain;
    bool cut = false;
    inline_left_ = loop::inline_completions;
    others_ = 0;
    if constexpr (Watched) tell_ready();  // what became ready since: by the phase, or from outside
    bool ends = false;
    do {
        while (!ticks_.empty() && !ends) ends = !run_other<Watched>(ticks_, told_tick_, step_kind::tick);
        while (!cut && !ends && !microtasks_.empty()) {
            if (microtasks_.front()->what >= kind::asked_for) {
                ends = !run_other<Watched>(microtasks_, told_microtask_, step_kind::microtask);
            } else if (budget == 0) {
                cut = true;
            } else if (microtasks_.front()->what == kind::first_step) {
                do {
                    first_step<Watched>(static_cast<fiber&>(take<Watched>(microtasks_, told_microtask_)));
                } while (--budget != 0 && !microtasks_.empty() && microtasks_.front()->what == kind::first_step);
            } else {
                do {
                    step<Watched>(static_cast<fiber&>(take<Watched>(microtasks_, told_microtask_)));
                } while (--budget != 0 && !microtasks_.empty() && microtasks_.front()->what == kind::wake_up);
            }
        }
    } while (!ticks_.empty() && !ends);
    stats_.drains_cut += cut;
    stats_.steps += loop::wakeups_per_drain - budget;
}

// Callbacks, and tasks that asked for a microtask or a tick: no budget, but a storm is reported. False: the
// drain ends here.
template <bool Watched>
[[gnu::noinline]] bool engine::run_other(queue<ready_node>& queue, ready_node*& told, step_kind what) noexcept {
    if (++others_ >= judged_from_) [[unlikely]] {
        const verdict v = judge_next(queue, told);
        if (v != verdict::run_it) return v == verdict::skip_it;
    }
    ready_node& node = take<Watched>(queue, told);
    if (node.what == ready_node::kind::callback) {
        call(static_cast<callback&>(node), what);
    } else {
        ++stats_.steps;
        node.what = ready_node::kind::wake_up;
        step<Watched>(static_cast<fiber&>(node));
    }
    return true;
}

// On `sim` a storm does not go on for ever: at the limit of steps everything stays where it is, and run() or
// the world sees it after the turn. Then the tasks have to unwind, and callbacks must not keep them from it.
engine::verdict engine::judge_next(queue<ready_node>& queue, ready_node*& told) noexcept {
    if (others_ == loop::storm_threshold) report_storm(*queue.front());
    if (drops_callbacks_) {
        if (queue.front()->what != ready_node::kind::callback) return verdict::run_it;
        auto& c = static_cast<callback&>(take<true>(queue, told));
        c.invoke(c, callback::act::drop);
        return verdict::skip_it;
    }
    return out_of_steps() ? verdict::end_drain : verdict::run_it;
}

bool engine::out_of_steps() noexcept {
    const bool reached = limit_.is_reached(steps_taken(), now_);
    judge_from_allowance();
    return reached;
}

void engine::limit_run() noexcept {
    drops_callbacks_ = false;
    limit_.begin_run(options_.step_limit, steps_taken(), now_);
    judge_from_allowance();
}

void engine::limit_steps(std::uint64_t more) noexcept {
    limit_.allow(more, steps_taken(), now_);
    judge_from_allowance();
}

void engine::judge_from_allowance() noexcept {
    judged_from_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(limit_.allowed(), loop::storm_threshold));
}

/// Lets it go on a little, and counts.
void engine::report_live_lock() {
    const std::uint64_t taken = steps_taken();
    step_counts counted;
    observer* const before = observer_;
    set_observer(&counted);
    limit_.end_run();
    limit_steps(counted_steps);
    const auto goes_on = [&] {
        return steps_taken() - taken <= counted_steps && !stopping_ && !stuck_ && alive() &&
               poll_deadline(true) != never;
    };
    for (int i = 0; i < counted_turns && goes_on(); ++i) turn(true);
    set_observer(before);
    drops_callbacks_ = true;
    std::vector<step_counts::one> all;
    counted.append_to(all, {});
    throw livelock_error("live-lock: " + std::to_string(taken) + " steps were taken by " + written_time(now_) +
                         ", and there is no end" + busiest_of(std::move(all)));
}

void engine::report_storm(const ready_node& last) noexcept {
    ++stats_.storms;
    static log_gate gate(1);
    if (last.what == ready_node::kind::callback) {
        write_log(gate, log_level::warning, static_cast<const callback&>(last).place,
                  "%u ticks and microtasks ran without a look at timers and I/O; the latest is a callback",
                  static_cast<unsigned>(loop::storm_threshold));
    } else {
        const auto& f = static_cast<const fiber&>(last);
        write_log(gate, log_level::warning, shown_place(f),
                  "%u ticks and microtasks ran without a look at timers and I/O; the latest is %s",
                  static_cast<unsigned>(loop::storm_threshold), task_label(f).text);
    }
}

// The end of a task. Of most successes nobody needs to hear but who awaits the handle, if anyone.
inline void engine::keep_outcome(fiber& f) noexcept {
    f.inside = nullptr;
    if (f.awaited_by != nullptr) complete(*std::exchange(f.awaited_by, nullptr), 0);
}

[[gnu::always_inline]] inline void engine::finish(fiber& f) noexcept {
    scope& home = *f.inside;
    f.unlink_for_good();
    --home.count_;
    f.flags |= fiber::ended;
    constexpr std::uint8_t told = fiber::has_value | fiber::background | fiber::cancel_pending;
    if ((f.flags & told) == fiber::has_value && home.ends_plainly_) [[likely]] {
        current_fiber_ = nullptr;
        (f.flags & fiber::held) ? keep_outcome(f) : free_success(f);
    } else {
        tell_end(f, home);
        current_fiber_ = nullptr;
        (f.flags & fiber::held) != 0 || f.kept ? keep_outcome(f) : free_block(f);
    }
    if (home.count_ == 0 && home.awaited_by_ != nullptr) complete(*std::exchange(home.awaited_by_, nullptr), 0);
}

void engine::tell_end(fiber& f, scope& home) noexcept {
    if (f.told_cancelled != 0 && (f.flags & fiber::has_value)) {
        static log_gate gate;
        write_log(gate, log_level::debug, f.place,
                  "ended as a success although it was cancelled and told so: it swallowed `cancelled`");
    }
    while (home.in_line_ != 0 && !home.is_full()) make_ready(home.next_in_turn());
    home.on_ended_(home, f);
}

[[gnu::always_inline]] inline void engine::call(callback& c, step_kind what) noexcept {
    ++stats_.callbacks;
    current_fiber_ = nullptr;
    const std::source_location place = c.place;
    if (observer_ != nullptr) [[unlikely]]
        tell_step(what, task_view(), place);
    try {
        c.invoke(c, callback::act::run);
    } catch (...) {
        report_unhandled(std::current_exception(), place);
    }
    if (observer_ != nullptr) [[unlikely]] {
        tell_ready();
        step_ended();
    }
}

void engine::call(handle_node& node) noexcept {
    ++stats_.callbacks;
    current_fiber_ = nullptr;
    ++node.count;  // it may cancel itself
    if (observer_ != nullptr) [[unlikely]]
        tell_step(step_kind::callback, task_view(), node.place);
    try {
        node.invoke(node, handle_node::act::run);
    } catch (...) {
        report_unhandled(std::current_exception(), node.place);
    }
    if (observer_ != nullptr) [[unlikely]] {
        tell_ready();
        step_ended();
    }
    release(node);
}

// --- under an observer --------------------------------------------------------------------------------

void engine::set_observer(observer* by) noexcept {
    // Only a loop that is watched does something between two steps, so any order takes an observer.
    static struct deaf_observer final : observer {
        void on(const loop_event&) noexcept override {}
    } nobody;
    observer_ = by == nullptr && any_order_ ? &nobody : by;
    told_tick_ = told_microtask_ = nullptr;
}

// Who makes a task ready tells nobody: that would cost every wake-up a look at observer_. Instead the queues
// are looked at after each step, and what has come behind the last node that was seen is new.

void engine::tell_ready() noexcept {
    tell_ready(ticks_, told_tick_);
    tell_ready(microtasks_, told_microtask_);
}

void engine::tell_ready(const queue<ready_node>& queue, ready_node*& told) noexcept {
    using kind = ready_node::kind;
    for (ready_node* at = told != nullptr ? told->next : queue.front(); at != nullptr; at = at->next) {
        told = at;
        if (at->what == kind::callback) continue;
        event_.task = task_view(static_cast<const fiber*>(at));
        tell(at->what == kind::first_step ? loop_event_kind::spawned : loop_event_kind::ready);
    }
}

template <bool Watched>
inline ready_node& engine::take(queue<ready_node>& queue, ready_node*& told) noexcept {
    ready_node& node = queue.pop();
    if constexpr (Watched)
        if (told == &node) told = nullptr;
    return node;
}

void engine::step_watched(fiber& f) noexcept {
    tell_step(step_kind::task, task_view(&f), f.leaf != nullptr ? f.leaf->site : f.place);
    f.waiting = nullptr;
    current_fiber_ = &f;
    if (promise_base* const root = advance(f)) {
        end_watched(f, root);
    } else {
        event_.task = task_view(&f);
        tell(loop_event_kind::waits);
        tell_ready();
    }
    step_ended();
}

void engine::end_watched(fiber& f, promise_base* root) noexcept {
    if (root != nullptr) f.vt->finish(f, *root);
    event_.ending = (f.flags & fiber::has_value)   ? task_ending::value
                    : (f.flags & fiber::has_error) ? task_ending::error
                                                   : task_ending::cancelled;
    event_.task = task_view(&f);
    tell(loop_event_kind::ended);
    finish(f);
    tell_ready();
}

// In any order, one of the ready tasks at the front of the queue comes next. A callback holds its place.
void engine::step_ended() noexcept {
    tell(loop_event_kind::step_end);
    if (!any_order_) return;
    constexpr std::uint32_t reach = 16;
    std::uint32_t ready = 0;
    for (const ready_node* at = microtasks_.front(); at != nullptr && ready < reach; at = at->next) {
        if (at->what > ready_node::kind::first_step) break;
        ++ready;
    }
    if (ready < 2) return;
    if (ready_node* const last = microtasks_.bring_forward(backend_->choose(choice::ready_order, ready)))
        told_microtask_ = last;
}

// --- a turn -------------------------------------------------------------------------------------

void engine::turn(bool may_block) {
    ++stats_.turns;
    if (left_behind_) [[unlikely]]
        return turn_in_child();
    run_pending();
    run_watchers(idle_, phase::idle);
    run_watchers(prepare_, phase::prepare);
    run_poll(may_block);
    run_check();
    run_close();
    run_timers();
}

void engine::enter(phase p) noexcept {
    phase_ = p;
    current_fiber_ = nullptr;
    if (observer_ != nullptr) [[unlikely]] {
        event_.phase = p;
        event_.when = now_;
        tell(loop_event_kind::phase);
    }
}

// What the last turn put off, and what other threads posted.
void engine::run_pending() {
    enter(phase::pending);
    if (!microtasks_.empty() || !ticks_.empty()) drain();
    put_off_round_.swap(put_off_);  // what is put off meanwhile waits for the next turn
    for (io_op* o : put_off_round_) {
        --armed_io_;
        if (left_behind_) [[unlikely]] {
            complete(*o, o->result);
        } else {
            deliver(*o, o->result);
        }
    }
    put_off_round_.clear();
    if (left_behind_) [[unlikely]]
        return;
    run_posts();
}

// A thread can post faster than the loop runs what it posts, so there is a budget, from which the steps of the tasks
// that they wake are taken too. What is left over keeps its place, and lets poll look but not block.
void engine::run_posts() noexcept {
    remote_state& box = *shared_;
    const std::size_t waiting = box.collect();
    if (waiting == 0) return;
    if (waiting > stats_.posts_high_water) stats_.posts_high_water = waiting;
    const std::uint64_t enough = stats_.posts + stats_.steps + loop::posts_per_turn;
    do {
        ++stats_.posts;
        call(static_cast<callback&>(box.next()), step_kind::callback);
        if (!microtasks_.empty() || !ticks_.empty()) drain();
    } while (box.waiting() != 0 && stats_.posts + stats_.steps < enough && !left_behind_);
    if (left_behind_) [[unlikely]]
        return;
    box.tell_left_over();
    if (box.waiting() != 0) flooded_ = true;
}

// The posts of a flood have run. More will come: to let those who post have the processor first, if they share it,
// costs less than to sleep and be woken for each of the next ones.
void engine::let_posters_run() noexcept {
    if (shared_->has_posts()) return;
    flooded_ = false;
    if (kind() != backend_kind::sim) sched_yield();
}

void engine::run_watchers(ring<handle_node>& watchers, phase p) {
    enter(p);
    if (watchers.empty()) return;
    // Taken whole: those started meanwhile wait a turn. Each goes back before it runs.
    ring<handle_node> round;
    round.splice_back(watchers);
    while (!round.empty() && !left_behind_) {
        handle_node& node = round.pop_front();
        watchers.push_back(node);
        call(node);
        drain();
    }
    watchers.splice_back(round);
}

void engine::run_poll(bool may_block) {
    if (left_behind_) [[unlikely]]
        return;
    enter(phase::poll);
    time_point until = poll_deadline(may_block);
    if (unwinding_) [[unlikely]]
        until = std::min(until, end_of_patience());
    if (until > now_) {
        if (frames_here->chunks > chunks_kept) [[unlikely]]
            trim_frames_slowly(now_.time_since_epoch().count());
        if (flooded_) let_posters_run();
        const bool idle = shared_->sleep();
        if (idle) {
            turns_of_posts_ = 0;
        } else if (!posts_give_way()) {
            until = now_;  // look, but do not block
        }
        backend_->expect_wakes(idle ? shared_->handle_count() : 0,
                               unwinding_ ? loop::patience_at_the_end : duration::max());
    }
    if (!backend_->wait(until, batch_) && !shared_->has_posts()) stuck_ = true;
    shared_->awake();
    refresh_now();
    stats_.completions += batch_.size();
    if (observer_ != nullptr) [[unlikely]] {
        event_.count = static_cast<std::uint32_t>(batch_.size());
        event_.when = now_;
        tell(loop_event_kind::polled);
    }
    for (const completion& c : batch_) {
        --armed_io_;
        if (left_behind_) [[unlikely]] {
            complete(*c.what, c.result);
        } else {
            deliver(*c.what, c.result);
        }
    }
    batch_.clear();
}

// Time on `sim` passes only in a poll that may block: posts that keep coming would let it stand for ever.
bool engine::posts_give_way() noexcept {
    if (kind() != backend_kind::sim || ++turns_of_posts_ < loop::turns_of_posts) return false;
    turns_of_posts_ = 0;
    return true;
}

time_point engine::poll_deadline(bool may_block) const noexcept {
    if (!may_block || stopping_ || work_queued() || !idle_.empty() || !alive()) return now_;
    if (until_ != nullptr && until_(until_context_)) return now_;  // in this turn, before poll
    return next_timer();
}

// Whether something is to be done without waiting for the outside.
bool engine::work_queued() const noexcept {
    return !microtasks_.empty() || !ticks_.empty() || !put_off_.empty() || closing_count_ != 0 ||
           immediate_count_ > unref_immediates_ || escaped_;
}

void engine::run_check() {
    run_watchers(check_, phase::check);
    if (immediates_.empty()) return;
    // The list is taken whole: an immediate made meanwhile waits a turn, and one that is cleared
    // meanwhile is simply not in it any more.
    ring<linked_op> round;
    round.splice_back(immediates_);
    while (!round.empty() && !left_behind_) {
        linked_op& o = round.pop_front();
        --immediate_count_;
        if (o.owner != nullptr) {
            o.state = op::done;
            deliver(o, 0);
        } else {
            fire_once(static_cast<handle_node&>(o));
            drain();
        }
    }
    immediates_.splice_back(round);
}

void engine::run_close() {
    enter(phase::close);
    if (closing_.empty()) return;
    ring<handle_node> round;
    round.splice_back(closing_);
    while (!round.empty() && !left_behind_) {
        handle_node& node = round.pop_front();
        --closing_count_;
        fire_once(node);
        drain();
    }
    closing_.splice_back(round);
}

void engine::run_timers() {
    if (timers_.empty()) {
        phase_ = phase::timers;
        return;
    }
    refresh_now();
    enter(phase::timers);
    if (timers_.next() > now_) return;
    if (observer_ != nullptr) [[unlikely]] {
        event_.when = now_;
        event_.due = timers_.next();
        tell(loop_event_kind::timers_due);
    }
    // Due timers are collected first, so one that is made in this phase waits for the next.
    if (left_behind_) [[unlikely]]
        return;
    timers_.collect(now_);
    for (auto slot = timers_.take_due(); slot != timers_.none; slot = timers_.take_due()) {
        ++stats_.timers_fired;
        op& o = timers_.owner(slot);
        if (o.owner != nullptr) {
            timers_.release(slot);
            o.state = op::done;
            deliver(o, 0);
        } else {
            fire_timer(static_cast<handle_node&>(o));
            drain();
        }
        if (left_behind_) [[unlikely]]
            return;
    }
}

// An interval is armed anew from the time its callback started, after it ran; what it missed is
// skipped. The callback may have cancelled or re-armed it: then that holds.
void engine::fire_timer(handle_node& node) noexcept {
    if (node.what != handle_node::sort::interval) return fire_once(node);
    const time_point started = now_;
    ++node.count;  // it may be cancelled while it runs
    timers_.hold(node.slot);
    call(node);
    if (timers_.is_held(node.slot)) {
        timers_.disarm(node.slot);
        timers_.arm(node.slot, delay(timers_.period(node.slot)).after(started));
    }
    release(node);
}

void engine::fire_once(handle_node& node) noexcept {
    deactivated(node);
    call(node);
}

void engine::on_unhandled(hook<loop::error_hook> to) noexcept {
    check_thread("on_unhandled");
    error_hook_ = std::move(to);
}

void engine::report_unhandled(std::exception_ptr error, std::source_location place) noexcept {
    if (const auto to = error_hook_; to.call != nullptr) {
        try {
            to.call(std::move(error), place, to.context);
        } catch (...) {
            if (escaped_) {
                log_lost(std::current_exception(), place);
            } else {
                escaped_ = std::current_exception();
            }
        }
        return;
    }
    report_escaped(error);
    if (place.line() != 0) {
        report text(last_words);
        text.add("  nobody handles it; it left the task or callback that was made at ");
        text.add(place).add('\n');
    }
    std::abort();
}

}  // namespace rondo::detail
