// The limits of serve(): of connections, for each peer, and in time. Who exceeds one is refused or ended, and counted.
#include "support/serving.hpp"
#include "support/refusing_backend.hpp"

#include "support/every_step.hpp"

#include <rondo/sim/world.hpp>

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <tuple>

using namespace rondo;
using namespace std::chrono_literals;
using test::ask;
using test::asks;
using test::controlled;
using test::echo;
using test::ends;

namespace {

/// Logs of the level of what a limit does, as long as it lives.
struct heard_limits : test::heard {
    heard_limits() { set_log_level(log_level::info); }
    ~heard_limits() { set_log_level(detail::debug_enabled ? log_level::debug : log_level::warning); }
};

/// A peer that waits for the end: whether it was an orderly one.
task<bool> ends_in_peace(tcp_stream& stream) {
    try {
        for (;;) {
            const buffer data = co_await stream.receive();
            if (data.empty()) co_return true;
        }
    } catch (const std::system_error& e) {
        CHECK(e.code() == std::errc::connection_reset);
        co_return false;
    }
}

task<bool> is_refused(endpoint to) {
    tcp_stream stream = co_await tcp_stream::connect(to);
    const bool peaceful = co_await ends_in_peace(stream);
    co_return !peaceful;
}

// --- full ---------------------------------------------------------------------------------------------------

TEST_CASE("serve limits: full, with refuse_when_full, a client is reset at once; when there is room it is served") {
    test::run([]() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        serve_options options = controlled(control);
        options.max_connections = 2;
        options.refuse_when_full = true;
        auto server = spawn(test::serving<decltype(&echo)>, std::ref(listener), &echo, options);
        tcp_stream first = co_await tcp_stream::connect(listener.local());
        tcp_stream second = co_await tcp_stream::connect(listener.local());
        const std::string one = co_await ask(first, "1");
        const std::string two = co_await ask(second, "2");
        CHECK(one == "1");
        CHECK(two == "2");
        for (int i = 0; i < 3; ++i) {
            const bool refused = co_await is_refused(listener.local());
            CHECK(refused);
        }
        CHECK(control.stats().refused == 3);
        CHECK(control.stats().running == 2);
        co_await first.close();
        while (control.stats().running == 2) co_await sleep_for(1ms);
        const std::string three = co_await asks(listener.local(), "3");
        CHECK(three == "3");
        CHECK(control.stats().accepted == 3);
        CHECK(control.stats().failed == 0);
        co_await ends(server);
    });
}

TEST_CASE("serve limits: 10,000 clients at once: as many as may are served, all others refused, nobody waits") {
    world w;
    server_control control;
    constexpr std::uint32_t most = 100;
    constexpr std::size_t crowd = 10'000;
    w.host("srv").run([&]() -> task<> {
        tcp_listener listener = tcp_listener::bind("0.0.0.0", 7777);
        serve_options options = controlled(control);
        options.max_connections = most;
        options.refuse_when_full = true;
        co_await serve(listener, &echo, options);
    });
    w.run([&]() -> task<> {
        std::size_t refused = 0, served = 0;
        event enough;
        const auto client = [&]() -> task<> {
            auto stream = co_await attempt(tcp_stream::connect(w.address_of("srv", 7777)));
            std::string answer = "reset";
            if (stream) {
                const std::string heard = co_await ask(*stream, "?");
                answer = heard;
            }
            if (answer != "?") {
                ++refused;
                co_return;
            }
            ++served;
            co_await enough.wait();
        };
        std::vector<task_handle<>> clients;
        for (std::size_t i = 0; i < crowd; ++i) clients.push_back(spawn(client));
        while (refused + served < crowd) co_await sleep_for(10ms);
        CHECK(served == most);
        CHECK(control.stats().refused == crowd - most);
        CHECK(control.stats().running == most);
        enough.set();
        for (auto& each : clients) co_await each;
    });
}

// --- each peer ----------------------------------------------------------------------------------------------

