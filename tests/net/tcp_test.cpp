// TCP streams and listeners.
#include "support/net.hpp"

#include <rondo/testing/every_step.hpp>

#include <sys/socket.h>

#include <array>
#include <climits>
#include <csignal>
#include <cstdio>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

using namespace rondo;
using namespace std::literals;
using test::as_bytes;
using test::as_text;
using test::bytes;
using test::connected;
using test::connection;
using test::error_of;
using test::is_pattern;
using test::make_pattern;

namespace {

// --- the plain cases ----------------------------------------------------------------------------

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
    test::run([](bool& has_v6) -> task<> {
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
        const std::error_code refused =
            co_await error_of(tcp_stream::connect("127.0.0.1", single.local().port()));
        CHECK(refused == std::errc::connection_refused);
    }, std::ref(there));
    if (!there) MESSAGE("skipped: this machine has no IPv6");
}

// --- what is read and written ---------------------------------------------------------------------

task<> writes_any_bytes(tcp_stream& to) {
    const std::string text = "1 string, ";
    const std::vector<unsigned char> numbers = {'2', ' ', 'v', 'e', 'c', 't', 'o', 'r', ',', ' '};
    const std::array<std::byte, 2> raw = {std::byte{'3'}, std::byte{' '}};
    std::array<char, 4> fixed = {'4', ' ', '\0', ' '};
    const char* c_string = "5 ";
    char array[3] = {'6', '\0', ' '};  // no text but a buffer: all of it
    co_await to.write_all(text);
    co_await to.write_all(numbers);
    co_await to.write_all(raw);
    co_await to.write_all(fixed);
    co_await to.write_all(c_string);
    co_await to.write_all(array);
    co_await to.write_all("7 \0 ");
    co_await to.write_all(std::span(numbers).first(2));
    co_await to.write_all(text + "a temporary, ");
    co_await to.write_some(std::string_view("8"));
    co_await to.write_some({c_string, 1});
    const auto tried = to.try_write_some("!");
    CHECK(tried.value() == 1);
    co_await to.write_all(std::span<const char>());
    to.shutdown();
}

TEST_CASE("tcp: whatever holds bytes in a row can be written, a text without its zero") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        auto writer = spawn(writes_any_bytes, std::ref(c.client));
        const test::bytes all = co_await test::read_to_end(c.server);
        co_await writer;
        CHECK(test::as_text(all) == "1 string, 2 vector, 3 4 \0 5 6\0 7 \0 2 1 string, a temporary, 85!"s);
    });
}

// An array of zeros was taken for an empty text, and nothing was written.
TEST_CASE("tcp: what counts of a char array: all of one that can be written, of a constant all but a zero at its end") {
    static const char text[] = "a\0b";
    static const char no_text[] = {'a', '\0', 'b'};
    char buffer[64] = {};
    char* pointer = buffer;
    CHECK(bytes_view(buffer).size() == 64);
    CHECK(bytes_view(text).size() == 3);
    CHECK(bytes_view(no_text).size() == 3);
    CHECK(bytes_view("").size() == 0);
    CHECK(bytes_view("\0").size() == 1);
    CHECK(bytes_view(pointer).size() == 0);
    CHECK(bytes_view(static_cast<const char*>(text)).size() == 1);
    CHECK(bytes_view(buffer).data() == buffer);
    test::run([]() -> task<> {
        connection c = co_await connected();
        char zeros[64] = {};
        co_await c.client.write_all(zeros);
        c.client.shutdown();
        const test::bytes all = co_await test::read_to_end(c.server);
        CHECK(all == test::bytes(64));
    });
}

TEST_CASE("tcp: whatever holds writable bytes in a row can be read into") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        co_await c.client.write_all("abcdefghi");
        co_await test::settle();
        char array[2];
        std::string text(2, ' ');
        std::vector<unsigned char> numbers(1);
        std::array<std::byte, 1> raw;
        co_await c.server.read_exactly(array);
        CHECK(std::string_view(array, 2) == "ab");
        co_await c.server.read_exactly(text);
        CHECK(text == "cd");
        co_await c.server.read_some(numbers);
        CHECK(numbers[0] == 'e');
        co_await c.server.read_some(raw);
        CHECK(raw[0] == std::byte{'f'});
        co_await c.server.read_some(std::span(array).first(1));
        CHECK(std::string_view(array, 2) == "gb");
        co_await c.server.read_some({text.data(), 1});
        CHECK(text == "hd");
        const auto tried = c.server.try_read_some(numbers);
        CHECK(tried.value() == 1);
        CHECK(numbers[0] == 'i');
    });
}

// --- ends of streams ------------------------------------------------------------------------------

TEST_CASE("tcp: the end of the stream is a value, once and again, for every way of reading") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        co_await c.client.write_all("tail");
        c.client.shutdown();
        std::byte into[16];
        // Less than asked for only at the end.
        const std::size_t four = co_await c.server.read_exactly(into);
        CHECK(four == 4);
        for (int again = 0; again < 3; ++again) {
            const std::size_t some = co_await c.server.read_some(into);
            CHECK(some == 0);
            const std::size_t exact = co_await c.server.read_exactly(into);
            CHECK(exact == 0);
            const buffer borrowed = co_await c.server.receive();
            CHECK(borrowed.empty());
            const auto tried = c.server.try_read_some(into);
            REQUIRE(tried);
            CHECK(*tried == 0);
        }
    });
}

TEST_CASE("tcp: half-closed, the other direction goes on, both ways round") {
    for (const bool client_first : {true, false}) {
        CAPTURE(client_first);
        test::run([](bool client_closes) -> task<> {
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
        }, client_first);
    }
}

TEST_CASE("tcp: a peer that resets is one connection_reset, and then broken pipes without a signal") {
    struct sigaction before {};
    sigaction(SIGPIPE, nullptr, &before);
    test::run([]() -> task<> {
        connection c = co_await connected();
        c.client.reset_on_close();
        co_await c.client.close();
        co_await test::settle();
        std::byte into[16];
        const std::error_code first = co_await error_of(c.server.read_some(into));
        CHECK(first == std::errc::connection_reset);
        for (int again = 0; again < 3; ++again) {
            const std::error_code late = co_await error_of(c.server.write_all("nobody there"));
            CHECK(late == std::errc::broken_pipe);
            const std::span<const std::byte> parts[] = {as_bytes("nobody"), as_bytes("there")};
            const std::error_code vectored = co_await error_of(c.server.write_all(parts));
            CHECK(vectored == std::errc::broken_pipe);
            const auto tried = c.server.try_write_some(as_bytes("x"));
            CHECK(tried.error() == std::errc::broken_pipe);
        }
        CHECK(c.server.is_open());
    });
    struct sigaction after {};
    sigaction(SIGPIPE, nullptr, &after);
    CHECK((after.sa_handler == before.sa_handler));
}

/// What an operation on a connection that is reset fails with; "no error" if it does not.
template <class Operation>
task<std::string> failure_of(Operation operation) {
    try {
        static_cast<void>(co_await std::move(operation));
    } catch (const io_error& e) {
        CHECK((e.code() == std::errc::connection_reset || e.code() == std::errc::broken_pipe));
        co_return std::string(e.operation()) + ' ' + e.subject();
    }
    co_return "no error";
}

