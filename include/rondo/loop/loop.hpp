// The event loop: one thread, phases in libuv's order, microtasks after every callback.
//
//      timers (once, before the first turn)
//   +> pending -> idle -> prepare -> poll -> check -> close -> timers -> alive? -+
//   +----------------------------------------------------------------------------+
//
// After every callback, and every task a phase resumes: the whole tick queue, then the whole
// microtask queue, again while either is not empty. Rules and limits: docs/order.md.
//
// All members are for the thread that runs the loop, unless they say otherwise.
#pragma once

#include <rondo/loop/backend.hpp>
#include <rondo/loop/detail/callback.hpp>
#include <rondo/loop/detail/heap.hpp>
#include <rondo/base/detail/move_back.hpp>
#include <rondo/loop/detail/scope.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/base/log.hpp>

#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace rondo {

namespace detail {
struct remote_state;
class thread_channel_core;
class thread_channel_state;
class left_behind;
}  // namespace detail

enum class phase : std::uint8_t { none, timers, pending, idle, prepare, poll, check, close };

/// "timers", "pending", ...
[[nodiscard]] RONDO_API const char* name_of(phase p) noexcept;

/// A handle of a callback. Copies stand for the same callback; dropping a handle cancels nothing.
/// Harmless, and without effect, once the callback is over or the loop is gone.
class RONDO_API handle {
 public:
    handle() noexcept = default;
    handle(const handle& other) noexcept;
    handle(handle&& other) noexcept : node_(detail::take(other.node_)) {}
    handle& operator=(handle other) noexcept {
        detail::trade(node_, other.node_);
        return *this;
    }
    ~handle();

    /// The callback will not run (again), also when it was due in this very phase.
    void cancel() noexcept;
    /// Whether it may still run.
    bool active() const noexcept;
    /// An unreferenced callback does not keep the loop alive; it runs if the loop turns anyway.
    void unref() noexcept;
    void ref() noexcept;
    bool referenced() const noexcept;

 protected:
    friend class loop;
    explicit handle(detail::handle_node& node) noexcept;
    detail::handle_node* node_ = nullptr;
};

/// What set_immediate returns.
class immediate_handle : public handle {
    friend class loop;
    using handle::handle;
 public:
    immediate_handle() noexcept = default;
};

/// What set_timeout and set_interval return.
class RONDO_API timer : public handle {
    friend class loop;

 public:
    timer() noexcept = default;
    /// As handle::cancel, faster. O(log n).
    void cancel() noexcept;
    /// Starts anew: `after` from the loop's cached time, as the youngest of its deadline; also when
    /// it has fired or was cancelled. For an interval this is the new period as well. O(log n).
    void rearm(delay after) noexcept;
    /// The same with the delay it had (Node's refresh()).
    void rearm() noexcept;

 private:
    explicit timer(detail::handle_node& node) noexcept;
    loop* here() const noexcept;
    void rearm_elsewhere(delay after) noexcept;

    std::uint32_t slot_ = 0;  // the node's
    std::uint32_t loop_ = 0;  // the loop's serial number
};

/// What on_idle, on_prepare and on_check return.
class RONDO_API watcher : public handle {
    friend class loop;
    using handle::handle;

 public:
    watcher() noexcept = default;
    /// Runs once a turn again after cancel(), behind the watchers that run already.
    void start() noexcept;
};

/// What try_post() did. `full`: too many posts wait.
enum class post_status : std::uint8_t { posted, full, closed };

namespace detail {

/// A place among the posts that wait, or why there is none.
class RONDO_API post_place {
 public:
    explicit post_place(post_status why) noexcept : why_(why) {}
    explicit post_place(remote_state& state) noexcept : state_(&state) {}
    post_place(post_place&& other) noexcept : state_(take(other.state_)), why_(other.why_) {}
    post_place& operator=(post_place&&) = delete;
    ~post_place() { leave(); }

    post_status status() const noexcept { return why_; }
    void leave() noexcept {
        if (state_ != nullptr) give_up(*take(state_));
    }

 private:
    static void give_up(remote_state& state) noexcept;

    remote_state* state_ = nullptr;
    post_status why_ = post_status::posted;
};

/// A callable that has a place until it runs.
template <class F>
struct placed_post {
    template <class G>
    struct parts {
        post_place place;
        G&& fn;
    };
    template <class G>
    explicit placed_post(parts<G>&& from) : place(std::move(from.place)), fn(std::forward<G>(from.fn)) {}

    void operator()() {
        place.leave();  // there is room for what it posts itself
        fn();
    }

