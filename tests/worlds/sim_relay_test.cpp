// A small relay with a bug that needs a slow machine: it passes on an end before it has seen the reset behind it.
// The kernel tells of a reset once. When a write was told, the read of the other direction finds an end, and what is
// cut off looks whole. For that the reset has to come in the middle of a turn, between two calls of the relay: hosts
// that take no time for a step hardly ever see it. Nothing in here asks for slow hosts; simulate() has them.
#include <rondo/sim/simulate.hpp>
#include <rondo/testing/doctest.hpp>
#include <rondo/io/relay.hpp>

#include "support/net.hpp"

#include <cstdio>
#include <cstdlib>

using namespace std::literals;
using rondo::task;
using rondo::tcp_listener;
using rondo::tcp_stream;
using rondo::world;

namespace {

/// One direction, until it ends.
task<> pump(tcp_stream& from, tcp_stream& to, bool mended) {
    for (;;) {
        const auto data = co_await from.receive();
        if (data.empty()) break;
        co_await to.write_all(data);
    }
    // By the check phase a write that has met a reset has failed, and with it this task.
    if (mended) co_await rondo::immediate();
    static_cast<void>(to.try_shutdown());
}

task<> relayed(tcp_stream& client, rondo::endpoint upstream, bool mended) {
    try {
        tcp_stream server = co_await tcp_stream::connect(upstream);
        const auto both = [&](rondo::task_group& group) -> task<> {
            group.spawn(pump, std::ref(client), std::ref(server), mended).discard();
            co_await pump(server, client, mended);
        };
        co_await rondo::with_task_group(both);
    } catch (const std::exception&) {
        static_cast<void>(client.try_reset_on_close());  // a break must not look like an end
    }
}

task<> relay(rondo::endpoint upstream, bool mended) {
    auto listener = tcp_listener::bind("0.0.0.0", 80);
    const auto session = [&](tcp_stream& client) { return relayed(client, upstream, mended); };
    co_await rondo::serve(listener, session);
}

/// It has half an answer, and reads on. The other half never comes: it crashes before.
task<> upstream_session(tcp_stream& peer) {
    co_await peer.write_all("half an answer");
    for (;;) {
        const auto data = co_await peer.receive();
        if (data.empty()) break;
    }
    co_await rondo::sleep_for(1h);
}

task<> upstream() {
    auto listener = tcp_listener::bind("0.0.0.0", 80);
    co_await rondo::serve(listener, upstream_session);
}

/// Asks, a piece every few milliseconds, and reads what comes.
task<> client(rondo::endpoint to) {
    auto peer = co_await tcp_stream::connect(to);
    auto asks = rondo::spawn([&]() -> task<> {
        for (;;) {
            co_await peer.write_all("a piece of a question");
            const auto pause = std::chrono::milliseconds(1 + rondo::random_u64() % 10);
            co_await rondo::sleep_for(pause);
        }
    });
    bool looks_whole = false;
    try {
        for (;;) {
            const auto data = co_await peer.receive();
            if (data.empty()) break;
        }
        looks_whole = true;
    } catch (const std::system_error&) {
    }
    asks.cancel();
    const auto asked = co_await rondo::attempt(asks);
    const bool broken = !asked && asked.error() != std::errc::operation_canceled;
    if (looks_whole && !broken) throw std::runtime_error("an answer that is cut off looks whole");
}

task<> scenario(world& w, bool mended) {
    auto& up = w.host("up").run(upstream);
    w.host("relay").run(relay, w.address_of("up", 80), mended);
    const auto clients = [&](rondo::task_group& group) -> task<> {
        for (int i = 0; i < 3; ++i) group.spawn(client, w.address_of("relay", 80)).discard();
        const auto pause = std::chrono::milliseconds(100 + rondo::random_u64() % 1000);
        co_await rondo::sleep_for(pause);
        up.crash();
    };
    co_await rondo::with_task_group(clients);
}

}  // namespace

TEST_CASE("sim relay: an end that is passed on before the reset behind it is found, as hosts are slow now and then") {
    if (!test::on_sim()) return;  // the same on every backend
    const auto flawed = [](world& w) { return scenario(w, false); };
    rondo::simulation how = rondo::seeds(300);
    how.name = "relay";
    const auto found = rondo::explore(how, flawed);
    CHECK(found.failed);
    CHECK_MESSAGE(found.message.find("an answer that is cut off looks whole") != std::string::npos, found.message);
    if (std::getenv("RONDO_PLANTED_BUGS") != nullptr)
        std::printf("relay: run %lu: %s\n", static_cast<unsigned long>(found.runs), found.message.c_str());
}

TEST_CASE("sim relay: the same bug is missed when no step takes time") {
    if (!test::on_sim()) return;  // the same on every backend
    const auto flawed = [](world& w) { return scenario(w, false); };
    rondo::simulation how = rondo::seeds(300);
    how.slow_hosts = false;
    CHECK_FALSE(rondo::explore(how, flawed).failed);
}

RONDO_SIM_TEST("sim relay: one that looks for the reset first passes on no end that is none", rondo::seeds(300)) {
    co_await scenario(w, true);
}
