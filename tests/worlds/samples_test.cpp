// The samples that serve, as they are: cancelled at every step, and in a bad world.
#include <rondo/io.hpp>
#include <rondo/net.hpp>
#include <rondo/os.hpp>
#include <rondo/rondo.hpp>
#include <rondo/sim/simulate.hpp>
#include <rondo/testing/doctest.hpp>
#include <rondo/testing/eventually.hpp>

#include "support/bad_world.hpp"
#include "support/every_step.hpp"
#include "support/net.hpp"
#include "../samples/options.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <variant>
#include <vector>

// What they include is above, so nothing else comes into these namespaces.
namespace line_chat {
#include "../samples/line_chat.cpp"
}
namespace tcp_proxy {
#include "../samples/tcp_proxy.cpp"
}
namespace chaos_proxy {
#include "../samples/chaos_proxy.cpp"
}
namespace fetcher {
#include "../samples/fetcher.cpp"
}
namespace udp_echo {
#include "../samples/udp_echo.cpp"
}

using namespace std::literals;
using rondo::task;
using rondo::tcp_listener;
using rondo::tcp_stream;
using rondo::world;
using test::must;

namespace {

constexpr rondo::serve_options unsignalled{.stop_on_signals = false};

/// In a world; a host may fail to listen at first.
template <class Session>
task<> serves(std::uint16_t port, Session session) {
    return test::serve_at(port, session, unsignalled);
}

bool is_cancelled() { return rondo::current_deadline() == rondo::time_point::min(); }

/// `body` while `session` is served on a free port.
template <class Session, class Body>
task<> while_served(Session session, Body body) {
    tcp_listener listener = test::listen();
    const rondo::endpoint where = listener.local();
    auto both = [&](rondo::task_group& group) -> task<> {
        auto serving = [&]() -> task<> { co_await rondo::serve(listener, session, unsignalled); };
        group.spawn_background(serving).discard();
        try {
            co_await body(where);
        } catch (const std::system_error&) {
            if (!is_cancelled()) throw;  // the session has been cancelled as well, and hung up first
        }
    };
    co_await rondo::with_task_group(both);
}

/// What was read has to be this, unless the peer has been cancelled in the middle of it.
void check_read(const std::optional<std::string>& read, const char* wanted) {
    if (!is_cancelled()) CHECK(read.value_or("(the end)") == wanted);
}

// --- line_chat

task<> says_and_hears(rondo::endpoint chat) {
    tcp_stream one = co_await tcp_stream::connect(chat);
    tcp_stream two = co_await tcp_stream::connect(chat);
    rondo::buffered_reader from_one(one), from_two(two);
    co_await one.write_all("room\nhello\n");
    const auto own = co_await from_one.read_line();
    check_read(own, "hello");
    co_await two.write_all("room\ngood day\n");
    const auto heard = co_await from_one.read_line();
    check_read(heard, "good day");
    two.shutdown();
    const auto last = co_await from_two.read_line();
    check_read(last, "good day");
    const auto end = co_await from_two.read_line();
    check_read(end, "(the end)");
}

TEST_CASE("sample line_chat: cancelled at every step it leaves nothing and nobody") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        co_await while_served(line_chat::session, says_and_hears);
        CHECK(line_chat::rooms.empty());
    });
    CHECK(points > 20);
    CHECK(line_chat::rooms.empty());
}

/// What one visitor has heard in one connection: of each other's connection lines in a row.
class transcript {
 public:
    void heard(const std::string& line) {
        if (!line.ends_with(';')) return;  // the connection of who said it, or this one, broke in the middle of it
        const std::size_t space = line.rfind(' ');
        const int number = std::stoi(line.substr(space + 1));
        const auto [at, first] = last_.try_emplace(line.substr(0, space), number);
        must(first || number == at->second + 1, "of each speaker every line is heard, once and in order");
        at->second = number;
    }

 private:
    std::map<std::string, int> last_;
};

