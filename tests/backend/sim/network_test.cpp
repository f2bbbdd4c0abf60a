// The simulated backend by itself: addresses, ports, listeners, and connections on their way.
#include "support/sim_backend.hpp"

#include <doctest/doctest.h>
#include <rondo/loop/oracle.hpp>

#include <cerrno>
#include <set>
#include <string>
#include <vector>

using namespace test::sim;

namespace {

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

}  // namespace
