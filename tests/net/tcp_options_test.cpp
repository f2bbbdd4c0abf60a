// Options of TCP, what the kernel or the simulated network makes of them, and what is told about a connection.
#include "support/every_step.hpp"
#include "support/refusing_backend.hpp"
#include "support/tcp.hpp"

#include <rondo/sim/world.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

using namespace test::streams;

namespace {

int option_of(int fd, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    CHECK(::getsockopt(fd, level, name, &value, &size) == 0);
    return value;
}

TEST_CASE("tcp: keep-alive takes its times in one call, rounded up to seconds") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        c.client.keep_alive({.idle = 60s, .interval = 1500ms, .count = 4});
        CHECK(c.server.try_keep_alive(keep_alive_times()));
        if (test::on_sim()) co_return;
        const int fd = c.client.native_handle();
        CHECK(option_of(fd, SOL_SOCKET, SO_KEEPALIVE) == 1);
        CHECK(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE) == 60);
        CHECK(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL) == 2);
        CHECK(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT) == 4);
        CHECK(option_of(c.server.native_handle(), IPPROTO_TCP, TCP_KEEPIDLE) == 7200);
        CHECK(c.client.get_option(IPPROTO_TCP, TCP_KEEPIDLE) == 60);
    });
}

TEST_CASE("tcp: times that are out of range are refused, by all backends alike") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        const auto bad = std::errc::invalid_argument;
        for (const duration wrong : {duration(0), duration(-1s), duration(32768s), duration::max()}) {
            CAPTURE(wrong.count());
            CHECK(c.client.try_keep_alive({.idle = wrong}).error() == bad);
            CHECK(c.client.try_keep_alive({.interval = wrong}).error() == bad);
        }
        CHECK(c.client.try_keep_alive({.count = 0}).error() == bad);
        CHECK(c.client.try_keep_alive({.count = 128}).error() == bad);
        CHECK(c.client.try_keep_alive({.idle = 32767s, .interval = 32767s, .count = 127}));
        CHECK(c.client.try_user_timeout(-1ms).error() == bad);
        CHECK(c.client.try_user_timeout(duration::max()).error() == bad);
        CHECK(c.client.try_user_timeout(0s));
        CHECK_THROWS_AS(c.client.keep_alive({.count = 0}), io_error);
        CHECK_THROWS_AS(c.client.user_timeout(-1ms), io_error);
    });
}

TEST_CASE("tcp: a user timeout is rounded up to milliseconds") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        c.client.user_timeout(1500us);
        if (test::on_sim()) co_return;
        CHECK(option_of(c.client.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT) == 2);
    });
}

TEST_CASE("tcp: a stream is corked as long as a tcp_cork lives, and all that was written goes out then") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        const auto corked = [&] {
            return test::on_sim() ? 1 : option_of(c.client.native_handle(), IPPROTO_TCP, TCP_CORK);
        };
        {
            const tcp_cork held(c.client);
            CHECK(corked() == 1);
            co_await c.client.write_all("head, ");
            co_await c.client.write_all("body");
        }
        if (!test::on_sim()) CHECK(corked() == 0);
        const std::string heard = co_await test::receive_text(c.server, 10);
        CHECK(heard == "head, body");
        co_await c.client.close();
        CHECK_THROWS_AS(static_cast<void>(tcp_cork(c.client)), io_error);
    });
}

TEST_CASE("tcp: connections begin with the options of their listener") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        listener.keep_alive({.idle = 30s, .interval = 5s, .count = 2});
        listener.user_timeout(7s);
        CHECK(listener.try_user_timeout(-1s).error() == std::errc::invalid_argument);
        connection c = co_await test::connect_to(listener);
        if (test::on_sim()) co_return;
        const int fd = c.server.native_handle();
        CHECK(option_of(fd, SOL_SOCKET, SO_KEEPALIVE) == 1);
        CHECK(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE) == 30);
        CHECK(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 7000);
    });
}

// --- from where to connect