task<> reset_under(bool read, bool write) {
    connection c = co_await connected();
    test::keep_small(c);
    const std::string peer = c.server.peer().to_string();
    const bytes big(4 << 20);
    std::byte into[16];
    task_handle<std::string> reader, writer;
    if (read) reader = spawn(failure_of<detail::read_awaiter>, c.server.read_some(into));
    if (write) writer = spawn(failure_of<detail::write_awaiter>, c.server.write_all(big));
    co_await test::settle();
    if (read) CHECK_FALSE(reader.done());
    if (write) CHECK_FALSE(writer.done());
    c.client.reset_on_close();
    co_await c.client.close();
    std::string read_failed, write_failed;
    if (read) read_failed = co_await reader;
    if (write) write_failed = co_await writer;
    // Linux keeps one error per socket. With two waits it goes to whoever asks first; after it a read
    // finds the end of the stream, and a write a broken pipe.
    if (read && !(write && read_failed == "no error")) CHECK(read_failed == "read " + peer);
    if (write) CHECK(write_failed == "write " + peer);
}

TEST_CASE("tcp: a reset ends each wait, with an error that names the peer") {
    test::run(reset_under, true, false);
    test::run(reset_under, false, true);
    test::run(reset_under, true, true);
}

enum class before_writing { nothing, received, vectored };

task<> reset_half_way(before_writing what) {
    connection c = co_await connected();
    if (what == before_writing::received) {
        co_await c.client.write_all("more");
        const std::string request = co_await test::receive_text(c.server, 4);
        CHECK(request == "more");
    }
    const bytes big(50 << 20);
    const std::span<const std::byte> parts[] = {std::span(big).first(1000), std::span(big).subspan(1000)};
    std::size_t written = 0;
    auto writer = what == before_writing::vectored
                      ? spawn(error_of<detail::write_awaiter>, c.server.write_all(parts, &written))
                      : spawn(error_of<detail::write_awaiter>, c.server.write_all(big, &written));
    // The peer takes some of it.
    std::byte some[1000];
    for (int i = 0; i < 10; ++i) co_await c.client.read_exactly(some);
    co_await test::settle();
    CHECK_FALSE(writer.done());
    c.client.reset_on_close();
    co_await c.client.close();
    const std::error_code wrote = co_await writer;
    CHECK(wrote == std::errc::connection_reset);
    CHECK(written > 0);
    CHECK(written < big.size());
    const std::error_code later = co_await error_of(c.server.write_all("x"));
    CHECK(later == std::errc::broken_pipe);
    const std::error_code read = co_await error_of(c.server.read_some(some));
    CHECK_FALSE(read);  // the end of the stream
}

TEST_CASE("tcp: a writer that waits half way through is told of a reset, as a reset") {
    // io_uring's own loop over a long send (MSG_WAITALL) ends with the count and forgets the error; and
    // the receive it keeps ready for the next reader hears of the error first.
    for (const before_writing what :
         {before_writing::nothing, before_writing::received, before_writing::vectored}) {
        const int which = static_cast<int>(what);
        CAPTURE(which);
        test::run(reset_half_way, what);
    }
}

TEST_CASE("tcp: a reset that no reader waited for is told to whoever asks next, once") {
    for (const int who : {0, 1, 2}) {
        CAPTURE(who);
        test::run([](int asker) -> task<> {
            connection c = co_await connected();
            co_await c.client.write_all("more");
            const std::string request = co_await test::receive_text(c.server, 4);
            CHECK(request == "more");
            c.client.reset_on_close();
            co_await c.client.close();
            co_await test::settle();
            std::byte into[16];
            std::error_code first;
            if (asker == 0) first = co_await error_of(c.server.read_some(into));
            if (asker == 1) first = co_await error_of(c.server.write_all("x"));
            if (asker == 2) first = c.server.try_write_some(as_bytes("x")).error();
            CHECK(first == std::errc::connection_reset);
            const std::error_code wrote = co_await error_of(c.server.write_all("x"));
            CHECK(wrote == std::errc::broken_pipe);
            const std::error_code read = co_await error_of(c.server.read_some(into));
            CHECK_FALSE(read);
        }, who);
    }
}

TEST_CASE("tcp: the last words reach a peer that was still sending, if one shuts down and reads on") {
    // Closing with unread input makes the kernel reset the connection, and the peer may lose what it
    // had not read yet.
    test::run([]() -> task<> {
        for (int round = 0; round < 20; ++round) {
            connection c = co_await connected();
            auto client = spawn([&c]() -> task<std::string> {
                const bytes body(1 << 20);
                co_await c.client.write_all(body);
                c.client.shutdown();
                const bytes answer = co_await test::read_to_end(c.client);
                co_return as_text(answer);
            });
            std::byte head[100];
            co_await c.server.read_exactly(head);
            co_await c.server.write_all("413 too much");
            c.server.shutdown();
            for (;;) {
                const buffer ignored = co_await c.server.receive();
                if (ignored.empty()) break;
            }
            co_await c.server.close();
            const std::string answer = co_await client;
            CHECK(answer == "413 too much");
        }
    });
}

// --- errors -----------------------------------------------------------------------------------------

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

// --- closed, moved and empty streams ----------------------------------------------------------------

task<> check_closed(tcp_stream& s) {
    std::byte into[16];
    const bytes from(16);
    CHECK_FALSE(s.is_open());
    CHECK_FALSE(static_cast<bool>(s));
    CHECK(s.native_handle() == -1);
    const auto bad = std::errc::bad_file_descriptor;
    const std::error_code some = co_await error_of(s.read_some(into));
    CHECK(some == bad);
    const std::error_code exact = co_await error_of(s.read_exactly(into));
    CHECK(exact == bad);
    const std::error_code borrowed = co_await error_of(s.receive());
    CHECK(borrowed == bad);
    const std::error_code wrote = co_await error_of(s.write_some(from));
    CHECK(wrote == bad);
    std::size_t written = 99;
    const std::error_code all = co_await error_of(s.write_all(from, &written));
    CHECK(all == bad);
    CHECK(written == 0);
    const std::span<const std::byte> parts[] = {from, from};
    const std::error_code vectored = co_await error_of(s.write_all(parts));
    CHECK(vectored == bad);
    auto attempted = co_await attempt(s.read_some(into));
    CHECK(attempted.error() == bad);
    CHECK(s.try_read_some(into).error() == bad);
    CHECK(s.try_write_some(from).error() == bad);
    CHECK(s.try_shutdown().error() == bad);
    CHECK(s.try_reset_on_close().error() == bad);
    CHECK(s.try_no_delay(true).error() == bad);
    CHECK(s.try_keep_alive(true).error() == bad);
    CHECK(s.try_receive_buffer_size(1).error() == bad);
    CHECK(s.try_send_buffer_size(1).error() == bad);
    CHECK(s.try_local().error() == bad);
    CHECK_THROWS_AS(s.shutdown(), io_error);
    CHECK_THROWS_AS(s.reset_on_close(), io_error);
    CHECK_THROWS_AS(s.no_delay(true), io_error);
    CHECK_THROWS_AS(s.keep_alive(true), io_error);
    CHECK_THROWS_AS(s.receive_buffer_size(1), io_error);
    CHECK_THROWS_AS(s.send_buffer_size(1), io_error);
    CHECK_THROWS_AS(static_cast<void>(s.local()), io_error);
    co_await s.close();  // closing what is closed is nothing
}

