// What an observer of a loop is told.
#include "../../lib/loop/engine.hpp"
#include "support/observed.hpp"

#include <rondo/observe/observers.hpp>
#include <rondo/observe/recorder.hpp>
#include <rondo/sim/simulate.hpp>
#include <rondo/sim/world_recorder.hpp>

#include <map>

using namespace rondo;
using namespace std::chrono_literals;
using namespace test::observed;

namespace {

/// Writes down what it is told, tasks by number: "spawn 2", "step 2", "ready 1" ...
struct story_teller final : observer {
    void on(const loop_event& e) noexcept override {
        constexpr const char* endings[] = {"value", "error", "cancelled"};
        switch (e.kind) {
            case loop_event_kind::spawned: return add("spawn", e.task);
            case loop_event_kind::ready: return add("ready", e.task);
            case loop_event_kind::step: return e.step == step_kind::task ? add("step", e.task) : told.add("call");
            case loop_event_kind::waits: return add("wait", e.task);
            case loop_event_kind::ended: return add(endings[static_cast<std::size_t>(e.ending)], e.task);
            case loop_event_kind::step_end: return told.add(";");
            default: return;
        }
    }
    void add(const char* what, task_view task) { told.add(std::string(what) + std::to_string(task.number())); }
    test::journal told;
};

TEST_CASE("observer: the life of a task, from spawn to end") {
    story_teller seen;
    run_under(seen, []() -> task<> {
        auto child = spawn(child_that_yields);
        co_await child;
    });
    // The child is ready again when its own step ends; the main task when the child has ended.
    CHECK(seen.told.text() == "spawn1 step1 wait1 spawn2 ; step2 wait2 ready2 ; step2 value2 ready1 ; step1 value1 ;");
}

TEST_CASE("observer: how tasks end") {
    story_teller seen;
    run_under(seen, []() -> task<> {
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
    const std::string told = seen.told.text();
    CHECK(told.find("step2 error2") != std::string::npos);
    CHECK(told.find("cancelled3") != std::string::npos);
    CHECK(told.find("cancelled4") != std::string::npos);
    CHECK(told.find("step4") == std::string::npos);
}

TEST_CASE("observer: who wakes whom is told in the step that does; what a phase wakes, between steps") {
    story_teller seen;
    a_task_wakes_another(seen);
    CHECK(seen.told.text() ==
          "spawn1 step1 wait1 spawn2 ; step2 wait2 ; "
          "ready1 step1 wait1 ready2 ; "  // the timer wakes 1, and 1 wakes 2
          "step2 value2 ready1 ; step1 value1 ;");
}

TEST_CASE("observer: a task is made ready once before each step, whatever wakes it") {
    checking_observer seen;
    run_under(seen, something_of_everything);
    CHECK(seen.its.wrong == 0);
    CHECK(seen.its.steps > 500);
    CHECK(seen.its.is_ready.empty());
    CHECK(seen.its.ended == 24);  // 20, the session, the sleeper, the one never started, and the main task
    CHECK(seen.its.readied == seen.its.steps + 1);
}

// Ticks, and posts of other threads, were told as microtasks.
TEST_CASE("observer: ticks, microtasks, and callbacks of phases are told apart, as in the recorder's label") {
    struct counter final : observer {
        void on(const loop_event& e) noexcept override {
            if (e.kind == loop_event_kind::step) ++seen[static_cast<std::size_t>(e.step)];
        }
        int count(step_kind what) const { return seen[static_cast<std::size_t>(what)]; }
        int seen[4] = {};
    };
    counter seen;
    loop_options options;
    options.observer = &seen;
    loop l(options);
    for (int i = 0; i < 2; ++i) l.next_tick([] {});
    for (int i = 0; i < 3; ++i) l.queue_microtask([] {});
    l.set_immediate([] {});
    remote far = l.remote();
    for (int i = 0; i < 4; ++i) CHECK(far.post([] {}));
    far = {};
    auto h = spawn_on(l, []() -> task<> { co_await next_tick(); });
    l.run();
    CHECK(seen.count(step_kind::tick) == 2);
    CHECK(seen.count(step_kind::microtask) == 3);
    CHECK(seen.count(step_kind::callback) == 1 + 4);
    CHECK(seen.count(step_kind::task) == 2);
}

TEST_CASE("observer: it may come when tasks are ready already, and go") {
    checking_observer seen;
    loop l;
    auto before = spawn_on(l, child_that_yields);
    detail::engine::of(l).set_observer(&seen);
    auto after = spawn_on(l, child_that_yields);
    l.run_nowait();
    detail::engine::of(l).set_observer(nullptr);
    auto unseen = spawn_on(l, child_that_yields);
    l.run();
    CHECK(seen.its.wrong == 0);
    CHECK(seen.its.steps == 4);
    CHECK(seen.its.ended == 2);
    CHECK(seen.its.is_ready.empty());
}

TEST_CASE("observer: also in a world, in any order of tasks") {
    struct all_hosts final : world_observer {
        observer* observer_of(const host& h) noexcept override { return &its[h.name()]; }
        std::map<std::string, checking_observer> its;
    };
    for (const order mode : {order::spec, order::chaos}) {
        for (std::uint64_t seed = 0; seed < 10; ++seed) {
            all_hosts seen;
            seeded_oracle decisions(seed);
            world_options options;
            options.decisions = &decisions;
            options.mode = mode;
            options.observer = &seen;
            world w(options);
            w.host("other").run(something_of_everything);
            w.run([&]() -> task<> {
                co_await w.on(w.host("other"), something_of_everything);
                co_await something_of_everything();
            });
            for (auto& [name, of] : seen.its) {
                CHECK(of.its.wrong == 0);
                CHECK(of.its.steps > 500);
            }
            CHECK(seen.its.size() == 2);
        }
    }
}

TEST_CASE("observer: several are one") {
    story_teller a;
    checking_observer b;
    observers both{&a, nullptr, &b};
    run_under(both, child_that_yields);
    CHECK(a.told.text() == "spawn1 step1 wait1 ready1 ; step1 value1 ;");
    CHECK(b.its.steps == 2);
    CHECK_THROWS_AS((observers{&a, &a, &a, &a, &a, &a, &a, &a, &a}), std::invalid_argument);
}

}  // namespace
