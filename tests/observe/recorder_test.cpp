// Looking at a loop at work: what an observer is told, and what recorder, exporters and metrics make of it.
#include "support/net.hpp"

#include <rondo/observe/chrome_trace.hpp>
#include <rondo/observe/loop_metrics.hpp>
#include <rondo/observe/observers.hpp>
#include <rondo/observe/prometheus.hpp>
#include <rondo/observe/recorder.hpp>
#include <rondo/observe/timeline.hpp>
#include <rondo/sim/simulate.hpp>

#include <algorithm>
#include <map>
#include <set>

#if defined(RONDO_TESTS_HAVE_JSON)
#include <nlohmann/json.hpp>
#endif

using namespace rondo;
using namespace std::chrono_literals;

namespace {

template <class F>
void run_watched(observer& by, F&& fn) {
    loop_options options;
    options.watch = &by;
    rondo::run(options, std::forward<F>(fn));
}

/// Writes down what it is told, tasks by number: "spawn 2", "step 2", "ready 1" ...
struct story_teller final : observer {
    void on_spawn(task_view task) noexcept override { add("spawn", task); }
    void on_ready(task_view task) noexcept override { add("ready", task); }
    void on_step(step what, task_view task, std::source_location) noexcept override {
        if (what == step::task) return add("step", task);
        told.add("call");
    }
    void on_wait(task_view task) noexcept override { add("wait", task); }
    void on_end(task_view task, ending how) noexcept override {
        constexpr const char* names[] = {"value", "error", "cancelled"};
        add(names[static_cast<std::size_t>(how)], task);
    }
    void on_step_end() noexcept override { told.add(";"); }
    void add(const char* what, task_view task) { told.add(std::string(what) + std::to_string(task.number())); }
    test::journal told;
};

/// Whether what it is told fits together: a task is made ready once before each of its steps.
struct checker {
    void ready(std::uint32_t task) {
        ++readied;
        wrong += !is_ready.insert(task).second;
    }
    void step(std::uint32_t task) {
        wrong += in_step;
        in_step = true;
        if (task == 0) return;
        ++steps;
        wrong += is_ready.erase(task) != 1;
    }
    void step_end() {
        wrong += !in_step;
        in_step = false;
    }
    std::set<std::uint32_t> is_ready;
    bool in_step = false;
    std::uint64_t readied = 0;
    std::uint64_t steps = 0;
    std::uint64_t ended = 0;
    std::uint64_t wrong = 0;
};

struct checking_observer final : observer {
    void on_spawn(task_view task) noexcept override { its.ready(task.number()); }
    void on_ready(task_view task) noexcept override { its.ready(task.number()); }
    void on_step(step, task_view task, std::source_location) noexcept override { its.step(task.number()); }
    void on_end(task_view task, ending) noexcept override {
        ++its.ended;
        its.is_ready.erase(task.number());  // cancelled before its first step
    }
    void on_step_end() noexcept override { its.step_end(); }
    checker its;
};

/// Every sort of wake-up there is: yields, ticks, microtasks, timers, immediates, I/O, groups, cancellation.
task<> something_of_everything() {
    auto listener = test::listen();
    auto body = [&](task_group& group) -> task<> {
        group.spawn([&]() -> task<> {
            auto peer = co_await listener.accept();
            for (;;) {
                auto data = co_await peer.receive();
                if (data.empty()) co_return;
                co_await peer.write_all(data);
            }
        });
        for (int i = 0; i < 20; ++i)
            group.spawn([](int n) -> task<> {
                for (int k = 0; k < n; ++k) {
                    co_await yield();
                    co_await next_tick();
                    co_await microtask();
                    co_await sleep_for(1us);
                    co_await immediate();
                }
            }, i);
        auto late = group.spawn([]() -> task<> { co_await sleep_for(1h); });
        auto never_started = group.spawn([]() -> task<> { co_await yield(); });
        never_started.cancel();
        this_loop().set_immediate([] { this_loop().queue_microtask([] {}); });
        auto peer = co_await tcp_stream::connect(listener.local());
        for (int i = 0; i < 20; ++i) {
            char answer[4];
            co_await peer.write_all("ping");
            const std::size_t size = co_await peer.read_exactly(answer);
            CHECK(size == 4);
        }
        co_await peer.close();
        late.cancel();
    };
    co_await with_task_group(body);
}

task<> child_that_yields() { co_await yield(); }

}  // namespace