    post_place place;
    F fn;
};

}  // namespace detail

/// A counted handle through which other threads reach the loop. It keeps the loop alive; the loop
/// may die first, then posts are refused. Any thread; copies are cheap (one atomic increment).
class RONDO_API remote {
 public:
    remote() noexcept = default;
    remote(const remote& other) noexcept;
    remote(remote&& other) noexcept : state_(detail::take(other.state_)) {}
    remote& operator=(remote other) noexcept {
        detail::trade(state_, other.state_);
        return *this;
    }
    ~remote();

    /// Runs `f` on the loop's thread, in the pending phase of a turn to come; posts keep the order in which they were
    /// made. False when the loop is gone: `f` will not run, and is untouched. Throws bad_alloc. Small callables
    /// go in blocks that are used again.
    /// The queue is not bounded, so that who must be heard is heard: a turn runs loop::posts_per_turn of them, and a
    /// thread that posts faster than the loop runs them fills the memory. try_post() is for such a thread.
    template <class F>
    [[nodiscard]] bool post(F&& f, std::source_location place = std::source_location::current()) const {
        auto& made = detail::make_callback<false>(std::forward<F>(f), place);
        if (post_callback(made)) [[likely]]
            return true;
        detail::move_back<F>(f, made.fn);
        made.discard();
        return false;
    }

    /// The same unless loop_options::post_limit posts wait already: then `full`, and `f` is untouched, as it is
    /// when the loop is gone. Those of try_post() count from the call until they run, those of post() only
    /// when a turn of the loop leaves them over.
    template <class F>
    [[nodiscard]] post_status try_post(F&& f, std::source_location place = std::source_location::current()) const {
        using call = detail::placed_post<std::decay_t<F>>;
        detail::post_place room = reserve();
        if (room.status() != post_status::posted) return room.status();
        using parts = typename call::template parts<F>;
        auto& made = detail::callback_of<call, false>::make(parts{std::move(room), std::forward<F>(f)}, place);
        if (post_callback(made)) [[likely]]
            return post_status::posted;
        detail::move_back<F>(f, made.fn.fn);
        made.discard();
        return post_status::closed;
    }

 private:
    friend class loop;
    friend class detail::thread_channel_core;
    friend class detail::thread_channel_state;
    explicit remote(detail::remote_state& state) noexcept;
    /// Whether it is of a parent's loop, and this a task that unwinds; anyone else there asserts.
    bool in_child() const noexcept;
    /// False: it was not taken.
    bool post_callback(detail::callback& c) const noexcept;
    detail::post_place reserve() const noexcept;
    bool loop_is_gone() const noexcept;
    detail::remote_state* state_ = nullptr;
};

/// Integers that are always counted. Since the loop was made, unless said otherwise.
struct loop_stats {
    std::uint64_t turns = 0;
    std::uint64_t callbacks = 0;      // run by phases, ticks and microtasks included
    std::uint64_t steps = 0;          // resumptions of tasks
    std::uint64_t completions = 0;    // of I/O, as the backend reported them
    std::uint64_t posts = 0;          // from other threads
    std::uint64_t timers_fired = 0;
    std::uint64_t drains_cut = 0;     // a drain stopped at its budget of wake-ups
    std::uint64_t storms = 0;         // a drain ran unusually many ticks and microtasks
    std::uint64_t put_off = 0;        // I/O finished at once, put off for fairness
    std::uint64_t dead_letters = 0;   // messages that no actor handled
    std::size_t posts_high_water = 0;  // the most posts that a turn found waiting
    std::size_t posts_waiting = 0;  // left over by the last turn, now
    std::size_t tasks = 0;            // now
    std::size_t timers = 0;           // now
    std::size_t operations = 0;       // armed I/O, now
    std::size_t remotes = 0;          // live remote handles, now
};

/// A message that no actor handled, and whose sender was not told.
struct dead_letter {
    const char* actor;        // its name
    std::string_view message;  // its type
    const char* why;          // "the actor has ended", "the mailbox is full"
};

/// One thing that keeps a loop alive.
struct alive_entry {
    std::string what;            // "timer, due in 120 ms", "task 7: read fd 9", "microtask"
    std::source_location place;  // where it was made; line 0 if unknown
};

/// A task, as an observer sees it. Valid during the call.
class RONDO_API task_view {
 public:
    explicit task_view(const detail::fiber* f = nullptr) noexcept : f_(f) {}

