// A loop inside another one: poll_fd(), next_deadline(), run_nowait(). Here the host is blocked in poll()
// when something happens; order_test.cpp has the plain cases.
#include "support/net.hpp"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

using namespace rondo;
using namespace std::chrono_literals;
using test::connection;

namespace {

/// A foreign loop, as docs/backends.md tells one to write it.
class host {
 public:
    host() : fd(l.poll_fd()) {}

    /// Turns until `done()`. False when the loop has nothing to wait for, or nobody wakes the host.
    template <class Done>
    bool run_until(Done done) {
        while (!done()) {
            if (++turns == 10'000) return false;  // it spins
            const bool more = l.run_nowait();
            if (done()) return true;
            if (!more) return false;
            const bool forever = l.next_deadline() == never;
            const int woken = sleep(forever ? 5000 : patience());
            if (woken == 0 && forever) return false;
        }
        return true;
    }

    /// Whether the loop leaves the host alone for `ms`.
    bool quiet(int ms) { return l.next_deadline() == never && sleep(ms) == 0; }

    int sleep(int ms) const {
        pollfd ours{fd, POLLIN, 0};
        return ::poll(&ours, 1, ms);
    }

    loop l;
    int fd;
    int turns = 0;

 private:
    int patience() const {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(l.next_deadline() - rondo::now());
        return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 5000));
    }
};

bool no_host() { return test::on_sim(); }  // no descriptor stands for a simulated world

/// Long enough for the host to have blocked.
void let_the_host_block() { std::this_thread::sleep_for(20ms); }

/// A blocking client on a thread of its own.
int connect_plainly(std::uint16_t port) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(s, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) std::abort();
    return s;
}

struct pair_of {
    std::optional<tcp_stream> client;
    std::optional<tcp_stream> server;
};

task<> connect_both(pair_of& to) {
    connection made = co_await test::connected();
    to.client.emplace(std::move(made.client));
    to.server.emplace(std::move(made.server));
}

void connect_in(host& h, pair_of& to) {
    auto whole = spawn_on(h.l, connect_both, std::ref(to));
    REQUIRE(h.run_until([&] { return whole.done(); }));
}

TEST_SUITE_BEGIN("threads");

TEST_CASE("embedding: connections and data wake a host that is blocked in poll()") {
    if (no_host()) return;
    host h;
    std::uint16_t port = 0;
    auto server = spawn_on(
        h.l,
        [](std::uint16_t& at) -> task<> {
            tcp_listener listener = test::listen();
            at = listener.local().port();
            tcp_stream peer = co_await listener.accept();
            for (;;) {
                const buffer data = co_await peer.receive();
                if (data.empty()) co_return;
                co_await peer.write_all(data);
            }
        },
        std::ref(port));
    REQUIRE(h.run_until([&] { return port != 0; }));
    std::thread client([port] {
        let_the_host_block();
        const int s = connect_plainly(port);
        for (int i = 0; i < 5; ++i) {
            let_the_host_block();
            char c = 'x';
            if (::send(s, &c, 1, MSG_NOSIGNAL) != 1 || ::recv(s, &c, 1, 0) != 1) std::abort();
        }
        let_the_host_block();
        ::close(s);
    });
    const bool ended = h.run_until([&] { return server.done(); });
    client.join();
    CHECK(ended);
    CHECK(h.turns < 60);
}

TEST_CASE("embedding: posts wake a host that is blocked in poll() without a limit") {
    if (no_host()) return;
    host h;
    int heard = 0;
    std::thread other([&, r = h.l.remote()]() mutable {
        for (int i = 0; i < 9; ++i) {
            let_the_host_block();
            if (!r.post([&heard] { ++heard; })) std::abort();
        }
        let_the_host_block();
        r = {};  // the last handle: nothing keeps the loop alive any more
    });
    const bool all = h.run_until([&] { return heard == 9; });
    CHECK(all);
    CHECK_FALSE(h.run_until([] { return false; }));
    CHECK_FALSE(h.l.alive());
    other.join();
    CHECK(h.turns < 40);
}