// --- what an observer is told -----------------------------------------------------------------------------

TEST_CASE("observer: the life of a task, from spawn to end") {
    story_teller watch;
    run_watched(watch, []() -> task<> {
        auto child = spawn(child_that_yields);
        co_await child;
    });
    // The child is ready again when its own step ends; the main task when the child has ended.
    CHECK(watch.told.text() == "spawn1 step1 wait1 spawn2 ; step2 wait2 ready2 ; step2 value2 ready1 ; step1 value1 ;");
}

TEST_CASE("observer: how tasks end") {
    story_teller watch;
    run_watched(watch, []() -> task<> {
        auto fails = spawn([]() -> task<> {
            throw std::runtime_error("no");
            co_return;
        });
        auto sleeps = spawn([]() -> task<> { co_await sleep_for(1h); });
        auto unstarted = spawn(child_that_yields);
        unstarted.cancel();
        co_await yield();
        sleeps.cancel();
        try {
            co_await fails;
        } catch (const std::runtime_error&) {
        }
    });
    const std::string told = watch.told.text();
    CHECK(told.find("step2 error2") != std::string::npos);
    CHECK(told.find("cancelled3") != std::string::npos);
    CHECK(told.find("cancelled4") != std::string::npos);
    CHECK(told.find("step4") == std::string::npos);
}

TEST_CASE("observer: who wakes whom is told in the step that does; what a phase wakes, between steps") {
    story_teller watch;
    event happened;
    run_watched(watch, [&]() -> task<> {
        auto child = spawn([&]() -> task<> { co_await happened.wait(); });
        co_await sleep_for(1us);
        happened.set();
        co_await child;
    });
    CHECK(watch.told.text() ==
          "spawn1 step1 wait1 spawn2 ; step2 wait2 ; "
          "ready1 step1 wait1 ready2 ; "  // the timer wakes 1, and 1 wakes 2
          "step2 value2 ready1 ; step1 value1 ;");
}

TEST_CASE("observer: a task is made ready once before each step, whatever wakes it") {
    checking_observer watch;
    run_watched(watch, something_of_everything);
    CHECK(watch.its.wrong == 0);
    CHECK(watch.its.steps > 500);
    CHECK(watch.its.is_ready.empty());
    CHECK(watch.its.ended == 24);  // 20, the session, the sleeper, the one never started, and the main task
    CHECK(watch.its.readied == watch.its.steps + 1);
}

// Ticks, and posts of other threads, were told as microtasks.
TEST_CASE("observer: ticks, microtasks, and callbacks of phases are told apart, as in the recorder's label") {
    struct counter final : observer {
        void on_step(step what, task_view, std::source_location) noexcept override {
            ++seen[static_cast<std::size_t>(what)];
        }
        int count(step what) const { return seen[static_cast<std::size_t>(what)]; }
        int seen[4] = {};
    };
    counter seen;
    loop_options options;
    options.watch = &seen;
    loop l(options);
    for (int i = 0; i < 2; ++i) l.next_tick([] {});
    for (int i = 0; i < 3; ++i) l.queue_microtask([] {});
    l.set_immediate([] {});
    remote far = l.remote();
    for (int i = 0; i < 4; ++i) CHECK(far.post([] {}));
    far = {};
    auto h = spawn_on(l, []() -> task<> { co_await next_tick(); });
    l.run();
    using step = observer::step;
    CHECK(seen.count(step::tick) == 2);
    CHECK(seen.count(step::microtask) == 3);
    CHECK(seen.count(step::callback) == 1 + 4);
    CHECK(seen.count(step::task) == 2);
}

TEST_CASE("observer: it may come when tasks are ready already, and go") {
    checking_observer watch;
    loop l;
    auto before = spawn_on(l, child_that_yields);
    l.set_observer(&watch);
    auto after = spawn_on(l, child_that_yields);
    l.run_nowait();
    l.set_observer(nullptr);
    auto unseen = spawn_on(l, child_that_yields);
    l.run();
    CHECK(watch.its.wrong == 0);
    CHECK(watch.its.steps == 4);
    CHECK(watch.its.ended == 2);
    CHECK(watch.its.is_ready.empty());
}