TEST_CASE("tcp: a stream that is closed, empty or moved from answers bad_file_descriptor") {
    test::run([]() -> task<> {
        tcp_stream empty;
        co_await check_closed(empty);

        connection c = co_await connected();
        co_await c.client.write_all("kept");
        co_await c.client.close();
        co_await check_closed(c.client);

        tcp_stream taken = std::move(c.server);
        co_await check_closed(c.server);
        const std::string data = co_await test::receive_text(taken, 4);
        CHECK(data == "kept");
        c.server = std::move(taken);
        co_await check_closed(taken);
        const buffer end = co_await c.server.receive();
        CHECK(end.empty());

        tcp_listener none;
        CHECK_FALSE(none.is_open());
        const std::error_code accepted = co_await error_of(none.accept());
        CHECK(accepted == std::errc::bad_file_descriptor);
        CHECK_THROWS_AS(static_cast<void>(none.local()), io_error);
        co_await none.close();
        tcp_listener listener = test::listen();
        tcp_listener moved = std::move(listener);
        CHECK_FALSE(listener.is_open());
        connection d = co_await test::connect_to(moved);
        CHECK(d.server.is_open());
        co_await moved.close();
        const std::error_code late = co_await error_of(moved.accept());
        CHECK(late == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("tcp: a stream assigned over is closed, and its peer sees the end") {
    test::run([]() -> task<> {
        connection a = co_await connected();
        connection b = co_await connected();
        a.client = std::move(b.client);
        const buffer end = co_await a.server.receive();
        CHECK(end.empty());
        co_await a.client.write_all("b now");
        const std::string data = co_await test::receive_text(b.server, 5);
        CHECK(data == "b now");
    });
}

TEST_CASE("tcp: close ends what others do on the stream with one bad_file_descriptor each") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        test::keep_small(c);
        std::byte into[16];
        const bytes big(8 << 20);
        std::size_t written = 0;
        auto reader = spawn(error_of<detail::read_awaiter>, c.client.read_some(into));
        auto writer = spawn(error_of<detail::write_awaiter>, c.client.write_all(big, &written));
        co_await test::settle();
        CHECK_FALSE(reader.done());
        CHECK_FALSE(writer.done());
        co_await c.client.close();
        const std::error_code read = co_await reader;
        const std::error_code wrote = co_await writer;
        CHECK(read == std::errc::bad_file_descriptor);
        CHECK(wrote == std::errc::bad_file_descriptor);
        CHECK(written < big.size());
        const bytes arrived = co_await test::read_to_end(c.server);  // FIN, not RST
        CHECK(arrived.size() == written);

        connection d = co_await connected();
        auto receiver = spawn(error_of<detail::borrow_awaiter>, d.client.receive());
        co_await test::settle();
        co_await d.client.close();
        const std::error_code borrowed = co_await receiver;
        CHECK(borrowed == std::errc::bad_file_descriptor);

        tcp_listener listener = test::listen();
        auto accepting = spawn([&listener]() -> task<std::error_code> {
            return error_of(listener.accept());
        });
        co_await test::settle();
        co_await listener.close();
        const std::error_code accepted = co_await accepting;
        CHECK(accepted == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("tcp: a stream destroyed under a wait ends it, and nothing is left") {
    // The destructor cannot wait: the loop finishes the wait and closes the descriptor.
    const std::size_t before = test::open_descriptors();
    test::run([]() -> task<> {
        for (int round = 0; round < 50; ++round) {
            auto c = std::make_unique<connection>(co_await connected());
            test::keep_small(*c);
            std::byte into[64];
            const bytes big(4 << 20);
            auto reader = spawn(error_of<detail::read_awaiter>, c->client.read_exactly(into));
            auto writer = spawn(error_of<detail::write_awaiter>, c->client.write_all(big));
            co_await test::settle();
            tcp_stream server = std::move(c->server);
            c.reset();
            const std::error_code read = co_await reader;
            const std::error_code wrote = co_await writer;
            CHECK(read == std::errc::bad_file_descriptor);
            CHECK(wrote == std::errc::bad_file_descriptor);
        }
        co_await test::settle();
        CHECK(this_loop().stats().operations == 0);
        CHECK(test::simulated_descriptors(this_loop()) == 0);
    });
    CHECK(test::open_descriptors() == before);
}

TEST_CASE("tcp: a stream destroyed in the turn in which a write on it began") {
    test::run([]() -> task<> {
        for (int round = 0; round < 20; ++round) {
            auto c = std::make_unique<connection>(co_await connected());
            test::keep_small(*c);
            const bytes big(4 << 20);
            auto writer = spawn(error_of<detail::write_awaiter>, c->client.write_all(big));
            co_await yield();
            c.reset();
            const std::error_code wrote = co_await writer;
            CHECK(wrote == std::errc::bad_file_descriptor);
        }
    });
}

TEST_CASE("tcp: one reader and one writer; a second gets device_or_resource_busy") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        test::keep_small(c);
        std::byte into[16], other[16];
        auto reader = spawn([&]() -> task<std::size_t> { co_return co_await c.client.read_some(into); });
        co_await test::settle();
        const std::error_code second = co_await error_of(c.client.read_some(other));
        CHECK(second == std::errc::device_or_resource_busy);
        const std::error_code exact = co_await error_of(c.client.read_exactly(other));
        CHECK(exact == std::errc::device_or_resource_busy);
        const std::error_code borrowed = co_await error_of(c.client.receive());
        CHECK(borrowed == std::errc::device_or_resource_busy);
        CHECK(c.client.try_read_some(other).error() == std::errc::resource_unavailable_try_again);

        const bytes big = make_pattern(1, 0, 4 << 20);
        auto writer = spawn([&]() -> task<> { co_await c.client.write_all(big); });
        co_await test::settle();
        const std::error_code second_writer = co_await error_of(c.client.write_all("in between"));
        CHECK(second_writer == std::errc::device_or_resource_busy);
        CHECK(c.client.try_write_some(as_bytes("x")).error() ==
              std::errc::resource_unavailable_try_again);

        // The first ones are none the worse for it.
        co_await c.server.write_all("for the first");
        const std::size_t got = co_await reader;
        co_await c.client.read_exactly(std::span(into).subspan(got, 13 - got));
        CHECK(as_text(std::span(into).first(13)) == "for the first");
        bytes all(big.size());
        co_await c.server.read_exactly(all);
        CHECK(is_pattern(all, 1));
        co_await writer;
    });
}

// --- nothing is lost ----------------------------------------------------------------------------------

/// A read_exactly of `size` bytes on `from`, cancelled after what was sent has arrived.
task<> interrupted_read(tcp_stream& from, std::size_t size) {
    bytes into(size);
    auto reader = spawn([&]() -> task<> { co_await from.read_exactly(into); });
    co_await test::settle();
    CHECK_FALSE(reader.done());
    reader.cancel();
    const auto ended = co_await attempt(reader);
    CHECK(ended.error() == std::errc::operation_canceled);
    CHECK(reader.state() == task_state::cancelled);
}

TEST_CASE("tcp: bytes of a cancelled read_exactly are the first of the next read, whichever it is") {
    for (int next = 0; next < 5; ++next) {
        CAPTURE(next);
        test::run([](int way) -> task<> {
            connection c = co_await connected();
            co_await c.client.write_all("first ");
            co_await interrupted_read(c.server, 100);
            co_await c.client.write_all("second");
            co_await test::settle();
            std::string got;
            std::byte into[32];
            if (way == 0) {
                const std::size_t n = co_await c.server.read_some(into);
                got = as_text(std::span(into).first(n));
            } else if (way == 1) {
                const buffer data = co_await c.server.receive();
                got = data.text();
            } else if (way == 2) {
                const std::size_t n = co_await c.server.read_exactly(std::span(into).first(12));
                got = as_text(std::span(into).first(n));
            } else if (way == 3) {
                const auto n = c.server.try_read_some(into);
                REQUIRE(n);
                got = as_text(std::span(into).first(*n));
            } else {  // in small bites
                for (int i = 0; i < 6; ++i) {
                    const std::size_t n = co_await c.server.read_some(std::span(into).first(1));
                    CHECK(n == 1);
                    got += as_text(std::span(into).first(1));
                }
            }
            CHECK(got.substr(0, 6) == "first ");
            while (got.size() < 12) {
                const std::size_t n = co_await c.server.read_some(into);
                REQUIRE(n > 0);
                got += as_text(std::span(into).first(n));
            }
            CHECK(got == "first second");
        }, next);
    }
}

TEST_CASE("tcp: read_exactly cancelled again and again loses nothing and keeps the order") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        std::size_t sent = 0;
        for (int round = 0; round < 20; ++round) {
            const bytes part = make_pattern(5, sent, 37);
            co_await c.client.write_all(part);
            sent += part.size();
            co_await interrupted_read(c.server, 10'000);
        }
        // A short one in between takes from the front.
        std::byte some[50];
        co_await c.server.read_exactly(some);
        CHECK(is_pattern(some, 5));
        co_await interrupted_read(c.server, 10'000);
        c.client.shutdown();
        const bytes rest = co_await test::read_to_end(c.server);
        CHECK(rest.size() == sent - 50);
        CHECK(is_pattern(rest, 5, 50));
    });
}

TEST_CASE("tcp: what a failed read_exactly had gathered is not lost either") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        co_await c.client.write_all("before the reset");
        auto reader = spawn([&]() -> task<std::error_code> {
            std::byte into[100];
            co_return co_await error_of(c.server.read_exactly(into));
        });
        co_await test::settle();
        c.client.reset_on_close();
        co_await c.client.close();
        const std::error_code failed = co_await reader;
        CHECK(failed == std::errc::connection_reset);
        std::byte into[100];
        const std::size_t n = co_await c.server.read_some(into);
        CHECK(as_text(std::span(into).first(n)) == "before the reset");
    });
}

