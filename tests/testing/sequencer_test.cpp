// What rondo/testing offers to users' tests.
#include <rondo/testing/doctest.hpp>
#include <rondo/testing/eventually.hpp>
#include <rondo/testing/sequencer.hpp>
#include <rondo/testing/virtual_time.hpp>

#include "support/every_step.hpp"

using namespace std::literals;
using rondo::task;
using rondo::testing::eventually;
using rondo::testing::sequencer;
using rondo::testing::virtual_clock;

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

RONDO_SIM_TEST("doctest: a simulated test runs its seeds, and its asserts count", rondo::seeds(20)) {
    auto& srv = w.host("srv").run([]() -> task<> {
        auto listener = rondo::tcp_listener::bind("0.0.0.0", 1);
        auto peer = co_await listener.accept();
        co_await peer.write_all("x");
    });
    auto peer = co_await rondo::tcp_stream::connect(w.address_of("srv", 1));
    std::byte one[1];
    const std::size_t got = co_await peer.read_exactly(one);
    CHECK(got == 1);
    const auto gone = [&] { return srv.descriptors() == 0; };
    const bool ended = co_await eventually(gone, 1s);
    CHECK(ended);
}

RONDO_SIM_TEST("doctest: a search is given like seeds", rondo::every_choice({.choices = 20})) {
    CHECK(w.choose(2) < 2);
    co_return;
}
