// The turn, the drain, and the step: what runs when. Handles are in handle.cpp, posts from other
// threads in remote.cpp, reports in stats.cpp.
#include <rondo/loop/loop.hpp>

#include <rondo/loop/detail/extras.hpp>
#include <rondo/task/task.hpp>

#include "base/environment.hpp"
#include "base/fork.hpp"
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

namespace rondo {

namespace detail {
constinit thread_local loop* current = nullptr;

namespace {
std::atomic<std::uint32_t> next_serial{1};

/// What the error hook threw, when run() cannot throw it any more.
void log_lost(const std::exception_ptr& error, std::source_location place) noexcept {
    static log_gate gate;
    write_log(gate, log_level::error, place, "the error hook threw, and nobody can catch it: %s",
              message_of(error).c_str());
}

thread_local char thread_mark;  // its address names the thread
constinit thread_local loop* loops_here = nullptr;

// All loops of the process, so that a check can tell one of another thread from one that is gone.
constinit std::mutex every_loop_guard;
}
// Exported, and in no namespace without a name: lib/gdb/rondo-gdb.py begins here.
RONDO_API constinit loop* every_loop = nullptr;
}  // namespace detail

time_point loop_clock::now() noexcept {
    if (detail::current != nullptr) return detail::current->now();
    return time_point(std::chrono::steady_clock::now().time_since_epoch());
}

const char* name_of(phase p) noexcept {
    constexpr const char* names[] = {"none", "timers", "pending", "idle", "prepare", "poll", "check", "close"};
    return names[static_cast<std::size_t>(p)];
}

observer::~observer() = default;
void observer::on_phase(phase, time_point) noexcept {}
void observer::on_polled(std::size_t, time_point) noexcept {}
void observer::on_timers(time_point, time_point) noexcept {}
void observer::on_spawn(task_view) noexcept {}
void observer::on_ready(task_view) noexcept {}
void observer::on_step(step, task_view, std::source_location) noexcept {}
void observer::on_wait(task_view) noexcept {}
void observer::on_end(task_view, ending) noexcept {}
void observer::on_step_end() noexcept {}

// --- life ---------------------------------------------------------------------------------------

namespace {

/// What RONDO_BACKEND asks for.
struct asked_for {
    backend_kind kind = backend_kind::automatic;
    bool seeded = false;  // sim:SEED
    bool chaos = false;   // sim:SEED:chaos
    std::uint64_t seed = 0;
};

asked_for from_environment() {
    const char* name = std::getenv("RONDO_BACKEND");
    asked_for what;
    if (name == nullptr || *name == '\0' || std::strcmp(name, "auto") == 0) return what;
    for (const backend_kind kind : {backend_kind::epoll, backend_kind::uring, backend_kind::sim}) {
        what.kind = kind;
        if (std::strcmp(name, name_of(kind)) == 0) return what;
    }
    if (std::strncmp(name, "sim:", 4) == 0 && name[4] >= '0' && name[4] <= '9') {
        char* end = nullptr;
        errno = 0;
        what.seed = std::strtoull(name + 4, &end, 0);
        what.seeded = true;
        what.chaos = std::strcmp(end, ":chaos") == 0;
        if (errno == 0 && (what.chaos || *end == '\0')) return what;
    }
    throw io_error(errno_code(EINVAL), "RONDO_BACKEND must be auto, epoll, uring, sim, sim:SEED or sim:SEED:chaos, not",
                   name);
}

std::unique_ptr<backend> choose_backend(backend_kind kind, const backend_options& options, std::string& why) {
    if (const char* fault = fault_of(options)) throw io_error(errno_code(EINVAL), "backend_options:", fault);
    if (kind != backend_kind::automatic) {
        std::unique_ptr<backend> made = make_backend(kind, options, why);
        if (!made) throw io_error(errno_code(ENOTSUP), name_of(kind), "is not to be had: " + why);
        why = "asked for";
        return made;
    }
    if (std::unique_ptr<backend> ring = make_backend(backend_kind::uring, options, why)) {
        why = "the best this machine has";
        return ring;
    }
    std::string why_not_epoll;
    std::unique_ptr<backend> epoll = make_backend(backend_kind::epoll, options, why_not_epoll);
    if (!epoll) throw io_error(errno_code(EMFILE), "no backend:", why + "; " + why_not_epoll);
    static detail::log_gate gate(1);
    detail::write_log(gate, log_level::debug, {}, "epoll instead of io_uring: %s", why.c_str());
    return epoll;
}

// What the root scope does with a task that ended: nobody is there to see an error.
void root_child_ended(detail::scope& root, detail::fiber& f) noexcept {
    if ((f.flags & detail::fiber::has_error) && !(f.flags & detail::fiber::held))
        root.of.report_unhandled(f.vt->error(f), f.place);
}

}  // namespace

loop::loop(const loop_options& options)
    : options_(options),
      root_(*this, &root_child_ended, "loop"),
      thread_(&detail::thread_mark),
      thread_id_(::gettid()) {
    detail::hold_standard_error();
    backend_kind kind = options.kind;
    backend_options how = options.backend;
    std::unique_ptr<seeded_oracle> seeded;
    bool chaos = false;
    if (kind == backend_kind::automatic) {
        const asked_for asked = from_environment();
        kind = asked.kind;
        chaos = asked.chaos;
        if (asked.seeded && how.decisions == nullptr)
            how.decisions = (seeded = std::make_unique<seeded_oracle>(asked.seed)).get();
    }
    std::unique_ptr<backend> chosen = choose_backend(kind, how, why_backend_);
    any_order_ = chaos;
    set_observer(options_.watch);
    root_.hears_successes = false;
    checks_waits_ = options_.track_waits || detail::debug_enabled;
    if (chosen->kind() != backend_kind::sim || how.machine != nullptr) {
        options_.step_limit = no_limit;
    } else if (const char* text = detail::variable("RONDO_SIM_STEPS")) {
        options_.step_limit = detail::number_in("RONDO_SIM_STEPS", text);
    }
    put_off_.reserve(64);
    put_off_round_.reserve(64);
    auto in_a_child = std::make_unique<detail::left_behind>(std::move(chosen));
    backend_ = &in_a_child->parents();
    shared_ = new detail::remote_state(*backend_, options.post_limit);
    in_a_child_ = in_a_child.release();  // behind all that may throw: nobody would destroy it
    own_decisions_ = seeded.release();
    now_ = backend_->now();
    serial_ = detail::next_serial.fetch_add(1, std::memory_order_relaxed) & ~simulated_bit;
    if (backend_->kind() == backend_kind::sim) serial_ |= simulated_bit;
    next_on_thread_ = std::exchange(detail::loops_here, this);
    watch_forks();
    const std::lock_guard lock(detail::every_loop_guard);
    next_in_process_ = std::exchange(detail::every_loop, this);
}

loop::~loop() {
    if (left_behind_ && (running_ || thread_ != &detail::thread_mark)) {
        abandon();
        return;
    }
    RONDO_ASSERT(!running_, "a loop was destroyed while it runs");
    check_thread("~loop");
    if (!left_behind_) detail::log_leftovers(*this, "when its loop was destroyed");
    drain_root();
    shared_->close();
    loop* const outer = std::exchange(detail::current, this);  // callables may look at the time
    orphan_handles();
    for (auto* queue : {&ticks_, &microtasks_, &ready_at_fork_})
        while (!queue->empty()) {
            auto& c = static_cast<detail::callback&>(queue->pop());
            c.invoke(c, detail::callback::act::drop);
        }
    detail::current = outer;
    unlist();
    shared_->release();
    if (!left_behind_) detail::flush_log();
    delete in_a_child_;
    delete own_decisions_;
    if (detail::loops_here != nullptr) return;
    // The last one of this thread: what a burst has left need not stay for ever.
    if (detail::frames_here->chunks > detail::chunks_kept) detail::trim_frames(detail::chunks_kept);
    detail::trim_crossing(detail::crossing_chunks_kept);
}

void loop::unlist() noexcept {
    loop** at = &detail::loops_here;
    while (*at != nullptr && *at != this) at = &(*at)->next_on_thread_;
    if (*at != nullptr) *at = next_on_thread_;
    const std::lock_guard lock(detail::every_loop_guard);
    at = &detail::every_loop;
    while (*at != nullptr && *at != this) at = &(*at)->next_in_process_;
    if (*at != nullptr) *at = next_in_process_;
}

// --- in a forked child (forked.cpp has the rest) -----------------------------------------------------

void loop::watch_forks() noexcept {
    static const int registered = pthread_atfork([] { detail::every_loop_guard.lock(); },
                                                 [] { detail::every_loop_guard.unlock(); }, &loop::forked);
    static_cast<void>(registered);
}

// The child's first act. A loop of another thread may be in the middle of something, for ever: nobody finds it any
// more, and what belongs to it is as of a loop that is gone.
void loop::forked() noexcept {
    for (loop** at = &detail::every_loop; *at != nullptr;) {
        loop& l = **at;
        l.leave_behind(l.thread_ == &detail::thread_mark);
        if (l.thread_ == &detail::thread_mark) {
            at = &l.next_in_process_;
        } else {
            *at = l.next_in_process_;
        }
    }
    detail::every_loop_guard.unlock();
}

void loop::trim_all_here() noexcept {
    for (loop* l = detail::loops_here; l != nullptr; l = l->next_on_thread_) {
        l->timers_.shrink();
        for (auto* ops : {&l->put_off_, &l->put_off_round_})
            if (ops->empty()) std::vector<io_op*>().swap(*ops);
    }
}

loop* loop::living(std::uint32_t serial) noexcept {
    loop* l = detail::current;
    if (l != nullptr && l->serial_ == serial) [[likely]]
        return l;
    l = detail::loops_here;
    while (l != nullptr && l->serial_ != serial) l = l->next_on_thread_;
    if (l == nullptr && detail::debug_enabled) [[unlikely]] {  // on another thread? the caller's check will say so
        const std::lock_guard lock(detail::every_loop_guard);
        l = detail::every_loop;
        while (l != nullptr && l->serial_ != serial) l = l->next_in_process_;
    }
    return l;
}

class loop::running_scope {
 public:
    explicit running_scope(loop& l) : loop_(l) {
        if (l.running_) throw std::logic_error("rondo::loop: it is running already (run inside run)");
        l.check_thread("run");
        if (l.left_behind_ && !l.root_.cancelled) detail::used_in_child("run()");
        outer_ = std::exchange(detail::current, &l);
        l.running_ = true;
        l.stuck_ = false;
        if (!l.unwinding_) l.gave_up_ = false;
        l.refresh_now();
    }
    ~running_scope() {
        loop_.enter(phase::none);
        loop_.running_ = false;
        loop_.until_ = nullptr;
        loop_.limit_steps(no_limit);
        loop_.stopped_ = std::exchange(loop_.stopping_, false);
        detail::current = outer_;
    }
    /// After a turn: what the error hook threw leaves run() here, between turns.
    void rethrow() {
        if (loop_.escaped_) std::rethrow_exception(std::exchange(loop_.escaped_, nullptr));
    }
    /// The same, and a loop that goes on for ever ends here.
    void after_turn() {
        rethrow();
        if (loop_.steps_taken() > loop_.step_limit_) [[unlikely]]
            loop_.report_live_lock();
    }