    /// 0: it is no task, but a callback.
    std::uint32_t number() const noexcept;
    std::string_view name() const noexcept;
    /// Line 0 where that is unknown.
    std::source_location spawned() const noexcept;
    /// Where the program waits, or has waited last; before it starts, where it was spawned.
    std::source_location place() const noexcept;
    /// The lines of its awaits, the innermost first, the library's own as well: how many, `most` at most.
    std::size_t sites(std::source_location* into, std::size_t most) const noexcept;
    /// What it waits for, cut at `room`, with a zero behind: how long that is; 0 if it waits for nothing.
    std::size_t waits_for(char* text, std::size_t room) const noexcept;

 private:
    const detail::fiber* f_;
};

/// Watches the loop at work; see loop_options::watch. All on the loop's thread; it must not call the loop.
/// What happens in a step comes between on_step() and on_step_end(), what it makes ready at its end. Costs
/// nothing while there is none; docs/observe.md has those that come with rondo.
class RONDO_API observer {
 public:
    /// What runs: a callback of a phase (posts of other threads are of the pending phase), one of the queues, or
    /// a task, however it was woken.
    enum class step : std::uint8_t { callback, tick, microtask, task };
    enum class ending : std::uint8_t { value, error, cancelled };

    virtual ~observer();
    virtual void on_phase(phase p, time_point when) noexcept;
    /// The wait for the outside is over, and has brought so many completions.
    virtual void on_polled(std::size_t completions, time_point now) noexcept;
    /// Timers are due: the first of them since `due`.
    virtual void on_timers(time_point due, time_point now) noexcept;
    /// A new task is ready for its first step.
    virtual void on_spawn(task_view task) noexcept;
    /// It was woken: by the step that runs, or, between steps, by the phase.
    virtual void on_ready(task_view task) noexcept;
    /// `place`: of a task, its innermost await; of a callback, where it was made.
    virtual void on_step(step what, task_view task, std::source_location place) noexcept;
    /// The step of the task is over, and it waits.
    virtual void on_wait(task_view task) noexcept;
    virtual void on_end(task_view task, ending how) noexcept;
    virtual void on_step_end() noexcept;
};

struct loop_options {
    backend_kind kind = backend_kind::automatic;  // automatic: RONDO_BACKEND decides, else the best
    backend_options backend = {};
    observer* watch = nullptr;  // must outlive the loop
    /// On `sim`: what one run() or run_on() may take, in turns and steps of tasks and callbacks, until it is said to be
    /// stuck in a live-lock (livelock_error). RONDO_SIM_STEPS goes before it. Without effect for a host of a world.
    std::uint64_t step_limit = 10'000'000;
    /// Tasks remember since when they wait, for the await tree (docs/await_tree.md tells what it costs).
    bool track_waits = false;
    /// While so many posts wait, remote::try_post() gives `full`.
    std::size_t post_limit = 65'536;
};

class RONDO_API loop {
 public:
    /// Task wake-ups in one drain, before timers and I/O are looked at.
    static constexpr std::uint32_t wakeups_per_drain = 1024;
    /// I/O that the tasks of one drain may finish without waiting; the rest goes round by the next turn. (What it
    /// may move meanwhile: byte_budget.)
    static constexpr std::int32_t inline_completions = 64;
    /// So many waits for other tasks may be over at once; the next one goes behind every task that is ready.
    static constexpr std::int32_t waits_at_once = 128;
    /// So long the end of run() and ~loop wait for tasks that others have to wake, while none gets on: takes a
    /// step, or moves a byte.
    static constexpr duration patience_at_the_end = std::chrono::seconds(5);
    /// Posts of other threads, and steps of the tasks that they wake, in one turn; the rest waits for the next.
    static constexpr std::uint32_t posts_per_turn = 1024;
    /// On `sim`: for so many turns posts that keep coming let the clock stand; then it moves on.
    static constexpr std::uint32_t turns_of_posts = 16;
    /// So many ticks and microtasks in one drain are reported as a storm.
    static constexpr std::uint32_t storm_threshold = 1'000'000;

    /// Throws io_error when the backend asked for by name cannot be had.
    explicit loop(const loop_options& options = {});
    /// Cancels every task that is left, waits for its end, and drops all callbacks. What a shield keeps running,
    /// and the timers it waits for, are waited out. When only the outside could wake such a task, a peer or another
    /// thread, and none has got on for `patience_at_the_end`, those left are named in the log, and asserted.
    ~loop();
    loop(const loop&) = delete;
    loop& operator=(const loop&) = delete;

    // --- queues -------------------------------------------------------------------------------

