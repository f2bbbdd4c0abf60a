// condition: no notification is lost, and whoever leaves a wait has the mutex.
#include "support/arms.hpp"
#include "support/every_step.hpp"
#include "support/steps.hpp"

#include <algorithm>
#include <deque>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

struct shared_state {
    mutex lock{"lock"};
    condition changed{"changed"};
    journal j;
    int items = 0;
};

task<> wait_once(shared_state& s, const char* name) {
    auto guard = co_await s.lock.lock();
    co_await s.changed.wait(guard);
    s.j.add(name);
}

task<> consume(shared_state& s, const char* name) {
    auto guard = co_await s.lock.lock();
    co_await s.changed.wait(guard, [&] { return s.items > 0; });
    --s.items;
    s.j.add(name);
}

template <class F>
auto start(F what, shared_state& s, const char* name) {
    return spawn(what, std::ref(s), name);
}

TEST_CASE("condition: waiting unlocks the mutex, and has it again afterwards") {
    struct local {
        static task<> waits(shared_state& s) {
            auto guard = co_await s.lock.lock();
            s.j.add("waits");
            co_await s.changed.wait(guard);
            CHECK(s.lock.locked());
            s.j.add("woken");
        }
        static task<> body() {
            shared_state s;
            auto t = spawn(waits, std::ref(s));
            co_await test::others_first();
            CHECK(s.changed.waiting() == 1);
            CHECK(s.changed.name() == std::string("changed"));
            {
                auto guard = co_await s.lock.lock();
                s.changed.notify_one();
                s.j.add("notified");
                co_await test::others_first();
                co_await immediate();
                s.j.add("unlocks");
            }
            co_await t;
            CHECK_FALSE(s.lock.locked());
            CHECK(s.j.text() == "waits notified unlocks woken");
        }
    };
    test::run(local::body);
}

TEST_CASE("condition: a predicate that is true already does not wait") {
    struct local {
        static task<> body() {
            shared_state s;
            auto guard = co_await s.lock.lock();
            co_await s.changed.wait(guard, [] { return true; });
            CHECK(guard);
        }
    };
    test::run(local::body);
}

TEST_CASE("condition: notify_one wakes in the order of waiting, notify_all all who wait now (tokio#7996)" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            shared_state s;
            std::vector<task_handle<>> all;
            for (const char* name : {"a", "b", "c", "d"}) all.push_back(start(wait_once, s, name));
            co_await yield();
            s.changed.notify_one();
            all.push_back(start(wait_once, s, "e"));
            co_await yield();
            s.changed.notify_all();
            all.push_back(start(wait_once, s, "late"));
            for (int i = 0; i < 8; ++i) co_await yield();
            CHECK(s.j.text() == "a b c d e");
            CHECK(s.changed.waiting() == 1);
            s.changed.notify_all();
            s.changed.notify_all();
            for (auto& each : all) co_await each;
        }
    };
    test::run(local::body);
}

TEST_CASE("condition: a notification that nobody waits for is gone") {
    struct local {
        static task<> body() {
            shared_state s;
            s.changed.notify_one();
            s.changed.notify_all();
            auto t = start(wait_once, s, "a");
            co_await test::others_first();
            CHECK(s.changed.waiting() == 1);
            s.changed.notify_one();
            co_await t;
        }
    };
    test::run(local::body);
}

TEST_CASE(
    "condition: notified and cancelled in the same turn: the notification is not lost "
    "(hazard A1: gh-112202, anyio#1075)" *
    doctest::test_suite("order")) {
    struct local {
        // The item goes to one of the two, whoever was first: the notification or the cancel.
        static task<> body(bool cancel_first) {
            shared_state s;
            auto a = start(consume, s, "a");
            auto b = start(consume, s, "b");
            co_await yield();
            CHECK(s.changed.waiting() == 2);
            auto guard = co_await s.lock.lock();
            s.items = 1;
            if (cancel_first) a.cancel();
            s.changed.notify_one();
            if (!cancel_first) a.cancel();
            guard.unlock();
            co_await immediate();
            CHECK(s.items == 0);
            CHECK(s.j.text() == (cancel_first ? "b" : "a"));
            CHECK(a.done());
            CHECK(s.changed.waiting() == (cancel_first ? 0u : 1u));
            CHECK(b.done() == cancel_first);
            b.cancel();
            co_await yield();
        }
    };
    test::run(local::body, true);
    test::run(local::body, false);
}

