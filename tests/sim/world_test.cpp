// Worlds of several hosts: who runs when, what links do, how hosts come and go.
#include <rondo/sim/world.hpp>

#include "support/net.hpp"

#include <csignal>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <sys/resource.h>

using namespace std::literals;
using rondo::crash_mode;
using rondo::one_in;
using rondo::percent;
using rondo::task;
using rondo::tcp_listener;
using rondo::tcp_stream;
using rondo::time_point;
using rondo::verdict;
using rondo::world;

namespace {

rondo::world_options decided_by(rondo::oracle& decisions) {
    rondo::world_options options;
    options.decisions = &decisions;
    return options;
}

task<> echo_server() {
    auto listener = tcp_listener::bind("0.0.0.0", 7777);
    co_await rondo::serve(listener, test::echo_session);
}

/// Sends `text` and gives what comes back.
task<std::string> ask(tcp_stream& peer, std::string text) {
    co_await peer.write_all(text);
    std::string answer(text.size(), '?');
    const std::size_t got = co_await peer.read_exactly(std::as_writable_bytes(std::span(answer)));
    answer.resize(got);
    co_return answer;
}

/// No extra latency, whatever the oracle would like.
void exact(world& w, std::string_view a, std::string_view b, rondo::duration latency = 1ms) {
    w.link(a, b).latency(latency);
}

/// A scenario against an echo server, which is given a connection to it.
template <class F>
auto with_peer(world& w, F body) {
    w.host("srv").run(echo_server);
    exact(w, "test", "srv");
    return w.run([&]() -> task<> {
        auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
        co_await body(peer);
    });
}

template <class F>
std::string message_of(F&& f) {
    try {
        f();
    } catch (const std::exception& e) {
        return e.what();
    }
    return "";
}

}  // namespace

// Hosts.

TEST_CASE("world: a client and a server on two hosts") {
    world w;
    w.host("srv").run(echo_server);
    exact(w, "test", "srv");
    const std::string answer = w.run([&]() -> task<std::string> {
        auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
        CHECK(w.now() == time_point(2ms));  // there and back
        CHECK(peer.peer() == w.address_of("srv", 7777));
        CHECK(peer.local().address() == w.host("test").address());
        std::string got = co_await ask(peer, "hello");
        CHECK(w.now() == time_point(4ms));
        co_return got;
    });
    CHECK(answer == "hello");
}

TEST_CASE("world: hosts have names and addresses, made when first mentioned") {
    world w;
    CHECK(w.host("test").address().to_string() == "10.0.0.1");
    CHECK(w.host("a").address().to_string() == "10.0.0.2");
    CHECK(w.host("b").address_v6().to_string() == "fd00::3");
    CHECK(&w.host("a") == &w.host("a"));
    CHECK(w.host("a").name() == "a");
    CHECK(w.address_of("b", 80).to_string() == "10.0.0.3:80");
    w.run([&]() -> task<> {
        const auto wrong = tcp_listener::try_bind(rondo::endpoint(w.host("a").address(), 80));
        CHECK(wrong.error() == std::errc::address_not_available);
        auto own = tcp_listener::bind(rondo::endpoint(w.host("test").address_v6(), 80));
        auto peer = co_await tcp_stream::connect(own.local());  // an address of its own: without a link
        auto nobody = co_await rondo::attempt(tcp_stream::connect("10.9.9.9", 1));
        CHECK(nobody.error() == std::errc::network_unreachable);
    });
}

TEST_CASE("world: IPv6 between hosts, and IPv4 to a listener for both") {
    world w;
    w.host("srv").run([]() -> task<> {
        auto listener = tcp_listener::bind("::", 7777, {.v6_only = false});
        co_await rondo::serve(listener, test::echo_session);
    });
    w.run([&]() -> task<> {
        for (const auto& address : {w.host("srv").address(), w.host("srv").address_v6()}) {
            auto peer = co_await tcp_stream::connect(rondo::endpoint(address, 7777));
            const std::string got = co_await ask(peer, "x");
            CHECK(got == "x");
        }
    });
}

TEST_CASE("world: loopback stays inside a host") {
    world w;
    const auto program = [](std::string name) -> task<> {
        auto listener = tcp_listener::bind("127.0.0.1", 80);
        auto client = co_await tcp_stream::connect("127.0.0.1", 80);
        auto server = co_await listener.accept();
        co_await server.write_all(name);
        std::string got(name.size(), '?');
        co_await client.read_exactly(std::as_writable_bytes(std::span(got)));
        CHECK(got == name);
    };
    w.host("a").run(program, "one");
    w.host("b").run(program, "two");
    w.run([&]() -> task<> {
        co_await rondo::sleep_for(1s);
        auto refused = co_await rondo::attempt(tcp_stream::connect("127.0.0.1", 80));
        CHECK(refused.error() == std::errc::connection_refused);
        auto not_for_others = co_await rondo::attempt(tcp_stream::connect(w.address_of("a", 80)));
        CHECK(not_for_others.error() == std::errc::connection_refused);
    });
}

TEST_CASE("world: one clock for all, which jumps only when nobody can run") {
    world w;
    test::journal seen;
    const auto program = [&](std::string name, rondo::duration each) -> task<> {
        for (int i = 0; i < 3; ++i) {
            co_await rondo::sleep_for(each);
            for (int k = 0; k < 100; ++k) co_await rondo::immediate();  // a hundred turns take no time
            CHECK(rondo::now().time_since_epoch() == each * (i + 1));
            seen.add(name);
        }
    };
    w.host("slow").run(program, "slow", 20min);
    w.host("fast").run(program, "fast", 15min);
    w.run([&]() -> task<> { co_await rondo::sleep_for(1h); });
    CHECK(seen.text() == "fast slow fast slow fast");  // the sixth is due when the world ends
    CHECK(w.now() == time_point(1h));
}

namespace {

/// Prints its order into `seen`: everything a turn can do.
task<> orderly(test::journal& seen) {
    rondo::loop& l = rondo::this_loop();
    l.set_timeout(0ms, seen.note("timer"));
    l.set_immediate(seen.note("immediate"));
    l.next_tick(seen.note("tick"));
    l.queue_microtask(seen.note("microtask"));
    l.set_immediate([&] {
        seen.add("first");
        l.queue_microtask(seen.note("after-first"));
    });
    l.set_immediate(seen.note("second"));
    l.queue_close(seen.note("close"));
    co_await rondo::sleep_for(0ms);
    seen.add("slept");
    co_await rondo::immediate();
    seen.add("end");
}

}  // namespace

TEST_CASE("world: a host's loop keeps the order that it has alone") {
    test::journal alone;
    rondo::loop_options options;
    options.kind = rondo::backend_kind::sim;
    rondo::run(options, orderly, std::ref(alone));

    test::journal hosted;
    world w;
    w.host("a").run(orderly, std::ref(hosted));
    w.run([]() -> task<> { co_await rondo::sleep_for(1s); });
    CHECK(hosted.text() == alone.text());

    test::journal main;
    world v;
    v.run(orderly, std::ref(main));
    CHECK(main.text() == alone.text());
}

TEST_CASE("world: a host that computes holds up nobody else") {
    world w;
    time_point other{};
    w.host("busy").run([]() -> task<> {
        co_await rondo::sleep_for(1s);
        rondo::this_loop().spin(10s);
        CHECK(rondo::now() == time_point(11s));
        co_await rondo::sleep_for(0s);
        CHECK(rondo::now() == time_point(11s));
    });
    w.host("other").run([&]() -> task<> {
        co_await rondo::sleep_for(2s);
        other = w.now();
    });
    w.run([]() -> task<> { co_await rondo::sleep_for(20s); });
    CHECK(other == time_point(2s));
}

