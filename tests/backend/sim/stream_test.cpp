// The simulated backend by itself: what goes through a connection, and how one ends.
#include "support/sim_backend.hpp"

#include <doctest/doctest.h>
#include <rondo/loop/oracle.hpp>

#include <cerrno>
#include <set>
#include <string>
#include <string_view>
#include <vector>

using namespace test::sim;

namespace {

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

}  // namespace