TEST_CASE("condition: one that is notified and finds nothing leaves with `cancelled`, and the mutex") {
    struct local {
        static task<> body() {
            shared_state s;
            auto a = start(consume, s, "a");
            co_await yield();
            s.changed.notify_one();  // without an item
            a.cancel();
            co_await immediate();
            CHECK(a.state() == task_state::cancelled);
            CHECK_FALSE(s.lock.locked());
        }
    };
    test::run(local::body);
}

// What leaves the wait, and whether the mutex is held then.
task<> note_cancel(shared_state& s) {
    auto guard = co_await s.lock.lock();
    try {
        co_await s.changed.wait(guard);
        s.j.add("returned");
    } catch (const cancelled&) {
        s.j.add(guard && s.lock.locked() ? "cancelled, locked" : "cancelled, not locked");
        throw;
    }
}

TEST_CASE("condition: a cancelled wait holds the mutex when it leaves (hazard A6: bpo-22970, bpo-32841)") {
    struct local {
        static task<> body() {
            shared_state s;
            auto t = spawn(note_cancel, std::ref(s));
            co_await test::others_first();
            t.cancel();
            co_await test::others_first();
            CHECK(t.state() == task_state::cancelled);
            CHECK(s.j.text() == "cancelled, locked");
            CHECK_FALSE(s.lock.locked());
            CHECK(s.changed.waiting() == 0);
        }
    };
    test::run(local::body);
}

TEST_CASE(
    "condition: cancelled while the mutex is taken, it waits for it; a second cancel changes nothing "
    "(hazard A6: gh-77022, gh-111693, gh-86766)") {
    struct local {
        static task<> body() {
            shared_state s;
            auto t = spawn(note_cancel, std::ref(s));
            co_await test::others_first();
            auto mine = co_await s.lock.lock();
            t.cancel();
            co_await immediate();
            CHECK_FALSE(t.done());
            CHECK(s.lock.waiting() == 1);
            t.cancel();
            co_await immediate();
            CHECK_FALSE(t.done());
            mine.unlock();
            co_await test::others_first();
            CHECK(t.done());
            CHECK(s.j.text() == "cancelled, locked");
        }
    };
    test::run(local::body);
}

TEST_CASE("condition: cancelled after the notification, while it waits for the mutex, it returns") {
    struct local {
        static task<> body() {
            shared_state s;
            auto t = spawn(note_cancel, std::ref(s));
            co_await test::others_first();
            auto mine = co_await s.lock.lock();
            s.changed.notify_one();
            co_await test::others_first();
            t.cancel();
            mine.unlock();
            co_await test::others_first();
            CHECK(t.done());
            CHECK(s.j.text() == "returned");
            CHECK_FALSE(s.lock.locked());
        }
    };
    test::run(local::body);
}

TEST_CASE("condition: many cancelled waiters all leave with the mutex, one after the other (bpo-42600)") {
    struct local {
        static task<> body() {
            shared_state s;
            auto group_body = [&s](task_group& group) -> task<> {
                for (int i = 0; i < 5; ++i) group.spawn(note_cancel, std::ref(s)).discard();
                co_await test::others_first();
                CHECK(s.changed.waiting() == 5);
                group.cancel();
                s.changed.notify_all();  // too late for them
            };
            co_await with_task_group(group_body);
            CHECK_FALSE(s.lock.locked());
            CHECK(s.j.text() ==
                  "cancelled, locked cancelled, locked cancelled, locked cancelled, locked "
                  "cancelled, locked");
        }
    };
    test::run(local::body);
}

TEST_CASE("condition: in a cancelled task wait() throws, and has not unlocked") {
    struct local {
        static task<> waits(shared_state& s, bool& still_locked) {
            auto guard = co_await s.lock.lock();
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
            }
            try {
                co_await s.changed.wait(guard);
            } catch (const cancelled&) {
                still_locked = guard && s.lock.locked();
            }
        }
        static task<> body() {
            shared_state s;
            bool still_locked = false;
            auto t = spawn(waits, std::ref(s), std::ref(still_locked));
            co_await test::others_first();
            t.cancel();
            co_await t;
            CHECK(still_locked);
            CHECK_FALSE(s.lock.locked());
        }
    };
    test::run(local::body);
}