TEST_CASE("observer: also in a world, in any order of tasks") {
    struct all_hosts final : world_observer {
        void on_spawn(const host& of, task_view task) noexcept override { its[of.name()].ready(task.number()); }
        void on_ready(const host& of, task_view task) noexcept override { its[of.name()].ready(task.number()); }
        void on_step(const host& of, observer::step, task_view task, std::source_location) noexcept override {
            its[of.name()].step(task.number());
        }
        void on_end(const host& of, task_view task, observer::ending) noexcept override {
            its[of.name()].is_ready.erase(task.number());
        }
        void on_step_end(const host& of) noexcept override { its[of.name()].step_end(); }
        std::map<std::string, checker> its;
    };
    for (const order mode : {order::spec, order::chaos}) {
        for (std::uint64_t seed = 0; seed < 10; ++seed) {
            all_hosts watch;
            seeded_oracle decisions(seed);
            world_options options;
            options.decisions = &decisions;
            options.mode = mode;
            options.watch = &watch;
            world w(options);
            w.host("other").run(something_of_everything);
            w.run([&]() -> task<> {
                co_await w.on(w.host("other"), something_of_everything);
                co_await something_of_everything();
            });
            for (auto& [name, its] : watch.its) {
                CHECK(its.wrong == 0);
                CHECK(its.steps > 500);
            }
            CHECK(watch.its.size() == 2);
        }
    }
}

TEST_CASE("observer: several are one") {
    story_teller a;
    checking_observer b;
    observers both{&a, nullptr, &b};
    run_watched(both, child_that_yields);
    CHECK(a.told.text() == "spawn1 step1 wait1 ready1 ; step1 value1 ;");
    CHECK(b.its.steps == 2);
    CHECK_THROWS_AS((observers{&a, &a, &a, &a, &a, &a, &a, &a, &a}), std::invalid_argument);
}

// --- the recorder -----------------------------------------------------------------------------------------

namespace {

std::vector<recorded_event> all_of(const recorder& seen) {
    std::vector<recorded_event> all;
    seen.for_each([&](const recorded_event& e) { all.push_back(e); });
    return all;
}

using kind = recorded_event::kind;

std::uint32_t line_of_sleep = 0;

task<> named_sleeper() {
    name_task("the sleeper");
    line_of_sleep = __LINE__ + 1;
    co_await sleep_for(1ms);
}

}  // namespace

TEST_CASE("recorder: a task's spawn place, name, await and what it waits for") {
    recorder seen;
    const auto line = std::source_location::current().line() + 2;
    run_watched(seen, []() -> task<> {
        auto child = spawn(named_sleeper);
        co_await child;
    });
    bool spawned = false, waits = false, named = false;
    for (const recorded_event& e : all_of(seen)) {
        if (e.task != 2) continue;
        if (e.what == kind::spawned) spawned = e.place.line() == line;
        if (e.what == kind::waits)
            waits = e.place.line() == line_of_sleep && e.spawned.line() == line && std::string_view(e.text).starts_with("sleep, ");
        if (e.what == kind::ended) named = std::string_view(e.text) == "the sleeper";
    }
    CHECK(spawned);
    CHECK(waits);
    CHECK(named);
    CHECK(seen.dropped() == 0);
    CHECK(seen.hosts() == std::vector<std::string>{"program"});
}

TEST_CASE("recorder: the ring keeps the latest, and counts those that went") {
    recorder large, small({.events = 100});
    observers both{&large, &small};
    run_watched(both, something_of_everything);
    REQUIRE(large.dropped() == 0);
    REQUIRE(large.size() > 1000);
    CHECK(small.size() == 100);
    CHECK(small.dropped() == large.size() - 100);
    const auto all = all_of(large), kept = all_of(small);
    bool same = true;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        const recorded_event& e = all[all.size() - 100 + i];
        same = same && e.what == kept[i].what && e.task == kept[i].task;
    }
    CHECK(same);
    small.clear();
    CHECK(small.size() == 0);
    CHECK(small.dropped() == 0);
}

