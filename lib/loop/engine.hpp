// The engine of a loop: its turn, the drain after each callback, and what it knows of everything that it keeps.
//
// Besides the loop itself those include it who drive a loop in another way: run(), and a world of several loops.
#pragma once

#include <rondo/base/log.hpp>
#include <rondo/loop/loop.hpp>

#include "heap.hpp"
#include "registry.hpp"
#include "step_limit.hpp"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

namespace rondo::detail {

class clock_watch;
class left_behind;
struct remote_state;

/// What a program wants to be called with. Who calls it holds a copy: it may set another one meanwhile.
template <class Function>
struct hook {
    Function call = nullptr;
    void* context = nullptr;
    std::shared_ptr<void> kept = nullptr;  // the callable, unless the program keeps it itself
};

class RONDO_API engine final : public scheduler {
 public:
    engine(rondo::loop& l, const loop_options& options);
    ~engine();

    static engine& of(scheduler& s) noexcept { return static_cast<engine&>(s); }
    static const engine& of(const scheduler& s) noexcept { return static_cast<const engine&>(s); }
    static engine& of(rondo::loop& l) noexcept { return of(scheduler::of(l)); }
    static const engine& of(const rondo::loop& l) noexcept { return of(scheduler::of(l)); }

    // --- what the loop does for programs: see there

    void run();
    /// run_once() and run_nowait().
    bool run_turn(bool may_block);
    void stop(std::source_location place) noexcept;
    int poll_fd();
    time_point next_deadline() const noexcept;
    void spin(delay by) noexcept;
    bool alive() const noexcept;
    std::vector<alive_entry> why_alive(std::source_location called_at) const;
    loop_stats stats() const noexcept;
    std::string backend_info() const;
    void on_unhandled(hook<loop::error_hook> to) noexcept;

    bool is_running() const noexcept { return running_; }
    bool stopped() const noexcept { return stopped_; }
    phase current_phase() const noexcept { return phase_; }
    backend_kind kind() const noexcept { return backend_->kind(); }
    void refresh_now() noexcept { now_ = backend_->now(); }
    void on_dead_letter(hook<loop::dead_letter_hook> to) noexcept { dead_letter_hook_ = std::move(to); }
    rondo::remote remote(std::source_location place);

    handle_node& add_timer_node(handle_node& node, delay after, bool repeats);
    handle_node& add_immediate_node(handle_node& node) noexcept;
    handle_node& add_watcher_node(handle_node& node, phase in) noexcept;
    void add_close_node(handle_node& node) noexcept;

    // --- who drives it in another way

    /// Turns until `done(context)`; then, or when nothing is left to wait for, returns.
    bool run_until(bool (*done)(void*), void* context);
    /// For a world of several loops: the `first` step is how run() begins, each further one a turn that
    /// does not block. Throws what the error hook threw.
    void step(bool first);
    /// Cancels the root scope and turns until its last task has ended, or nothing but the outside could end it
    /// and that has not for `patience_at_the_end`: those left are logged then.
    void drain_root() noexcept;
    std::uint64_t turns_taken() const noexcept { return stats_.turns; }
    /// Turns, and steps of tasks and callbacks, so far.
    std::uint64_t steps_taken() const noexcept { return stats_.turns + stats_.steps + stats_.callbacks; }
    /// After so many more, in the run that comes or is, drains end where they are.
    void limit_steps(std::uint64_t more) noexcept;
    /// Limits the run that comes to what the options say.
    void limit_run() noexcept;
    /// drain_root() will drop ticks and microtasks that are callbacks: they go on for ever.
    void drop_callbacks() noexcept { drops_callbacks_ = true; }
    /// While the loop does not run.
    void set_observer(observer* by) noexcept;
    const observer* watched_by() const noexcept { return observer_; }
    /// From now on ready tasks run in any order (order::chaos). While the loop does not run.
    void set_any_order() noexcept {
        any_order_ = true;
        set_observer(observer_);
    }

    // --- looking at it

    /// When the earliest timer is due; `never` if there is none.
    time_point next_timer() const noexcept { return timers_.empty() ? never : timers_.next(); }
    /// Every task of the loop, the main ones first.
    template <class F>
    void for_each_task(F&& f) const {
        scopes_.for_each([&](const scope& s) { s.tasks().for_each(f); });
    }

    // --- while a scope cancels what is in it

    timer_heap::clearing clear_timers() noexcept { return timer_heap::clearing(timers_); }
    detail::postponed_cancels& postponed_cancels() noexcept { return postponed_cancels_; }

    void report_unhandled(std::exception_ptr error, std::source_location place) noexcept;

    /// Of who sleeps by the wall clock; made for the first one. Throws bad_alloc.
    clock_watch& wall_clock();
    /// Starts an op that belongs to no task. False: it is under way.
    bool submit_own(io_op& o) noexcept {
        if (backend_->submit(o)) return true;
        ++armed_io_;
        return false;
    }

    /// Gives back memory that it does not need now.
    void trim() noexcept;

    bool is_of_this_thread() const noexcept { return thread_ == &thread_mark; }

 private:
    friend class rondo::handle;
    friend class rondo::timer;
    friend class rondo::watcher;
    friend class scheduler;
    friend struct remote_state;
    friend struct registry;
    class running_scope;

    // driving
    enum class act : std::uint8_t { nothing, timers, turn, look };  // `look`: a turn that does not block
    template <class Next>
    void drive(Next next);
    void rethrow();

