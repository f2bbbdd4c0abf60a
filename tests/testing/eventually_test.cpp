// Waiting until a condition holds.
#include "support/every_step.hpp"

#include <rondo/testing/doctest.hpp>
#include <rondo/testing/eventually.hpp>

using namespace std::literals;
using rondo::task;
using rondo::testing::eventually;

namespace {

TEST_CASE("eventually: true as soon as the condition is, false when the time is over") {
    test::run([]() -> task<> {
        bool set = false;
        int looked = 0;
        auto setter = rondo::spawn([&]() -> task<> {
            co_await rondo::sleep_for(5ms);
            set = true;
        });
        const auto is_set = [&] {
            ++looked;
            return set;
        };
        const bool in_time = co_await eventually(is_set, 1h);
        CHECK(in_time);
        CHECK(looked > 1);
        looked = 0;
        set = false;
        const bool never = co_await eventually(is_set, 0ms);
        CHECK_FALSE(never);
        CHECK(looked == 1);
        const bool late = co_await eventually(is_set, 3ms);
        CHECK_FALSE(late);
        co_await setter;
    });
}

TEST_CASE("eventually: cancelled at every step") {
    test::cancel_at_every_step([]() -> task<> {
        bool set = false;
        auto setter = rondo::spawn([&]() -> task<> {
            co_await rondo::sleep_for(2ms);
            set = true;
        });
        const auto is_set = [&] { return set; };
        co_await eventually(is_set, 1s);
        co_await setter;
    });
}

}  // namespace