TEST_CASE("condition: a wait with a deadline") {
    struct local {
        static task<bool> wait_for_item(shared_state& s, mutex::guard& guard) {
            co_return co_await move_on_after(
                1ms,
                [](shared_state& in, mutex::guard& held) -> task<> {
                    co_await in.changed.wait(held, [&in] { return in.items > 0; });
                },
                std::ref(s), std::ref(guard));
        }
        static task<> body() {
            shared_state s;
            auto guard = co_await s.lock.lock();
            const bool in_time = co_await wait_for_item(s, guard);
            CHECK_FALSE(in_time);
            CHECK(s.lock.locked());
            CHECK(guard);
        }
    };
    test::run(local::body);
}

TEST_CASE("condition: a re-lock takes part in the search for circles") {
    struct local {
        static task<> holds_one_and_waits(shared_state& s, mutex& one) {
            auto first = co_await one.lock();
            auto guard = co_await s.lock.lock();
            co_await s.changed.wait(guard);
        }
        static task<> body() {
            shared_state s;
            mutex one("one");
            auto t = spawn(holds_one_and_waits, std::ref(s), std::ref(one));
            co_await test::others_first();
            auto guard = co_await s.lock.lock();
            s.changed.notify_one();
            std::string report;
            try {
                auto second = co_await one.lock();
            } catch (const deadlock_error& e) {
                report = e.what();
            }
            CHECK(report.find("task 2 holds mutex 'one' and waits for mutex 'lock'") != std::string::npos);
            guard.unlock();
            co_await t;
        }
    };
    test::run(local::body);
}

TEST_CASE("condition: a re-lock that closes a circle cannot be refused; others who come near are told nothing false") {
    struct local {
        static task<> holds_one_and_waits(shared_state& s, mutex& one) {
            auto first = co_await one.lock();
            auto guard = co_await s.lock.lock();
            co_await s.changed.wait(guard);
        }
        static task<> takes(mutex& m) { auto guard = co_await m.lock(); }
        static task<> locks_then_one(shared_state& s, mutex& one) {
            auto guard = co_await s.lock.lock();
            auto second = co_await one.lock();
        }
        static task<> body() {
            shared_state s;
            mutex one("one");
            auto a = spawn(holds_one_and_waits, std::ref(s), std::ref(one));
            co_await test::others_first();
            auto b = spawn(locks_then_one, std::ref(s), std::ref(one));
            co_await test::others_first();
            s.changed.notify_one();  // a waits for b, and b for a
            auto c = spawn(takes, std::ref(one));
            co_await test::others_first();
            CHECK(one.waiting() == 2);
            CHECK(s.lock.waiting() == 1);
            b.cancel();  // which undoes it
            co_await a;
            co_await c;
        }
    };
    test::run(local::body);
}

