// Runs one after the other: what decides in each, what counts as a failure, and what is kept of it.
#include <rondo/sim/simulate.hpp>

#include <rondo/sim/buggify.hpp>
#include <rondo/observe/chrome_trace.hpp>
#include <rondo/observe/timeline.hpp>
#include <rondo/sync/semaphore.hpp>

#include <rondo/base/detail/pool.hpp>

#include "base/environment.hpp"
#include "loop/places.hpp"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <typeinfo>
#include <utility>

namespace rondo {

simulation_failed::simulation_failed(const std::string& message) : runtime_error(message) {}
simulation_failed::~simulation_failed() = default;

namespace detail {
namespace {

// --- places of the program: buggify, always, sometimes --------------------------------------------

/// What one run knows about a RONDO_BUGGIFY().
struct switched {
    const sim_site* site;
    bool on;
};

/// What all runs know about a RONDO_SOMETIMES.
struct seen {
    const sim_site* site;
    bool held;
};

/// The run that is being made on this thread.
struct run_state {
    oracle& decisions;
    std::vector<switched> buggified;
    const sim_site* broken = nullptr;  // the first RONDO_ALWAYS that did not hold
};

constinit thread_local run_state* this_run = nullptr;
constinit thread_local std::vector<seen>* all_seen = nullptr;

}  // namespace

bool buggify(const sim_site& site) noexcept {
    if (this_run == nullptr) return false;
    constexpr std::uint32_t quarter = 250'000;
    auto& known = this_run->buggified;
    auto at = std::find_if(known.begin(), known.end(), [&](const switched& s) { return s.site == &site; });
    if (at == known.end()) {
        const bool on = this_run->decisions.happens(choice::buggify, quarter);
        try {
            at = known.insert(known.end(), {&site, on});
        } catch (const std::bad_alloc&) {
            return false;
        }
    }
    return at->on && this_run->decisions.happens(choice::buggify, quarter);
}

void observe(const sim_site& site, bool holds) noexcept {
    if (this_run == nullptr) return;
    if (site.always) {
        if (!holds && this_run->broken == nullptr) this_run->broken = &site;
        return;
    }
    if (all_seen == nullptr) return;
    auto at = std::find_if(all_seen->begin(), all_seen->end(), [&](const seen& s) { return s.site == &site; });
    try {
        if (at == all_seen->end()) at = all_seen->insert(all_seen->end(), {&site, false});
        at->held |= holds;
    } catch (const std::bad_alloc&) {  // then it was not seen
    }
}

namespace {

// --- one run --------------------------------------------------------------------------------------

std::string place_of(const sim_site& site) { return at_place(site.place); }

std::string hex(std::uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%" PRIx64, value);
    return text;
}

struct outcome_of_run {
    bool failed = false;
    std::exception_ptr error;
    std::string kind;  // the same for the same sort of failure
    std::string message;
    std::uint64_t hash = 0;
    decision_log log;
};

/// What ends a run after a step.
struct stop_signs {
    const simulation& what;
    const run_state& state;
    const replay_oracle* strict;  // null: no replay, or one that may diverge
    std::uint64_t failures_before;

