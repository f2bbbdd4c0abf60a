// Latches: waiting until a count has come to nothing.
#include "support/every_step.hpp"
#include "support/random_meetings.hpp"
#include "support/steps.hpp"

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;
using namespace test::latches;

namespace {

task<> wait_for(latch& l, journal& j, const char* name) {
    co_await l.wait();
    j.add(name);
}

TEST_CASE("latch: opens when the count is zero, and stays open" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            latch l(3, "start");
            auto a = spawn(wait_for, std::ref(l), std::ref(j), "a");
            auto b = spawn(wait_for, std::ref(l), std::ref(j), "b");
            co_await yield();
            CHECK(l.waiting() == 2);
            CHECK(l.name() == std::string("start"));
            l.count_down();
            CHECK(l.count() == 2);
            l.count_down(0);
            co_await yield();
            CHECK_FALSE(l.try_wait());
            j.add("open");
            l.count_down(2);
            CHECK(l.try_wait());
            co_await a;
            co_await b;
            co_await l.wait();
            l.count_down(0);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "open a b");
}

TEST_CASE("latch: arrive_and_wait counts even if the wait is cancelled, but not in a task that was cancelled before") {
    struct local {
        static task<> arrives(latch& l) { co_await l.arrive_and_wait(); }
        static task<> arrives_late(latch& l) {
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
            }
            co_await l.arrive_and_wait();
        }
        static task<> body() {
            latch l(3);
            auto a = spawn(arrives, std::ref(l));
            auto b = spawn(arrives_late, std::ref(l));
            co_await test::others_first();
            CHECK(l.count() == 2);
            a.cancel();
            b.cancel();
            co_await test::others_first();
            CHECK(l.count() == 2);
            CHECK(l.waiting() == 0);
            auto c = spawn(arrives, std::ref(l));
            co_await test::others_first();
            CHECK(l.waiting() == 1);
            co_await l.arrive_and_wait();
            co_await c;
            const auto after = co_await attempt(l.wait());
            CHECK(after.has_value());
        }
    };
    test::run(local::body);
}

TEST_CASE("latch: cancelled at every step") {
    struct local {
        static task<> arrives(latch& l) {
            co_await immediate();
            co_await l.arrive_and_wait();
            co_await yield();
        }
        static task<> program() {
            latch l(4);
            auto body = [&l](task_group& group) -> task<> {
                for (int i = 0; i < 3; ++i) group.spawn(arrives, std::ref(l)).discard();
                co_await arrives(l);
            };
            co_await with_task_group(body);
            CHECK(l.waiting() == 0);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 0);
}

TEST_CASE("latch: random arrivals and cancels, compared with a count and a list" * doctest::test_suite("order")) {
    struct local {
        static task<> body(std::uint64_t seed, int steps) {
            random_meetings program(seed);
            while (steps > 0) co_await program.a_latch(steps);
        }
    };
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        CAPTURE(seed);
        test::run(local::body, seed, test::steps_per_program / 50);
    }
}

}  // namespace
