// Cancellation and std::stop_token, both ways, and from other threads.
#include <rondo/interop/stop_token.hpp>

#include "support/every_step.hpp"

#include <rondo/sim/world.hpp>
#include <rondo/sync/event.hpp>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

task<int> answer(int after_ms, int value) {
    co_await sleep_for(std::chrono::milliseconds(after_ms));
    co_return value;
}

task<> for_ever() {
    for (;;) co_await sleep_for(1h);
}

}  // namespace

TEST_CASE("stop_token: what nobody stops runs to its end, and gives its value or its error") {
    test::run([]() -> task<> {
        std::stop_source source;
        const auto value = co_await with_stop_token(source.get_token(), answer, 0, 7);
        CHECK(value == 7);
        const auto no_source = co_await with_stop_token(std::stop_token(), answer, 1, 8);
        CHECK(no_source == 8);
        const bool ran = co_await with_stop_token(source.get_token(), []() -> task<> { co_await yield(); });
        CHECK(ran);
        bool thrown = false;
        try {
            co_await with_stop_token(source.get_token(), []() -> task<> {
                throw std::runtime_error("no");
                co_return;
            });
        } catch (const std::runtime_error&) {
            thrown = true;
        }
        CHECK(thrown);
    });
}

TEST_CASE("stop_token: a request cancels what runs, with everything below it") {
    test::run([]() -> task<> {
        std::stop_source source;
        bool child_unwound = false;
        auto stopped = spawn([&]() -> task<bool> {
            const auto group = [&](task_group& children) -> task<> {
                children.spawn([&]() -> task<> {
                    struct note {
                        bool& left;
                        ~note() { left = true; }
                    } here{child_unwound};
                    co_await for_ever();
                });
                co_await for_ever();
            };
            const bool ran = co_await with_stop_token(source.get_token(), [&]() { return with_task_group(group); });
            co_await yield();  // who was stopped is not cancelled for good
            co_return ran;
        });
        co_await sleep_for(1ms);
        CHECK(source.request_stop());
        const bool ran = co_await stopped;
        CHECK_FALSE(ran);
        CHECK(child_unwound);
    });
}

TEST_CASE("stop_token: one that was asked before cancels the first wait") {
    test::run([]() -> task<> {
        std::stop_source source;
        source.request_stop();
        bool begun = false;
        const auto value = co_await with_stop_token(source.get_token(), [&]() -> task<int> {
            begun = true;
            co_return co_await answer(1, 1);
        });
        CHECK(begun);
        CHECK_FALSE(value.has_value());
        const auto no_wait = co_await with_stop_token(source.get_token(), []() -> task<int> { co_return 3; });
        CHECK(no_wait == 3);  // what was completed is not thrown away
    });
}

TEST_CASE("stop_token: a cancel from further out goes on its way") {
    test::run([]() -> task<> {
        std::stop_source source;
        const auto ran = co_await move_on_after(1ms, [&] { return with_stop_token(source.get_token(), for_ever); });
        CHECK_FALSE(ran.has_value());
        CHECK_FALSE(source.stop_requested());
    });
}

TEST_CASE("stop_token: one that nobody can stop any more is no hope: what waits for ever is a deadlock") {
    event never_set;
    const auto waits = [&](std::stop_token token) -> task<> {
        const auto for_event = [&]() -> task<> { co_await never_set.wait(); };
        co_await with_stop_token(std::move(token), for_event);
    };
    CHECK_THROWS_AS(rondo::run(waits, std::stop_token()), deadlock_error);
    const std::stop_token orphan = std::stop_source().get_token();  // its source is gone
    CHECK_THROWS_AS(rondo::run(waits, orphan), deadlock_error);
}

TEST_CASE("stop_token: it works on a host of a world") {
    world w;
    bool ran = true;
    std::stop_source source;
    w.host("srv").run([&]() -> task<> {
        const bool to_its_end = co_await with_stop_token(source.get_token(), for_ever);
        ran = to_its_end;
    });
    w.run([&]() -> task<> {
        co_await sleep_for(1min);
        source.request_stop();  // another loop of this thread
        co_await sleep_for(1min);
        CHECK_FALSE(ran);
    });
}

TEST_CASE("stop_token: a request of another thread wakes a loop that sleeps" * doctest::test_suite("threads")) {
    test::run([]() -> task<> {
        std::stop_source source;
        std::thread other([source]() mutable { source.request_stop(); });
        const bool ran = co_await with_stop_token(source.get_token(), for_ever);
        CHECK_FALSE(ran);
        other.join();
    });
}

