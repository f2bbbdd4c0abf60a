// Events, with and without memory.
#include "support/arms.hpp"
#include "support/every_step.hpp"
#include "support/steps.hpp"

#include <deque>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

template <class Event>
task<> pass(Event& e, journal& j, const char* name) {
    co_await e.wait();
    j.add(name);
    co_await yield();
}

template <class Event>
auto start(Event& e, journal& j, const char* name) {
    return spawn(pass<Event>, std::ref(e), std::ref(j), name);
}

TEST_CASE("event: lets everybody through once it is set, and makes them wait when it is cleared" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            event e("ready");
            CHECK_FALSE(e.is_set());
            CHECK(e.name() == std::string("ready"));
            auto a = start(e, j, "a");
            auto b = start(e, j, "b");
            co_await yield();
            CHECK(e.waiting() == 2);
            j.add("set");
            e.set();
            e.set();
            CHECK(e.is_set());
            co_await e.wait();  // does not wait
            j.add("main");
            co_await a;
            co_await b;
            e.clear();
            auto c = start(e, j, "c");
            co_await yield();
            CHECK(e.waiting() == 1);
            e.set();
            co_await c;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "set main a b c");
}

TEST_CASE("event: set() wakes all who wait, also when clear() follows in the same turn" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            event e;
            auto a = start(e, j, "a");
            auto b = start(e, j, "b");
            co_await yield();
            e.set();
            e.clear();
            co_await a;
            co_await b;
            CHECK_FALSE(e.is_set());
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a b");
}