TEST_CASE("tcp: a stream connects from the local address that it is given") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        tcp_stream any = co_await tcp_stream::connect(listener.local(), {.local = endpoint("127.0.0.1", 0)});
        CHECK(any.local().address() == ip_address::loopback_v4());
        CHECK(any.local().port() != 0);
        tcp_stream first = co_await listener.accept();
        CHECK(first.peer() == any.local());
        const endpoint from("127.0.0.2", 0);  // all of 127/8 is this host
        tcp_stream other = co_await tcp_stream::connect(listener.local(), {.local = from});
        CHECK(other.local().address() == from.address());
        tcp_stream second = co_await listener.accept();
        CHECK(second.peer() == other.local());
    });
}

TEST_CASE("tcp: a local address that cannot be had is an error which names it") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        const endpoint taken = listener.local();
        std::string said;
        try {
            tcp_stream never = co_await tcp_stream::connect(taken, {.local = taken});
        } catch (const io_error& e) {
            CHECK(e.code() == std::errc::address_in_use);
            CHECK(e.subject() == taken.to_string());
            said = e.operation();
        }
        CHECK(said == "connect from");
        const std::size_t before = test::open_descriptors();
        const auto six = co_await attempt(tcp_stream::connect(taken, {.local = endpoint("::1", 0)}));
        CHECK_FALSE(six);
        CHECK(test::open_descriptors() == before);  // the socket is gone
    });
}

// --- ending one direction

TEST_CASE("tcp: after shutdown_read there is what had arrived, then the end; and writing goes on") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        co_await c.server.write_all("before");
        co_await test::settle();
        c.client.shutdown_read();
        const std::string heard = co_await test::receive_text(c.client, 6);
        CHECK(heard == "before");
        const std::string nothing = co_await test::receive_text(c.client, 1);
        CHECK(nothing.empty());
        char c1;
        const std::size_t end = co_await c.client.read_some({&c1, 1});
        CHECK(end == 0);
        co_await c.client.write_all("still here");
        const std::string other = co_await test::receive_text(c.server, 10);
        CHECK(other == "still here");
        co_await c.client.close();
        CHECK(c.client.try_shutdown_read().error() == std::errc::bad_file_descriptor);
        CHECK_THROWS_AS(c.client.shutdown_read(), io_error);
    });
}

TEST_CASE("tcp: shutdown_read ends a read that waits, borrowing or not") {
    for (const bool borrows : {true, false}) {
        CAPTURE(borrows);
        test::run(
            [](bool by_receive) -> task<> {
                connection c = co_await connected();
                auto reader = spawn([&]() -> task<std::size_t> {
                    if (by_receive) {
                        const buffer got = co_await c.client.receive();
                        co_return got.size();
                    }
                    char into[8];
                    const std::size_t got = co_await c.client.read_some(into);
                    co_return got;
                });
                co_await test::settle();
                CHECK_FALSE(reader.done());
                c.client.shutdown_read();
                const std::size_t got = co_await reader;
                CHECK(got == 0);
            },
            borrows);
    }
}

TEST_CASE("tcp: linger waits until the other host has all that was written") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        const bytes sent = make_pattern(5, 0, 100'000);
        auto reader = spawn([&]() -> task<std::size_t> {
            const bytes all = co_await test::read_to_end(c.server);
            co_return all.size();
        });
        co_await c.client.write_all(sent);
        const bool delivered = co_await c.client.linger(1h);
        CHECK(delivered);
        CHECK(c.client.info().unacknowledged == 0);
        const std::size_t got = co_await reader;
        CHECK(got == sent.size());
        co_await c.server.close();
        const bool again = co_await c.client.linger(1h);  // both sides have ended
        CHECK(again);
    });
}

/// Writes until neither side has room.
task<> fill(connection& c) {
    test::keep_small(c);
    const bytes much = make_pattern(5, 0, 1 << 20);
    for (int round = 0; round < 3; ++round) {
        while (c.client.try_write_some(much)) {
        }
        co_await test::settle();
    }
}

