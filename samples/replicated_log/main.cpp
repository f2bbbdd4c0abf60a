// A replicated log on three nodes: simulated in bad worlds (--seeds N), one of them told line by line (--seed S),
// with a bug to find (--bug NAME), or on real sockets (--real).
#include "../options.hpp"
#include "real.hpp"
#include "scenario.hpp"

#include <rondo/sim/simulate.hpp>

#include <string>
#include <utility>

using namespace replicated;
using rondo::task;

namespace {

constexpr std::pair<const char*, bug> bugs[] = {
    {"none", bug::none},
    {"vote-twice", bug::vote_twice},
    {"commit-old-term", bug::commit_old_term},
    {"ack-before-majority", bug::ack_before_majority},
    {"no-dedup", bug::no_dedup},
};

bug bug_named(const sample::options& given, const std::string& name) {
    for (const auto& [known, which] : bugs)
        if (name == known) return which;
    given.fail("--bug takes none, vote-twice, commit-old-term, ack-before-majority or no-dedup, not '" + name + "'");
}

/// What to do in which worlds.
struct task_given {
    std::uint64_t first = 0, seeds = 1;
    std::string bug_name;
    plan what;
};

/// Every seed in one mode, until one fails. Gives whether one did.
bool fails(rondo::order mode, const task_given& given) {
    const char* const mode_name = mode == rondo::order::chaos ? "chaos" : "spec";
    const std::string command = "samples/run replicated_log --bug " + given.bug_name + " --mode " + mode_name;
    rondo::simulation how = rondo::seeds(given.seeds, given.first);
    how.name = "replicated_log";
    how.mode = mode;
    how.step_limit = 500'000;
    how.shrink = given.what.with != bug::none && !given.what.tell;
    const auto run = [&given](rondo::world& w) { return scenario(w, given.what); };
    const rondo::simulation_report report = rondo::explore(how, run);
    if (report.failed && report.benign) {
        std::printf("%s: a benign world fails\n%s\n  told:  RONDO_SIM_SEED=benign %s --seed 0\n", mode_name,
                    report.message.c_str(), command.c_str());
    } else if (report.failed) {
        std::printf("%s: world %lu of %lu fails\n%s\n  told:  %s --seed 0x%lx\n", mode_name, report.runs, given.seeds,
                    report.message.c_str(), command.c_str(), report.seed);
    } else {
        std::printf("%s: %lu worlds, %lu appends, each acknowledged and applied once on every node\n", mode_name,
                    report.runs, report.runs * clients * appends_each);
    }
    return report.failed;
}

}  // namespace

int main(int argc, char** argv) {
    sample::options given(
        argc, argv,
        "  --seeds N        so many bad worlds, and as many in chaos (500)\n"
        "  --seed S         this one, and what happens in it\n"
        "  --mode NAME      spec, chaos or both (both; with --seed spec)\n"
        "  --bug NAME       vote-twice, commit-old-term, ack-before-majority, no-dedup or none (none)\n"
        "  --real           instead: three nodes on sockets of 127.0.0.1\n"
        "  --backend NAME   of --real: auto, epoll, uring or sim (auto)\n");
    const bool real = given.flag("--real");
    const bool one = given.has("--seed");
    task_given todo;
    todo.first = given.seed("--seed", 0);
    todo.seeds = one ? 1 : static_cast<std::uint64_t>(given.number("--seeds", 500, 1, 10'000'000));
    todo.bug_name = given.text("--bug", "none");
    todo.what = {bug_named(given, todo.bug_name), one};
    const std::string mode = given.text("--mode", one ? "spec" : "both");
    if (mode != "spec" && mode != "chaos" && mode != "both")
        given.fail("--mode takes spec, chaos or both, not '" + mode + "'");
    rondo::loop_options options;
    options.kind = given.backend();
    given.done();

    if (real) {
        rondo::loop loop(options);
        return rondo::run_on(loop, real_run, 10) ? 0 : 1;
    }
    bool failed = false;
    if (mode != "chaos") failed = fails(rondo::order::spec, todo);
    if (mode != "spec" && !failed) failed = fails(rondo::order::chaos, todo);
    const bool expected = todo.what.with != bug::none;
    return failed == expected || one ? 0 : 1;
}