TEST_CASE("embedding: a cancel, posted, wakes the host and ends the wait") {
    if (no_host()) return;
    host h;
    pair_of ends;
    connect_in(h, ends);
    std::byte into[16];
    auto reader = spawn_on(
        h.l, [](tcp_stream& from, std::span<std::byte> to) -> task<> { co_await from.read_some(to); },
        std::ref(*ends.server), std::span(into));
    auto borrower = spawn_on(h.l, [](tcp_stream& from) -> task<> { co_await from.receive(); }, std::ref(*ends.client));
    h.turns = 0;
    std::thread other([&, r = h.l.remote()] {
        let_the_host_block();
        if (!r.post([&] { reader.cancel(), borrower.cancel(); })) std::abort();
    });
    const bool ended = h.run_until([&] { return reader.done() && borrower.done(); });
    other.join();
    CHECK(ended);
    CHECK(reader.state() == task_state::cancelled);
    CHECK(borrower.state() == task_state::cancelled);
    CHECK(h.turns < 15);
}

TEST_CASE("embedding: a loop that was embedded can block by itself, and is woken") {
    if (no_host()) return;
    host h;
    pair_of ends;
    connect_in(h, ends);
    int heard = 0;
    std::thread other([&, r = h.l.remote()] {
        for (int i = 0; i < 3; ++i) {
            let_the_host_block();
            if (!r.post([&] { ++heard; })) std::abort();
        }
    });
    h.l.run();  // until the last handle has gone
    other.join();
    CHECK(heard == 3);
    auto slow = spawn_on(
        h.l,
        [](pair_of& both) -> task<> {
            const time_point before = now();
            co_await sleep_for(5ms);
            CHECK(now() - before >= 5ms);
            auto echo = spawn(
                [](tcp_stream& peer) -> task<> {
                    const buffer data = co_await peer.receive();
                    co_await peer.write_all(data);
                },
                std::ref(*both.server));
            co_await sleep_for(5ms);
            co_await both.client->write_all("x");
            const buffer answer = co_await both.client->receive();
            CHECK(answer.text() == "x");
            co_await echo;
        },
        std::ref(ends));
    const std::uint64_t before = h.l.stats().turns;
    h.l.run();
    CHECK(slow.done());
    CHECK(h.l.stats().turns - before < 30);
    // And back in the host.
    auto again = spawn_on(
        h.l,
        [](pair_of& both) -> task<> {
            co_await both.client->write_all("y");
            const buffer data = co_await both.server->receive();
            CHECK(data.text() == "y");
        },
        std::ref(ends));
    CHECK(h.run_until([&] { return again.done(); }));
}

TEST_CASE("embedding: poll_fd() may be asked for late, and wakes the host then, too") {
    if (no_host()) return;
    loop l;
    int heard = 0;
    const rondo::remote r = l.remote();
    for (int i = 0; i < 3; ++i) {
        if (!r.post([&] { ++heard; })) std::abort();
        l.run_nowait();
    }
    if (!r.post([&] { ++heard; })) std::abort();
    pollfd ours{l.poll_fd(), POLLIN, 0};
    CHECK(::poll(&ours, 1, 5000) == 1);
    int turns = 0;
    do {
        l.run_nowait();
    } while (++turns < 10 && ::poll(&ours, 1, 30) == 1);
    CHECK(turns < 4);
    CHECK(heard == 4);
    std::thread other([&] {
        let_the_host_block();
        if (!r.post([&] { ++heard; })) std::abort();
    });
    CHECK(::poll(&ours, 1, 5000) == 1);
    other.join();
    l.run_nowait();
    CHECK(heard == 5);
    CHECK(::poll(&ours, 1, 30) == 0);
}

TEST_CASE("embedding: another library's eventfd wakes the host") {
    if (no_host()) return;
    // io_uring may not signal one eventfd from within another's write, and does so a little later.
    host h;
    const int theirs = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    auto waits = spawn_on(h.l, [](int fd) -> task<> { co_await wait_readable(fd); }, theirs);
    std::thread other([&] {
        let_the_host_block();
        const std::uint64_t one = 1;
        if (::write(theirs, &one, sizeof one) != sizeof one) std::abort();
    });
    CHECK(h.run_until([&] { return waits.done(); }));
    other.join();
    ::close(theirs);
}

TEST_SUITE_END();

