// How TCP streams end: by the peer, by a reset, by a close that is awaited or not, under a wait, after their loop.
#include "support/tcp.hpp"

#include <rondo/sim/simulated_backend.hpp>
#include <rondo/testing/every_step.hpp>

#include <sys/socket.h>

#include <csignal>
#include <memory>
#include <optional>

using namespace test::streams;

namespace {

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

TEST_CASE("tcp: a peer that resets is one connection_reset, and then broken pipes without a signal (hazards C9, D16)") {
    struct sigaction before{};
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
    struct sigaction after{};
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
    for (const before_writing what : {before_writing::nothing, before_writing::received, before_writing::vectored}) {
        const int which = static_cast<int>(what);
        CAPTURE(which);
        test::run(reset_half_way, what);
    }
}

TEST_CASE("tcp: a reset that no reader waited for is told to whoever asks next, once") {
    for (const int who : {0, 1, 2}) {
        CAPTURE(who);
        test::run(
            [](int asker) -> task<> {
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
            },
            who);
    }
}

TEST_CASE(
    "tcp: the last words reach a peer that was still sending, if one shuts down and reads on (hazard C8: hyper#3078)") {
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

TEST_CASE("tcp: close ends what others do on the stream with one bad_file_descriptor each (hazards C3, D4)") {
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
        auto accepting = spawn([&listener]() -> task<std::error_code> { return error_of(listener.accept()); });
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
            co_await test::others_first();
            c.reset();
            const std::error_code wrote = co_await writer;
            CHECK(wrote == std::errc::bad_file_descriptor);
        }
    });
}

TEST_CASE("tcp: one reader and one writer; a second gets device_or_resource_busy (hazard D10: liburing#1359)") {
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
        CHECK(c.client.try_write_some(as_bytes("x")).error() == std::errc::resource_unavailable_try_again);

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
        test::run(
            [](std::optional<detail::close_awaiter>& close) -> task<> {
                connection c = co_await connected();
                close.emplace(c.server.close());
            },
            std::ref(kept));
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
            for (const alive_entry& e : this_loop().why_alive())
                listed |= e.what.find("being closed") != std::string::npos;
            CHECK(listed);
        }
    });
    CHECK(test::open_descriptors() == before);
}

}  // namespace