struct gathering {
    bool resting = false;
    bool whole = false;
    int heard_all = 0;
    bool over = false;
};

constexpr int lines_each = 20;

/// Hears its own lines back, as everybody does; comes again until all of a visit's lines were heard.
task<> visit(rondo::endpoint chat, std::string name, gathering& all) {
    tcp_stream peer = co_await tcp_stream::connect(chat);
    co_await peer.write_all("room\n");
    int own = 0;
    auto talk = [&](rondo::task_group& group) -> task<> {
        auto hear = [&]() -> task<> {
            rondo::buffered_reader in(peer);
            transcript script;
            while (auto line = co_await in.read_line()) {
                script.heard(*line);
                if (line->starts_with(name) && line->ends_with(';')) ++own;
            }
            group.cancel();
        };
        group.spawn_background(hear).discard();
        for (int i = 1; i <= lines_each; ++i) {
            const std::string line = name + ' ' + std::to_string(i) + ";\n";
            co_await peer.write_all(line);
            co_await rondo::sleep_for(20ms);
        }
        const auto heard = [&] { return own == lines_each; };
        const bool back = co_await rondo::testing::eventually(heard, 30s, 20ms);
        must(back || !all.whole, "in a whole world who speaks is heard");
        all.heard_all += back && all.whole;
    };
    co_await rondo::with_task_group(talk);
}

task<> visitor(rondo::endpoint chat, std::string name, std::shared_ptr<gathering> all) {
    while (!all->over) {
        if (all->resting) {
            co_await rondo::sleep_for(1s);
            continue;
        }
        const std::string now = name + '.' + std::to_string(rondo::random_u64());
        try {
            co_await visit(chat, now, *all);
        } catch (const rondo::exception_group& errors) {
            errors.rethrow_except<std::system_error>();
        } catch (const std::system_error&) {
        }
        co_await rondo::sleep_for(200ms);
    }
}

task<> chat_in_a_bad_world(world& w) {
    auto all = std::make_shared<gathering>();
    auto& srv = w.host("srv").run([] { return serves(7000, line_chat::session); });
    test::make_scarce(w, srv);
    test::victims victims{{"srv"}, {}};
    for (const char* const name : {"ann", "bob", "cid"}) {
        test::spoil_link(w, "srv", name);
        victims.hosts.push_back(name);
        victims.links.emplace_back("srv", name);
        w.host(name).run(visitor, w.address_of("srv", 7000), std::string(name), all);
    }
    co_await test::disturb(w, victims);
    w.heal_all();
    test::end_scarcity(srv);
    all->resting = true;
    co_await rondo::sleep_for(20min);  // what began in the bad world is over
    all->resting = false;
    all->whole = true;
    const bool heard = co_await rondo::testing::eventually([&] { return all->heard_all >= 6; }, 10min, 100ms);
    must(heard, "in a whole world all are heard");
    all->over = true;  // a host that went silently leaves a connection of which TCP never says that it is dead
}

/// One who never reads owes a megabyte at most, is shown out, and the others hear all.
task<> a_lazy_client(world& w) {
    constexpr int lines = 3000;
    w.host("srv").run([] { return serves(7000, line_chat::session); });
    co_await rondo::sleep_for(1s);
    const rondo::endpoint chat = w.address_of("srv", 7000);
    tcp_stream lazy = co_await tcp_stream::connect(chat);
    tcp_stream one = co_await tcp_stream::connect(chat);
    co_await lazy.write_all("room\n");
    co_await one.write_all("room\n");
    co_await rondo::sleep_for(1s);
    const std::string text(1000, 'x');
    auto both = [&](rondo::task_group& group) -> task<> {
        auto hears = [&]() -> task<> {
            rondo::buffered_reader in(one);
            for (int i = 0; i < lines; ++i) {
                const auto line = co_await in.read_line();
                must(line && line->size() == text.size() + 5, "everybody hears all");
            }
        };
        group.spawn(hears).discard();
        for (int i = 0; i < lines; ++i) {
            const std::string line = std::to_string(10000 + i) + text + '\n';
            co_await one.write_all(line);
        }
    };
    co_await rondo::with_task_group(both);
    std::size_t got = 0;
    for (;;) {
        auto some = co_await lazy.receive();
        if (some.empty()) break;
        got += some.size();
    }
    must(got < lines * (text.size() + 6), "who does not read is shown out");
}

