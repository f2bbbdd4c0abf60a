// The contract of a backend (loop/backend.hpp): names, time, waking, descriptors, and what a cancel means.
#include "support/backend_rig.hpp"

#include <doctest/doctest.h>
#include <rondo/loop/backend.hpp>
#include <rondo/base/detail/pool.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace test::raw;

namespace {

TEST_CASE("backend: has a name, a description and nothing armed") {
    CHECK(std::string_view(rondo::name_of(backend_kind::uring)) == "uring");
    CHECK(std::string_view(rondo::name_of(backend_kind::automatic)) == "auto");
    on_each([](rig& r) {
        CHECK_FALSE(r.io->describe().empty());
        CHECK(r.io->armed() == 0);
    });
    std::string why;
    CHECK(rondo::make_backend(backend_kind::automatic, {}, why) == nullptr);
    CHECK_FALSE(why.empty());
}

TEST_CASE("backend: a wait ends at its time, and not before") {
    on_each([](rig& r) {
        for (const rondo::duration time : {0ns, 1ns, 100ns, 20'000ns, 1'500'000ns, 10'000'000ns}) {
            const time_point until = r.io->now() + time;
            CHECK(r.turn(until) == 0);
            CHECK(r.waited);
            CHECK(r.io->now() >= until);
        }
        CHECK(r.turn(time_point::min()) == 0);
        CHECK(r.turn(r.io->now() - 1h) == 0);
    });
}

TEST_CASE("backend: random numbers differ") {
    on_each([](rig& r) {
        const auto first = r.io->random(), second = r.io->random(), third = r.io->random();
        CHECK((first != second && second != third));
        CHECK(r.io->wall_now() > 900'000'000'000'000'000);
    });
}

TEST_CASE("backend: who watches the clock hears nothing while nobody sets it") {
    on_each([](rig& r) {
        const int fd = r.call(sys_call::watch_clock, -1);
        REQUIRE(fd >= 0);
        for (int i = 0; i < 2; ++i) {
            test_op news(io_kind::poll_in, fd);
            CHECK_FALSE(r.start(news));
            r.settle();
            CHECK_FALSE(news.finished);
            r.io->cancel(news);
            CHECK(r.finish(news) == -ECANCELED);
            CHECK(r.call(sys_call::watch_clock, fd) == 0);
        }
        CHECK(r.close(fd) == 0);
        const auto ends = r.pair();
        CHECK(r.call(sys_call::watch_clock, ends.first) == -EINVAL);  // it is something else
        r.close(ends);
    });
}

TEST_CASE("backend: a descriptor has one reader and one writer at a time") {
    on_each([](rig& r) {
        const auto ends = r.pair();
        bytes a(10), b(10);
        auto first = receive(ends.first, a), second = receive(ends.first, b);
        test_op third(io_kind::borrow, ends.first);
        CHECK_FALSE(r.start(first));
        CHECK(r.run(second) == -EBUSY);
        CHECK(r.run(third) == -EBUSY);
        CHECK(r.try_receive(ends.first, b) == -EAGAIN);
        CHECK(r.run(send(ends.first, b)) == 10);  // the other direction is free
        CHECK(r.run(send(ends.second, b)) == 10);
        CHECK(r.finish(first) == 10);
        r.close(ends);
    });
}

TEST_CASE("backend: a descriptor that is none answers EBADF") {
    on_each([](rig& r) {
        bytes area(10);
        for (const int fd : {-1, 5000}) {
            CHECK(r.run(receive(fd, area)) == -EBADF);
            CHECK(r.run(send(fd, area)) == -EBADF);
            CHECK(r.run(test_op(io_kind::borrow, fd)) == -EBADF);
            CHECK(r.run(test_op(io_kind::accept, fd)) == -EBADF);
            CHECK(r.close(fd) == -EBADF);
        }
    });
}

TEST_CASE("backend: receive-all gathers pieces, and stops at the end of the stream") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(2, 0, 100), in(100);
        auto whole = receive(server, in, io_op::all);
        CHECK_FALSE(r.start(whole));
        for (std::size_t at = 0; at < 100; at += 10) {
            CHECK(r.run(send(client, std::span(out).subspan(at, 10))) == 10);
            if (at < 90) r.settle();
            if (at < 90) CHECK_FALSE(whole.finished);
        }
        CHECK(r.finish(whole) == 100);
        CHECK(whole.moved == 100);
        CHECK(is_pattern(in, 2));

        auto cut = receive(server, in, io_op::all);
        CHECK_FALSE(r.start(cut));
        CHECK(r.run(send(client, std::span(out).first(30))) == 30);
        CHECK(r.call(sys_call::shutdown_write, client) == 0);
        CHECK(r.finish(cut) == 30);
        CHECK(r.run(receive(server, in, io_op::all)) == 0);
        r.close({client, server});
    });
}