TEST_CASE("world: what a program throws ends the run, and says where") {
    world w;
    w.host("bad").run([]() -> task<> {
        co_await rondo::sleep_for(1s);
        throw std::runtime_error("broken");
    });
    const std::string what = message_of([&] { w.run([]() -> task<> { co_await rondo::sleep_for(1h); }); });
    CHECK(what == "broken");
    CHECK(w.now() == time_point(1s));
    CHECK(w.failed_host().find("bad") == 0);

    world v;
    CHECK_THROWS_AS(v.run([]() -> task<> {
        co_await rondo::yield();
        throw std::out_of_range("scenario");
    }),
                    std::out_of_range);
}

TEST_CASE("world: a failure from outside ends it after the step") {
    bool failed = false;
    rondo::world_options options;
    options.failed = [](void* f) { return *static_cast<bool*>(f); };
    options.context = &failed;
    world w(options);
    CHECK_THROWS_AS(w.run([&]() -> task<> {
        co_await rondo::sleep_for(1s);
        failed = true;
        co_await rondo::sleep_for(1s);
        FAIL("went on");
    }),
                    rondo::io_error);
    CHECK(w.ended_early());
}

TEST_CASE("world: a deadlock is told with the tasks of all hosts") {
    world w;
    const std::string what =
        message_of([&] { with_peer(w, [](tcp_stream& peer) -> task<> { co_await peer.receive(); }); });
    CHECK(what.find("deadlock at 0.00") == 0);
    CHECK(what.find("host 'test'") != std::string::npos);
    CHECK(what.find("read fd 1000000 10.0.0.2:7777") != std::string::npos);
    CHECK(what.find("host 'srv'") != std::string::npos);
    CHECK(what.find("waits: accept on") != std::string::npos);
    CHECK(what.find("\n    task 1") != std::string::npos);
    CHECK(what.find("\n    └─ world_test.cpp:") != std::string::npos);
    CHECK(what.back() != '\n');
}

TEST_CASE("world: a live-lock is told with the busiest tasks") {
    rondo::world_options options;
    options.step_limit = 20'000;
    world w(options);
    w.host("a").run([]() -> task<> {
        for (;;) co_await rondo::yield();
    });
    w.host("b").run([]() -> task<> {
        for (;;) co_await rondo::sleep_for(1ms);
    });
    const std::string what = message_of([&] { w.run([]() -> task<> { co_await rondo::sleep_for(1s); }); });
    CHECK(what.find("live-lock: 20000 steps") == 0);
    CHECK(what.find("host 'a', task 1: ") != std::string::npos);
    CHECK(what.find("world_test.cpp") != std::string::npos);

    world endless(options);  // time passes, and there is no end all the same
    CHECK_THROWS_AS(endless.run([]() -> task<> {
        for (;;) co_await rondo::sleep_for(1h);
    }),
                    rondo::livelock_error);
}

TEST_CASE("world: a storm of ticks or microtasks is a live-lock, too") {
    // The step in which it runs never ended, so that nobody looked at the limit.
    const auto storm_of = [](void (*again)(), const char* place) {
        rondo::world_options options;
        options.step_limit = 20'000;
        world w(options);
        w.host("a").run([again]() -> task<> {
            again();
            co_await rondo::sleep_for(1h);
        });
        const std::string what = message_of([&] { w.run([]() -> task<> { co_await rondo::sleep_for(1s); }); });
        CHECK(what.find("live-lock: 20000 steps") == 0);
        CHECK(what.find(place) != std::string::npos);
        CHECK(w.steps() < 2'000'000);
    };
    struct storm {
        static void ticks() {
            rondo::this_loop().next_tick([] { ticks(); });
        }
        static void microtasks() {
            rondo::this_loop().queue_microtask([] { microtasks(); });
        }
        static void tasks() {
            rondo::spawn([]() -> task<> {
                for (;;) co_await rondo::microtask();
            }).discard();
        }
    };
    storm_of(&storm::ticks, "host 'a', microtask or tick: ");
    storm_of(&storm::microtasks, "host 'a', microtask or tick: ");
    storm_of(&storm::tasks, "host 'a', task 2: ");
}

