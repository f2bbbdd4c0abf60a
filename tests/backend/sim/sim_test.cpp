// The simulated backend by itself: clock, order, TCP, decisions. What holds for every backend is in
// backend_test.cpp.
#include "../../../lib/backend/sim/sim.hpp"

#include <doctest/doctest.h>
#include <rondo/loop/oracle.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using rondo::io_kind;
using rondo::io_op;
using rondo::raw_address;
using rondo::sys_op;
using rondo::time_point;
using sys_call = rondo::sys_op::call;
using sys_option = rondo::sys_op::option;

namespace {

const rondo::op_vtable no_table{[](rondo::op&) noexcept {}, [](rondo::op&) noexcept {},
                                [](const rondo::op&, char*, std::size_t) noexcept {}};

raw_address v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d, int port) {
    raw_address address;
    address.kind = raw_address::family::v4;
    address.port = static_cast<std::uint16_t>(port);
    const std::uint8_t bytes[] = {a, b, c, d};
    std::memcpy(address.bytes, bytes, sizeof bytes);
    return address;
}

raw_address local(int port) { return v4(127, 0, 0, 1, port); }
raw_address any(int port) { return v4(0, 0, 0, 0, port); }

raw_address v6(std::uint8_t last, int port) {
    raw_address address;
    address.kind = raw_address::family::v6;
    address.port = static_cast<std::uint16_t>(port);
    address.bytes[15] = last;
    return address;
}

raw_address mapped(const raw_address& from) {
    raw_address address = v6(0, from.port);
    address.bytes[10] = address.bytes[11] = 0xff;
    std::memcpy(address.bytes + 12, from.bytes, 4);
    return address;
}

std::string text_of(const raw_address& a) {
    const bool four = a.kind == raw_address::family::v4;
    std::string text;
    for (int i = 0; i < (four ? 4 : 16); ++i) text += (i ? "." : "") + std::to_string(a.bytes[i]);
    return text + ":" + std::to_string(a.port);
}

constexpr int still_armed = -100'000;

/// An op with what it needs to live, and its result.
struct test_op : io_op {
    test_op(io_kind what, int descriptor) : io_op(no_table, what, descriptor) {}

    std::string bytes;
    std::vector<std::span<const std::byte>> spans;
    raw_address address;
    int got = still_armed;
};

/// A simulated world without a loop.
struct world {
    explicit world(rondo::oracle* decisions = nullptr, std::uint32_t borrow_size = 16384) {
        rondo::backend_options options;
        options.decisions = decisions;
        options.receive_buffer_size = borrow_size;
        sim = rondo::make_sim(options);
    }
    ~world() {  // closing a descriptor ends the ops at it
        for (const int fd : open) {
            if (fd >= 0) close(fd);
        }
        while (sim->armed() > 0) wait(rondo::never);
    }

    // Operations: they are started, and `wait` fills in `got`.
    test_op& start(test_op& o) {
        if (sim->submit(o)) o.got = o.result;
        return o;
    }
    test_op& make(io_kind what, int fd) { return *ops.emplace_back(new test_op(what, fd)); }
    test_op& accept(int fd) { return start(make(io_kind::accept, fd)); }
    test_op& connect(int fd, const raw_address& to) {
        test_op& o = make(io_kind::connect, fd);
        o.address = to;
        o.data = &o.address;
        return start(o);
    }
    test_op& receive(int fd, std::size_t size, bool all = false) {
        test_op& o = make(io_kind::receive, fd);
        o.bytes.resize(size);
        o.data = o.bytes.data();
        o.size = static_cast<std::uint32_t>(size);
        if (all) o.flags |= io_op::all;
        return start(o);
    }
    test_op& borrow(int fd) { return start(make(io_kind::borrow, fd)); }
    test_op& send(int fd, std::string text, bool all = false) {
        test_op& o = make(io_kind::send, fd);
        o.bytes = std::move(text);
        o.data = o.bytes.data();
        o.size = static_cast<std::uint32_t>(o.bytes.size());
        if (all) o.flags |= io_op::all;
        return start(o);
    }
    test_op& send_vector(int fd, const std::vector<std::string_view>& parts, bool all = false) {
        test_op& o = make(io_kind::send_vector, fd);
        for (const std::string_view part : parts) o.spans.push_back(std::as_bytes(std::span(part)));
        o.data = o.spans.data();
        o.size = static_cast<std::uint32_t>(o.spans.size());
        if (all) o.flags |= io_op::all;
        return start(o);
    }
    test_op& poll_in(int fd) { return start(make(io_kind::poll_in, fd)); }
    test_op& poll_out(int fd) { return start(make(io_kind::poll_out, fd)); }
    test_op& close(int fd) {
        std::erase(open, fd);
        return start(make(io_kind::close, fd));
    }
    void cancel(test_op& o) { sim->cancel(o); }

    bool wait(time_point until) {
        done.clear();
        const bool alive = sim->wait(until, done);
        last.clear();
        for (const rondo::completion& c : done) {
            auto& o = static_cast<test_op&>(*c.what);
            REQUIRE(o.got == still_armed);
            REQUIRE(o.state == rondo::op::done);
            o.got = c.result;
            last.push_back(&o);
        }
        return alive;
    }
    bool look() { return wait(time_point{}); }
    /// Lets all of that time pass, whatever is reported meanwhile.
    void pass(rondo::duration by) {
        const time_point until = sim->now() + by;
        do {
            wait(until);
        } while (sim->now() < until);
    }
    /// Until nothing can happen any more.
    void settle() {
        while (wait(rondo::never)) {
        }
    }

    // Calls.
    int control(sys_call what, int fd, const std::function<void(sys_op&)>& fill = {}) {
        sys_op o{};
        o.what = what;
        o.fd = fd;
        if (fill) fill(o);
        return sim->control(o);
    }
    int socket(raw_address::family family = raw_address::family::v4) {
        raw_address address;
        address.kind = family;
        const int fd = control(sys_call::tcp_socket, -1, [&](sys_op& o) { o.address = &address; });
        if (fd >= 0) open.push_back(fd);
        return fd;
    }
    int bind(int fd, raw_address to) {
        return control(sys_call::bind, fd, [&](sys_op& o) { o.address = &to; });
    }
    int listen(int fd, int backlog = 10) {
        return control(sys_call::listen, fd, [&](sys_op& o) { o.value = backlog; });
    }
    int set(int fd, sys_option which, int value) {
        return control(sys_call::set_option, fd,
                       [&](sys_op& o) { o.which = which, o.value = value; });
    }
    int get(int fd, sys_option which) {
        sys_op o{};
        o.what = sys_call::get_option;
        o.fd = fd;
        o.which = which;
        const int result = sim->control(o);
        return result < 0 ? result : o.value;
    }
    int try_send(int fd, std::string_view text) {
        return control(sys_call::try_send, fd, [&](sys_op& o) {
            o.data = const_cast<char*>(text.data());
            o.size = text.size();
        });
    }
    int try_receive(int fd, std::string& into, std::size_t size) {
        into.resize(size);
        const int n = control(sys_call::try_receive, fd, [&](sys_op& o) {
            o.data = into.data();
            o.size = size;
        });
        into.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
        return n;
    }
    std::string address(int fd, sys_call which) {
        raw_address address;
        const int result = control(which, fd, [&](sys_op& o) { o.address = &address; });
        return result < 0 ? std::to_string(result) : text_of(address);
    }
    std::string local_address(int fd) { return address(fd, sys_call::local_address); }
    std::string peer_address(int fd) { return address(fd, sys_call::peer_address); }

