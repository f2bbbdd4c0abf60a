// group.start(): a child that reports that it is ready.
#include "support/every_step.hpp"

#include <stdexcept>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

task<> ready_after(started<int> ready, duration d, int value) {
    co_await sleep_for(d);
    ready.set(value);
    co_await sleep_for(1ms);
}

TEST_CASE("start: gives the value that the child reports, and the child goes on") {
    struct local {
        static task<> body() {
            bool child_went_on = false;
            int given = 0;
            auto with_group = [&](task_group& group) -> task<> {
                auto serve = [&](started<int> ready, int port) -> task<> {
                    co_await sleep_for(1ms);
                    ready.set(port + 1);
                    co_await sleep_for(1ms);
                    child_went_on = true;
                };
                given = co_await group.start(serve, 7);
                CHECK_FALSE(child_went_on);
                CHECK(group.size() == 1);
            };
            co_await with_task_group(with_group);
            CHECK(given == 8);
            CHECK(child_went_on);
        }
    };
    test::run(local::body);
}

TEST_CASE("start: without a value, by reference, and before the child's first wait") {
    struct local {
        static task<> by_reference(started<>& ready, journal& j) {
            j.add("child");
            ready.set();
            j.add("ready");
            co_return;
        }
        static task<> body() {
            journal j;
            auto with_group = [&](supervisor_group& group) -> task<> {
                j.add("before");
                co_await group.start(by_reference, std::ref(j));
                j.add("after");
            };
            co_await with_supervisor_group(with_group);
            CHECK(j.text() == "before child ready after");
        }
    };
    test::run(local::body);
}

TEST_CASE("start: another task may report for the child") {
    struct local {
        static task<> report(started<int> ready) {
            co_await sleep_for(1ms);
            ready.set(5);
        }
        static task<> hands_on(started<int> ready, task_group& group) {
            auto other = group.spawn(report, std::move(ready));
            co_await other;
        }
        static task<> body() {
            auto with_group = [](task_group& group) -> task<> {
                const int given = co_await group.start(hands_on, std::ref(group));
                CHECK(given == 5);
            };
            co_await with_task_group(with_group);
        }
    };
    test::run(local::body);
}

task<> fails(started<int>) {
    co_await sleep_for(1ms);
    throw std::runtime_error("no port");
}
task<> cannot_begin(started<int>, int) { throw std::runtime_error("no frame"); }

template <class Group>
task<> caught(Group& group) {
    std::string what;
    try {
        co_await group.start(fails);
    } catch (const std::runtime_error& e) {
        what = e.what();
    }
    CHECK(what == "no port");
    try {
        co_await group.start(cannot_begin, 1);
    } catch (const std::runtime_error& e) {
        what = e.what();
    }
    CHECK(what == "no frame");
    CHECK_FALSE(group.cancelled());
    co_await sleep_for(1ms);  // nothing was cancelled
}

TEST_CASE("start: the error of a child that is not ready is thrown by start, unchanged, and by nobody else") {
    struct local {
        static task<> body() {
            co_await with_task_group([](task_group& group) -> task<> { co_await caught(group); });
            supervisor_group_options options;
            options.on_error = [](const std::exception_ptr&, std::source_location, void*) { FAIL("reported twice"); };
            co_await with_supervisor_group([](supervisor_group& group) -> task<> { co_await caught(group); }, options);
        }
    };
    test::run(local::body);
}

TEST_CASE("start: a child that returns, or is cancelled, before it is ready") {
    struct local {
        static task<> returns(started<int>) { co_return; }
        static task<> sleeps(started<int>) { co_await sleep_for(1h); }
        static task<> body() {
            bool caught = false;
            try {
                co_await with_task_group([](task_group& group) -> task<> { co_await group.start(returns); },
                                         {.unwrap_single = true});
            } catch (const std::logic_error&) {
                caught = true;
            }
            CHECK(caught);

            // The group of the child is another one than the caller's, and is cancelled.
            std::error_code failed;
            auto with_group = [&](task_group& group) -> task<> {
                auto other = [&group](std::error_code& code) -> task<> {
                    const result<int> r = co_await attempt(group.start(sleeps));
                    code = r.error();
                };
                auto outside = [&](task_group& callers) -> task<> {
                    auto caller = callers.spawn(other, std::ref(failed));
                    co_await sleep_for(1ms);
                    group.cancel();
                    co_await shield([&]() -> task<> { co_await caller; });
                };
                co_await shield([&]() -> task<> { co_await with_task_group(outside); });
            };
            co_await with_task_group(with_group);
            CHECK(failed == std::errc::operation_canceled);
        }
    };
    test::run(local::body);
}