TEST_CASE("serve limits: an address that has as many sessions as it may is refused, until one of them ends") {
    test::run([]() -> task<> {
        server_control control;
        std::array<tcp_listener, 2> listeners{test::listen(), tcp_listener::bind("::1", 0)};
        const endpoint four = listeners[0].local(), six = listeners[1].local();
        serve_options options = controlled(control);
        options.max_connections_per_peer = 2;
        auto server = spawn([&]() -> task<> { co_await serve(listeners, &echo, options); });
        std::deque<tcp_stream> clients;
        for (const endpoint* at : {&four, &four, &six, &six}) {
            tcp_stream client = co_await tcp_stream::connect(*at);
            const std::string answer = co_await ask(client, "?");
            CHECK(answer == "?");
            clients.push_back(std::move(client));
        }
        for (const endpoint* at : {&four, &six}) {
            const bool refused = co_await is_refused(*at);
            CHECK(refused);
        }
        CHECK(control.stats().refused_peers == 2);
        CHECK(control.stats().running == 4);
        co_await clients[0].close();
        while (control.stats().running == 4) co_await sleep_for(1ms);
        const std::string again = co_await asks(four, "again");
        CHECK(again == "again");
        const bool still_refused = co_await is_refused(six);
        CHECK(still_refused);
        co_await ends(server);
        CHECK(control.stats().running == 0);
    });
}

TEST_CASE("serve limits: one address cannot take all places, nor keep others from being accepted") {
    world w;
    server_control control;
    w.host("srv").run([&]() -> task<> {
        tcp_listener listener = tcp_listener::bind("0.0.0.0", 7777);
        serve_options options = controlled(control);
        options.max_connections = 20;
        options.max_connections_per_peer = 15;
        options.idle_limit = 10s;
        co_await serve(listener, &echo, options);
    });
    const endpoint where = w.address_of("srv", 7777);
    w.host("greedy").run([&]() -> task<> {
        const auto holds = [&]() -> task<> {
            for (;;) {
                auto stream = co_await attempt(tcp_stream::connect(where));
                if (stream) static_cast<void>(co_await attempt(stream->receive()));  // says nothing, and comes again
                co_await sleep_for(100ms);
            }
        };
        const auto all = [&](task_group& group) -> task<> {
            for (int i = 0; i < 100; ++i) group.spawn(holds).discard();
            co_return;
        };
        co_await with_task_group(all);
    });
    w.run([&]() -> task<> {
        co_await sleep_for(5s);
        CHECK(control.stats().running == 15);
        for (int i = 0; i < 5; ++i) {
            const std::string answer = co_await asks(where, "polite");
            CHECK(answer == "polite");
            co_await sleep_for(5s);
        }
        CHECK(control.stats().refused_peers > 100);
        CHECK(control.stats().timed_out_idle > 0);
    });
}

TEST_CASE("serve limits: an address that comes too often is refused, and comes again later") {
    world w;
    server_control control;
    w.host("srv").run([&]() -> task<> {
        tcp_listener listener = tcp_listener::bind("0.0.0.0", 7777);
        serve_options options = controlled(control);
        options.connection_rate_per_peer = 2;
        options.connection_burst_per_peer = 3;
        co_await serve(listener, &echo, options);
    });
    const endpoint where = w.address_of("srv", 7777);
    w.run([&]() -> task<> {
        for (int round = 0; round < 3; ++round) {
            for (int i = 0; i < 3; ++i) {
                const std::string answer = co_await asks(where, "?");
                CHECK(answer == "?");
            }
            const bool refused = co_await is_refused(where);
            CHECK(refused);
            CHECK(control.stats().refused_bursts == static_cast<std::uint64_t>(round) + 1);
            co_await sleep_for(2s);
        }
    });
}

TEST_CASE("serve limits: the rate of an address is limited on every backend") {
    test::run([]() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        serve_options options = controlled(control);
        options.connection_rate_per_peer = 1;
        options.connection_burst_per_peer = 3;
        auto server = spawn(test::serving<decltype(&echo)>, std::ref(listener), &echo, options);
        std::uint64_t served = 0, refused = 0;
        while (refused == 0) {  // a slow machine is given a few more
            const std::string answer = co_await asks(listener.local(), "?");
            ++(answer == "?" ? served : refused);
        }
        CHECK(served >= 3);
        CHECK(control.stats().accepted == served);
        CHECK(control.stats().refused_bursts == 1);
        co_await ends(server);
    });
}

// --- time ---------------------------------------------------------------------------------------------------

TEST_CASE("serve limits: an idle connection ends at its limit, and the log says which (hazard F7: node#33440)") {
    heard_limits log;
    test::run([]() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        serve_options options = controlled(control);
        options.idle_limit = 40ms;
        auto server = spawn(test::serving<decltype(&echo)>, std::ref(listener), &echo, options);
        tcp_stream silent = co_await tcp_stream::connect(listener.local());
        const time_point begun = now();
        const bool peaceful = co_await ends_in_peace(silent);
        CHECK(peaceful);
        CHECK(now() - begun >= 40ms);
        while (control.stats().running != 0) co_await sleep_for(1ms);
        CHECK(control.stats().timed_out_idle == 1);
        CHECK(control.stats().failed == 1);
        CHECK(this_loop().stats().timers == 0);
        co_await ends(server);
    });
    CHECK(log.text.starts_with("session with 127.0.0.1:"));
    CHECK(log.text.ends_with(" ended: timed out after 0.04 s (serve_options::idle_limit)"));
}

