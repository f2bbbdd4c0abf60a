// A scenario in many worlds: a benign one, and one for each seed, until one fails; then how to have it again.
//
//     rondo::simulate(rondo::seeds(1000), [](rondo::world& w) -> rondo::task<> {
//         w.host("srv").run(app);
//         co_await echo_client(w);
//     });
//
// Works with any test framework: simulate() throws, or says on standard error how many worlds there were; explore()
// gives a report. For doctest there is testing/doctest.hpp. The environment has the last word: docs/sim.md lists
// RONDO_SIM_*.
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
    std::uint64_t first_seed = 0;     // of `runs`, one after the other
    std::uint64_t runs = 100;  // seeds; of more than one, the benign world comes first
    bool every_choice = false;  // instead of seeds, search within `limits`; `runs` at most
    search_limits limits = {};
    order mode = order::spec;   // in which order ready tasks run
    std::uint64_t step_limit = 10'000'000;
    bool slow_hosts = true;         // a fault of every world: world_options::slow_hosts
    bool check = false;             // each run twice: they must be the same
    bool shrink = false;            // a failure is reduced to what it needs
    bool quiet = false;             // simulate() says nothing when no world has failed
    bool all_logs = false;          // the log of every run is shown, not only of the one that fails
    const char* trace_folder = "";  // where the log of a failed run goes, and how it looked; "": nowhere
    /// How it looked: it is made once more, recorded (docs/observe.md), without `observer`.
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
    world_observer* observer = nullptr;
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
    s.slow_hosts = false;  // a choice for each call: too many to try all
    s.limits = limits;
    s.runs = at_most;
    return s;
}

/// What happened in some worlds.
struct RONDO_API simulation_counts {
    std::uint64_t worlds = 0;       // with the benign one; shrinking and checking not counted
    duration virtual_time{};        // of all of them together
    std::uint64_t packets_lost = 0;  // between hosts, by the quality of links
    std::uint64_t packets_copied = 0;  // which arrive twice
    std::uint64_t packets_overtaken = 0;  // by later ones
    std::uint64_t shortages = 0;    // calls that failed for lack of something
    std::uint64_t slow_calls = 0;   // of slow hosts

    simulation_counts& operator+=(const simulation_counts& more) noexcept;
    /// "1 h 12 min of virtual time; 1240 packets lost, 88 slow calls"
    std::string text() const;
};

/// What became of it.
struct [[nodiscard]] simulation_report {
    std::uint64_t runs = 0;        // that were made; the benign world in front, shrinking and checking not counted
    simulation_counts counts;
    std::string message;           // of one line or several: how many worlds there were; or what failed, where, and
                                   // how to have it again
    bool failed = false;           // the rest is about the run that failed, which was the last
    std::uint64_t seed = 0;
    bool benign = false;           // no fault is needed: it fails in the benign world
    std::exception_ptr error;      // null if the test framework, or RONDO_ALWAYS or RONDO_SOMETIMES, saw it
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
/// Throws simulation_failed, or says the message.
RONDO_API void conclude(const simulation& what, const simulation_report& report);
/// A line for standard error, unless RONDO_SIM_QUIET is on.
RONDO_API void say(const std::string& line) noexcept;
RONDO_API decision_log shrink(const simulation& what, scenario& in, const decision_log& failing, std::uint64_t runs);

}  // namespace detail

/// Runs `scenario(world&)`, which gives a task<>, in one world after the other, until one fails: throws as
/// world::run() does, breaks a RONDO_ALWAYS, or leaves frames, tasks or callbacks behind when its world is gone. The
/// first world is the benign one, in which nothing goes wrong. What the library logs in a run goes to standard error
/// when the run has failed; a sink of your own (set_log_sink) gets it at once.
/// Throws io_error for what the environment asks for and cannot be had.
template <class F>
simulation_report explore(const simulation& what, F&& scenario) {
    detail::scenario_of<std::remove_reference_t<F>> in(scenario);
    return detail::explore(what, in);
}

/// The same; throws simulation_failed, with the error nested in it, when one fails. When none does, a line on standard
/// error says so, but for simulation::quiet and RONDO_SIM_QUIET=1.
template <class F>
void simulate(const simulation& what, F&& scenario) {
    detail::conclude(what, explore(what, scenario));
}

/// Turns decisions of `failing` back to benign as long as the scenario fails in the same way (the same type
/// of error), in at most `runs` runs. Gives the log of the last run that failed.
template <class F>
decision_log shrink(const simulation& what, const decision_log& failing, F&& scenario, std::uint64_t runs = 2000) {
    detail::scenario_of<std::remove_reference_t<F>> in(scenario);
    return detail::shrink(what, in, failing, runs);
}

}  // namespace rondo
