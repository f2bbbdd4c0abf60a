// Cancel at every step, for every wait there is; an allocation fails; a loop dies in mid-flight.
#include "support/every_step.hpp"
#include "../../lib/loop/engine.hpp"

#include <unistd.h>

#include <deque>
#include <stdexcept>

using namespace rondo;
using namespace std::chrono_literals;
using test::bytes;
using test::cancel_at_every_step;
using test::connected;
using test::connection;
using test::is_pattern;
using test::make_pattern;

namespace {

// --- the programs: each ends by itself if nobody cancels it -------------------------------------------

task<> sleeps() {
    co_await sleep_for(200us);
    co_await sleep_for(0ns);
    co_await sleep_for(-1s);
    co_await sleep_until(now() + 100us);
    co_await sleep_until(now() - 1s);
}

task<> queues() {
    for (int i = 0; i < 3; ++i) {
        co_await yield();
        co_await microtask();
        co_await next_tick();
        co_await immediate();
    }
}

task<int> child(int n) {
    for (int i = 0; i < n; ++i) co_await immediate();
    co_return n;
}

task<> joins() {
    auto one = spawn(child, 3);
    auto other = spawn(child, 1);
    const int a = co_await one;
    const int b = co_await other;
    if (a + b != 4) throw std::logic_error("a child's result got lost");
}

task<> joins_a_cancelled_child() {
    auto one = spawn(child, 100);
    co_await immediate();
    one.cancel();
    const auto ended = co_await attempt(one);
    if (ended.error() != std::errc::operation_canceled) throw std::logic_error("not cancelled");
}

task<> connects() {
    tcp_listener listener = test::listen();
    for (int i = 0; i < 2; ++i) {
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        co_await client.close();
    }
}

task<> connects_in_vain() {
    tcp_listener listener = test::listen();
    const endpoint nobody = listener.local();
    co_await listener.close();
    const auto tried = co_await attempt(tcp_stream::connect(nobody));
    if (tried.error() != std::errc::connection_refused) throw std::logic_error("who answered?");
}

task<> comes_late(endpoint to) {
    co_await sleep_for(100us);
    tcp_stream client = co_await tcp_stream::connect(to);
    co_await client.write_all("late");
    std::byte end[1];
    co_await client.read_some(end);
}

task<> accepts() {
    tcp_listener listener = test::listen();
    for (int i = 0; i < 2; ++i) {
        auto client = spawn(comes_late, listener.local());
        tcp_stream server = co_await listener.accept();
        const std::string data = co_await test::receive_text(server, 4);
        if (data != "late") throw std::logic_error("not what was sent");
    }
}

/// Sends a pattern bit by bit, then ends the stream.
task<> dribbles(tcp_stream& to, std::size_t parts) {
    for (std::size_t i = 0; i < parts; ++i) {
        const bytes part = make_pattern(1, i * 100, 100);
        co_await to.write_all(part);
        co_await sleep_for(50us);
    }
    to.shutdown();
}

/// A connection whose other end lives as long as the loop: the program may be cancelled at any time,
/// and its helpers a little later.
task<std::shared_ptr<connection>> dribbled(std::size_t parts) {
    connection made = co_await connected();
    auto c = std::make_shared<connection>(std::move(made));
    spawn([c, parts]() -> task<> { co_await dribbles(c->client, parts); }).discard();
    co_return c;
}

task<> reads_some() {
    const auto c = co_await dribbled(3);
    const bytes all = co_await test::read_to_end(c->server);
    if (all.size() != 300 || !is_pattern(all, 1)) throw std::logic_error("bytes got lost");
}

task<> reads_exactly() {
    const auto c = co_await dribbled(3);
    bytes into(250);
    const std::size_t n = co_await c->server.read_exactly(into);
    if (n != 250 || !is_pattern(into, 1)) throw std::logic_error("bytes got lost");
    const std::size_t rest = co_await c->server.read_exactly(into);
    if (rest != 50) throw std::logic_error("bytes got lost");
}

task<> borrows() {
    const auto c = co_await dribbled(3);
    std::vector<buffer> held;
    std::size_t n = 0;
    for (;;) {
        buffer b = co_await c->server.receive();
        if (b.empty()) break;
        if (!is_pattern(b, 1, n)) throw std::logic_error("bytes got lost");
        n += b.size();
        held.push_back(std::move(b));
    }
    if (n != 300) throw std::logic_error("bytes got lost");
}

/// A part of the program is cancelled, and the bytes it had are read by the rest.
task<> reads_on_after_a_cancelled_read() {
    const auto c = co_await dribbled(3);
    bytes into(1000);
    auto first = spawn([c]() -> task<> {
        bytes much(1000);
        co_await c->server.read_exactly(much);
        throw std::logic_error("it was to be cancelled");
    });
    co_await sleep_for(60us);
    const bool was_cancelled = !first.done();
    first.cancel();
    const auto ended = co_await attempt(first);
    if (was_cancelled && ended.error() != std::errc::operation_canceled) co_return;  // it had it all
    const std::size_t n = co_await c->server.read_exactly(into);
    if (n != 300 || !is_pattern(std::span(into).first(n), 1)) throw std::logic_error("bytes got lost");
}

/// Reads what there is after a while, and counts it. It may outlive the program, so it owns both.
task<> reads_late(std::shared_ptr<connection> c, std::shared_ptr<std::size_t> seen) {
    co_await sleep_for(300us);
    for (;;) {
        const buffer b = co_await c->server.receive();
        if (b.empty()) co_return;
        if (!is_pattern(b, 2, *seen)) throw std::logic_error("bytes got lost");
        *seen += b.size();
    }
}

task<> writes() {
    connection made = co_await connected();
    const auto c = std::make_shared<connection>(std::move(made));
    test::keep_small(*c);
    const auto seen = std::make_shared<std::size_t>(0);
    auto reader = spawn(reads_late, c, seen);
    const bytes big = make_pattern(2, 0, 2 << 20);
    std::size_t written = 0;
    bool is_cancelled = false;
    try {
        co_await c->client.write_all(big, &written);
    } catch (const cancelled&) {
        is_cancelled = true;
    }
    if (!is_cancelled && written != big.size()) throw std::logic_error("it wrote too little");
    co_await c->client.close();
    // In a cancelled task no further wait is possible but this: let the reader count to the end.
    while (!is_cancelled && !reader.done()) co_await sleep_for(100us);
    if (!is_cancelled && *seen != big.size()) throw std::logic_error("bytes got lost");
    reader.cancel();
}

task<> writes_parts() {
    connection made = co_await connected();
    const auto c = std::make_shared<connection>(std::move(made));
    test::keep_small(*c);
    const bytes big = make_pattern(2, 0, 1 << 20);
    std::vector<std::span<const std::byte>> parts;
    for (std::size_t at = 0; at < big.size(); at += 4096) parts.push_back(std::span(big).subspan(at, 4096));
    spawn(reads_late, c, std::make_shared<std::size_t>(0)).discard();
    const std::size_t n = co_await c->client.write_all(parts);
    if (n != big.size()) throw std::logic_error("it wrote too little");
}

task<> closes() {
    connection made = co_await connected();
    const auto c = std::make_shared<connection>(std::move(made));
    auto reader = spawn([c]() -> task<std::string> {
        std::byte into[10];
        const auto r = co_await attempt(c->client.read_some(into));
        co_return r.error().message();
    });
    co_await immediate();
    co_await c->client.close();
    if (c->client.is_open()) throw std::logic_error("it is still open");
    const std::string said = co_await reader;
    if (said != make_error_code(std::errc::bad_file_descriptor).message()) throw std::logic_error(said);
    co_await c->server.close();
}

task<> echo(tcp_stream& peer) {
    for (;;) {
        const buffer data = co_await peer.receive();
        if (data.empty()) co_return;
        co_await peer.write_all(data);
    }
}

task<> asks(endpoint to, int times) {
    tcp_stream stream = co_await tcp_stream::connect(to);
    for (int i = 0; i < times; ++i) {
        co_await stream.write_all("ping");
        std::byte into[4];
        co_await stream.read_exactly(into);
    }
}

task<> serves() {
    auto listener = std::make_shared<tcp_listener>(test::listen());
    auto clients = std::make_shared<std::vector<task_handle<>>>();
    for (int i = 0; i < 3; ++i) clients->push_back(spawn(asks, listener->local(), 2));
    auto closing = spawn([listener, clients]() -> task<> {
        for (auto& client : *clients) static_cast<void>(co_await attempt(client));
        co_await listener->close();
    });
    serve_options options;
    options.max_connections = 2;
    const auto ended = co_await attempt(serve(*listener, echo, options));
    if (ended.error() != std::errc::bad_file_descriptor) throw std::logic_error("how did it end?");
    for (auto& client : *clients) client.cancel();
}

task<> waits_readable() {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
    struct closer {
        int fd;
        ~closer() { ::close(fd); }
    };
    const closer in{ends[0]}, out{ends[1]};
    co_await wait_writable(ends[1]);
    // It holds the other end too: a pipe that nobody reads would answer with SIGPIPE.
    spawn([fd = ::dup(ends[1]), other = ::dup(ends[0])]() -> task<> {
        const closer mine{fd}, reading{other};
        co_await sleep_for(200us);
        const ssize_t n = ::write(fd, "x", 1);
        if (n != 1) throw std::runtime_error("write");
    }).discard();
    co_await wait_readable(ends[0]);
    char c;
    if (::read(ends[0], &c, 1) != 1 || c != 'x') throw std::logic_error("not readable at all");
}

TEST_CASE("cancel at every step: sleeping") { CHECK(cancel_at_every_step(sleeps) > 2); }
TEST_CASE("cancel at every step: places in the queues") { CHECK(cancel_at_every_step(queues) > 2); }
TEST_CASE("cancel at every step: awaiting children") { CHECK(cancel_at_every_step(joins) > 1); }
TEST_CASE("cancel at every step: awaiting a cancelled child") {
    CHECK(cancel_at_every_step(joins_a_cancelled_child) > 0);
}
TEST_CASE("cancel at every step: connecting") { CHECK(cancel_at_every_step(connects) > 0); }
TEST_CASE("cancel at every step: connecting in vain") { CHECK(cancel_at_every_step(connects_in_vain) >= 0); }
TEST_CASE("cancel at every step: accepting") { CHECK(cancel_at_every_step(accepts) > 1); }
TEST_CASE("cancel at every step: read_some") { CHECK(cancel_at_every_step(reads_some) > 1); }
TEST_CASE("cancel at every step: read_exactly") { CHECK(cancel_at_every_step(reads_exactly) > 1); }
TEST_CASE("cancel at every step: receive") { CHECK(cancel_at_every_step(borrows) > 1); }
TEST_CASE("cancel at every step: reading on after a cancelled read") {
    CHECK(cancel_at_every_step(reads_on_after_a_cancelled_read) > 1);
}
TEST_CASE("cancel at every step: write_all to a peer that is full") { CHECK(cancel_at_every_step(writes) > 1); }
TEST_CASE("cancel at every step: write_all of many parts") { CHECK(cancel_at_every_step(writes_parts) > 1); }
TEST_CASE("cancel at every step: close, with a reader in the way") { CHECK(cancel_at_every_step(closes) > 1); }
TEST_CASE("cancel at every step: serve") { CHECK(cancel_at_every_step(serves) > 1); }
TEST_CASE("cancel at every step: wait_readable and wait_writable") {
    if (test::on_sim()) {
        MESSAGE("skipped: a simulated world has no descriptors of others");
        return;
    }
    CHECK(cancel_at_every_step(waits_readable) > 1);
}

// --- out of memory -----------------------------------------------------------------------------------------

task<> small_echo() {
    tcp_listener listener = test::listen();
    auto server = spawn([&listener]() -> task<> {
        tcp_stream peer = co_await listener.accept();
        co_await echo(peer);
    });
    task_handle<> client;
    std::exception_ptr failed;
    try {
        client = spawn(asks, listener.local(), 2);
    } catch (const std::bad_alloc&) {
        failed = std::current_exception();
        server.cancel();
    }
    // The server borrows the listener, so it must have ended before this does, whatever happens.
    while (!server.done() || (client && !client.done())) {
        if (server.done()) client.cancel();
        if (client && client.done()) server.cancel();
        co_await sleep_for(100us);
    }
    if (failed) std::rethrow_exception(failed);
    if (server.state() == task_state::failed) co_await server;
    co_await client;
}

TEST_CASE("every allocation: an echo without one, for each: an error, nothing leaks, the next run works") {
    const testing::every_step_report report = testing::fail_each_allocation(small_echo);
    CHECK_MESSAGE(report.ok(), report.text());
    CHECK(report.points >= 7);  // none of them for waiting or for closing: accept() and the others have no frame
}

// --- the end of a loop -------------------------------------------------------------------------------------

task<> waits_to_read(connection c) { const buffer never_comes = co_await c.client.receive(); }
task<> waits_to_accept(tcp_listener listener) { tcp_stream never_comes = co_await listener.accept(); }
task<> gathers(connection c) {
    co_await c.client.write_all("some");
    bytes into(100);
    co_await c.server.read_exactly(into);
}
task<> writes_in_vain(connection c) {
    test::keep_small(c);
    const bytes big(4 << 20);
    co_await c.client.write_all(big);
}

TEST_CASE("loop: destroyed with hundreds of waits under way, it ends them all and leaves nothing") {
    const std::size_t frames = detail::frames_live();
    const std::size_t descriptors = test::open_descriptors();
    {
        loop l;
        auto busy = spawn_on(l, []() -> task<> {
            tcp_listener listener = test::listen();
            for (int i = 0; i < 200; ++i) {
                connection c = co_await test::connect_to(listener);
                spawn(waits_to_read, std::move(c)).discard();
                spawn([](int n) -> task<> { co_await sleep_for(std::chrono::hours(n)); }, i + 1).discard();
                spawn(waits_to_accept, test::listen()).discard();
            }
            for (int i = 0; i < 20; ++i) {
                connection c = co_await test::connect_to(listener);
                spawn(gathers, std::move(c)).discard();
                connection d = co_await test::connect_to(listener);
                spawn(writes_in_vain, std::move(d)).discard();
            }
        });
        while (!busy.done()) l.run_once();
        for (int i = 0; i < 10; ++i) l.run_nowait();
        CHECK(l.stats().tasks == 640);
        CHECK(l.stats().operations == 440);
        const std::uint64_t turns = l.stats().turns;
        detail::engine::of(l).drain_root();
        CHECK(l.stats().turns - turns < 100);
        CHECK(l.stats().tasks == 0);
        CHECK(l.stats().operations == 0);
        CHECK(l.stats().timers == 0);
    }
    CHECK(detail::frames_live() == frames);
    CHECK(test::open_descriptors() == descriptors);
}

TEST_CASE("loop: streams that callbacks hold are closed when it is destroyed") {
    const std::size_t frames = detail::frames_live();
    const std::size_t descriptors = test::open_descriptors();
    {
        loop l;
        run_on(l, []() -> task<> {
            connection c = co_await connected();
            auto held = std::make_shared<connection>(std::move(c));
            this_loop().set_timeout(1h, [held] {});
        });
    }
    CHECK(detail::frames_live() == frames);
    CHECK(test::open_descriptors() == descriptors);
}

TEST_CASE("loop: a stream shared by two tasks may go with either of them") {
    const std::size_t descriptors = test::open_descriptors();
    for (int order = 0; order < 2; ++order) {
        loop l;
        auto busy = spawn_on(
            l,
            [](int which) -> task<> {
                connection c = co_await connected();
                co_await c.client.write_all("gathered");
            // The reader borrows the stream; its owner ends first when the loop cancels both.
                const auto reads = [](tcp_stream& from) -> task<> {
                    bytes into(100);
                    co_await from.read_exactly(into);
                };
                auto reader = spawn(reads, std::ref(c.server));
                if (which == 0) {
                    co_await sleep_for(1h);
                } else {
                    co_await reader;
                }
            },
            order);
        for (int i = 0; i < 20; ++i) l.run_nowait();
        CHECK_FALSE(busy.done());
    }
    CHECK(test::open_descriptors() == descriptors);
}

}  // namespace
