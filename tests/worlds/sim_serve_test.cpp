// A server among strangers, in a bad world: some say nothing, some never read, some send a byte now and then, some
// hang up at once, and one host comes with all of these together. Whatever happens, no limit is exceeded, no session
// outlives its time, every connection is counted once, and who is polite is served once the network is whole.
#include <rondo/sim/simulate.hpp>
#include <rondo/testing/doctest.hpp>

#include "support/bad_world.hpp"
#include "support/net.hpp"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

using namespace std::literals;
using rondo::task;
using rondo::tcp_listener;
using rondo::tcp_stream;
using rondo::world;

namespace {

constexpr std::uint32_t most = 12;
constexpr std::uint32_t most_per_peer = 5;
constexpr rondo::duration longest = 25s;

rondo::serve_options limits(rondo::server_control& control, world& w) {
    rondo::serve_options options;
    options.max_connections = most;
    options.refuse_when_full = w.choose(2) != 0;
    options.accepts_per_turn = 1 + w.choose(4);
    options.max_connections_per_peer = most_per_peer;
    options.connection_rate_per_peer = w.choose(2) != 0 ? 5 : 0;
    options.idle_limit = 9s;
    options.write_stall_limit = w.choose(2) != 0 ? rondo::duration(6s) : rondo::duration(0);
    options.session_limit = longest;
    options.control = &control;
    return options;
}

/// What the server sees of its sessions.
struct books {
    std::map<std::string, std::uint32_t> of_host;
    std::uint32_t all = 0;
    std::uint64_t begun = 0;
};

struct entry {
    entry(books& b, const tcp_stream& peer) : in(b), host(peer.peer().address().to_string()), since(rondo::now()) {
        ++in.begun;
        CHECK(++in.all <= most);
        CHECK(++in.of_host[host] <= most_per_peer);
    }
    ~entry() {
        --in.all;
        --in.of_host[host];
        CHECK(rondo::now() - since <= longest + 100ms);  // a slow host is late by some calls
    }
    books& in;
    std::string host;
    rondo::time_point since;
};

/// Gives back what comes; who asks for it is flooded.
task<> session(books& b, tcp_stream& peer) {
    const entry here(b, peer);
    for (;;) {
        const rondo::buffer data = co_await peer.receive();
        if (data.empty()) co_return;
        if (data.text().find('F') == std::string_view::npos) {
            co_await peer.write_all(data);
            continue;
        }
        const test::bytes flood = test::make_pattern(1, 0, 100'000);
        for (;;) co_await peer.write_all(flood);
    }
}

// --- who comes ----------------------------------------------------------------------------------------------

enum class manners : std::uint32_t { silent, deaf, slow, rude, kinds };

task<> misbehave(tcp_stream& peer, manners how) {
    switch (how) {
        case manners::silent: static_cast<void>(co_await peer.receive()); break;
        case manners::deaf:
            co_await peer.write_all("F");
            co_await rondo::sleep_for(10min);
            break;
        case manners::slow:
            for (;;) {
                co_await peer.write_all("x");
                co_await rondo::sleep_for(4s);
            }
        case manners::rude: peer.reset_on_close(); break;
        case manners::kinds: break;
    }
}

/// Comes again and again, until it is told to stop.
task<> stranger(rondo::endpoint server, manners how, const bool& over) {
    while (!over) {
        auto peer = co_await rondo::attempt(tcp_stream::connect(server));
        if (peer) static_cast<void>(co_await rondo::attempt(misbehave(*peer, how)));
        co_await rondo::sleep_for(500ms);
    }
}

task<> strangers(rondo::endpoint server, std::vector<manners> who, const bool& over) {
    const auto all = [&](rondo::task_group& group) -> task<> {
        for (const manners each : who) group.spawn(stranger, server, each, std::cref(over)).discard();
        co_return;
    };
    co_await rondo::with_task_group(all);
}

/// One question that must be answered, as often as it takes.
task<> polite(rondo::endpoint server) {
    for (;;) {
        const auto ask = [&]() -> task<bool> {
            try {
                auto peer = co_await tcp_stream::connect(server);
                co_await peer.write_all("hello");
                const std::string answer = co_await test::receive_text(peer, 5);
                CHECK((answer.size() < 5 || answer == "hello"));
                co_return answer.size() == 5;
            } catch (const std::system_error&) {
                co_return false;
            }
        };
        const std::optional<bool> answered = co_await rondo::move_on_after(30s, ask);
        if (answered && *answered) co_return;
        co_await rondo::sleep_for(300ms);
    }
}

task<> among_strangers(world& w) {
    rondo::server_control control;
    books seen;
    bool over = false;
    const rondo::serve_options options = limits(control, w);
    auto& srv = w.host("srv").run([&]() -> task<> {
        auto listener = tcp_listener::try_bind("0.0.0.0", 7777);
        while (!listener) {  // it has too little of something
            co_await rondo::sleep_for(100ms);
            listener = tcp_listener::try_bind("0.0.0.0", 7777);
        }
        co_await rondo::serve(*listener, [&seen](tcp_stream& peer) { return session(seen, peer); }, options);
    });
    test::make_scarce(w, srv);
    const rondo::endpoint where = w.address_of("srv", 7777);
    for (const char* name : {"crowd", "other"}) {
        test::spoil_link(w, "srv", name);
        std::vector<manners> who(1 + w.choose(name == "crowd"sv ? 15 : 3));
        for (manners& each : who) each = static_cast<manners>(w.choose(static_cast<std::uint32_t>(manners::kinds)));
        w.host(name).run([&over, where, who]() -> task<> { co_await strangers(where, who, over); });
    }
    test::spoil_link(w, "srv", "guest");
    const test::victims victims{{"crowd", "other"}, {{"srv", "crowd"}, {"srv", "other"}, {"srv", "guest"}}};
    co_await test::disturb(w, victims);
    CHECK(control.stats().running == seen.all);

    w.heal_all();
    test::end_scarcity(srv);
    co_await rondo::sleep_for(1min);
    auto on_guest = [&]() -> task<> { co_await w.on(w.host("guest"), polite, where); };
    const bool answered = co_await rondo::move_on_after(20min, on_guest);
    CHECK(answered);
    over = true;
    control.stop();
    co_await rondo::sleep_for(30min);
    const rondo::serve_stats all = control.stats();
    CHECK(all.running == 0);
    CHECK(seen.all == 0);
    CHECK(all.accepted == all.ended);
    CHECK(all.accepted == seen.begun);
    CHECK(all.timed_out_idle + all.timed_out_writing + all.timed_out_session <= all.failed);
    CHECK(srv.descriptors() == 0);
}

}  // namespace

RONDO_SIM_TEST("sim serve: among strangers no limit is exceeded, and who is polite is served", rondo::seeds(100)) {
    co_await among_strangers(w);
}

RONDO_SIM_TEST("sim serve: the same with ready tasks in any order", test::in_chaos(rondo::seeds(30, 1000))) {
    co_await among_strangers(w);
}