TEST_CASE("tcp: linger on a connection that was reset says that not all was delivered") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        co_await fill(c);
        c.server.reset_on_close();
        co_await c.server.close();
        co_await test::settle();
        const bool delivered = co_await c.client.linger(1h);
        CHECK_FALSE(delivered);
    });
}

TEST_CASE("tcp: linger gives up in time when the peer takes nothing, and at once when the connection is over") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        co_await fill(c);
        const bool delivered = co_await c.client.linger(20ms);
        CHECK_FALSE(delivered);
        c.server.reset_on_close();
        co_await c.server.close();
        co_await test::settle();
        const bool over = co_await c.client.linger(1h);
        CHECK_FALSE(over);
        co_await c.client.close();
        const std::error_code closed = co_await error_of(c.client.linger(1h));
        CHECK(closed == std::errc::bad_file_descriptor);
    });
}

task<> lingers() {
    connection c = co_await connected();
    co_await with_task_group([&c](task_group& group) -> task<> {
        group.spawn(test::echo_session, std::ref(c.server)).discard();
        co_await c.client.write_all("last words");
        const bool delivered = co_await c.client.linger(1h);
        if (!delivered) throw std::logic_error("not delivered");
    });
}

task<> connects_from_an_address() {
    tcp_listener listener = test::listen();
    tcp_stream client = co_await tcp_stream::connect(listener.local(), {.local = endpoint("127.0.0.3", 0)});
    co_await client.close();
}

TEST_CASE("cancel at every step: linger") { CHECK(test::cancel_at_every_step(lingers) > 1); }
TEST_CASE("cancel at every step: connecting from an address") {
    CHECK(test::cancel_at_every_step(connects_from_an_address) > 0);
}

// --- looking

TEST_CASE("tcp: a connection tells how it gets on") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        co_await c.client.write_all("12345678");
        const std::string heard = co_await test::receive_text(c.server, 8);
        co_await c.server.write_all("abc");
        const std::string back = co_await test::receive_text(c.client, 3);
        CHECK(heard.size() + back.size() == 11);
        co_await test::settle();
        const connection_info at = c.client.info();
        CHECK(at.state == tcp_state::established);
        CHECK(at.bytes_received == 3);
        CHECK(at.bytes_acknowledged >= 8);
        CHECK(at.bytes_acknowledged <= 9);
        CHECK(at.unacknowledged == 0);
        CHECK(at.unsent == 0);
        CHECK(at.rtt > duration::zero());
        CHECK(at.retransmits == 0);
        CHECK(c.server.info().bytes_received == 8);

        const bool delivered = co_await c.client.linger(1h);
        CHECK(delivered);
        CHECK(c.client.info().state == tcp_state::fin_wait_2);
        CHECK(c.server.info().state == tcp_state::close_wait);
        co_await c.client.close();
        CHECK(c.client.try_info().error() == std::errc::bad_file_descriptor);
        CHECK_THROWS_AS(static_cast<void>(c.client.info()), io_error);
    });
}

TEST_CASE("tcp: what the peer has no room for is unsent") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        co_await fill(c);
        const connection_info at = c.client.info();
        CHECK(at.unsent > 0);
        CHECK(at.unacknowledged >= at.unsent);
    });
}

// --- any option

