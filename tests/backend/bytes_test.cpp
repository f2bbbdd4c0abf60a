// The contract of a backend (loop/backend.hpp): bytes go through a connection, each once, whatever is cancelled.
#include "support/backend_rig.hpp"

#include <doctest/doctest.h>
#include <rondo/loop/backend.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <span>
#include <vector>

using namespace test::raw;

namespace {

TEST_CASE("backend: bytes go through a connection and come back") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(1, 0, 100), in(200);
        CHECK(r.run(send(client, out)) == 100);
        CHECK(r.run(receive(server, in)) == 100);
        CHECK(is_pattern(std::span(in).first(100), 1));
        CHECK(r.run(send(server, std::span(in).first(3))) == 3);
        CHECK(r.run(receive(client, in)) == 3);

        // Waiting first, sending later.
        auto waits = receive(server, in);
        CHECK_FALSE(r.start(waits));
        CHECK(r.io->armed() == 1);
        CHECK(r.turn(r.io->now()) == 0);
        CHECK(r.run(send(client, std::span(out).first(5))) == 5);
        CHECK(r.finish(waits) == 5);
        CHECK(r.io->armed() == 0);

        CHECK(r.close(client) == 0);
        CHECK(r.run(receive(server, in)) == 0);
        CHECK(r.run(receive(server, in)) == 0);
        CHECK(r.close(server) == 0);
    });
}

TEST_CASE("backend: nothing to move is done at once") {
    on_each([](rig& r) {
        const auto ends = r.pair();
        test_op read(io_kind::receive, ends.first), write(io_kind::send, ends.first),
            vector(io_kind::send_vector, ends.first);
        for (test_op* each : {&read, &write, &vector}) {
            CHECK(r.start(*each));
            CHECK(each->result == 0);
        }
        std::span<const std::byte> empty[3];
        CHECK(r.run(send_vector(ends.first, empty, io_op::all)) == 0);
        CHECK(r.run(send_vector(ends.first, empty)) == 0);
        r.close(ends);
    });
}

TEST_CASE("backend: a vector of 1000 spans, some empty, arrives in order") {
    on_each([](rig& r) {
        for (const std::size_t longest : {1, 37, 20'000}) {
            auto [client, server] = r.tcp();
            bytes out = make_pattern(6, 0, 1000 * longest), in(1000 * longest);
            std::vector<std::span<const std::byte>> spans;
            std::size_t total = 0;
            for (std::size_t i = 0; i < 1000; ++i) {
                const std::size_t size = i % 5 == 0 ? 0 : (i * 7919) % longest + 1;
                spans.push_back(std::span(out).subspan(total, size));
                total += size;
            }
            auto whole = send_vector(client, spans, io_op::all);
            r.start(whole);
            auto all = receive(server, std::span(in).first(total), io_op::all);
            CHECK(r.run(all) == static_cast<int>(total));
            CHECK(r.finish(whole) == static_cast<int>(total));
            CHECK(is_pattern(std::span(in).first(total), 6));

            // Without `all`, it may stop anywhere; what it says has arrived.
            const int some = r.run(send_vector(client, spans));
            CHECK(some > 0);
            CHECK(some <= static_cast<int>(total));
            auto rest = receive(server, std::span(in).first(static_cast<std::size_t>(some)), io_op::all);
            CHECK(r.run(rest) == some);
            CHECK(is_pattern(std::span(in).first(static_cast<std::size_t>(some)), 6));
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: a borrowed buffer holds what came, and the end is empty") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(8, 0, 1000);
        for (int round = 0; round < 300; ++round) {  // more than there are buffers
            test_op lent(io_kind::borrow, server);
            if (round % 2 == 0) r.start(lent);
            CHECK(r.run(send(client, out)) == 1000);
            if (round % 2 == 1) r.start(lent);
            REQUIRE(r.finish(lent) == 1000);
            REQUIRE(lent.size == 1000);
            CHECK(is_pattern({static_cast<std::byte*>(lent.data), lent.size}, 8));
            r.give_back(lent);
        }
        CHECK(r.call(sys_call::shutdown_write, client) == 0);
        test_op end(io_kind::borrow, server);
        CHECK(r.run(end) == 0);
        CHECK(end.data == nullptr);
        CHECK(end.size == 0);
        CHECK(r.run(send(server, out)) == 1000);  // half-closed: our direction still works
        CHECK(r.run(receive(client, out)) == 1000);
        r.close({client, server});
    });
}

TEST_CASE("backend: a cancelled borrow loses nothing; receive and borrow share the stream") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(9, 0, 50'000), in(50'000);
        std::size_t got = 0, sent = 0;
        for (int round = 0; sent < out.size(); ++round) {
            test_op lent(io_kind::borrow, server);
            if (r.start(lent)) {  // something was left
                REQUIRE(lent.result > 0);
            } else {
                r.io->cancel(lent);
                const auto piece = std::min<std::size_t>(997, out.size() - sent);
                REQUIRE(r.run(send(client, std::span(out).subspan(sent, piece))) == static_cast<int>(piece));
                sent += piece;
                if (r.finish(lent) == -ECANCELED) lent.size = 0;
            }
            if (lent.size > 0) {
                std::memcpy(in.data() + got, lent.data, lent.size);
                got += lent.size;
                r.give_back(lent);
            }
            if (got == sent || round % 3 != 0) continue;
            const int n = r.run(receive(server, std::span(in).subspan(got, 100)));
            REQUIRE(n > 0);
            got += static_cast<std::size_t>(n);
        }
        auto rest = receive(server, std::span(in).subspan(got), io_op::all);
        CHECK(r.run(rest) == static_cast<int>(out.size() - got));
        CHECK(is_pattern(in, 9));
        r.close({client, server});
    });
}