TEST_CASE("tcp: the stash moves with its stream, and goes when it is closed") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        co_await c.client.write_all("stashed");
        co_await interrupted_read(c.server, 100);
        tcp_stream moved = std::move(c.server);
        std::byte into[16];
        const std::size_t n = co_await moved.read_some(std::span(into).first(3));
        CHECK(as_text(std::span(into).first(n)) == "sta");
        co_await check_closed(c.server);
        co_await moved.close();
        co_await check_closed(moved);  // the rest of the stash does not come from a closed stream
    });
}

TEST_CASE("tcp: closing under a read_exactly that has gathered bytes leaves none behind") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        co_await c.client.write_all("gathered");
        std::byte into[100];
        auto reader = spawn(error_of<detail::read_awaiter>, c.server.read_exactly(into));
        co_await test::settle();
        co_await c.server.close();
        const std::error_code ended = co_await reader;
        CHECK(ended == std::errc::bad_file_descriptor);
        co_await check_closed(c.server);
    });
}

TEST_CASE("tcp: a stream may go before the cancelled read_exactly on it has ended") {
    // The loop cancels all tasks at once when it ends. The owner of a stream unwinds first; the read
    // on it comes back from the kernel later, with bytes that nobody will ask for.
    test::run([]() -> task<> {
        auto c = std::make_unique<connection>(co_await connected());
        co_await c->client.write_all("gathered");
        std::byte into[100];
        auto reader = spawn([&]() -> task<> { co_await c->server.read_exactly(into); });
        co_await test::settle();
        reader.cancel();
        c.reset();
        const auto ended = co_await attempt(reader);
        CHECK(ended.error() == std::errc::operation_canceled);
    });
}

TEST_CASE("tcp: a cancelled write_all says how much it wrote, and the peer gets exactly that") {
    test::run([]() -> task<> {
        for (const bool vectored : {false, true}) {
            CAPTURE(vectored);
            connection c = co_await connected();
            test::keep_small(c);
            const bytes big = make_pattern(7, 0, 8 << 20);
            const std::span<const std::byte> all(big);
            const std::span<const std::byte> parts[] = {all.first(1), {}, all.subspan(1, 100'000),
                                                        all.subspan(100'001)};
            std::size_t written = 1;
            auto writer = spawn([&]() -> task<> {
                if (vectored) {
                    co_await c.client.write_all(parts, &written);
                } else {
                    co_await c.client.write_all(big, &written);
                }
            });
            co_await test::settle();
            CHECK_FALSE(writer.done());
            writer.cancel();
            const auto ended = co_await attempt(writer);
            CHECK(ended.error() == std::errc::operation_canceled);
            CHECK(written > 0);
            CHECK(written < big.size());
            // It may go on where it stopped.
            auto reader = spawn([&]() -> task<bytes> { return test::read_to_end(c.server); });
            std::size_t rest = 0;
            co_await c.client.write_all(all.subspan(written), &rest);
            CHECK(written + rest == big.size());
            c.client.shutdown();
            const bytes got = co_await reader;
            CHECK(got.size() == big.size());
            CHECK(is_pattern(got, 7));
        }
    });
}

TEST_CASE("tcp: read_some, read_exactly and receive share one stream in any order") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        constexpr std::size_t total = 400'000;
        const bytes data = make_pattern(9, 0, total);
        auto writer = spawn([&]() -> task<> {
            co_await c.client.write_all(data);
            c.client.shutdown();
        });
        test::dice roll(4711);
        std::size_t seen = 0;
        bytes into(5000);
        std::vector<buffer> held;
        for (bool more = true; more;) {
            std::size_t n = 0;
            const std::size_t want = 1 + roll.below(into.size());
            switch (roll.below(4)) {
                case 0:
                    n = co_await c.server.read_some(std::span(into).first(want));
                    CHECK(is_pattern(std::span(into).first(n), 9, seen));
                    break;
                case 1:
                    n = co_await c.server.read_exactly(std::span(into).first(want));
                    CHECK((n == want || seen + n == total));
                    CHECK(is_pattern(std::span(into).first(n), 9, seen));
                    break;
                case 2: {
                    buffer b = co_await c.server.receive();
                    n = b.size();
                    CHECK(is_pattern(b, 9, seen));
                    if (roll.one_in(2)) held.push_back(std::move(b));
                    break;
                }
                default: {
                    const auto tried = c.server.try_read_some(std::span(into).first(want));
                    if (!tried) {
                        CHECK(tried.error() == std::errc::resource_unavailable_try_again);
                        continue;
                    }
                    n = *tried;
                    CHECK(is_pattern(std::span(into).first(n), 9, seen));
                }
            }
            seen += n;
            more = n != 0;
        }
        CHECK(seen == total);
        co_await writer;
    });
}