    /// Runs `f` after the current callback, before any microtask.
    template <class F>
    void next_tick(F&& f, std::source_location place = std::source_location::current()) {
        push_tick(detail::make_callback(std::forward<F>(f), place));
    }
    /// Runs `f` after the current callback and its ticks.
    template <class F>
    void queue_microtask(F&& f, std::source_location place = std::source_location::current()) {
        push_microtask(detail::make_callback(std::forward<F>(f), place));
    }
    /// Runs `f` in the next check phase; from an immediate, that of the next turn.
    template <class F>
    immediate_handle set_immediate(F&& f, std::source_location place = std::source_location::current()) {
        return immediate_handle(add_immediate(detail::make_handle_node(std::forward<F>(f), place)));
    }
    /// Runs `f` once, in the first timers phase at or after `after` from the cached time. Negative
    /// is zero; zero is the next timers phase, never the running one.
    template <class F>
    timer set_timeout(delay after, F&& f, std::source_location place = std::source_location::current()) {
        return timer(add_timer(detail::make_handle_node(std::forward<F>(f), place), after, false));
    }
    /// Runs `f` every `period`, counted from the start of its last run: a late loop skips what it
    /// missed, there is no burst. The lateness of each run adds up: it drifts against the clock. A period below 1 ns is 1 ns: once a turn.
    template <class F>
    timer set_interval(delay period, F&& f, std::source_location place = std::source_location::current()) {
        return timer(add_timer(detail::make_handle_node(std::forward<F>(f), place), period, true));
    }
    /// Runs `f` in every turn, in the phase of that name. An idle watcher makes poll return at once.
    template <class F>
    watcher on_idle(F&& f, std::source_location place = std::source_location::current()) {
        return watcher(add_watcher(detail::make_handle_node(std::forward<F>(f), place),
                                   detail::handle_node::sort::idle));
    }
    template <class F>
    watcher on_prepare(F&& f, std::source_location place = std::source_location::current()) {
        return watcher(add_watcher(detail::make_handle_node(std::forward<F>(f), place),
                                   detail::handle_node::sort::prepare));
    }
    template <class F>
    watcher on_check(F&& f, std::source_location place = std::source_location::current()) {
        return watcher(add_watcher(detail::make_handle_node(std::forward<F>(f), place),
                                   detail::handle_node::sort::check));
    }
    /// Runs `f` in the close phase of this turn (the next one, from a close callback). The newest
    /// runs first, as in libuv.
    template <class F>
    void queue_close(F&& f, std::source_location place = std::source_location::current()) {
        add_close(detail::make_handle_node(std::forward<F>(f), place));
    }

    /// A handle for other threads.
    [[nodiscard]] rondo::remote remote(std::source_location place = std::source_location::current());

    // --- running ------------------------------------------------------------------------------

    /// Turns until nothing keeps the loop alive or stop() is called. Throws logic_error when the
    /// loop runs already, what an error hook threw, and on `sim` livelock_error after loop_options::step_limit.
    void run();
    /// One turn, which may block in poll. True while something keeps the loop alive.
    bool run_once();
    /// One turn that does not block.
    bool run_nowait();
    /// Ends run() after this turn.
    void stop(std::source_location place = std::source_location::current()) noexcept;
    bool running() const noexcept { return running_; }
    /// Whether stop() ended the latest run(), run_on() included.
    bool stopped() const noexcept { return stopped_; }
    /// Whether this is the copy of a parent's loop that a forked child has: good for dropping what belongs to it,
    /// and for nothing else (docs/backends.md).
    bool left_behind() const noexcept { return left_behind_; }

    // --- embedding in another loop ---------------------------------------------------------------

    /// Readable when run_nowait() would find something; -1 if the backend has none (`sim`). With
    /// next_deadline() it is all a foreign loop needs: wait for either, then run_nowait().
    int poll_fd();
    /// When the loop wants to run next if nothing arrives: now() or earlier if work is queued, the
    /// earliest timer, or `never`.
    time_point next_deadline() const noexcept;

    // --- time ---------------------------------------------------------------------------------

    /// The time cached at the last look: after poll, before timers, and by update_now().
    time_point now() const noexcept { return now_; }
    void update_now(std::source_location place = std::source_location::current()) noexcept {
        check_thread("update_now", place);
        refresh_now();
    }
    /// On `sim`, lets `by` pass as if the program had computed; elsewhere busy-waits. Refreshes now().
    void spin(delay by) noexcept;

    // --- looking ------------------------------------------------------------------------------