 private:
    loop& loop_;
    loop* outer_;
};

void loop::run() {
    running_scope scope(*this);
    limit_run();
    drain();
    scope.after_turn();
    // Like libuv, it asks whether anything keeps it alive before those timers, not after: they may
    // leave only unreferenced callbacks, and these still get one turn.
    bool more = alive() && !stopping_;
    if (more) run_timers();
    scope.after_turn();
    while (more && !stopping_ && !stuck_) {
        turn(true);
        scope.after_turn();
        more = alive();
    }
}

bool loop::run_until(bool (*done)(void*), void* context) {
    running_scope scope(*this);
    until_ = done;
    until_context_ = context;
    drain();
    scope.after_turn();
    if (!done(context) && alive()) run_timers();
    scope.after_turn();
    while (!done(context) && !stopping_ && !stuck_ && alive()) {
        turn(true);
        scope.after_turn();
    }
    return done(context);
}

bool loop::run_once() {
    running_scope scope(*this);
    drain();
    turn(true);
    scope.rethrow();
    return alive();
}

bool loop::run_nowait() {
    running_scope scope(*this);
    drain();
    turn(false);
    if (embedded_) {
        backend_->flush();
        // The foreign loop sleeps in our stead: from here on a post must make poll_fd() readable.
        if (!shared_->sleep()) backend_->wake();
    }
    scope.rethrow();
    return alive();
}

void loop::step(bool first) {
    running_scope scope(*this);
    drain();
    scope.rethrow();
    if (!first) {
        turn(false);
    } else if (alive()) {
        run_timers();
    }
    scope.rethrow();
}

void loop::stop(std::source_location place) noexcept {
    check_thread("stop", place);
    stopping_ = true;
}

void loop::drain_root() noexcept {
    if (root_.count == 0 && armed_io_ == 0 && backend_->reaping() == 0) return;
    root_.cancel();
    unwinding_ = true;
    refresh_now();
    steps_when_asked_ = stats_.steps;
    bytes_when_asked_ = bytes_under_way();
    give_up_at_ = gave_up_ ? now_ : now_ + patience_at_the_end;  // once is enough, if nothing has run since
    const bool was_stopped = stopped_;
    bool again;
    do {
        again = false;
        if (drops_callbacks_) judged_from_ = 0;
        try {
            // What is being closed or cancelled is waited for, as its end is near; and what is shielded.
            const bool done = run_until([](void* self) {
                auto& l = *static_cast<loop*>(self);
                return l.root_.count == 0 && l.armed_io_ == 0 && l.backend_->reaping() == 0;
            }, this);
            again = !done && stopped_;  // a task that unwound has called stop(): the others still must
        } catch (...) {
            const std::exception_ptr thrown = std::current_exception();
            detail::log_lost(thrown, {});
            again = !running_ && (root_.count != 0 || armed_io_ != 0 || backend_->reaping() != 0);
        }
    } while (again);
    drops_callbacks_ = false;
    stopped_ = was_stopped;  // that of the program's own run
    unwinding_ = false;
    if (root_.count != 0 && !gave_up_) detail::log_stranded(*this);
    gave_up_ = root_.count != 0;
    root_.cancelled = false;  // the next run_on() begins anew
}

// The last tasks unwind. What waits behind a shield for another thread, or for a peer, may wait for ever: so
// somebody has to lose patience. As long as tasks get on, or timers will let them, nobody does.
time_point loop::end_of_patience() noexcept {
    if (root_.count == 0) return never;  // descriptors that close, which the kernel does
    if (stats_.steps != steps_when_asked_) {
        steps_when_asked_ = stats_.steps;
        give_up_at_ = now_ + patience_at_the_end;
    } else if (now_ >= give_up_at_) {
        const std::uint64_t moved = bytes_under_way();
        if (moved == bytes_when_asked_ && !has_ending_timer()) {
            stuck_ = true;
            return now_;
        }
        bytes_when_asked_ = moved;
        give_up_at_ = now_ + patience_at_the_end;
    }
    return backend_->kind() == backend_kind::sim ? never : give_up_at_;
}

// What the waits of tasks have moved so far: a long write gets on without a step of its task.
std::uint64_t loop::bytes_under_way() const noexcept {
    std::uint64_t sum = 0;
    for_each_task([&](const detail::fiber& f) {
        if (f.waiting != nullptr && f.waiting->vt->progress != nullptr) sum += f.waiting->vt->progress(*f.waiting);
    });
    return sum;
}

// A timer that will do something once. An interval goes on for ever, and says nothing.
bool loop::has_ending_timer() const noexcept {
    bool found = false;
    timers_.for_each([&](op& o, time_point) {
        found |= o.owner != nullptr ||
                 static_cast<const detail::handle_node&>(o).what != detail::handle_node::sort::interval;
    });
    return found;
}

// --- steps ----------------------------------------------------------------------------------------

// The trampoline: awaiting a task, and returning from one, only change `leaf`, so no chain of awaits,
// however long or deep, uses the stack. A wait leaves `leaf` alone and sets `waiting`. The root
// coroutine if that has ended, else null.
inline detail::promise_base* loop::advance(detail::fiber& f) noexcept {
    detail::promise_base* at = f.leaf;
    detail::promise_base* next = at;
    do {
        at = next;
        at->self().resume();
        next = f.leaf;
        if (next == at) {
            if (f.waiting != nullptr) [[likely]]
                return nullptr;
            detail::assertion_failed(
                "a task suspended on an awaitable that is not rondo's: nothing would resume it", nullptr,
                at->site);
        }
    } while (next != nullptr);
    return at;
}

inline void loop::resume(detail::fiber& f) noexcept {
    f.waiting = nullptr;
    current_fiber_ = &f;
    if (detail::promise_base* const root = advance(f)) end(f, root);
}

void loop::end(detail::fiber& f, detail::promise_base* root) noexcept {
    if (root != nullptr) f.vt->finish(f, *root);
    finish(f);
}

template <bool Watched>
inline void loop::step(detail::fiber& f) noexcept {
    if constexpr (Watched) {
        step_watched(f);
    } else {
        resume(f);
    }
}

template <bool Watched>
[[gnu::always_inline]] inline void loop::first_step(detail::fiber& f) noexcept {
    f.what = detail::ready_node::kind::wake_up;
    current_fiber_ = &f;
    if (f.flags & detail::fiber::cancel_pending) [[unlikely]] {
        f.vt->discard(f);
        return Watched ? end_watched(f, nullptr) : end(f, nullptr);
    }
    f.vt->start(f);
    if (f.leaf == nullptr) [[unlikely]]
        return Watched ? end_watched(f, nullptr) : end(f, nullptr);
    if constexpr (Watched) {
        step<true>(f);
    } else if (detail::promise_base* const root = advance(f)) {
        f.vt->finish(f, *root);
        finish(f);
    }
}

// A completion of a phase (the op's state is `done` already): the task it wakes runs as the phase's callback, then the queues drain.
inline void loop::deliver(op& o, std::int32_t result) noexcept {
    inline_left_ = inline_completions;
    if (o.vt->done == &detail::wake_owner && microtasks_.empty() && watch_ == nullptr) [[likely]] {
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
[[gnu::noinline]] void loop::deliver_otherwise(op& o, std::int32_t result) noexcept {
    const bool first = microtasks_.empty();
    complete(o, result);
    if (watch_ != nullptr) tell_ready();
    if (!first || microtasks_.empty() || microtasks_.front()->what != detail::ready_node::kind::wake_up) return;
    ++stats_.steps;
    if (watch_ != nullptr) [[unlikely]] {
        step_watched(static_cast<detail::fiber&>(take<true>(microtasks_, told_microtask_)));
    } else {
        resume(static_cast<detail::fiber&>(microtasks_.pop()));
    }
}

void loop::drain() noexcept {
    if (watch_ == nullptr) [[likely]] {
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
void loop::drain_queues() noexcept {
    using kind = detail::ready_node::kind;
    std::uint32_t budget = wakeups_per_drain;
    bool cut = false;
    inline_left_ = inline_completions;
    others_ = 0;
    if constexpr (Watched) tell_ready();  // what became ready since: by the phase, or from outside
    bool ends = false;
    do {
        while (!ticks_.empty() && !ends) ends = !run_other<Watched>(ticks_, told_tick_, observer::step::tick);
        while (!cut && !ends && !microtasks_.empty()) {
            if (microtasks_.front()->what >= kind::explicit_microtask) {
                ends = !run_other<Watched>(microtasks_, told_microtask_, observer::step::microtask);
            } else if (budget == 0) {
                cut = true;
            } else if (microtasks_.front()->what == kind::first_step) {
                do {
                    first_step<Watched>(static_cast<detail::fiber&>(take<Watched>(microtasks_, told_microtask_)));
                } while (--budget != 0 && !microtasks_.empty() &&
                         microtasks_.front()->what == kind::first_step);
            } else {
                do {
                    step<Watched>(static_cast<detail::fiber&>(take<Watched>(microtasks_, told_microtask_)));
                } while (--budget != 0 && !microtasks_.empty() &&
                         microtasks_.front()->what == kind::wake_up);
            }
        }
    } while (!ticks_.empty() && !ends);
    stats_.drains_cut += cut;
    stats_.steps += wakeups_per_drain - budget;
}

// Callbacks, and tasks that asked for a microtask or a tick: no budget, but a storm is reported. False: the
// drain ends here.
template <bool Watched>
[[gnu::noinline]] bool loop::run_other(detail::queue<detail::ready_node>& queue, detail::ready_node*& told,
                                         observer::step what) noexcept {
    if (++others_ >= judged_from_) [[unlikely]] {
        const verdict v = judge_next(queue, told);
        if (v != verdict::run_it) return v == verdict::skip_it;
    }
    detail::ready_node& node = take<Watched>(queue, told);
    if (node.what == detail::ready_node::kind::callback) {
        call(static_cast<detail::callback&>(node), what);
    } else {
        ++stats_.steps;
        node.what = detail::ready_node::kind::wake_up;
        step<Watched>(static_cast<detail::fiber&>(node));
    }
    return true;
}

// On `sim` a storm does not go on for ever: at the limit of steps everything stays where it is, and run() or
// the world sees it after the turn. Then the tasks have to unwind, and callbacks must not keep them from it.
loop::verdict loop::judge_next(detail::queue<detail::ready_node>& queue, detail::ready_node*& told) noexcept {
    if (others_ == storm_threshold) report_storm(*queue.front());
    if (drops_callbacks_) {
        if (queue.front()->what != detail::ready_node::kind::callback) return verdict::run_it;
        auto& c = static_cast<detail::callback&>(take<true>(queue, told));
        c.invoke(c, detail::callback::act::drop);
        return verdict::skip_it;
    }
    return steps_taken() > step_limit_ ? verdict::end_drain : verdict::run_it;
}

void loop::limit_steps(std::uint64_t more) noexcept {
    step_limit_ = more < no_limit - steps_taken() ? steps_taken() + more : no_limit;
    judged_from_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(more, storm_threshold));
}

/// Lets it go on a little, and counts.
void loop::report_live_lock() {
    const std::uint64_t taken = steps_taken();
    detail::step_counts counted;
    observer* const before = watch_;
    set_observer(&counted);
    limit_steps(detail::counted_steps);
    const auto goes_on = [&] {
        return steps_taken() <= step_limit_ && !stopping_ && !stuck_ && alive() && poll_deadline(true) != never;
    };
    for (int i = 0; i < detail::counted_turns && goes_on(); ++i) turn(true);
    set_observer(before);
    drops_callbacks_ = true;
    std::vector<detail::step_counts::one> all;
    counted.append_to(all, {});
    throw livelock_error("live-lock: " + std::to_string(taken) + " steps were taken by " + detail::written_time(now_) +
                         ", and there is no end" + detail::busiest_of(std::move(all)));
}

void loop::report_storm(const detail::ready_node& last) noexcept {
    ++stats_.storms;
    static detail::log_gate gate(1);
    if (last.what == detail::ready_node::kind::callback) {
        detail::write_log(gate, log_level::warning, static_cast<const detail::callback&>(last).place,
                          "%u ticks and microtasks ran without a look at timers and I/O; the latest is a callback",
                          static_cast<unsigned>(storm_threshold));
    } else {
        const auto& f = static_cast<const detail::fiber&>(last);
        detail::write_log(gate, log_level::warning, detail::shown_place(f),
                          "%u ticks and microtasks ran without a look at timers and I/O; the latest is %s",
                          static_cast<unsigned>(storm_threshold), detail::task_label(f).text);
    }
}

// The end of a task. Of most successes nobody needs to hear but who awaits the handle, if anyone.
inline void loop::keep_outcome(detail::fiber& f) noexcept {
    f.inside = nullptr;
    if (f.joiner != nullptr) complete(*std::exchange(f.joiner, nullptr), 0);
}

[[gnu::always_inline]] inline void loop::finish(detail::fiber& f) noexcept {
    using detail::fiber;
    detail::scope& home = *f.inside;
    f.unlink_for_good();
    --home.count;
    f.flags = static_cast<std::uint8_t>((f.flags & ~fiber::checked) | fiber::ended);
    constexpr std::uint8_t told = fiber::has_value | fiber::background | fiber::cancel_pending;
    if ((f.flags & told) == fiber::has_value && home.ends_plainly) [[likely]] {
        current_fiber_ = nullptr;
        (f.flags & fiber::held) ? keep_outcome(f) : detail::free_success(f);
    } else {
        tell_end(f, home);
        current_fiber_ = nullptr;
        (f.flags & (fiber::held | fiber::kept)) ? keep_outcome(f) : detail::free_block(f);
    }
    if (home.count == 0 && home.joiner != nullptr) complete(*std::exchange(home.joiner, nullptr), 0);
}

void loop::tell_end(detail::fiber& f, detail::scope& home) noexcept {
    if (f.told_cancelled != 0 && (f.flags & detail::fiber::has_value)) {
        static detail::log_gate gate;
        detail::write_log(gate, log_level::debug, f.place,
                          "ended as a success although it was cancelled and told so: it swallowed `cancelled`");
    }
    while (home.waiting_count != 0 && !home.is_full()) make_ready(home.next_in_turn());
    home.on_ended(home, f);
}

[[gnu::always_inline]] inline void loop::call(detail::callback& c, observer::step what) noexcept {
    ++stats_.callbacks;
    current_fiber_ = nullptr;
    const std::source_location place = c.place;
    if (watch_ != nullptr) [[unlikely]]
        watch_->on_step(what, task_view(), place);
    try {
        c.invoke(c, detail::callback::act::run);
    } catch (...) {
        report_unhandled(std::current_exception(), place);
    }
    if (watch_ != nullptr) [[unlikely]] {
        tell_ready();
        step_ended();
    }
}

void loop::call(detail::handle_node& node) noexcept {
    ++stats_.callbacks;
    current_fiber_ = nullptr;
    ++node.count;  // it may cancel itself
    if (watch_ != nullptr) [[unlikely]]
        watch_->on_step(observer::step::callback, task_view(), node.place);
    try {
        node.invoke(node, detail::handle_node::act::run);
    } catch (...) {
        report_unhandled(std::current_exception(), node.place);
    }
    if (watch_ != nullptr) [[unlikely]] {
        tell_ready();
        step_ended();
    }
    release(node);
}

// --- under an observer --------------------------------------------------------------------------------

void loop::set_observer(observer* watch) noexcept {
    static observer nobody;  // only a loop that is watched does something between two steps
    watch_ = watch == nullptr && any_order_ ? &nobody : watch;
    told_tick_ = told_microtask_ = nullptr;
}

// Who makes a task ready tells nobody: that would cost every wake-up a look at watch_. Instead the queues
// are looked at after each step, and what has come behind the last node that was seen is new.

void loop::tell_ready() noexcept {
    tell_ready(ticks_, told_tick_);
    tell_ready(microtasks_, told_microtask_);
}

void loop::tell_ready(const detail::queue<detail::ready_node>& queue, detail::ready_node*& told) noexcept {
    using kind = detail::ready_node::kind;
    for (detail::ready_node* at = told != nullptr ? told->next : queue.front(); at != nullptr; at = at->next) {
        told = at;
        if (at->what == kind::callback) continue;
        const task_view task(static_cast<const detail::fiber*>(at));
        at->what == kind::first_step ? watch_->on_spawn(task) : watch_->on_ready(task);
    }
}

template <bool Watched>
inline detail::ready_node& loop::take(detail::queue<detail::ready_node>& queue, detail::ready_node*& told) noexcept {
    detail::ready_node& node = queue.pop();
    if constexpr (Watched)
        if (told == &node) told = nullptr;
    return node;
}

void loop::step_watched(detail::fiber& f) noexcept {
    const task_view task(&f);
    watch_->on_step(observer::step::task, task, f.leaf != nullptr ? f.leaf->site : f.place);
    f.waiting = nullptr;
    current_fiber_ = &f;
    if (detail::promise_base* const root = advance(f)) {
        end_watched(f, root);
    } else {
        watch_->on_wait(task);
        tell_ready();
    }
    step_ended();
}

void loop::end_watched(detail::fiber& f, detail::promise_base* root) noexcept {
    using detail::fiber;
    using how = observer::ending;
    if (root != nullptr) f.vt->finish(f, *root);
    watch_->on_end(task_view(&f), f.flags & fiber::has_value ? how::value
                                  : f.flags & fiber::has_error ? how::error : how::cancelled);
    finish(f);
    tell_ready();
}

// In any order, one of the ready tasks at the front of the queue comes next. A callback holds its place.
void loop::step_ended() noexcept {
    watch_->on_step_end();
    if (!any_order_) return;
    constexpr std::uint32_t reach = 16;
    std::uint32_t ready = 0;
    for (const detail::ready_node* at = microtasks_.front(); at != nullptr && ready < reach; at = at->next) {
        if (at->what > detail::ready_node::kind::first_step) break;
        ++ready;
    }
    if (ready < 2) return;
    if (detail::ready_node* const last = microtasks_.bring_forward(backend_->choose(choice::ready_order, ready)))
        told_microtask_ = last;
}

// --- a turn -------------------------------------------------------------------------------------

void loop::turn(bool may_block) {
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

void loop::enter(phase p) noexcept {
    phase_ = p;
    current_fiber_ = nullptr;
    if (watch_ != nullptr) [[unlikely]]
        watch_->on_phase(p, now_);
}

// What the last turn put off, and what other threads posted.
void loop::run_pending() {
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
void loop::run_posts() noexcept {
    detail::remote_state& box = *shared_;
    const std::size_t waiting = box.collect();
    if (waiting == 0) return;
    if (waiting > stats_.posts_high_water) stats_.posts_high_water = waiting;
    const std::uint64_t enough = stats_.posts + stats_.steps + posts_per_turn;
    do {
        ++stats_.posts;
        call(static_cast<detail::callback&>(box.next()), observer::step::callback);
        if (!microtasks_.empty() || !ticks_.empty()) drain();
    } while (box.waiting() != 0 && stats_.posts + stats_.steps < enough && !left_behind_);
    if (left_behind_) [[unlikely]]
        return;
    box.tell_left_over();
    if (box.waiting() != 0) flooded_ = true;
}

// The posts of a flood have run. More will come: to let those who post have the processor first, if they share it,
// costs less than to sleep and be woken for each of the next ones.
void loop::let_posters_run() noexcept {
    if (shared_->has_posts()) return;
    flooded_ = false;
    if (kind() != backend_kind::sim) sched_yield();
}

void loop::run_watchers(detail::ring<detail::handle_node>& watchers, phase p) {
    enter(p);
    if (watchers.empty()) return;
    // Taken whole: those started meanwhile wait a turn. Each goes back before it runs.
    detail::ring<detail::handle_node> round;
    round.splice_back(watchers);
    while (!round.empty() && !left_behind_) {
        detail::handle_node& node = round.pop_front();
        watchers.push_back(node);
        call(node);
        drain();
    }
    watchers.splice_back(round);
}

void loop::run_poll(bool may_block) {
    if (left_behind_) [[unlikely]]
        return;
    enter(phase::poll);
    time_point until = poll_deadline(may_block);
    if (unwinding_) [[unlikely]]
        until = std::min(until, end_of_patience());
    if (until > now_) {
        if (detail::frames_here->chunks > detail::chunks_kept) [[unlikely]]
            detail::trim_frames_slowly(now_.time_since_epoch().count());
        if (flooded_) let_posters_run();
        const bool idle = shared_->sleep();
        if (idle) {
            turns_of_posts_ = 0;
        } else if (!posts_give_way()) {
            until = now_;  // look, but do not block
        }
        backend_->set_outside(idle ? shared_->handle_count() : 0, unwinding_ ? patience_at_the_end : duration::max());
    }
    if (!backend_->wait(until, batch_) && !shared_->has_posts()) stuck_ = true;
    shared_->awake();
    refresh_now();
    stats_.completions += batch_.size();
    if (watch_ != nullptr) [[unlikely]]
        watch_->on_polled(batch_.size(), now_);
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
bool loop::posts_give_way() noexcept {
    if (kind() != backend_kind::sim || ++turns_of_posts_ < turns_of_posts) return false;
    turns_of_posts_ = 0;
    return true;
}

time_point loop::poll_deadline(bool may_block) const noexcept {
    if (!may_block || stopping_ || work_queued() || !idle_.empty() || !alive()) return now_;
    if (until_ != nullptr && until_(until_context_)) return now_;  // in this turn, before poll
    return next_timer();
}

// Whether something is to be done without waiting for the outside.
bool loop::work_queued() const noexcept {
    return !microtasks_.empty() || !ticks_.empty() || !put_off_.empty() || closing_count_ != 0 ||
           immediate_count_ > unref_immediates_ || escaped_;
}

void loop::run_check() {
    run_watchers(check_, phase::check);
    if (immediates_.empty()) return;
    // The list is taken whole: an immediate made meanwhile waits a turn, and one that is cleared
    // meanwhile is simply not in it any more.
    detail::ring<detail::linked_op> round;
    round.splice_back(immediates_);
    while (!round.empty() && !left_behind_) {
        detail::linked_op& o = round.pop_front();
        --immediate_count_;
        if (o.owner != nullptr) {
            o.state = op::done;
            deliver(o, 0);
        } else {
            fire_once(static_cast<detail::handle_node&>(o));
            drain();
        }
    }
    immediates_.splice_back(round);
}

void loop::run_close() {
    enter(phase::close);
    if (closing_.empty()) return;
    detail::ring<detail::handle_node> round;
    round.splice_back(closing_);
    while (!round.empty() && !left_behind_) {
        detail::handle_node& node = round.pop_front();
        --closing_count_;
        fire_once(node);
        drain();
    }
    closing_.splice_back(round);
}

void loop::run_timers() {
    if (timers_.empty()) {
        phase_ = phase::timers;
        return;
    }
    refresh_now();
    enter(phase::timers);
    if (timers_.next() > now_) return;
    if (watch_ != nullptr) [[unlikely]]
        watch_->on_timers(timers_.next(), now_);
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
            fire_timer(static_cast<detail::handle_node&>(o));
            drain();
        }
        if (left_behind_) [[unlikely]]
            return;
    }
}

// An interval is armed anew from the time its callback started, after it ran; what it missed is
// skipped. The callback may have cancelled or re-armed it: then that holds.
void loop::fire_timer(detail::handle_node& node) noexcept {
    if (node.what != detail::handle_node::sort::interval) return fire_once(node);
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

void loop::fire_once(detail::handle_node& node) noexcept {
    deactivated(node);
    call(node);
}

// --- for the layers above ---------------------------------------------------------------------------

void loop::adopt_unusual(detail::fiber& f, detail::scope& home) {
    if (home.closed) detail::assertion_failed("spawn or start into a group that has ended", nullptr, f.place);
    if (current_fiber_ != nullptr && current_fiber_->more != nullptr) detail::inherit_extras(f, *current_fiber_);
    const bool limited = home.max_running != ~std::size_t{0};
    const bool waits = home.is_full();
    enroll(f, home);
    if (!home.linked()) scopes_.push_back(home);
    if (home.is_cut()) f.flags |= detail::fiber::cancel_pending;
    if (checks_waits_) f.flags |= detail::fiber::checked;
    home.open_wide = !home.cancelled && !limited && !checks_waits_;
    home.ends_plainly = !home.hears_successes && !limited;
    if (waits && !(f.flags & detail::fiber::cancel_pending))  // else it ends at once, without a step
        return home.wait_for_turn(f);
    make_ready(f);
}

// A task that never has to wait would run for ever: this completion goes round by the pending phase of
// the next turn, after everyone else's I/O.
bool loop::put_off(io_op& o) noexcept {
    try {
        put_off_.push_back(&o);
    } catch (const std::bad_alloc&) {
        o.owner->waiting = nullptr;
        return true;
    }
    ++stats_.put_off;
    ++armed_io_;
    o.state = op::done;
    return false;
}

bool loop::refuse_cancelled(detail::fiber& f) noexcept {
    if (inline_left_ > 0) {
        --inline_left_;
        return false;
    }
    RONDO_ASSERT(f.waits_refused < 0x7fff, "a cancelled task would not end: it swallows `cancelled` for ever");
    ++f.waits_refused;
    if (f.waits_refused == 100) {
        static detail::log_gate gate;
        detail::write_log(gate, log_level::warning, detail::shown_place(f),
                          "goes on waiting although it is cancelled: it swallows `cancelled`");
    }
    return true;
}

void loop::on_unhandled(error_hook hook, void* context) noexcept {
    check_thread("on_unhandled");
    hook_ = hook;
    hook_context_ = context;
}

void loop::report_unhandled(std::exception_ptr error, std::source_location place) noexcept {
    if (hook_ != nullptr) {
        try {
            hook_(std::move(error), place, hook_context_);
        } catch (...) {
            if (escaped_) {
                detail::log_lost(std::current_exception(), place);
            } else {
                escaped_ = std::current_exception();
            }
        }
        return;
    }
    detail::report_escaped(error);
    if (place.line() != 0) {
        detail::report text(detail::last_words);
        text.add("  nobody handles it; it left the task or callback that was made at ");
        text.add(place).add('\n');
    }
    std::abort();
}

void loop::assert_thread(const char* what, std::source_location place) const noexcept {
    if (thread_ == &detail::thread_mark || left_behind_) return;
    char message[160];
    std::snprintf(message, sizeof message,
                  "%s: a loop is for the thread that made it; that is thread %d, this is thread %d", what,
                  thread_id_, static_cast<int>(::gettid()));
    detail::assertion_failed(message, nullptr, place);
}

void loop::assert_here(const char* what, std::source_location place) const noexcept {
    assert_thread(what, place);
    if (detail::current == this) return;
    char message[128];
    std::snprintf(message, sizeof message, "%s: it belongs to another loop of this thread", what);
    detail::assertion_failed(message, nullptr, place);
}

}  // namespace rondo