TEST_CASE("recorder: what happens later is later, also while virtual time stands still") {
    recorder seen;
    run_watched(seen, something_of_everything);
    time_point latest = time_point::min();
    bool rises = true;
    for (const recorded_event& e : all_of(seen)) {
        rises = rises && e.when > latest;
        latest = e.when;
    }
    CHECK(rises);
}

TEST_CASE("recorder: a mark is the program's own; texts are cut at whole characters") {
    recorder seen;
    run_watched(seen, [&]() -> task<> {
        seen.mark("here");
        seen.mark(std::string(43, 'x') + "\xc3\xa4 and more");
        co_return;
    });
    std::vector<std::string> marks;
    for (const recorded_event& e : all_of(seen))
        if (e.what == kind::mark) marks.push_back(e.text);
    CHECK(marks == std::vector<std::string>{"here", std::string(43, 'x')});
}

namespace {

/// Two hosts, a lost packet, a partition, a crash. Gives the world's hash.
std::uint64_t eventful_world(rondo::world_observer* watch) {
    world_options options;
    options.watch = watch;
    world w(options);
    bool lose = true;
    const auto rule = w.rule([&](const packet_info& p) {
        return p.what == packet_info::kind::data && std::exchange(lose, false) ? verdict::drop() : verdict::pass();
    });
    w.host("srv").run([]() -> task<> {
        auto listener = tcp_listener::bind("0.0.0.0", 80);
        co_await rondo::serve(listener, [](tcp_stream& peer) -> task<> {
            for (;;) {
                auto data = co_await peer.receive();
                if (data.empty()) co_return;
                co_await peer.write_all(data);
            }
        });
    });
    w.run([](world& its) -> task<> {
        name_task("<scenario>");
        {
            auto peer = co_await tcp_stream::connect(its.address_of("srv", 80));
            co_await peer.write_all("ping");
            char answer[4];
            const std::size_t size = co_await peer.read_exactly(answer);
            CHECK(size == 4);
        }
        { const auto cut = its.partition({"test"}, {"srv"}); }
        its.host("srv").crash();
        its.host("srv").restart();
        co_await sleep_for(1s);
    }, std::ref(w));
    return w.hash();
}

}  // namespace

TEST_CASE("recorder: a world that is watched is the same world") {
    // A wait is described with its peer's address; being asked for that was an event of the world.
    recorder seen;
    CHECK(eventful_world(&seen) == eventful_world(nullptr));
}

TEST_CASE("recorder: packets and faults of a world") {
    recorder seen;
    eventful_world(&seen);
    std::map<int, int> packets;
    test::journal events;
    std::map<std::uint64_t, int> arrivals;
    for (const recorded_event& e : all_of(seen)) {
        if (e.what == kind::packet) {
            ++packets[e.detail];
            CHECK(e.host != e.peer);
            if (static_cast<world_observer::packet>(e.detail) == world_observer::packet::arrived) ++arrivals[e.number];
        }
        constexpr const char* names[] = {"started", "crashed", "cut", "healed", "stopped"};
        if (e.what == kind::host)
            events.add(names[e.detail] + (e.host == recorded_event::no_host ? "" : ":" + seen.hosts()[e.host]));
    }
    using packet = world_observer::packet;
    CHECK(packets[static_cast<int>(packet::lost)] == 1);
    CHECK(packets[static_cast<int>(packet::arrived)] == packets[static_cast<int>(packet::sent)] - 1);
    for (const auto& [number, count] : arrivals) CHECK(count == 1);
    CHECK(events.text() == "started:test started:srv cut healed crashed:srv started:srv stopped:srv stopped:test");
}

TEST_CASE("recorder: of several worlds each has hosts of its own") {
    recorder seen;
    eventful_world(&seen);
    const std::size_t events = seen.size();
    eventful_world(&seen);
    CHECK(seen.hosts() == std::vector<std::string>{"test", "srv", "test", "srv"});
    CHECK(seen.size() == 2 * events);
    std::map<std::uint16_t, time_point> first;
    seen.for_each([&](const recorded_event& e) { first.try_emplace(e.host, e.when); });
    CHECK(first[0] == first[2]);  // both begin at 0
    seen.clear();
    CHECK(seen.hosts().empty());
}

// --- what is made of it -----------------------------------------------------------------------------------

#if defined(RONDO_TESTS_HAVE_JSON)

