// Failures that asynchronous runtimes are known for, in descriptors, io_uring and fairness: hazards C, D and F of the
// catalogue that the tests follow. Most have their number in the name of a test of what they concern:
// git grep "hazards\? C4". These are the others.
#include "support/net.hpp"

#include <rondo/io/fd_watch.hpp>
#include <rondo/io/buffered_reader.hpp>
#include <rondo/net/unix.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

using namespace rondo;
using namespace std::literals;
using test::bytes;
using test::connection;
using test::error_of;

namespace {

/// How many turns the loop makes while the program sleeps. One that spins makes thousands.
task<std::uint64_t> turns_while_asleep() {
    co_await test::settle();
    const std::uint64_t before = this_loop().stats().turns;
    co_await sleep_for(20ms);
    co_return this_loop().stats().turns - before;
}
constexpr std::uint64_t few_turns = 10;

TEST_CASE("hazard C2, moonbit#571: a closed stream of which somebody has a copy wakes nobody, whatever comes there") {
    if (test::on_sim()) return;  // whose descriptors cannot be copied
    test::run([]() -> task<> {
        for (const bool awaited : {true, false}) {
            connection c = co_await test::connected();
            const int copy = ::dup(c.server.native_handle());
            REQUIRE(copy >= 0);
            auto reader = spawn(error_of<detail::borrow_awaiter>, c.server.receive());
            co_await test::settle();
            if (awaited) {
                co_await c.server.close();
            } else {
                c.server = {};
            }
            const std::error_code ended = co_await reader;
            CHECK(ended == std::errc::bad_file_descriptor);
            co_await c.client.write_all("for the copy");
            const std::uint64_t turns = co_await turns_while_asleep();
            CHECK(turns < few_turns);
            char into[32];
            CHECK(::read(copy, into, sizeof into) == 12);  // nothing of it was taken
            ::close(copy);
        }
    });
}

TEST_CASE(
    "hazard C6, mio#933, tokio#449: who writes to a peer that has ended its side does not spin, and loses nothing") {
    test::run([]() -> task<> {
        connection c = co_await test::connected();
        test::keep_small(c);
        const bytes much = test::make_pattern(1, 0, 1 << 20);
        co_await c.client.write_all("the last words");
        c.client.shutdown();
        auto writer = spawn([&]() -> task<> { co_await c.server.write_all(much); });
        const std::uint64_t full = co_await turns_while_asleep();  // the writer waits for room
        CHECK(full < few_turns);
        const std::string words = co_await test::receive_text(c.server, 14);
        CHECK(words == "the last words");
        for (int again = 0; again < 2; ++again) {
            const buffer end = co_await c.server.receive();
            CHECK(end.empty());
        }
        const std::uint64_t ended = co_await turns_while_asleep();
        CHECK(ended < few_turns);
        bytes got(much.size());
        const std::size_t n = co_await c.client.read_exactly(got);
        CHECK(n == much.size());
        CHECK(got == much);
        co_await writer;
    });
}

TEST_CASE("hazard C15: whatever a descriptor is, it becomes ready, or that it cannot be waited for is an error") {
    if (test::on_sim()) return;
    const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal >= 0) {
        REQUIRE(::grantpt(terminal) == 0);
        REQUIRE(::unlockpt(terminal) == 0);
    }
    const std::string slave = terminal >= 0 ? ::ptsname(terminal) : "/dev/null";
    for (const std::string& path :
         {"/dev/null"s, "/dev/zero"s, "/proc/self/status"s, "/proc/self/mounts"s, "/tmp"s, slave}) {
        CAPTURE(path);
        const int fd = ::open(path.c_str(), (path == slave ? O_RDWR : O_RDONLY) | O_NOCTTY | O_CLOEXEC);
        if (fd < 0) continue;
        if (path == slave && terminal >= 0) REQUIRE(::write(terminal, "x\n", 2) == 2);
        test::run([fd]() -> task<> {
            fd_watch watch(fd, fd_events::readable);
            const auto waits = [&]() -> task<result<fd_events>> {
                auto came = co_await attempt(watch.wait());
                co_return came;
            };
            const auto in_time = co_await move_on_after(5s, waits);
            REQUIRE(in_time);
            const result<fd_events>& there = *in_time;
            if (there) CHECK((*there & fd_events::readable) != fd_events::none);
            if (!there) CHECK(there.error() == std::errc::operation_not_permitted);
        });
        ::close(fd);
    }
    if (terminal >= 0) ::close(terminal);
    test::run([]() -> task<> {
        const int closed = ::dup(0);
        ::close(closed);
        fd_watch watch(closed, fd_events::readable);
        const auto there = co_await attempt(watch.wait());
        REQUIRE(!there);
        CHECK(there.error() == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("hazard D3, tokio#7979: accepts that are cancelled while clients come lose none, and leave no descriptor") {
    const std::size_t before = test::open_descriptors();
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        test::dice random(3);
        constexpr std::size_t clients = 300;
        std::size_t accepted = 0;
        const auto accepts = [&]() -> task<> {
            tcp_stream made = co_await listener.accept();
            ++accepted;
        };
        for (std::size_t i = 0; i < clients; ++i) {
            auto waits = spawn(accepts);
            for (std::size_t n = random.below(3); n > 0; --n) co_await yield();
            tcp_stream client = co_await tcp_stream::connect(listener.local());
            for (std::size_t n = random.below(3); n > 0; --n) co_await immediate();
            waits.cancel();
            static_cast<void>(co_await attempt(waits));
        }
        while (accepted < clients) {
            // Those that have gone before they were accepted are connections all the same, as nothing was reset.
            const bool came = co_await move_on_after(10s, accepts);
            REQUIRE(came);
        }
        const bool another = co_await move_on_after(1ms, accepts);
        CHECK_FALSE(another);
    });
    CHECK(test::open_descriptors() == before);
}

TEST_CASE("hazard D11, seastar#2728: two hundred loops at once have their rings, or say why they have none; all work") {
    const std::size_t before = test::open_descriptors();
    {
        loop_options small;
        small.backend.ring_entries = 8;
        small.backend.receive_buffer_count = 8;
        std::vector<std::unique_ptr<loop>> all;
        for (int i = 0; i < 200; ++i) all.push_back(std::make_unique<loop>(small));
        int worked = 0;
        for (const auto& each : all)
            run_on(*each, [&]() -> task<> {
                auto [left, right] = unix_stream::pair();
                co_await left.write_all("x");
                char into[1];
                const std::size_t n = co_await right.read_some(into);
                worked += n == 1;
            });
        CHECK(worked == 200);
    }
    CHECK(test::open_descriptors() == before);
}

TEST_CASE(
    "hazard D14, tokio-uring#102, commonware#3287: a loop ends under a thousand operations, and has let go of all") {
    const std::size_t before = test::open_descriptors();
    std::size_t ended = 0;
    {
        loop l;
        const auto waits = [&ended]() -> task<> {
            struct counts {
                std::size_t& of;
                ~counts() { ++of; }
            } at_the_end{ended};
            auto [left, right] = unix_stream::pair();
            bytes into(64), much(4 << 20);
            auto both = [&](task_group& group) -> task<> {
                auto reads = [&]() -> task<> { co_await left.read_exactly(into); };
                auto borrows = [&]() -> task<> { static_cast<void>(co_await right.receive()); };
                auto writes = [&]() -> task<> { co_await right.write_all(much); };
                auto sleeps = [&]() -> task<> { co_await sleep_for(1h); };
                group.spawn(reads).discard();
                group.spawn(sleeps).discard();
                group.spawn(borrows).discard();
                co_await writes();
            };
            co_await with_task_group(both);
        };
        for (int i = 0; i < 250; ++i) spawn_on(l, waits).discard();
        for (int i = 0; i < 20; ++i) l.run_nowait();
    }
    CHECK(ended == 250);
    CHECK(test::open_descriptors() == before);
}

TEST_CASE("hazard F3, tokio#5686: two tasks that wake each other for ever hold off neither timers nor sockets") {
    if (test::on_sim()) return;  // no time passes there while a task is ready: that is a live-lock, and told
    test::run([]() -> task<> {
        connection c = co_await test::connected();
        auto_event ping, pong;
        ping.set();
        std::uint64_t rounds = 0;
        const auto plays = [&](auto_event& mine, auto_event& others) -> task<> {
            for (;; ++rounds) {
                co_await mine.wait();
                others.set();
            }
        };
        auto body = [&](task_group& group) -> task<> {
            group.spawn_background(plays, std::ref(ping), std::ref(pong)).discard();
            group.spawn_background(plays, std::ref(pong), std::ref(ping)).discard();
            for (int i = 0; i < 20; ++i) {
                co_await c.client.write_all("x");
                const std::string there = co_await test::receive_text(c.server, 1);
                CHECK(there == "x");
                co_await sleep_for(1us);
            }
            CHECK(rounds > 100);
        };
        co_await with_task_group(body);
    });
}

/// Gives ten bytes, and then nothing any more; notes how much was asked for.
struct announces_much {
    std::size_t largest = 0, left = 10;

    task<std::size_t> read_some(writable_bytes into) {
        largest = std::max(largest, into.size());
        if (left == 0) co_await sleep_for(1h);
        const std::size_t n = std::min(std::exchange(left, 0), into.size());
        std::fill_n(static_cast<char*>(into.data()), n, 'x');
        co_return n;
    }
    task<std::size_t> read_exactly(writable_bytes into) { return read_some(into); }
};

TEST_CASE("hazard F6, CVE-2021-32675: a length that is only announced takes no memory") {
    test::run([]() -> task<> {
        announces_much peer;
        buffered_reader in(peer);
        const auto reads = [&]() -> task<> { static_cast<void>(co_await in.read_exactly(std::size_t{4} << 30)); };
        const bool came = co_await move_on_after(1ms, reads);
        CHECK_FALSE(came);
        CHECK(peer.largest <= 32 * in.default_capacity);  // doubled as it grows
        const std::string kept = co_await in.read_exactly(10);
        CHECK(kept == "xxxxxxxxxx");
    });
}

TEST_CASE("hazard F8: more clients than the queue holds wait while nobody accepts, and are served then") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen({.backlog = 4});
        constexpr std::size_t clients = 40;
        std::size_t answered = 0;
        auto body = [&](task_group& group) -> task<> {
            for (std::size_t i = 0; i < clients; ++i)
                group.spawn([&]() -> task<> {
                    tcp_stream peer = co_await tcp_stream::connect(listener.local());
                    co_await peer.write_all("?");
                    const std::string answer = co_await test::receive_text(peer, 1);
                    answered += answer == "?";
                });
            co_await sleep_for(20ms);
            CHECK(answered == 0);
            auto serves = [&]() -> task<> { co_await serve(listener, test::echo_session, {.stop_on_signals = false}); };
            group.spawn_background(serves).discard();
        };
        co_await with_task_group(body);
        CHECK(answered == clients);
    });
}