TEST_CASE(
    "serve limits: bytes in either direction keep a connection from being idle; a slow one has a session_limit (hazard "
    "F7)") {
    // A byte in five seconds is what a slow loris sends.
    heard_limits log;
    rondo::loop_options options;
    options.kind = backend_kind::sim;
    rondo::run(options, []() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        serve_options limits = controlled(control);
        limits.idle_limit = 20s;
        limits.session_limit = 10min;
        const auto session = [](tcp_stream& peer) -> task<> {
            const buffer first = co_await peer.receive();
            if (first.text() == "r") {
                for (;;) {
                    const buffer data = co_await peer.receive();
                    if (data.empty()) co_return;
                }
            }
            for (;;) {
                co_await peer.write_all("x");
                co_await sleep_for(5s);
            }
        };
        auto server = spawn(test::serving<decltype(session)>, std::ref(listener), session, limits);
        const auto loris = [&](std::string_view what) -> task<> {
            tcp_stream stream = co_await tcp_stream::connect(listener.local());
            const duration pause = what == "r" ? duration(5s) : duration(1000s);
            const time_point begun = now();
            auto closed = spawn([&]() -> task<bool> { co_return co_await ends_in_peace(stream); });
            while (!closed.done()) {
                const auto sent = co_await attempt(stream.write_all(what));
                if (!sent) break;
                co_await sleep_for(pause);
            }
            static_cast<void>(co_await closed);
            CHECK(now() - begun >= 10min);
        };
        auto writes = spawn(loris, "r");
        auto reads = spawn(loris, "w");
        co_await writes;
        co_await reads;
        CHECK(control.stats().timed_out_session == 2);
        CHECK(control.stats().timed_out_idle == 0);
        co_await ends(server);
    });
    CHECK(log.text.find("timed out after 600 s (serve_options::session_limit)") != std::string::npos);
}

TEST_CASE("serve limits: a peer that never reads is reset at the write_stall_limit (hazard F5)") {
    heard_limits log;
    test::run([]() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        serve_options options = controlled(control);
        options.write_stall_limit = 60ms;
        std::size_t unwound = 0;
        const auto session = [&unwound](tcp_stream& peer) -> task<> {
            struct count_end {
                std::size_t& n;
                ~count_end() { ++n; }
            } at_end{unwound};
            const test::bytes block = test::make_pattern(1, 0, 1 << 20);
            for (;;) co_await peer.write_all(block);
        };
        auto server = spawn(test::serving<decltype(session)>, std::ref(listener), session, options);
        tcp_stream deaf = co_await tcp_stream::connect(listener.local());
        while (control.stats().ended == 0) co_await sleep_for(5ms);
        CHECK(unwound == 1);
        CHECK(control.stats().timed_out_writing == 1);
        CHECK(control.stats().timed_out_idle == 0);
        const bool peaceful = co_await ends_in_peace(deaf);
        CHECK_FALSE(peaceful);
        // Who has nothing to take does not stall, however long it says nothing.
        const auto waits = [](tcp_stream& peer) -> task<> { static_cast<void>(co_await peer.receive()); };
        tcp_listener another = test::listen();
        options.control = nullptr;
        auto other = spawn(test::serving<decltype(waits)>, std::ref(another), waits, options);
        tcp_stream quiet = co_await tcp_stream::connect(another.local());
        co_await sleep_for(200ms);
        CHECK_FALSE(other.done());
        co_await quiet.write_all("?");
        const bool quiet_peaceful = co_await ends_in_peace(quiet);
        CHECK(quiet_peaceful);
        co_await ends(other);
        co_await ends(server);
    });
    CHECK(log.text.find("timed out after 0.06 s (serve_options::write_stall_limit)") != std::string::npos);
}