TEST_CASE("event: a cancelled wait leaves the others alone") {
    struct local {
        static task<> body(journal& j) {
            event e;
            auto a = start(e, j, "a");
            auto b = start(e, j, "b");
            co_await test::others_first();
            a.cancel();
            CHECK(e.waiting() == 1);
            e.set();
            co_await b;
            co_await test::others_first();
            CHECK(a.state() == task_state::cancelled);
            const auto waited = co_await attempt(e.wait());
            CHECK(waited.has_value());
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "b");
}

TEST_CASE("event: a wait with a deadline") {
    struct local {
        static task<> wait(event& e) { co_await e.wait(); }
        static task<> body() {
            event e;
            const bool early = co_await move_on_after(1ms, wait, std::ref(e));
            CHECK_FALSE(early);
            CHECK(e.waiting() == 0);
            e.set();
            const bool late = co_await move_on_after(1ms, wait, std::ref(e));
            CHECK(late);
        }
    };
    test::run(local::body);
}

TEST_CASE("event: a deadlock report says which one") {
    struct local {
        static task<> body() {
            event e("never");
            co_await e.wait();
        }
    };
    std::string report;
    try {
        test::run(local::body);
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CHECK(report.find("waits: event 'never', 1 waiting") != std::string::npos);
}

TEST_CASE("auto_event: each set() lets one through, in order" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            auto_event e("tick");
            auto a = start(e, j, "a");
            auto b = start(e, j, "b");
            auto c = start(e, j, "c");
            co_await yield();
            CHECK(e.waiting() == 3);
            e.set();
            e.set();
            CHECK_FALSE(e.is_set());
            co_await b;
            co_await yield();
            j.add("again");
            e.set();
            co_await c;
            co_await a;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a b again c");
}

TEST_CASE("auto_event: remembers one set() that nobody waited for, not two") {
    struct local {
        static task<> body() {
            auto_event e;
            e.set();
            e.set();
            CHECK(e.is_set());
            co_await e.wait();
            CHECK_FALSE(e.is_set());
            CHECK_FALSE(e.try_wait());
            e.set();
            CHECK(e.try_wait());
            CHECK_FALSE(e.try_wait());
            e.set();
            e.clear();
            CHECK_FALSE(e.try_wait());
            co_return;
        }
    };
    test::run(local::body);
}

TEST_CASE("auto_event: a set() is not lost to a waiter that is cancelled in the same turn, before or after it" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(bool cancel_first) {
            journal j;
            auto_event e;
            auto a = start(e, j, "a");
            auto b = start(e, j, "b");
            co_await yield();
            if (cancel_first) a.cancel();
            e.set();
            a.cancel();
            co_await yield();
            co_await yield();
            CHECK(j.text() == (cancel_first ? "b" : "a"));
            CHECK(e.waiting() == (cancel_first ? 0u : 1u));
            e.set();
            co_await b;
        }
    };
    test::run(local::body, true);
    test::run(local::body, false);
}

TEST_CASE("auto_event: an arm that lost passes the set() on, or leaves it for the next") {
    struct local {
        static task<> body(journal& j) {
            auto_event e;
            e.set();
            auto lost = co_await test::started_arm(e.wait());
            CHECK(lost.finished());
            auto next = start(e, j, "next");
            co_await yield();
            lost.wait.give_back();
            co_await next;
            CHECK_FALSE(e.is_set());

            auto lost_too = co_await test::started_arm(e.wait());
            e.set();
            CHECK(lost_too.finished());
            lost_too.wait.give_back();
            CHECK(e.is_set());

            e.clear();
            auto cancelled_arm = co_await test::started_arm(e.wait());
            cancelled_arm.cancel();
            cancelled_arm.wait.give_back();
            CHECK_FALSE(e.is_set());
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "next");
}

TEST_CASE("event, auto_event: cancelled at every step") {
    struct local {
        static task<> program() {
            journal j;
            event all;
            auto_event one;
            auto body = [&](task_group& group) -> task<> {
                for (int i = 0; i < 3; ++i) {
                    group.spawn(pass<event>, std::ref(all), std::ref(j), "all").discard();
                    group.spawn(pass<auto_event>, std::ref(one), std::ref(j), "one").discard();
                }
                co_await immediate();
                for (int i = 0; i < 3; ++i) {
                    one.set();
                    co_await immediate();
                }
                all.set();
                co_await all.wait();
            };
            co_await with_task_group(body);
            CHECK(all.waiting() == 0);
            CHECK(one.waiting() == 0);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 1);
}

// --- against a model -----------------------------------------------------------------------------------

// Waits are numbered. What lets them through is written down twice: by them, and by the model.
struct random_events {
    explicit random_events(std::uint64_t seed) : rolls(seed) {}

    test::dice rolls;
    event all;
    auto_event one;
    bool all_set = false, one_set = false;
    std::deque<int> wait_for_all, wait_for_one;
    std::vector<int> passed, should_have;
    std::vector<std::pair<int, task_handle<>>> handles;
    int names = 0;

    template <class Event>
    task<> wait(Event& e, int name) {
        co_await e.wait();
        passed.push_back(name);
    }

    void set_all() {
        all.set();
        all_set = true;
        should_have.insert(should_have.end(), wait_for_all.begin(), wait_for_all.end());
        wait_for_all.clear();
    }
    void set_one() {
        one.set();
        if (wait_for_one.empty()) {
            one_set = true;
            return;
        }
        should_have.push_back(wait_for_one.front());
        wait_for_one.pop_front();
    }

    task<> step() {
        switch (rolls.below(8)) {
            case 0: set_all(); break;
            case 1:
                all.clear();
                all_set = false;
                break;
            case 2:
            case 3: set_one(); break;
            case 4:
                ++names;
                handles.emplace_back(names, spawn(&random_events::wait<event>, this, std::ref(all), names));
                co_await yield();
                (all_set ? should_have.push_back(names) : wait_for_all.push_back(names));
                break;
            case 5:
            case 6:
                ++names;
                handles.emplace_back(names, spawn(&random_events::wait<auto_event>, this, std::ref(one), names));
                co_await yield();
                (std::exchange(one_set, false) ? should_have.push_back(names) : wait_for_one.push_back(names));
                break;
            case 7:
                if (handles.empty()) break;
                auto& [name, handle] = handles[rolls.below(handles.size())];
                handle.cancel();
                std::erase(wait_for_all, name);
                std::erase(wait_for_one, name);
        }
        if (rolls.one_in(4)) {
            co_await yield();
            CHECK(passed == should_have);
            passed.clear();
            should_have.clear();
            std::erase_if(handles, [](auto& each) { return each.second.done(); });
        }
        if (one.is_set() != one_set) CHECK(one.is_set() == one_set);
    }

    task<> run(int steps) {
        for (int i = 0; i < steps; ++i) co_await step();
        set_all();
        while (!wait_for_one.empty()) set_one();
        co_await yield();
        CHECK(passed == should_have);
    }
};

TEST_CASE("event, auto_event: random steps, compared with two lists" * doctest::test_suite("order")) {
    struct local {
        static task<> body(std::uint64_t seed, int steps) {
            random_events program(seed);
            co_await program.run(steps);
        }
    };
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        CAPTURE(seed);
        test::run(local::body, seed, test::steps_per_program / 50);
    }
}

}  // namespace