// --- borrowed buffers -----------------------------------------------------------------------------------

TEST_CASE("tcp: more borrowed buffers than the ring has may be held, and given back late") {
    loop_options few;
    few.backend.receive_buffer_count = 2;
    few.backend.receive_buffer_size = 512;
    loop l(few);
    run_on(l, []() -> task<> {
        constexpr std::size_t connections = 20;
        tcp_listener listener = test::listen();
        std::deque<connection> all;
        for (std::size_t i = 0; i < connections; ++i) {
            connection c = co_await test::connect_to(listener);
            all.push_back(std::move(c));
        }
        for (int round = 0; round < 3; ++round) {
            for (std::size_t i = 0; i < connections; ++i)
                co_await all[i].client.write_all(make_pattern(i, 0, 300));
            std::vector<buffer> held;
            for (std::size_t i = 0; i < connections; ++i) {
                std::size_t got = 0;
                while (got < 300) {
                    buffer b = co_await all[i].server.receive();
                    REQUIRE_FALSE(b.empty());
                    CHECK(is_pattern(b, i, got));
                    got += b.size();
                    held.push_back(std::move(b));
                }
                CHECK(got == 300);
            }
            // Nobody else's bytes got into them meanwhile.
            std::size_t i = 0, at = 0;
            for (const buffer& b : held) {
                CHECK(is_pattern(b, i, at));
                at += b.size();
                if (at == 300) ++i, at = 0;
            }
            if (round == 1) held.clear();
            std::vector<buffer> moved = std::move(held);
            if (round == 2)
                for (connection& c : all) {
                    co_await c.client.close();
                    co_await c.server.close();
                }
            while (!moved.empty()) moved.erase(moved.begin());  // oldest first
        }
    });
}

TEST_CASE("tcp: a buffer outlives its stream, and moves") {
    test::run([]() -> task<> {
        buffer kept;
        CHECK(kept.empty());
        std::string read;  // a part of it, at least
        {
            connection c = co_await connected();
            co_await c.client.write_all("kept");
            buffer data = co_await c.server.receive();
            read = data.text();
            CHECK((!read.empty() && std::string_view("kept").starts_with(read)));
            kept = std::move(data);
            CHECK(data.empty());
            CHECK(data.data() == nullptr);
            co_await c.server.close();
            co_await c.client.close();
        }
        connection other = co_await connected();
        co_await other.client.write_all("other");
        buffer data = co_await other.server.receive();
        CHECK((!data.empty() && std::string_view("other").starts_with(data.text())));
        CHECK(kept.text() == read);
        std::swap(kept, data);
        CHECK(data.text() == read);
        kept = buffer();
        CHECK(data.text() == read);
        data.data()[0] = std::byte{'K'};  // it is the borrower's to write
        read[0] = 'K';
        CHECK(data.text() == read);
    });
}

// --- much -------------------------------------------------------------------------------------------------

task<> echo(tcp_stream& peer) {
    for (;;) {
        const buffer data = co_await peer.receive();
        if (data.empty()) break;
        co_await peer.write_all(data);
    }
    peer.shutdown();
}

task<> pump(tcp_stream& to, const bytes& data) {
    co_await to.write_all(data);
    to.shutdown();
}

task<> both_ways(std::size_t size) {
    connection c = co_await connected();
    const bytes there = make_pattern(1, 0, size);
    const bytes back = make_pattern(2, 0, size);
    auto client = spawn(pump, std::ref(c.client), std::cref(there));
    auto server = spawn(pump, std::ref(c.server), std::cref(back));
    auto at_client = spawn(test::read_to_end, std::ref(c.client));
    auto at_server = spawn(test::read_to_end, std::ref(c.server));
    const bytes got_back = co_await at_client;
    const bytes got_there = co_await at_server;
    co_await client;
    co_await server;
    CHECK(got_there == there);
    CHECK(got_back == back);
}

TEST_CASE("tcp: a mebibyte, and sixteen, in both directions at once") {
    test::run(both_ways, 1 << 20);
    test::run(both_ways, 16 << 20);
}

TEST_CASE("tcp: an echo gives a mebibyte back, byte for byte") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        const bytes data = make_pattern(4, 0, 1 << 20);
        auto echoing = spawn(echo, std::ref(c.server));
        auto sending = spawn(pump, std::ref(c.client), std::cref(data));
        const bytes back = co_await test::read_to_end(c.client);
        CHECK(back == data);
        co_await echoing;
        co_await sending;
    });
}

TEST_CASE("tcp: a thousand spans arrive in order, empty ones among them") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        std::vector<bytes> owned;
        std::vector<std::span<const std::byte>> parts;
        std::size_t total = 0;
        for (std::size_t i = 0; i < 1000; ++i) {
            owned.push_back(make_pattern(6, total, i % 7 == 0 ? 0 : (i * 37) % 900));
            total += owned.back().size();
        }
        for (const bytes& b : owned) parts.emplace_back(b);
        auto reader = spawn(test::read_to_end, std::ref(c.server));
        std::size_t written = 0;
        const std::size_t sent = co_await c.client.write_all(parts, &written);
        CHECK(sent == total);
        CHECK(written == total);
        c.client.shutdown();
        const bytes got = co_await reader;
        CHECK(got.size() == total);
        CHECK(is_pattern(got, 6));
    });
}

TEST_CASE("tcp: reading or writing nothing is nothing, at once") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        const std::size_t some = co_await c.client.read_some({});
        CHECK(some == 0);
        const std::size_t exact = co_await c.client.read_exactly({});
        CHECK(exact == 0);
        const std::size_t wrote = co_await c.client.write_some({});
        CHECK(wrote == 0);
        std::size_t written = 9;
        const std::size_t all = co_await c.client.write_all("", &written);
        CHECK(all == 0);
        CHECK(written == 0);
        const std::size_t none = co_await c.client.write_all(std::span<const std::span<const std::byte>>{});
        CHECK(none == 0);
        const std::span<const std::byte> empties[] = {{}, {}, {}};
        const std::size_t empty_parts = co_await c.client.write_all(empties);
        CHECK(empty_parts == 0);
        // An empty read is nothing on a stream with a stash, too, and takes nothing from it.
        co_await c.client.write_all("stash");
        co_await interrupted_read(c.server, 100);
        const std::size_t before = co_await c.server.read_some({});
        CHECK(before == 0);
        const auto tried = c.server.try_read_some({});
        CHECK((tried && *tried == 0));
        const std::string data = co_await test::receive_text(c.server, 5);
        CHECK(data == "stash");
    });
}

