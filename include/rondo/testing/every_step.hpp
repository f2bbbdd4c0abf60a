// For tests: runs a program again and again, and lets it go wrong at another point each time.
//
//     const auto report = rondo::testing::cancel_at_every_step(program);
//     CHECK(report.ok());  // in the words of any test framework
//     std::puts(report.text().c_str());
//
// A step is what the loop runs in one go: a task from where it was resumed to its next suspension point,
// or a callback. Between two steps nothing runs, so a cancel after the first, the second, ... step meets
// every state in which the program can ever be cancelled. After each run nothing may be left.
//
// Each run has a loop of its own, on the thread of the caller, on which no other loop may be running.
// The program is called anew for each, and must do the same each time; it ends by itself if nobody
// cancels it. `observer`, hence these functions, cost nothing in any other run.
#pragma once

#include <rondo/loop/loop.hpp>
#include <rondo/task/spawn.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace rondo::testing {

/// How a program is run again and again.
struct every_step_options {
    loop_options loop = {};  // of each run; `observer` must be null
    delay time_limit = std::chrono::seconds(60);  // of the loop's clock: a longer run hangs, and is a failure
    std::size_t most_runs = 100'000;              // then the search ends, and that is a failure
};

/// What came of it.
struct every_step_report {
    std::size_t runs = 0;
    std::size_t points = 0;  // at which a run was cancelled, or an allocation failed
    std::vector<std::string> failures;  // of which run, and what was wrong; the search ends at the tenth

    bool ok() const noexcept { return runs != 0 && failures.empty(); }
    /// "17 runs, 8 points", and a line for each failure.
    RONDO_API std::string text() const;
};

namespace every_step {

/// A program, and what to do after each run of it, of whatever types.
struct subject {
    detail::fiber& (*start)(detail::scheduler& on, void* function);
    void* function;
    void (*check)(void* after_run);
    void* after_run;
};

RONDO_API every_step_report cancel_at_every_step(const subject& program, const every_step_options& options);
RONDO_API every_step_report fail_each_allocation(const subject& program, const every_step_options& options);

/// Both by reference.
template <class Program, class Check>
subject subject_of(Program& program, Check& after_run) noexcept {
    static_assert(std::is_invocable_v<Program&>, "the program is a function without parameters that gives a task");
    static_assert(std::is_invocable_v<Check&>, "the check is a function without parameters");
    const auto start = [](detail::scheduler& on, void* p) -> detail::fiber& {
        return detail::make_child(on.root(), {}, *static_cast<Program*>(p));
    };
    const auto check = [](void* c) { static_cast<void>((*static_cast<Check*>(c))()); };
    return {start, std::addressof(program), check, std::addressof(after_run)};
}

/// Checks nothing after a run.
struct no_check {
    void operator()() const noexcept {}
};

}  // namespace every_step

/// Runs `program()`, which gives a task<T>, as a main task and cancels it after the n-th step of the run,
/// for n = 0, 1, ... until it ends before its turn comes. Each n but 0 has two runs: one is cancelled
/// right there, so its waits have only just begun; the other when the loop has looked at the outside
/// once more, so that they are under way. A failure is: the main task ends with an error, or not at all; a
/// task that nobody holds fails, but for a system_error after the main task was cancelled or has ended (a
/// helper whose peer is gone); anything is left of the run: a task, an operation, a timer, a frame or block
/// of the pool, a descriptor; a semaphore went without permits that it was made with.
/// `after_run()` is called after each run, for what else must hold: that permits are back, bytes
/// accounted for. What it throws is a failure; or it uses the checks of your framework.
template <class Program, class Check = every_step::no_check>
    requires std::is_invocable_v<Check&>
[[nodiscard]] every_step_report cancel_at_every_step(Program program, Check after_run = {},
                                                     const every_step_options& options = {}) {
    return every_step::cancel_at_every_step(every_step::subject_of(program, after_run), options);
}
template <class Program>
[[nodiscard]] every_step_report cancel_at_every_step(Program program, const every_step_options& options) {
    return cancel_at_every_step(std::move(program), every_step::no_check{}, options);
}

/// Runs `program()` and lets the n-th allocation of a frame, a spawned task or a callback fail with
/// bad_alloc, for n = 1, 2, ... until a run needs fewer. The program may fail, with any error, or cope.
/// After each such run nothing may be left, as above, and one more run must succeed. What the
/// program allocates otherwise (strings, vectors) is not reached.
template <class Program, class Check = every_step::no_check>
    requires std::is_invocable_v<Check&>
[[nodiscard]] every_step_report fail_each_allocation(Program program, Check after_run = {},
                                                     const every_step_options& options = {}) {
    return every_step::fail_each_allocation(every_step::subject_of(program, after_run), options);
}
template <class Program>
[[nodiscard]] every_step_report fail_each_allocation(Program program, const every_step_options& options) {
    return fail_each_allocation(std::move(program), every_step::no_check{}, options);
}

}  // namespace rondo::testing
