// What the layers above need of a loop: to make a task ready, to end a wait, to start an operation, to take a task in.
//
// A loop shows three faces. A program sees `loop`. What is built on loops, from tasks to sockets, sees this class,
// and its headers include nothing else of the loop. How a turn goes is known to lib/loop/engine.hpp alone.
//
// All members are for the thread that runs the loop, unless they say otherwise.
#pragma once

#include <rondo/base/time.hpp>
#include <rondo/loop/backend.hpp>
#include <rondo/loop/detail/scope.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <source_location>

namespace rondo {

class loop;
struct dead_letter;

namespace detail {

class RONDO_API scheduler {
 public:
    scheduler(const scheduler&) = delete;
    scheduler& operator=(const scheduler&) = delete;

    /// The scheduler of a loop.
    static scheduler& of(rondo::loop& l) noexcept;
    static const scheduler& of(const rondo::loop& l) noexcept;
    rondo::loop& loop() const noexcept { return loop_; }

    // --- who runs, and what is ready

    /// The task that runs right now; null in a callback.
    fiber* current_fiber() const noexcept { return current_fiber_; }
    /// Finishes `o` with `result`: exactly once, and it only queues.
    void complete(op& o, std::int32_t result) noexcept {
        o.result = result;
        o.state = op::done;
        o.vt->done(o);
    }
    /// Queues a fiber behind everything that is ready.
    void make_ready(fiber& f) noexcept { microtasks_.push(f); }
    void make_ready_as_microtask(fiber& f) noexcept {
        f.what = ready_node::kind::asked_for;
        microtasks_.push(f);
    }
    void make_ready_as_tick(fiber& f) noexcept {
        f.what = ready_node::kind::asked_for;
        ticks_.push(f);
    }
    /// A callback among the ticks or the microtasks.
    void push_tick(ready_node& callback) noexcept { ticks_.push(callback); }
    void push_microtask(ready_node& callback) noexcept { microtasks_.push(callback); }
    /// A wait of `f` was over at once. True: of those it is one in so many, and `f` was queued behind the
    /// others. So a task that never has to wait does not hold off timers and I/O.
    bool let_others_run(fiber& f) noexcept {
        if (--at_once_left_ >= 0) [[likely]]
            return false;
        return queue_behind_others(f);
    }
    /// A cancelled task wants to wait: false, let it go on at once; true, put it behind the others.
    bool refuse_cancelled(fiber& f) noexcept;

    // --- tasks

    /// The scope of the main task, and of what is spawned into no other.
    scope& root() noexcept { return root_; }
    const scope& root() const noexcept { return root_; }
    /// Makes `f` a task of `home`, with what it inherits from the task that runs. Throws bad_alloc; then
    /// `f` is freed.
    void adopt(fiber& f, scope& home) {
        const fiber* const holder = home.holder_;
        constexpr std::uint8_t unusual = fiber::cancel_pending | fiber::checked;
        if (!home.open_wide_ || (holder != nullptr && (holder->inside != &home || holder->flags & unusual)) ||
            (current_fiber_ != nullptr && current_fiber_->more != nullptr)) [[unlikely]]
            return adopt_unusual(f, home);
        enroll(f, home);
        make_ready(f);
    }
    /// Whether tasks remember since when they wait (loop_options::track_waits).
    bool tracks_waits() const noexcept { return tracks_waits_; }
    /// Hands an error that nobody waits for to the loop's hook. `place`: where the task or callback was made.
    void report_unhandled(std::exception_ptr error, std::source_location place) noexcept;
    /// Counts a message that no actor handled, and tells the loop's hook.
    void add_dead_letter(const dead_letter& letter) noexcept;

    // --- time

    /// The time cached at the last look.
    time_point now() const noexcept { return now_; }
    /// Throws bad_alloc, and then the op is not armed. O(log n).
    void add_timer(op& o, time_point deadline);
    void move_timer(op& o, time_point deadline) noexcept;
    void remove_timer(op& o) noexcept;
    /// `o` is completed in the next check phase.
    void add_immediate(linked_op& o) noexcept;
    void remove_immediate(linked_op& o) noexcept;

