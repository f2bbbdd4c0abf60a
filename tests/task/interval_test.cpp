// Ticks that keep their phase, and what becomes of those that were missed.
#include <rondo/task/interval.hpp>

#include "support/every_step.hpp"

#include <rondo/combine/select.hpp>
#include <rondo/task/attempt.hpp>

#include <chrono>
#include <limits>
#include <string>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

using times = std::vector<duration>;

/// Runs `program()` in virtual time, whatever RONDO_BACKEND says: only there lateness is known to the nanosecond.
template <class F>
void in_virtual_time(F program) {
    loop l({.kind = backend_kind::sim});
    run_on(l, program);
}

/// When four ticks of 10 ms are taken by a task that is held up for 25 ms after the first.
times taken_by_a_late_task(missed_ticks missed, times* due = nullptr) {
    times taken;
    in_virtual_time([&]() -> task<> {
        interval ticks(10ms, missed);
        for (int i = 0; i < 4; ++i) {
            const time_point at = co_await ticks.tick();
            if (due != nullptr) due->push_back(at.time_since_epoch());
            taken.push_back(now().time_since_epoch());
            if (i == 0) co_await sleep_for(25ms);
        }
    });
    return taken;
}

}  // namespace

TEST_CASE("interval: ticks come a period apart, the first one after a period") {
    test::run([]() -> task<> {
        const time_point begin = now();
        interval ticks(1ms);
        CHECK(ticks.period() == 1ms);
        for (int i = 1; i <= 3; ++i) {
            CHECK(ticks.next() == begin + i * 1ms);
            const time_point due = co_await ticks.tick();
            CHECK(due == begin + i * 1ms);
            CHECK(now() >= due);
        }
    });
}

TEST_CASE("interval: work between the ticks, and lateness, do not shift them") {
    times taken;
    in_virtual_time([&]() -> task<> {
        interval ticks(10ms);
        for (int i = 0; i < 4; ++i) {
            co_await ticks.tick();
            taken.push_back(now().time_since_epoch());
            co_await sleep_for(7ms);
        }
    });
    CHECK(taken == times{10ms, 20ms, 30ms, 40ms});
}

TEST_CASE("interval: it can begin at any moment") {
    times due;
    in_virtual_time([&]() -> task<> {
        co_await sleep_for(5ms);
        interval at_once(now(), 10ms);
        interval in_phase(time_point(2ms), 2ms, missed_ticks::skip);
        for (int i = 0; i < 2; ++i) {
            const time_point one = co_await at_once.tick();
            due.push_back(one.time_since_epoch());
        }
        for (int i = 0; i < 2; ++i) {
            const time_point one = co_await in_phase.tick();  // the first is long due
            due.push_back(one.time_since_epoch());
        }
    });
    CHECK(due == times{5ms, 15ms, 2ms, 16ms});
}

TEST_CASE("interval: burst makes up for missed ticks, at once") {
    times due;
    CHECK(taken_by_a_late_task(missed_ticks::burst, &due) == times{10ms, 35ms, 35ms, 40ms});
    CHECK(due == times{10ms, 20ms, 30ms, 40ms});
}

TEST_CASE("interval: delay counts from the tick that was late") {
    times due;
    CHECK(taken_by_a_late_task(missed_ticks::delay, &due) == times{10ms, 35ms, 45ms, 55ms});
    CHECK(due == times{10ms, 20ms, 45ms, 55ms});
}

TEST_CASE("interval: skip goes on in the old phase") {
    times due;
    CHECK(taken_by_a_late_task(missed_ticks::skip, &due) == times{10ms, 35ms, 40ms, 50ms});
    CHECK(due == times{10ms, 20ms, 40ms, 50ms});
}

TEST_CASE("interval: a period of nothing is 1 ns, and time goes on") {
    using seconds = std::chrono::duration<double>;
    for (const delay period : {delay(0ms), delay(-1h), delay(seconds(std::numeric_limits<double>::quiet_NaN()))}) {
        in_virtual_time([&]() -> task<> {
            interval ticks(period);
            CHECK(ticks.period() == 1ns);
            for (int i = 0; i < 10; ++i) co_await ticks.tick();
            CHECK(now() == time_point(10ns));
        });
    }
}

TEST_CASE("interval: a period without an end never ticks") {
    test::run([]() -> task<> {
        interval ticks(std::chrono::hours::max());
        CHECK(ticks.next() == never);
        const auto got = co_await move_on_after(1ms, ticks.tick());
        CHECK_FALSE(got.has_value());
    });
}

TEST_CASE("interval: a cancelled wait loses no tick, nor does an arm that was not chosen") {
    times due;
    in_virtual_time([&]() -> task<> {
        interval ticks(10ms);
        const auto cut = co_await move_on_after(5ms, ticks.tick());
        CHECK_FALSE(cut.has_value());
        const auto other = co_await select_one(ticks.tick(), sleep_for(1ms));
        CHECK(other.index() == 1);
        const auto both = co_await select_one(sleep_for(4ms), ticks.tick());  // due in the same moment
        CHECK(both.index() == 0);
        co_await sleep_for(1ms);
        for (int i = 0; i < 2; ++i) {
            const auto chosen = co_await select_one(ticks.tick(), sleep_for(1h));
            due.push_back(chosen.get<0>().time_since_epoch());
        }
        const auto got = co_await attempt(ticks.tick());
        due.push_back(got.value().time_since_epoch());
    });
    CHECK(due == times{10ms, 20ms, 30ms});
}

TEST_CASE("interval: it can be cancelled at every step") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        interval ticks(1ms);
        co_await ticks.tick();
        const auto chosen = co_await select_one(ticks.tick(), sleep_for(1h));
        CHECK(chosen.index() == 0);
    });
    CHECK(points >= 2);
}

TEST_CASE("interval: who is always behind lets others run") {
    bool ran = false;
    in_virtual_time([&]() -> task<> {
        co_await sleep_for(1s);
        auto other = spawn([&]() -> task<> {
            ran = true;
            co_return;
        });
        interval ticks(time_point(), 1us);
        for (int i = 0; i < 1000; ++i) co_await ticks.tick();
        CHECK(ran);
        co_await other;
    });
}

TEST_CASE("interval: reset begins anew") {
    in_virtual_time([]() -> task<> {
        interval ticks(10ms);
        co_await sleep_for(4ms);
        ticks.reset();
        time_point due = co_await ticks.tick();
        CHECK(due == time_point(14ms));
        ticks.reset(time_point(100ms));
        due = co_await ticks.tick();
        CHECK(due == time_point(100ms));
        CHECK(ticks.next() == time_point(110ms));
    });
}

TEST_CASE("interval: the dump tells when the tick is due") {
    in_virtual_time([]() -> task<> {
        interval ticks(10s);
        auto waits = spawn([&]() -> task<> { co_await ticks.tick(); });
        co_await yield();
        CHECK(await_tree().text().find("tick, 10.0 s left") != std::string::npos);
        waits.cancel();
    });
}
