// Time that passes when a test says so.
#include "support/every_step.hpp"

#include <rondo/testing/doctest.hpp>
#include <rondo/testing/virtual_time.hpp>

using namespace std::literals;
using rondo::task;
using rondo::testing::virtual_clock;

namespace {

TEST_CASE("virtual time: it passes when the test says so, and everything that is due happens") {
    int hits = 0;
    const int value = rondo::testing::run_virtual([&](virtual_clock& clock) -> task<int> {
        auto interval = rondo::this_loop().set_interval(100ms, [&] { ++hits; });
        co_await clock.advance(99ms);
        CHECK(hits == 0);
        co_await clock.advance(1ms);
        CHECK(hits == 1);
        co_await clock.settle();
        CHECK(clock.now() == rondo::time_point(100ms));
        co_await clock.advance(24h);
        CHECK(hits == 10 * 60 * 60 * 24 + 1);
        co_return 7;
    });
    CHECK(value == 7);
    rondo::testing::run_virtual([](virtual_clock& clock) -> task<> { co_await clock.advance(1s); });
    CHECK_THROWS_AS(rondo::testing::run_virtual([](virtual_clock&) -> task<> { co_await rondo::sleep_for(1s); }),
                    rondo::deadlock_error);
}

TEST_CASE("virtual time: settle lets all run that can, also what wakes each other") {
    rondo::testing::run_virtual([](virtual_clock& clock) -> task<> {
        int rounds = 0;
        auto other = rondo::spawn([&]() -> task<> {
            for (; rounds < 5000; ++rounds) co_await rondo::yield();
            co_await rondo::sleep_for(1ms);
            ++rounds;
        });
        co_await clock.settle();
        CHECK(rounds == 5000);
        CHECK_FALSE(other.done());
        co_await clock.advance(1ms);
        CHECK(other.done());
    });
}

}  // namespace