    // --- the world outside

    /// Starts an I/O op. False: it is under way. True: finished, `o.result` is set.
    bool submit(io_op& o) noexcept {
        if (!backend_->submit(o)) {
            ++armed_io_;
            return false;
        }
        return finish_at_once(o);
    }
    /// For an op that need not be started, as its result is known. True: finished. False: for the sake of the others it
    /// is completed in the next turn.
    bool finish_at_once(io_op& o) noexcept {
        if (--inline_left_ < 0) [[unlikely]]
            return put_off(o);
        return true;
    }
    void cancel(io_op& o) noexcept { backend_->cancel(o); }
    int control(sys_op& o) noexcept { return backend_->control(o); }
    /// Closes `fd` without anyone waiting for it; needs no memory.
    void reap(int fd) noexcept { backend_->reap(fd); }
    backend& io() noexcept { return *backend_; }

    // --- which loop it is

    /// No other loop of this process has it.
    std::uint32_t serial() const noexcept { return serial_; }
    static bool was_simulated(std::uint32_t serial) noexcept { return (serial & simulated_bit) != 0; }
    /// The one of this serial number if its loop still lives on this thread, else null. A handle that may
    /// outlive its loop asks so. O(loops of this thread).
    static scheduler* living(std::uint32_t serial) noexcept;
    /// See loop::left_behind().
    bool left_behind() const noexcept { return left_behind_; }
    /// Under RONDO_DEBUG asserts that `what`, called at `place` if that is known, is on the loop's own thread.
    void check_thread(const char* what, std::source_location place = {}) const noexcept {
        if (debug_enabled) [[unlikely]]
            assert_thread(what, place);
    }
    /// Asserts that this is the loop that runs `what`: another one would never hear of its end.
    void assert_here(const char* what, std::source_location place) const noexcept;

 protected:
    scheduler(rondo::loop& l, scope::ended_hook root_child_ended) noexcept;
    ~scheduler() = default;

    void enroll(fiber& f, scope& home) noexcept {
        f.id = ++next_task_id_;
        f.inside = &home;
        home.tasks_.push_back(f);
        ++home.count_;
    }
    void assert_thread(const char* what, std::source_location place) const noexcept;
    static constexpr std::uint32_t simulated_bit = 0x8000'0000;

    time_point now_{};
    queue<ready_node> ticks_;
    queue<ready_node> microtasks_;
    fiber* current_fiber_ = nullptr;
    std::int32_t inline_left_ = 0;  // I/O that the tasks of this drain may still finish without waiting
    std::int32_t at_once_left_ = 0;  // other waits that may be over at once before a task goes behind the others
    std::uint32_t next_task_id_ = 0;
    std::uint32_t serial_ = 0;
    std::size_t armed_io_ = 0;
    backend* backend_ = nullptr;
    ring<scope> scopes_;  // those that hold tasks
    scope root_;
    rondo::loop& loop_;
    bool tracks_waits_ = false;
    bool left_behind_ = false;

 private:
    bool queue_behind_others(fiber& f) noexcept;
    bool put_off(io_op& o) noexcept;
    void adopt_unusual(fiber& f, scope& home);
};

/// The scheduler of the loop that runs on this thread; null if none does. (initial-exec: a load instead of a call from
/// a shared library)
extern RONDO_API constinit thread_local scheduler* current __attribute__((tls_model("initial-exec")));

/// The scheduler of the loop that runs on this thread; asserts that there is one.
[[nodiscard]] inline scheduler& running() noexcept {
    RONDO_ASSERT(current != nullptr, "no rondo loop runs on this thread");
    return *current;
}

/// The usual `done` of an op's vtable: makes the owner ready.
RONDO_API void wake_owner(op& o) noexcept;

}  // namespace detail
}  // namespace rondo