TEST_CASE("stop_token: a request may race with the end of what it stops" * doctest::test_suite("threads")) {
    std::atomic<int> requests{0};
    int stopped = 0, ended = 0;
    test::run([&]() -> task<> {
        for (int i = 0; i < 300; ++i) {
            std::stop_source source;
            std::atomic<bool> go{false};
            std::thread other([&] {
                while (!go.load()) std::this_thread::yield();
                source.request_stop();
                ++requests;
            });
            const bool ran = co_await with_stop_token(source.get_token(), [&]() -> task<> {
                go.store(true);
                for (int k = 0; k < i % 20; ++k) co_await yield();
            });
            ++(ran ? ended : stopped);
            other.join();
        }
    });
    CHECK(requests == 300);
    CHECK(stopped + ended == 300);
}

TEST_CASE("stop_token: it can be cancelled at every step, and stopped meanwhile") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        std::stop_source source;
        auto stops = spawn(
            [](std::stop_source s) -> task<> {
                co_await sleep_for(1ms);
                s.request_stop();
            },
            source);
        co_await with_stop_token(source.get_token(), for_ever);
        co_await stops;
    });
    CHECK(points > 3);
}

TEST_CASE("stop_source: a cancel asks to stop, be it behind a shield") {
    test::run([]() -> task<> {
        event asked;
        const auto body = [&](std::stop_token token) -> task<> {
            const std::stop_callback callback(token, [&] { asked.set(); });
            co_await shield(asked.wait());  // as one waits for a thread to stop
            CHECK(token.stop_requested());
        };
        const bool ran = co_await move_on_after(1ms, [&] { return with_stop_source(body); });
        CHECK(ran);  // it ended by itself, having stopped what it had to
    });
}

TEST_CASE("stop_source: who ends by himself, also with an error, asks nobody") {
    test::run([]() -> task<> {
        std::stop_token kept;
        const int got = co_await with_stop_source(
            [&](std::stop_token token, int value) -> task<int> {
                kept = token;
                co_await sleep_for(1ms);
                co_return value;
            },
            7);
        CHECK(got == 7);
        CHECK_FALSE(kept.stop_requested());
        bool thrown = false;
        try {
            co_await with_stop_source([&](std::stop_token token) -> task<> {
                kept = token;
                co_await yield();
                throw std::runtime_error("as it is");
            });
        } catch (const std::runtime_error& e) {
            thrown = std::string(e.what()) == "as it is";
        }
        CHECK(thrown);
        CHECK_FALSE(kept.stop_requested());
    });
}

TEST_CASE("stop_source: a task that is cancelled already, or before the source has begun, asks as well") {
    test::run([]() -> task<> {
        std::stop_token kept;
        const auto body = [&](std::stop_token token) -> task<> {
            kept = token;
            co_await yield();
        };
        const bool ran = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
            scope.cancel();
            co_await with_stop_source(body);
        });
        CHECK_FALSE(ran);
        CHECK(kept.stop_requested());

        kept = {};
        const bool cut = co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
            co_await with_stop_source([&](std::stop_token token) -> task<> {
                kept = token;
                scope.cancel();
                CHECK_FALSE(token.stop_requested());  // before the loop goes on
                co_await yield();
            });
        });
        CHECK_FALSE(cut);
        CHECK(kept.stop_requested());
    });
}

TEST_CASE("stop_source: it can be cancelled at every step, and asks each time") {
    std::stop_token kept;
    int asked = 0;
    const int points = test::cancel_at_every_step([&]() -> task<> {
        struct count {
            std::stop_token& token;
            int& asked;
            ~count() { asked += token.stop_requested(); }
        } at_end{kept, asked};
        kept = {};
        co_await with_stop_source([&](std::stop_token token) -> task<> {
            kept = token;
            co_await sleep_for(1ms);
            co_await yield();
        });
    });
    CHECK(points > 2);
    CHECK(asked > 2);
}

TEST_CASE("stop_source: a thread stops when the task is cancelled" * doctest::test_suite("threads")) {
    test::run([]() -> task<> {
        std::atomic<bool> stopped{false};
        const bool ran = co_await move_on_after(1ms, [&] {
            return with_stop_source([&](std::stop_token token) -> task<> {
                event over;
                remote far = this_loop().remote();
                std::jthread worker([&, token] {
                    while (!token.stop_requested()) std::this_thread::yield();
                    stopped = true;
                    CHECK(far.post([&] { over.set(); }));
                });
                co_await shield(over.wait());
            });
        });
        CHECK(ran);
        CHECK(stopped);
    });
}

TEST_CASE("stop_token: the two together hand a request through") {
    test::run([]() -> task<> {
        std::stop_source outer;
        std::stop_token inner;
        auto chain = spawn([&]() -> task<bool> {
            co_return co_await with_stop_token(outer.get_token(), [&] {
                return with_stop_source([&](std::stop_token token) -> task<> {
                    inner = token;
                    co_await for_ever();
                });
            });
        });
        co_await sleep_for(1ms);
        outer.request_stop();
        const bool ran = co_await chain;
        CHECK_FALSE(ran);
        CHECK(inner.stop_requested());
    });
}
