// serve() with listeners of any kind, and with several at once.
#include "support/serving.hpp"

#include "support/every_step.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <tuple>

using namespace rondo;
using namespace std::chrono_literals;
using test::ask;
using test::asks;
using test::controlled;
using test::echo;
using test::ends;
using test::unsignalled;

namespace {

/// A stream that has no address, no descriptor, and no more verbs than these.
class plain_stream {
 public:
    explicit plain_stream(tcp_stream inside) : inside_(std::move(inside)) {}
    auto receive() { return inside_.receive(); }
    auto write_all(bytes_view from) { return inside_.write_all(from); }

 private:
    tcp_stream inside_;
};

/// A listener that is none of rondo's: its accept() is a task, and it cannot be closed.
struct plain_listener {
    tcp_listener& inside;
    int accepted = 0;
    task<plain_stream> accept() {
        tcp_stream stream = co_await inside.accept();
        ++accepted;
        co_return plain_stream(std::move(stream));
    }
};
static_assert(stream_listener<plain_listener> && stream_listener<tcp_listener> && !stream_listener<tcp_stream>);

/// Which kind of stream it was given.
struct any_echo {
    int* plain;
    int* tcp;
    template <class Stream>
    task<> operator()(Stream& peer) const {
        ++*(std::is_same_v<Stream, plain_stream> ? plain : tcp);
        for (;;) {
            const buffer data = co_await peer.receive();
            if (data.empty()) co_return;
            co_await peer.write_all(data);
        }
    }
};

TEST_CASE("serve: takes whatever accepts streams; what cannot be closed stays open") {
    test::run([]() -> task<> {
        server_control control;
        tcp_listener tcp = test::listen();
        plain_listener listener{tcp};
        int plain = 0, other = 0;
        const any_echo session{&plain, &other};
        auto server = spawn(test::serving<any_echo, plain_listener>, std::ref(listener), session, controlled(control));
        for (const char* question : {"one", "two"}) {
            const std::string answer = co_await asks(tcp.local(), question);
            CHECK(answer == question);
        }
        CHECK(listener.accepted == 2);
        CHECK(plain == 2);
        CHECK(other == 0);
        control.stop();
        co_await server;
        CHECK(tcp.is_open());
        CHECK(control.stats().accepted == 2);
    });
}

TEST_CASE("serve: a session of a stream without an address is logged without one") {
    test::heard log;
    set_log_level(log_level::warning);
    test::run([]() -> task<> {
        tcp_listener tcp = test::listen();
        plain_listener listener{tcp};
        const auto session = [](plain_stream& peer) -> task<> {
            static_cast<void>(co_await peer.receive());
            throw std::runtime_error("no");
        };
        auto server =
            spawn(test::serving<decltype(session), plain_listener>, std::ref(listener), session, unsignalled());
        static_cast<void>(co_await asks(tcp.local(), "?"));
        co_await ends(server);
    });
    CHECK(log.text.starts_with("session ended: std::runtime_error: no; at "));
}

/// Serves what it is given in each of the ways in which several listeners can be given.
enum class form { vector, array, span, tuple };

task<> serve_several(std::vector<tcp_listener>& listeners, form how, serve_options options) {
    switch (how) {
        case form::vector: co_await serve(listeners, &echo, options); break;
        case form::array: {
            std::array<tcp_listener, 2> two{std::move(listeners[0]), std::move(listeners[1])};
            co_await serve(two, &echo, options);
            std::move(two.begin(), two.end(), listeners.begin());
            break;
        }
        case form::span: co_await serve(std::span(listeners), &echo, options); break;
        case form::tuple: co_await serve(std::tie(listeners[0], listeners[1]), &echo, options); break;
    }
}

TEST_CASE("serve: several listeners are one server, and all of them are closed by one stop") {
    for (const form how : {form::vector, form::array, form::span, form::tuple}) {
        CAPTURE(static_cast<int>(how));
        test::run(
            [](form given_as) -> task<> {
                server_control control;
                std::vector<tcp_listener> listeners;
                std::vector<endpoint> where;
                for (int i = 0; i < 2; ++i) {
                    listeners.push_back(test::listen());
                    where.push_back(listeners.back().local());
                }
                auto server = spawn(serve_several, std::ref(listeners), given_as, controlled(control));
                co_await test::settle();
                for (int round = 0; round < 2; ++round) {
                    for (const endpoint& at : where) {
                        const std::string answer = co_await asks(at, "here");
                        CHECK(answer == "here");
                    }
                }
                CHECK(control.stats().accepted == 4);
                tcp_stream client = co_await tcp_stream::connect(where[1]);
                const std::string first = co_await ask(client, "before");
                CHECK(first == "before");
                control.stop();
                co_await test::settle();
                for (const endpoint& at : where) {
                    const auto late = co_await attempt(tcp_stream::connect(at));
                    CHECK(late.error() == std::errc::connection_refused);
                }
                const std::string second = co_await ask(client, "after");
                CHECK(second == "after");
                co_await client.close();
                co_await server;
                for (const tcp_listener& each : listeners) CHECK_FALSE(each.is_open());
            },
            how);
    }
}

TEST_CASE("serve: listeners of several kinds are one server, whose session takes the streams of all") {
    test::run([]() -> task<> {
        server_control control;
        tcp_listener inside = test::listen();
        tcp_listener tcp = test::listen();
        plain_listener plain{inside};
        int plain_sessions = 0, tcp_sessions = 0;
        const any_echo session{&plain_sessions, &tcp_sessions};
        const auto run_server = [&]() -> task<> { co_await serve(std::tie(plain, tcp), session, controlled(control)); };
        auto server = spawn(run_server);
        const std::array<endpoint, 3> where{inside.local(), tcp.local(), inside.local()};
        for (const endpoint& at : where) {
            const std::string answer = co_await asks(at, "?");
            CHECK(answer == "?");
        }
        CHECK(plain_sessions == 2);
        CHECK(tcp_sessions == 1);
        control.stop();
        co_await server;
        CHECK(inside.is_open());
        CHECK_FALSE(tcp.is_open());
    });
}

TEST_CASE("serve: max_connections is for all listeners together, and an idle one does not keep a place") {
    test::run([]() -> task<> {
        std::vector<tcp_listener> listeners;
        for (int i = 0; i < 3; ++i) listeners.push_back(test::listen());
        std::size_t running = 0, most = 0, served = 0;
        const auto session = [&](tcp_stream& peer) -> task<> {
            struct count_end {
                std::size_t& n;
                ~count_end() { --n; }
            } at_end{running};
            most = std::max(most, ++running);
            ++served;
            co_await echo(peer);
        };
        auto server = spawn([&]() -> task<> { co_await serve(listeners, session, unsignalled(2)); });
        co_await test::settle();
        // All places are taken and given back at one listener, while nobody comes to the others.
        for (int round = 0; round < 3; ++round) {
            tcp_stream a = co_await tcp_stream::connect(listeners[0].local());
            tcp_stream b = co_await tcp_stream::connect(listeners[0].local());
            const std::string one = co_await ask(a, "a");
            const std::string two = co_await ask(b, "b");
            CHECK(one == "a");
            CHECK(two == "b");
        }
        // A crowd at all of them: nobody is lost, and there are never more than two sessions.
        std::vector<task_handle<std::string>> clients;
        for (std::size_t i = 0; i < 30; ++i) clients.push_back(spawn(asks, listeners[i % 3].local(), "?"));
        for (auto& client : clients) {
            const std::string answer = co_await client;
            CHECK(answer == "?");
        }
        CHECK(most == 2);
        CHECK(served == 36);
        co_await ends(server);
        for (const tcp_listener& each : listeners) CHECK(each.is_open());  // cancelled, not stopped
    });
}

TEST_CASE("serve: if one of several listeners fails, the server ends with its error, and the others stay open") {
    test::run([]() -> task<> {
        tcp_listener one = test::listen();
        tcp_listener other = test::listen();
        auto server = spawn([&]() -> task<> { co_await serve(std::tie(one, other), &echo, unsignalled()); });
        tcp_stream client = co_await tcp_stream::connect(other.local());
        const std::string answer = co_await ask(client, "?");
        CHECK(answer == "?");
        co_await one.close();
        const auto ended = co_await attempt(server);
        CHECK(ended.error() == std::errc::bad_file_descriptor);
        CHECK(other.is_open());
        const buffer end = co_await client.receive();
        CHECK(end.empty());
    });
}

TEST_CASE("serve: a burst of clients takes no more than accepts_per_turn in one turn") {
    test::run([]() -> task<> {
        constexpr std::uint32_t in_a_turn = 4;
        constexpr std::size_t clients = 100;
        std::vector<tcp_listener> listeners;
        for (int i = 0; i < 2; ++i) listeners.push_back(test::listen());
        std::vector<tcp_stream> crowd;
        for (std::size_t i = 0; i < clients; ++i) {
            tcp_stream client = co_await tcp_stream::connect(listeners[i % 2].local());
            crowd.push_back(std::move(client));
        }
        co_await test::settle();
        std::vector<std::uint64_t> turns;
        const auto session = [&turns](tcp_stream&) -> task<> {
            turns.push_back(this_loop().stats().turns);
            co_return;
        };
        serve_options options = unsignalled();
        options.accepts_per_turn = in_a_turn;
        auto server = spawn([&]() -> task<> { co_await serve(listeners, session, options); });
        for (int i = 0; i < 100 && turns.size() < clients; ++i) co_await immediate();
        CHECK(turns.size() == clients);
        // The other listener may have been waiting for its client already.
        for (const std::uint64_t turn : turns) CHECK(std::count(turns.begin(), turns.end(), turn) <= in_a_turn + 1);
        co_await ends(server);
    });
}

TEST_CASE("serve: two listeners, a crowd and a stop, cancelled at every step: nothing is left") {
    const auto program = []() -> task<> {
        server_control control;
        std::array<tcp_listener, 2> listeners{test::listen(), test::listen()};
        const std::array<endpoint, 2> where{listeners[0].local(), listeners[1].local()};
        auto body = [&](task_group& group) -> task<> {
            auto server = group.spawn([&]() -> task<> {
                serve_options options = controlled(control);
                options.max_connections = 1;
                co_await serve(listeners, &echo, options);
            });
            auto first = group.spawn(asks, where[0], "one");
            auto second = group.spawn(asks, where[1], "two");
            static_cast<void>(co_await first);
            static_cast<void>(co_await second);
            control.stop();
            co_await server;
        };
        co_await with_task_group(body);
        CHECK(control.stats().accepted + control.stats().no_memory == 2);
        CHECK(control.stats().running == 0);
    };
    const auto cancelled_everywhere = testing::cancel_at_every_step(program);
    CHECK_MESSAGE(cancelled_everywhere.ok(), cancelled_everywhere.text());
    set_log_level(log_level::error);
    const auto short_of_memory = testing::fail_each_allocation(program);
    CHECK_MESSAGE(short_of_memory.ok(), short_of_memory.text());
    set_log_level(log_level::warning);
}

TEST_CASE("serve: connections that were reset before they were accepted are counted") {
    // A simulated listener never sees them.
    if (test::on_sim()) {
        MESSAGE("skipped: real backends only");
        return;
    }
    test::run([]() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        for (int i = 0; i < 3; ++i) {
            tcp_stream rude = co_await tcp_stream::connect(listener.local());
            rude.reset_on_close();
            co_await rude.close();
        }
        auto server = spawn(test::serving<decltype(&echo)>, std::ref(listener), &echo, controlled(control));
        const std::string answer = co_await asks(listener.local(), "?");
        CHECK(answer == "?");
        CHECK(control.stats().dead == 3);
        CHECK(control.stats().accepted == 1);
        CHECK(listener.died_in_queue() == 3);
        control.stop();
        co_await server;
        CHECK(control.stats().dead == 3);
    });
}

}  // namespace
