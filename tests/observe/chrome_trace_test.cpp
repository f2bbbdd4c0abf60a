// Recordings as traces and as a page.
#include "../../lib/loop/engine.hpp"
#include "support/observed.hpp"

#include <rondo/observe/chrome_trace.hpp>
#include <rondo/observe/observers.hpp>
#include <rondo/observe/recorder.hpp>
#include <rondo/observe/timeline.hpp>
#include <rondo/sim/simulate.hpp>
#include <rondo/sim/world_recorder.hpp>

#include <algorithm>
#include <map>

#if defined(RONDO_TESTS_HAVE_JSON)
#include <nlohmann/json.hpp>
#endif

using namespace rondo;
using namespace std::chrono_literals;
using namespace test::observed;

namespace {

#if defined(RONDO_TESTS_HAVE_JSON)

using nlohmann::json;

/// The events of a Chrome trace, after what Perfetto expects of them.
std::vector<json> checked_trace(const record& seen) {
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
    return static_cast<std::size_t>(std::count_if(
        events.begin(), events.end(), [&](const json& e) { return e["ph"] == type && e["cat"] == category; }));
}

bool has(const std::vector<json>& events, const char* type, const std::string& name) {
    return std::any_of(events.begin(), events.end(),
                       [&](const json& e) { return e["ph"] == type && e["name"] == name; });
}

json data_of(const std::string& page) {
    const std::string begin = "<script type=\"application/json\" id=\"data\">";
    const std::size_t at = page.find(begin) + begin.size();
    return json::parse(page.substr(at, page.find("</script>", at) - at));
}

TEST_CASE("chrome_trace: slices, lives, waits and wake edges of a loop") {
    recorder seen;
    checking_observer count;
    observers both{&seen, &count};
    run_under(both, something_of_everything);
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
    a_task_wakes_another(seen);
    const std::vector<json> events = checked_trace(seen);
    const auto step_at = [&](double at) {
        for (const json& e : events)
            if (e["ph"] == "X" && e["cat"] == "step" && e["ts"] <= at &&
                at <= e["ts"].get<double>() + e["dur"].get<double>())
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
    world_recorder seen;
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
        world_recorder seen({.events = events});
        eventful_world(&seen);
        checked_trace(seen);
        CHECK(data_of(timeline_page(seen))["dropped"] == seen.dropped());
    }
    const recorder nothing;
    CHECK(checked_trace(nothing).empty());
    CHECK(data_of(timeline_page(nothing))["steps"].empty());
}

TEST_CASE("timeline: the page holds what was recorded, and no text of it ends the script") {
    world_recorder seen;
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

task<> refused(endpoint at) { auto peer = co_await tcp_stream::connect(at); }

TEST_CASE("chrome_trace, timeline: how waits ended, what the errors say, and where they came from") {
    world_recorder seen;
    {
        world_options options;
        options.observer = &seen;
        world w(options);
        w.host("srv");
        const auto scenario = [](world& its) -> task<> {
            auto child = spawn(refused, its.address_of("srv", 1));
            const auto out = co_await attempt(child);
            CHECK_FALSE(out);
        };
        w.run(scenario, std::ref(w));
    }
    const json data = data_of(timeline_page(seen));
    CHECK(data["world"] == true);
    const auto text = [&](const json& index) { return data["texts"][index.get<std::size_t>()].get<std::string>(); };
    const auto column = [&](const char* rows, std::size_t width, std::size_t i, std::size_t at) {
        return data[rows][i * width + at];
    };
    const std::string error = "Connection refused (errno 111)";
    constexpr std::size_t wait = 9, life = 11;
    bool connected = false, joined = false, failed = false;
    for (std::size_t i = 0; i < data["waits"].size() / wait; ++i) {
        if (column("waits", wait, i, 4) != 1) continue;
        const std::string what = text(column("waits", wait, i, 3));
        connected = connected || (what.starts_with("connect ") && text(column("waits", wait, i, 6)) == error);
        joined = joined || (what == "task 2" && text(column("waits", wait, i, 6)).ends_with(error));
    }
    for (std::size_t i = 0; i < data["lives"].size() / life; ++i) {
        if (column("lives", life, i, 4) != 1) continue;
        failed = true;
        CHECK(text(column("lives", life, i, 6)).ends_with(error));
        CHECK(text(column("lives", life, i, 7)).find("chrome_trace_test.cpp:") != std::string::npos);
        CHECK(text(column("lives", life, i, 8)).ends_with("refused"));
    }
    CHECK(connected);
    CHECK(joined);
    CHECK(failed);
    const std::vector<json> events = checked_trace(seen);
    const auto said = [&](const char* argument) {
        return std::any_of(events.begin(), events.end(), [&](const json& e) {
            return e.contains("args") && e["args"].contains(argument) &&
                   e["args"][argument].get<std::string>().ends_with(error);
        });
    };
    CHECK(said("error"));
    CHECK(said("result"));
}

TEST_CASE("timeline: a loop of its own is no world, so its page begins by time") {
    recorder seen;
    run_under(seen, []() -> task<> { co_await sleep_for(1us); });
    CHECK(data_of(timeline_page(seen))["world"] == false);
}

#endif

TEST_CASE("chrome_trace, timeline: a file that cannot be written is an error that names it") {
    const recorder seen;
    for (const auto save : {+[](const record& r) { save_chrome_trace(r, "/nowhere/at/all"); },
                            +[](const record& r) { save_timeline(r, "/nowhere/at/all"); }}) {
        try {
            save(seen);
            FAIL("was written");
        } catch (const io_error& e) {
            CHECK(e.subject() == "/nowhere/at/all");
            CHECK(e.code() == std::errc::no_such_file_or_directory);
        }
    }
}

}  // namespace