TEST_CASE("tcp: try_read_some and try_write_some never wait") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        std::byte into[16];
        CHECK(c.server.try_read_some(into).error() == std::errc::resource_unavailable_try_again);
        const auto sent = c.client.try_write_some(as_bytes("now"));
        REQUIRE(sent);
        CHECK((*sent == 3 || (*sent > 0 && test::seeded())));
        std::string all_read;
        while (all_read.size() < *sent) {
            const auto got = c.server.try_read_some(into);
            if (!got) co_await sleep_for(1ms);
            if (got) all_read += as_text(std::span(into).first(*got));
        }
        CHECK(all_read == std::string_view("now").substr(0, *sent));

        const bytes big = make_pattern(8, 0, 1 << 20);
        std::size_t in = 0;
        for (;;) {
            const auto part = c.client.try_write_some(std::span(big).subspan(in % 4096));
            if (!part) {
                CHECK(part.error() == std::errc::resource_unavailable_try_again);
                break;
            }
            in += *part;
        }
        CHECK(in > 0);
        c.client.shutdown();
        const bytes all = co_await test::read_to_end(c.server);
        CHECK(all.size() == in);
    });
}

TEST_CASE("tcp: write_some takes what fits, and says how much") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        const bytes data = make_pattern(2, 0, 3 << 20);
        auto reader = spawn(test::read_to_end, std::ref(c.server));
        std::size_t sent = 0;
        while (sent < data.size()) {
            const std::size_t n = co_await c.client.write_some(std::span(data).subspan(sent));
            REQUIRE(n > 0);
            sent += n;
        }
        c.client.shutdown();
        const bytes got = co_await reader;
        CHECK(got == data);
    });
}

task<> one_client(endpoint to, std::size_t which, std::size_t& served) {
    tcp_stream stream = co_await tcp_stream::connect(to);
    const bytes out = make_pattern(which, 0, 1000 + which);
    co_await stream.write_all(out);
    bytes in(out.size());
    const std::size_t n = co_await stream.read_exactly(in);
    CHECK(n == out.size());
    CHECK(in == out);
    stream.shutdown();
    const std::size_t end = co_await stream.read_some(in);
    CHECK(end == 0);
    ++served;
}

task<> echo_server(tcp_listener& listener, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        tcp_stream peer = co_await listener.accept();
        spawn([](tcp_stream s) -> task<> { co_await echo(s); }, std::move(peer)).discard();
    }
}

TEST_CASE("tcp: five hundred connections at once") {
    const std::size_t before = test::open_descriptors();
    test::run([]() -> task<> {
        constexpr std::size_t count = 500;
        tcp_listener listener = test::listen();
        std::size_t served = 0;
        auto server = spawn(echo_server, std::ref(listener), count);
        std::vector<task_handle<>> clients;
        for (std::size_t i = 0; i < count; ++i)
            clients.push_back(spawn(one_client, listener.local(), i, std::ref(served)));
        for (auto& client : clients) co_await client;
        co_await server;
        CHECK(served == count);
    });
    CHECK(test::open_descriptors() == before);
}

TEST_CASE("tcp: a stream that is always ready does not hold off the others") {
    test::run([]() -> task<> {
        connection busy = co_await connected();
        connection quiet = co_await connected();
        const bytes block = make_pattern(1, 0, 65536);
        auto flood = spawn([&]() -> task<> {
            for (;;) co_await busy.client.write_all(block);
        });
        std::size_t drained = 0;
        auto drain = spawn([&]() -> task<> {
            for (;;) {
                const buffer b = co_await busy.server.receive();
                drained += b.size();
            }
        });
        auto answering = spawn(echo, std::ref(quiet.server));
        for (int i = 0; i < 100; ++i) {
            const std::uint64_t turns = this_loop().stats().turns;
            co_await quiet.client.write_all("?");
            const std::string answer = co_await test::receive_text(quiet.client, 1);
            CHECK(answer == "?");
            CHECK(this_loop().stats().turns - turns < 5000);
        }
        CHECK(drained > 0);
        for (task_handle<>* each : {&flood, &drain, &answering}) {  // they borrow from this frame
            each->cancel();
            const auto ended = co_await attempt(*each);
            CHECK(ended.error() == std::errc::operation_canceled);
        }
    });
}

// --- a random program -------------------------------------------------------------------------------------

/// One direction of one connection: what is known to have been sent, and what was seen.
struct ledger {
    std::size_t which;
    std::size_t sent = 0;
    std::size_t seen = 0;
    bool sender_done = false;
};

task<> random_sender(tcp_stream& to, ledger& book, std::uint64_t seed, std::size_t total) {
    test::dice roll(seed);
    while (book.sent < total) {
        const std::size_t size = 1 + roll.below(roll.one_in(8) ? 200'000 : 3000);
        const bytes data = make_pattern(book.which, book.sent, std::min(size, total - book.sent));
        std::size_t written = 0;
        const std::span<const std::byte> all(data);
        const std::span<const std::byte> parts[] = {all.first(all.size() / 3), {},
                                                    all.subspan(all.size() / 3)};
        const std::size_t way = roll.below(4);
        auto writer = spawn([&, way]() -> task<> {
            if (way == 0) {
                written = co_await to.write_some(data);
            } else if (way == 1) {
                co_await to.write_all(std::span<const std::span<const std::byte>>(parts), &written);
            } else {
                co_await to.write_all(data, &written);
            }
        });
        if (roll.one_in(3)) {
            for (std::size_t i = roll.below(6); i > 0; --i) co_await immediate();
            if (roll.one_in(4)) co_await sleep_for(1ms);
            if (!writer.done()) writer.cancel();
        }
        static_cast<void>(co_await attempt(writer));
        book.sent += written;
        if (roll.one_in(5)) co_await yield();
    }
    book.sender_done = true;
    to.shutdown();
}

task<> random_reader(tcp_stream& from, ledger& book, std::uint64_t seed) {
    test::dice roll(seed);
    bytes into(100'000);
    std::deque<buffer> held;
    for (bool more = true; more;) {
        const std::size_t size = 1 + roll.below(roll.one_in(8) ? into.size() : 4000);
        const auto space = std::span(into).first(size);
        std::size_t got = 0;
        bool finished = false;
        buffer borrowed;
        const std::size_t way = roll.below(4);
        if (way == 3) {
            const auto tried = from.try_read_some(space);
            if (!tried) {
                CHECK(tried.error() == std::errc::resource_unavailable_try_again);
                co_await immediate();
                continue;
            }
            got = *tried;
            finished = true;
        } else {
            auto reader = spawn([&, way]() -> task<> {
                if (way == 0) {
                    got = co_await from.read_some(space);
                } else if (way == 1) {
                    got = co_await from.read_exactly(space);
                } else {
                    borrowed = co_await from.receive();
                    got = borrowed.size();
                }
                finished = true;
            });
            if (roll.one_in(3)) {
                for (std::size_t i = roll.below(6); i > 0; --i) co_await immediate();
                if (roll.one_in(4)) co_await sleep_for(1ms);
                if (!reader.done()) reader.cancel();
            }
            static_cast<void>(co_await attempt(reader));
        }
        if (!finished) continue;  // cancelled: what it had is still in the stream
        const bool right = way == 2 ? is_pattern(borrowed, book.which, book.seen)
                                    : is_pattern(space.first(got), book.which, book.seen);
        CHECK(right);
        if (!right) throw std::runtime_error("a byte was lost or doubled");
        book.seen += got;
        if (way == 2 && roll.one_in(3)) held.push_back(std::move(borrowed));
        if (held.size() > 20) held.pop_front();
        more = got != 0 || size == 0;
    }
}

task<> random_program(std::uint64_t seed) {
    constexpr std::size_t connections = 4;
    tcp_listener listener = test::listen();
    std::deque<connection> all;
    std::deque<ledger> books;
    std::vector<task_handle<>> tasks;
    test::dice roll(seed);
    for (std::size_t i = 0; i < connections; ++i) {
        connection made = co_await test::connect_to(listener);
        connection& c = all.emplace_back(std::move(made));
        if (roll.one_in(2)) {
            c.client.send_buffer_size(32768);
            c.server.receive_buffer_size(32768);
        }
        ledger& there = books.emplace_back(ledger{2 * i});
        ledger& back = books.emplace_back(ledger{2 * i + 1});
        const std::size_t total = 100'000 + roll.below(400'000);
        tasks.push_back(spawn(random_sender, std::ref(c.client), std::ref(there), roll.next(), total));
        tasks.push_back(spawn(random_reader, std::ref(c.server), std::ref(there), roll.next()));
        tasks.push_back(spawn(random_sender, std::ref(c.server), std::ref(back), roll.next(), total));
        tasks.push_back(spawn(random_reader, std::ref(c.client), std::ref(back), roll.next()));
    }
    for (auto& t : tasks) co_await t;
    for (const ledger& book : books) {
        CHECK(book.sender_done);
        CHECK(book.seen == book.sent);
    }
}

TEST_CASE("tcp: a random program of reads, writes and cancels loses no byte and doubles none") {
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
        CAPTURE(seed);
        seeded_oracle decisions(seed);  // sim only: cuts, delays, and who wins when a cancel races
        loop_options options;
        options.backend.decisions = &decisions;
        options.backend.receive_buffer_count = seed % 2 == 0 ? 4 : 128;
        const std::size_t frames = detail::frames_live();
        rondo::run(options, random_program, seed);
        CHECK(detail::frames_live() == frames);
    }
}

