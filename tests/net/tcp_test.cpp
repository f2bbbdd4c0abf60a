// TCP streams and listeners: connections, addresses, options, and the errors of opening one.
#include "support/tcp.hpp"

#include <rondo/testing/every_step.hpp>

#include <sys/socket.h>

using namespace test::streams;

namespace {

TEST_CASE("tcp: bytes go there and back") {
    test::run([]() -> task<> {
        tcp_listener listener = tcp_listener::bind("127.0.0.1", 0);
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        tcp_stream server = co_await listener.accept();

        const std::size_t sent = co_await client.write_all("hello");
        CHECK(sent == 5);
        std::byte into[64];
        const std::size_t got = co_await server.read_exactly(std::span(into).first(5));
        CHECK(as_text(std::span(into).first(got)) == "hello");

        co_await server.write_all("and back");
        const std::string data = co_await test::receive_text(client, 8);
        CHECK(data == "and back");

        co_await client.close();
        CHECK_FALSE(client.is_open());
        const buffer end = co_await server.receive();
        CHECK(end.empty());
    });
}

TEST_CASE("tcp: both ends know both addresses") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        CHECK(listener.local().port() != 0);
        CHECK(listener.local().address() == ip_address::loopback_v4());
        connection c = co_await test::connect_to(listener);
        CHECK(c.client.peer() == listener.local());
        CHECK(c.server.local() == listener.local());
        CHECK(c.client.local() == c.server.peer());
        CHECK(c.client.local() != c.client.peer());
        CHECK(c.client.native_handle() >= 0);
        CHECK(c.client.native_handle() != c.server.native_handle());
        const endpoint before = c.server.peer();
        co_await c.client.close();
        co_await test::settle();
        CHECK(c.server.peer() == before);  // as it was when the connection was made
    });
}

task<> over_v6(bool& there) {
    tcp_listener listener;
    try {
        listener = tcp_listener::bind("::1", 0);
    } catch (const std::system_error&) {
        there = false;
        co_return;
    }
    connection c = co_await test::connect_to(listener);
    CHECK(c.client.peer().address() == ip_address::loopback_v6());
    CHECK(c.client.peer() == listener.local());
    CHECK(c.server.peer() == c.client.local());
    co_await c.client.write_all("six");
    const std::string data = co_await test::receive_text(c.server, 3);
    CHECK(data == "six");
}

TEST_CASE("tcp: IPv6 works like IPv4") {
    bool there = true;
    test::run(over_v6, std::ref(there));
    if (!there) MESSAGE("skipped: this machine has no IPv6 loopback");
}

TEST_CASE("tcp: an IPv6 listener takes IPv4 connections only if asked to") {
    bool there = true;
    test::run(
        [](bool& has_v6) -> task<> {
            listen_options both;
            both.v6_only = false;
            tcp_listener dual, single;
            try {
                dual = tcp_listener::bind("::", 0, both);
                single = tcp_listener::bind("::", 0);
            } catch (const std::system_error&) {
                has_v6 = false;
                co_return;
            }
            tcp_stream client = co_await tcp_stream::connect("127.0.0.1", dual.local().port());
            tcp_stream server = co_await dual.accept();
            CHECK(server.peer().address().to_string() == "::ffff:127.0.0.1");
            const std::error_code refused = co_await error_of(tcp_stream::connect("127.0.0.1", single.local().port()));
            CHECK(refused == std::errc::connection_refused);
        },
        std::ref(there));
    if (!there) MESSAGE("skipped: this machine has no IPv6");
}

