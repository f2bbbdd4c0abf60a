// Barriers: parties that wait for each other, round after round.
#include "support/every_step.hpp"
#include "support/random_meetings.hpp"
#include "support/steps.hpp"

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;
using namespace test::latches;

namespace {

TEST_CASE("barrier: every round waits for all, and the last to arrive goes on before the others" *
          doctest::test_suite("order")) {
    struct local {
        static task<> party(barrier& b, journal& j, const char* name) {
            for (int round = 0; round < 2; ++round) {
                j.add(name);
                const bool last = co_await b.arrive_and_wait();
                if (last) j.add("|");
            }
        }
        static task<> body(journal& j) {
            barrier b(3, "rounds");
            CHECK(b.parties() == 3);
            CHECK(b.name() == std::string("rounds"));
            auto x = spawn(party, std::ref(b), std::ref(j), "x");
            auto y = spawn(party, std::ref(b), std::ref(j), "y");
            co_await yield();
            CHECK(b.waiting() == 2);
            auto z = spawn(party, std::ref(b), std::ref(j), "z");
            co_await x;
            co_await y;
            co_await z;
            CHECK(b.waiting() == 0);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "x y z | z x y |");
}

task<> arrive(barrier& b, journal& j, const char* name) {
    const bool last = co_await b.arrive_and_wait();
    j.add(std::string(name) + (last ? "!" : ""));
}

TEST_CASE("barrier: a cancelled party just leaves the round, which needs one more (asyncio)") {
    struct local {
        static task<> body(journal& j) {
            barrier b(2);
            auto a = spawn(arrive, std::ref(b), std::ref(j), "a");
            co_await test::others_first();
            a.cancel();
            CHECK(b.waiting() == 0);
            auto c = spawn(arrive, std::ref(b), std::ref(j), "c");
            co_await test::others_first();
            CHECK(b.waiting() == 1);
            auto d = spawn(arrive, std::ref(b), std::ref(j), "d");
            co_await c;
            co_await d;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "d! c");
}

TEST_CASE("barrier: a cancel that comes after the round was full changes nothing") {
    struct local {
        static task<> body(journal& j) {
            barrier b(2);
            auto a = spawn(arrive, std::ref(b), std::ref(j), "a");
            co_await test::others_first();
            const bool last = co_await b.arrive_and_wait();
            CHECK(last);
            a.cancel();
            co_await test::others_first();
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a");
}

TEST_CASE("barrier: a party that drops out counts no more, and may complete the round" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            barrier b(3);
            auto a = spawn(arrive, std::ref(b), std::ref(j), "a");
            auto c = spawn(arrive, std::ref(b), std::ref(j), "c");
            co_await yield();
            CHECK(b.arrive_and_drop());
            CHECK(b.parties() == 2);
            co_await a;
            co_await c;
            CHECK_FALSE(b.arrive_and_drop());
            const bool alone = co_await b.arrive_and_wait();
            CHECK(alone);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a c");
}

TEST_CASE("barrier: cancelled at every step") {
    struct local {
        static task<> party(barrier& b) {
            for (int i = 0; i < 3; ++i) {
                co_await immediate();
                const bool last = co_await b.arrive_and_wait();
                if (last) co_await yield();
            }
        }
        static task<> program() {
            barrier b(3);
            auto body = [&b](task_group& group) -> task<> {
                for (int i = 0; i < 2; ++i) group.spawn(party, std::ref(b)).discard();
                co_await party(b);
            };
            co_await with_task_group(body);
            CHECK(b.waiting() == 0);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 1);
}

TEST_CASE("latch, barrier: a deadlock report says which one") {
    struct local {
        static task<> at_latch(latch& l) { co_await l.wait(); }
        static task<> body(latch& l, barrier& b) {
            auto other = spawn(at_latch, std::ref(l));
            co_await b.arrive_and_wait();
        }
    };
    latch l(2, "start");
    barrier b(2, "rounds");
    std::string report;
    try {
        test::run(local::body, std::ref(l), std::ref(b));
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CHECK(report.find("waits: latch 'start', 1 waiting") != std::string::npos);
    CHECK(report.find("waits: barrier 'rounds', 1 waiting") != std::string::npos);
}

TEST_CASE("barrier: random arrivals, departures and cancels, compared with a list" * doctest::test_suite("order")) {
    struct local {
        static task<> body(std::uint64_t seed, int steps) {
            random_meetings program(seed);
            co_await program.rounds_of_a_barrier(steps);
        }
    };
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        CAPTURE(seed);
        test::run(local::body, seed, test::steps_per_program / 200);
    }
}

}  // namespace