TEST_CASE("backend: cancelling borrows for ever uses no buffers up (hazard D9: liburing#359)") {
    backend_options few;
    few.receive_buffer_count = 4;
    on_each(
        [](rig& r) {
            auto [client, server] = r.tcp();
            bytes out = make_pattern(10, 0, 64), in(64);
            for (int round = 0; round < 10'000; ++round) {
                test_op lent(io_kind::borrow, server);
                if (!r.start(lent)) {
                    if (round % 4 == 0) REQUIRE(r.run(send(client, out)) == 64);
                    if (round % 3 == 0) r.turn(time_point::min());
                    r.io->cancel(lent);
                    r.finish(lent);
                }
                if (lent.result == -ECANCELED) continue;
                REQUIRE(lent.result > 0);
                r.give_back(lent);
            }
            r.close({client, server});
        },
        few);
}

TEST_CASE("backend: whoever stops reading stops the sender, and then gets every byte (hazard D8: netty#14873)") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(11, 0, 24 << 20);
        auto whole = send(client, out, io_op::all);
        test_op first(io_kind::borrow, server);
        r.start(first);
        r.start(whole);
        REQUIRE(r.finish(first) > 0);
        r.run_for(r.real() ? 50ms : 5ms);
        CHECK_FALSE(whole.finished);

        std::size_t got = 0;
        bool good = true;
        const auto take = [&](test_op& lent) {
            const std::span area(static_cast<std::byte*>(lent.data), lent.size);
            good = good && is_pattern(area, 11, got);
            got += area.size();
            r.give_back(lent);
        };
        take(first);
        while (got < out.size()) {
            test_op lent(io_kind::borrow, server);
            REQUIRE(r.run(lent) > 0);
            take(lent);
        }
        CHECK(good);
        CHECK(r.finish(whole) == static_cast<int>(out.size()));
        r.close({client, server});
    });
}