    int listener(int port = 80, int backlog = 10) {
        const int fd = socket();
        REQUIRE(bind(fd, local(port)) == 0);
        REQUIRE(listen(fd, backlog) == 0);
        return fd;
    }
    /// {client, server}, connected through a listener on `port`, which is closed again.
    std::pair<int, int> connection(int port = 80,
                                   const std::function<void(int, int)>& options = {}) {
        const int server = listener(port);
        const int client = socket();
        if (options) options(client, server);
        test_op& accepted = accept(server);
        test_op& connected = connect(client, local(port));
        settle();
        REQUIRE(connected.got == 0);
        REQUIRE(accepted.got >= 0);
        close(server);
        open.push_back(accepted.got);
        return {client, accepted.got};
    }
    std::pair<int, int> pair() {
        sys_op o{};
        o.what = sys_call::stream_pair;
        REQUIRE(sim->control(o) == 0);
        open.insert(open.end(), {o.fds[0], o.fds[1]});
        return {o.fds[0], o.fds[1]};
    }

    std::uint64_t hash() const { return rondo::event_hash(*sim); }

    std::unique_ptr<rondo::backend> sim;
    std::deque<std::unique_ptr<test_op>> ops;
    std::vector<int> open;
    rondo::completions done;
    std::vector<test_op*> last;  // what the last wait reported, in order
};

using reported = std::vector<test_op*>;

std::string prefix(const test_op& o) { return o.bytes.substr(0, o.moved); }

}  // namespace

TEST_CASE("sim: an echo over TCP, with the time it takes") {
    world w;
    const int server = w.listener(7);
    const int client = w.socket();
    test_op& accepted = w.accept(server);
    test_op& connected = w.connect(client, local(7));
    CHECK(w.sim->armed() == 2);

    CHECK(w.wait(rondo::never));
    CHECK(connected.got == 0);
    CHECK(w.sim->now() == time_point(100us));  // SYN and its answer
    CHECK(w.wait(rondo::never));
    CHECK(accepted.got >= 1'000'000);
    CHECK(w.sim->now() == time_point(150us));  // the acknowledgement
    w.open.push_back(accepted.got);

    test_op& request = w.receive(accepted.got, 100);
    CHECK(request.got == still_armed);
    CHECK(w.send(client, "hello").got == 5);
    CHECK(w.wait(rondo::never));
    CHECK(request.got == 5);
    CHECK(prefix(request) == "hello");
    CHECK(w.sim->now() == time_point(200us));

    CHECK(w.send(accepted.got, "world!").got == 6);
    test_op& reply = w.receive(client, 100);
    CHECK(w.wait(rondo::never));
    CHECK(prefix(reply) == "world!");
    CHECK(w.sim->now() == time_point(250us));

    CHECK(w.close(client).got == 0);
    test_op& end = w.receive(accepted.got, 100);
    CHECK(w.wait(rondo::never));
    CHECK(end.got == 0);
    CHECK_FALSE(w.wait(rondo::never));
}

// The clock.