TEST_CASE("tcp: half-closed, the other direction goes on, both ways round (hazard C6)") {
    for (const bool client_first : {true, false}) {
        CAPTURE(client_first);
        test::run(
            [](bool client_closes) -> task<> {
                connection c = co_await connected();
                tcp_stream& closes = client_closes ? c.client : c.server;
                tcp_stream& goes_on = client_closes ? c.server : c.client;
                co_await closes.write_all("last words");
                closes.shutdown();
                const std::error_code late = co_await error_of(closes.write_all("more"));
                CHECK(late == std::errc::broken_pipe);

                const bytes heard = co_await test::read_to_end(goes_on);
                CHECK(as_text(heard) == "last words");
                const bytes big = make_pattern(3, 0, 1 << 20);
                auto writer = spawn([&goes_on, &big]() -> task<> {
                    co_await goes_on.write_all(big);
                    goes_on.shutdown();
                });
                const bytes answer = co_await test::read_to_end(closes);
                CHECK(answer.size() == big.size());
                CHECK(is_pattern(answer, 3));
                co_await writer;
            },
            client_first);
    }
}

TEST_CASE("tcp: a refused connection names the peer") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        const endpoint nobody = listener.local();
        co_await listener.close();
        std::string said;
        try {
            tcp_stream never_made = co_await tcp_stream::connect(nobody);
        } catch (const io_error& e) {
            CHECK(e.code() == std::errc::connection_refused);
            CHECK(std::string(e.operation()) == "connect");
            CHECK(e.subject() == nobody.to_string());
            said = e.what();
        }
        CHECK(said.find("connect " + nobody.to_string()) != std::string::npos);
        auto tried = co_await attempt(tcp_stream::connect(nobody));
        CHECK_FALSE(tried);
        CHECK(tried.error() == std::errc::connection_refused);
        CHECK(tried.failure().message() == said);
    });
}

TEST_CASE("tcp: a text that is no address is refused before anything is done") {
    test::run([]() -> task<> {
        for (const char* text : {"", "localhost", "127.0.0.1:80", "[::1]", "127.0.0.256"}) {
            CAPTURE(text);
            CHECK_THROWS_AS(static_cast<void>(tcp_stream::connect(text, 80)), std::system_error);
            CHECK_THROWS_AS(tcp_listener::bind(text, 0), std::system_error);
        }
        const std::error_code none = co_await error_of(tcp_stream::connect(endpoint()));
        CHECK(none);
        CHECK_THROWS_AS(tcp_listener::bind(endpoint(), {}), io_error);
    });
}