    bool alive() const noexcept;
    /// What keeps the loop alive, and where each was made; of a task, where it waits. Tasks of all scopes
    /// are listed, also those that wait for nothing but each other. Not empty while alive(). O(n).
    std::vector<alive_entry> why_alive(std::source_location place = std::source_location::current()) const;
    loop_stats stats() const noexcept;
    /// "io_uring, 256 entries, ... (asked for)", "epoll (io_uring_setup: Operation not permitted ...)".
    std::string backend_info() const;
    backend_kind kind() const noexcept { return backend_->kind(); }
    rondo::phase current_phase() const noexcept { return phase_; }

    /// Called with what a callback, or a task nobody holds, has thrown, and where that was made.
    /// The default prints it and ends the process. After it returned the loop goes on as usual; what
    /// it throws ends run(), after this turn. Only one exception can: what it throws for further errors
    /// of the turn, or while run() unwinds the last tasks, is logged (level error).
    using error_hook = void (*)(std::exception_ptr error, std::source_location place, void* context);
    void on_unhandled(error_hook hook, void* context = nullptr) noexcept;

    /// Called with each dead letter, after it was counted (loop_stats::dead_letters). It must not throw, and
    /// must not touch the actor. Null, the default, only counts.
    using dead_letter_hook = void (*)(const dead_letter& letter, void* context) noexcept;
    void on_dead_letter(dead_letter_hook hook, void* context = nullptr) noexcept {
        dead_letter_hook_ = hook;
        dead_letter_context_ = context;
    }

    // --- for the layers above (not for programs) ----------------------------------------------------

