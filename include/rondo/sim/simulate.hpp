// A scenario in many worlds: one for each seed, until one fails; then how to have it again.
//
//     rondo::simulate(rondo::seeds(1000), [](rondo::world& w) -> rondo::task<> {
//         w.host("srv").run(app);
//         co_await echo_client(w);
//     });
//
// Works with any test framework: simulate() throws, explore() gives a report. For doctest there is
// testing/doctest.hpp. The environment has the last word: docs/sim.md lists RONDO_SIM_*.
#pragma once

#include <rondo/sim/replay.hpp>
#include <rondo/sim/world.hpp>

#include <cstdint>
#include <exception>
#include <string>
#include <vector>

namespace rondo {

/// Which worlds, and what to do in them. Trivially copyable on purpose; texts must outlive the call.
struct simulation {
    const char* name = "simulation";  // for messages and file names
    std::uint64_t first_seed = 0;
    std::uint64_t runs = 100;
    bool every_choice = false;  // instead of seeds, search within `limits`; `runs` at most
    search_limits limits = {};
    order mode = order::spec;
    std::uint64_t step_limit = 10'000'000;
    bool check = false;             // each run twice: they must be the same
    bool shrink = false;            // a failure is reduced to what it needs
    const char* trace_folder = "";  // where the log of a failed run goes, and how it looked; "": nowhere
    /// How it looked: it is made once more, recorded (docs/observe.md), without `watch`.
    bool timeline = true;
    const char* replay = "";        // a log to replay instead
    bool go_on = false;             // a replay that diverges goes on, all benign, instead of failing
    /// How many failures the test framework has seen so far: a run in which that grows has failed, and ends
    /// after the step. Null: only what is thrown is a failure.
    std::uint64_t (*failures)(void* context) = nullptr;
    void* context = nullptr;
    /// Called before and after a run that has failed is made again, to be recorded or shrunk: what its checks say
    /// then has been said before. Null: nobody wants to know.
    void (*again)(bool begins, void* context) = nullptr;
    const char* command = "";  // what to say behind RONDO_SIM_SEED=...: program and arguments
    world_observer* watch = nullptr;
};

/// `runs` seeds, from `first` on.
[[nodiscard]] constexpr simulation seeds(std::uint64_t runs, std::uint64_t first = 0) noexcept {
    simulation s;
    s.runs = runs;
    s.first_seed = first;
    return s;
}
/// Every way in which the world could decide, within limits. For small scenarios.
[[nodiscard]] constexpr simulation every_choice(const search_limits& limits = {},
                                                std::uint64_t at_most = 100'000) noexcept {
    simulation s;
    s.every_choice = true;
    s.limits = limits;
    s.runs = at_most;
    return s;
}

/// What became of it.
struct [[nodiscard]] simulation_report {
    std::uint64_t runs = 0;        // that were made, shrinking and checking not counted
    bool failed = false;           // the rest is about the run that failed, which was the last
    std::uint64_t seed = 0;
    std::exception_ptr error;      // null if the test framework, or RONDO_ALWAYS or RONDO_SOMETIMES, saw it
    std::string message;           // of one line or several: what, where, and how to have it again
    std::uint64_t event_hash = 0;  // of the last run
    decision_log decisions;        // of the run that failed; shrunk if that was asked for
    std::string trace_file;        // where they are; empty if nowhere
    std::string timeline_file;     // its timeline, for a browser
    std::string chrome_file;       // the same for ui.perfetto.dev
};

/// A simulation failed; what() is simulation_report::message. The error itself is nested in it.
class RONDO_API simulation_failed : public std::runtime_error {
 public:
    explicit simulation_failed(const std::string& message);
    ~simulation_failed() override;
};

namespace detail {

struct scenario {
    virtual task<> run(world& w) = 0;

 protected:
    ~scenario() = default;
};
template <class F>
struct scenario_of final : scenario {
    explicit scenario_of(F& f) noexcept : fn(f) {}
    task<> run(world& w) override { return fn(w); }
    F& fn;
};

RONDO_API simulation_report explore(const simulation& what, scenario& in);
[[noreturn]] RONDO_API void throw_failed(const simulation_report& report);
RONDO_API decision_log shrink(const simulation& what, scenario& in, const decision_log& failing, std::uint64_t runs);

}  // namespace detail

/// Runs `scenario(world&)`, which gives a task<>, in one world after the other, until one fails: throws as
/// world::run() does, breaks a RONDO_ALWAYS, or leaves frames, tasks or callbacks behind when its world is gone.
/// Throws io_error for what the environment asks for and cannot be had.
template <class F>
simulation_report explore(const simulation& what, F&& scenario) {
    detail::scenario_of<std::remove_reference_t<F>> in(scenario);
    return detail::explore(what, in);
}

/// The same; throws simulation_failed, with the error nested in it, when one fails.
template <class F>
void simulate(const simulation& what, F&& scenario) {
    const simulation_report report = explore(what, scenario);
    if (report.failed) detail::throw_failed(report);
}

/// Turns decisions of `failing` back to benign as long as the scenario fails in the same way (the same type
/// of error), in at most `runs` runs. Gives the log of the last run that failed.
template <class F>
decision_log shrink(const simulation& what, const decision_log& failing, F&& scenario, std::uint64_t runs = 2000) {
    detail::scenario_of<std::remove_reference_t<F>> in(scenario);
    return detail::shrink(what, in, failing, runs);
}

}  // namespace rondo