TEST_CASE("serve limits: a slow reader that gets on does not stall, and one that stops does, idle or not") {
    rondo::loop_options on;
    on.kind = backend_kind::sim;
    rondo::run(on, []() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        serve_options options = controlled(control);
        options.write_stall_limit = 30s;
        options.idle_limit = 5min;
        const auto session = [](tcp_stream& peer) -> task<> {
            const test::bytes block = test::make_pattern(1, 0, 1 << 20);
            co_await peer.write_all(block);
        };
        auto server = spawn(test::serving<decltype(session)>, std::ref(listener), session, options);
        tcp_stream slow = co_await tcp_stream::connect(listener.local());
        std::byte part[16384];
        std::size_t read = 0;
        while (read < (1u << 20)) {
            const std::size_t n = co_await slow.read_some(part);
            read += n;
            REQUIRE(n != 0);
            co_await sleep_for(10s);
        }
        CHECK(control.stats().failed == 0);
        tcp_stream stops = co_await tcp_stream::connect(listener.local());
        const auto keeps_writing = [&stops]() -> task<> {  // so that it is not idle
            for (;;) {
                const auto sent = co_await attempt(stops.write_all("more"));
                if (!sent) co_return;
                co_await sleep_for(5s);
            }
        };
        auto writes = spawn(keeps_writing);
        co_await writes;
        CHECK(control.stats().timed_out_writing == 1);
        co_await ends(server);
    });
}

TEST_CASE("serve limits: a session that has closed its stream, and does something else, is not idle") {
    test::run([]() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        serve_options options = controlled(control);
        options.idle_limit = 20ms;
        tcp_stream other;  // takes the number of the descriptor that was closed
        event enough;
        const auto session = [&](tcp_stream& peer) -> task<> {
            const int number = peer.native_handle();
            co_await peer.close();
            tcp_listener own = test::listen();
            tcp_stream connected = co_await tcp_stream::connect(own.local());
            CHECK((own.native_handle() == number || connected.native_handle() == number || !test::on_sim()));
            co_await enough.wait();
        };
        auto server = spawn(test::serving<decltype(session)>, std::ref(listener), session, options);
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        const bool peaceful = co_await ends_in_peace(client);
        CHECK(peaceful);
        for (int i = 0; i < 20; ++i) co_await sleep_for(10ms);
        CHECK(control.stats().running == 1);
        enough.set();
        while (control.stats().running == 1) co_await sleep_for(1ms);
        CHECK(control.stats().failed == 0);
        co_await ends(server);
    });
}

TEST_CASE("serve limits: a session that is told the limit by a cancel may clean up, and its error is logged, too") {
    heard_limits log;
    test::run([]() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        serve_options options = controlled(control);
        options.session_limit = 20ms;
        const auto session = [](tcp_stream& peer) -> task<> {
            bool cut = false;
            try {
                co_await echo(peer);
            } catch (const cancelled&) {
                cut = true;
            }
            const auto goodbye = [&peer]() -> task<> { co_await peer.write_all("goodbye"); };
            if (cut) co_await shield(goodbye);
            throw std::runtime_error("tired");
        };
        auto server = spawn(test::serving<decltype(session)>, std::ref(listener), session, options);
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        const std::string last = co_await test::receive_text(client, 7);
        CHECK(last == "goodbye");
        while (control.stats().running != 0) co_await sleep_for(1ms);
        CHECK(control.stats().timed_out_session == 1);
        CHECK(control.stats().failed == 1);
        co_await ends(server);
    });
    CHECK(log.text.find("ended: std::runtime_error: tired") != std::string::npos);
    CHECK(log.text.find("(serve_options::session_limit)") != std::string::npos);
}

TEST_CASE("serve limits: with all of them set, cancelled at every step and without each allocation: nothing is left") {
    const auto program = []() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        const endpoint where = listener.local();
        auto body = [&](task_group& group) -> task<> {
            auto server = group.spawn([&]() -> task<> {
                serve_options options = controlled(control);
                options.max_connections_per_peer = 2;
                options.connection_rate_per_peer = 1000;
                options.idle_limit = 20ms;
                options.write_stall_limit = 20ms;
                options.session_limit = 1h;
                co_await serve(listener, &echo, options);
            });
            tcp_stream silent = co_await tcp_stream::connect(where);
            const std::string answer = co_await asks(where, "one");
            static_cast<void>(co_await attempt(silent.receive()));
            control.stop();
            co_await server;
            CHECK(control.stats().accepted + control.stats().no_memory >= 1);
        };
        co_await with_task_group(body);
        CHECK(control.stats().running == 0);
    };
    const auto cancelled_everywhere = testing::cancel_at_every_step(program);
    CHECK_MESSAGE(cancelled_everywhere.ok(), cancelled_everywhere.text());
    set_log_level(log_level::error);
    const auto short_of_memory = testing::fail_each_allocation(program);
    CHECK_MESSAGE(short_of_memory.ok(), short_of_memory.text());
    set_log_level(log_level::warning);
}

