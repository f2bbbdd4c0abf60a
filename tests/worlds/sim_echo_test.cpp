// The echo server in a bad world: every fault there is, mixed anew for each seed. Whatever happens, nothing
// is lost that was answered, order is kept, and once the world is whole again, everything gets done.
#include <rondo/sim/simulate.hpp>
#include <rondo/testing/doctest.hpp>

#include "support/bad_world.hpp"
#include "support/net.hpp"

using namespace std::literals;
using rondo::task;
using rondo::tcp_stream;
using rondo::world;

namespace {

constexpr std::size_t blocks = 6;
constexpr std::size_t block_size = 3000;

task<> echo_server() {
    const rondo::serve_options options{.max_connections = 20};
    co_await test::serve_at(7777, test::echo_session, options);
}

/// Sends its blocks one after the other, each until it was answered whole; a connection lives as long as
/// it works. Gives how often it had to connect.
task<int> client(rondo::endpoint server, std::size_t which) {
    int connections = 0;
    std::size_t done = 0;
    while (done < blocks) {
        const auto work = [&]() -> task<> {
            try {
                auto peer = co_await tcp_stream::connect(server);
                ++connections;
                while (done < blocks) {
                    const std::size_t from = done * block_size;
                    const test::bytes sent = test::make_pattern(which, from, block_size);
                    co_await peer.write_all(sent);
                    test::bytes got(block_size);
                    const std::size_t n = co_await peer.read_exactly(got);
                    // Also what comes before a connection breaks is right.
                    CHECK(test::is_pattern(std::span(got).first(n), which, from));
                    if (n < block_size) break;
                    ++done;
                }
            } catch (const std::system_error&) {
            }
        };
        const bool in_time = co_await rondo::move_on_after(30s, work);
        if (in_time && done < blocks) co_await rondo::sleep_for(200ms);
    }
    co_return connections;
}

task<> bad_world(world& w) {
    auto& srv = w.host("srv").run(echo_server);
    for (const char* name : {"one", "two"}) test::spoil_link(w, "srv", name);
    test::make_scarce(w, srv);
    const auto on_host = [&](const char* name, std::size_t which) -> task<int> {
        const int connections = co_await w.on(w.host(name), client, w.address_of("srv", 7777), which);
        co_return connections;
    };
    auto one = rondo::spawn(on_host, "one", 1);
    auto two = rondo::spawn(on_host, "two", 2);
    const test::victims victims{{"srv"}, {{"srv", "one"}, {"srv", "two"}}};
    co_await test::disturb(w, victims);

    w.heal_all();
    test::end_scarcity(srv);
    const auto finish = [&]() -> task<> {
        const int first = co_await one;
        const int second = co_await two;
        CHECK(first >= 1);
        CHECK(second >= 1);
    };
    const bool finished = co_await rondo::move_on_after(10min, finish);
    CHECK(finished);  // liveness: in a whole world it gets done
    co_await rondo::sleep_for(20min);  // connections nobody is at any more end, or were told
    CHECK(w.host("one").descriptors() == 0);
    CHECK(w.host("two").descriptors() == 0);
}

}  // namespace

RONDO_SIM_TEST("sim echo: a bad world loses nothing, and gets done once it is whole", rondo::seeds(200)) {
    co_await bad_world(w);
}

RONDO_SIM_TEST("sim echo: the same with ready tasks in any order", test::in_chaos(rondo::seeds(60, 1000))) {
    co_await bad_world(w);
}

RONDO_SIM_TEST("sim echo: a bad world is the same one each time", [] {
    auto twice = rondo::seeds(20, 2000);
    twice.check = true;
    return twice;
}()) {
    co_await bad_world(w);
}
