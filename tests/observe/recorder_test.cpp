// The recorder: a ring of what happened last.
#include "../../lib/loop/engine.hpp"
#include "support/observed.hpp"

#include <rondo/observe/observers.hpp>
#include <rondo/observe/recorder.hpp>
#include <rondo/sim/simulate.hpp>
#include <rondo/sim/world_recorder.hpp>

#include <cerrno>
#include <map>
#include <stdexcept>

using namespace rondo;
using namespace std::chrono_literals;
using namespace test::observed;

namespace {

std::uint32_t line_of_sleep = 0;

task<> named_sleeper() {
    name_task("the sleeper");
    line_of_sleep = __LINE__ + 1;
    co_await sleep_for(1ms);
}

TEST_CASE("recorder: a task's spawn place, name, await and what it waits for") {
    recorder seen;
    const auto line = std::source_location::current().line() + 2;
    run_under(seen, []() -> task<> {
        auto child = spawn(named_sleeper);
        co_await child;
    });
    bool spawned = false, waits = false, named = false;
    for (const recorded_event& e : all_of(seen)) {
        if (e.task != 2) continue;
        if (e.what == kind::spawned) spawned = e.place.line() == line;
        if (e.what == kind::waits)
            waits = e.place.line() == line_of_sleep && e.spawned.line() == line &&
                    std::string_view(e.text).starts_with("sleep, ");
        if (e.what == kind::ended) named = std::string_view(e.text) == "the sleeper";
    }
    CHECK(spawned);
    CHECK(waits);
    CHECK(named);
    CHECK(seen.dropped() == 0);
    CHECK(seen.hosts() == std::vector<std::string>{"program"});
}

std::uint32_t line_of_last_await = 0;

task<> deep_failure() {
    line_of_last_await = __LINE__ + 1;
    co_await sleep_for(1ms);
    throw std::runtime_error("the first part of a text that is longer than what one event can hold, and its end");
}
task<> fails() { co_await deep_failure(); }

TEST_CASE("recorder: a task that ends with an error says which, and where it came from") {
    recorder seen;
    run_under(seen, []() -> task<> {
        auto child = spawn(fails);
        try {
            co_await child;
        } catch (const std::runtime_error&) {
        }
    });
    std::string text;
    bool ended = false;
    for (const recorded_event& e : all_of(seen)) {
        if (e.what == kind::failed) {
            CHECK(e.task == 2);
            CHECK(e.place.line() == line_of_last_await);
            CHECK_FALSE(ended);
            text += e.text;
        }
        if (e.what == kind::ended && e.task == 2) ended = true;
    }
    CHECK(ended);
    CHECK(text ==
          "std::runtime_error: the first part of a text that is longer than what one event can hold, and its end");
}

TEST_CASE("recorder: a step says how the wait before it has ended") {
    recorder seen;
    run_under(seen, []() -> task<> {
        auto sleeper = spawn([]() -> task<> {
            co_await sleep_for(1us);
            co_await sleep_for(1h);
        });
        co_await sleep_for(1ms);
        sleeper.cancel();
        const auto out = co_await attempt(sleeper);
        CHECK_FALSE(out);
    });
    std::vector<std::int64_t> results;
    for (const recorded_event& e : all_of(seen))
        if (e.what == kind::step && e.task == 2) results.push_back(static_cast<std::int64_t>(e.number));
    CHECK(results == std::vector<std::int64_t>{0, 0, -ECANCELED});
}

TEST_CASE("recorder: a wait knows the function that its task runs, not only the one that waits") {
    recorder seen;
    run_under(seen, []() -> task<> {
        auto child = spawn(fails);
        try {
            co_await child;
        } catch (const std::runtime_error&) {
        }
    });
    bool waited = false;
    for (const recorded_event& e : all_of(seen)) {
        if (e.what != kind::waits || e.task != 2) continue;
        waited = true;
        CHECK(e.place.line() == line_of_last_await);
        CHECK(e.root.line() == line_of_last_await + 3);
    }
    CHECK(waited);
}

TEST_CASE("recorder: the ring keeps the latest, and counts those that went") {
    recorder large, small({.events = 100});
    observers both{&large, &small};
    run_under(both, something_of_everything);
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
    run_under(seen, something_of_everything);
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
    std::string cut(43, 'x');
    cut += "\xc3\xa4 and more";
    run_under(seen, [&]() -> task<> {
        seen.mark("here");
        seen.mark(cut);
        co_return;
    });
    std::vector<std::string> marks;
    for (const recorded_event& e : all_of(seen))
        if (e.what == kind::mark) marks.push_back(e.text);
    CHECK(marks == std::vector<std::string>{"here", std::string(43, 'x')});
}

TEST_CASE("recorder: a world that is watched is the same world") {
    // A wait is described with its peer's address; being asked for that was an event of the world.
    world_recorder seen;
    CHECK(eventful_world(&seen) == eventful_world(nullptr));
}

TEST_CASE("recorder: packets and faults of a world") {
    world_recorder seen;
    eventful_world(&seen);
    std::map<int, int> packets;
    test::journal events;
    std::map<std::uint64_t, int> arrivals;
    for (const recorded_event& e : all_of(seen)) {
        if (e.what == kind::packet) {
            ++packets[e.detail];
            CHECK(e.host != e.peer);
            if (static_cast<recorded_event::packet_fate>(e.detail) == recorded_event::packet_fate::arrived)
                ++arrivals[e.number];
        }
        constexpr const char* names[] = {"started", "crashed", "cut", "healed", "stopped"};
        if (e.what == kind::host)
            events.add(names[e.detail] + (e.host == recorded_event::no_host ? "" : ":" + seen.hosts()[e.host]));
    }
    using packet = recorded_event::packet_fate;
    CHECK(packets[static_cast<int>(packet::lost)] == 1);
    CHECK(packets[static_cast<int>(packet::arrived)] == packets[static_cast<int>(packet::sent)] - 1);
    for (const auto& [number, count] : arrivals) CHECK(count == 1);
    CHECK(events.text() == "started:test started:srv cut healed crashed:srv started:srv stopped:srv stopped:test");
}

TEST_CASE("recorder: of several worlds each has hosts of its own") {
    world_recorder seen;
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

}  // namespace