namespace {

using nlohmann::json;

/// The events of a Chrome trace, after what Perfetto expects of them.
std::vector<json> checked_trace(const recorder& seen) {
    const json trace = json::parse(chrome_trace(seen));
    std::map<std::pair<int, int>, double> end_of;  // of a track's slices, which come in order
    std::map<std::string, int> open;               // asynchronous slices, and flows
    std::map<std::string, double> from;
    for (const json& e : trace["traceEvents"]) {
        const std::string type = e["ph"];
        const double at = e["ts"];
        CHECK(at >= 0);
        if (type == "X" && e["cat"] == "step") {
            double& last = end_of[{e["pid"], e["tid"]}];
            CHECK(at >= last);
            last = at + e["dur"].get<double>();
        }
        const std::string id = e.contains("id") ? e["id"].get<std::string>() : "";
        if (type == "b") ++open[id];
        if (type == "e") CHECK(--open[id] >= 0);
        if (type == "s") from[id] = at;
        if (type == "f") {
            REQUIRE(from.count(id) == 1);
            CHECK(from[id] <= at);
            from.erase(id);
        }
    }
    CHECK(from.empty());
    for (const auto& [id, count] : open) CHECK(count == 0);
    return trace["traceEvents"];
}

std::size_t count_of(const std::vector<json>& events, const char* type, const char* category) {
    return static_cast<std::size_t>(
        std::count_if(events.begin(), events.end(), [&](const json& e) { return e["ph"] == type && e["cat"] == category; }));
}

bool has(const std::vector<json>& events, const char* type, const std::string& name) {
    return std::any_of(events.begin(), events.end(), [&](const json& e) { return e["ph"] == type && e["name"] == name; });
}

json data_of(const std::string& page) {
    const std::string begin = "<script type=\"application/json\" id=\"data\">";
    const std::size_t at = page.find(begin) + begin.size();
    return json::parse(page.substr(at, page.find("</script>", at) - at));
}

}  // namespace

TEST_CASE("chrome_trace: slices, lives, waits and wake edges of a loop") {
    recorder seen;
    checking_observer count;
    observers both{&seen, &count};
    run_watched(both, something_of_everything);
    const std::vector<json> events = checked_trace(seen);
    CHECK(count_of(events, "X", "step") >= count.its.steps);
    CHECK(count_of(events, "X", "phase") > 10);
    CHECK(count_of(events, "s", "wake") > 100);
    CHECK(has(events, "b", "task 1"));
    CHECK(has(events, "X", "poll"));
    CHECK(has(events, "X", "callback"));
    CHECK(std::any_of(events.begin(), events.end(), [](const json& e) {
        return e["ph"] == "b" && e["name"].get<std::string>().starts_with("sleep, ");
    }));
}

TEST_CASE("chrome_trace: a wake edge goes from the step that woke to the step that was woken") {
    recorder seen;
    event happened;
    run_watched(seen, [&]() -> task<> {
        auto child = spawn([&]() -> task<> { co_await happened.wait(); });
        co_await sleep_for(1us);
        happened.set();
        co_await child;
    });
    const std::vector<json> events = checked_trace(seen);
    const auto step_at = [&](double at) {
        for (const json& e : events)
            if (e["ph"] == "X" && e["cat"] == "step" && e["ts"] <= at && at <= e["ts"].get<double>() + e["dur"].get<double>())
                return e["name"].get<std::string>();
        return std::string("nothing");
    };
    test::journal edges;
    std::map<std::string, std::string> begin;
    for (const json& e : events) {
        if (e["ph"] == "s") begin[e["id"]] = step_at(e["ts"]);
        if (e["ph"] == "f") edges.add(begin[e["id"]] + ">" + step_at(e["ts"]));
    }
    CHECK(edges.text() == "task 1>task 2 task 1>task 2 task 2>task 1");  // spawned; woken; its end awaited
}

TEST_CASE("chrome_trace: a world's hosts, packets and faults") {
    recorder seen;
    eventful_world(&seen);
    const std::vector<json> events = checked_trace(seen);
    CHECK(std::any_of(events.begin(), events.end(),
                      [](const json& e) { return e["name"] == "process_name" && e["args"]["name"] == "srv"; }));
    CHECK(has(events, "X", "data 4 (lost)"));
    CHECK(count_of(events, "s", "packet") >= 5);
    CHECK(has(events, "i", "crashed"));
    CHECK(has(events, "i", "links cut"));
    CHECK(has(events, "b", "task 1 '<scenario>'"));
}