TEST_CASE("condition: a deadlock report says which one") {
    struct local {
        static task<> body() {
            shared_state s;
            auto guard = co_await s.lock.lock();
            co_await s.changed.wait(guard);
        }
    };
    std::string report;
    try {
        test::run(local::body);
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CHECK(report.find("waits: condition 'changed', 1 waiting") != std::string::npos);
}

TEST_CASE("condition: an arm that lost passes the notification on, and the mutex stays locked") {
    struct local {
        static task<> body() {
            shared_state s;
            auto guard = co_await s.lock.lock();
            auto lost = co_await test::started_arm(s.changed.wait(guard));
            CHECK_FALSE(s.lock.locked());
            auto next = start(wait_once, s, "next");
            co_await test::others_first();
            s.changed.notify_one();
            CHECK(lost.finished());
            CHECK(s.lock.locked());
            lost.wait.give_back();
            CHECK(s.lock.waiting() == 1);
            guard.unlock();
            co_await next;
            CHECK(s.j.text() == "next");

            guard = co_await s.lock.lock();
            auto cut = co_await test::started_arm(s.changed.wait(guard));
            cut.cancel();
            CHECK(cut.finished());
            CHECK(s.lock.locked());
            cut.wait.give_back();
        }
    };
    test::run(local::body);
}

TEST_CASE("condition: cancelled at every step, each item is consumed once") {
    struct local {
        static task<> consumer(shared_state& s, int& consumed) {
            for (;;) {
                auto guard = co_await s.lock.lock();
                co_await s.changed.wait(guard, [&s] { return s.items > 0; });
                --s.items;
                ++consumed;
            }
        }
        static task<> producer(shared_state& s, int& produced) {
            for (int i = 0; i < 3; ++i) {
                auto guard = co_await s.lock.lock();
                ++s.items;
                ++produced;
                s.changed.notify_one();
                guard.unlock();
                co_await immediate();
            }
        }
        static task<> program() {
            shared_state s;
            int consumed = 0, produced = 0;
            struct balanced {
                shared_state& s;
                int &consumed, &produced;
                ~balanced() {
                    CHECK(consumed + s.items == produced);
                    CHECK_FALSE(s.lock.locked());
                    CHECK(s.changed.waiting() == 0);
                }
            } check{s, consumed, produced};
            auto body = [&](task_group& group) -> task<> {
                for (int i = 0; i < 2; ++i) group.spawn_background(consumer, std::ref(s), std::ref(consumed)).discard();
                auto a = group.spawn(producer, std::ref(s), std::ref(produced));
                auto b = group.spawn(producer, std::ref(s), std::ref(produced));
                co_await a;
                co_await b;
                co_await immediate();
                CHECK(consumed == 6);
            };
            co_await with_task_group(body);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 1);
}

// --- against a model -----------------------------------------------------------------------------------

// Waits are numbered; a notification is worth one of them. Mutex and condition are lists in the model.
struct random_condition {
    explicit random_condition(std::uint64_t seed) : rolls(seed) {}

    test::dice rolls;
    mutex lock;
    condition changed;
    std::deque<int> waiting;  // who has not been notified
    std::vector<std::string> left, should_leave;
    std::vector<std::pair<int, task_handle<>>> handles;
    int names = 0;

    task<> wait(int name) {
        auto guard = co_await lock.lock();
        bool was_cancelled = false;
        try {
            co_await changed.wait(guard);
        } catch (const cancelled&) {
            was_cancelled = true;
        }
        if (!guard || !lock.locked()) FAIL_CHECK("left without the mutex");
        left.push_back(std::to_string(name) + (was_cancelled ? " cancelled" : " notified"));
    }
    // The mutex goes to them in the order in which they are notified or cancelled.
    void leaves(std::size_t at, const char* how) {
        should_leave.push_back(std::to_string(waiting[at]) + how);
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(at));
    }

    task<> step() {
        while (waiting.size() < 6) {
            handles.emplace_back(names, spawn(&random_condition::wait, this, names));
            co_await yield();
            waiting.push_back(names++);
        }
        auto guard = co_await lock.lock();
        for (std::size_t n = 1 + rolls.below(4); n > 0; --n) {
            const std::size_t what = rolls.below(8);
            if (what == 0) {
                changed.notify_all();
                while (!waiting.empty()) leaves(0, " notified");
            } else if (what < 5) {
                changed.notify_one();
                if (!waiting.empty()) leaves(0, " notified");
            } else {
                auto& [name, handle] = handles[rolls.below(handles.size())];
                handle.cancel();
                const auto at = std::find(waiting.begin(), waiting.end(), name);
                if (at != waiting.end()) leaves(static_cast<std::size_t>(at - waiting.begin()), " cancelled");
            }
            if (rolls.one_in(3)) co_await yield();  // with the mutex held: nobody may leave
            if (!left.empty()) FAIL_CHECK("left while the mutex was taken");
        }
        guard.unlock();
        for (std::size_t i = 0; i < handles.size() + 1; ++i) co_await yield();
        CHECK(left == should_leave);
        left.clear();
        should_leave.clear();
        CHECK(changed.waiting() == waiting.size());
        std::erase_if(handles, [](auto& each) { return each.second.done(); });
    }

    task<> run(int steps) {
        for (int i = 0; i < steps; ++i) co_await step();
        changed.notify_all();
        for (auto& each : handles) co_await each.second;
        CHECK_FALSE(lock.locked());
    }
};

TEST_CASE("condition: random notifications and cancels, compared with a list (hazard A11)" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(std::uint64_t seed, int steps) {
            random_condition program(seed);
            co_await program.run(steps);
        }
    };
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        CAPTURE(seed);
        test::run(local::body, seed, test::steps_per_program / 100);
    }
}

}  // namespace