TEST_CASE("sim: virtual time starts at 0, wall time with the year 2000") {
    world w;
    CHECK(w.sim->now() == time_point{});
    CHECK(w.sim->wall_now() == 946'684'800'000'000'000);
    w.pass(2s);
    CHECK(w.sim->now() == time_point(2s));
    CHECK(w.sim->wall_now() == 946'684'802'000'000'000);
}

TEST_CASE("sim: wait moves the clock to the deadline, and not beyond") {
    world w;
    CHECK(w.wait(time_point(5ms)));
    CHECK(w.sim->now() == time_point(5ms));
    CHECK(w.wait(time_point(3ms)));  // has passed: only a look
    CHECK(w.sim->now() == time_point(5ms));

    const auto [a, b] = w.connection();
    test_op& got = w.receive(b, 10);
    w.send(a, "x");
    const time_point sent = w.sim->now();
    CHECK(w.wait(sent + 49us));
    CHECK(got.got == still_armed);
    CHECK(w.sim->now() == sent + 49us);
    CHECK(w.wait(sent + 50us));  // both at once
    CHECK(got.got == 1);
}

TEST_CASE("sim: time does not move while something can be reported") {
    world w;
    const auto [a, b] = w.pair();
    test_op& got = w.poll_in(b);
    w.send(a, "x");
    CHECK(w.wait(time_point(1s)));
    CHECK(got.got == 0);
    CHECK(w.sim->now() == time_point{});
}

TEST_CASE("sim: wait without a limit is false when nothing can ever happen") {
    world w;
    CHECK_FALSE(w.wait(rondo::never));
    const auto [a, b] = w.pair();
    w.receive(b, 10);
    CHECK_FALSE(w.wait(rondo::never));
    CHECK(w.sim->now() == time_point{});
    w.sim->wake();
    CHECK(w.wait(rondo::never));  // once
    CHECK_FALSE(w.wait(rondo::never));
    w.send(a, "x");
    CHECK(w.wait(rondo::never));
}

TEST_CASE("sim: a wake ends one wait, before time moves") {
    world w;
    w.sim->wake();
    w.sim->wake();
    CHECK(w.wait(time_point(1s)));
    CHECK(w.sim->now() == time_point{});
    CHECK(w.wait(time_point(1s)));
    CHECK(w.sim->now() == time_point(1s));
}

TEST_CASE("sim: while someone outside may wake it, it blocks" * doctest::test_suite("threads")) {
    world w;
    for (int i = 0; i < 100; ++i) {
        w.sim->set_outside(1);
        std::thread outside([&] {
            if (i % 2) std::this_thread::sleep_for(1ms);
            w.sim->wake();
        });
        CHECK(w.wait(rondo::never));
        outside.join();
    }
    CHECK(w.sim->now() == time_point{});
    w.sim->set_outside(0);
    CHECK_FALSE(w.wait(rondo::never));
}

TEST_CASE("sim: a step of computing time lets packets arrive meanwhile, at their own time") {
    world w;
    const auto [a, b] = w.connection();
    const time_point start = w.sim->now();
    test_op& got = w.receive(b, 10);
    w.send(a, "x");
    CHECK(w.sim->advance(1ms));
    CHECK(w.sim->now() == start + 1ms);
    CHECK(got.got == still_armed);
    w.look();
    CHECK(got.got == 1);

    // The kernel answers a SYN while the program computes: the handshake is over already.
    const int server = w.listener(81);
    const int client = w.socket();
    test_op& connected = w.connect(client, local(81));
    w.sim->advance(10ms);
    w.look();
    CHECK(connected.got == 0);
    w.open.push_back(w.accept(server).got);
    CHECK(w.open.back() > 0);

    w.sim->advance(-1s);
    CHECK(w.sim->now() == start + 11ms);
    w.sim->advance(rondo::duration::max());
    CHECK(w.sim->now() < rondo::never);
}

// Descriptors.

TEST_CASE("sim: the lowest free descriptor is given out, from a million upward") {
    world w;
    const int first = w.socket();
    CHECK(first == 1'000'000);
    const auto [a, b] = w.pair();
    CHECK(a == first + 1);
    CHECK(b == first + 2);
    w.close(a);
    w.close(first);
    CHECK(w.socket() == first);
    CHECK(w.socket() == first + 1);
    CHECK(w.socket() == first + 3);
}

TEST_CASE("sim: an unknown descriptor is EBADF") {
    world w;
    const int fd = w.socket();
    w.close(fd);
    for (const int unknown : {fd, -1, 0, 1, 2'000'000}) {
        CHECK(w.receive(unknown, 1).got == -EBADF);
        CHECK(w.send(unknown, "").got == -EBADF);
        CHECK(w.poll_in(unknown).got == -EBADF);
        CHECK(w.close(unknown).got == -EBADF);
        CHECK(w.listen(unknown) == -EBADF);
        CHECK(w.try_send(unknown, "x") == -EBADF);
    }
}

TEST_CASE("sim: one reader and one writer, a second is EBUSY") {
    world w;
    const auto [a, b] = w.pair();
    test_op& reader = w.receive(a, 10);
    CHECK(w.receive(a, 10).got == -EBUSY);
    CHECK(w.borrow(a).got == -EBUSY);
    CHECK(w.poll_in(a).got == -EBUSY);
    w.send(b, "x");
    CHECK(w.receive(a, 10).got == -EBUSY);  // also while the first could finish
    test_op& writer = w.poll_out(a);
    CHECK(w.send(a, "y").got == -EBUSY);
    w.look();
    CHECK(reader.got == 1);
    CHECK(writer.got == 0);
    CHECK(w.receive(a, 10).got == still_armed);
    CHECK(w.send(a, "y").got == 1);
}

TEST_CASE("sim: close ends armed ops with EBADF and comes behind them") {
    world w;
    const auto [a, b] = w.pair();
    test_op& reader = w.receive(a, 10);
    test_op& cancelled = w.poll_out(a);
    w.cancel(cancelled);
    test_op& closed = w.close(a);
    CHECK(closed.got == still_armed);
    CHECK(w.receive(a, 1).got == -EBADF);
    CHECK(w.close(a).got == -EBADF);
    CHECK(w.try_send(a, "x") == -EBADF);
    w.cancel(closed);  // is not to be had
    CHECK(w.socket() != a);
    CHECK(w.wait(rondo::never));
    CHECK(w.last == reported{&cancelled, &reader, &closed});
    CHECK(reader.got == -EBADF);
    CHECK(cancelled.got == -ECANCELED);  // it was that first
    CHECK(closed.got == 0);
    CHECK(w.socket() == a);
    CHECK(w.receive(b, 1).got == 0);
}

// Order.

TEST_CASE("sim: who became ready first is reported first, whenever it began to wait") {
    world w;
    std::vector<std::pair<int, int>> pairs;
    for (int i = 0; i < 5; ++i) pairs.push_back(w.pair());
    test_op& waiting = w.poll_in(pairs[4].second);
    for (const int i : {3, 0, 4, 2, 1}) w.send(pairs[static_cast<std::size_t>(i)].first, "x");
    reported ops;
    for (const int i : {0, 1, 2, 3})
        ops.push_back(&w.poll_in(pairs[static_cast<std::size_t>(i)].second));
    w.look();
    CHECK(w.last == reported{ops[3], ops[0], &waiting, ops[2], ops[1]});

    // Drained and filled again: the last one now.
    std::string got;
    w.try_receive(pairs[3].second, got, 10);
    w.send(pairs[3].first, "y");
    test_op& late = w.poll_in(pairs[3].second);
    test_op& early = w.poll_in(pairs[0].second);
    w.look();
    CHECK(w.last == reported{&early, &late});
}

TEST_CASE("sim: a cancelled op comes in the order of the cancel") {
    world w;
    const auto [a, b] = w.pair();
    const auto [c, d] = w.pair();
    test_op& first = w.receive(b, 10);
    test_op& second = w.receive(d, 10);
    w.send(c, "x");
    w.cancel(first);
    w.look();
    CHECK(w.last == reported{&second, &first});
    CHECK(first.got == -ECANCELED);
    CHECK(second.got == 1);
}

TEST_CASE("sim: what one report does not hold waits for the next, and time with it") {
    world w;
    std::vector<int> readers;
    reported ops;
    for (int i = 0; i < 600; ++i) {
        const auto [a, b] = w.pair();
        w.send(a, "x");
        readers.push_back(b);
    }
    for (const int fd : readers) ops.push_back(&w.poll_in(fd));
    w.wait(time_point(1s));
    reported got = w.last;
    CHECK(got.size() == rondo::completions::capacity);
    w.wait(time_point(1s));
    got.insert(got.end(), w.last.begin(), w.last.end());
    CHECK(got == ops);
    CHECK(w.sim->now() == time_point{});
}

TEST_CASE("sim: with a seed the order is any, and nothing is lost") {
    std::set<std::vector<int>> orders;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        rondo::seeded_oracle decide(seed);
        world w(&decide);
        std::vector<int> readers;
        for (int i = 0; i < 3; ++i) {
            const auto [a, b] = w.pair();
            w.poll_in(b);
            w.send(a, "x");
        }
        w.look();
        std::vector<int> order;
        for (const test_op* o : w.last) order.push_back(o->fd);
        REQUIRE(order.size() == 3);
        orders.insert(order);
    }
    CHECK(orders.size() == 6);
}

// Cancelling.

TEST_CASE("sim: a cancelled op is reported by the next wait and has taken nothing") {
    world w;
    const auto [a, b] = w.pair();
    test_op& got = w.receive(b, 10);
    w.send(a, "hello");
    w.cancel(got);
    w.cancel(got);  // twice is once
    CHECK(got.got == still_armed);
    w.look();
    CHECK(got.got == -ECANCELED);
    CHECK(w.receive(b, 10).got == 5);
    w.cancel(got);  // too late
    w.look();
    CHECK(w.last.empty());
    test_op idle(io_kind::receive, b);
    w.cancel(idle);
    w.look();
    CHECK(w.last.empty());
}

TEST_CASE("sim: who wins when a cancel meets a result is the oracle's choice") {
    std::set<int> results;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        rondo::seeded_oracle decide(seed);
        world w(&decide);
        const auto [a, b] = w.pair();
        test_op& got = w.receive(b, 1);
        test_op& blocked = w.receive(a, 1);
        w.send(a, "x");
        w.cancel(got);
        w.cancel(blocked);
        w.look();
        results.insert(got.got);
        CHECK(blocked.got == -ECANCELED);  // had no result to win with
        std::string rest;
        CHECK(w.try_receive(b, rest, 1) == (got.got == 1 ? -EAGAIN : 1));
    }
    CHECK(results == std::set<int>{-ECANCELED, 1});
}

TEST_CASE("sim: a cancelled connect goes on without its op") {
    world w;
    const int server = w.listener();
    const int client = w.socket();
    test_op& first = w.connect(client, local(80));
    CHECK(w.connect(client, local(80)).got == -EBUSY);
    w.cancel(first);
    w.look();
    CHECK(first.got == -ECANCELED);
    CHECK(w.connect(client, local(80)).got == -EALREADY);
    test_op& writable = w.poll_out(client);
    w.settle();
    CHECK(writable.got == 0);
    CHECK(w.connect(client, local(80)).got == 0);
    CHECK(w.connect(client, local(80)).got == -EISCONN);
    w.open.push_back(w.accept(server).got);
    CHECK(w.open.back() > 0);
}

// Moving bytes.

TEST_CASE("sim: receive-all waits for the last byte or the end") {
    world w;
    const auto [a, b] = w.pair();
    test_op& all = w.receive(b, 10, true);
    w.send(a, "0123");
    w.look();
    CHECK(all.got == still_armed);
    CHECK(all.moved == 4);
    w.send(a, "456789ab");
    w.look();
    CHECK(all.got == 10);
    CHECK(all.bytes == "0123456789");

    test_op& short_one = w.receive(b, 10, true);
    CHECK(short_one.moved == 2);
    w.close(a);
    w.look();
    CHECK(short_one.got == 2);
    CHECK(prefix(short_one) == "ab");
    CHECK(w.receive(b, 10, true).got == 0);
}