    bool check_failed() const {
        return what.failures != nullptr && what.failures(what.context) != failures_before;
    }
    static bool up(void* self) {
        const auto& signs = *static_cast<stop_signs*>(self);
        return signs.state.broken != nullptr || (signs.strict != nullptr && signs.strict->diverged()) ||
               signs.check_failed();
    }
};

outcome_of_run run_once(const simulation& what, scenario& in, oracle& decides, decision_log::origin from,
                        std::uint64_t seed, const replay_oracle* strict = nullptr) {
    outcome_of_run out;
    out.log.from = from;
    out.log.seed = seed;
    out.log.mode = what.mode;
    out.log.name = what.name;
    recording_oracle recording(decides, out.log);
    run_state state{recording, {}, nullptr};
    stop_signs signs{what, state, strict, what.failures != nullptr ? what.failures(what.context) : 0};
    world_options options;
    options.decisions = &recording;
    options.mode = what.mode;
    options.step_limit = what.step_limit;
    options.failed = &stop_signs::up;
    options.context = &signs;
    options.watch = what.watch;

    const std::size_t frames = frames_live();
    const std::size_t permits = permits_lost().count;
    run_state* const outer = std::exchange(this_run, &state);
    bool ended_early = false;
    std::string host;
    {
        world w(options);
        try {
            const auto body = [](scenario& s, world& its) { return s.run(its); };
            w.run(body, std::ref(in), std::ref(w));
        } catch (...) {
            out.error = std::current_exception();
        }
        ended_early = w.ended_early();
        host = w.failed_host();
        out.hash = w.hash();
    }
    this_run = outer;
    out.log.event_hash = out.hash;

    if (state.broken != nullptr) {
        out.error = nullptr;
        out.kind = out.message = std::string("always: ") + state.broken->message;
        out.message += " - not so" + place_of(*state.broken);
    } else if (strict != nullptr && strict->diverged()) {
        out.error = nullptr;
        out.kind = "divergence";
        out.message = "the run diverges from its log at " + strict->divergence();
    } else if (ended_early || signs.check_failed()) {
        out.error = nullptr;
        out.kind = out.message = "a check of the test failed";
    } else if (out.error) {
        out.kind = out.error.__cxa_exception_type()->name();
        out.message = message_of(out.error);
        if (!host.empty()) out.message += "\n  in a program of host " + host;
    } else if (frames_live() != frames) {
        out.kind = "leak";
        out.message = "left when the world was gone: " + std::to_string(frames_live() - frames) +
                      " frames, tasks or callbacks (a handle that outlives the scenario?)";
    } else if (const std::string lost = permits_lost().since(permits); !lost.empty()) {
        out.kind = "leak";
        out.message = lost;
    }
    out.failed = !out.kind.empty();
    return out;
}

outcome_of_run run_log(const simulation& what, scenario& in, const decision_log& log, replay_oracle::mode how,
                       bool strict) {
    simulation same = what;
    same.mode = log.mode;
    replay_oracle decides(log, how);
    return run_once(same, in, decides, log.from, log.seed, strict ? &decides : nullptr);
}

/// Where two logs part, for whom nothing should have changed.
std::string difference(const decision_log& one, const decision_log& other) {
    decision_log::reader a(one);
    decision_log::reader b(other);
    const auto written = [](bool there, const logged_choice& d) {
        if (!there) return std::string("nothing more");
        return std::string(name_of(d.point)) + " " + std::to_string(d.taken) + " of " + std::to_string(d.alternatives);
    };
    for (std::uint64_t i = 1;; ++i) {
        logged_choice first{};
        logged_choice second{};
        const bool more = a.next(first);
        const bool more_too = b.next(second);
        if (!more && !more_too) return "the same decisions led to other events";
        if (more != more_too || !(first == second))
            return "choice " + std::to_string(i) + " was " + written(more, first) + ", then " + written(more_too, second);
    }
}

// --- the environment ------------------------------------------------------------------------------

bool is_on(const char* text) noexcept { return std::strcmp(text, "0") != 0; }

simulation with_environment(simulation what) {
    if (const char* text = variable("RONDO_SIM_SEEDS")) what.runs = number_in("RONDO_SIM_SEEDS", text);
    if (const char* text = variable("RONDO_SIM_SEED")) {
        what.first_seed = number_in("RONDO_SIM_SEED", text);
        what.runs = 1;
        what.every_choice = false;
    }
    if (const char* text = variable("RONDO_SIM_STEPS")) what.step_limit = number_in("RONDO_SIM_STEPS", text);
    if (const char* text = variable("RONDO_SIM_TRACE_DIR")) what.trace_folder = text;
    if (const char* text = variable("RONDO_SIM_REPLAY")) what.replay = text;
    if (const char* text = variable("RONDO_SIM_CHECK")) what.check = is_on(text);
    if (const char* text = variable("RONDO_SIM_SHRINK")) what.shrink = is_on(text);
    if (const char* text = variable("RONDO_SIM_GO_ON")) what.go_on = is_on(text);
    if (const char* text = variable("RONDO_SIM_TIMELINE")) what.timeline = is_on(text);
    if (const char* text = variable("RONDO_SIM_MODE")) {
        if (std::strcmp(text, "spec") != 0 && std::strcmp(text, "chaos") != 0)
            throw io_error(errno_code(EINVAL), "RONDO_SIM_MODE", std::string("must be spec or chaos, not ") + text);
        what.mode = std::strcmp(text, "chaos") == 0 ? order::chaos : order::spec;
    }
    return what;
}

// --- what is kept of a failure --------------------------------------------------------------------

/// Without an ending.
std::string file_name(const simulation& what, const decision_log& log) {
    std::string name = what.trace_folder;
    name += '/';
    for (const char* c = what.name; *c != '\0'; ++c) {
        const bool plain = (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z');
        name += plain ? *c : '_';
    }
    return name + "-" + hex(log.seed);
}

/// Tells the test framework that a run is made again, for as long as this lives.
class once_more {
 public:
    explicit once_more(const simulation& what) noexcept : what_(what) { tell(true); }
    ~once_more() { tell(false); }
    once_more(const once_more&) = delete;
    once_more& operator=(const once_more&) = delete;

 private:
    void tell(bool begins) const noexcept {
        if (what_.again != nullptr) what_.again(begins, what_.context);
    }
    const simulation& what_;
};

/// Makes the run again, and writes down what it looks like.
void take_pictures(const simulation& what, scenario& in, simulation_report& report) {
    if (!what.timeline || what.trace_folder[0] == '\0') return;
    try {
        recorder seen;
        simulation watched = what;
        watched.watch = &seen;
        outcome_of_run out;
        {
            const once_more quiet(what);
            out = run_log(watched, in, report.decisions, replay_oracle::mode::exact, false);
        }
        const std::string name = file_name(what, report.decisions);
        save_timeline(seen, name + ".html", std::string(what.name) + ": " + out.message.substr(0, out.message.find('\n')));
        report.timeline_file = name + ".html";
        save_chrome_trace(seen, name + ".json");
        report.chrome_file = name + ".json";
        report.message += "\n  look:  " + report.timeline_file + " in a browser, or " + report.chrome_file + " in ui.perfetto.dev";
        if (out.hash != report.decisions.event_hash) report.message += " (but made again it was another run)";
    } catch (const std::exception& e) {
        report.message += std::string("\n  (") + e.what() + ")";
    }
}

/// The decisions that matter, if they are few.
std::string list_of_deviations(const decision_log& log) {
    if (log.deviations() > 10) return {};
    std::string text;
    std::uint64_t index = 0;
    decision_log::reader all(log);
    for (logged_choice d{}; all.next(d);) {
        ++index;
        if (d.taken == 0) continue;
        text += "\n    choice " + std::to_string(index) + ": " + name_of(d.point) + " " + std::to_string(d.taken) +
                " of " + std::to_string(d.alternatives);
    }
    return text;
}

void describe(const simulation& what, scenario& in, simulation_report& report, const outcome_of_run& out, bool shrunk,
              bool save) {
    report.message = std::string(what.name) + ": ";
    if (out.log.from == decision_log::origin::seeded) report.message += "seed " + hex(out.log.seed) + ": ";
    report.message += out.message;
    if (save && what.trace_folder[0] != '\0') {
        try {
            const std::string path = file_name(what, report.decisions) + ".rtrace";
            report.decisions.save(path);
            report.trace_file = path;
        } catch (const std::system_error& e) {
            report.message += std::string("\n  (") + e.what() + ")";
        }
    }
    if (shrunk)
        report.message += "\n  shrunk to " + std::to_string(report.decisions.deviations()) + " of " +
                          std::to_string(out.log.deviations()) + " decisions" + list_of_deviations(report.decisions);
    take_pictures(what, in, report);
    report.message += "\n  again:";
    if (!report.trace_file.empty()) report.message += " RONDO_SIM_REPLAY=" + report.trace_file;
    if (out.log.from == decision_log::origin::seeded)
        report.message += (report.trace_file.empty() ? " " : "   or ") + std::string("RONDO_SIM_SEED=") + hex(out.log.seed);
    if (what.mode == order::chaos) report.message += " RONDO_SIM_MODE=chaos";
    if (what.command[0] != '\0') report.message += std::string(" ") + what.command;
    if (report.trace_file.empty() && out.log.from != decision_log::origin::seeded)
        report.message += " set RONDO_SIM_TRACE_DIR, and it can be replayed";
}

void keep(const simulation& what, scenario& in, simulation_report& report, outcome_of_run& out, bool save = true) {
    report.failed = true;
    report.seed = out.log.seed;
    report.error = out.error;
    const bool can_shrink = what.shrink && out.kind != "divergence" && out.kind != "nondeterminism";
    if (can_shrink) {
        const once_more quiet(what);
        report.decisions = shrink(what, in, out.log, 2000);
    } else {
        report.decisions = out.log;
    }
    describe(what, in, report, out, can_shrink, save);
}

outcome_of_run run_and_check(const simulation& what, scenario& in, oracle& decides, decision_log::origin from,
                             std::uint64_t seed) {
    outcome_of_run out = run_once(what, in, decides, from, seed);
    if (out.failed || !what.check) return out;
    const outcome_of_run again = run_log(what, in, out.log, replay_oracle::mode::exact, false);
    if (!again.failed && again.hash == out.hash) return out;
    out.failed = true;
    out.kind = "nondeterminism";
    out.message = "the same run, made twice, was two different ones: " +
                  (again.failed ? again.message : difference(out.log, again.log));
    return out;
}

void check_sometimes(const simulation& what, simulation_report& report, const std::vector<seen>& sites) {
    for (const seen& s : sites) {
        if (s.held) continue;
        report.failed = true;
        report.message += std::string(report.message.empty() ? "" : "\n") + what.name + ": never in " +
                          std::to_string(report.runs) + " runs: " + s.site->message + place_of(*s.site);
    }
}

bool is_log_of(const simulation& what, const decision_log& log) { return log.name == what.name; }

/// Runs the simulation's worlds into `report`.
void run_all(const simulation& what, scenario& in, simulation_report& report) {
    exhaustive_oracle search(what.limits);
    for (std::uint64_t i = 0; i < what.runs; ++i) {
        const std::uint64_t seed = what.every_choice ? 0 : what.first_seed + i;
        seeded_oracle seeded(seed);
        outcome_of_run out = what.every_choice
                                 ? run_and_check(what, in, search, decision_log::origin::benign, seed)
                                 : run_and_check(what, in, seeded, decision_log::origin::seeded, seed);
        ++report.runs;
        report.event_hash = out.hash;
        if (out.failed) return keep(what, in, report, out);
        if (what.every_choice && !search.next()) return;
    }
}

}  // namespace

simulation_report explore(const simulation& asked, scenario& in) {
    const simulation what = with_environment(asked);
    simulation_report report;
    std::vector<seen> sites;
    std::vector<seen>* const outer = std::exchange(all_seen, &sites);
    struct restore {
        std::vector<seen>* to;
        ~restore() { all_seen = to; }
    } afterwards{outer};

    if (what.replay[0] != '\0') {
        const decision_log log = decision_log::load(what.replay);
        if (is_log_of(what, log)) {
            outcome_of_run out = run_log(what, in, log, replay_oracle::mode::exact, !what.go_on);
            report.runs = 1;
            report.event_hash = out.hash;
            if (out.failed) keep(what, in, report, out, false);  // the log is there already
            return report;
        }
    }
    run_all(what, in, report);
    // One seed shows little of what the program can do.
    if (!report.failed && what.runs > 1) check_sometimes(what, report, sites);
    return report;
}

void throw_failed(const simulation_report& report) {
    if (!report.error) throw simulation_failed(report.message);
    try {
        std::rethrow_exception(report.error);
    } catch (...) {
        std::throw_with_nested(simulation_failed(report.message));
    }
}

// --- shrinking ------------------------------------------------------------------------------------

namespace {

/// Delta debugging over the decisions that are not benign: takes away ever smaller parts of them.
class shrinker {
 public:
    shrinker(const simulation& what, scenario& in, std::uint64_t runs) : what_(what), in_(in), left_(runs) {}