TEST_CASE("start: in attempt a system_error of the child is a result, and so is the value") {
    struct local {
        static task<> refused(started<int>) {
            co_await sleep_for(1ms);
            throw std::system_error(std::make_error_code(std::errc::address_in_use));
        }
        static task<> body() {
            auto with_group = [](task_group& group) -> task<> {
                const result<int> bad = co_await attempt(group.start(refused));
                CHECK(bad.error() == std::errc::address_in_use);
                const result<int> good = co_await attempt(group.start(ready_after, 1ms, 3));
                CHECK(good.value() == 3);
            };
            co_await with_task_group(with_group);
        }
    };
    test::run(local::body);
}

TEST_CASE("start: a cancelled caller cancels the child and waits for its end") {
    struct local {
        static task<> tidies_up(started<int>, journal& j) {
            bool was_cancelled = false;
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
                was_cancelled = true;
            }
            CHECK(was_cancelled);
            co_await shield([]() -> task<> { co_await sleep_for(1ms); });
            j.add("tidy");
            throw cancelled();
        }
        static task<> body() {
            journal j;
            auto with_group = [&](task_group& group) -> task<> {
                const bool in_time =
                    co_await move_on_after(1ms, [&]() -> task<> { co_await group.start(tidies_up, std::ref(j)); });
                CHECK_FALSE(in_time);
                j.add("given up");
                CHECK(group.empty());
                CHECK_FALSE(group.cancelled());
            };
            co_await with_task_group(with_group);
            CHECK(j.text() == "tidy given up");
        }
    };
    test::run(local::body);
}

TEST_CASE("start: an error of a child whose caller is cancelled is not lost") {
    struct local {
        static task<> fails_late(started<int>) {
            bool was_cancelled = false;
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
                was_cancelled = true;
            }
            if (was_cancelled) throw std::runtime_error("while it went");
        }
        static task<> body() {
            std::string what;
            auto with_group = [&](task_group& group) -> task<> {
                try {
                    co_await move_on_after(1ms, [&]() -> task<> { co_await group.start(fails_late); });
                } catch (const std::runtime_error& e) {
                    what = e.what();
                }
            };
            co_await with_task_group(with_group);
            CHECK(what == "while it went");
        }
    };
    test::run(local::body);
}

TEST_CASE("start: a child that is ready although its caller is cancelled gives its value, and is cancelled") {
    struct local {
        static task<> stubborn(started<int> ready, bool& ended_so) {
            bool was_cancelled = false;
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
                was_cancelled = true;
            }
            CHECK(was_cancelled);
            ready.set(9);
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
                ended_so = true;
                throw;
            }
        }
        static task<> body() {
            bool ended_so = false;
            auto with_group = [&](task_group& group) -> task<> {
                const std::optional<int> given = co_await move_on_after(1ms, [&]() -> task<int> {
                    const int value = co_await group.start(stubborn, std::ref(ended_so));
                    co_return value;
                });
                REQUIRE(given.has_value());
                CHECK(*given == 9);
            };
            co_await with_task_group(with_group);
            CHECK(ended_so);
        }
    };
    test::run(local::body);
}

TEST_CASE("start: a child that gets ready in a group that was cancelled meanwhile is cancelled") {
    struct local {
        static task<> slow(started<int> ready, bool& ended_so) {
            co_await shield([]() -> task<> { co_await sleep_for(2ms); });
            ready.set(1);
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
                ended_so = true;
                throw;
            }
        }
        static task<> body() {
            bool ended_so = false;
            int given = 0;
            auto with_group = [&](task_group& group) -> task<> {
                auto cancel_soon = [](task_group& g) -> task<> {
                    co_await sleep_for(1ms);
                    g.cancel();
                };
                group.spawn(cancel_soon, std::ref(group));
                co_await shield([&]() -> task<> { given = co_await group.start(slow, std::ref(ended_so)); });
            };
            co_await with_task_group(with_group);
            CHECK(given == 1);
            CHECK(ended_so);
        }
    };
    test::run(local::body);
}