// --- tcp_proxy

task<> echo(tcp_stream& peer) {
    for (;;) {
        auto data = co_await peer.receive();
        if (data.empty()) break;
        co_await peer.write_all(data);
    }
    peer.shutdown();
}

task<> asks_through(rondo::endpoint proxy) {
    tcp_stream peer = co_await tcp_stream::connect(proxy);
    co_await peer.write_all("over two hops");
    peer.shutdown();
    const test::bytes all = co_await test::read_to_end(peer);
    check_read(test::as_text(all), "over two hops");
}

TEST_CASE("sample tcp_proxy: cancelled at every step it leaves nothing") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        auto in_front = [](rondo::endpoint target) -> task<> {
            auto session = [target](tcp_stream& here) { return tcp_proxy::session(here, target); };
            co_await while_served(session, asks_through);
        };
        co_await while_served(echo, in_front);
    });
    CHECK(points > 20);
}

/// What comes out at the other end is a beginning of what went in; and if an end is seen, it is all of it.
task<> proxy_in_a_bad_world(world& w) {
    constexpr std::size_t size = 30'000;
    auto answered = std::make_shared<int>(0);
    auto unharmed = std::make_shared<bool>(true);
    auto& middle = w.host("proxy").run([target = w.address_of("up", 81)] {
        return serves(80, [target](tcp_stream& here) { return tcp_proxy::session(here, target); });
    });
    w.host("up").run([] { return serves(81, echo); });
    test::make_scarce(w, middle);
    test::spoil_link(w, "proxy", "up");
    test::spoil_link(w, "proxy", "one");
    w.host("one").run([=, proxy = w.address_of("proxy", 80)]() -> task<> {
        for (;;) {
            auto once = [&]() -> task<> {
                tcp_stream peer = co_await tcp_stream::connect(proxy);
                const test::bytes sent = test::make_pattern(1, 0, size);
                auto both = [&](rondo::task_group& group) -> task<> {
                    auto writes = [&]() -> task<> {
                        co_await peer.write_all(sent);
                        peer.shutdown();
                    };
                    group.spawn(writes).discard();
                    std::size_t got = 0;
                    for (;;) {
                        auto data = co_await peer.receive();
                        if (data.empty()) break;
                        *unharmed = *unharmed && test::is_pattern(data, 1, got);
                        got += data.size();
                    }
                    co_await rondo::immediate();  // a reset that came with it is known by then
                    *unharmed = *unharmed && got == size;
                    ++*answered;
                };
                co_await rondo::with_task_group(both);
            };
            try {
                co_await rondo::move_on_after(30s, once);
            } catch (const std::exception&) {
            }
            co_await rondo::sleep_for(200ms);
        }
    });
    const test::victims victims{{"one", "up", "proxy"}, {{"proxy", "one"}, {"proxy", "up"}}};
    co_await test::disturb(w, victims);
    w.heal_all();
    test::end_scarcity(middle);
    const int before = *answered;
    const bool done = co_await rondo::testing::eventually([&] { return *answered > before + 2; }, 10min, 100ms);
    must(*unharmed, "an end comes behind all that was written, unchanged");
    must(done, "in a whole world all are answered");
}

// --- chaos_proxy