    /// Finishes `o` with `result`: exactly once, and it only queues.
    void complete(op& o, std::int32_t result) noexcept {
        o.result = result;
        o.state = op::done;
        o.vt->done(o);
    }
    /// Queues a fiber behind everything that is ready.
    void make_ready(detail::fiber& f) noexcept { microtasks_.push(f); }
    /// A wait of `f` was over at once. True: of those it is one in so many, and `f` was queued behind the
    /// others. So a task that never has to wait does not hold off timers and I/O.
    bool let_others_run(detail::fiber& f) noexcept {
        if (--at_once_left_ >= 0) [[likely]]
            return false;
        at_once_left_ = waits_at_once;
        f.waiting = &detail::in_queue;
        make_ready(f);
        return true;
    }
    void make_ready_as_microtask(detail::fiber& f) noexcept {
        f.what = detail::ready_node::kind::explicit_microtask;
        microtasks_.push(f);
    }
    void make_ready_as_tick(detail::fiber& f) noexcept {
        f.what = detail::ready_node::kind::explicit_microtask;
        ticks_.push(f);
    }
    /// Throws bad_alloc, and then the op is not armed.
    void add_timer(op& o, time_point deadline) { timers_.add(o, deadline); }
    void move_timer(op& o, time_point deadline) noexcept { timers_.move(o, deadline); }
    void remove_timer(op& o) noexcept { timers_.remove(o); }
    /// Lives while a scope cancels what is in it.
    detail::timer_heap::clearing clear_timers() noexcept { return detail::timer_heap::clearing(timers_); }
    detail::asked_starts& asked_to_end() noexcept { return asked_to_end_; }
    void add_immediate(detail::linked_op& o) noexcept;
    void remove_immediate(detail::linked_op& o) noexcept;
    /// Starts an I/O op. False: it is under way. True: finished, `o.result` is set.
    bool submit(io_op& o) noexcept {
        if (!backend_->submit(o)) {
            ++armed_io_;
            return false;
        }
        return finish_at_once(o);
    }
    /// The same of an op that need not be started, as its result is known: true, or false for the sake of others.
    bool finish_at_once(io_op& o) noexcept {
        if (--inline_left_ < 0) [[unlikely]]
            return put_off(o);
        o.owner->waiting = nullptr;
        return true;
    }
    void cancel(io_op& o) noexcept { backend_->cancel(o); }
    /// The loop of this serial number if it still lives on this thread, else null. A handle that may
    /// outlive its loop asks so; O(loops of this thread).
    static loop* living(std::uint32_t serial) noexcept;
    std::uint32_t serial() const noexcept { return serial_; }
    static bool was_simulated(std::uint32_t serial) noexcept { return (serial & simulated_bit) != 0; }
    int control(sys_op& o) noexcept { return backend_->control(o); }
    backend& io() noexcept { return *backend_; }
    /// Closes `fd` without anyone waiting for it; needs no memory.
    void reap(int fd) noexcept { backend_->reap(fd); }
    detail::scope& root() noexcept { return root_; }
    const detail::scope& root() const noexcept { return root_; }
    /// The task that runs right now; null in a callback.
    detail::fiber* current_fiber() const noexcept { return current_fiber_; }
    /// Makes `f` a task of `home`, with what it inherits from the task that runs. Throws bad_alloc; then
    /// `f` is freed.
    void adopt(detail::fiber& f, detail::scope& home) {
        const detail::fiber* const holder = home.holder;
        if (!home.open_wide || (holder != nullptr && (holder->inside != &home || holder->flags & unusual)) ||
            (current_fiber_ != nullptr && current_fiber_->more != nullptr)) [[unlikely]]
            return adopt_unusual(f, home);
        enroll(f, home);
        make_ready(f);
    }
    bool tracks_waits() const noexcept { return options_.track_waits; }
    /// When the earliest timer is due; `never` if there is none.
    time_point next_timer() const noexcept { return timers_.empty() ? never : timers_.next(); }
    /// Every task of the loop, the main ones first.
    template <class F>
    void for_each_task(F&& f) const {
        scopes_.for_each([&](const detail::scope& s) { s.fibers.for_each(f); });
    }
    void add_dead_letter(const dead_letter& letter) noexcept {
        ++stats_.dead_letters;
        if (dead_letter_hook_ != nullptr) dead_letter_hook_(letter, dead_letter_context_);
    }
    void report_unhandled(std::exception_ptr error, std::source_location place) noexcept;
    /// Turns until `done(context)`; then, or when nothing is left to wait for, returns.
    bool run_until(bool (*done)(void*), void* context);
    /// For a world of several loops: the `first` step is how run() begins, each further one a turn that
    /// does not block. Throws what the error hook threw.
    void step(bool first);
    /// Turns, and steps of tasks and callbacks, so far.
    std::uint64_t steps_taken() const noexcept { return stats_.turns + stats_.steps + stats_.callbacks; }
    /// After so many more, in the run that comes or is, drains end where they are.
    void limit_steps(std::uint64_t more) noexcept;
    /// To what the options say.
    void limit_run() noexcept {
        drops_callbacks_ = false;
        limit_steps(options_.step_limit);
    }
    /// drain_root() will drop ticks and microtasks that are callbacks: they go on for ever.
    void drop_callbacks() noexcept { drops_callbacks_ = true; }
    /// While the loop does not run.
    void set_observer(observer* watch) noexcept;
    /// From now on ready tasks run in any order (order::chaos); the same.
    void set_any_order() noexcept {
        any_order_ = true;
        set_observer(watch_);
    }
    /// Cancels the root scope and turns until its last task has ended, or nothing but the outside could end it
    /// and that has not for `patience_at_the_end`: those left are logged then.
    void drain_root() noexcept;
    /// Under RONDO_DEBUG: `what`, called at `place` if that is known, is on the loop's own thread.
    void check_thread(const char* what, std::source_location place = {}) const noexcept {
        if (detail::debug_enabled) [[unlikely]]
            assert_thread(what, place);
    }
    /// Asserts that this is the loop that runs `what`: another one would never hear of its end.
    void assert_here(const char* what, std::source_location place) const noexcept;
    /// trim_memory() for the loops of this thread.
    static void trim_all_here() noexcept;
    /// A cancelled task wants to wait: false, let it go on at once; true, put it behind the others.
    bool refuse_cancelled(detail::fiber& f) noexcept;

 private:
    friend class handle;
    friend detail::remote_state;
    friend class timer;
    friend class watcher;
    class running_scope;

    void assert_thread(const char* what, std::source_location place) const noexcept;

    // in a forked child
    static void watch_forks() noexcept;
    static void forked() noexcept;
    void leave_behind(bool of_this_thread) noexcept;
    void turn_in_child();
    void wake_sleepers() noexcept;
    void abandon() noexcept;
    void unlist() noexcept;

    // phases, in the order of a turn
    void turn(bool may_block);
    void run_pending();
    void run_posts() noexcept;
    void let_posters_run() noexcept;
    void run_watchers(detail::ring<detail::handle_node>& watchers, phase p);
    void run_poll(bool may_block);
    void run_check();
    void run_close();
    void run_timers();

    void enter(phase p) noexcept;
    time_point poll_deadline(bool may_block) const noexcept;
    time_point end_of_patience() noexcept;
    std::uint64_t bytes_under_way() const noexcept;
    bool has_ending_timer() const noexcept;
    bool posts_give_way() noexcept;
    bool work_queued() const noexcept;
    void refresh_now() noexcept { now_ = backend_->now(); }

