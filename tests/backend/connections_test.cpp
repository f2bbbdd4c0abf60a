// The contract of a backend (loop/backend.hpp): connections are made, accepted, half-closed, reset and closed.
#include "support/backend_rig.hpp"

#include <doctest/doctest.h>
#include <rondo/loop/backend.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <vector>

using namespace test::raw;

namespace {

TEST_CASE("backend: both ends know their addresses") {
    on_each([](rig& r) {
        auto [listener, at] = r.listen();
        const int client = r.connect(at);
        const int server = r.run(test_op(io_kind::accept, listener));
        raw_address peer, mine;
        sys_op ask_peer{sys_call::peer_address, client, {}, 0, &peer};
        CHECK(r.io->control(ask_peer) == 0);
        CHECK(peer.port == at.port);
        CHECK(peer.kind == raw_address::family::v4);
        CHECK(std::memcmp(peer.bytes, at.bytes, 4) == 0);
        sys_op ask_mine{sys_call::local_address, client, {}, 0, &mine};
        CHECK(r.io->control(ask_mine) == 0);
        sys_op ask_other{sys_call::peer_address, server, {}, 0, &peer};
        CHECK(r.io->control(ask_other) == 0);
        CHECK(peer.port == mine.port);
        CHECK(r.call(sys_call::set_option, client, sys_option::no_delay, 1) == 0);
        CHECK(r.call(sys_call::get_option, client, sys_option::no_delay) == 1);
        CHECK(r.call(sys_call::get_option, client, sys_option::error) == 0);
        for (const int fd : {client, server, listener}) CHECK(r.close(fd) == 0);
    });
}

TEST_CASE("backend: IPv6 works like IPv4") {
    on_each([](rig& r) {
        raw_address at;
        at.kind = raw_address::family::v6;
        at.bytes[15] = 1;
        const int listener = r.tcp_socket(at);
        if (listener == -EAFNOSUPPORT) return;
        CHECK(r.call(sys_call::set_option, listener, sys_option::v6_only, 1) == 0);
        sys_op bind{sys_call::bind, listener, {}, 0, &at};
        if (r.io->control(bind) == -EADDRNOTAVAIL) return void(r.close(listener));
        CHECK(r.call(sys_call::listen, listener, {}, 8) == 0);
        sys_op ask{sys_call::local_address, listener, {}, 0, &at};
        CHECK(r.io->control(ask) == 0);
        const int client = r.connect(at);
        const int server = r.run(test_op(io_kind::accept, listener));
        CHECK(server >= 0);
        raw_address peer;
        sys_op ask_peer{sys_call::peer_address, server, {}, 0, &peer};
        CHECK(r.io->control(ask_peer) == 0);
        CHECK(peer.kind == raw_address::family::v6);
        CHECK(peer.bytes[15] == 1);
        for (const int fd : {client, server, listener}) r.close(fd);
    });
}

TEST_CASE("backend: a cancelled accept leaves the connection to the next one (hazard D3)") {
    on_each([](rig& r) {
        auto [listener, at] = r.listen();
        std::vector<int> clients;
        std::size_t accepted = 0;
        for (int round = 0; round < 100; ++round) {
            test_op waits(io_kind::accept, listener);
            const bool at_once = r.start(waits);
            clients.push_back(r.connect(at));
            if (!at_once) {
                r.io->cancel(waits);
                r.finish(waits);
            }
            if (waits.result >= 0) {
                ++accepted;
                r.close(waits.result);
            } else {
                CHECK(waits.result == -ECANCELED);
            }
        }
        while (accepted < clients.size()) {
            const int fd = r.run(test_op(io_kind::accept, listener));
            REQUIRE(fd >= 0);
            ++accepted;
            r.close(fd);
        }
        for (const int fd : clients) r.close(fd);
        CHECK(r.close(listener) == 0);
    });
}

TEST_CASE("backend: a burst of connections is accepted, each once") {
    on_each([](rig& r) {
        auto [listener, at] = r.listen(512);
        std::vector<int> clients, servers;
        test_op first(io_kind::accept, listener);
        r.start(first);
        for (int i = 0; i < 200; ++i) clients.push_back(r.connect(at));
        servers.push_back(r.finish(first));
        while (servers.size() < clients.size()) servers.push_back(r.run(test_op(io_kind::accept, listener)));
        std::sort(servers.begin(), servers.end());
        CHECK(std::unique(servers.begin(), servers.end()) == servers.end());
        CHECK(servers.front() >= 0);
        test_op waits(io_kind::accept, listener);
        CHECK_FALSE(r.start(waits));
        CHECK(r.close(listener) == 0);
        CHECK(r.finish(waits) == -EBADF);
        for (const int fd : servers) r.close(fd);
        for (const int fd : clients) r.close(fd);
    });
}

TEST_CASE("backend: no more is accepted than was asked for, but for one whose accept was cancelled") {
    on_real([](rig& r) {  // a simulated connection nobody accepted has a descriptor, too
        auto [listener, at] = r.listen();
        const auto open = [fd = listener] {  // how many: the numbers below the next are taken
            const int next = ::dup(fd);
            ::close(next);
            return next;
        };
        std::vector<int> clients, servers;
        for (int i = 0; i < 50; ++i) clients.push_back(r.connect(at));
        const int before = open();
        for (int i = 0; i < 3; ++i) servers.push_back(r.run(test_op(io_kind::accept, listener)));
        r.settle();
        CHECK(open() == before + 3);
        for (int i = 0; i < 47; ++i) servers.push_back(r.run(test_op(io_kind::accept, listener)));
        test_op waits(io_kind::accept, listener);
        CHECK_FALSE(r.start(waits));
        r.settle();
        r.io->cancel(waits);
        CHECK(r.finish(waits) == -ECANCELED);
        for (int i = 0; i < 10; ++i) clients.push_back(r.connect(at));
        r.settle();
        CHECK(open() <= before + 50 + 10 + 1);
        for (int i = 0; i < 10; ++i) servers.push_back(r.run(test_op(io_kind::accept, listener)));
        CHECK(*std::min_element(servers.begin(), servers.end()) >= 0);
        r.close(listener);
        for (const int fd : servers) r.close(fd);
        for (const int fd : clients) r.close(fd);
    });
}

TEST_CASE("backend: connections nobody accepted end with their listener") {
    on_each([](rig& r) {
        auto [listener, at] = r.listen();
        test_op waits(io_kind::accept, listener);
        CHECK_FALSE(r.start(waits));
        r.io->cancel(waits);
        CHECK(r.finish(waits) == -ECANCELED);
        std::vector<int> clients;
        for (int i = 0; i < 10; ++i) clients.push_back(r.connect(at));
        r.settle();
        CHECK(r.close(listener) == 0);
        bytes area(10);
        for (const int fd : clients) {
            const int ended = r.run(receive(fd, area));
            CHECK((ended == 0 || ended == -ECONNRESET));
            r.close(fd);
        }
    });
}

TEST_CASE("backend: connecting fails, or is cancelled, and the socket is closed") {
    on_each([](rig& r) {
        auto [listener, at] = r.listen();
        r.close(listener);
        const int fd = r.tcp_socket(at);
        test_op refused(io_kind::connect, fd);
        refused.data = &at;
        CHECK(r.run(refused) == -ECONNREFUSED);
        CHECK(r.close(fd) == 0);

        auto [other, there] = r.listen();
        const int hasty = r.tcp_socket(there);
        test_op cancelled(io_kind::connect, hasty);
        cancelled.data = &there;
        if (!r.start(cancelled)) {
            r.io->cancel(cancelled);
            r.finish(cancelled);
        }
        CHECK((cancelled.result == -ECANCELED || cancelled.result == 0));
        CHECK(r.close(hasty) == 0);
        r.close(other);
    });
}

TEST_CASE("backend: what the socket cannot do is an error, not a wait") {
    on_each([](rig& r) {
        const auto ends = r.pair();
        CHECK(r.run(test_op(io_kind::accept, ends.first)) < 0);
        raw_address nowhere;
        nowhere.kind = raw_address::family::v4;
        const int lone = r.tcp_socket(nowhere);
        bytes area(10);
        CHECK(r.run(receive(lone, area)) == -ENOTCONN);
        CHECK(r.run(receive(lone, area, io_op::all)) == -ENOTCONN);
        CHECK(r.run(test_op(io_kind::borrow, lone)) == -ENOTCONN);
        CHECK(r.run(send(lone, area, io_op::all)) == -EPIPE);
        CHECK(r.close(lone) == 0);
        r.close(ends);
    });
}

TEST_CASE("backend: closing ends the reader and the writer, and the peer sees the end (hazard D4: liburing#568)") {
    on_each([](rig& r) {
        enum { plain, whole, lent, polled };
        for (const int how : {plain, whole, lent, polled}) {
            auto [client, server] = r.tcp();
            bytes area(100), out(8 << 20);
            test_op lending(io_kind::borrow, server), polling(io_kind::poll_in, server);
            auto reading = receive(server, area, how == whole ? io_op::all : 0);
            test_op& reader = how == lent ? lending : how == polled ? polling : reading;
            auto writer = send(server, out, io_op::all);
            CHECK_FALSE(r.start(reader));
            CHECK_FALSE(r.start(writer));
            r.settle();
            test_op closing(io_kind::close, server);
            CHECK_FALSE(r.start(closing));
            CHECK(r.run(receive(server, area)) == -EBADF);
            const time_point before = r.io->now();
            CHECK(r.finish(closing) == 0);
            CHECK(r.io->now() - before < 1s);
            CHECK(reader.finished);
            CHECK(reader.result == -EBADF);
            CHECK(writer.finished);
            CHECK(writer.result == -EBADF);
            CHECK(writer.moved > 0);
            int n = 1;
            while (n > 0) n = r.run(receive(client, out));
            CHECK((n == 0 || n == -ECONNRESET));
            CHECK(r.close(client) == 0);
        }
    });
}

TEST_CASE("backend: an op cancelled before the close stays cancelled") {
    on_each([](rig& r) {
        const auto ends = r.pair();
        bytes area(10);
        auto reader = receive(ends.first, area);
        CHECK_FALSE(r.start(reader));
        r.io->cancel(reader);
        test_op closing(io_kind::close, ends.first);
        CHECK_FALSE(r.start(closing));
        r.io->cancel(closing);  // a close cannot be cancelled
        CHECK(r.finish(closing) == 0);
        CHECK(reader.finished);
        CHECK(reader.result == -ECANCELED);
        CHECK(r.close(ends.second) == 0);
    });
}

TEST_CASE("backend: a number used again has no past") {
    on_each([](rig& r) {
        bytes out = make_pattern(14, 0, 64), area(64);
        for (int round = 0; round < 500; ++round) {
            const auto old = r.pair();
            auto reader = receive(old.first, area);
            test_op lent(io_kind::borrow, old.second);
            CHECK_FALSE(r.start(reader));
            CHECK_FALSE(r.start(lent));
            if (round % 2 == 0) {
                CHECK(r.run(send(old.first, out)) == 64);
                if (round % 4 == 0) r.turn(time_point::min());
            }
            r.close(old);
            REQUIRE(reader.finished);
            REQUIRE(lent.finished);
            if (lent.result > 0) r.give_back(lent);

            const auto fresh = r.pair();  // the same two numbers
            auto waits = receive(fresh.first, area);
            CHECK_FALSE(r.start(waits));
            r.turn(time_point::min());
            REQUIRE_FALSE(waits.finished);
            CHECK(r.run(send(fresh.second, std::span(out).first(9))) == 9);
            REQUIRE(r.finish(waits) == 9);
            r.close(fresh);
        }
    });
}

TEST_CASE("backend: a reset is one error, and a broken pipe is no signal") {
    on_each([](rig& r) {
        for (const int how : {0, 1, 2}) {
            auto [client, server] = r.tcp();
            bytes area(100), out(8 << 20);
            auto reading = receive(server, area);
            test_op lent(io_kind::borrow, server);
            test_op& reader = how == 0 ? lent : reading;
            CHECK_FALSE(r.start(reader));
            if (how == 2) r.settle();
            auto writer = send(server, out, io_op::all);
            if (how == 1) r.start(writer);
            r.settle();
            CHECK(r.call(sys_call::reset_on_close, client) == 0);
            CHECK(r.close(client) == 0);
            if (how == 1) {
                // One of the two gets the error; the other sees the end, or the same.
                r.finish(writer);
                CHECK((writer.result == -ECONNRESET || writer.result == -EPIPE));
                r.finish(reader);
                CHECK((reader.result == -ECONNRESET || reader.result == 0));
            } else {
                CHECK(r.finish(reader) == -ECONNRESET);
            }
            std::span<const std::byte> spans[] = {out, out};
            for (int i = 0; i < 2; ++i) {
                const int a = r.run(send(server, out)), b = r.run(send_vector(server, spans));
                CHECK((a == -EPIPE || a == -ECONNRESET));
                CHECK((b == -EPIPE || b == -ECONNRESET));
                CHECK(r.run(receive(server, area)) == 0);
            }
            CHECK(r.close(server) == 0);
        }
    });
}

}  // namespace