TEST_CASE("world: a live-lock of very many tasks is told in time that grows with their number") {
    rondo::world_options options;
    options.step_limit = 200'000;
    world w(options);
    w.host("a").run([]() -> task<> {
        const auto sleeper = []() -> task<> {
            for (;;) co_await rondo::sleep_for(0ms);
        };
        for (int i = 0; i < 20'000; ++i) rondo::spawn(sleeper).discard();
        co_await rondo::sleep_for(1h);
    });
    const std::string what = message_of([&] { w.run([]() -> task<> { co_await rondo::sleep_for(1s); }); });
    CHECK(what.find("live-lock: 200000 steps") == 0);
    CHECK(w.steps() < 300'000);  // those that were counted included
}

TEST_CASE("world: a descriptor that is left is a leak") {
    std::optional<tcp_listener> kept;
    const std::string what = message_of([&] {
        world w;
        w.run([&]() -> task<> {
            kept = tcp_listener::bind("0.0.0.0", 1);
            co_return;
        });
    });
    CHECK(what.find("host 'test': 1 descriptors") != std::string::npos);
}

TEST_CASE("world: a task that does not end when it is cancelled is a leak") {
    world w;
    w.host("a").run([]() -> task<> {
        const auto forever = []() -> task<> {
            auto one = tcp_listener::bind("0.0.0.0", 1);
            auto never = co_await one.accept();
        };
        co_await rondo::shield(forever);
    });
    const std::string what = message_of([&] { w.run([]() -> task<> { co_await rondo::sleep_for(1s); }); });
    CHECK(what.find("do not end") != std::string::npos);
    CHECK(what.find("accept on") != std::string::npos);
}

TEST_CASE("world: a detached permit that nobody gives back is a leak, unless its host was killed") {
    const auto borrow = [](rondo::semaphore& of) -> task<> {
        auto permit = co_await of.acquire();
        permit.detach();
        co_await rondo::sleep_for(1h);
        of.release();  // a cancel does not come here
    };
    const auto program = [borrow]() -> task<> {
        rondo::semaphore seats(3, "seats");
        co_await borrow(seats);
    };
    const std::string what = message_of([&] {
        world w;
        w.host("a").run(program);
        w.run([]() -> task<> { co_await rondo::sleep_for(1s); });
    });
    CHECK(what == "permits that nobody gave back: 1 of semaphore 'seats'");

    world patient;
    patient.host("a").run(program);
    patient.run([]() -> task<> { co_await rondo::sleep_for(2h); });

    world crashing;
    crashing.host("a").run(program);
    crashing.run(
        [](world& w) -> task<> {
            co_await rondo::sleep_for(1s);
            w.host("a").crash();
        },
        std::ref(crashing));
}

// Calls into another host.

TEST_CASE("world: on() runs a function on another host and gives its result") {
    world w;
    w.run([&]() -> task<> {
        const int sum = co_await w.on(
            w.host("a"),
            [](int x, int y) -> task<int> {
                co_await rondo::sleep_for(1s);
                auto listener = tcp_listener::bind("0.0.0.0", 80);
                CHECK(listener.local().port() == 80);
                co_return x + y;
            },
            2, 3);
        CHECK(sum == 5);
        CHECK(w.now() == time_point(1s));
        std::string error;
        try {
            co_await w.on(w.host("a"), []() -> task<> {
                co_await rondo::yield();
                throw std::runtime_error("over there");
            });
        } catch (const std::runtime_error& e) {
            error = e.what();
        }
        CHECK(error == "over there");
    });
}

TEST_CASE("world: on() that is cancelled cancels the function, and waits for it") {
    world w;
    bool unwound = false;
    w.run([&]() -> task<> {
        const auto slow = [&]() -> task<> {
            const auto there = [&]() -> task<> {
                struct note {
                    bool& to;
                    ~note() { to = true; }
                } mark{unwound};
                co_await rondo::sleep_for(1h);
            };
            co_await w.on(w.host("a"), there);
        };
        const bool in_time = co_await rondo::move_on_after(1s, slow);
        CHECK_FALSE(in_time);
        CHECK(unwound);
        CHECK(w.now() == time_point(1s));
    });
}

// Crash and restart.

TEST_CASE("world: a host that crashes resets its connections, and its program unwinds without effect") {
    world w;
    int unwound = 0;
    w.host("srv").run([&]() -> task<> {
        struct note {
            int& to;
            ~note() { ++to; }
        } mark{unwound};
        auto listener = tcp_listener::bind("0.0.0.0", 7777);
        auto peer = co_await listener.accept();
        try {
            co_await peer.receive();
        } catch (const rondo::cancelled&) {
            CHECK(peer.try_write_some("never sent"sv).error() == std::errc::network_down);
            throw;
        }
    });
    exact(w, "test", "srv");
    w.run([&]() -> task<> {
        auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
        co_await rondo::sleep_for(1s);
        w.host("srv").crash();
        CHECK(unwound == 1);
        CHECK_FALSE(w.host("srv").up());
        CHECK(w.host("srv").descriptors() == 0);
        std::byte one[16];
        auto got = co_await rondo::attempt(peer.read_some(one));
        CHECK(got.error() == std::errc::connection_reset);
        CHECK(w.now() == time_point(1s + 3ms));  // connect took two

        w.host("srv").restart();
        auto again = co_await tcp_stream::connect(w.address_of("srv", 7777));
        w.host("srv").crash();
    });
    CHECK(unwound == 2);
}

TEST_CASE("world: power that is cut is silence; a write is answered once the host is up again") {
    world w;
    w.host("srv").run(echo_server);
    exact(w, "test", "srv");
    w.run([&]() -> task<> {
        auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
        co_await ask(peer, "x");
        w.host("srv").crash(crash_mode::silent);
        std::byte one[16];
        const auto read = [&]() -> task<> { co_await peer.read_some(one); };
        const bool answered = co_await rondo::move_on_after(1h, read);
        CHECK_FALSE(answered);  // whoever only reads never knows

        w.host("srv").restart();
        co_await rondo::sleep_for(1s);
        co_await peer.write_all("x");
        auto got = co_await rondo::attempt(peer.read_some(one));
        CHECK(got.error() == std::errc::connection_reset);
    });
}

TEST_CASE("world: who writes to a host without power gives up after a quarter of an hour") {
    world w;
    with_peer(w, [&](tcp_stream& peer) -> task<> {
        w.host("srv").crash(crash_mode::silent);
        const time_point start = w.now();
        co_await peer.write_all("x");
        std::byte one[16];
        auto got = co_await rondo::attempt(peer.read_some(one));
        CHECK(got.error() == std::errc::timed_out);
        CHECK(w.now() - start > 900s);
        CHECK(w.now() - start < 1000s);
    });
}

TEST_CASE("world: connecting to a host that is down times out after two minutes") {
    world w;
    w.run([&]() -> task<> {
        w.host("srv").crash(crash_mode::silent);
        auto got = co_await rondo::attempt(tcp_stream::connect(w.address_of("srv", 7777)));
        CHECK(got.error() == std::errc::timed_out);
        CHECK(w.now() > time_point(120s));
        CHECK(w.now() < time_point(130s));
    });
}

TEST_CASE("world: a host may crash itself, in the middle of a step") {
    world w;
    test::journal seen;
    w.host("a").run([&]() -> task<> {
        seen.add("begin");
        auto listener = tcp_listener::bind("0.0.0.0", 1);
        co_await rondo::sleep_for(1s);
        w.host("a").crash();
        CHECK_FALSE(w.host("a").up());
        const auto dead = tcp_listener::try_bind("0.0.0.0", 2);
        CHECK(dead.error() == std::errc::network_down);
        co_await rondo::yield();
        seen.add("went-on");
    });
    w.run([&]() -> task<> {
        co_await rondo::sleep_for(2s);
        CHECK_FALSE(w.host("a").up());
        w.host("a").restart();
        co_await rondo::sleep_for(2s);
    });
    CHECK(seen.text() == "begin begin");
}

namespace {
/// Does something when its frame goes.
struct on_the_way_out {
    std::function<void()> act;
    ~on_the_way_out() { act(); }
};
}  // namespace

TEST_CASE("world: what unwinds after a crash may crash hosts, also its own and the one that crashed it") {
    world w;
    int gone = 0;
    const auto victim = [&]() -> task<> {
        const on_the_way_out last{[&] {
            w.host("victim").crash();
            w.host("other").crash();
            w.host("villain").crash();
            w.host("made while it unwinds");
            CHECK_FALSE(w.host("victim").up());
            w.host("victim").restart();  // no effect: it is not down yet
            ++gone;
        }};
        co_await rondo::sleep_for(1h);
    };
    const auto other = [&]() -> task<> {
        const on_the_way_out last{[&] { ++gone; }};
        co_await rondo::sleep_for(1h);
    };
    w.host("victim").run(victim);
    w.host("other").run(other);
    w.host("villain").run([&]() -> task<> {
        co_await rondo::sleep_for(1ms);
        w.host("victim").crash();
        CHECK(gone == 2);
        co_await rondo::sleep_for(1h);
    });
    w.run([&]() -> task<> {
        co_await rondo::sleep_for(1s);
        CHECK_FALSE(w.host("victim").up());
        CHECK_FALSE(w.host("other").up());
        CHECK_FALSE(w.host("villain").up());
        CHECK(gone == 2);
    });
}

TEST_CASE("world: what a crashed program still waits for ends at once, in no time of the world") {
    world w;
    bool done = false;
    w.host("a").run([&]() -> task<> {
        try {
            co_await rondo::sleep_for(1h);
        } catch (const rondo::cancelled&) {
            done = true;
        }
        const auto farewell = [&]() -> task<> { co_await rondo::sleep_for(1h); };
        co_await rondo::shield(farewell);
    });
    w.run([&]() -> task<> {
        co_await rondo::sleep_for(1s);
        w.host("a").crash();
        CHECK(done);
        CHECK(w.host("a").tasks() == 0);
        CHECK(w.now() == time_point(1s));
    });
}

TEST_CASE("world: a call on a host that crashes is cancelled") {
    world w;
    w.run([&]() -> task<> {
        auto crash = rondo::spawn([&]() -> task<> {
            co_await rondo::sleep_for(1s);
            w.host("a").crash();
        });
        const auto forever = []() -> task<> { co_await rondo::sleep_for(1h); };
        std::error_code error;
        try {
            co_await w.on(w.host("a"), forever);
        } catch (const std::system_error& e) {
            error = e.code();
        }
        CHECK(error == std::errc::operation_canceled);
        co_await crash;
    });
}

TEST_CASE("world: a host that crashes while it waits for a call on another gives it up") {
    // The unwinding waited for a task of a loop that did not turn meanwhile, and the program was aborted.
    world w;
    bool went_on = false, ended = false, called_late = false;
    const auto slow_to_end = [&]() -> task<> {
        const auto farewell = []() -> task<> { co_await rondo::sleep_for(1min); };
        try {
            co_await rondo::sleep_for(1h);
            went_on = true;
        } catch (const rondo::cancelled&) {
            ended = true;
        }
        co_await rondo::shield(farewell);
    };
    const auto calls = [&]() -> task<> { co_await w.on(w.host("b"), slow_to_end); };
    const auto late = [&]() -> task<> {
        called_late = true;
        co_return;
    };
    const auto calls_at_its_end = [&]() -> task<> {
        const auto call = [&]() -> task<> { co_await w.on(w.host("b"), late); };
        try {
            co_await rondo::sleep_for(1h);
        } catch (const rondo::cancelled&) {
        }
        co_await rondo::shield(call);
    };
    w.run([&]() -> task<> {
        w.host("a").run(calls).run(calls_at_its_end);
        co_await rondo::sleep_for(1s);
        w.host("a").crash();
        CHECK(!w.host("a").up());
        CHECK(w.now() == time_point(1s));
        co_await rondo::sleep_for(1s);
        CHECK(ended);
        CHECK(w.host("b").tasks() == 1);  // it says its farewell
        co_await rondo::sleep_for(2min);
        CHECK(w.host("b").tasks() == 0);
        CHECK(!called_late);
    });
    CHECK(!went_on);
}

TEST_CASE("world: a host that has called another and crashes itself gives it up") {
    world w;
    const auto forever = []() -> task<> { co_await rondo::sleep_for(1h); };
    const auto calls = [&]() -> task<> { co_await w.on(w.host("b"), forever); };
    w.run([&]() -> task<> {
        w.host("a").run(calls).run([&]() -> task<> {
            co_await rondo::sleep_for(1s);
            w.host("a").crash();
        });
        co_await rondo::sleep_for(2s);
        CHECK(!w.host("a").up());
        CHECK(w.host("b").tasks() == 0);
    });
}

TEST_CASE("world: a failure ends calls on other hosts before those who wait for them") {
    // The scenario's tasks were unwound first, and waited for what nobody ran any more.
    world w;
    const auto failed = [&] {
        w.run([&]() -> task<> {
            const auto forever = []() -> task<> { co_await rondo::sleep_for(1h); };
            auto call = rondo::spawn([&]() -> task<> { co_await w.on(w.host("a"), forever); });
            co_await rondo::sleep_for(1s);
            throw std::runtime_error("enough");
        });
    };
    CHECK(message_of(failed) == "enough");
    CHECK(w.host("a").tasks() == 0);
}

TEST_CASE("world: a crash at any moment frees all, and a restarted server serves") {
    int answered = 0;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        CAPTURE(seed);
        rondo::seeded_oracle decisions(seed);
        const std::size_t frames = rondo::detail::frames_live();
        {
            world w(decided_by(decisions));
            w.host("srv").run(echo_server);
            w.run([&]() -> task<> {
                for (int i = 0; i < 5; ++i) {
                    const auto session = [&]() -> task<> {
                        try {
                            auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
                            for (int k = 0; k < 10; ++k) {
                                const std::string got = co_await ask(peer, "0123456789");
                                if (got.size() < 10) co_return;
                                CHECK(got == "0123456789");
                                ++answered;
                            }
                        } catch (const std::system_error&) {
                        }
                    };
                    // A client that has written all, and only reads, never hears of a power cut.
                    auto client = rondo::spawn([&]() -> task<> { co_await rondo::move_on_after(1min, session); });
                    const auto while_asking = std::chrono::microseconds(1 + w.choose(50'000));
                    co_await rondo::sleep_for(while_asking);
                    w.host("srv").crash(w.choose(2) == 0 ? crash_mode::reset : crash_mode::silent);
                    w.host("srv").restart();
                    co_await client;
                }
                co_await rondo::sleep_for(1s);
                auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
                const std::string got = co_await ask(peer, "alive");
                CHECK(got == "alive");
            });
        }
        CHECK(rondo::detail::frames_live() == frames);
    }
    CHECK(answered > 500);
}

// Signals, and what the process may have.

namespace {

/// A server that tells its end.
task<> told_server(int& ended, rondo::delay grace) {
    auto listener = tcp_listener::bind("0.0.0.0", 7777);
    rondo::serve_options options;
    options.grace = grace;
    co_await rondo::serve(listener, test::echo_session, options);
    ++ended;
}

/// What the process does with signals.
std::vector<void (*)(int)> dispositions() {
    std::vector<void (*)(int)> all;
    for (const int signal : {SIGINT, SIGTERM, SIGQUIT}) {
        struct sigaction at{};
        sigaction(signal, nullptr, &at);
        all.push_back(at.sa_handler);
    }
    return all;
}

}  // namespace

TEST_CASE("world: a server is stopped by a signal at any moment, and its sessions drain") {
    const auto usual = dispositions();
    for (const int signal : {SIGTERM, SIGINT}) {
        for (int at = 0; at < 60; ++at) {
            CAPTURE(at);
            rondo::seeded_oracle decisions(static_cast<std::uint64_t>(at));
            world w(decided_by(decisions));
            int ended = 0;
            auto& srv = w.host("srv").run(told_server, std::ref(ended), 1h);
            w.run([&]() -> task<> {
                bool is_session = false;
                auto client = rondo::spawn([&]() -> task<> {
                    try {
                        auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
                        const std::string first = co_await ask(peer, "first");
                        is_session = first == "first";
                        if (!is_session) co_return;  // it waited in the queue when the listener was closed
                        for (int i = 0; i < 10; ++i) {
                            const std::string answer = co_await ask(peer, "ping");
                            CHECK(answer == "ping");
                        }
                        CHECK(ended == 0);
                    } catch (const std::system_error&) {
                        CHECK_FALSE(is_session);  // it came too late
                    }
                });
                const auto moment = at * 500us;
                co_await rondo::sleep_for(moment);
                CHECK(dispositions() == usual);  // what its host has is not the process's
                srv.signal(signal);
                co_await client;
                co_await rondo::sleep_for(1s);
                CHECK(ended == srv.up());  // it was not up yet, or ended by itself
                CHECK(srv.descriptors() == 0);
                CHECK(srv.tasks() == 0);
            });
            if (at > 0) CHECK(ended == 1);
        }
    }
    CHECK(dispositions() == usual);
}

TEST_CASE("world: a second signal cancels the sessions of a server; one that comes twice at once is one") {
    const auto second_signal = [](bool at_once) {
        world w;
        int ended = 0;
        auto& srv = w.host("srv").run(told_server, std::ref(ended), 1h);
        exact(w, "test", "srv");
        w.run([&]() -> task<> {
            auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
            co_await ask(peer, "first");
            const time_point asked = w.now();
            srv.signal(SIGTERM);
            srv.signal(at_once ? SIGINT : SIGTERM);
            if (!at_once) {
                co_await rondo::sleep_for(30min);
                CHECK(ended == 0);
                const std::string answer = co_await ask(peer, "second");
                CHECK(answer == "second");
                srv.signal(SIGTERM);
            }
            auto end = co_await peer.receive();
            CHECK(end.empty());
            CHECK(w.now() == asked + (at_once ? 1ms : 30min + 3ms));
            CHECK(ended == 1);
        });
    };
    second_signal(false);
    second_signal(true);
}

TEST_CASE("world: sessions that outlast the grace are cancelled, to the nanosecond") {
    world w;
    int ended = 0;
    auto& srv = w.host("srv").run(told_server, std::ref(ended), 10s);
    exact(w, "test", "srv");
    w.run([&]() -> task<> {
        auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
        co_await ask(peer, "x");
        const time_point asked = w.now();
        srv.signal(SIGINT);
        auto end = co_await peer.receive();
        CHECK(end.empty());
        CHECK(w.now() == asked + 10s + 1ms);
        CHECK(ended == 1);
    });
}

TEST_CASE("world: a signal that nobody watches does what it does by default") {
    world w;
    int begun = 0;
    auto& a = w.host("a").run([&]() -> task<> {
        ++begun;
        co_await rondo::sleep_for(1h);
    });
    w.run([&]() -> task<> {
        co_await rondo::sleep_for(1ms);
        for (const int ignored : {SIGCHLD, SIGCONT, SIGURG, SIGWINCH}) a.signal(ignored);
        co_await rondo::sleep_for(1ms);
        CHECK(a.up());
        for (const int none : {0, -1, 65, SIGSTOP, SIGTSTP}) CHECK_THROWS_AS(a.signal(none), rondo::io_error);
        CHECK(a.up());
        int times = 1;
        for (const int deadly : {SIGTERM, SIGINT, SIGKILL, SIGHUP, SIGUSR1}) {
            a.signal(deadly);
            CHECK_FALSE(a.up());
            a.signal(deadly);  // nobody is there
            a.restart();
            co_await rondo::sleep_for(1ms);
            CHECK(begun == ++times);
        }
    });
    // A program that signals itself ends when its step has ended.
    world other;
    bool went_on = false;
    other.host("a").run([&]() -> task<> {
        other.host("a").signal(SIGTERM);
        went_on = true;
        co_await rondo::sleep_for(1h);
    });
    other.run([&]() -> task<> {
        co_await rondo::sleep_for(1ms);
        CHECK(went_on);
        CHECK_FALSE(other.host("a").up());
    });
}

TEST_CASE("world: SIGKILL asks nobody, and what cannot be caught cannot be watched") {
    world w;
    int ended = 0;
    auto& srv = w.host("srv").run(told_server, std::ref(ended), 1h);
    w.run([&]() -> task<> {
        co_await rondo::sleep_for(1ms);
        CHECK_THROWS_AS(rondo::dump_on_signal(SIGKILL, srv.loop()), rondo::io_error);
        CHECK_THROWS_AS(rondo::dump_on_signal(65, srv.loop()), rondo::io_error);
        srv.signal(SIGKILL);
        CHECK_FALSE(srv.up());
        CHECK(ended == 0);
    });
}

TEST_CASE("world: a thousand servers are one run, whatever the process may have") {
    // Each took one of 32 places for real signal handlers, and its limit of sessions from the process.
    const auto hash_of = [](rlim_t descriptors, int servers) {
        rlimit usual{};
        getrlimit(RLIMIT_NOFILE, &usual);
        const rlimit lowered{std::min(descriptors, usual.rlim_max), usual.rlim_max};
        setrlimit(RLIMIT_NOFILE, &lowered);
        rondo::seeded_oracle decisions(7);
        world w(decided_by(decisions));
        int ended = 0;
        const auto name = [](int i) { return "srv" + std::to_string(i); };
        for (int i = 0; i < servers; ++i) w.host(name(i)).run(told_server, std::ref(ended), 1h);
        w.run([&]() -> task<> {
            const auto client = [&](std::string_view to) -> task<> {
                auto peer = co_await tcp_stream::connect(w.address_of(to, 7777));
                co_await ask(peer, "ping");
                co_await rondo::sleep_for(10ms);
            };
            const auto all = [&](rondo::task_group& g) -> task<> {
                for (int i = 0; i < 40; ++i) g.spawn(client, std::string_view("srv0")).discard();
                g.spawn(client, std::string_view("srv9")).discard();
                co_return;
            };
            co_await rondo::with_task_group(all);
            for (int i = 0; i < servers; ++i) w.host(name(i)).signal(SIGTERM);
            co_await rondo::sleep_for(1s);
            CHECK(ended == servers);
        });
        setrlimit(RLIMIT_NOFILE, &usual);
        return w.hash();
    };
    CHECK(hash_of(20, 1000) == hash_of(1'000'000, 1000));
    CHECK(hash_of(20, 40) != hash_of(20, 41));
}

TEST_CASE("world: how many sessions a server has follows from the descriptors of its host") {
    world w;
    w.host("srv").descriptor_limit(10).run(echo_server);
    w.run([&]() -> task<> {
        int answered = 0;
        const auto client = [&]() -> task<> {
            auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
            co_await ask(peer, "ping");
            ++answered;
            co_await rondo::sleep_for(1h);
        };
        std::vector<rondo::task_handle<>> clients;
        for (int i = 0; i < 20; ++i) clients.push_back(rondo::spawn(client));
        co_await rondo::sleep_for(1s);
        CHECK(answered == 8);
        for (auto& each : clients) each.cancel();
    });
}

// Clocks.

TEST_CASE("world: a clock that drifts is late or early, and its calendar may be wrong") {
    world w;
    std::map<std::string, rondo::duration> woke;
    const auto sleeper = [&](std::string name) -> task<> {
        co_await rondo::sleep_for(10s);
        woke[name] = w.now().time_since_epoch();
        CHECK(rondo::now() == time_point(10s));
    };
    w.host("right").run(sleeper, "right");
    w.host("fast").clock_drift(100'000).run(sleeper, "fast");
    w.host("slow").clock_drift(-200'000).run(sleeper, "slow");
    w.host("wrong").clock_offset(-24h);
    w.run([&]() -> task<> {
        co_await rondo::sleep_for(1min);
        CHECK(rondo::detail::scheduler::of(w.host("test").loop()).io().wall_now() == 946'684'860'000'000'000);
        CHECK(rondo::detail::scheduler::of(w.host("wrong").loop()).io().wall_now() ==
              946'684'860'000'000'000 - 86'400'000'000'000);
        CHECK(rondo::detail::scheduler::of(w.host("fast").loop()).io().now() == time_point(66s));
        CHECK(rondo::detail::scheduler::of(w.host("slow").loop()).io().now() == time_point(48s));
        w.host("fast").clock_drift(0);  // it does not jump back
        CHECK(rondo::detail::scheduler::of(w.host("fast").loop()).io().now() == time_point(66s));
    });
    CHECK(woke["right"] == 10s);
    CHECK(woke["fast"] == rondo::duration(9'090'909'091));
    CHECK(woke["slow"] == 12'500ms);
}

TEST_CASE("world: frozen time stands still until it is advanced") {
    world w;
    int ticks = 0;
    w.host("a").run([&]() -> task<> {
        for (;;) {
            co_await rondo::sleep_for(100ms);
            ++ticks;
        }
    });
    w.run([&]() -> task<> {
        const auto frozen = w.freeze_time();
        co_await w.advance(99ms);
        CHECK(ticks == 0);
        co_await w.advance(1ms);  // what is due then has happened when it returns
        CHECK(ticks == 1);
        CHECK(w.now() == time_point(100ms));
        for (int i = 0; i < 10; ++i) co_await w.wait_all_blocked();
        CHECK(w.now() == time_point(100ms));
        co_await w.advance(10s);
        CHECK(ticks == 101);
    });

    world stuck;
    const std::string what = message_of([&] {
        stuck.run([&]() -> task<> {
            const auto frozen = stuck.freeze_time();
            co_await rondo::sleep_for(1ms);
        });
    });
    CHECK(what.find("time is frozen") != std::string::npos);
}

TEST_CASE("world: wait_all_blocked returns when no host can go on without time") {
    world w;
    bool done = false;
    w.host("a").run([&]() -> task<> {
        for (int i = 0; i < 5000; ++i) co_await rondo::yield();
        done = true;
        co_await rondo::sleep_for(1s);
        done = false;
    });
    w.run([&]() -> task<> {
        co_await w.wait_all_blocked();
        CHECK(done);
        CHECK(w.now() == time_point{});
        const auto wait = [&]() -> task<> { co_await w.advance(1h); };  // can be cancelled
        const bool over = co_await rondo::move_on_after(10ms, wait);
        CHECK_FALSE(over);
        CHECK(w.now() == time_point(10ms));
    });
}

// Links.

TEST_CASE("world: a partition holds back what is sent, and heals when it goes") {
    world w;
    with_peer(w, [&](tcp_stream& peer) -> task<> {
        const time_point start = w.now();
        std::string got;
        {
            const auto cut = w.partition({"test"}, {"srv"});
            const auto in_vain = [&]() -> task<> {
                co_await peer.write_all("hello");
                got.resize(5);
                co_await peer.read_exactly(std::as_writable_bytes(std::span(got)));
            };
            const bool answered = co_await rondo::move_on_after(1s, in_vain);
            CHECK_FALSE(answered);
        }
        got.resize(5);
        co_await peer.read_exactly(std::as_writable_bytes(std::span(got)));
        CHECK(got == "hello");
        CHECK(w.now() - start == 1402ms);  // sent at 0, 200, 600, 1400 ms
    });
}

TEST_CASE("world: a partition heals although hosts were made while it lasted") {
    // It remembered where its links lay, in a table that moved when a host was made.
    world w;
    w.host("srv").run(echo_server);
    auto settings = w.link("srv", "test");
    std::optional<rondo::partition_guard> cut(w.partition({"srv"}, {"test"}));
    for (int i = 0; i < 100; ++i) w.host("host" + std::to_string(i));
    settings.latency(1ms);
    w.run([&]() -> task<> {
        for (int i = 100; i < 200; ++i) w.host("host" + std::to_string(i));
        CHECK(cut.has_value());
        cut->heal();
        const time_point before = w.now();
        auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
        CHECK(w.now() == before + 2ms);
        const std::string answer = co_await ask(peer, "healed");
        CHECK(answer == "healed");
    });
}

TEST_CASE("world: a partition that lasts is a time-out for who writes") {
    world w;
    with_peer(w, [&](tcp_stream& peer) -> task<> {
        const auto cut = w.partition({"test"}, {"srv"});
        co_await peer.write_all("hello");
        std::byte one[8];
        auto got = co_await rondo::attempt(peer.read_some(one));
        CHECK(got.error() == std::errc::timed_out);
    });
}

TEST_CASE("world: when only answers are cut, the other side hears all, and the writer learns nothing") {
    world w;
    std::string heard;
    w.host("srv").run([&]() -> task<> {
        auto listener = tcp_listener::bind("0.0.0.0", 7777);
        auto peer = co_await listener.accept();
        std::byte part[64];
        for (;;) {
            auto n = co_await rondo::attempt(peer.read_some(part));
            if (!n || *n == 0) break;
            heard += test::as_text(std::span(part).first(*n));
        }
    });
    exact(w, "test", "srv");
    w.run([&]() -> task<> {
        auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
        const auto cut = w.partition_from({"srv"}, {"test"});
        co_await peer.write_all("hello");
        co_await rondo::sleep_for(10ms);
        CHECK(heard == "hello");
        std::byte one[8];
        auto got = co_await rondo::attempt(peer.read_some(one));
        CHECK(got.error() == std::errc::timed_out);  // no acknowledgement came
        CHECK(heard == "hello");                     // and nothing arrived twice
    });
}

TEST_CASE("world: rules decide about packets, the first that does not pass") {
    world w;
    int syns = 0;
    const auto lose_two = w.rule([&](const rondo::packet_info& p) {
        if (p.what != rondo::packet_info::kind::syn) return verdict::pass();
        CHECK(p.from.name() == "test");
        CHECK(p.to.name() == "srv");
        CHECK(p.destination.port() == 7777);
        CHECK(p.attempt == syns);
        return ++syns <= 2 ? verdict::drop() : verdict::pass();
    });
    std::optional slow(w.rule([&](const rondo::packet_info& p) {
        return p.size > 0 && p.to.name() == "srv" ? verdict::hold(5s) : verdict::pass();
    }));
    const auto late = w.rule([](const rondo::packet_info& p) {
        return p.size > 0 && p.to.name() == "srv" ? verdict::drop() : verdict::pass();
    });
    with_peer(w, [&](tcp_stream& peer) -> task<> {
        CHECK(syns == 3);
        CHECK(w.now() == time_point(3s + 2ms));  // after one second, and two more
        co_await ask(peer, "x");
        CHECK(w.now() == time_point(8s + 4ms));
        slow.reset();
        const auto lost = [&]() -> task<> { co_await ask(peer, "y"); };
        const bool answered = co_await rondo::move_on_after(1s, lost);
        CHECK_FALSE(answered);
        w.heal_all();
        std::byte one[1];
        const std::size_t n = co_await peer.read_exactly(one);
        CHECK(n == 1);
    });
}

TEST_CASE("world: a rule may make hosts, end itself and others, make new ones and heal, while it judges") {
    // Packets are judged in the middle of a step: what the network was about to use must not go.
    const auto ends_itself = [](int what) {
        CAPTURE(what);
        world w;
        std::vector<rondo::packet_rule> rules;
        int asked = 0;
        int others = 0;
        std::string copied = "in memory that is freed with the rule, too long for the string itself";
        with_peer(w, [&](tcp_stream& peer) -> task<> {
            rules.push_back(w.rule([&, copied](const rondo::packet_info&) {
                ++asked;
                for (int i = 0; i < 50; ++i) w.host("made" + std::to_string(what) + "_" + std::to_string(i));
                if (what == 0) rules.clear();
                if (what == 1) w.heal_all();
                if (what == 2 && asked == 1)
                    rules.push_back(w.rule([&](const rondo::packet_info&) { return ++others, verdict::pass(); }));
                return copied.empty() ? verdict::drop() : verdict::pass();
            }));
            if (what != 2)
                rules.push_back(w.rule([&](const rondo::packet_info&) { return ++others, verdict::pass(); }));
            for (int i = 0; i < 3; ++i) {
                const std::string answer = co_await ask(peer, "ping");
                CHECK(answer == "ping");
            }
            rules.clear();
        });
        CHECK(asked == (what == 2 ? 6 : 1));
        CHECK(others == (what == 2 ? 6 : 0));
    };
    for (int what = 0; what < 3; ++what) ends_itself(what);
}

TEST_CASE("world: what a rule throws ends the run") {
    world w;
    const auto refuse = [](const rondo::packet_info&) -> verdict { throw std::runtime_error("a rule's own bug"); };
    const std::string what = message_of([&] {
        const auto rule = w.rule(refuse);
        w.host("srv").run(echo_server);
        w.run([&]() -> task<> { auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777)); });
    });
    CHECK(what == "a rule's own bug");
}

TEST_CASE("world: latencies, delays and clocks without an end are the end of time") {
    world w;
    w.host("srv").run(echo_server);
    w.host("far").clock_drift(500'000).clock_offset(rondo::duration::max());
    w.link("srv", "test").latency(std::chrono::hours::max()).reordering(percent(100));
    const auto held = w.rule([](const rondo::packet_info&) { return verdict::hold(std::chrono::hours::max()); });
    const auto past = [](const rondo::packet_info&) { return verdict::hold(-1h); };
    w.run([&]() -> task<> {
        const auto connects = [&](std::string_view to) -> task<> {
            auto peer = co_await tcp_stream::connect(w.address_of(to, 7777));
        };
        const bool connected = co_await rondo::move_on_after(1h, [&] { return connects("srv"); });
        CHECK_FALSE(connected);
        w.heal_all();
        const auto never_early = w.rule(past);
        w.link("srv", "test").latency(1ms);
        const time_point before = w.now();
        co_await connects("srv");
        CHECK(w.now() == before + 2ms);
        CHECK(rondo::detail::scheduler::of(w.host("far").loop()).io().wall_now() ==
              std::numeric_limits<std::int64_t>::max());
    });
}

TEST_CASE("world: whatever links do, a stream loses nothing and keeps its order") {
    std::set<std::uint64_t> hashes;
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        CAPTURE(seed);
        rondo::seeded_oracle decisions(seed);
        world w(decided_by(decisions));
        w.host("srv").run(echo_server);
        w.link("test", "srv")
            .latency(1ms, 50ms)
            .loss(percent(10))
            .duplication(percent(10))
            .reordering(percent(10))
            .packet_size(1000 + static_cast<std::uint32_t>(seed) * 200);
        w.run([&]() -> task<> {
            auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
            const test::bytes sent = test::make_pattern(seed, 0, 200'000);
            auto writer = rondo::spawn([&]() -> task<> {
                co_await peer.write_all(sent);
                peer.shutdown();
            });
            const test::bytes got = co_await test::read_to_end(peer);
            co_await writer;
            CHECK(got.size() == sent.size());
            CHECK(got == sent);
        });
        hashes.insert(w.hash());
    }
    CHECK(hashes.size() == 60);
}

TEST_CASE("world: a link of limited bandwidth takes its time") {
    world w;
    w.host("srv").run([]() -> task<> {
        auto listener = tcp_listener::bind("0.0.0.0", 7777);
        auto peer = co_await listener.accept();
        const test::bytes all = test::make_pattern(1, 0, 1'000'000);
        co_await peer.write_all(all);
    });
    w.link("test", "srv").latency(1ms).bandwidth(100'000).packet_size(1460);
    w.run([&]() -> task<> {
        auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
        const test::bytes got = co_await test::read_to_end(peer);
        CHECK(test::is_pattern(got, 1));
        CHECK(w.now() > time_point(10s));
        CHECK(w.now() < time_point(11s));  // 40 bytes of header in 1500
    });
}

TEST_CASE("world: over a link, too: back-pressure, half-close, refused, reset") {
    world w;
    w.host("srv").run([]() -> task<> {
        auto listener = tcp_listener::bind("0.0.0.0", 7777);
        auto slow = co_await listener.accept();
        co_await rondo::sleep_for(10s);
        const test::bytes all = co_await test::read_to_end(slow);
        CHECK(test::is_pattern(all, 2));
        co_await slow.write_all("still here");  // it was only half closed
        co_await slow.close();
        auto rude = co_await listener.accept();
        rude.reset_on_close();
        co_await rude.close();
    });
    exact(w, "test", "srv");
    w.run([&]() -> task<> {
        auto refused = co_await rondo::attempt(tcp_stream::connect(w.address_of("srv", 1)));
        CHECK(refused.error() == std::errc::connection_refused);
        auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
        const test::bytes all = test::make_pattern(2, 0, 1'000'000);
        co_await peer.write_all(all);
        CHECK(w.now() > time_point(10s));  // nobody read before
        peer.shutdown();
        const test::bytes got = co_await test::read_to_end(peer);
        CHECK(test::as_text(got) == "still here");
        auto other = co_await tcp_stream::connect(w.address_of("srv", 7777));
        std::byte one[1];
        auto end = co_await rondo::attempt(other.read_some(one));
        CHECK(end.error() == std::errc::connection_reset);
    });
}

// Shortages.

TEST_CASE("world: a host may run out of descriptors") {
    world w;
    w.host("srv").descriptor_limit(3).run(echo_server);
    w.host("test").descriptor_limit(6);
    w.run([&]() -> task<> {
        std::vector<tcp_stream> peers;
        for (int i = 0; i < 6; ++i) peers.push_back(co_await tcp_stream::connect(w.address_of("srv", 7777)));
        auto more = co_await rondo::attempt(tcp_stream::connect(w.address_of("srv", 7777)));
        CHECK(more.error() == std::errc::too_many_files_open);
        for (int i = 0; i < 6; ++i) {  // the server goes on with two at a time
            const std::string got = co_await ask(peers.front(), "x");
            CHECK(got == "x");
            peers.erase(peers.begin());
        }
    });
}

TEST_CASE("world: a server lives with what its machine lacks") {
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
        CAPTURE(seed);
        rondo::seeded_oracle decisions(seed);
        world w(decided_by(decisions));
        w.host("srv").run(echo_server);
        w.run([&]() -> task<> {
            co_await rondo::sleep_for(1ms);
            w.host("srv").lack_descriptors(one_in(5)).lack_buffers(one_in(5)).abort_connections(one_in(5));
            int answered = 0;
            for (int i = 0; i < 30; ++i) {
                try {
                    auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
                    const std::string got = co_await ask(peer, "x");
                    answered += got == "x";
                } catch (const std::system_error& e) {
                    CHECK(e.code() == std::errc::connection_reset);
                }
            }
            CHECK(answered > 15);
            CHECK(answered < 30);
        });
    }
}

namespace {

/// 'a' is sent, and 'b' 1 ms later; the server reads one byte, and looks at once whether there is another. Whether
/// there was.
bool next_byte_is_there(world& w) {
    bool there = false;
    exact(w, "test", "srv", 5ms);
    w.host("srv").run([&]() -> task<> {
        auto listener = tcp_listener::bind("0.0.0.0", 7777);
        auto peer = co_await listener.accept();
        std::byte one[1];
        co_await peer.read_exactly(one);
        const auto next = peer.try_read_some(one);
        there = next.has_value();
        co_await rondo::sleep_for(1h);
    });
    w.run([&]() -> task<> {
        auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
        co_await peer.write_all("a");
        co_await rondo::sleep_for(1ms);
        co_await peer.write_all("b");
        co_await rondo::sleep_for(1s);
    });
    return there;
}

}  // namespace

TEST_CASE("world: what arrives while a slow host computes is there at its next call") {
    rondo::seeded_oracle decisions(1);
    for (const bool slow : {false, true}) {
        world w(decided_by(decisions));
        w.link("test", "srv");
        if (slow) w.host("srv").slow(percent(100), 10ms);
        CHECK(next_byte_is_there(w) == slow);
    }
    world benign;
    benign.host("srv").slow(percent(100), 10ms);
    CHECK_FALSE(next_byte_is_there(benign));
}

TEST_CASE("world: a slow host makes no other one late, nor who moves the clock") {
    rondo::seeded_oracle decisions(1);
    world w(decided_by(decisions));
    w.host("srv").run(echo_server).slow(percent(100), 1s);
    int ticks = 0;
    w.host("other").run([&]() -> task<> {
        for (time_point next = rondo::now() + 3ms;; next += 3ms) {
            co_await rondo::sleep_until(next);
            CHECK(rondo::now() == next);
            ++ticks;
        }
    });
    w.run([&]() -> task<> {
        auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
        for (int i = 0; i < 10; ++i) {
            const std::string got = co_await ask(peer, "x");
            CHECK(got == "x");
            const time_point before = w.now();
            co_await w.advance(5ms);
            CHECK(w.now() - before == 5ms);
        }
    });
    CHECK(ticks > 10);
}

TEST_CASE("world: no host is slow while time is frozen") {
    rondo::seeded_oracle decisions(1);
    world w(decided_by(decisions));
    w.host("srv").slow(percent(100), 1s);
    w.run([&]() -> task<> {
        const auto frozen = w.freeze_time();
        const time_point before = w.now();
        const auto calls = []() -> task<> {
            for (int i = 0; i < 10; ++i) {
                auto listener = tcp_listener::bind("0.0.0.0", 0);
                co_await rondo::yield();
            }
        };
        co_await w.on(w.host("srv"), calls);
        CHECK(w.now() == before);
    });
}

TEST_CASE("world: some hosts are slow where slow hosts are asked for, but never the one of the scenario") {
    int late = 0;
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        for (const char* name : {"srv", "test"}) {
            rondo::seeded_oracle decisions(seed);
            rondo::world_options options = decided_by(decisions);
            options.slow_hosts = true;
            world w(options);
            w.run([&]() -> task<> {
                const auto calls = []() -> task<> {
                    for (int i = 0; i < 100; ++i) {
                        auto listener = tcp_listener::bind("0.0.0.0", 0);
                        co_await rondo::yield();
                    }
                };
                if (name == "srv"sv)
                    co_await w.on(w.host("srv"), calls);
                else
                    co_await calls();
            });
            if (w.now() == time_point{}) continue;
            CHECK(name == "srv"sv);
            ++late;
        }
    }
    CHECK(late > 20);  // of 40: three in four are slow
    CHECK(late < 40);
}

TEST_CASE("world: connections that come at once are all accepted, or reset") {
    // Behind one that vanished, the others stayed in the queue for ever.
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
        CAPTURE(seed);
        rondo::seeded_oracle decisions(seed);
        world w(decided_by(decisions));
        w.host("srv").run(echo_server);
        w.link("test", "srv").latency(1ms);
        w.run([&]() -> task<> {
            co_await rondo::sleep_for(1ms);
            w.host("srv").abort_connections(percent(50));
            const auto visit = [&]() -> task<> {
                try {
                    auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
                    const std::string got = co_await ask(peer, "x");
                    CHECK(got == "x");
                } catch (const std::system_error& e) {
                    CHECK(e.code() == std::errc::connection_reset);
                }
            };
            const auto at_once = [&](rondo::task_group& group) -> task<> {
                for (int i = 0; i < 4; ++i) group.spawn(visit).discard();
                co_return;
            };
            const bool over = co_await rondo::move_on_after(1min, [&] { return rondo::with_task_group(at_once); });
            CHECK(over);
        });
    }
}

// Decisions.

TEST_CASE("world: a seed is a run, and without an oracle there is only one") {
    const auto hash = [](rondo::oracle* decisions, rondo::order mode) {
        rondo::world_options options;
        options.decisions = decisions;
        options.mode = mode;
        world w(options);
        w.host("srv").run(echo_server);
        w.link("srv", "test").loss(percent(5));
        w.run([&]() -> task<> {
            auto one = rondo::spawn([&]() -> task<> {
                auto peer = co_await tcp_stream::connect(w.address_of("srv", 7777));
                for (int i = 0; i < 20; ++i) co_await ask(peer, std::to_string(i));
            });
            auto two = co_await tcp_stream::connect(w.address_of("srv", 7777));
            for (int i = 0; i < 20; ++i) co_await ask(two, "0123456789");
            co_await one;
        });
        return w.hash();
    };
    const std::uint64_t plain = hash(nullptr, rondo::order::spec);
    CHECK(hash(nullptr, rondo::order::spec) == plain);
    std::set<std::uint64_t> seen{plain};
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        rondo::seeded_oracle one(seed);
        rondo::seeded_oracle two(seed);
        const std::uint64_t first = hash(&one, rondo::order::spec);
        CHECK(hash(&two, rondo::order::spec) == first);
        seen.insert(first);
    }
    CHECK(seen.size() == 21);
}

TEST_CASE("world: chaos lets ready tasks run in any order, spec never") {
    const auto order_of = [](std::uint64_t seed, rondo::order mode) {
        rondo::seeded_oracle decisions(seed);
        rondo::world_options options = decided_by(decisions);
        options.mode = mode;
        world w(options);
        test::journal seen;
        w.run([&]() -> task<> {
            std::vector<rondo::task_handle<>> all;
            for (int i = 0; i < 4; ++i)
                all.push_back(rondo::spawn(
                    [&](int n) -> task<> {
                        seen.add(std::to_string(n));
                        co_await rondo::yield();
                        seen.add(std::to_string(n));
                    },
                    i));
            for (auto& t : all) co_await t;
        });
        return seen.text();
    };
    std::set<std::string> chaos;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        CHECK(order_of(seed, rondo::order::spec) == "0 1 2 3 0 1 2 3");
        chaos.insert(order_of(seed, rondo::order::chaos));
        CHECK(order_of(seed, rondo::order::chaos) == order_of(seed, rondo::order::chaos));
    }
    CHECK(chaos.size() > 20);
}

namespace {

struct counting_observer final : rondo::world_observer {
    struct of_a_host final : rondo::observer {
        void on(const rondo::loop_event& e) noexcept override {
            phases += e.kind == rondo::loop_event_kind::phase;
            steps += e.kind == rondo::loop_event_kind::step;
            ends += e.kind == rondo::loop_event_kind::step_end;
        }
        int phases = 0;
        int steps = 0;
        int ends = 0;
    };
    rondo::observer* observer_of(const rondo::host& h) noexcept override { return &hosts[h.name()]; }
    void on_packet(packet what, const rondo::packet_info& p, time_point) noexcept override {
        if (what == packet::lost) lost.add(rondo::name_of(p.what));
        if (what == packet::arrived) ++arrived;
    }
    void on_event(event what, const rondo::host* of, time_point) noexcept override {
        constexpr const char* names[] = {"started", "crashed", "cut", "healed", "stopped"};
        events.add(names[static_cast<int>(what)] + (of != nullptr ? ":" + of->name() : std::string()));
    }
    int arrived = 0;
    std::map<std::string, of_a_host> hosts;
    test::journal lost;
    test::journal events;
};

}  // namespace

TEST_CASE("world: an observer sees steps, packets and events, and changes nothing") {
    counting_observer seen;
    std::uint64_t hashes[2];
    for (int i = 0; i < 2; ++i) {
        rondo::world_options options;
        options.observer = i == 0 ? nullptr : &seen;
        world w(options);
        const auto lose_syn = w.rule([](const rondo::packet_info& p) {
            return p.what == rondo::packet_info::kind::syn && p.attempt == 0 ? verdict::drop() : verdict::pass();
        });
        with_peer(w, [&](tcp_stream& peer) -> task<> {
            co_await ask(peer, "x");
            w.host("srv").crash();
            {
                const auto cut = w.partition({"test"}, {"srv"});
            }
        });
        hashes[i] = w.hash();
    }
    CHECK(hashes[0] == hashes[1]);
    const auto& [test, srv] = std::tie(seen.hosts["test"], seen.hosts["srv"]);
    CHECK(test.steps > 0);
    CHECK(srv.steps > 0);
    CHECK(test.ends == test.steps);
    CHECK(srv.ends == srv.steps);
    CHECK(test.phases + srv.phases > 10);
    CHECK(seen.arrived >= 5);
    CHECK(seen.lost.text() == "syn");
    CHECK(seen.events.text() == "started:test started:srv crashed:srv cut healed stopped:test");
}
