// The simulated backend by itself: its clock, its order, its decisions. What holds for every backend is in
// backend_test.cpp.
#include "support/sim_backend.hpp"

#include <doctest/doctest.h>
#include <rondo/loop/oracle.hpp>

#include <cerrno>
#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <vector>

using namespace test::sim;

namespace {

raw_address mapped(const raw_address& from) {
    raw_address address = v6(0, from.port);
    address.bytes[10] = address.bytes[11] = 0xff;
    std::memcpy(address.bytes + 12, from.bytes, 4);
    return address;
}

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
        w.sim->expect_wakes(1);
        std::thread outside([&] {
            if (i % 2) std::this_thread::sleep_for(1ms);
            w.sim->wake();
        });
        CHECK(w.wait(rondo::never));
        outside.join();
    }
    CHECK(w.sim->now() == time_point{});
    w.sim->expect_wakes(0);
    CHECK_FALSE(w.wait(rondo::never));
}

TEST_CASE("sim: a step of computing time lets packets arrive meanwhile, at their own time") {
    world w;
    const auto [a, b] = w.connection();
    const time_point start = w.sim->now();
    test_op& got = w.receive(b, 10);
    w.send(a, "x");
    w.sim->spin(1ms);
    CHECK(w.sim->now() == start + 1ms);
    CHECK(got.got == still_armed);
    w.look();
    CHECK(got.got == 1);

    // The kernel answers a SYN while the program computes: the handshake is over already.
    const int server = w.listener(81);
    const int client = w.socket();
    test_op& connected = w.connect(client, local(81));
    w.sim->spin(10ms);
    w.look();
    CHECK(connected.got == 0);
    w.open.push_back(w.accept(server).got);
    CHECK(w.open.back() > 0);

    w.sim->spin(-1s);
    CHECK(w.sim->now() == start + 11ms);
    w.sim->spin(rondo::duration::max());
    CHECK(w.sim->now() < rondo::never);
}

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

TEST_CASE("sim: who became ready first is reported first, whenever it began to wait") {
    world w;
    std::vector<std::pair<int, int>> pairs;
    for (int i = 0; i < 5; ++i) pairs.push_back(w.pair());
    test_op& waiting = w.poll_in(pairs[4].second);
    for (const int i : {3, 0, 4, 2, 1}) w.send(pairs[static_cast<std::size_t>(i)].first, "x");
    reported ops;
    for (const int i : {0, 1, 2, 3}) ops.push_back(&w.poll_in(pairs[static_cast<std::size_t>(i)].second));
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

}  // namespace