TEST_CASE("sample chaos_proxy: cancelled at every step it leaves nothing, whatever the fate of a connection") {
    using chaos_proxy::fate;
    for (const auto how : {fate::on_its_own, fate::cut, fate::reset}) {
        chaos_proxy::settings with;
        with.delay = 1ms;
        with.dribble = 5;
        with.cut = how == fate::cut ? 100 : 0;
        with.reset = how == fate::reset ? 100 : 0;
        with.within = 20;
        const int points = test::cancel_at_every_step([&]() -> task<> {
            chaos_proxy::totals seen;
            auto in_front = [&](rondo::endpoint target) -> task<> {
                with.target = target;
                auto session = [&](tcp_stream& here) { return chaos_proxy::session(here, with, seen); };
                auto asks = [&](rondo::endpoint proxy) -> task<> {
                    tcp_stream peer = co_await tcp_stream::connect(proxy);
                    const auto sent = co_await rondo::attempt(peer.write_all("over two hops, or not"));
                    if (sent) static_cast<void>(peer.try_shutdown());
                    try {
                        const test::bytes all = co_await test::read_to_end(peer);
                        if (is_cancelled()) co_return;
                        CHECK("over two hops, or not"sv.starts_with(test::as_text(all)));
                        CHECK((all.size() == 21) == (how == fate::on_its_own));
                    } catch (const std::system_error& e) {
                        if (is_cancelled()) co_return;
                        CHECK(how == fate::reset);
                        CHECK(e.code() == std::errc::connection_reset);
                    }
                };
                co_await while_served(session, asks);
            };
            co_await while_served(echo, in_front);
        });
        CHECK(points > 20);
    }
}

/// Whatever it does to a connection, and whatever the world adds: what comes is a beginning of what was sent, and of
/// those that it spares some are whole.
task<> chaos_in_a_bad_world(world& w) {
    constexpr std::size_t size = 5'000;
    auto whole = std::make_shared<int>(0);
    auto unharmed = std::make_shared<bool>(true);
    auto with = std::make_shared<chaos_proxy::settings>();
    auto seen = std::make_shared<chaos_proxy::totals>();
    with->target = w.address_of("up", 81);
    with->delay = test::some_ms(w, 20);
    with->dribble = 100 + w.choose(1000);
    with->cut = w.choose(40);
    with->reset = w.choose(40);
    with->within = 2 * size;
    with->seed = w.choose(1000);
    auto& middle = w.host("proxy").run([with, seen] {
        return serves(80, [with, seen](tcp_stream& here) { return chaos_proxy::session(here, *with, *seen); });
    });
    w.host("up").run([] { return serves(81, echo); });
    test::make_scarce(w, middle);
    test::spoil_link(w, "proxy", "up");
    test::spoil_link(w, "proxy", "one");
    w.host("one").run([=, proxy = w.address_of("proxy", 80)]() -> task<> {
        for (;;) {
            auto once = [&]() -> task<> {
                tcp_stream peer = co_await tcp_stream::connect(proxy);
                const test::bytes sent = test::make_pattern(1, 0, size);
                co_await peer.write_all(sent);
                peer.shutdown();
                const test::bytes back = co_await test::read_to_end(peer);
                *unharmed = *unharmed && back.size() <= size && test::is_pattern(back, 1);
                *whole += back.size() == size;
            };
            try {
                co_await rondo::move_on_after(60s, once);
            } catch (const std::exception&) {
            }
            co_await rondo::sleep_for(200ms);
        }
    });
    const test::victims victims{{"one", "up", "proxy"}, {{"proxy", "one"}, {"proxy", "up"}}};
    co_await test::disturb(w, victims);
    w.heal_all();
    test::end_scarcity(middle);
    const int before = *whole;
    const bool done = co_await rondo::testing::eventually([&] { return *whole > before + 1; }, 60min, 100ms);
    must(*unharmed, "what comes is a beginning of what was sent, unchanged");
    must(done, "in a whole world those that are spared are answered");
}

// --- fetcher

TEST_CASE("sample fetcher: cancelled at every step it leaves nothing") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        std::fill(std::begin(fetcher::asked), std::end(fetcher::asked), 0);
        auto some = [](rondo::endpoint server) -> task<> {
            const std::vector<int> files{1, 3, 28};
            auto one = [server](int file) { return fetcher::fetch(server, file); };
            const auto all = co_await rondo::map_concurrent(files, 2, one);
            if (is_cancelled()) co_return;
            CHECK(all[0].bytes == 2000);
            CHECK(all[1].bytes == 4000);
            CHECK(all[2].error == "fetch cut short: Bad message");
        };
        co_await while_served(fetcher::answer, some);
    });
    CHECK(points > 20);
}