TEST_CASE("tcp: streams and listeners may outlive their loop; they close, and refuse everything else") {
    struct kept {
        connection both;
        tcp_listener listener;
    };
    struct local {
        static task<kept> make() {
            tcp_listener l = test::listen();
            connection c = co_await test::connect_to(l);
            co_return kept{std::move(c), std::move(l)};
        }
        static task<> use(kept* old) {
            CHECK(old->both.client.try_shutdown().error() == std::errc::bad_file_descriptor);
            CHECK(old->both.client.try_local().error() == std::errc::bad_file_descriptor);
            CHECK(old->listener.try_local().error() == std::errc::bad_file_descriptor);
            co_await old->both.client.close();
            CHECK(!old->both.client.is_open());
            co_await old->listener.close();
            // a new connection must not be taken for the old one
            connection fresh = co_await connected();
            old->both.server = tcp_stream();
            co_await fresh.client.write_all("x");
            const std::string got = co_await test::receive_text(fresh.server, 1);
            CHECK(got == "x");
        }
    };
    const std::size_t before = test::open_descriptors();
    {
        kept old = rondo::run(local::make);
        CHECK(old.both.client.is_open());
        rondo::run(local::use, &old);
    }
    CHECK(test::open_descriptors() == before);
}

// --- a peer that sends urgent bytes ---------------------------------------------------------------------

/// How the reader asks for what is there: at least one byte, as a text; empty at the end.
using reads = task<std::string> (*)(tcp_stream& from, std::size_t left);

task<std::string> by_read_some(tcp_stream& from, std::size_t) {
    char into[64];
    const std::size_t n = co_await from.read_some(into);
    co_return std::string(into, n);
}
task<std::string> by_receive(tcp_stream& from, std::size_t) {
    const buffer data = co_await from.receive();
    co_return std::string(data.text());
}
task<std::string> by_read_exactly(tcp_stream& from, std::size_t left) {
    std::string into(left, '?');
    const std::size_t n = co_await from.read_exactly(into);
    co_return into.substr(0, n);
}
task<std::string> by_an_arm(tcp_stream& from, std::size_t) {
    event never_set;
    const auto got = co_await select_one(from.receive(), never_set.wait());
    co_return std::string(got.get<0>().text());
}
task<std::string> by_trying(tcp_stream& from, std::size_t) {
    for (;;) {
        char into[64];
        const auto n = from.try_read_some(into);
        if (n) co_return std::string(into, *n);
        co_await sleep_for(1ms);
    }
}

task<> reads_it_all(tcp_stream& from, reads how, std::size_t wanted, std::string& got) {
    while (got.size() < wanted) {
        const std::string part = co_await how(from, wanted - got.size());
        if (part.empty()) co_return;
        got += part;
    }
}

task<> sends_urgently(std::size_t at, reads how, bool waits_first, bool at_intervals) {
    constexpr std::string_view message = "0123456789";
    connection c = co_await connected();
    std::string got;
    auto reader = spawn(reads_it_all, std::ref(c.server), how, message.size(), std::ref(got));
    if (waits_first) co_await test::settle();
    const int fd = c.client.native_handle();
    const auto send = [&](std::string_view part, int flags) -> task<> {
        if (part.empty()) co_return;
        const ssize_t sent = ::send(fd, part.data(), part.size(), flags);
        CHECK(sent == static_cast<ssize_t>(part.size()));
        if (at_intervals) co_await test::settle();
    };
    co_await send(message.substr(0, at), 0);
    co_await send("!", MSG_OOB);
    co_await send(message.substr(at), 0);
    // And nothing more is ever sent.
    const auto in_time = co_await attempt(with_timeout(5s, [&]() -> task<> { co_await reader; }));
    CHECK(in_time);
    CHECK(got == message);
}

// On epoll a reader once took `abc`, an urgent byte in front of `def` ended that read early, this was taken for an
// empty socket, and it waited for ever.
TEST_CASE("tcp: an urgent byte, wherever in a message, keeps no reader waiting") {
    if (test::on_sim()) {
        MESSAGE("skipped: the simulated network has no urgent bytes");
        return;
    }
    for (const reads how : {&by_read_some, &by_receive, &by_read_exactly, &by_an_arm, &by_trying})
        for (std::size_t at = 0; at <= 10; ++at)
            for (const bool waits_first : {false, true}) {
                CAPTURE(at);
                test::run(sends_urgently, at, how, waits_first, false);
            }
    for (const reads how : {&by_read_some, &by_receive, &by_read_exactly, &by_an_arm, &by_trying})
        test::run(sends_urgently, 5, how, true, true);
}

TEST_CASE("tcp: several urgent bytes in a stream of requests, and every answer comes") {
    if (test::on_sim()) {
        MESSAGE("skipped: the simulated network has no urgent bytes");
        return;
    }
    test::run([]() -> task<> {
        connection c = co_await connected();
        auto server = spawn(test::echo_session, std::ref(c.server));
        for (int i = 0; i < 20; ++i) {
            const std::string request = "request " + std::to_string(i);
            const std::size_t cut = static_cast<std::size_t>(i) % request.size();
            co_await c.client.write_all(std::string_view(request).substr(0, cut));
            CHECK(::send(c.client.native_handle(), "!", 1, MSG_OOB) == 1);
            co_await c.client.write_all(std::string_view(request).substr(cut));
            std::string answer;
            const auto in_time = co_await attempt(with_timeout(5s, [&]() -> task<> {
                answer = co_await test::receive_text(c.client, request.size());
            }));
            CHECK(in_time);
            CHECK(answer == request);
        }
        c.client.shutdown();
        co_await server;
    });
}