TEST_CASE("tcp: any option can be set and asked for by level and name; a simulated world says that it has none") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        connection c = co_await test::connect_to(listener);
        const timeval time{2, 0};
        const bytes_view value(reinterpret_cast<const char*>(&time), sizeof time);
        if (test::on_sim()) {
            CHECK_THROWS_AS(c.client.set_option(SOL_SOCKET, SO_PRIORITY, 3), not_simulated);
            CHECK_THROWS_AS(static_cast<void>(c.client.get_option(SOL_SOCKET, SO_PRIORITY)), not_simulated);
            CHECK_THROWS_AS(listener.set_option(SOL_SOCKET, SO_SNDTIMEO, value), not_simulated);
            CHECK_THROWS_AS(static_cast<void>(listener.get_option(SOL_SOCKET, SO_PRIORITY)), not_simulated);
            CHECK(c.client.try_set_option(SOL_SOCKET, SO_PRIORITY, 3).error() == std::errc::function_not_supported);
            std::string said;
            try {
                c.client.set_option(SOL_SOCKET, SO_PRIORITY, 3);
            } catch (const not_simulated& e) {
                said = e.what();
            }
            CHECK(said.starts_with("set option in a simulated world"));
            co_return;
        }
        c.client.set_option(SOL_SOCKET, SO_PRIORITY, 3);
        CHECK(c.client.get_option(SOL_SOCKET, SO_PRIORITY) == 3);
        listener.set_option(SOL_SOCKET, SO_SNDTIMEO, value);
        timeval heard{};
        const writable_bytes place(reinterpret_cast<char*>(&heard), sizeof heard);
        CHECK(listener.get_option(SOL_SOCKET, SO_SNDTIMEO, place) == sizeof heard);
        CHECK(heard.tv_sec == 2);
        CHECK(listener.get_option(SOL_SOCKET, SO_ACCEPTCONN) == 1);
        CHECK(c.client.try_set_option(SOL_SOCKET, 9999, 1).error() == std::errc::no_protocol_option);
        CHECK_THROWS_AS(c.client.set_option(SOL_SOCKET, 9999, 1), io_error);
        co_await c.client.write_all("still works");
        const std::string data = co_await test::receive_text(c.server, 11);
        CHECK(data == "still works");
    });
}

// --- a kernel that refuses

struct refusal {
    sys_op::call call = sys_op::call::close;
    sys_op::option option = sys_op::option::error;
    int error = 0;  // positive; 0: nothing is refused

    int error_for(const sys_op& what) const noexcept {
        const bool is_option = call == sys_op::call::set_option;
        return what.what == call && (!is_option || what.which == option) ? error : 0;
    }
};

TEST_CASE("tcp: whatever the kernel says to one of these calls is told, with what was being done") {
    test::refusing<refusal> factory;
    loop_options options;
    options.factory = &factory;
    loop l(options);
    run_on(l, [&]() -> task<> {
        using call = sys_op::call;
        using option = sys_op::option;
        connection c = co_await connected();
        tcp_stream& s = c.client;
        struct tried {
            refusal what;
            const char* operation;
            void (*throws)(tcp_stream&);
            std::error_code (*gives)(tcp_stream&);
        };
        const tried all[] = {
            {{call::set_option, option::keep_alive_idle},
             "set keep_alive",
             [](tcp_stream& t) { t.keep_alive(keep_alive_times()); },
             [](tcp_stream& t) { return t.try_keep_alive(keep_alive_times()).error(); }},
            {{call::set_option, option::keep_alive_interval},
             "set keep_alive",
             [](tcp_stream& t) { t.keep_alive(keep_alive_times()); },
             [](tcp_stream& t) { return t.try_keep_alive(keep_alive_times()).error(); }},
            {{call::set_option, option::keep_alive_count},
             "set keep_alive",
             [](tcp_stream& t) { t.keep_alive(keep_alive_times()); },
             [](tcp_stream& t) { return t.try_keep_alive(keep_alive_times()).error(); }},
            {{call::set_option, option::keep_alive},
             "set keep_alive",
             [](tcp_stream& t) { t.keep_alive(keep_alive_times()); },
             [](tcp_stream& t) { return t.try_keep_alive(keep_alive_times()).error(); }},
            {{call::set_option, option::user_timeout},
             "set user_timeout",
             [](tcp_stream& t) { t.user_timeout(1s); },
             [](tcp_stream& t) { return t.try_user_timeout(1s).error(); }},
            {{call::set_option, option::cork},
             "set cork",
             [](tcp_stream& t) { t.cork(true); },
             [](tcp_stream& t) { return t.try_cork(true).error(); }},
            {{call::set_any_option},
             "set option",
             [](tcp_stream& t) { t.set_option(1, 2, 3); },
             [](tcp_stream& t) { return t.try_set_option(1, 2, 3).error(); }},
            {{call::get_any_option},
             "get option",
             [](tcp_stream& t) { static_cast<void>(t.get_option(1, 2)); },
             [](tcp_stream& t) {
                 char byte;
                 return t.try_get_option(1, 2, {&byte, 1}).error();
             }},
            {{call::tcp_info},
             "look at the connection",
             [](tcp_stream& t) { static_cast<void>(t.info()); },
             [](tcp_stream& t) { return t.try_info().error(); }},
            {{call::shutdown_read},
             "shutdown of reading",
             [](tcp_stream& t) { t.shutdown_read(); },
             [](tcp_stream& t) { return t.try_shutdown_read().error(); }},
        };
        for (const tried& each : all) {
            for (const int error : {EPERM, EINVAL, ENOBUFS, EACCES, EOPNOTSUPP, ENOTCONN}) {
                CAPTURE(each.operation);
                CAPTURE(error);
                factory.what = each.what;
                factory.what.error = error;
                CHECK(each.gives(s) == errno_code(error));
                std::string operation, subject;
                try {
                    each.throws(s);
                } catch (const io_error& e) {
                    CHECK(e.code() == errno_code(error));
                    operation = e.operation();
                    subject = e.subject();
                }
                CHECK(operation == each.operation);
                CHECK(subject == s.peer().to_string());
                factory.what.error = 0;
            }
        }
        tcp_listener listener = test::listen();
        factory.what = {call::bind, option::error, EACCES};
        const auto forbidden =
            co_await attempt(tcp_stream::connect(listener.local(), {.local = endpoint("127.0.0.1", 0)}));
        CHECK(forbidden.error() == std::errc::permission_denied);
        factory.what = {call::set_option, option::reuse_address, EPERM};
        const auto refused = co_await attempt(
            tcp_stream::connect(listener.local(), {.local = endpoint("127.0.0.1", 0), .reuse_address = true}));
        CHECK(refused.error() == std::errc::operation_not_permitted);
        // An older kernel that does not know this one chooses the port a little earlier.
        factory.what = {call::set_option, option::late_port, ENOPROTOOPT};
        const auto made = co_await attempt(tcp_stream::connect(listener.local(), {.local = endpoint("127.0.0.1", 0)}));
        CHECK(made);
    });
}