TEST_CASE("embedding: timers come by next_deadline() and cost a few turns") {
    if (no_host()) return;
    host h;
    int ticks = 0;
    auto sleeper = spawn_on(
        h.l,
        [](int& count) -> task<> {
            for (; count < 5; ++count) co_await sleep_for(4ms);
        },
        std::ref(ticks));
    CHECK(h.run_until([&] { return sleeper.done(); }));
    CHECK(ticks == 5);
    CHECK(h.turns < 25);
}

TEST_CASE("embedding: the descriptor is readable only when there is something to do") {
    if (no_host()) return;
    host h;
    pair_of ends;
    connect_in(h, ends);
    auto reader = spawn_on(
        h.l,
        [](tcp_stream& from) -> task<> {
            for (;;) {
                const buffer data = co_await from.receive();
                if (data.empty()) co_return;
            }
        },
        std::ref(*ends.server));
    int settling = 0;
    while (!h.quiet(10) && ++settling < 20) h.l.run_nowait();
    CHECK(settling < 5);
    for (int round = 0; round < 20; ++round) {
        CHECK(h.quiet(1));
        REQUIRE(ends.client->try_write_some(test::as_bytes("x")));
        CHECK(h.sleep(5000) == 1);
        CHECK(h.sleep(0) == 1);  // until somebody looks
        int turns = 0;
        do {
            h.l.run_nowait();
        } while (++turns < 10 && !h.quiet(1));
        CHECK(turns < 4);
    }
    h.l.run_nowait();
    CHECK(h.quiet(10));  // a turn in which nothing happens leaves it so
    reader.cancel();
    CHECK(h.run_until([&] { return reader.done(); }));
}

TEST_CASE("embedding: closing under a wait takes a few turns") {
    // A cancel that missed its target was asked again in each turn, and each time it finished so early
    // that the kernel never came to let the target go.
    if (no_host()) return;
    for (const bool destroyed : {false, true}) {
        CAPTURE(destroyed);
        host h;
        pair_of ends;
        connect_in(h, ends);
        auto reader = spawn_on(
            h.l,
            [](tcp_stream& from) -> task<> {
                const auto data = co_await attempt(from.receive());
                CHECK(data.error() == std::errc::bad_file_descriptor);
            },
            std::ref(*ends.server));
        for (int i = 0; i < 20 && !h.quiet(5); ++i) h.l.run_nowait();
        h.turns = 0;
        auto closer = spawn_on(
            h.l,
            [](pair_of& both, bool by_destructor) -> task<> {
                if (by_destructor) {
                    both.server.reset();
                } else {
                    co_await both.server->close();
                }
            },
            std::ref(ends), destroyed);
        const auto all_gone = [&] { return reader.done() && closer.done() && h.l.stats().operations == 0; };
        CHECK(h.run_until(all_gone));
        CHECK(h.turns < 10);
        h.turns = 0;
        ends.client.reset();  // the peer is told
        h.run_until([&] { return h.l.stats().operations == 0; });
        CHECK(h.turns < 10);
    }
}

TEST_CASE("embedding: a server inside a host serves, ends its sessions and stops, without spinning") {
    if (no_host()) return;
    host h;
    auto whole = spawn_on(h.l, []() -> task<> {
        tcp_listener listener = test::listen();
        serve_options options;
        options.stop_on_signals = false;
        auto server = spawn(
            [](tcp_listener& at, serve_options how) -> task<> {
                const auto echo = [](tcp_stream& peer) -> task<> {
                    for (;;) {
                        const buffer data = co_await peer.receive();
                        if (data.empty()) co_return;
                        co_await peer.write_all(data);
                    }
                };
                co_await serve(at, echo, how);
            },
            std::ref(listener), options);
        for (int i = 0; i < 5; ++i) {
            tcp_stream client = co_await tcp_stream::connect(listener.local());
            co_await client.write_all("x");
            const buffer answer = co_await client.receive();
            CHECK(answer.text() == "x");
        }
        server.cancel();
        static_cast<void>(co_await attempt(server));
        co_await listener.close();
    });
    CHECK(h.run_until([&] { return whole.done() && h.l.stats().operations == 0; }));
    CHECK(h.turns < 150);
}

}  // namespace