// --- udp_echo

TEST_CASE("sample udp_echo: cancelled at every step it leaves nothing") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        rondo::udp_socket server = rondo::udp_socket::bind("127.0.0.1", 0);
        udp_echo::totals seen;
        const auto body = [&](rondo::task_group& group) -> task<> {
            group.spawn_background(udp_echo::echo, std::ref(server), std::ref(seen)).discard();
            rondo::udp_socket client = rondo::udp_socket::unbound_v4();
            client.connect(server.local());
            for (int i = 0; i < 3; ++i) {
                char into[16];
                co_await client.send("ping");
                const rondo::received_datagram got = co_await client.receive(into);
                CHECK(std::string_view(into, got.size) == "ping");
            }
        };
        co_await rondo::with_task_group(body);
        CHECK(seen.datagrams == 3);
    });
    CHECK(points > 3);
}

/// What comes back is what was sent; and in a whole world each question is answered.
task<> datagrams_in_a_bad_world(world& w) {
    auto answered = std::make_shared<int>(0);
    auto unharmed = std::make_shared<bool>(true);
    auto& server = w.host("srv").run([]() -> task<> {
        for (;;) {
            auto s = rondo::udp_socket::try_bind("0.0.0.0", 7);
            udp_echo::totals seen;
            if (s) co_await udp_echo::echo(*s, seen);
            co_await rondo::sleep_for(100ms);
        }
    });
    test::make_scarce(w, server);
    test::spoil_link(w, "srv", "one");
    w.host("one").run([=, to = w.address_of("srv", 7)]() -> task<> {
        rondo::udp_socket client = rondo::udp_socket::unbound_v4();
        client.connect(to);
        for (int number = 0;; ++number) {
            const std::string question = "question " + std::to_string(number);
            auto once = [&]() -> task<> {
                co_await client.send(question);
                for (;;) {
                    char into[64];
                    const rondo::received_datagram got = co_await client.receive(into);
                    const std::string_view answer(into, got.size);
                    *unharmed = *unharmed && !got.truncated && answer.starts_with("question ");
                    if (answer == question) break;
                }
                ++*answered;
            };
            try {
                co_await rondo::move_on_after(2s, once);
            } catch (const std::system_error&) {  // nobody is there
            }
            co_await rondo::sleep_for(50ms);
        }
    });
    const test::victims victims{{"one", "srv"}, {{"srv", "one"}}};
    co_await test::disturb(w, victims);
    w.heal_all();
    test::end_scarcity(server);
    const int before = *answered;
    const bool done = co_await rondo::testing::eventually([&] { return *answered > before + 5; }, 10min, 100ms);
    must(*unharmed, "what comes back is what was sent");
    must(done, "in a whole world all are answered");
}

}  // namespace

RONDO_SIM_TEST("sample udp_echo: in a bad world who insists is answered", rondo::seeds(50)) {
    co_await datagrams_in_a_bad_world(w);
}

RONDO_SIM_TEST("sample line_chat: in a bad world every line is heard once and in order", rondo::seeds(50)) {
    co_await chat_in_a_bad_world(w);
}

RONDO_SIM_TEST("sample line_chat: who never reads is shown out, and harms nobody", rondo::seeds(5)) {
    co_await a_lazy_client(w);
}

RONDO_SIM_TEST("sample tcp_proxy: in a bad world an end stays an end, and a break a break", rondo::seeds(50)) {
    co_await proxy_in_a_bad_world(w);
}

RONDO_SIM_TEST("sample chaos_proxy: in a bad world it harms whom it was told to, and tears no byte", rondo::seeds(50)) {
    co_await chaos_in_a_bad_world(w);
}