// --- what the kernel says -----------------------------------------------------------------------------------

/// Nobody counts the bytes.
struct no_traffic {
    int error = 0;
    int error_for(const sys_op& what) const noexcept { return what.what == sys_op::call::tcp_info ? error : 0; }
};

TEST_CASE("serve limits: where nobody counts the bytes there is no idle_limit, and serve says so before it begins") {
    test::refusing<no_traffic> factory;
    factory.what.error = EOPNOTSUPP;
    loop_options on;
    on.factory = &factory;
    loop l(on);
    run_on(l, []() -> task<> {
        tcp_listener listener = test::listen();
        serve_options idle = test::unsignalled();
        idle.idle_limit = 1s;
        const auto with_idle = co_await attempt(serve(listener, &echo, idle));
        CHECK(with_idle.error() == std::errc::operation_not_supported);
        serve_options stall = test::unsignalled();
        stall.write_stall_limit = 1s;
        const auto with_stall = co_await attempt(serve(listener, &echo, stall));
        CHECK(with_stall.error() == std::errc::operation_not_supported);
        // The other limits need no bytes.
        serve_options session = test::unsignalled();
        session.session_limit = 10ms;
        session.max_connections_per_peer = 1;
        auto server = spawn(test::serving<decltype(&echo)>, std::ref(listener), &echo, session);
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        const bool peaceful = co_await ends_in_peace(client);
        CHECK(peaceful);
        co_await ends(server);
        CHECK(listener.is_open());
    });
}

TEST_CASE("serve limits: a connection of which the kernel says no more is not idle, and others still are") {
    test::refusing<no_traffic> factory;
    loop_options on;
    on.factory = &factory;
    loop l(on);
    run_on(l, [&factory]() -> task<> {
        for (const int error : {EBADF, ENOTCONN, ENOMEM, ENETDOWN}) {
            CAPTURE(error);
            server_control control;
            tcp_listener listener = test::listen();
            serve_options options = controlled(control);
            options.idle_limit = 20ms;
            auto server = spawn(test::serving<decltype(&echo)>, std::ref(listener), &echo, options);
            tcp_stream client = co_await tcp_stream::connect(listener.local());
            const std::string first = co_await ask(client, "?");
            CHECK(first == "?");
            factory.what.error = error;
            for (int i = 0; i < 10; ++i) co_await sleep_for(10ms);
            factory.what.error = 0;
            const std::string second = co_await ask(client, "?");
            CHECK(second == "?");
            tcp_stream other = co_await tcp_stream::connect(listener.local());
            const bool peaceful = co_await ends_in_peace(other);
            CHECK(peaceful);
            CHECK(control.stats().running == 1);
            CHECK(control.stats().timed_out_idle == 1);
            co_await ends(server);
        }
    });
}

TEST_CASE("serve limits: the bytes of a TCP connection are counted as they come, and as they are acknowledged") {
    test::run([]() -> task<> {
        const auto traffic_of = [](int fd, connection_info& into) {
            sys_op ask_for{.what = sys_op::call::tcp_info, .fd = fd, .data = &into};
            return detail::running().control(ask_for);
        };
        test::connection c = co_await test::connected();
        connection_info server, client;
        CHECK(traffic_of(c.server.native_handle(), server) == 0);
        CHECK(server.bytes_received == 0);
        CHECK(server.unacknowledged == 0);
        co_await c.client.write_all("hello");
        co_await test::settle();
        CHECK(traffic_of(c.server.native_handle(), server) == 0);
        CHECK(traffic_of(c.client.native_handle(), client) == 0);
        CHECK(server.bytes_received == 5);  // nobody has read them
        CHECK(client.unacknowledged == 0);
        const std::uint64_t taken = client.bytes_acknowledged;
        co_await c.client.write_all("more");
        co_await test::settle();
        CHECK(traffic_of(c.client.native_handle(), client) == 0);
        CHECK(client.bytes_acknowledged == taken + 4);

        CHECK(traffic_of(-1, server) == -EBADF);
        tcp_listener listener = test::listen();
        CHECK(traffic_of(listener.native_handle(), server) == 0);
        sys_op pair{.what = sys_op::call::stream_pair};
        REQUIRE(detail::running().control(pair) == 0);
        for (const int fd : pair.fds) {
            CHECK(traffic_of(fd, server) == -EOPNOTSUPP);
            sys_op close{.what = sys_op::call::close, .fd = fd};
            CHECK(detail::running().control(close) == 0);
        }
    });
}

}  // namespace
