// Unix sockets of packets: borders that stay, the end of a connection, back-pressure, and listeners.
#include "support/directory.hpp"
#include "support/net.hpp"

#include <rondo/testing/every_step.hpp>
#include <rondo/net/unix.hpp>
#include <rondo/net/unix_address.hpp>
#include <rondo/net/unix_seqpacket.hpp>

#include <array>

#include <sys/socket.h>
#include <unistd.h>

using namespace rondo;
using namespace std::literals;
using test::directory;
using test::error_of;

static_assert(stream_listener<unix_seqpacket_listener> && std::is_nothrow_move_constructible_v<unix_seqpacket>);
static_assert(reversible_wait<detail::receive_packet_awaiter> &&
              reversible_wait<detail::accept_awaiter<unix_seqpacket>>);

namespace {

using place = std::array<char, 64>;

std::string_view text_in(const place& from, const received_packet& got) { return {from.data(), got.size}; }

task<std::string> next_text(unix_seqpacket& from) {
    place into;
    const received_packet got = co_await from.receive(into);
    CHECK_FALSE(got.truncated);
    co_return got.end ? "(end)" : std::string(text_in(into, got));
}

TEST_CASE("seqpacket: packets come whole and in order, by a path and by an abstract name; then comes the end") {
    directory dir;
    test::run([&]() -> task<> {
        for (const std::string& name : {dir / "s", "@rondo-packets-"s + std::to_string(::getpid())}) {
            unix_seqpacket_listener listener = unix_seqpacket_listener::bind(name);
            unix_seqpacket client = co_await unix_seqpacket::connect(name);
            unix_seqpacket server = co_await listener.accept();
            CHECK(client.peer() == unix_address(name));
            CHECK(server.local() == unix_address(name));
            for (const std::string_view each : {"a", "packet", "of", "words"}) co_await client.send(each);
            client.shutdown();
            for (const std::string_view each : {"a", "packet", "of", "words", "(end)", "(end)"}) {
                const std::string got = co_await next_text(server);
                CHECK(got == each);
            }
            co_await server.send("and back");
            co_await server.close();
            const std::string back = co_await next_text(client);
            CHECK(back == "and back");
            const std::string end = co_await next_text(client);
            CHECK(end == "(end)");
            const std::error_code late = co_await error_of(client.send("late"));
            CHECK(late == std::errc::broken_pipe);
        }
    });
}

TEST_CASE("seqpacket: what is longer than its place is cut and says so, and the next packet is whole") {
    test::run([]() -> task<> {
        auto [left, right] = unix_seqpacket::pair();
        co_await left.send("hello world");
        co_await left.send("next");
        co_await left.send("last");
        place into;
        const received_packet cut = co_await right.receive(writable_bytes(into.data(), 5));
        CHECK(text_in(into, cut) == "hello");
        CHECK(cut.truncated);
        CHECK_FALSE(cut.end);
        const received_packet nothing = co_await right.receive(writable_bytes(into.data(), 0));
        CHECK(nothing.truncated);
        CHECK_FALSE(nothing.end);
        const std::string last = co_await next_text(right);
        CHECK(last == "last");
    });
}

TEST_CASE("seqpacket: a packet of no bytes is refused, for it would look like the end") {
    test::run([]() -> task<> {
        auto [left, right] = unix_seqpacket::pair();
        const auto empty = co_await attempt(left.send(""));
        CHECK(empty.error() == std::errc::invalid_argument);
        CHECK(empty.failure().message() == "send a packet of no bytes, which looks like the end: Invalid argument");
        CHECK(left.try_send("").error() == std::errc::invalid_argument);
        place into;
        CHECK(right.try_receive(into).error() == std::errc::resource_unavailable_try_again);
    });
}

TEST_CASE("seqpacket: packets of no bytes that others send are no end, but for the last ones in front of it") {
    if (test::on_sim()) return;  // its programs are all rondo's, which send none
    test::run([]() -> task<> {
        int fds[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
        unix_seqpacket ours = unix_seqpacket::from_fd(fds[0]);
        for (const std::string_view each : {"", "", "words", "", "more", "", ""})
            REQUIRE(::send(fds[1], each.data(), each.size(), 0) == static_cast<ssize_t>(each.size()));
        place into;
        received_packet got = co_await ours.receive(into);  // while the peer is there
        CHECK_FALSE(got.end);
        CHECK(got.size == 0);
        ::close(fds[1]);
        got = co_await ours.receive(into);
        CHECK_FALSE(got.end);
        CHECK(got.size == 0);
        for (const std::string_view each : {"words", "", "more", "(end)", "(end)"}) {
            const std::string text = co_await next_text(ours);
            CHECK(text == each);
        }
    });
}

TEST_CASE("seqpacket: a peer that closes and leaves packets unread is a reset, once; what it sent comes after that") {
    test::run([]() -> task<> {
        auto [left, right] = unix_seqpacket::pair();
        co_await right.send("unread");
        co_await left.send("words");
        co_await left.close();
        place into;
        const std::error_code reset = co_await error_of(right.receive(into));
        CHECK(reset == std::errc::connection_reset);
        const std::string words = co_await next_text(right);
        CHECK(words == "words");
        const std::string end = co_await next_text(right);
        CHECK(end == "(end)");
        const std::error_code sent = co_await error_of(right.send("?"));
        CHECK(sent == std::errc::broken_pipe);
    });
}

TEST_CASE("seqpacket: a socket of another type is another type") {
    directory dir;
    test::run([&]() -> task<> {
        unix_listener stream = unix_listener::bind(dir / "stream");
        const auto wrong = co_await attempt(unix_seqpacket::connect(dir / "stream"));
        CHECK(wrong.error() == std::errc::wrong_protocol_type);
        CHECK(wrong.failure().message().starts_with("connect " + dir / "stream" + ": "));
        unix_seqpacket_listener packets = unix_seqpacket_listener::bind(dir / "packets");
        CHECK(unix_stream::try_connect(dir / "packets").error() == std::errc::wrong_protocol_type);
        CHECK(unix_seqpacket::try_connect(dir / "nobody").error() == std::errc::no_such_file_or_directory);
        const std::vector<std::byte> large(1 << 20);
        unix_seqpacket client = co_await unix_seqpacket::connect(dir / "packets");
        const auto size = co_await attempt(client.send(large));
        CHECK(size.error() == std::errc::message_size);
        CHECK(size.failure().message() == "send " + dir / "packets" + ": Message too long");
    });
}

TEST_CASE("seqpacket: a peer is known by its process, user and group") {
    test::run([]() -> task<> {
        auto [left, right] = unix_seqpacket::pair();
        peer_credentials self{.process = ::getpid(), .user = ::getuid(), .group = ::getgid()};
        if (test::on_sim()) self = {.process = 1, .user = 0, .group = 0};
        CHECK(left.credentials() == self);
        co_await right.close();
        CHECK(right.try_credentials().error() == std::errc::bad_file_descriptor);
    });
}

// --- room

TEST_CASE("seqpacket: who sends to a peer that does not read waits, and may give up; nothing is lost") {
    test::run([]() -> task<> {
        auto [left, right] = unix_seqpacket::pair();
        left.send_buffer_size(32768);
        int room = 0;
        while (left.try_send("x")) ++room;
        CHECK(left.try_send("x").error() == std::errc::resource_unavailable_try_again);
        const auto late = co_await attempt(with_timeout(20ms, left.send("late")));
        CHECK(late.error() == std::errc::timed_out);
        auto waits = [](unix_seqpacket& from) -> task<> { co_await from.send("last"); };
        auto sends = spawn(waits, std::ref(left));
        co_await sleep_for(1ms);
        CHECK_FALSE(sends.done());
        const std::error_code second = co_await error_of(left.send("second"));
        CHECK(second == std::errc::device_or_resource_busy);
        for (int i = 0; i < room; ++i) {
            const std::string got = co_await next_text(right);
            CHECK(got == "x");
        }
        co_await sends;
        const std::string last = co_await next_text(right);
        CHECK(last == "last");
    });
}

TEST_CASE("seqpacket: a wait ends when its socket is closed, and a wait for room when the peer is") {
    test::run([]() -> task<> {
        auto [left, right] = unix_seqpacket::pair();
        left.send_buffer_size(32768);
        while (left.try_send("x")) {
        }
        auto sends = [](unix_seqpacket& from) -> task<std::error_code> { co_return co_await error_of(from.send("y")); };
        auto receives = [](unix_seqpacket& from) -> task<std::error_code> {
            place into;
            co_return co_await error_of(from.receive(into));
        };
        auto full = spawn(sends, std::ref(left));
        auto empty = spawn(receives, std::ref(left));
        co_await sleep_for(1ms);
        co_await right.close();
        const std::error_code no_reader = co_await full;
        const std::error_code reset = co_await empty;
        // The reset is told once, to either.
        CHECK((no_reader == std::errc::broken_pipe || no_reader == std::errc::connection_reset));
        CHECK((reset == std::errc::connection_reset || !reset));
        auto [one, other] = unix_seqpacket::pair();
        auto waits = spawn(receives, std::ref(one));
        co_await sleep_for(1ms);
        co_await one.close();
        const std::error_code closed = co_await waits;
        CHECK(closed == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("seqpacket: a losing arm leaves its packet, or the end, to the next receive") {
    test::run([]() -> task<> {
        auto [left, right] = unix_seqpacket::pair();
        for (const std::string_view each : {"packet", "(end)"}) {
            if (each == "packet") {
                co_await left.send(each);
            } else {
                left.shutdown();
            }
            co_await test::settle();
            for (;;) {  // the first arm wins, except where a seed decides
                channel<int> other(1);
                CHECK(other.try_send(1).has_value());
                place first;
                auto chosen = co_await select_one(other.receive(), right.receive(first));
                if (chosen.index() == 0) break;
                if (chosen.get<1>().end) co_return;
                co_await left.send("packet");
            }
            const std::string got = co_await next_text(right);
            CHECK(got == each);
        }
    });
}

// --- servers

TEST_CASE("seqpacket: a server of packets is a server like any other") {
    directory dir;
    test::run([&]() -> task<> {
        unix_seqpacket_listener listener = unix_seqpacket_listener::bind(dir / "s");
        server_control control;
        auto session = [](unix_seqpacket& peer) -> task<> {
            for (;;) {
                place into;
                const received_packet got = co_await peer.receive(into);
                if (got.end) co_return;
                co_await peer.send(text_in(into, got));
            }
        };
        auto client = [&]() -> task<> {
            unix_seqpacket peer = co_await unix_seqpacket::connect(dir / "s");
            for (const std::string_view each : {"one", "two"}) {
                co_await peer.send(each);
                const std::string answer = co_await next_text(peer);
                CHECK(answer == each);
            }
            co_await peer.close();
            control.stop();
        };
        auto clients = spawn(client);
        serve_options options;
        options.stop_on_signals = false;
        options.control = &control;
        co_await serve(listener, session, options);
        co_await clients;
        CHECK(control.stats().accepted == 1);
        CHECK_FALSE(test::is_socket(dir / "s"));
    });
}

TEST_CASE("seqpacket: cancelled at every step it leaves nothing behind") {
    directory dir;
    const auto program = [&]() -> task<> {
        unix_seqpacket_listener listener = unix_seqpacket_listener::bind(dir / "s", {.backlog = 0});
        auto server = [&listener]() -> task<> {
            for (int i = 0; i < 3; ++i) {
                unix_seqpacket peer = co_await listener.accept();
                for (;;) {
                    const std::string asked = co_await next_text(peer);
                    if (asked == "(end)") break;
                    co_await peer.send(asked);
                }
            }
        };
        auto client = [&dir]() -> task<> {
            unix_seqpacket peer = co_await unix_seqpacket::connect(dir / "s");
            co_await peer.send("words");
            peer.shutdown();
            const std::string answer = co_await next_text(peer);
            CHECK(answer == "words");
        };
        auto all = [&](task_group& group) -> task<> {
            group.spawn(server);
            for (int i = 0; i < 3; ++i) group.spawn(client);
            co_return;
        };
        co_await with_task_group(all);
        co_await listener.close();
    };
    const auto everywhere = testing::cancel_at_every_step(program);
    CHECK_MESSAGE(everywhere.ok(), everywhere.text());
}

}  // namespace