TEST_CASE("chrome_trace, timeline: of a ring that has lost the begin") {
    for (const std::size_t events : {std::size_t{1}, std::size_t{7}, std::size_t{150}}) {
        recorder seen({.events = events});
        eventful_world(&seen);
        checked_trace(seen);
        CHECK(data_of(timeline_page(seen))["dropped"] == seen.dropped());
    }
    const recorder nothing;
    CHECK(checked_trace(nothing).empty());
    CHECK(data_of(timeline_page(nothing))["steps"].empty());
}

TEST_CASE("timeline: the page holds what was recorded, and no text of it ends the script") {
    recorder seen;
    eventful_world(&seen);
    seen.mark("</script><b>");
    const std::string page = timeline_page(seen, "a <title>");
    CHECK(page.starts_with("<!doctype html>"));
    CHECK(page.ends_with("</html>\n"));
    CHECK(page.find("</script><b>") == std::string::npos);
    CHECK(page.find("http") == std::string::npos);  // it needs no network
    const json data = data_of(page);
    CHECK(data["title"] == "a <title>");
    CHECK(data["hosts"] == json({"test", "srv"}));
    std::size_t steps = 0;
    for (const recorded_event& e : all_of(seen)) steps += e.what == kind::step;
    CHECK(data["steps"].size() == steps * 8);
    CHECK(data["packets"].size() % 10 == 0);
    CHECK(data["packets"].size() >= 60);
    const auto has_text = [&](const std::string& text) {
        return std::find(data["texts"].begin(), data["texts"].end(), text) != data["texts"].end();
    };
    CHECK(has_text("<scenario>"));
    CHECK(has_text("crashed"));
    CHECK(has_text("</script><b>"));
    CHECK(has_text("syn"));
    // Whatever points to a text, a life or a step points to one.
    for (std::size_t i = 0; i < data["steps"].size(); i += 8) {
        CHECK(data["steps"][i + 2].get<int>() * 8 < static_cast<int>(data["lives"].size()));
        CHECK(data["steps"][i + 3].get<std::size_t>() < data["texts"].size());
        CHECK(data["steps"][i + 4].get<int>() < static_cast<int>(i / 8));
        CHECK(data["steps"][i + 6] <= data["steps"][i + 7]);
    }
}

#endif

TEST_CASE("chrome_trace, timeline: a file that cannot be written is an error that names it") {
    const recorder seen;
    for (const auto save : {+[](const recorder& r) { save_chrome_trace(r, "/nowhere/at/all"); },
                            +[](const recorder& r) { save_timeline(r, "/nowhere/at/all"); }}) {
        try {
            save(seen);
            FAIL("was written");
        } catch (const io_error& e) {
            CHECK(e.subject() == "/nowhere/at/all");
            CHECK(e.code() == std::errc::no_such_file_or_directory);
        }
    }
}

// --- histograms and metrics ---------------------------------------------------------------------------------

TEST_CASE("histogram: quantiles within an eighth, powers of two exactly") {
    std::uint64_t state = 1;
    const auto next = [&] { return state = state * 6364136223846793005u + 1442695040888963407u; };
    histogram h;
    std::vector<std::int64_t> all;
    std::int64_t sum = 0;
    for (int i = 0; i < 20000; ++i) {
        const auto ns = static_cast<std::int64_t>((next() >> 20) >> (next() >> 59));  // of all sizes
        h.add(duration(ns));
        all.push_back(ns);
        sum += ns;
    }
    std::sort(all.begin(), all.end());
    CHECK(h.count() == all.size());
    CHECK(h.sum().count() == sum);
    CHECK(h.max().count() == all.back());
    for (const std::uint32_t per_mille : {1u, 100u, 500u, 900u, 990u, 999u, 1000u}) {
        const std::int64_t exact = all[(all.size() * per_mille + 999) / 1000 - 1];
        const std::int64_t said = h.quantile(per_mille).count();
        CHECK(said >= exact);
        if (exact < std::int64_t{1} << 40) CHECK(said <= exact + exact / 8 + 1);
    }
    for (unsigned power = 0; power <= 41; ++power)
        CHECK(h.up_to_power(power) == static_cast<std::uint64_t>(std::upper_bound(all.begin(), all.end(), std::int64_t{1} << power) - all.begin()));
}