TEST_CASE("start: once ready, a failure of the child is the group's") {
    struct local {
        static task<> fails_later(started<int> ready) {
            ready.set(1);
            co_await sleep_for(1ms);
            throw std::runtime_error("later");
        }
        static task<> body() {
            bool body_cancelled = false;
            std::string what;
            auto with_group = [&](task_group& group) -> task<> {
                const int given = co_await group.start(fails_later);
                CHECK(given == 1);
                try {
                    co_await sleep_for(1h);
                } catch (const cancelled&) {
                    body_cancelled = true;
                    throw;
                }
            };
            try {
                co_await with_task_group(with_group, {.unwrap_single = true});
            } catch (const std::runtime_error& e) {
                what = e.what();
            }
            CHECK(what == "later");
            CHECK(body_cancelled);
        }
    };
    test::run(local::body);
}

TEST_CASE("start: in a cancelled group nothing is started") {
    struct local {
        static task<> never(started<int>) {
            FAIL("it ran");
            co_return;
        }
        static task<> body() {
            bool was_cancelled = false;
            auto with_group = [&](task_group& group) -> task<> {
                group.cancel();
                try {
                    co_await group.start(never);
                } catch (const cancelled&) {
                    was_cancelled = true;
                    throw;
                }
            };
            co_await with_task_group(with_group);
            CHECK(was_cancelled);
        }
    };
    test::run(local::body);
}

TEST_CASE("start: waits for its turn in a group with a limit") {
    struct local {
        static task<> body() {
            auto with_group = [](task_group& group) -> task<> {
                const time_point before = now();
                auto sleeper = []() -> task<> { co_await sleep_for(5ms); };
                group.spawn(sleeper);
                const int given = co_await group.start(ready_after, 1ms, 4);
                CHECK(given == 4);
                CHECK(now() - before >= 6ms);
            };
            co_await with_task_group(with_group, {.max_running = 1});
        }
    };
    test::run(local::body);
}

TEST_CASE("start: a deadline ends the wait for a turn, and the next in the line has it") {
    struct local {
        static task<> body() {
            auto with_group = [](task_group& group) -> task<> {
                const time_point before = now();
                group.spawn([]() -> task<> { co_await sleep_for(50ms); });
                const bool in_time =
                    co_await move_on_after(1ms, [&]() -> task<> { co_await group.start(ready_after, 1ms, 4); });
                CHECK_FALSE(in_time);
                CHECK(now() - before < 50ms);
                CHECK(group.size() == 1);
                const int given = co_await group.start(ready_after, 1ms, 5);
                CHECK(given == 5);
            };
            co_await with_task_group(with_group, {.max_running = 1});
        }
    };
    test::run(local::body);
}

// Each child waits in a start() for the next one. Cancelling must not recurse through them.
task<> start_deeper(started<> ready, task_group& group, int depth) {
    if (depth > 0) co_await group.start(start_deeper, std::ref(group), depth - 1);
    if (depth == 0) co_await sleep_for(1h);
    ready.set();
}

TEST_CASE("start: cancelling the first of a hundred thousand that wait for each other needs no stack") {
    struct local {
        static task<> body() {
            auto with_group = [](task_group& group) -> task<> {
                const bool in_time = co_await move_on_after(
                    200ms, [&]() -> task<> { co_await group.start(start_deeper, std::ref(group), 100'000); });
                CHECK_FALSE(in_time);
                CHECK(group.empty());
            };
            co_await with_task_group(with_group);
        }
    };
    test::run(local::body);
}

TEST_CASE("start: cancelled at every step, nothing is left") {
    struct local {
        static task<> takes_its_time(started<int> ready, int value) {
            for (int i = 0; i < 3; ++i) co_await immediate();  // turns: time would depend on the machine
            ready.set(value);
            co_await immediate();
        }
        static task<> program() {
            auto with_group = [](task_group& group) -> task<> {
                const int first = co_await group.start(takes_its_time, 1);
                CHECK(first == 1);
                co_await group.start(start_deeper, std::ref(group), 0);
            };
            auto in_time = move_on_after(5ms, [&]() -> task<> { co_await with_task_group(with_group); });
            co_await in_time;
        }
    };
    CHECK(test::cancel_at_every_step(local::program) >= 3);
}

}  // namespace