TEST_CASE("sim: however an `all` ends, moved tells how far it came") {
    world w;
    const auto [a, b] = w.connection();
    test_op& cancelled = w.receive(b, 100, true);
    w.send(a, std::string(40, 'x'));
    w.pass(1ms);
    w.cancel(cancelled);
    w.look();
    CHECK(cancelled.got == -ECANCELED);
    CHECK(cancelled.moved == 40);

    test_op& reset = w.receive(b, 100, true);
    w.send(a, std::string(30, 'y'));
    w.pass(1ms);
    w.control(sys_call::reset_on_close, a);
    w.close(a);
    w.pass(1ms);
    CHECK(reset.got == -ECONNRESET);
    CHECK(reset.moved == 30);

    const auto [c, d] = w.connection(81);
    test_op& sent = w.send(c, std::string(1 << 20, 'z'), true);
    w.pass(1ms);
    CHECK(sent.moved == 2 * 65536);  // the buffers of both sides
    w.close(d);
    w.settle();
    CHECK(sent.got == -ECONNRESET);
    CHECK(sent.moved == 2 * 65536);
}

TEST_CASE("sim: send-all goes on as the reader makes room") {
    world w;
    const auto [a, b] = w.connection();
    std::string text(300'000, ' ');
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 256);
    test_op& sent = w.send(a, text, true);
    std::string got;
    while (got.size() < text.size()) {
        test_op& part = w.receive(b, 5000);
        if (part.got == still_armed) REQUIRE(w.wait(rondo::never));
        if (part.got > 0) got += prefix(part);
    }
    CHECK(got == text);
    w.settle();
    CHECK(sent.got == 300'000);
}

TEST_CASE("sim: without `all` a send takes what fits") {
    world w;
    const auto [a, b] = w.pair();
    w.set(a, sys_option::send_buffer, 100);
    w.set(b, sys_option::receive_buffer, 50);
    CHECK(w.send(a, std::string(1000, 'x')).got == 100);
    CHECK(w.send(a, std::string(1000, 'x')).got == 50);  // half of the first went into b's buffer
    CHECK(w.try_send(a, "x") == -EAGAIN);
    test_op& more = w.send(a, std::string(1000, 'y'));
    std::string got;
    w.try_receive(b, got, 20);
    w.look();
    CHECK(more.got == still_armed);  // a writer is not woken for less than a third of its buffer
    w.try_receive(b, got, 20);
    w.look();
    CHECK(more.got == 40);
}

TEST_CASE("sim: send_vector sends its spans in order, and with `all` to the end") {
    world w;
    const auto [a, b] = w.pair();
    CHECK(w.send_vector(a, {"one ", "", "two ", "three"}).got == 13);
    test_op& got = w.receive(b, 100);
    CHECK(prefix(got) == "one two three");
    CHECK(w.send_vector(a, {}).got == 0);
    CHECK(w.send_vector(a, {"", ""}).got == 0);

    w.set(a, sys_option::send_buffer, 4);
    w.set(b, sys_option::receive_buffer, 4);
    CHECK(w.send_vector(a, {"012", "34567"}).got == 7);
    std::string rest;
    w.try_receive(b, rest, 100);
    w.try_receive(b, rest, 100);
    test_op& all = w.send_vector(a, {"abc", "defgh", "ijklmnop"}, true);
    CHECK(all.got == still_armed);
    CHECK(all.moved == 8);
    test_op& whole = w.receive(b, 16, true);
    for (int i = 0; i < 10; ++i) w.look();
    CHECK(all.got == 16);
    CHECK(whole.got == 16);
    CHECK(whole.bytes == "abcdefghijklmnop");
}

TEST_CASE("sim: of nothing, nothing is moved at once") {
    world w;
    const auto [a, b] = w.pair();
    CHECK(w.receive(b, 0).got == 0);
    CHECK(w.receive(b, 0, true).got == 0);
    CHECK(w.send(a, "").got == 0);
    CHECK(w.send(a, "", true).got == 0);
}

TEST_CASE("sim: a borrowed buffer is taken when data is there, the last given back first") {
    world w(nullptr, 8);
    const auto [a, b] = w.pair();
    test_op& first = w.borrow(b);
    CHECK(first.data == nullptr);
    w.send(a, "0123456789ab");
    w.look();
    CHECK(first.got == 8);
    CHECK(first.size == 8);
    CHECK(std::string_view(static_cast<char*>(first.data), 8) == "01234567");
    test_op& second = w.borrow(b);
    CHECK(second.got == 4);
    CHECK(second.data != first.data);
    CHECK(std::string_view(static_cast<char*>(second.data), 4) == "89ab");

    void* const used = first.data;
    w.sim->give_back(first.data, first.size, first.buffer);
    w.send(a, "x");
    test_op& third = w.borrow(b);
    CHECK(third.data == used);
    w.sim->give_back(third.data, third.size, third.buffer);
    w.sim->give_back(second.data, second.size, second.buffer);
    CHECK(*static_cast<unsigned char*>(second.data) == 0xdd);  // is not to be read any more

    test_op& cancelled = w.borrow(b);
    w.cancel(cancelled);
    w.look();
    CHECK(cancelled.got == -ECANCELED);
    CHECK(cancelled.data == nullptr);
    test_op& end = w.borrow(b);
    w.close(a);
    w.look();
    CHECK(end.got == 0);
    CHECK(end.data == nullptr);
}

TEST_CASE("sim: a seed cuts and joins the stream anywhere") {
    std::set<std::vector<int>> cuts;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        rondo::seeded_oracle decide(seed);
        world w(&decide);
        const auto [a, b] = w.connection();
        std::vector<int> sizes;
        std::string got;
        test_op* sent = &w.send(a, "0123456789");
        REQUIRE(sent->got > 0);
        const std::string text(sent->bytes, 0, static_cast<std::size_t>(sent->got));
        while (got != text) {
            test_op& part = w.receive(b, 100);
            if (part.got == still_armed) REQUIRE(w.wait(rondo::never));
            if (part.got == still_armed) continue;
            sizes.push_back(part.got);
            got += prefix(part);
        }
        cuts.insert(sizes);
    }
    CHECK(cuts.size() > 10);
}

// poll

TEST_CASE("sim: poll_in and poll_out are one-shot and look at the level") {
    world w;
    const auto [a, b] = w.pair();
    CHECK(w.poll_in(b).got == still_armed);
    test_op& out = w.poll_out(b);
    w.look();
    CHECK(out.got == 0);
    w.send(a, "x");
    w.look();
    for (int i = 0; i < 3; ++i) {
        test_op& again = w.poll_in(b);
        CHECK(again.got == still_armed);  // by wait, even if it is ready
        w.look();
        CHECK(again.got == 0);
    }
    // Ready when armed, but not when looked at: it waits on.
    test_op& emptied = w.poll_in(b);
    std::string got;
    w.try_receive(b, got, 1);
    w.look();
    CHECK(emptied.got == still_armed);
    w.close(a);
    w.look();
    CHECK(emptied.got == 0);  // the end can be read
}

TEST_CASE("sim: poll sees what poll(2) sees") {
    const auto readable = [](world& w, int fd) {
        test_op& o = w.poll_in(fd);
        w.look();
        if (o.got == 0) return true;
        w.cancel(o);
        w.look();
        return false;
    };
    const auto writable = [](world& w, int fd) {
        test_op& o = w.poll_out(fd);
        w.look();
        if (o.got == 0) return true;
        w.cancel(o);
        w.look();
        return false;
    };
    world w;
    const int fresh = w.socket();
    CHECK(readable(w, fresh));  // "hung up"
    CHECK(writable(w, fresh));
    const int server = w.listener();
    CHECK_FALSE(readable(w, server));
    CHECK_FALSE(writable(w, server));
    const int client = w.socket();
    w.connect(client, local(80));
    w.cancel(*w.ops.back());
    w.look();
    CHECK_FALSE(readable(w, client));
    CHECK_FALSE(writable(w, client));
    w.pass(1ms);
    CHECK_FALSE(readable(w, client));
    CHECK(writable(w, client));
    CHECK(readable(w, server));
    const int peer = w.accept(server).got;
    w.open.push_back(peer);
    CHECK_FALSE(readable(w, server));

    w.control(sys_call::shutdown_write, client);
    CHECK(writable(w, client));  // EPIPE can be had
    w.pass(1ms);
    CHECK(readable(w, peer));
    CHECK(writable(w, peer));
    w.control(sys_call::reset_on_close, peer);
    w.close(peer);
    w.pass(1ms);
    CHECK(readable(w, client));
    CHECK(writable(w, client));
}