TEST_CASE("histogram: empty, negative, huge; merged") {
    histogram h;
    CHECK(h.quantile(500) == duration(0));
    h.add(duration(-5));
    h.add(duration::max());
    CHECK(h.quantile(500) == duration(1));
    CHECK(h.quantile(1000) == duration::max());
    CHECK(h.up_to_power(41) == 1);
    histogram other;
    other.add(1ms);
    h.merge(other);
    CHECK(h.count() == 3);
    CHECK(h.up_to_power(20) == 2);
    h.clear();
    CHECK(h.count() == 0);
}

TEST_CASE("loop_metrics: step time, queue wait, timer lateness and turns" * doctest::test_suite("order")) {
    loop_metrics metrics;
    run_watched(metrics, []() -> task<> {
        this_loop().set_timeout(1ms, [] {});
        auto slow = spawn([]() -> task<> {
            this_loop().spin(20ms);
            co_return;
        });
        auto waits = spawn(child_that_yields);
        co_await slow;
        co_await waits;
        co_await sleep_for(1ms);
    });
    // Real loops take longer, never less.
    const auto about = [](const histogram& h, duration expected) {
        return test::on_sim() ? h.max() == expected : h.max() >= expected;
    };
    CHECK(about(metrics.step_time(), 20ms));
    CHECK(about(metrics.queue_wait(), 20ms));
    CHECK(about(metrics.timer_lateness(), 19ms));
    CHECK(about(metrics.turn_time(), 20ms));
    CHECK(metrics.step_time().count() == 8);   // main 4, slow 1, waits 2, the callback 1
    CHECK(metrics.queue_wait().count() == 7);  // of tasks
    CHECK(metrics.not_sampled() == 0);
    metrics.clear();
    CHECK(metrics.step_time().count() == 0);
}

namespace {

/// A series of the text format, its value, and its labels unescaped.
struct series {
    std::string name;
    std::map<std::string, std::string> labels;
    double value;
};

/// As strict as promtool: HELP and TYPE once, before the series of their name, which follow each other.
std::vector<series> parsed(const std::string& text) {
    std::vector<series> all;
    std::map<std::string, std::string> types;
    std::string current;
    REQUIRE(text.ends_with('\n'));
    std::size_t at = 0;
    const auto name = [&] {
        const std::size_t from = at;
        while (at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '_' || text[at] == ':')) ++at;
        REQUIRE(at > from);
        REQUIRE_FALSE(std::isdigit(static_cast<unsigned char>(text[from])));
        return text.substr(from, at - from);
    };
    while (at < text.size()) {
        if (text.compare(at, 7, "# HELP ") == 0) {
            at += 7;
            current = name();
            REQUIRE(types.count(current) == 0);
            at = text.find('\n', at) + 1;
            REQUIRE(text.compare(at, 7, "# TYPE ") == 0);
            at += 7;
            REQUIRE(name() == current);
            ++at;
            types[current] = name();
            REQUIRE(text[at++] == '\n');
            continue;
        }
        series s;
        s.name = name();
        const std::string suffix = s.name.substr(std::min(s.name.size(), current.size()));
        REQUIRE(s.name.starts_with(current));
        REQUIRE((suffix.empty() || (types[current] == "histogram" && (suffix == "_bucket" || suffix == "_sum" || suffix == "_count"))));
        if (text[at] == '{') {
            do {
                ++at;
                const std::string key = name();
                REQUIRE(text.compare(at, 2, "=\"") == 0);
                std::string value;
                for (at += 2; text[at] != '"'; ++at) {
                    REQUIRE(text[at] != '\n');
                    if (text[at] == '\\') {
                        ++at;
                        REQUIRE((text[at] == 'n' || text[at] == '\\' || text[at] == '"'));
                        value += text[at] == 'n' ? '\n' : text[at];
                    } else {
                        value += text[at];
                    }
                }
                REQUIRE(s.labels.emplace(key, value).second);
                ++at;
            } while (text[at] == ',');
            REQUIRE(text[at++] == '}');
        }
        REQUIRE(text[at++] == ' ');
        std::size_t used = 0;
        const std::string value = text.substr(at, text.find('\n', at) - at);
        s.value = std::stod(value, &used);
        REQUIRE(used == value.size());
        at += used + 1;
        all.push_back(s);
    }
    return all;
}