    // steps and the drain after each
    void deliver(op& o, std::int32_t result) noexcept;
    void deliver_otherwise(op& o, std::int32_t result) noexcept;
    bool put_off(io_op& o) noexcept;
    void fire_timer(detail::handle_node& node) noexcept;
    void fire_once(detail::handle_node& node) noexcept;
    void call(detail::handle_node& node) noexcept;
    void call(detail::callback& c, observer::step what) noexcept;
    template <bool Watched>
    void step(detail::fiber& f) noexcept;
    void step_watched(detail::fiber& f) noexcept;
    void end_watched(detail::fiber& f, detail::promise_base* root) noexcept;
    void step_ended() noexcept;
    void tell_ready() noexcept;
    void tell_ready(const detail::queue<detail::ready_node>& queue, detail::ready_node*& told) noexcept;
    template <bool Watched>
    static detail::ready_node& take(detail::queue<detail::ready_node>& queue, detail::ready_node*& told) noexcept;
    template <bool Watched>
    void first_step(detail::fiber& f) noexcept;
    void resume(detail::fiber& f) noexcept;
    detail::promise_base* advance(detail::fiber& f) noexcept;
    void end(detail::fiber& f, detail::promise_base* root) noexcept;
    void finish(detail::fiber& f) noexcept;
    void keep_outcome(detail::fiber& f) noexcept;
    void tell_end(detail::fiber& f, detail::scope& home) noexcept;
    static constexpr std::uint8_t unusual = detail::fiber::cancel_pending | detail::fiber::checked;
    void enroll(detail::fiber& f, detail::scope& home) noexcept {
        f.id = ++next_task_id_;
        f.inside = &home;
        home.fibers.push_back(f);
        ++home.count;
    }
    void adopt_unusual(detail::fiber& f, detail::scope& home);
    enum class verdict : std::uint8_t { run_it, skip_it, end_drain };
    verdict judge_next(detail::queue<detail::ready_node>& queue, detail::ready_node*& told) noexcept;
    [[noreturn]] void report_live_lock();
    void report_storm(const detail::ready_node& last) noexcept;
    void drain() noexcept;
    template <bool Watched>
    void drain_queues() noexcept;
    template <bool Watched>
    bool run_other(detail::queue<detail::ready_node>& queue, detail::ready_node*& told, observer::step what) noexcept;

    void push_tick(detail::callback& c) noexcept {
        check_thread("next_tick", c.place);
        ticks_.push(c);
    }
    void push_microtask(detail::callback& c) noexcept {
        check_thread("queue_microtask", c.place);
        microtasks_.push(c);
    }
    void add_close(detail::handle_node& node) noexcept;
    detail::handle_node& add_immediate(detail::handle_node& node) noexcept;
    detail::handle_node& add_timer(detail::handle_node& node, delay after, bool repeats);
    detail::handle_node& add_watcher(detail::handle_node& node, detail::handle_node::sort what) noexcept;
    void start_watcher(detail::handle_node& node) noexcept;
    void arm(detail::handle_node& node, std::uint32_t slot, delay after) noexcept;
    void activate(detail::handle_node& node) noexcept;
    void deactivated(detail::handle_node& node) noexcept;
    void remove(detail::handle_node& node) noexcept;
    void orphan(detail::handle_node& node) noexcept;
    void orphan_handles() noexcept;
    static bool is_active(const detail::handle_node& node) noexcept;
    static void release(detail::handle_node& node) noexcept;
    static void release_checked(detail::handle_node& node) noexcept;
    void check_new(const detail::handle_node& node, detail::handle_node::sort what) const noexcept;
    static void forget(detail::handle_node& node) noexcept;
    static void set_referenced(detail::handle_node& node, bool referenced) noexcept;
    std::size_t& unreferenced(detail::handle_node::sort what) noexcept;
    detail::ring<detail::handle_node>& watchers(const detail::handle_node& node) noexcept;