    decision_log run(const decision_log& failing) {
        const outcome_of_run first = run_log(what_, in_, failing, replay_oracle::mode::exact, false);
        if (!first.failed) return failing;  // it does not fail again: nothing to go by
        kind_ = first.kind;
        best_ = first.log;
        if (try_without(0, best_.deviations())) return best_;
        for (std::uint64_t part = best_.deviations() / 2; part > 0 && left_ > 0;) {
            const std::uint64_t before = best_.deviations();
            for (std::uint64_t at = 0; at < best_.deviations() && left_ > 0;)
                if (!try_without(at, part)) at += part;
            // Once more at the same size as long as that helps; what is left may depend on less now.
            if (best_.deviations() == before || part > best_.deviations()) part = std::min(part, best_.deviations()) / 2;
        }
        for (std::uint64_t at = 0; at < best_.deviations() && left_ > 0; ++at) try_smaller(at);
        return best_;
    }

 private:
    /// Changes the deviations from the `from`-th on, `count` of them, and runs. True, and that is the best
    /// now, when it fails in the same way and is less.
    template <class Change>
    bool attempt(std::uint64_t from, std::uint64_t count, Change change) {
        if (left_ == 0) return false;
        --left_;
        decision_log candidate;
        candidate.from = best_.from;
        candidate.mode = best_.mode;
        candidate.seed = best_.seed;
        std::uint64_t index = 0;
        bool changed = false;
        decision_log::reader all(best_);
        for (logged_choice d{}; all.next(d);) {
            if (d.taken != 0) {
                if (index >= from && index < from + count) {
                    const std::uint32_t taken = change(d.taken);
                    changed |= taken != d.taken;
                    d.taken = taken;
                }
                ++index;
            }
            candidate.add(d.point, d.alternatives, d.taken);
        }
        if (!changed) return false;
        outcome_of_run out = run_log(what_, in_, candidate, replay_oracle::mode::by_class, false);
        if (out.kind != kind_ || out.log.deviations() > best_.deviations()) return false;
        best_ = std::move(out.log);
        return true;
    }
    bool try_without(std::uint64_t from, std::uint64_t count) {
        const std::uint64_t before = best_.deviations();
        return attempt(from, count, [](std::uint32_t) { return 0u; }) && best_.deviations() < before;
    }
    void try_smaller(std::uint64_t at) {
        attempt(at, 1, [](std::uint32_t) { return 1u; });
    }

    const simulation& what_;
    scenario& in_;
    std::uint64_t left_;
    std::string kind_;
    decision_log best_;
};

}  // namespace

decision_log shrink(const simulation& what, scenario& in, const decision_log& failing, std::uint64_t runs) {
    return shrinker(what, in, runs).run(failing);
}

}  // namespace detail
}  // namespace rondo