    // in a forked child
    void leave_behind(bool of_this_thread) noexcept;
    void turn_in_child();
    void wake_sleepers() noexcept;
    void abandon() noexcept;

    // phases, in the order of a turn
    void turn(bool may_block);
    void run_pending();
    void run_posts() noexcept;
    void let_posters_run() noexcept;
    void run_watchers(ring<handle_node>& watchers, phase p);
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

    // steps and the drain after each
    void deliver(op& o, std::int32_t result) noexcept;
    void deliver_otherwise(op& o, std::int32_t result) noexcept;
    void fire_timer(handle_node& node) noexcept;
    void fire_once(handle_node& node) noexcept;
    void call(handle_node& node) noexcept;
    void call(callback& c, step_kind what) noexcept;
    template <bool Watched>
    void step(fiber& f) noexcept;
    void step_watched(fiber& f) noexcept;
    void end_watched(fiber& f, promise_base* root) noexcept;
    void step_ended() noexcept;
    /// While there is an observer, and its fields of `event_` are set.
    void tell(loop_event_kind kind) noexcept {
        event_.kind = kind;
        observer_->on(event_);
    }
    void tell_step(step_kind step, task_view task, std::source_location place) noexcept {
        event_.step = step;
        event_.task = task;
        event_.place = place;
        tell(loop_event_kind::step);
    }
    void tell_ready() noexcept;
    void tell_ready(const queue<ready_node>& queue, ready_node*& told) noexcept;
    template <bool Watched>
    static ready_node& take(queue<ready_node>& queue, ready_node*& told) noexcept;
    template <bool Watched>
    void first_step(fiber& f) noexcept;
    void resume(fiber& f) noexcept;
    promise_base* advance(fiber& f) noexcept;
    void end(fiber& f, promise_base* root) noexcept;
    void finish(fiber& f) noexcept;
    void keep_outcome(fiber& f) noexcept;
    void tell_end(fiber& f, scope& home) noexcept;
    enum class verdict : std::uint8_t { run_it, skip_it, end_drain };
    verdict judge_next(queue<ready_node>& queue, ready_node*& told) noexcept;
    [[noreturn]] void report_live_lock();
    bool out_of_steps() noexcept;
    void judge_from_allowance() noexcept;
    void report_storm(const ready_node& last) noexcept;
    void drain() noexcept;
    template <bool Watched>
    void drain_queues() noexcept;
    template <bool Watched>
    bool run_other(queue<ready_node>& queue, ready_node*& told, step_kind what) noexcept;

    void start_watcher(handle_node& node) noexcept;
    void arm(handle_node& node, std::uint32_t slot, delay after) noexcept;
    void activate(handle_node& node) noexcept;
    void deactivated(handle_node& node) noexcept;
    void remove(handle_node& node) noexcept;
    void orphan(handle_node& node) noexcept;
    void orphan_handles() noexcept;
    static bool is_active(const handle_node& node) noexcept;
    static void release(handle_node& node) noexcept;
    static void release_checked(handle_node& node) noexcept;
    void check_new(const handle_node& node, handle_node::sort what) const noexcept;
    static void forget(handle_node& node) noexcept;
    static void set_referenced(handle_node& node, bool referenced) noexcept;
    std::size_t& unreferenced(handle_node::sort what) noexcept;
    ring<handle_node>& watchers(const handle_node& node) noexcept;

    std::uint32_t others_ = 0;       // ticks and explicit microtasks this drain has run
    std::uint32_t judged_from_ = loop::storm_threshold;  // from this one on each is looked at before it runs
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
    observer* observer_ = nullptr;
    loop_event event_{loop_event_kind::phase};  // what it is told: each event sets the fields that its kind has
    // The last node of each queue that the observer has heard of; null if it has of none.
    ready_node* told_tick_ = nullptr;
    ready_node* told_microtask_ = nullptr;
    loop_options options_;
    loop_stats stats_;
    step_limit limit_;

    timer_heap timers_;
    ring<linked_op> immediates_;
    ring<handle_node> idle_, prepare_, check_, stopped_watchers_;
    ring<handle_node> closing_;
    std::vector<io_op*> put_off_, put_off_round_;
    std::size_t immediate_count_ = 0, watcher_count_ = 0;
    std::size_t unref_nodes_ = 0;  // active or not
    std::size_t unref_timers_ = 0, unref_immediates_ = 0, unref_watchers_ = 0;  // active
    std::size_t closing_count_ = 0;
    completions batch_;

    bool (*until_)(void*) = nullptr;  // what ends run_until()
    void* until_context_ = nullptr;
    detail::postponed_cancels postponed_cancels_;
    time_point give_up_at_{};             // of drain_root(): when no task has taken a step until then
    std::uint64_t steps_when_asked_ = 0;
    std::uint64_t bytes_when_asked_ = 0;
    hook<loop::error_hook> error_hook_;
    hook<loop::dead_letter_hook> dead_letter_hook_;
    std::exception_ptr escaped_;
    const void* const thread_;  // whose it is
    const int thread_id_;       // the kernel's number of that thread, for messages
    engine* next_on_thread_ = nullptr;
    engine* next_in_process_ = nullptr;
    std::string why_backend_;
    class left_behind* in_a_child_ = nullptr;  // what takes the place of the backend there
    remote_state* shared_ = nullptr;
    std::unique_ptr<clock_watch> clock_watch_;
    std::source_location remote_place_;  // where remote() was called last
    queue<ready_node> ready_at_fork_;  // in a child: what may not run there
};

}  // namespace rondo::detail
