// Simulated tests in doctest.
#include "support/every_step.hpp"

#include <rondo/testing/doctest.hpp>
#include <rondo/testing/eventually.hpp>

using namespace std::literals;
using rondo::task;
using rondo::testing::eventually;

namespace {

RONDO_TEST("doctest: a coroutine runs on the backend under test") {
    int steps = 0;
    auto child = rondo::spawn([&]() -> task<> {
        co_await rondo::sleep_for(1ms);
        ++steps;
    });
    co_await child;
    CHECK(steps == 1);
    co_await rondo::yield();
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

}  // namespace
