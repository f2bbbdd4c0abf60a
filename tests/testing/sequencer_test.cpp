// Turns that tasks take in a fixed order.
#include "support/every_step.hpp"

#include <rondo/testing/sequencer.hpp>

using namespace std::literals;
using rondo::task;
using rondo::testing::sequencer;

namespace {

TEST_CASE("sequencer: turns come in their order, whoever asks first") {
    test::run([]() -> task<> {
        sequencer order;
        test::journal seen;
        const auto step = [&](std::size_t n) -> task<> {
            auto turn = co_await order(n);
            seen.add("begin" + std::to_string(n));
            co_await rondo::yield();
            co_await rondo::yield();
            seen.add("end" + std::to_string(n));
        };
        std::vector<rondo::task_handle<>> all;
        for (const std::size_t n : {3u, 1u, 0u, 2u}) all.push_back(rondo::spawn(step, n));
        for (auto& t : all) co_await t;
        CHECK(seen.text() == "begin0 end0 begin1 end1 begin2 end2 begin3 end3");
    });
}

TEST_CASE("sequencer: a turn that is cancelled is over as soon as it comes") {
    test::run([]() -> task<> {
        sequencer order;
        test::journal seen;
        const auto step = [&](std::size_t n) -> task<> {
            auto turn = co_await order(n);
            seen.add(std::to_string(n));
        };
        auto two = rondo::spawn(step, 2);
        auto one = rondo::spawn(step, 1);
        auto three = rondo::spawn(step, 3);
        co_await rondo::sleep_for(0ms);
        one.cancel();
        two.cancel();
        co_await rondo::sleep_for(0ms);
        CHECK(seen.text().empty());
        co_await step(0);
        co_await three;
        CHECK(seen.text() == "0 3");
    });
}

TEST_CASE("sequencer: cancelled at every step, the others go on") {
    test::cancel_at_every_step([]() -> task<> {
        sequencer order;
        int done = 0;
        const auto step = [&](std::size_t n) -> task<> {
            auto turn = co_await order(n);
            co_await rondo::yield();
            ++done;
        };
        co_await rondo::with_task_group([&](rondo::task_group& group) -> task<> {
            for (const std::size_t n : {2u, 0u, 1u}) group.spawn(step, n).discard();
            co_return;
        });
        CHECK(done == 3);
    });
}

}  // namespace