TEST_CASE(
    "hazard F9, envoy#14718, libuv#1111: listeners that share a port share its clients, and each one is served once") {
    test::run([]() -> task<> {
        listen_options shared;
        shared.reuse_port = true;
        std::vector<tcp_listener> all;
        all.push_back(test::listen(shared));
        const endpoint at = all.front().local();
        for (int i = 1; i < 4; ++i) all.push_back(tcp_listener::bind(at, shared));
        std::vector<std::size_t> served(all.size());
        constexpr std::size_t clients = 400;
        auto body = [&](task_group& group) -> task<> {
            for (std::size_t i = 0; i < all.size(); ++i)
                group
                    .spawn_background([&, i]() -> task<> {
                        for (;;) {
                            tcp_stream peer = co_await all[i].accept();
                            ++served[i];
                            co_await peer.write_all("!");
                        }
                    })
                    .discard();
            for (std::size_t i = 0; i < clients; ++i) {
                tcp_stream peer = co_await tcp_stream::connect(at);
                const std::string greeting = co_await test::receive_text(peer, 1);
                CHECK(greeting == "!");
            }
        };
        co_await with_task_group(body);
        std::size_t sum = 0;
        for (const std::size_t each : served) {
            sum += each;
            // A simulated world gives all of them to the oldest listener, which Linux may do, too.
            if (!test::on_sim()) CHECK(each >= clients / 16);
        }
        CHECK(sum == clients);
    });
}

}  // namespace