// --- the simulated network

task<> listens_for_ever() {
    tcp_listener listener = tcp_listener::bind("0.0.0.0", 7777);
    std::vector<tcp_stream> all;
    for (;;) {
        tcp_stream next = co_await listener.accept();
        all.push_back(std::move(next));
    }
}

/// A scenario with a stream to the host "srv", 1 ms away.
template <class F>
void with_peer(F body) {
    world w;
    w.host("srv").run(listens_for_ever);
    w.link("test", "srv").latency(1ms);
    w.run([&]() -> task<> {
        tcp_stream peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
        co_await sleep_for(10ms);
        co_await body(w, peer);
    });
}

task<std::error_code> error_of_read(tcp_stream& from) {
    char byte;
    const auto got = co_await attempt(from.read_some({&byte, 1}));
    co_return got.error();
}

constexpr keep_alive_times brisk{.idle = 60s, .interval = 10s, .count = 3};

TEST_CASE("keep-alive in a world: a peer that has crashed silently is found after idle and count intervals") {
    with_peer([](world& w, tcp_stream& peer) -> task<> {
        peer.keep_alive(brisk);
        const time_point since = now();
        co_await sleep_for(100s);  // one probe has been answered
        w.host("srv").crash(crash_mode::silent);
        const std::error_code found = co_await error_of_read(peer);
        CHECK(found == std::errc::timed_out);
        CHECK(now() == since + 120s + 30s);
        CHECK(peer.info().state == tcp_state::closed);
    });
}

TEST_CASE("keep-alive in a world: without it nobody finds out") {
    with_peer([](world& w, tcp_stream& peer) -> task<> {
        w.host("srv").crash(crash_mode::silent);
        const auto found = co_await attempt(with_timeout(240h, [&]() -> task<> {
            char byte;
            co_await peer.read_some({&byte, 1});
        }));
        CHECK(found.error() == std::errc::timed_out);
        CHECK(peer.info().state == tcp_state::established);
    });
}