// TCP: the end of a connection. Results and their order are those of Linux 6.

TEST_CASE("sim: half-close lets the other direction go on") {
    world w;
    const auto [a, b] = w.connection();
    w.send(a, "request");
    CHECK(w.control(sys_call::shutdown_write, a) == 0);
    CHECK(w.control(sys_call::shutdown_write, a) == 0);
    CHECK(w.send(a, "x").got == -EPIPE);
    w.settle();
    CHECK(w.receive(b, 100).got == 7);
    CHECK(w.receive(b, 100).got == 0);
    CHECK(w.receive(b, 100).got == 0);
    CHECK(w.send(b, "reply").got == 5);
    w.settle();
    CHECK(w.receive(a, 100).got == 5);
    w.close(b);
    w.settle();
    CHECK(w.receive(a, 100).got == 0);
    CHECK(w.control(sys_call::shutdown_write, a) == -ENOTCONN);
    CHECK(w.peer_address(a) == std::to_string(-ENOTCONN));
}

TEST_CASE("sim: all that was written before a close arrives, the end behind it") {
    world w;
    const auto [a, b] = w.connection();
    const std::string text(100'000, 'x');  // more than one window
    test_op& sent = w.send(a, text, true);
    w.settle();
    CHECK(sent.got == 100'000);
    w.close(a);
    test_op& got = w.receive(b, 200'000, true);
    w.settle();
    CHECK(got.got == 100'000);
    CHECK(w.receive(b, 10).got == 0);
}

TEST_CASE("sim: a reset: first what has arrived, then ECONNRESET once, then the end") {
    world w;
    const auto [a, b] = w.connection();
    w.send(a, "hello");
    w.control(sys_call::reset_on_close, a);
    w.close(a);
    w.settle();
    CHECK(w.receive(b, 3).got == 3);
    CHECK(w.receive(b, 3).got == 2);
    CHECK(w.receive(b, 3).got == -ECONNRESET);
    CHECK(w.receive(b, 3).got == 0);
    CHECK(w.send(b, "x").got == -EPIPE);
    CHECK(w.control(sys_call::shutdown_write, b) == -ENOTCONN);
}

TEST_CASE("sim: a reset meets the writer first: ECONNRESET, then EPIPE") {
    world w;
    const auto [a, b] = w.connection();
    w.control(sys_call::reset_on_close, a);
    w.close(a);
    w.settle();
    CHECK(w.send(b, "x").got == -ECONNRESET);
    CHECK(w.send(b, "x").got == -EPIPE);
    CHECK(w.receive(b, 1).got == 0);
}

TEST_CASE("sim: SO_ERROR tells the error and takes it away") {
    world w;
    const auto [a, b] = w.connection();
    w.control(sys_call::reset_on_close, a);
    w.close(a);
    w.settle();
    CHECK(w.get(b, sys_option::error) == ECONNRESET);
    CHECK(w.get(b, sys_option::error) == 0);
    CHECK(w.receive(b, 1).got == 0);
    CHECK(w.send(b, "x").got == -EPIPE);
}

TEST_CASE("sim: close with unread data is a reset for the peer") {
    world w;
    const auto [a, b] = w.connection();
    w.send(a, "unread");
    w.send(b, "hello");
    w.settle();
    w.close(b);
    w.settle();
    CHECK(w.receive(a, 10).got == 5);
    CHECK(w.receive(a, 10).got == -ECONNRESET);
}

TEST_CASE("sim: writing to a closed peer works once, the answer makes it EPIPE") {
    world w;
    const auto [a, b] = w.connection();
    w.close(b);
    w.settle();
    CHECK(w.send(a, "x").got == 1);
    w.settle();
    CHECK(w.receive(a, 1).got == 0);  // the end came before the reset
    CHECK(w.get(a, sys_option::error) == EPIPE);
    CHECK(w.send(a, "x").got == -EPIPE);
}

TEST_CASE("sim: a reset ends the reader and the writer that wait") {
    world w;
    const auto [a, b] = w.connection();
    test_op& reader = w.receive(a, 10);
    test_op& writer = w.send(a, std::string(1 << 20, 'x'), true);
    w.pass(1ms);
    w.control(sys_call::reset_on_close, b);
    w.close(b);
    w.settle();
    CHECK(reader.got == -ECONNRESET);
    CHECK(writer.got == -EPIPE);
}

TEST_CASE("sim: a pair has no way in between") {
    world w;
    const auto [a, b] = w.pair();
    CHECK(w.send(a, "hello").got == 5);
    test_op& got = w.receive(b, 10);
    CHECK(got.got == 5);
    CHECK(prefix(got) == "hello");
    w.close(b);
    CHECK(w.send(a, "x").got == -EPIPE);  // known at once, as with a socketpair
    CHECK(w.receive(a, 1).got == 0);
    CHECK(w.local_address(w.pair().first) == text_of(raw_address{}));

    const auto [c, d] = w.pair();
    w.send(c, "unread");
    w.send(d, "read");
    w.close(d);
    CHECK(w.receive(c, 10).got == 4);
    CHECK(w.receive(c, 10).got == -ECONNRESET);
    CHECK(w.receive(c, 10).got == 0);
    CHECK(w.sim->now() == time_point{});
}

// TCP: addresses and connecting.

TEST_CASE("sim: both sides of a connection know both addresses") {
    world w;
    const auto [a, b] = w.connection(80);
    CHECK(w.local_address(a) == "127.0.0.1:49152");
    CHECK(w.peer_address(a) == "127.0.0.1:80");
    CHECK(w.local_address(b) == "127.0.0.1:80");
    CHECK(w.peer_address(b) == "127.0.0.1:49152");
    const int fresh = w.socket();
    CHECK(w.local_address(fresh) == "0.0.0.0:0");
    CHECK(w.peer_address(fresh) == std::to_string(-ENOTCONN));
    CHECK(w.bind(fresh, any(0)) == 0);
    CHECK(w.local_address(fresh) == "0.0.0.0:49153");
    const int listening = w.socket();
    CHECK(w.listen(listening) == 0);
    CHECK(w.local_address(listening) == "0.0.0.0:49154");
}

TEST_CASE("sim: nobody listens: ECONNREFUSED, and the socket may try again") {
    world w;
    const int fd = w.socket();
    test_op& refused = w.connect(fd, local(80));
    w.settle();
    CHECK(refused.got == -ECONNREFUSED);
    CHECK(w.sim->now() == time_point(100us));
    CHECK(w.receive(fd, 1).got == -ENOTCONN);
    const int server = w.listener(80);
    test_op& accepted = w.accept(server);
    test_op& connected = w.connect(fd, local(80));
    w.settle();
    CHECK(connected.got == 0);
    w.open.push_back(accepted.got);

    const int bound = w.socket();
    REQUIRE(w.bind(bound, local(81)) == 0);
    test_op& not_listening = w.connect(w.socket(), local(81));
    w.settle();
    CHECK(not_listening.got == -ECONNREFUSED);
}

TEST_CASE("sim: only loopback and bound addresses can be reached") {
    world w;
    const raw_address far = v4(10, 0, 0, 1, 80);
    CHECK(w.connect(w.socket(), far).got == -ENETUNREACH);
    const int server = w.socket();
    REQUIRE(w.bind(server, far) == 0);
    test_op& refused = w.connect(w.socket(), far);
    w.settle();
    CHECK(refused.got == -ECONNREFUSED);
    REQUIRE(w.listen(server) == 0);
    const int client = w.socket();
    test_op& accepted = w.accept(server);
    test_op& connected = w.connect(client, far);
    w.settle();
    CHECK(connected.got == 0);
    w.open.push_back(accepted.got);
    CHECK(w.peer_address(client) == "10.0.0.1:80");
    test_op& other_host = w.connect(w.socket(), local(80));
    w.settle();
    CHECK(other_host.got == -ECONNREFUSED);
}

TEST_CASE("sim: IPv6, and IPv4 through a dual-stack listener") {
    using family = raw_address::family;
    world w;
    const int server = w.socket(family::v6);
    REQUIRE(w.bind(server, v6(0, 80)) == 0);
    REQUIRE(w.listen(server) == 0);

    const int six = w.socket(family::v6);
    test_op& first = w.accept(server);
    w.connect(six, v6(1, 80));
    w.settle();
    w.open.push_back(first.got);
    CHECK(w.peer_address(six) == text_of(v6(1, 80)));
    CHECK(w.local_address(first.got) == text_of(v6(1, 80)));

    const int four = w.socket();
    test_op& second = w.accept(server);
    w.connect(four, any(80));  // the wildcard means this host
    w.settle();
    w.open.push_back(second.got);
    CHECK(w.peer_address(four) == "127.0.0.1:80");
    CHECK(w.local_address(second.got) == text_of(mapped(local(80))));

    const int mixed = w.socket(family::v6);
    test_op& third = w.accept(server);
    w.connect(mixed, mapped(local(80)));
    w.settle();
    w.open.push_back(third.got);
    CHECK(w.peer_address(mixed) == text_of(mapped(local(80))));

    const int only = w.socket(family::v6);
    CHECK(w.set(only, sys_option::v6_only, 1) == 0);
    CHECK(w.connect(only, mapped(local(80))).got == -ENETUNREACH);
    CHECK(w.bind(only, mapped(local(90))) == -EINVAL);
    CHECK(w.bind(only, local(90)) == -EINVAL);
    CHECK(w.bind(w.socket(), v6(1, 90)) == -EAFNOSUPPORT);
    CHECK(w.connect(w.socket(), v6(1, 80)).got == -EAFNOSUPPORT);
    CHECK(w.bind(only, v6(0, 90)) == 0);
    CHECK(w.set(only, sys_option::v6_only, 0) == -EINVAL);
    CHECK(w.set(w.socket(), sys_option::v6_only, 1) == -ENOPROTOOPT);
    CHECK(w.listen(only) == 0);
    test_op& refused = w.connect(w.socket(), local(90));
    w.settle();
    CHECK(refused.got == -ECONNREFUSED);
}

TEST_CASE("sim: an address in use") {
    struct party {
        raw_address address;
        bool reuse_address = false;
        bool reuse_port = false;
        bool listens = false;
        bool v6_only = false;
    };
    const auto second_bind = [](const party& one, const party& two) {
        world w;
        int result = 0;
        for (const party& p : {one, two}) {
            const int fd = w.socket(p.address.kind);
            w.set(fd, sys_option::reuse_address, p.reuse_address);
            w.set(fd, sys_option::reuse_port, p.reuse_port);
            if (p.v6_only) w.set(fd, sys_option::v6_only, 1);
            result = w.bind(fd, p.address);
            if (result == 0 && p.listens) result = w.listen(fd);
        }
        return result;
    };
    CHECK(second_bind({local(80)}, {local(80)}) == -EADDRINUSE);
    CHECK(second_bind({any(80)}, {local(80)}) == -EADDRINUSE);
    CHECK(second_bind({local(80)}, {any(80)}) == -EADDRINUSE);
    CHECK(second_bind({local(80)}, {v4(127, 0, 0, 2, 80)}) == 0);
    CHECK(second_bind({local(80)}, {local(81)}) == 0);
    CHECK(second_bind({local(80), true}, {local(80), true}) == 0);
    CHECK(second_bind({local(80), true}, {local(80), false}) == -EADDRINUSE);
    CHECK(second_bind({local(80), true, false, true}, {local(80), true}) == -EADDRINUSE);
    CHECK(second_bind({local(80), false, true, true}, {local(80), false, true, true}) == 0);
    CHECK(second_bind({local(80), false, true, true}, {local(80)}) == -EADDRINUSE);
    CHECK(second_bind({v6(0, 80)}, {local(80)}) == -EADDRINUSE);
    CHECK(second_bind({local(80)}, {v6(0, 80)}) == -EADDRINUSE);
    CHECK(second_bind({v6(0, 80), false, false, true, true}, {any(80)}) == 0);
    CHECK(second_bind({v6(1, 80)}, {local(80)}) == 0);

    world w;
    const int one = w.socket();
    const int two = w.socket();
    for (const int fd : {one, two}) {
        w.set(fd, sys_option::reuse_address, 1);
        CHECK(w.bind(fd, local(80)) == 0);
    }
    CHECK(w.bind(one, local(81)) == -EINVAL);
    CHECK(w.listen(one) == 0);
    CHECK(w.listen(one, 20) == 0);
    CHECK(w.listen(two) == -EADDRINUSE);
    w.close(one);
    CHECK(w.listen(two) == 0);
}

TEST_CASE("sim: an accepted connection keeps the port, unless both reuse the address") {
    for (const int reuse : {0, 1}) {
        world w;
        w.connection(80, [&](int, int server) { w.set(server, sys_option::reuse_address, reuse); });
        const int fd = w.socket();
        CHECK(w.bind(fd, local(80)) == -EADDRINUSE);
        w.set(fd, sys_option::reuse_address, 1);
        CHECK(w.bind(fd, local(80)) == (reuse ? 0 : -EADDRINUSE));
    }
}

TEST_CASE("sim: a port is free again once both ends are closed") {
    world w;
    for (int i = 0; i < 20'000; ++i) {  // more than there are ephemeral ports
        const auto [a, b] = w.connection(80);
        w.close(a);
        w.close(b);
        w.settle();
        w.ops.clear();
    }
    std::vector<int> held;
    for (int i = 0; i < 16384; ++i) {
        held.push_back(w.socket());
        REQUIRE(w.bind(held.back(), any(0)) == 0);
    }
    CHECK(w.bind(w.socket(), any(0)) == -EADDRINUSE);
    w.listener(80);
    CHECK(w.connect(w.socket(), local(80)).got == -EADDRNOTAVAIL);
}

TEST_CASE("sim: a full listen queue holds connects back") {
    world w;
    const int server = w.listener(80, 1);
    reported connects;
    for (int i = 0; i < 4; ++i) connects.push_back(&w.connect(w.socket(), local(80)));
    w.pass(1s);
    CHECK(connects[0]->got == 0);
    CHECK(connects[1]->got == 0);  // one more than the backlog, as on Linux
    CHECK(connects[2]->got == still_armed);
    w.open.push_back(w.accept(server).got);
    w.pass(1ms);
    CHECK(connects[2]->got == 0);
    CHECK(connects[3]->got == still_armed);

    // One gives up while it is held back: nobody hears of it.
    const int impatient = w.socket();
    w.connect(impatient, local(80));
    w.pass(1ms);
    w.close(impatient);
    w.look();
    for (int i = 0; i < 3; ++i) {
        w.open.push_back(w.accept(server).got);
        CHECK(w.open.back() > 0);
        w.pass(1ms);
    }
    CHECK(connects[3]->got == 0);
    std::string got;
    CHECK(w.accept(server).got == still_armed);
}

TEST_CASE("sim: a closing listener resets its queue and refuses who was held back") {
    world w;
    const int server = w.listener(80, 0);
    const int queued = w.socket();
    test_op& first = w.connect(queued, local(80));
    w.pass(1ms);
    test_op& second = w.connect(w.socket(), local(80));
    w.pass(1ms);
    CHECK(first.got == 0);
    CHECK(second.got == still_armed);
    w.close(server);
    w.settle();
    CHECK(second.got == -ECONNREFUSED);
    CHECK(w.receive(queued, 1).got == -ECONNRESET);
    CHECK(w.receive(queued, 1).got == 0);
}

TEST_CASE("sim: a listener that closes in the middle of a handshake") {
    for (const rondo::duration after : {0us, 40us, 50us, 60us, 100us, 120us, 150us, 200us}) {
        world w;
        const int server = w.listener();
        const int client = w.socket();
        test_op& connected = w.connect(client, local(80));
        w.pass(after);
        w.close(server);
        w.settle();
        CAPTURE(after.count());
        const bool refused = after < 50us;
        CHECK((connected.got == -ECONNREFUSED) == refused);
        if (!refused) CHECK(w.receive(client, 1).got <= 0);
    }
}

TEST_CASE("sim: a client that closes in the middle of a handshake") {
    for (const rondo::duration after : {0us, 50us, 60us, 100us, 120us}) {
        world w;
        const int server = w.listener();
        const int client = w.socket();
        w.connect(client, local(80));
        w.pass(after);
        w.close(client);
        w.settle();
        CAPTURE(after.count());
        // Once connected, the connection is real, and ended.
        test_op& accepted = w.accept(server);
        CHECK((accepted.got >= 0) == (after >= 100us));
        if (accepted.got >= 0) {
            w.open.push_back(accepted.got);
            CHECK(w.receive(accepted.got, 1).got == 0);
        }
        const int next = w.socket();
        test_op& connected = w.connect(next, local(80));
        w.settle();
        CHECK(connected.got == 0);
        REQUIRE(accepted.got >= 0);
        if (w.open.back() != accepted.got) w.open.push_back(accepted.got);
    }
}

TEST_CASE("sim: a connection that was reset is accepted all the same") {
    world w;
    const int server = w.listener();
    const int client = w.socket();
    w.connect(client, local(80));
    w.settle();
    w.send(client, "abc");
    w.control(sys_call::reset_on_close, client);
    w.close(client);
    w.settle();
    const int peer = w.accept(server).got;
    REQUIRE(peer > 0);
    w.open.push_back(peer);
    CHECK(w.receive(peer, 10).got == 3);
    CHECK(w.receive(peer, 10).got == -ECONNRESET);
    CHECK(w.receive(peer, 10).got == 0);
}

TEST_CASE("sim: accept takes the oldest connection; with a seed, any") {
    std::set<std::string> first;
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
        rondo::seeded_oracle decide(seed);
        world w(seed == 0 ? nullptr : &decide);
        const int server = w.listener();
        for (int i = 0; i < 3; ++i) w.connect(w.socket(), local(80));
        w.settle();
        w.open.push_back(w.accept(server).got);
        const std::string peer = w.peer_address(w.open.back());
        if (seed == 0) CHECK(peer == "127.0.0.1:49152");
        first.insert(peer);
    }
    CHECK(first.size() == 3);
}

TEST_CASE("sim: calls that do not fit the socket's state") {
    world w;
    const int fresh = w.socket();
    CHECK(w.accept(fresh).got == -EINVAL);
    CHECK(w.receive(fresh, 1).got == -ENOTCONN);
    CHECK(w.send(fresh, "x").got == -EPIPE);
    CHECK(w.control(sys_call::shutdown_write, fresh) == -ENOTCONN);
    const int server = w.listener();
    CHECK(w.receive(server, 1).got == -ENOTCONN);
    CHECK(w.send(server, "x").got == -EPIPE);
    CHECK(w.connect(server, local(9)).got == -EISCONN);
    CHECK(w.bind(server, local(0)) == -EINVAL);
    CHECK(w.peer_address(server) == std::to_string(-ENOTCONN));
    const auto [a, b] = w.connection(81);
    CHECK(w.accept(a).got == -EINVAL);
    CHECK(w.listen(a) == -EINVAL);
    CHECK(w.bind(a, local(0)) == -EINVAL);
    CHECK(w.connect(a, local(9)).got == -EISCONN);
    CHECK(w.socket(raw_address::family::none) == -EAFNOSUPPORT);
}

TEST_CASE("sim: options are kept, and an accepted connection inherits those of its listener") {
    world w;
    const auto [a, b] = w.connection(80, [&](int, int server) {
        w.set(server, sys_option::receive_buffer, 1000);
        w.set(server, sys_option::send_buffer, 2000);
        w.set(server, sys_option::no_delay, 1);
    });
    CHECK(w.get(b, sys_option::receive_buffer) == 1000);
    CHECK(w.get(b, sys_option::send_buffer) == 2000);
    CHECK(w.get(b, sys_option::no_delay) == 1);
    CHECK(w.get(a, sys_option::no_delay) == 0);
    CHECK(w.set(a, sys_option::keep_alive, 1) == 0);
    CHECK(w.get(a, sys_option::keep_alive) == 1);
    CHECK(w.get(a, sys_option::reuse_address) == 0);
    CHECK(w.get(a, sys_option::reuse_port) == 0);
    CHECK(w.set(a, sys_option::error, 1) == -ENOPROTOOPT);
    CHECK(w.get(a, sys_option::v6_only) == -ENOPROTOOPT);

    // A larger window lets in at once what was held back.
    CHECK(w.send(a, std::string(5000, 'x')).got == 5000);
    w.settle();
    CHECK(w.receive(b, 10'000).got == 1000);
    w.settle();
    CHECK(w.set(b, sys_option::receive_buffer, 10'000) == 0);
    w.settle();
    CHECK(w.receive(b, 10'000).got == 4000);
}

// Decisions.

TEST_CASE("sim: random numbers come from the oracle") {
    rondo::seeded_oracle decide(5);
    rondo::seeded_oracle same(5);
    world w(&decide);
    for (int i = 0; i < 10; ++i) CHECK(w.sim->random() == same.bits(rondo::choice::user));
    world plain;
    world again;
    for (int i = 0; i < 10; ++i) CHECK(plain.sim->random() == again.sim->random());
}

TEST_CASE("sim: what it says about itself") {
    world w;
    w.pair();
    w.pass(1'500ms);
    const std::string text = w.sim->describe();
    CHECK(text.find("at 1.500000000 s") != std::string::npos);
    CHECK(text.find("2 descriptors") != std::string::npos);
    CHECK(w.sim->kind() == rondo::backend_kind::sim);
    CHECK(w.sim->poll_fd() == -1);
}

namespace {

/// A program that drives four connections at random: what goes in at one end must come out at the
/// other, in order. The program draws from `seed`, the world from `world_seed` (0: benign).
struct random_program {
    static constexpr int count = 4;

    struct side {
        int fd = -1;
        std::string sent;      // went in here
        std::string received;  // came out here
        test_op* reader = nullptr;
        test_op* writer = nullptr;
        bool shut = false;
        bool ended = false;
    };

    random_program(std::uint64_t seed, std::uint64_t world_seed)
        : program(seed), decide(world_seed) {
        world place(world_seed != 0 ? &decide : nullptr, 700);
        w = &place;
        for (int i = 0; i < count; ++i) {
            const auto small = [&](int a, int b) {
                if (draw(2) == 0) return;
                place.set(a, sys_option::receive_buffer, static_cast<int>(1 + draw(3000)));
                place.set(b, sys_option::send_buffer, static_cast<int>(1 + draw(3000)));
            };
            const auto [a, b] = i == 0 ? place.pair() : place.connection(80 + i, small);
            sides[i * 2].fd = a;
            sides[i * 2 + 1].fd = b;
        }
        for (int step = 0; step < 300; ++step) act();
        for (int i = 0; i < count * 2; ++i) drain(sides[i]);
        for (int i = 0; i < count; ++i) {
            check(sides[i * 2], sides[i * 2 + 1]);
            check(sides[i * 2 + 1], sides[i * 2]);
        }
        hash = place.hash();
        end = place.sim->now();
    }

    std::uint32_t draw(std::uint32_t n) { return program.choose(rondo::choice::user, n); }

    void act() {
        side& s = sides[draw(count * 2)];
        switch (draw(10)) {
            case 0:
            case 1:
            case 2: return write(s);
            case 3:
            case 4:
            case 5: return read(s);
            case 6:
                if (s.reader) w->cancel(*s.reader);
                return;
            case 7:
                if (s.writer) w->cancel(*s.writer);
                return;
            case 8:
                if (draw(30) != 0 || s.shut) return;
                s.shut = true;
                w->control(sys_call::shutdown_write, s.fd);
                return;
            default: w->pass(rondo::duration(draw(300'000))); collect();
        }
    }

    void write(side& s) {
        if (s.writer != nullptr || s.shut) return;
        std::string text(1 + draw(5000), ' ');
        for (char& c : text) c = static_cast<char>(draw(256));
        const bool all = draw(2) == 0;
        if (draw(2) == 0) {
            s.writer = &w->send(s.fd, text, all);
        } else {
            test_op& o = w->make(io_kind::send_vector, s.fd);
            o.bytes = text;
            const std::size_t cut = draw(static_cast<std::uint32_t>(text.size()));
            const auto bytes = std::as_bytes(std::span(o.bytes));
            o.spans = {bytes.first(cut), bytes.subspan(cut)};
            o.data = o.spans.data();
            o.size = 2;
            if (all) o.flags |= io_op::all;
            s.writer = &w->start(o);
        }
        collect(s);
    }

    void read(side& s) {
        if (s.reader != nullptr || s.ended) return;
        switch (draw(3)) {
            case 0: s.reader = &w->borrow(s.fd); break;
            case 1: s.reader = &w->receive(s.fd, 1 + draw(3000), true); break;
            default: s.reader = &w->receive(s.fd, 1 + draw(3000));
        }
        collect(s);
    }

    void collect() {
        for (side& s : sides) collect(s);
    }

    void collect(side& s) {
        if (s.writer != nullptr && s.writer->got != still_armed) {
            const test_op& o = *s.writer;
            if (o.got < 0) REQUIRE((o.got == -ECANCELED || (o.got == -EPIPE && s.shut)));
            if (o.got >= 0) REQUIRE(static_cast<std::uint32_t>(o.got) == o.moved);
            s.sent += prefix(o);
            s.writer = nullptr;
        }
        if (s.reader != nullptr && s.reader->got != still_armed) {
            test_op& o = *s.reader;
            if (o.got < 0) REQUIRE(o.got == -ECANCELED);
            if (o.kind == io_kind::borrow && o.got > 0) {
                s.received.append(static_cast<const char*>(o.data), o.size);
                w->sim->give_back(o.data, o.size, o.buffer);
            } else {
                s.received += prefix(o);
            }
            if (o.got == 0) s.ended = true;
            s.reader = nullptr;
        }
    }

    /// Reads to the end, with the other side closed by then.
    void drain(side& s) {
        side& other = sides[(&s - sides) ^ 1];
        while (!s.ended) {
            if (s.reader == nullptr) s.reader = &w->receive(s.fd, 1000);
            if (s.reader->got == still_armed && !w->wait(rondo::never)) {
                // Nothing can happen: all has arrived, and the writer has not said that it is all.
                REQUIRE(other.writer == nullptr);
                REQUIRE_FALSE(other.shut);
                other.shut = true;
                w->control(sys_call::shutdown_write, other.fd);
            }
            collect();
        }
    }

    void check(const side& from, const side& to) {
        CHECK(from.sent.size() == to.received.size());
        CHECK(from.sent == to.received);
        moved += from.sent.size();
    }

    rondo::seeded_oracle program;
    rondo::seeded_oracle decide;
    world* w = nullptr;
    side sides[count * 2];
    std::size_t moved = 0;
    std::uint64_t hash = 0;
    time_point end{};
};

}  // namespace

TEST_CASE("sim: a random program loses no byte, and a seed is a run") {
    std::set<std::uint64_t> hashes;
    std::size_t bytes = 0;
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        CAPTURE(seed);
        const random_program run(seed, seed);
        const random_program again(seed, seed);
        REQUIRE(run.hash == again.hash);
        REQUIRE(run.end == again.end);
        hashes.insert(run.hash);
        bytes += run.moved;
    }
    CHECK(hashes.size() == 200);
    CHECK(bytes > 1'000'000);
}

TEST_CASE("sim: the same program runs differently in another world") {
    std::set<std::uint64_t> hashes;
    for (std::uint64_t seed = 0; seed < 20; ++seed) hashes.insert(random_program(99, seed).hash);
    CHECK(hashes.size() == 20);
    CHECK(random_program(99, 0).hash == random_program(99, 0).hash);
}

TEST_CASE("sim: closing at any moment ends every op once and frees all") {
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        CAPTURE(seed);
        rondo::seeded_oracle decide(seed);
        rondo::seeded_oracle program(seed + 1000);
        const auto draw = [&](std::uint32_t n) { return program.choose(rondo::choice::user, n); };
        world w(&decide);
        const int server = w.listener(80, 2);
        std::vector<int> fds;
        std::vector<test_op*> accepts;
        for (int step = 0; step < 200; ++step) {
            const int fd = fds.empty() ? -1 : fds[draw(static_cast<std::uint32_t>(fds.size()))];
            const std::size_t size = 1 + draw(200'000);
            const bool all = draw(2) == 0;
            switch (draw(9)) {
                case 0:
                    fds.push_back(w.socket());
                    w.connect(fds.back(), local(80));
                    break;
                case 1: accepts.push_back(&w.accept(server)); break;
                case 2:
                case 3: w.send(fd, std::string(size, 'x'), all); break;
                case 4: w.receive(fd, size, all); break;
                case 5:
                    if (!w.ops.empty())
                        w.cancel(*w.ops[draw(static_cast<std::uint32_t>(w.ops.size()))]);
                    break;
                case 6:
                    if (draw(3) == 0) w.control(sys_call::reset_on_close, fd);
                    if (draw(3) == 0) w.control(sys_call::shutdown_write, fd);
                    break;
                case 7:
                    if (draw(3) != 0) break;
                    w.close(fd);
                    std::erase(fds, fd);
                    break;
                default: w.pass(rondo::duration(draw(1'000'000)));
            }
            for (test_op* o : accepts) {
                if (o->got < 0) continue;
                fds.push_back(o->got);
                w.open.push_back(o->got);
                o->got = -1;
            }
        }
        for (const int fd : std::vector(w.open)) w.close(fd);
        while (w.wait(rondo::never)) {
            for (test_op* o : w.last) {  // an accept may still have won
                if (o->kind == io_kind::accept && o->got >= 0) w.close(o->got);
            }
        }
        CHECK(w.sim->armed() == 0);
        CHECK(w.sim->describe().find(" 0 descriptors") != std::string::npos);
        for (const auto& o : w.ops) CHECK(o->got != still_armed);
    }
}
