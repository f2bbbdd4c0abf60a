// Runs one after the other: what decides in each, what counts as a failure, and what is kept of it.
#include <rondo/sim/simulate.hpp>

#include <rondo/sim/world_recorder.hpp>

#include <rondo/sim/buggify.hpp>
#include <rondo/observe/chrome_trace.hpp>
#include <rondo/observe/timeline.hpp>
#include <rondo/sync/semaphore.hpp>

#include <rondo/base/detail/pool.hpp>

#include "base/environment.hpp"
#include "base/held_log.hpp"
#include "base/report.hpp"
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

// --- counts ---------------------------------------------------------------------------------------

simulation_counts& simulation_counts::operator+=(const simulation_counts& more) noexcept {
    worlds += more.worlds;
    virtual_time += std::min(more.virtual_time, duration::max() - virtual_time);
    packets_lost += more.packets_lost;
    packets_copied += more.packets_copied;
    packets_overtaken += more.packets_overtaken;
    shortages += more.shortages;
    slow_calls += more.slow_calls;
    return *this;
}

namespace {

/// In the two largest units: "3 d 4 h", "12 s 30 ms".
std::string in_words(duration time) {
    struct unit {
        std::int64_t size;
        const char* name;
    };
    constexpr unit units[] = {{86'400'000'000'000, " d"}, {3'600'000'000'000, " h"}, {60'000'000'000, " min"},
                              {1'000'000'000, " s"},      {1'000'000, " ms"},        {1, " ns"}};
    std::int64_t left = time.count();
    std::string text;
    int parts = 0;
    for (const unit& u : units) {
        const std::int64_t n = left / u.size;
        left %= u.size;
        if (n != 0 && (parts == 0 || u.size >= 1'000'000))
            text += (text.empty() ? "" : " ") + std::to_string(n) + u.name;
        if ((n != 0 || parts != 0) && ++parts == 2) break;
    }
    return text.empty() ? "no" : text;
}

}  // namespace

std::string simulation_counts::text() const {
    struct fault {
        std::uint64_t count;
        const char* one;
        const char* many;
    };
    const fault faults[] = {{packets_lost, "packet lost", "packets lost"},
                            {packets_copied, "packet copied", "packets copied"},
                            {packets_overtaken, "packet overtaken", "packets overtaken"},
                            {shortages, "shortage", "shortages"},
                            {slow_calls, "slow call", "slow calls"}};
    std::string text;
    for (const fault& f : faults)
        if (f.count != 0)
            text += (text.empty() ? "; " : ", ") + std::to_string(f.count) + " " + (f.count == 1 ? f.one : f.many);
    return in_words(virtual_time) + " of virtual time" + text;
}

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

/// Of which runs the log is shown.
enum class show_log : std::uint8_t { if_it_fails, always, never };

struct outcome_of_run {
    bool failed = false;
    std::exception_ptr error;
    std::string kind;  // the same for the same sort of failure
    std::string message;
    std::uint64_t hash = 0;
    decision_log log;
    simulation_counts counts;
};

/// What ends a run after a step.
struct stop_signs {
    const simulation& what;
    const run_state& state;
    const replay_oracle* strict;  // null: no replay, or one that may diverge
    std::uint64_t failures_before;

    bool check_failed() const { return what.failures != nullptr && what.failures(what.context) != failures_before; }
    static bool up(void* self) {
        const auto& signs = *static_cast<stop_signs*>(self);
        return signs.state.broken != nullptr || (signs.strict != nullptr && signs.strict->diverged()) ||
               signs.check_failed();
    }
};

/// "ping: seed 0x17", "ping: benign world"
std::string title_of(const simulation& what, const decision_log& log) {
    if (log.from == decision_log::origin::seeded) return std::string(what.name) + ": seed " + hex(log.seed);
    return std::string(what.name) + (log.deviations() == 0 ? ": benign world" : "");
}

outcome_of_run run_once(const simulation& what, scenario& in, oracle& decides, decision_log::origin from,
                        std::uint64_t seed, const replay_oracle* strict = nullptr,
                        show_log show = show_log::if_it_fails) {
    std::optional<held_log> log_of_run;
    if (!what.all_logs) log_of_run.emplace();
    pass_log_second();  // its limits are those of one run: what it shows depends on no other
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
    options.observer = what.observer;
    options.slow_hosts = what.slow_hosts;

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
        out.counts.virtual_time = w.now().time_since_epoch();
    }
    flush_log();
    this_run = outer;
    out.counts.worlds = 1;
    out.counts.packets_lost = recording.deviations(choice::packet_loss);
    out.counts.packets_copied = recording.deviations(choice::packet_copy);
    out.counts.packets_overtaken = recording.deviations(choice::packet_order);
    out.counts.shortages = recording.deviations(choice::resource_error);
    out.counts.slow_calls = recording.deviations(choice::slow_step);
    out.log.event_hash = out.hash;

    if (state.broken != nullptr) {
        out.error = nullptr;
        out.kind = out.message = std::string("always: ") + state.broken->message;
        out.message += " - not so" + place_of(*state.broken);
    } else if (strict != nullptr && strict->diverged()) {
        out.error = nullptr;
        out.kind = "divergence";
        out.message = "the run diverges from its log at " + strict->divergence() +
                      "\n  (the program or the library has changed; with RONDO_SIM_GO_ON=1 it goes on, all benign)";
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
    if (log_of_run && (show == show_log::always || (show == show_log::if_it_fails && out.failed)))
        log_of_run->print("--- the log of " + title_of(what, out.log) + (show == show_log::always ? ", replayed" : ""));
    return out;
}

/// Has another oracle decide, and shows in a recording where it was not benign.
class noting_oracle final : public oracle {
 public:
    noting_oracle(oracle& decides, record& into) noexcept : decides_(decides), into_(into) {}
    std::uint32_t choose(choice point, std::uint32_t alternatives) noexcept override {
        const std::uint32_t taken = decides_.choose(point, alternatives);
        if (alternatives > 1) note(point, alternatives, taken);
        return taken;
    }
    bool happens(choice point, std::uint32_t per_million) noexcept override {
        const bool taken = decides_.happens(point, per_million);
        if (per_million != 0) note(point, 2, taken);
        return taken;
    }
    std::uint64_t bits(choice point) noexcept override { return decides_.bits(point); }

 private:
    void note(choice point, std::uint32_t alternatives, std::uint32_t taken) noexcept {
        ++count_;
        if (taken == 0) return;
        char text[64];
        std::snprintf(text, sizeof text, "%s %u of %u", name_of(point), static_cast<unsigned>(taken),
                      static_cast<unsigned>(alternatives));
        into_.decided(count_, text);
    }

    oracle& decides_;
    record& into_;
    std::uint64_t count_ = 0;
};

/// `shown` is the recording of it, if it is recorded.
outcome_of_run run_log(const simulation& what, scenario& in, const decision_log& log, replay_oracle::mode how,
                       bool strict, show_log show, world_recorder* shown = nullptr) {
    simulation same = what;
    same.mode = log.mode;
    replay_oracle decides(log, how);
    std::optional<noting_oracle> noted;
    if (shown != nullptr) {
        same.observer = shown;
        noted.emplace(decides, *shown);
    }
    oracle& decides_all = shown != nullptr ? static_cast<oracle&>(*noted) : decides;
    return run_once(same, in, decides_all, log.from, log.seed, strict ? &decides : nullptr, show);
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
            return "choice " + std::to_string(i) + " was " + written(more, first) + ", then " +
                   written(more_too, second);
    }
}

// --- the environment ------------------------------------------------------------------------------

bool is_on(const char* text) noexcept { return std::strcmp(text, "0") != 0; }

/// What is to be done.
struct plan {
    simulation what;
    bool seeds = true;  // or only the benign world
    bool shrink_file = false;
};

plan with_environment(const simulation& asked) {
    plan all{asked};
    simulation& what = all.what;
    if (const char* text = variable("RONDO_SIM_SEEDS")) what.runs = number_in("RONDO_SIM_SEEDS", text);
    if (const char* text = variable("RONDO_SIM_SEED")) {
        all.seeds = std::strcmp(text, "benign") != 0;
        if (all.seeds) what.first_seed = number_in("RONDO_SIM_SEED", text);
        what.runs = 1;
        what.every_choice = false;
    }
    if (const char* text = variable("RONDO_SIM_STEPS")) what.step_limit = number_in("RONDO_SIM_STEPS", text);
    if (const char* text = variable("RONDO_SIM_TRACE_DIR")) what.trace_folder = text;
    if (const char* text = variable("RONDO_SIM_REPLAY")) what.replay = text;
    if (const char* text = variable("RONDO_SIM_CHECK")) what.check = is_on(text);
    if (const char* text = variable("RONDO_SIM_SHRINK")) what.shrink = all.shrink_file = is_on(text);
    if (const char* text = variable("RONDO_SIM_SLOW")) what.slow_hosts = is_on(text);
    if (const char* text = variable("RONDO_SIM_GO_ON")) what.go_on = is_on(text);
    if (const char* text = variable("RONDO_SIM_TIMELINE")) what.timeline = is_on(text);
    if (const char* text = variable("RONDO_SIM_LOG")) {
        if (std::strcmp(text, "all") != 0)
            throw io_error(errno_code(EINVAL), "RONDO_SIM_LOG", std::string("must be all, not ") + text);
        what.all_logs = true;
    }
    if (const char* text = variable("RONDO_SIM_MODE")) {
        if (std::strcmp(text, "spec") != 0 && std::strcmp(text, "chaos") != 0)
            throw io_error(errno_code(EINVAL), "RONDO_SIM_MODE", std::string("must be spec or chaos, not ") + text);
        what.mode = std::strcmp(text, "chaos") == 0 ? order::chaos : order::spec;
    }
    return all;
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
    const bool benign = log.from == decision_log::origin::benign && log.deviations() == 0;
    return name + "-" + (benign ? "benign" : hex(log.seed));
}

bool has_folder(const simulation& what) { return what.trace_folder[0] != '\0'; }

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

/// What a decision that is not the benign one means.
const char* meaning_of(choice point) noexcept {
    switch (point) {
        case choice::completion_order: return "another operation is reported first";
        case choice::receive_size: return "a read gets only so many of the bytes that are there";
        case choice::send_size: return "a write takes only so many of the bytes for which there is room";
        case choice::network_delay: return "a packet takes longer";
        case choice::accept_order: return "another connection is accepted first";
        case choice::cancel_race: return "an operation is done before it is cancelled";
        case choice::resource_error: return "a call fails for lack of something";
        case choice::select_order: return "another arm is looked at first";
        case choice::host_order: return "another host has its turn first";
        case choice::packet_loss: return "a packet is lost";
        case choice::packet_copy: return "a packet arrives twice";
        case choice::packet_order: return "a packet is overtaken";
        case choice::scenario: return "what the scenario chose";
        case choice::buggify: return "RONDO_BUGGIFY";
        case choice::ready_order: return "another ready task runs first";
        case choice::slow_host: return "a host is slow, by 0.1, 1 or 10 ms";
        case choice::slow_step: return "a slow host takes time before a call";
        case choice::user: break;
    }
    return "";
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
                " of " + std::to_string(d.alternatives) + " (" + meaning_of(d.point) + ")";
    }
    return text;
}

std::string text_of_decisions(const decision_log& log) {
    const std::uint64_t count = log.deviations();
    if (count == 0 && log.shrunk_from == 0) return "\n  fails in the benign world: no fault is needed";
    if (count == 0)
        return "\n  shrunk to none of " + std::to_string(log.shrunk_from) +
               " decisions: fails in the benign world too, no fault is needed";
    if (log.shrunk_from == 0) return {};
    return "\n  shrunk to " + std::to_string(count) + " of " + std::to_string(log.shrunk_from) + " decisions" +
           list_of_deviations(log);
}

/// How to have it again.
std::string text_of_commands(const simulation& what, const simulation_report& report) {
    const decision_log& log = report.decisions;
    const bool file = !report.trace_file.empty();
    const std::string program = what.command[0] != '\0' ? std::string(" ") + what.command : "";
    std::string seed;
    if (log.from == decision_log::origin::seeded)
        seed = "RONDO_SIM_SEED=" + hex(log.seed);
    else if (log.deviations() == 0)
        seed = "RONDO_SIM_SEED=benign";
    if (!seed.empty() && log.mode == order::chaos) seed += " RONDO_SIM_MODE=chaos";

    std::string text = "\n  again: ";
    if (file) text += "RONDO_SIM_REPLAY=" + report.trace_file + program;
    if (seed.empty()) return file ? text : text + "set RONDO_SIM_TRACE_DIR, and it can be replayed";
    if (log.shrunk_from != 0 && file) return text + "\n  as found: " + seed + program;
    text += (file ? "\n     or: " : "") + seed + program;
    if (log.shrunk_from != 0) text += "\n  (as found; set RONDO_SIM_TRACE_DIR, and the shrunk run can be replayed)";
    return text;
}

/// What the run looks like, for people.
void save_pictures(const simulation& what, const world_recorder& seen, const std::string& title,
                   simulation_report& report) {
    try {
        const std::string name = file_name(what, report.decisions);
        save_timeline(seen, name + ".html", std::string(what.name) + ": " + title.substr(0, title.find('\n')));
        report.timeline_file = name + ".html";
        save_chrome_trace(seen, name + ".json");
        report.chrome_file = name + ".json";
        report.message +=
            "\n  look:  " + report.timeline_file + " in a browser, or " + report.chrome_file + " in ui.perfetto.dev";
    } catch (const std::exception& e) {
        report.message += std::string("\n  (") + e.what() + ")";
    }
}

/// A failed run into the report; `decisions` and `trace_file` are there. The same for the run that was found or shrunk,
/// and for its replay.
void describe(const simulation& what, simulation_report& report, const outcome_of_run& told, const world_recorder* seen,
              const std::string& notes) {
    report.failed = true;
    report.error = told.error;
    report.event_hash = told.hash;
    report.seed = report.decisions.seed;
    report.benign = report.decisions.deviations() == 0;
    report.message =
        title_of(what, report.decisions) + ": " + told.message + notes + text_of_decisions(report.decisions);
    if (seen != nullptr) save_pictures(what, *seen, told.message, report);
    report.message += text_of_commands(what, report);
}

bool wants_pictures(const simulation& what) { return what.timeline && has_folder(what); }

void keep(const simulation& what, scenario& in, simulation_report& report, const outcome_of_run& found,
          const char* file_ending = ".rtrace") {
    report.decisions = found.log;
    const once_more quiet(what);
    std::string notes;
    const bool can_shrink =
        what.shrink && found.log.deviations() != 0 && found.kind != "divergence" && found.kind != "nondeterminism";
    bool shrunk = false;
    if (can_shrink) {
        report.decisions = shrink(what, in, found.log, 2000);
        shrunk = report.decisions.shrunk_from != 0;
        if (!shrunk) notes += "\n  (not shrunk: made again it did not fail in this way)";
    }

    // The run that is told is made once more, to be seen; a shrunk one also to be heard.
    outcome_of_run told;
    world_recorder seen;
    const bool pictures = wants_pictures(what);
    if (pictures || shrunk) {
        told = run_log(what, in, report.decisions, replay_oracle::mode::exact, false,
                       shrunk ? show_log::always : show_log::never, pictures ? &seen : nullptr);
        if (told.hash != report.decisions.event_hash) notes += "\n  (made again it was another run)";
    }
    if (told.kind != found.kind) told = found;

    if (has_folder(what)) {
        try {
            const std::string path = file_name(what, report.decisions) + file_ending;
            report.decisions.save(path);
            report.trace_file = path;
        } catch (const std::system_error& e) {
            notes += std::string("\n  (") + e.what() + ")";
        }
    }
    describe(what, report, told, pictures ? &seen : nullptr, notes);
}

/// Makes the run that a file holds.
void replay(const plan& how, scenario& in, simulation_report& report, decision_log log) {
    const simulation& what = how.what;
    world_recorder seen;
    const bool pictures = wants_pictures(what) && what.observer == nullptr;
    outcome_of_run out =
        run_log(what, in, log, replay_oracle::mode::exact, !what.go_on, show_log::always, pictures ? &seen : nullptr);
    report.runs = 1;
    report.counts += out.counts;
    report.event_hash = out.hash;
    const bool another = out.hash != log.event_hash && out.kind != "divergence";
    if (!out.failed) {
        report.message = std::string(what.name) + ": " + what.replay + " was replayed, and did not fail" +
                         (another ? ": it was another run than the one in the file" : "");
    } else if (how.shrink_file && log.shrunk_from == 0) {
        keep(what, in, report, out, "-shrunk.rtrace");
    } else {
        report.decisions = std::move(log);
        report.trace_file = what.replay;
        describe(what, report, out, pictures ? &seen : nullptr,
                 another ? "\n  (it was another run than the one in the file)" : "");
    }
}

outcome_of_run run_and_check(const simulation& what, scenario& in, oracle& decides, decision_log::origin from,
                             std::uint64_t seed) {
    outcome_of_run out = run_once(what, in, decides, from, seed);
    if (out.failed || !what.check) return out;
    const outcome_of_run again = run_log(what, in, out.log, replay_oracle::mode::exact, false, show_log::if_it_fails);
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
void run_all(const plan& how, scenario& in, simulation_report& report) {
    const simulation& what = how.what;
    const auto failed = [&](oracle& decides, decision_log::origin from, std::uint64_t seed) {
        const outcome_of_run out = run_and_check(what, in, decides, from, seed);
        report.counts += out.counts;
        report.event_hash = out.hash;
        if (out.failed) keep(what, in, report, out);
        return out.failed;
    };
    if (what.every_choice) {
        exhaustive_oracle search(what.limits);  // its first world is the benign one
        for (bool more = what.runs > 0; more; more = search.next() && report.runs < what.runs) {
            ++report.runs;
            if (failed(search, decision_log::origin::benign, 0)) return;
        }
        return;
    }
    // A bug that needs no fault is told without any.
    if (!how.seeds || what.runs > 1) {
        benign_oracle plain;
        if (failed(plain, decision_log::origin::benign, 0) || !how.seeds) {
            report.runs = 1;
            return;
        }
    }
    for (std::uint64_t i = 0; i < what.runs; ++i) {
        seeded_oracle seeded(what.first_seed + i);
        ++report.runs;
        if (failed(seeded, decision_log::origin::seeded, what.first_seed + i)) return;
    }
}

/// Of worlds none of which has failed.
std::string text_of_success(const plan& how, const simulation_report& report) {
    const std::uint64_t runs = report.runs;
    std::string text = std::string(how.what.name) + ": ";
    if (runs == 0) return text + "no world was made";
    if (!how.seeds) {
        text += "the benign world";
    } else {
        text += std::to_string(runs) + (runs == 1 ? " world" : " worlds");
        if (!how.what.every_choice && runs > 1) text += " and the benign one";
    }
    return text + ", none failed (" + report.counts.text() + ")";
}

}  // namespace

simulation_report explore(const simulation& asked, scenario& in) {
    const plan how = with_environment(asked);
    const simulation& what = how.what;
    simulation_report report;
    std::vector<seen> sites;
    std::vector<seen>* const outer = std::exchange(all_seen, &sites);
    struct restore {
        std::vector<seen>* to;
        ~restore() { all_seen = to; }
    } afterwards{outer};

    if (what.replay[0] != '\0') {
        decision_log log = decision_log::load(what.replay);
        if (is_log_of(what, log)) {
            replay(how, in, report, std::move(log));
            return report;
        }
    }
    run_all(how, in, report);
    // One seed shows little of what the program can do.
    if (!report.failed && what.runs > 1) check_sometimes(what, report, sites);
    if (!report.failed) report.message = text_of_success(how, report);
    return report;
}

void conclude(const simulation& what, const simulation_report& report) {
    if (!report.failed) {
        if (!what.quiet) say(report.message);
        return;
    }
    if (!report.error) throw simulation_failed(report.message);
    try {
        std::rethrow_exception(report.error);
    } catch (...) {
        std::throw_with_nested(simulation_failed(report.message));
    }
}

void say(const std::string& line) noexcept {
    const char* const quiet = variable("RONDO_SIM_QUIET");
    if (quiet != nullptr && is_on(quiet)) return;
    rondo::detail::report(last_words).add(line).add('\n');
}

// --- shrinking ------------------------------------------------------------------------------------

namespace {

/// Delta debugging over the decisions that are not benign: takes away ever smaller parts of them.
class shrinker {
 public:
    shrinker(const simulation& what, scenario& in, std::uint64_t runs) : what_(what), in_(in), left_(runs) {}

    decision_log run(const decision_log& failing) {
        const outcome_of_run first = run_log(what_, in_, failing, replay_oracle::mode::exact, false, show_log::never);
        if (!first.failed) return failing;  // it does not fail again: nothing to go by
        kind_ = first.kind;
        best_ = first.log;
        make_smaller();
        best_.shrunk_from = failing.deviations();
        return best_;
    }

 private:
    void make_smaller() {
        if (try_without(0, best_.deviations())) return;
        for (std::uint64_t part = best_.deviations() / 2; part > 0 && left_ > 0;) {
            const std::uint64_t before = best_.deviations();
            for (std::uint64_t at = 0; at < best_.deviations() && left_ > 0;)
                if (!try_without(at, part)) at += part;
            // Once more at the same size as long as that helps; what is left may depend on less now.
            if (best_.deviations() == before || part > best_.deviations())
                part = std::min(part, best_.deviations()) / 2;
        }
        for (std::uint64_t at = 0; at < best_.deviations() && left_ > 0; ++at) try_smaller(at);
    }
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
        outcome_of_run out = run_log(what_, in_, candidate, replay_oracle::mode::by_class, false, show_log::never);
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
