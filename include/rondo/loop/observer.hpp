// What a loop tells an observer: an event for each thing that happens in it.
#pragma once

#include <rondo/base/time.hpp>
#include <rondo/loop/phase.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string_view>

namespace rondo {

namespace detail {
struct fiber;
}

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
    /// Writes the lines of its awaits, the innermost first, the library's own as well. Gives how many these are, `most`
    /// at most.
    std::size_t sites(std::source_location* into, std::size_t most) const noexcept;
    /// The outermost of them that is the program's own: in the function that the task runs. Line 0 if there is none.
    std::source_location root() const noexcept;
    /// Writes what it waits for, cut at `room`, with a zero behind. Gives how long that is; 0 if it waits for nothing.
    std::size_t waits_for(char* text, std::size_t room) const noexcept;
    /// When a step begins: how the wait has ended from which the task goes on. At least 0 is a value, less is -errno;
    /// -ECANCELED: it was cancelled.
    std::int32_t result() const noexcept;
    /// When it has ended with an error: writes what that says, as waits_for() does, and gives how long it is.
    std::size_t error(char* text, std::size_t room) const noexcept;
    /// When it has ended with an error: the innermost await of the program that the error came through. Line 0 where
    /// that is unknown.
    std::source_location failed_at() const noexcept;

 private:
    const detail::fiber* f_;
};

/// What happened; the comments tell which fields of a loop_event say more about it. In each of them `when` is the time
/// of the loop (its cached one) if it is named, and nothing else means anything.
enum class loop_event_kind : std::uint8_t {
    phase,  // phase, when: the loop has entered this phase; none: run() is over
    polled,  // count, when: the wait for the outside is over, and has brought so many completions
    timers_due,  // due, when: timers are due, the first of them since `due`
    spawned,  // task: it is new, and ready for its first step
    ready,  // task: it was woken by the step that runs or, between two steps, by the phase
    step,  // step, task, place: a step begins
    waits,  // task: its step is nearly over, and it waits
    ended,  // task, ending: it has ended, in its step or, if it was cancelled before its first one, without any
    step_end,  // nothing: the step that began last is over
};

/// What runs in a step: a callback of a phase (a post of another thread is one of the pending phase), a callback of the
/// tick or the microtask queue, or a task, whichever way it was woken.
enum class step_kind : std::uint8_t { callback, tick, microtask, task };

enum class task_ending : std::uint8_t { value, error, cancelled };

/// One thing that happened in a loop, as its observer is told. Which fields mean something depends on `kind`; the
/// others are what an earlier event has left in them.
struct loop_event {
    loop_event_kind kind;
    rondo::phase phase = rondo::phase::none;
    step_kind step = step_kind::callback;
    task_ending ending = task_ending::value;
    std::uint32_t count = 0;
    task_view task = task_view();  // of a step that is a callback: number 0
    std::source_location place = {};  // where a task goes on: its innermost await; or where a callback was made
    time_point when = {};
    time_point due = {};
};

static_assert(sizeof(loop_event) <= 48, "an event costs each watched step several times its stores");

/// How much time a task has had, as far as an observer knows (observe/task_times.hpp).
struct task_time {
    duration cpu{};  // of the processor, in all its steps
    duration longest{};  // its longest step, by the loop's clock: so long it has held up the others
    std::source_location longest_from = {};  // where that one went on; if it was the first, where the task was spawned
    std::uint64_t steps = 0;
};

/// Is told what a loop does, as soon as it does it; see loop_options::observer. It costs nothing while there is none.
/// docs/observe.md has the observers that come with rondo.
class RONDO_API observer {
 public:
    virtual ~observer();
    /// Called on the thread of the loop, in the middle of its work: it must neither call the loop nor throw. The event,
    /// and the task it shows, are valid during the call. What happens in a step is told between its `step` and its
    /// `step_end`, and what the step has made ready at its end.
    virtual void on(const loop_event& e) noexcept = 0;
    /// What it knows of the time of a task that lives, for the await tree. False: nothing, as most of them.
    virtual bool time_of(std::uint32_t task, task_time& into) const noexcept;
};

}  // namespace rondo
