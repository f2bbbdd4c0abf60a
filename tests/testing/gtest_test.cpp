// Coroutines and simulated tests in GoogleTest.
#include <rondo/rondo.hpp>
#include <rondo/testing/eventually.hpp>
#include <rondo/testing/gtest.hpp>

using namespace std::literals;
using rondo::task;
using rondo::testing::eventually;

namespace {

RONDO_TEST(Gtest, ACoroutineRunsOnTheBackendUnderTest) {
    int steps = 0;
    auto child = rondo::spawn([&]() -> task<> {
        co_await rondo::sleep_for(1ms);
        ++steps;
    });
    co_await child;
    EXPECT_EQ(steps, 1);
    co_await rondo::yield();
}

RONDO_SIM_TEST(Gtest, ASimulatedTestRunsItsSeedsAndItsExpectationsCount, rondo::seeds(20)) {
    auto& srv = w.host("srv").run([]() -> task<> {
        auto listener = rondo::tcp_listener::bind("0.0.0.0", 1);
        auto peer = co_await listener.accept();
        co_await peer.write_all("x");
    });
    auto peer = co_await rondo::tcp_stream::connect(w.address_of("srv", 1));
    std::byte one[1];
    const std::size_t got = co_await peer.read_exactly(one);
    EXPECT_EQ(got, 1u);
    const auto gone = [&] { return srv.descriptors() == 0; };
    const bool ended = co_await eventually(gone, 1s);
    EXPECT_TRUE(ended);
}

RONDO_SIM_TEST(Gtest, ASearchIsGivenLikeSeeds, rondo::every_choice({.choices = 20})) {
    EXPECT_LT(w.choose(2), 2u);
    co_return;
}

}  // namespace