TEST_CASE("keep-alive in a world: a peer that has crashed and is up again answers with a reset") {
    with_peer([](world& w, tcp_stream& peer) -> task<> {
        peer.keep_alive(brisk);
        const time_point since = now();
        w.host("srv").crash(crash_mode::silent);
        w.host("srv").restart();
        const std::error_code found = co_await error_of_read(peer);
        CHECK(found == std::errc::connection_reset);
        CHECK(now() == since + 60s + 1ms);
    });
}

TEST_CASE("keep-alive in a world: a partition that heals in time does not matter, a longer one does") {
    with_peer([](world& w, tcp_stream& peer) -> task<> {
        peer.keep_alive(brisk);
        {
            const auto cut = w.partition({"test"}, {"srv"});
            co_await sleep_for(85s);
        }
        co_await sleep_for(10min);
        CHECK(peer.info().state == tcp_state::established);
        const auto cut = w.partition({"test"}, {"srv"});
        const std::error_code found = co_await error_of_read(peer);
        CHECK(found == std::errc::timed_out);
    });
}

TEST_CASE("keep-alive in a world: a user timeout replaces the count") {
    with_peer([](world& w, tcp_stream& peer) -> task<> {
        peer.keep_alive(brisk);
        peer.user_timeout(65s);
        const time_point since = now();
        w.host("srv").crash(crash_mode::silent);
        const std::error_code found = co_await error_of_read(peer);
        CHECK(found == std::errc::timed_out);
        CHECK(now() == since + 70s);
    });
}

TEST_CASE("keep-alive in a world: a stream that is closed meanwhile leaves nothing behind") {
    with_peer([](world& w, tcp_stream& peer) -> task<> {
        peer.keep_alive(brisk);
        w.host("srv").crash(crash_mode::silent);
        co_await sleep_for(65s);
        co_await peer.close();
        co_await sleep_for(1h);
    });
}

TEST_CASE("user timeout in a world: it ends what is written to a peer behind a partition, exactly then") {
    with_peer([](world& w, tcp_stream& peer) -> task<> {
        peer.user_timeout(5s);
        const auto cut = w.partition({"test"}, {"srv"});
        const time_point since = now();
        co_await peer.write_all("hello");
        const std::error_code found = co_await error_of_read(peer);
        CHECK(found == std::errc::timed_out);
        CHECK(now() == since + 5s);
        const std::error_code late = co_await error_of(peer.write_all("more"));
        CHECK(late == std::errc::broken_pipe);
    });
}

TEST_CASE("user timeout in a world: one that is longer than the usual patience holds on") {
    with_peer([](world& w, tcp_stream& peer) -> task<> {
        peer.user_timeout(1h);
        {
            const auto cut = w.partition({"test"}, {"srv"});
            co_await peer.write_all("hello");
            co_await sleep_for(30min);
            const connection_info at = peer.info();
            CHECK(at.state == tcp_state::established);
            CHECK(at.retransmits > 10);
            CHECK(at.unacknowledged == 5);
        }
        const bool delivered = co_await peer.linger(5min);
        CHECK(delivered);
        CHECK(peer.info().retransmits == 0);
        CHECK(peer.info().total_retransmits > 10);
    });
}

TEST_CASE("info in a world: the round trip is that of the link, and linger lasts as long") {
    with_peer([](world& w, tcp_stream& peer) -> task<> {
        co_await peer.write_all("hello");
        co_await sleep_for(10ms);
        connection_info at = peer.info();
        CHECK(at.rtt == 2ms);
        CHECK(at.bytes_acknowledged == 5);
        w.link("test", "srv").latency(50ms);
        const time_point since = now();
        co_await peer.write_all("and more");
        const bool delivered = co_await peer.linger(1min);
        CHECK(delivered);
        CHECK(now() - since >= 50ms);
        at = peer.info();
        CHECK(at.rtt > 2ms);
        CHECK(at.rtt < 100ms);
        CHECK(at.state == tcp_state::fin_wait_2);
    });
}

}  // namespace