TEST_CASE("tcp: try_bind gives as a result what bind throws") {
    test::run([]() -> task<> {
        auto made = tcp_listener::try_bind("127.0.0.1", 0);
        REQUIRE(made);
        tcp_listener listener = std::move(*made);
        const auto at = listener.try_local();
        REQUIRE(at);
        CHECK(*at == listener.local());
        connection c = co_await test::connect_to(listener);
        CHECK(c.server.try_local().value() == *at);

        CHECK(tcp_listener::try_bind(*at).error() == std::errc::address_in_use);
        CHECK(tcp_listener::try_bind("localhost", 0).error() == std::errc::invalid_argument);
        CHECK_FALSE(tcp_listener::try_bind(endpoint()));
        co_await listener.close();
        CHECK(listener.try_local().error() == std::errc::bad_file_descriptor);
        CHECK(tcp_listener().try_local().error() == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("tcp: a port in use is refused, with its address, unless both want to share it") {
    test::run([]() -> task<> {
        tcp_listener first = test::listen();
        std::string subject;
        try {
            tcp_listener second = tcp_listener::bind(first.local());
        } catch (const io_error& e) {
            CHECK(e.code() == std::errc::address_in_use);
            subject = e.subject();
        }
        CHECK(subject == first.local().to_string());
        co_await first.close();
        tcp_listener again = tcp_listener::bind(endpoint("127.0.0.1", endpoint::parse(subject).port()));
        CHECK(again.is_open());

        listen_options shared;
        shared.reuse_port = true;
        tcp_listener one = test::listen(shared);
        tcp_listener other = tcp_listener::bind(one.local(), shared);
        CHECK(one.local() == other.local());
        CHECK_THROWS_AS(tcp_listener::bind(one.local()), io_error);
        // Whoever of the two gets it, the connection works.
        auto by_one = spawn([&one]() -> task<tcp_stream> { co_return co_await one.accept(); });
        auto by_other = spawn([&other]() -> task<tcp_stream> { co_return co_await other.accept(); });
        tcp_stream client = co_await tcp_stream::connect(one.local());
        co_await client.write_all("shared");
        while (!by_one.done() && !by_other.done()) co_await sleep_for(1ms);
        auto& winner = by_one.done() ? by_one : by_other;
        auto& loser = by_one.done() ? by_other : by_one;
        tcp_stream server = co_await winner;
        const std::string data = co_await test::receive_text(server, 6);
        CHECK(data == "shared");
        loser.cancel();
        const auto nothing = co_await attempt(loser);
        CHECK(nothing.error() == std::errc::operation_canceled);
    });
}

TEST_CASE("tcp: a port is free for the next server although old connections linger") {
    test::run([]() -> task<> {
        tcp_listener first = test::listen();
        const endpoint at = first.local();
        connection c = co_await test::connect_to(first);
        co_await c.server.close();  // who closes first is left in TIME_WAIT
        co_await c.client.close();
        co_await first.close();
        tcp_listener again = tcp_listener::bind(at);
        connection d = co_await test::connect_to(again);
        CHECK(d.client.peer() == at);
    });
}

TEST_CASE("tcp: options can be set") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        for (const bool on : {true, false, true}) {
            c.client.no_delay(on);
            c.client.keep_alive(on);
        }
        c.client.receive_buffer_size(65536);
        c.client.send_buffer_size(65536);
        CHECK(c.server.try_no_delay(false));
        CHECK(c.server.try_keep_alive(true));
        CHECK(c.server.try_receive_buffer_size(65536));
        CHECK(c.server.try_send_buffer_size(65536));
        if (!test::on_sim()) {
            int value = 0;
            socklen_t size = sizeof value;
            ::getsockopt(c.client.native_handle(), SOL_SOCKET, SO_KEEPALIVE, &value, &size);
            CHECK(value == 1);
            ::getsockopt(c.client.native_handle(), SOL_SOCKET, SO_SNDBUF, &value, &size);
            CHECK(value >= 65536);
            ::getsockopt(c.server.native_handle(), SOL_SOCKET, SO_KEEPALIVE, &value, &size);
            CHECK(value == 1);
        }
        co_await c.client.write_all("still works");
        const std::string data = co_await test::receive_text(c.server, 11);
        CHECK(data == "still works");
    });
}

// Every allocation of the pool that stream operations make fails once.
task<> talks(connection& c) {
    const std::span<const std::byte> parts[] = {as_bytes("in "), as_bytes("parts")};
    co_await c.client.write_all(parts);
    char exact[8];
    co_await c.client.read_exactly(exact);
    co_await c.client.write_all("borrowed");
    const std::string back = co_await test::receive_text(c.client, 8);
    CHECK(back == "borrowed");
    const auto nothing = co_await attempt(with_timeout(1ms, [&]() -> task<> {
        char more[8];
        co_await c.client.read_exactly(more);
    }));
    CHECK_FALSE(nothing);
    c.client.shutdown();
    co_await c.client.close();
}

task<> talks_in_every_way() {
    connection c = co_await connected();
    co_await with_task_group([&c](task_group& group) -> task<> {
        group.spawn(test::echo_session, std::ref(c.server)).discard();
        co_await talks(c);
    });
}

TEST_CASE("tcp: the n-th allocation of stream operations fails: an error, and nothing leaks") {
    const std::size_t before = test::open_descriptors();
    const testing::every_step_report report = testing::fail_each_allocation(talks_in_every_way);
    CHECK_MESSAGE(report.ok(), report.text());
    CHECK(test::open_descriptors() == before);
}

}  // namespace
