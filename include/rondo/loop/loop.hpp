// The event loop: one thread, phases in libuv's order (phase.hpp), microtasks after every callback.
//
// All members are for the thread that runs the loop, unless they say otherwise.
#pragma once

#include <rondo/base/time.hpp>
#include <rondo/loop/backend.hpp>
#include <rondo/loop/detail/callback.hpp>
#include <rondo/loop/detail/scheduler.hpp>
#include <rondo/loop/handle.hpp>
#include <rondo/loop/observer.hpp>
#include <rondo/loop/phase.hpp>
#include <rondo/loop/remote.hpp>
#include <rondo/loop/stats.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

namespace rondo {

struct loop_options {
    backend_kind kind = backend_kind::automatic;  // automatic: RONDO_BACKEND decides, else the best
    backend_options backend = {};
    backend_factory* factory = nullptr;  // makes the backend, whatever `kind` says; only used while the loop is made
    rondo::observer* observer = nullptr;  // is told what the loop does (observer.hpp); must outlive the loop
    /// On `sim`: what one run() or run_on() may take within one second of its time, in turns and steps of tasks and
    /// callbacks, until it is said to be stuck in a live-lock (livelock_error); altogether, a hundred times as many.
    /// RONDO_SIM_STEPS goes before it, unless this is no_step_limit. Without effect for a host of a world.
    std::uint64_t step_limit = 10'000'000;
    static constexpr std::uint64_t no_step_limit = ~std::uint64_t{0};
    /// Tasks remember since when they wait, for the await tree (docs/await_tree.md tells what it costs).
    bool track_waits = false;
    /// While so many posts wait, remote::try_post() gives `full`.
    std::size_t post_limit = 65'536;
    /// For run_main(): SIGINT and SIGTERM cancel the main task when nobody else listens for them.
    bool cancel_on_signals = true;
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
        scheduler_.check_thread("next_tick", place);
        scheduler_.push_tick(detail::make_callback(std::forward<F>(f), place));
    }
    /// Runs `f` after the current callback and its ticks.
    template <class F>
    void queue_microtask(F&& f, std::source_location place = std::source_location::current()) {
        scheduler_.check_thread("queue_microtask", place);
        scheduler_.push_microtask(detail::make_callback(std::forward<F>(f), place));
    }
    /// Runs `f` in the next check phase; from an immediate, that of the next turn.
    template <class F>
    immediate_handle set_immediate(F&& f, std::source_location place = std::source_location::current()) {
        return start_immediate(detail::make_handle_node(std::forward<F>(f), place));
    }
    /// Runs `f` once, in the first timers phase at or after `after` from the cached time. Negative
    /// is zero; zero is the next timers phase, never the running one.
    template <class F>
    timer set_timeout(delay after, F&& f, std::source_location place = std::source_location::current()) {
        return start_timer(detail::make_handle_node(std::forward<F>(f), place), after);
    }
    /// Runs `f` every `period`, counted from the start of its last run: a late loop skips what it
    /// missed, there is no burst. The lateness of each run adds up: it drifts against the clock. A period below 1 ns is
    /// 1 ns: once a turn.
    template <class F>
    timer set_interval(delay period, F&& f, std::source_location place = std::source_location::current()) {
        return start_interval(detail::make_handle_node(std::forward<F>(f), place), period);
    }
    /// Runs `f` in every turn, in the phase of that name. An idle watcher makes poll return at once.
    template <class F>
    watcher on_idle(F&& f, std::source_location place = std::source_location::current()) {
        return start_watcher(detail::make_handle_node(std::forward<F>(f), place), phase::idle);
    }
    template <class F>
    watcher on_prepare(F&& f, std::source_location place = std::source_location::current()) {
        return start_watcher(detail::make_handle_node(std::forward<F>(f), place), phase::prepare);
    }
    template <class F>
    watcher on_check(F&& f, std::source_location place = std::source_location::current()) {
        return start_watcher(detail::make_handle_node(std::forward<F>(f), place), phase::check);
    }
    /// Runs `f` in the close phase of this turn (the next one, from a close callback). The newest
    /// runs first, as in libuv.
    template <class F>
    void queue_close(F&& f, std::source_location place = std::source_location::current()) {
        start_close(detail::make_handle_node(std::forward<F>(f), place));
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
    bool running() const noexcept;
    /// Whether stop() ended the latest run(), run_on() included.
    bool stopped() const noexcept;
    /// Whether this is the copy of a parent's loop that a forked child has: good for dropping what belongs to it,
    /// and for nothing else (docs/loop.md).
    bool left_behind() const noexcept;

    // --- embedding in another loop ---------------------------------------------------------------

    /// Readable when run_nowait() would find something; -1 if the backend has none (`sim`). With
    /// next_deadline() it is all a foreign loop needs: wait for either, then run_nowait().
    int poll_fd();
    /// When the loop wants to run next if nothing arrives: now() or earlier if work is queued, the
    /// earliest timer, or `never`.
    time_point next_deadline() const noexcept;

    // --- time ---------------------------------------------------------------------------------

    /// The time cached at the last look: after poll, before timers, and by update_now().
    time_point now() const noexcept { return scheduler_.now(); }
    void update_now(std::source_location place = std::source_location::current()) noexcept;
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
    backend_kind kind() const noexcept;
    /// The phase that runs, or ran last.
    phase current_phase() const noexcept;

    /// Called with what a callback, or a task nobody holds, has thrown, and where that was made.
    /// The default prints it and ends the process. After it returned the loop goes on as usual; what
    /// it throws ends run(), after this turn. Only one exception can: what it throws for further errors
    /// of the turn, or while run() unwinds the last tasks, is logged (level error).
    using error_hook = void (*)(std::exception_ptr error, std::source_location place, void* context);
    void on_unhandled(error_hook hook, void* context = nullptr) noexcept;
    /// Any callable instead, as f(error, place). The loop keeps it until it gets another hook, or ends.
    /// Throws bad_alloc.
    template <std::invocable<std::exception_ptr, std::source_location> F>
    void on_unhandled(F f) {
        auto kept = std::make_shared<F>(std::move(f));
        void* const context = kept.get();
        const error_hook hook = [](std::exception_ptr error, std::source_location place, void* callable) {
            (*static_cast<F*>(callable))(std::move(error), place);
        };
        on_unhandled(hook, context, std::move(kept));
    }

    /// Called with each dead letter, after it was counted (loop_stats::dead_letters). It must not throw, and
    /// must not touch the actor. Null, the default, only counts.
    using dead_letter_hook = void (*)(const dead_letter& letter, void* context) noexcept;
    void on_dead_letter(dead_letter_hook hook, void* context = nullptr) noexcept;
    /// Any callable instead, as f(letter), which is kept likewise. Throws bad_alloc.
    template <std::invocable<const dead_letter&> F>
    void on_dead_letter(F f) {
        auto kept = std::make_shared<F>(std::move(f));
        void* const context = kept.get();
        const dead_letter_hook hook = [](const dead_letter& letter, void* callable) noexcept {
            (*static_cast<F*>(callable))(letter);
        };
        on_dead_letter(hook, context, std::move(kept));
    }

 private:
    friend class detail::scheduler;
    void on_unhandled(error_hook hook, void* context, std::shared_ptr<void> kept) noexcept;
    void on_dead_letter(dead_letter_hook hook, void* context, std::shared_ptr<void> kept) noexcept;
    timer start_timer(detail::handle_node& node, delay after);
    timer start_interval(detail::handle_node& node, delay period);
    immediate_handle start_immediate(detail::handle_node& node) noexcept;
    watcher start_watcher(detail::handle_node& node, phase in) noexcept;
    void start_close(detail::handle_node& node) noexcept;

    detail::scheduler& scheduler_;  // it is the engine, which the loop owns
};

/// The loop that runs on this thread; asserts that there is one.
[[nodiscard]] inline loop& this_loop() noexcept { return detail::running().loop(); }

/// 64 random bits; on `sim` they come from the oracle, so that a run can be replayed.
[[nodiscard]] inline std::uint64_t random_u64() noexcept { return detail::running().io().random(); }

}  // namespace rondo