const series* find(const std::vector<series>& all, const std::string& name) {
    for (const series& s : all)
        if (s.name == name) return &s;
    return nullptr;
}

/// Buckets rise up to the count.
void check_histogram(const std::vector<series>& all, const std::string& name) {
    double bound = 0, below = 0;
    std::size_t buckets = 0;
    for (const series& s : all) {
        if (s.name != name + "_bucket") continue;
        ++buckets;
        CHECK(s.value >= below);
        below = s.value;
        const double le = s.labels.at("le") == "+Inf" ? 1e300 : std::stod(s.labels.at("le"));
        CHECK(le > bound);
        bound = le;
    }
    CHECK(buckets == 15);
    CHECK(bound == 1e300);
    REQUIRE(find(all, name + "_count") != nullptr);
    CHECK(find(all, name + "_count")->value == below);
    CHECK(find(all, name + "_sum") != nullptr);
}

}  // namespace

TEST_CASE("prometheus: what a loop counts, with its histograms") {
    loop_metrics metrics;
    std::string text;
    run_watched(metrics, [&]() -> task<> {
        co_await something_of_everything();
        text = prometheus_text(this_loop(), &metrics);
        const auto without = parsed(prometheus_text(this_loop()));
        CHECK(find(without, "rondo_loop_step_seconds_count") == nullptr);
    });
    const auto all = parsed(text);
    CHECK(find(all, "rondo_loop_tasks")->value == 1);
    CHECK(find(all, "rondo_loop_steps_total")->value > 500);
    for (const char* name : {"rondo_loop_timer_lateness_seconds", "rondo_loop_queue_wait_seconds", "rondo_loop_step_seconds",
                             "rondo_loop_turn_seconds"})
        check_histogram(all, name);
}

TEST_CASE("prometheus: series with labels, escaped; numbers are exact") {
    histogram h;
    for (const duration d : {duration(1024), duration(1025), duration(1'500'000'000)}) h.add(d);
    prometheus_writer to;
    to.counter("app_requests_total", "Requests,\nof all sorts \\.", 3, {{"path", "/a\"b\\c\nd"}, {"code", "200"}})
        .counter("app_requests_total", "", ~std::uint64_t{0}, {{"path", ""}})
        .gauge("app:temperature", "May be below zero.", -4)
        .seconds("app_seconds", "How long.", h, {{"of", "x"}});
    const auto all = parsed(to.text());
    CHECK(all[0].labels.at("path") == "/a\"b\\c\nd");
    CHECK(all[0].labels.at("code") == "200");
    CHECK(find(all, "app:temperature")->value == -4);
    check_histogram(all, "app_seconds");
    CHECK(to.text().find("app_requests_total{path=\"\"} 18446744073709551615\n") != std::string::npos);
    CHECK(to.text().find("app_seconds_bucket{of=\"x\",le=\"0.000001024\"} 1\n") != std::string::npos);
    CHECK(to.text().find("app_seconds_bucket{of=\"x\",le=\"0.000004096\"} 2\n") != std::string::npos);
    CHECK(to.text().find("app_seconds_sum{of=\"x\"} 1.500002049\n") != std::string::npos);
    CHECK(to.text().find("# HELP app_requests_total Requests,\\nof all sorts \\\\.\n") != std::string::npos);
}

TEST_CASE("prometheus: what Prometheus would refuse is an error") {
    prometheus_writer to;
    for (const char* name : {"", "1st", "a-b", "a b", "a{"}) CHECK_THROWS_AS(to.gauge(name, "", 0), std::invalid_argument);
    CHECK_THROWS_AS(to.gauge("a", "", 0, {{"b:c", ""}}), std::invalid_argument);
    CHECK_THROWS_AS(to.seconds("a", "", histogram(), {{"le", "1"}}), std::invalid_argument);
    CHECK(to.text().empty());
    to.gauge("a", "", 0).gauge("b", "", 0);
    CHECK_THROWS_AS(to.gauge("a", "", 0), std::invalid_argument);
}