// --- what is kept for the next read, and who reads it ---------------------------------------------------

task<> bytes_here_a_reset_there(tcp_stream& bytes_to, tcp_stream& resets) {
    static_cast<void>(bytes_to.try_write_some("x"));
    resets.reset_on_close();
    const tcp_stream gone = std::move(resets);
    co_return;
}

/// Both arms complete in one turn; `other` is the stream of the arm that lost.
task<> loses_an_error(connection& one, connection& two, tcp_stream*& other) {
    spawn(bytes_here_a_reset_there, std::ref(one.client), std::ref(two.client)).discard();
    const auto got = co_await attempt(select_in_order(one.server.receive(), two.server.receive()));
    if (got) other = got->index() == 0 ? &two.server : &one.server;
}

// try_read_some() knew that bytes can be kept, not that an error can, and said "end of stream".
TEST_CASE("tcp: the error of a losing arm is told by the next read, whichever that is") {
    test::run([]() -> task<> {
        for (int how = 0; how < 4; ++how) {
            CAPTURE(how);
            connection one = co_await connected();
            connection two = co_await connected();
            tcp_stream* other = nullptr;
            co_await loses_an_error(one, two, other);
            if (other == nullptr) continue;  // the reset came first: nothing that a stash must keep
            char into[8];
            const auto none = other->try_read_some(writable_bytes());  // takes nothing, no error either
            CHECK((none || none.error() == std::errc::resource_unavailable_try_again));
            std::error_code error;
            if (how == 0) {
                error = other->try_read_some(into).error();
                // Where the reset had not come yet, there is nothing in the stash, nor anywhere else.
                if (error == std::errc::resource_unavailable_try_again)
                    error = co_await error_of(other->read_some(into));
            }
            if (how == 1) error = co_await error_of(other->read_some(into));
            if (how == 2) error = co_await error_of(other->read_exactly(into));
            if (how == 3) error = co_await error_of(other->receive());
            CHECK(error == std::errc::connection_reset);
            const std::size_t end = co_await other->read_some(into);
            CHECK(end == 0);  // told once
        }
    });
}

// --- what is made and never awaited -----------------------------------------------------------------------

std::size_t descriptors_in_use() {
    return test::on_sim() ? test::simulated_descriptors(this_loop()) : test::open_descriptors();
}

// The awaiter had taken the descriptor, and nobody closed it.
TEST_CASE("tcp: a close that nobody awaits closes all the same") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        tcp_listener listener = test::listen();
        const std::size_t before = descriptors_in_use();
        {
            auto dropped = c.server.close();
            CHECK_FALSE(c.server.is_open());
            auto moved = std::move(dropped);
        }
        static_cast<void>(listener.close());
        static_cast<void>(attempt(c.server.close()));  // of a closed one: nothing
        CHECK_FALSE(listener.is_open());
        co_await test::settle();
        CHECK(descriptors_in_use() == before - 2);
        const buffer end = co_await c.client.receive();
        CHECK(end.empty());
    });
}

TEST_CASE("tcp: a close that nobody awaits ends the reader of the stream") {
    test::run([]() -> task<> {
        connection c = co_await connected();
        const std::size_t before = descriptors_in_use();
        auto reader = spawn(error_of<detail::borrow_awaiter>, c.server.receive());
        co_await test::settle();
        static_cast<void>(c.server.close());
        const std::error_code ended = co_await reader;
        CHECK(ended == std::errc::bad_file_descriptor);
        co_await test::settle();
        CHECK(descriptors_in_use() == before - 1);
    });
}

TEST_CASE("tcp: a close that is kept beyond its loop closes, too") {
    const std::size_t before = test::open_descriptors();
    {
        std::optional<detail::close_awaiter> kept;
        test::run([](std::optional<detail::close_awaiter>& close) -> task<> {
            connection c = co_await connected();
            close.emplace(c.server.close());
        }, std::ref(kept));
    }
    CHECK(test::open_descriptors() == before);
}

// Dropping a stream once made an op on the heap, and without memory its peer never saw the end.
TEST_CASE("tcp: a stream that is dropped needs no memory to be closed, also with a reader under way") {
    test::run([]() -> task<> {
        for (const bool with_reader : {false, true}) {
            CAPTURE(with_reader);
            connection c = co_await connected();
            const std::size_t before = descriptors_in_use();
            auto reader = with_reader ? spawn(error_of<detail::borrow_awaiter>, c.server.receive())
                                      : task_handle<std::error_code>();
            co_await test::settle();
            detail::fail_allocation(1);
            c.server = tcp_stream();
            CHECK(detail::allocations_to_failure() == 1);  // nobody has asked for any
            detail::fail_allocation(0);
            CHECK((this_loop().alive() || !with_reader));
            const buffer end = co_await c.client.receive();
            CHECK(end.empty());
            co_await test::settle();
            CHECK(descriptors_in_use() == before - 1);
            if (with_reader) {
                const std::error_code ended = co_await reader;
                CHECK(ended == std::errc::bad_file_descriptor);
            }
        }
    });
}

TEST_CASE("tcp: streams that are dropped last close before their loop ends") {
    const std::size_t before = test::open_descriptors();
    test::run([]() -> task<> {
        auto c = std::make_unique<connection>(co_await connected());
        static_cast<void>(co_await attempt(with_timeout(1ms, [&]() -> task<> {
            static_cast<void>(co_await c->server.receive());  // leaves a request of io_uring's behind
        })));
        c.reset();
        if (test::backend_under_test() == backend_kind::uring) {
            CHECK(this_loop().alive());
            bool listed = false;
            for (const alive_entry& e : this_loop().why_alive()) listed |= e.what.find("being closed") != std::string::npos;
            CHECK(listed);
        }
    });
    CHECK(test::open_descriptors() == before);
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

// --- what the kernel answers and nobody can use -------------------------------------------------------------

// The table of descriptors grew by 256 MiB before the kernel was asked about the number.
TEST_CASE("fd: a number that is no descriptor is bad, and costs nothing") {
    if (test::on_sim()) {
        MESSAGE("skipped: real backends only");
        return;
    }
    const auto resident = [] {
        long pages = 0, all = 0;
        if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
            CHECK(std::fscanf(f, "%ld %ld", &all, &pages) == 2);
            std::fclose(f);
        }
        return all;
    };
    test::run([&]() -> task<> {
        const long before = resident();
        for (const int fd : {INT_MAX, INT_MAX - 64, 100'000'000, -1, INT_MIN}) {
            CAPTURE(fd);
            const std::error_code readable = co_await error_of(wait_readable(fd));
            const std::error_code writable = co_await error_of(wait_writable(fd));
            CHECK(readable == std::errc::bad_file_descriptor);
            CHECK(writable == std::errc::bad_file_descriptor);
        }
        CHECK((resident() - before) * 4096 < (16 << 20));
    });
}

}  // namespace