TEST_CASE("backend: a receive-all cancelled half-way tells how far it came") {
    on_each([](rig& r) {
        for (const bool borrow_first : {false, true}) {
            auto [client, server] = r.tcp();
            if (borrow_first) {
                test_op lent(io_kind::borrow, server);
                CHECK_FALSE(r.start(lent));
                r.io->cancel(lent);
                CHECK(r.finish(lent) == -ECANCELED);
            }
            bytes out = make_pattern(3, 0, 100), in(100);
            auto whole = receive(server, in, io_op::all);
            CHECK_FALSE(r.start(whole));
            r.settle();
            CHECK(r.run(send(client, std::span(out).first(40))) == 40);
            r.settle();
            r.io->cancel(whole);
            CHECK(whole.state == rondo::op::cancelling);
            r.io->cancel(whole);  // once more: nothing
            CHECK(r.finish(whole) == -ECANCELED);
            CHECK(whole.moved == 40);
            CHECK(is_pattern(std::span(in).first(40), 3));
            r.io->cancel(whole);  // finished: nothing
            CHECK(r.run(send(client, std::span(out).subspan(40))) == 60);
            CHECK(r.run(receive(server, std::span(in).subspan(40), io_op::all)) == 60);
            CHECK(is_pattern(in, 3));
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: a send-all waits for room; cancelled, it tells how much went out") {
    on_each([](rig& r) {
        for (const bool tcp : {true, false}) {
            auto [client, server] = tcp ? r.tcp() : r.pair();
            bytes out = make_pattern(4, 0, 8 << 20), in(8 << 20);
            auto whole = send(client, out, io_op::all);
            CHECK_FALSE(r.start(whole));
            r.settle();
            CHECK_FALSE(whole.finished);
            CHECK(r.try_send(client, in) == -EAGAIN);  // would end up in the middle
            r.io->cancel(whole);
            CHECK(r.finish(whole) == -ECANCELED);
            CHECK(whole.moved > 0);
            CHECK(whole.moved < out.size());
            CHECK(r.call(sys_call::shutdown_write, client) == 0);
            CHECK(r.run(receive(server, in, io_op::all)) == static_cast<int>(whole.moved));
            CHECK(is_pattern(std::span(in).first(whole.moved), 4));
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: a send-all and a slow reader meet in the end") {
    on_each([](rig& r) {
        for (const bool tcp : {true, false}) {
            auto [client, server] = tcp ? r.tcp() : r.pair();
            bytes out = make_pattern(5, 0, 3'000'001), in(3'000'001);
            auto whole = send(client, out, io_op::all);
            r.start(whole);
            std::size_t got = 0;
            while (got < in.size()) {
                const std::size_t piece = std::min<std::size_t>(in.size() - got, 70'001);
                const int n = r.run(receive(server, std::span(in).subspan(got, piece)));
                REQUIRE(n > 0);
                got += static_cast<std::size_t>(n);
            }
            CHECK(r.finish(whole) == 3'000'001);
            CHECK(is_pattern(in, 5));
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: a vector cancelled half-way tells how much went out") {
    on_each([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(7, 0, 8 << 20), in(8 << 20);
        std::vector<std::span<const std::byte>> spans;
        for (std::size_t at = 0; at < out.size(); at += 4096) spans.push_back(std::span(out).subspan(at, 4096));
        auto whole = send_vector(client, spans, io_op::all);
        CHECK_FALSE(r.start(whole));
        r.settle();
        r.io->cancel(whole);
        CHECK(r.finish(whole) == -ECANCELED);
        CHECK(r.call(sys_call::shutdown_write, client) == 0);
        CHECK(r.run(receive(server, in, io_op::all)) == static_cast<int>(whole.moved));
        CHECK(is_pattern(std::span(in).first(whole.moved), 7));
        r.close({client, server});
    });
}

TEST_CASE("backend: without memory, an op fails and nothing else happens") {
    on_each([](rig& r) {
        auto [listener, at] = r.listen();
        auto [client, server] = r.tcp();
        bytes out = make_pattern(22, 0, 100), in(100);
        std::vector<std::span<const std::byte>> spans(10, std::span(out).first(10));
        for (int i = 0; i < 10; ++i) {
            // Who needs no memory succeeds.
            rondo::detail::fail_allocation(1);
            const int sent = r.run(send_vector(client, spans, io_op::all));
            rondo::detail::fail_allocation(0);
            CHECK((sent == -ENOMEM || sent == 100));
            if (sent == 100) CHECK(r.run(receive(server, in, io_op::all)) == 100);
            const int fd = r.tcp_socket(at);
            test_op connecting(io_kind::connect, fd);
            connecting.data = &at;
            rondo::detail::fail_allocation(1);
            const int connected = r.run(connecting);
            rondo::detail::fail_allocation(0);
            CHECK((connected == -ENOMEM || connected == 0));
            r.close(fd);
        }
        CHECK(r.run(send_vector(client, spans, io_op::all)) == 100);
        CHECK(r.run(receive(server, in, io_op::all)) == 100);
        for (const int fd : {client, server, listener}) r.close(fd);
    });
    CHECK(rondo::detail::frames_live() == 0);
}

TEST_CASE("backend: a half-closed peer still gets everything, and its data is read first") {
    on_each([](rig& r) {
        for (const bool lend : {false, true}) {
            auto [client, server] = r.tcp();
            bytes out = make_pattern(15, 0, 30'000), in(1 << 20), back = make_pattern(16, 0, 1 << 20);
            CHECK(r.run(send(client, out, io_op::all)) == 30'000);
            CHECK(r.call(sys_call::shutdown_write, client) == 0);
            r.settle();
            auto answer = send(server, back, io_op::all);
            r.start(answer);
            std::size_t got = 0;
            for (;;) {
                if (lend) {
                    test_op piece(io_kind::borrow, server);
                    if (r.run(piece) <= 0) break;
                    CHECK(is_pattern({static_cast<std::byte*>(piece.data), piece.size}, 15, got));
                    got += piece.size;
                    r.give_back(piece);
                } else {
                    const int n = r.run(receive(server, std::span(in).first(7000)));
                    if (n <= 0) break;
                    CHECK(is_pattern(std::span(in).first(static_cast<std::size_t>(n)), 15, got));
                    got += static_cast<std::size_t>(n);
                }
            }
            CHECK(got == 30'000);
            CHECK(r.run(receive(client, in, io_op::all)) == 1 << 20);
            CHECK(is_pattern(in, 16));
            CHECK(r.finish(answer) == 1 << 20);
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: polling tells when a stream is readable or writable, and takes nothing") {
    on_each([](rig& r) {
        for (const bool lend_first : {false, true}) {
            auto [client, server] = r.tcp();
            if (lend_first) {
                test_op lent(io_kind::borrow, server);
                CHECK_FALSE(r.start(lent));
                r.io->cancel(lent);
                CHECK(r.finish(lent) == -ECANCELED);
            }
            bytes out = make_pattern(17, 0, 8 << 20), in(8 << 20);
            test_op readable(io_kind::poll_in, server), writable(io_kind::poll_out, client);
            CHECK_FALSE(r.start(readable));
            CHECK(r.run(writable) == 0);
            r.settle();
            CHECK_FALSE(readable.finished);
            CHECK(r.run(send(client, std::span(out).first(10))) == 10);
            CHECK(r.finish(readable) == 0);
            test_op again(io_kind::poll_in, server);
            CHECK(r.run(again) == 0);
            CHECK(r.run(receive(server, in)) == 10);

            int full = 0;
            while (r.try_send(client, out) > 0) ++full;
            CHECK(full > 0);
            r.settle();
            while (r.try_send(client, out) > 0) ++full;
            test_op room(io_kind::poll_out, client), cancelled(io_kind::poll_out, client);
            CHECK_FALSE(r.start(cancelled));
            r.io->cancel(cancelled);
            CHECK(r.finish(cancelled) == -ECANCELED);
            CHECK_FALSE(r.start(room));
            while (!room.finished) {
                REQUIRE(r.run(receive(server, in)) > 0);
                r.turn(r.io->now());  // what finishes at once looks at nothing else
            }
            CHECK(room.result == 0);
            r.close({client, server});
        }
    });
}

TEST_CASE("backend: a ring of eight entries serves ten thousand ops (hazard D6: zio#623)") {
    backend_options tiny;
    tiny.ring_entries = 8;
    tiny.receive_buffer_count = 8;
    on_each(
        [](rig& r) {
            constexpr std::size_t pairs = 200;
            std::vector<std::pair<int, int>> ends;
            for (std::size_t i = 0; i < pairs; ++i) ends.push_back(r.pair());
            std::vector<bytes> in(pairs, bytes(100));
            bytes out = make_pattern(19, 0, 100);
            for (int round = 0; round < 13; ++round) {
                std::deque<test_op> reads, writes, cancelled;
                for (std::size_t i = 0; i < pairs; ++i) {
                    test_op& read = i % 2 == 0 ? reads.emplace_back(receive(ends[i].first, in[i]))
                                               : reads.emplace_back(io_kind::borrow, ends[i].first);
                    REQUIRE_FALSE(r.start(read));
                    REQUIRE_FALSE(r.start(cancelled.emplace_back(receive(ends[i].second, in[i], io_op::all))));
                }
                for (auto& each : cancelled) r.io->cancel(each);
                for (std::size_t i = 0; i < pairs; ++i)
                    r.start(writes.emplace_back(send(ends[i].second, out, io_op::all)));
                for (std::size_t i = 0; i < pairs; ++i) {
                    REQUIRE(r.finish(writes[i]) == 100);
                    REQUIRE(r.finish(reads[i]) == 100);
                    REQUIRE(r.finish(cancelled[i]) == -ECANCELED);
                    if (i % 2 == 1) r.give_back(reads[i]);
                }
            }
            for (const auto& each : ends) r.close(each);
        },
        tiny);
}

TEST_CASE("backend: what one wait cannot report comes with the next (hazard D5: tokio#8277)") {
    const descriptor_limit raised(4096);
    if (raised.value < 4096) return;
    on_each([](rig& r) {
        constexpr std::size_t pairs = 700;
        std::vector<std::pair<int, int>> ends;
        for (std::size_t i = 0; i < pairs; ++i) ends.push_back(r.pair());
        bytes out = make_pattern(20, 0, 10);
        std::vector<bytes> in(2 * pairs, bytes(10));
        std::deque<test_op> reads;
        for (std::size_t i = 0; i < pairs; ++i) {
            REQUIRE_FALSE(r.start(reads.emplace_back(receive(ends[i].first, in[2 * i]))));
            REQUIRE_FALSE(r.start(reads.emplace_back(receive(ends[i].second, in[2 * i + 1]))));
        }
        for (std::size_t i = 0; i < pairs; ++i) {
            REQUIRE(r.try_send(ends[i].first, out) == 10);
            REQUIRE(r.try_send(ends[i].second, out) == 10);
        }
        std::size_t reported = 0;
        while (reported < reads.size()) {
            const std::size_t n = r.turn(r.io->now() + 10s);
            REQUIRE(n > 0);
            reported += n;
        }
        for (auto& each : reads) CHECK(each.result == 10);
        reads.clear();
        // The same with cancels, and with closes behind them.
        for (std::size_t i = 0; i < pairs; ++i) {
            REQUIRE_FALSE(r.start(reads.emplace_back(receive(ends[i].first, in[2 * i]))));
            REQUIRE_FALSE(r.start(reads.emplace_back(receive(ends[i].second, in[2 * i + 1]))));
        }
        std::deque<test_op> closes;
        for (std::size_t i = 0; i < pairs; ++i) {
            r.io->cancel(reads[2 * i]);
            r.start(closes.emplace_back(io_kind::close, ends[i].first));
            r.start(closes.emplace_back(io_kind::close, ends[i].second));
        }
        for (auto& each : closes) REQUIRE(r.finish(each) == 0);
        for (std::size_t i = 0; i < reads.size(); ++i) {
            REQUIRE(reads[i].finished);
            CHECK(reads[i].result == (i % 2 == 0 ? -ECANCELED : -EBADF));
        }
    });
}

TEST_SUITE("threads") {
    TEST_CASE("backend: a wake ends the wait in progress, or the next") {
        on_each([](rig& r) {
            r.io->expect_wakes(1);
            r.io->wake();
            r.io->wake();
            CHECK(r.turn(rondo::never) == 0);
            CHECK(r.waited);
            for (int i = 0; i < 20; ++i) {
                std::thread other([&r, i] {
                    if (i % 2 == 0) std::this_thread::sleep_for(1ms);
                    r.io->wake();
                });
                CHECK(r.turn(rondo::never) == 0);
                other.join();
                // Joined before the wait: remembered.
                std::thread(&rondo::backend::wake, r.io.get()).join();
                CHECK(r.turn(rondo::never) == 0);
            }
            r.io->expect_wakes(0);
        });
    }

    TEST_CASE("backend: wakes and completions do not hide each other") {
        on_each([](rig& r) {
            const auto ends = r.pair();
            r.io->expect_wakes(1);
            bytes out(1), in(1);
            std::thread other([&r] {
                for (int i = 0; i < 2000; ++i) r.io->wake();
            });
            for (int i = 0; i < 2000; ++i) {
                auto read = receive(ends.first, in);
                REQUIRE_FALSE(r.start(read));
                REQUIRE(r.run(send(ends.second, out)) == 1);
                REQUIRE(r.finish(read) == 1);
            }
            other.join();
            r.io->expect_wakes(0);
            r.close(ends);
        });
    }
}

TEST_CASE("backend: accepted descriptors are non-blocking and stay out of child processes (hazard C12)") {
    on_real([](rig& r) {  // flags of descriptors are the kernel's
        auto [listener, at] = r.listen();
        const int client = r.connect(at);
        const int server = r.run(test_op(io_kind::accept, listener));
        for (const int fd : {client, server, listener}) {
            CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
            CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
            r.close(fd);
        }
    });
}

TEST_CASE("backend: options that make no sense are refused, by name, on every backend") {
    const auto refused = [](auto change, const char* name) {
        backend_options options;
        change(options);
        for (const backend_kind kind : {backend_kind::sim, backend_kind::epoll, backend_kind::uring}) {
            std::string why;
            CHECK(rondo::make_backend(kind, options, why) == nullptr);
            CHECK(why.find(name) != std::string::npos);
        }
    };
    for (const std::uint32_t bad : {0u, 3u, 100u, 65536u, 1u << 31, ~0u})
        refused([=](backend_options& o) { o.receive_buffer_count = bad; }, "receive_buffer_count");
    for (const std::uint32_t bad : {0u, 1u, 255u, (1u << 24) + 1, 1u << 31, ~0u})
        refused([=](backend_options& o) { o.receive_buffer_size = bad; }, "receive_buffer_size");
    for (const std::uint32_t bad : {0u, 1u, 4u, 100u, 8192u, 1u << 31, ~0u})
        refused([=](backend_options& o) { o.ring_entries = bad; }, "ring_entries");

    backend_options odd;  // the ends of what makes sense
    odd.receive_buffer_count = 1;
    odd.receive_buffer_size = 256;
    odd.ring_entries = 4096;
    on_each([](rig& r) { CHECK(r.io->armed() == 0); }, odd);
}

TEST_CASE("backend: destroyed in mid-flight, it lets go of everything (hazard D14)") {
    // The loop never does this to a waiting task; the kernel must not write afterwards all the same.
    for (const backend_kind kind : {backend_kind::epoll, backend_kind::uring}) {
        if (!wanted(kind)) continue;
        std::string why;
        auto made = rondo::make_backend(kind, {}, why);
        if (made == nullptr) continue;
        auto r = std::make_unique<rig>(std::move(made));
        auto [listener, at] = r->listen();
        test_op accepting(io_kind::accept, listener);
        r->start(accepting);
        std::vector<std::pair<int, int>> ends;
        std::deque<test_op> ops;
        bytes area(200 * 64), out(64, std::byte{1});
        for (std::size_t i = 0; i < 200; ++i) {
            ends.push_back(r->pair());
            r->start(ops.emplace_back(receive(ends[i].first, std::span(area).subspan(i * 64, 64))));
            r->start(ops.emplace_back(io_kind::borrow, ends[i].second));
        }
        r->turn(time_point::min());
        const auto before = std::chrono::steady_clock::now();
        r.reset();
        CHECK(std::chrono::steady_clock::now() - before < 900ms);
        for (const auto& each : ends) {
            CHECK(::send(each.second, out.data(), 64, MSG_NOSIGNAL) == 64);
            CHECK(::send(each.first, out.data(), 64, MSG_NOSIGNAL) == 64);
        }
        CHECK(std::count(area.begin(), area.end(), std::byte{0}) == 200 * 64);
        for (const auto& each : ends) {
            ::close(each.first);
            ::close(each.second);
        }
        ::close(listener);
    }
}

}  // namespace
