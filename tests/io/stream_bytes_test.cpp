// A byte stream gives every byte once and in order, whatever is cancelled: what a cancelled or failed read has
// gathered is the begin of the next one.
#include "support/tcp.hpp"

#include <rondo/sim/simulated_backend.hpp>

#include <sys/socket.h>

#include <deque>
#include <memory>
#include <thread>
#include <vector>

using namespace test::streams;

namespace {

TEST_CASE("tcp: bytes of a cancelled read_exactly are the first of the next read, whichever it is") {
    for (int next = 0; next < 5; ++next) {
        CAPTURE(next);
        test::run(
            [](int way) -> task<> {
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
            },
            next);
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
            const std::span<const std::byte> parts[] = {
                all.first(1), {}, all.subspan(1, 100'000), all.subspan(100'001)};
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
        const std::span<const std::byte> parts[] = {all.first(all.size() / 3), {}, all.subspan(all.size() / 3)};
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
        simulated_backend simulated(decisions);
        if (test::on_sim()) options.factory = &simulated;
        options.backend.receive_buffer_count = seed % 2 == 0 ? 4 : 128;
        const std::size_t frames = detail::frames_live();
        rondo::run(options, random_program, seed);
        CHECK(detail::frames_live() == frames);
    }
}

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

/// A test about urgent bytes, in one loop of a thread of its own. At an urgent byte tcp_recvmsg() gives up when a
/// signal is pending, and who waits then for more, by epoll or io_uring, hears of nothing that has been there. The
/// kernel sends itself such a signal to a thread when it dismantles the rings of loops that are gone, of which tests
/// have many.
template <class Body>
void among_urgent_bytes(Body body) {
    std::thread alone([&] { test::run(body); });
    alone.join();
}

// On epoll a reader once took `abc`, an urgent byte in front of `def` ended that read early, this was taken for an
// empty socket, and it waited for ever.
TEST_CASE("tcp: an urgent byte, wherever in a message, keeps no reader waiting") {
    if (test::on_sim()) {
        MESSAGE("skipped: the simulated network has no urgent bytes");
        return;
    }
    among_urgent_bytes([]() -> task<> {
        const std::vector<reads> all{&by_read_some, &by_receive, &by_read_exactly, &by_an_arm, &by_trying};
        for (const reads how : all)
            for (std::size_t at = 0; at <= 10; ++at) {
                co_await sends_urgently(at, how, false, false);
                co_await sends_urgently(at, how, true, false);
            }
        for (const reads how : all) co_await sends_urgently(5, how, true, true);
    });
}

TEST_CASE("tcp: several urgent bytes in a stream of requests, and every answer comes") {
    if (test::on_sim()) {
        MESSAGE("skipped: the simulated network has no urgent bytes");
        return;
    }
    among_urgent_bytes([]() -> task<> {
        connection c = co_await connected();
        auto server = spawn(test::echo_session, std::ref(c.server));
        for (int i = 0; i < 20; ++i) {
            const std::string request = "request " + std::to_string(i);
            const std::size_t cut = static_cast<std::size_t>(i) % request.size();
            co_await c.client.write_all(std::string_view(request).substr(0, cut));
            CHECK(::send(c.client.native_handle(), "!", 1, MSG_OOB) == 1);
            co_await c.client.write_all(std::string_view(request).substr(cut));
            std::string answer;
            const auto in_time = co_await attempt(
                with_timeout(5s, [&]() -> task<> { answer = co_await test::receive_text(c.client, request.size()); }));
            CHECK(in_time);
            CHECK(answer == request);
        }
        c.client.shutdown();
        co_await server;
    });
}

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

}  // namespace