    time_point now_{};
    detail::queue<detail::ready_node> ticks_;
    detail::queue<detail::ready_node> microtasks_;
    detail::fiber* current_fiber_ = nullptr;
    std::int32_t inline_left_ = 0;   // I/O the tasks of this drain may still finish without waiting
    std::int32_t at_once_left_ = waits_at_once;
    std::uint32_t others_ = 0;       // ticks and explicit microtasks this drain has run
    std::uint32_t judged_from_ = storm_threshold;  // from this one on each is looked at before it runs
    std::uint32_t next_task_id_ = 0;
    std::uint32_t turns_of_posts_ = 0;  // in which only posts kept the poll from blocking
    phase phase_ = phase::none;
    bool running_ = false;
    bool stopping_ = false;
    bool stopped_ = false;     // the latest run ended by stop()
    bool flooded_ = false;     // a turn has left over posts since it last slept
    bool stuck_ = false;       // the backend said that nothing can ever happen
    bool embedded_ = false;    // someone asked for poll_fd()
    bool unwinding_ = false;   // in drain_root()
    bool gave_up_ = false;     // the latest drain_root() has left tasks, and nothing has run since
    bool checks_waits_ = false;  // for RONDO_DEBUG, or to remember since when a task waits
    bool any_order_ = false;     // order::chaos; then there is an observer
    bool drops_callbacks_ = false;  // after a live-lock
    observer* watch_ = nullptr;
    // Of each queue, the last node that the observer has heard of; null if it has of none.
    detail::ready_node* told_tick_ = nullptr;
    detail::ready_node* told_microtask_ = nullptr;
    loop_options options_;
    loop_stats stats_;
    std::uint64_t step_limit_ = no_limit;  // of steps_taken()
    static constexpr std::uint64_t no_limit = ~std::uint64_t{0};

    detail::timer_heap timers_;
    detail::ring<detail::linked_op> immediates_;
    detail::ring<detail::handle_node> idle_, prepare_, check_, stopped_watchers_;
    detail::ring<detail::handle_node> closing_;
    std::vector<io_op*> put_off_, put_off_round_;
    std::size_t armed_io_ = 0;
    std::size_t immediate_count_ = 0, watcher_count_ = 0;
    std::size_t unref_nodes_ = 0;  // active or not
    std::size_t unref_timers_ = 0, unref_immediates_ = 0, unref_watchers_ = 0;  // active
    std::size_t closing_count_ = 0;
    completions batch_;

    bool (*until_)(void*) = nullptr;  // what ends run_until()
    void* until_context_ = nullptr;
    detail::ring<detail::scope> scopes_;
    detail::asked_starts asked_to_end_;
    detail::scope root_;
    time_point give_up_at_{};             // of drain_root(): when no task has taken a step until then
    std::uint64_t steps_when_asked_ = 0;
    std::uint64_t bytes_when_asked_ = 0;
    error_hook hook_ = nullptr;
    void* hook_context_ = nullptr;
    dead_letter_hook dead_letter_hook_ = nullptr;
    void* dead_letter_context_ = nullptr;
    std::exception_ptr escaped_;
    const void* thread_ = nullptr;  // whose it is
    int thread_id_ = 0;             // the kernel's number of that thread, for messages
    static constexpr std::uint32_t simulated_bit = 0x8000'0000;
    std::uint32_t serial_ = 0;       // no other loop of this process has it
    loop* next_on_thread_ = nullptr;
    loop* next_in_process_ = nullptr;
    std::string why_backend_;
    rondo::backend* backend_ = nullptr;  // that of in_a_child_, until it takes its place
    detail::left_behind* in_a_child_ = nullptr;  // ours
    oracle* own_decisions_ = nullptr;    // RONDO_BACKEND=sim:SEED
    detail::remote_state* shared_ = nullptr;
    std::source_location remote_place_;  // where remote() was called last
    bool left_behind_ = false;
    detail::queue<detail::ready_node> ready_at_fork_;  // in a child: what may not run there
};

namespace detail {
/// An error in one line: kind, errno, operation, peer.
RONDO_API std::string message_of(const std::exception_ptr& error) noexcept;

/// Prints what a program died of: kind, errno, operation, peer, and the awaits it came through.
RONDO_API void report_escaped(const std::exception_ptr& error) noexcept;

/// The loop that runs on this thread. (initial-exec: one load instead of a call from a shared library)
extern RONDO_API constinit thread_local loop* current __attribute__((tls_model("initial-exec")));
}  // namespace detail

/// The loop that runs on this thread; asserts that there is one.
[[nodiscard]] inline loop& this_loop() noexcept {
    RONDO_ASSERT(detail::current != nullptr, "no rondo loop runs on this thread");
    return *detail::current;
}

/// 64 random bits; on `sim` they come from the oracle, so that a run can be replayed.
[[nodiscard]] inline std::uint64_t random_u64() noexcept { return this_loop().io().random(); }

}  // namespace rondo