TEST_CASE("backend: nobody waits for another's buffer (hazard D7: liburing#688)") {
    backend_options few;
    few.receive_buffer_count = 2;
    few.receive_buffer_size = 1024;
    on_each(
        [](rig& r) {
            constexpr std::size_t count = 100;
            std::vector<std::pair<int, int>> ends;
            for (std::size_t i = 0; i < count; ++i) ends.push_back(r.pair());
            for (int round = 0; round < 20; ++round) {
                std::deque<test_op> lent;
                for (std::size_t i = 0; i < count; ++i) r.start(lent.emplace_back(io_kind::borrow, ends[i].second));
                std::vector<bytes> out;
                for (std::size_t i = 0; i < count; ++i) {
                    out.push_back(make_pattern(i, 0, 1 + i));
                    REQUIRE(r.run(send(ends[i].first, out.back(), io_op::all)) == static_cast<int>(1 + i));
                }
                // All hundred are lent at the same time.
                for (std::size_t i = 0; i < count; ++i) {
                    REQUIRE(r.finish(lent[i]) == static_cast<int>(1 + i));
                    CHECK(is_pattern({static_cast<std::byte*>(lent[i].data), lent[i].size}, i));
                }
                for (auto& each : lent) r.give_back(each);
            }
            // And now a burst larger than the buffers, on every connection.
            bytes out = make_pattern(1, 0, 20'000), in(20'000);
            std::deque<test_op> whole;
            for (std::size_t i = 0; i < count; ++i) r.start(whole.emplace_back(send(ends[i].first, out, io_op::all)));
            for (std::size_t i = 0; i < count; ++i) {
                std::size_t got = 0;
                while (got < out.size()) {
                    test_op lent(io_kind::borrow, ends[i].second);
                    REQUIRE(r.run(lent) > 0);
                    CHECK(is_pattern({static_cast<std::byte*>(lent.data), lent.size}, 1, got));
                    got += lent.size;
                    r.give_back(lent);
                }
                REQUIRE(r.finish(whole[i]) == 20'000);
            }
            for (const auto& each : ends) r.close(each);
        },
        few);
}

TEST_CASE("backend: a cancelled receive took everything it says, or nothing (hazard D1: liburing#733)") {
    on_each([](rig& r) {
        for (const bool tcp : {true, false}) {
            auto [client, server] = tcp ? r.tcp() : r.pair();
            std::uint64_t seed = 42;
            const auto roll = [&](std::uint64_t n) {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                return seed % n;
            };
            std::size_t sent = 0, got = 0;
            bool good = true;
            bytes area(64);
            for (int round = 0; round < 5000; ++round) {
                const bool lend = roll(3) == 0;
                const bool all = !lend && roll(2) == 0;
                auto read = receive(server, area, all ? io_op::all : 0);
                test_op lent(io_kind::borrow, server);
                test_op& reading = lend ? lent : read;
                const std::uint64_t order = roll(6);
                bytes out = make_pattern(12, sent, roll(40) + 1);
                const auto push = [&] {
                    const int n = r.try_send(client, out);
                    if (n > 0) sent += static_cast<std::size_t>(n);
                };
                if (order < 2) push();
                if (!r.start(reading)) {
                    if (order == 2) push();
                    if (roll(2) == 0) r.turn(time_point::min());
                    if (order == 3) push();
                    r.io->cancel(reading);
                    if (order == 4) push();
                    r.finish(reading);
                }
                REQUIRE((reading.result > 0 || reading.result == -ECANCELED));
                std::span<const std::byte> seen(area.data(), read.moved);
                if (!all && !lend) seen = {area.data(), static_cast<std::size_t>(std::max(read.result, 0))};
                if (lend) seen = {static_cast<std::byte*>(lent.data), lent.result > 0 ? std::size_t{lent.size} : 0};
                good = good && is_pattern(seen, 12, got);
                got += seen.size();
                if (lend && lent.result > 0) r.give_back(lent);
            }
            CHECK(good);
            r.settle();
            CHECK(r.call(sys_call::shutdown_write, client) == 0);
            bytes rest(1 << 20);
            const int left = r.run(receive(server, rest, io_op::all));
            CHECK(left >= 0);
            CHECK(is_pattern(std::span(rest).first(static_cast<std::size_t>(left)), 12, got));
            CHECK(sent == got + static_cast<std::size_t>(left));
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: a cancelled send sent what it says, and not more") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        std::size_t sent = 0, got = 0;
        bytes area(4 << 20);
        bool good = true;
        for (int round = 0; round < 60; ++round) {
            bytes out = make_pattern(13, sent, 300'000);
            auto write = send(client, out, round % 2 == 0 ? io_op::all : 0);
            if (!r.start(write)) {
                if (round % 3 == 0) r.turn(time_point::min());
                r.io->cancel(write);
                r.finish(write);
            }
            REQUIRE((write.result > 0 || write.result == -ECANCELED));
            sent += write.result > 0 ? static_cast<std::size_t>(write.result) : write.moved;
            if (round % 4 != 3) continue;
            while (got < sent) {
                const int n = r.run(receive(server, area));
                REQUIRE(n > 0);
                good = good && is_pattern(std::span(area).first(static_cast<std::size_t>(n)), 13, got);
                got += static_cast<std::size_t>(n);
            }
        }
        CHECK(good);
        CHECK(got == sent);
        CHECK(r.try_receive(server, area) == -EAGAIN);
        r.close({client, server});
    });
}

TEST_CASE("backend: try_receive keeps the order of the stream") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(18, 0, 30'000), in(30'000);
        CHECK(r.try_receive(server, in) == -EAGAIN);
        std::size_t got = 0;
        for (std::size_t sent = 0; sent < out.size(); sent += 1000) {
            test_op lent(io_kind::borrow, server);
            const bool at_once = r.start(lent);
            REQUIRE(r.run(send(client, std::span(out).subspan(sent, 1000))) == 1000);
            if (!at_once) {
                r.io->cancel(lent);
                r.finish(lent);
            }
            if (lent.result > 0) {
                std::memcpy(in.data() + got, lent.data, lent.size);
                got += lent.size;
                r.give_back(lent);
            }
            if (got == in.size()) break;  // the last piece has just come
            const std::size_t wanted = std::min(1 + sent % 1700, in.size() - got);
            const int n = r.try_receive(server, std::span(in).subspan(got, wanted));
            REQUIRE((n > 0 || n == -EAGAIN));
            if (n > 0) got += static_cast<std::size_t>(n);
        }
        while (got < out.size()) {
            const int n = r.try_receive(server, std::span(in).subspan(got));
            if (n == -EAGAIN) {
                r.settle();
            } else {
                REQUIRE(n > 0);
                got += static_cast<std::size_t>(n);
            }
        }
        CHECK(is_pattern(in, 18));
        CHECK(r.close(client) == 0);
        r.settle();
        CHECK(r.try_receive(server, in) == 0);
        r.close(server);
    });
}

}  // namespace
