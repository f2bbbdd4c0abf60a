// The promises of order, as design and docs/order.md state them.
#include "support/test.hpp"

#include <functional>
#include <limits>
#include <string>
#include <thread>

#include <poll.h>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

// The phases in the order of a turn, from callbacks on a plain loop.
TEST_CASE("order: ticks, then microtasks, then the phases in libuv's order") {
    loop l;
    journal j;
    l.set_timeout(0ms, j.note("timer"));
    l.set_immediate(j.note("immediate"));
    l.queue_close(j.note("close"));
    watcher idle = l.on_idle([&] { j.add("idle"), idle.cancel(); });
    watcher prepare = l.on_prepare([&] { j.add("prepare"), prepare.cancel(); });
    watcher check = l.on_check([&] { j.add("check"), check.cancel(); });
    l.queue_microtask(j.note("microtask"));
    l.next_tick(j.note("tick"));
    CHECK(l.remote().post(j.note("post")));
    l.spin(1ms);
    l.run();
    CHECK(j.text() == "tick microtask timer post idle prepare check immediate close");
}

TEST_CASE("order: all ticks before any microtask, and all microtasks before a tick they queue") {
    loop l;
    journal j;
    l.queue_microtask([&] {
        j.add("m1");
        l.next_tick(j.note("t-m1"));
        l.queue_microtask(j.note("m1.1"));
    });
    l.next_tick([&] {
        j.add("t1");
        l.queue_microtask(j.note("m-t1"));
        l.next_tick(j.note("t1.1"));
    });
    l.queue_microtask(j.note("m2"));
    l.run();
    CHECK(j.text() == "t1 t1.1 m1 m2 m-t1 m1.1 t-m1");
}

TEST_CASE("order: the queues drain after every callback of a phase, not once per phase") {
    loop l;
    journal j;
    for (const char* name : {"1", "2", "3"}) {
        const std::string n = name;
        l.set_timeout(0ms, [&, n] {
            j.add("T" + n);
            l.queue_microtask(j.note("m" + n));
            l.next_tick(j.note("t" + n));
        });
        l.set_immediate([&, n] {
            j.add("i" + n);
            l.queue_microtask(j.note("n" + n));
        });
    }
    l.run();
    CHECK(j.text() == "T1 t1 m1 T2 t2 m2 T3 t3 m3 i1 n1 i2 n2 i3 n3");
}

TEST_CASE("order: an immediate made in an immediate waits a turn; a cleared one does not run") {
    loop l;
    journal j;
    immediate_handle second;
    l.set_immediate([&] {
        j.add("i1");
        second.cancel();
        l.set_immediate(j.note("i1.1"));
        l.set_timeout(0ms, j.note("T"));
    });
    second = l.set_immediate(j.note("i2"));
    l.set_immediate(j.note("i3"));
    l.run();
    CHECK(j.text() == "i1 i3 T i1.1");
}

TEST_CASE("order: close callbacks run newest first, and one asked for in the phase waits a turn") {
    loop l;
    journal j;
    l.queue_close([&] {
        j.add("c1");
        l.queue_close(j.note("c3"));
        l.set_immediate(j.note("i"));
    });
    l.queue_close(j.note("c2"));
    l.run();
    CHECK(j.text() == "c2 c1 i c3");
}

TEST_CASE("timers: by deadline, then by creation; one made in the phase waits for the next") {
    loop l;
    journal j;
    l.set_timeout(2ms, j.note("2a"));
    l.set_timeout(1ms, [&] {
        j.add("1");
        l.set_timeout(-5ms, j.note("new"));
        l.set_immediate(j.note("imm"));
    });
    l.set_timeout(2ms, j.note("2b"));
    l.set_timeout(0ms, j.note("0"));
    l.spin(5ms);
    l.run();
    CHECK(j.text() == "0 1 2a 2b imm new");
}

TEST_CASE("timers: a due timer that an earlier one cancels does not run") {
    loop l;
    journal j;
    timer b;
    l.set_timeout(1ms, [&] { j.add("A"), b.cancel(); });
    b = l.set_timeout(1ms, j.note("B"));
    l.set_timeout(1ms, j.note("C"));
    l.run();
    CHECK(j.text() == "A C");
    CHECK(!b.active());
    CHECK(l.stats().timers == 0);
}

TEST_CASE("timers: an interval counts from the start of its callback and skips what it missed") {
    loop l;
    std::vector<long> at;
    timer every;
    const time_point start = l.now();
    every = l.set_interval(10ms, [&] {
        at.push_back(static_cast<long>((l.now() - start) / 1ms));
        if (at.size() == 2) l.spin(35ms);  // misses three
        if (at.size() == 5) every.cancel();
    });
    l.run();
    REQUIRE(at.size() == 5);
    if (test::on_sim()) CHECK(at == std::vector<long>{10, 20, 55, 65, 75});
    for (std::size_t i = 1; i < at.size(); ++i) CHECK(at[i] - at[i - 1] >= 10);
}

TEST_CASE("timers: rearm starts anew, also after firing, and goes behind its equals") {
    loop l;
    journal j;
    timer t = l.set_timeout(20ms, j.note("t"));
    l.set_timeout(10ms, [&] { t.rearm(10ms); });  // due at 20 ms, now the youngest
    l.set_timeout(20ms, [&] { j.add("u"); });
    l.run();
    CHECK(j.text() == "u t");
    t.rearm();
    CHECK(t.active());
    l.run();
    CHECK(j.text() == "u t t");
}

TEST_CASE("timers: the handle of a cancelled timer is harmless when its loop is gone") {
    timer cancelled, fired, live;
    watcher stopped;
    immediate_handle done;
    {
        loop l;
        cancelled = l.set_timeout(1h, [] {});
        cancelled.cancel();
        fired = l.set_timeout(0ms, [] {});
        live = l.set_timeout(1h, [] {});
        live.unref();
        stopped = l.on_idle([] {});
        stopped.cancel();
        done = l.set_immediate([] {});
        l.run();
    }
    loop other;  // perhaps at the address of the first
    int ran = 0;
    other.set_timeout(0ms, [&] {
        ++ran;
        for (timer* t : {&cancelled, &fired, &live}) {
            t->rearm(0ms);
            t->rearm();
            t->cancel();
            t->ref();
            t->unref();
            CHECK(!t->active());
        }
        stopped.start();
        CHECK(!stopped.active());
        done.unref();
        done.cancel();
    });
    other.run();
    CHECK(ran == 1);
    cancelled.rearm(0ms);
    stopped.start();
    other.run();
    CHECK(other.stats().timers == 0);
}

TEST_CASE("timers: an interval waits one nanosecond at least, whatever it was given") {
    // Virtual time stood still: it was due again at the same moment, for ever.
    const delay too_short[] = {0ms, -5ms, std::chrono::duration<double>(std::numeric_limits<double>::quiet_NaN())};
    for (const bool again : {false, true}) {
        for (const delay period : too_short) {
            loop l;
            const time_point begun = l.now();
            int runs = 0;
            timer every = l.set_interval(again ? delay(1h) : period, [&] {
                ++runs;
                CHECK(l.now() >= begun + runs * 1ns);
            });
            if (again) every.rearm(period);
            bool over = false;
            l.set_timeout(1us, [&] {
                over = true;
                every.cancel();
            });
            l.run();
            CHECK(over);
            CHECK(runs >= 1);
            CHECK(runs <= (l.now() - begun).count());
        }
    }
    // A timeout, and one that is armed anew, may be due at once.
    loop l;
    int left = 3;
    timer once = l.set_timeout(-1ms, [&] {
        if (--left > 0) once.rearm(0ms);
    });
    l.run();
    CHECK(left == 0);
}

TEST_CASE("timers: an interval is active while its callback runs, and may cancel or drop itself there") {
    loop l;
    int count = 0;
    timer every = l.set_interval(1ms, [&] {
        CHECK(every.active());
        CHECK(l.alive());
        if (++count == 3) every.cancel();
        CHECK(every.active() == (count < 3));
    });
    l.run();
    CHECK(count == 3);
    every.rearm(1ms);  // again, with a last call
    count = 2;
    l.run();
    CHECK(count == 3);

    struct owner {
        timer self;
    };
    auto held = std::make_shared<owner>();
    held->self = l.set_interval(1ms, [held = held] {
        held->self.cancel();
        held->self = {};  // the last handle: the callable must outlive its own call
    });
    held.reset();
    l.run();
    CHECK(l.stats().timers == 0);
}

TEST_CASE("handles: unref, cancel and start again keep the count of what keeps the loop alive") {
    loop l;
    int turns = 0;
    watcher w = l.on_check([&] { ++turns; });
    for (int i = 0; i < 3; ++i) {
        w.cancel();
        CHECK(!l.alive());
        w.start();
        CHECK(l.alive());
        w.unref();
        CHECK(!l.alive());
        w.ref();
        CHECK(l.alive());
    }
    w.cancel();
    w.unref();
    w.start();
    CHECK(!l.alive());
    w.cancel();

    timer t = l.set_timeout(1h, [] {});
    t.unref();
    CHECK(!l.alive());
    t.cancel();
    CHECK(!l.alive());
    t.rearm(1h);
    CHECK(!l.alive());
    t.rearm(2h);
    t.ref();
    CHECK(l.alive());
    t.cancel();
    CHECK(!l.alive());
    t.unref();
    t.ref();
    CHECK(!l.alive());
    immediate_handle i = l.set_immediate([] {});
    i.unref();
    CHECK(!l.alive());
    i.cancel();
    i.ref();
    CHECK(!l.alive());
    l.run();
    CHECK(l.why_alive().empty());
}

TEST_CASE("handles: what a callable's destructor starts while the loop dies is dropped as well") {
    int dropped = 0;
    struct starter {
        loop* of;
        int* dropped;
        int depth;
        starter(loop* l, int* d, int n) : of(l), dropped(d), depth(n) {}
        starter(starter&& other) noexcept
            : of(std::exchange(other.of, nullptr)), dropped(other.dropped), depth(other.depth) {}
        ~starter() {
            if (of == nullptr) return;
            ++*dropped;
            if (depth > 0) of->set_timeout(1h, starter(of, dropped, depth - 1));
        }
        void operator()() {}
    };
    {
        loop l;
        l.set_timeout(1h, starter(&l, &dropped, 3));
        l.set_immediate(starter(&l, &dropped, 2));
    }
    CHECK(dropped == 7);
}

TEST_CASE("timers: negative is now, huge is never, and nothing overflows") {
    loop l;
    journal j;
    using std::chrono::hours;
    const timer endless = l.set_timeout(hours::max(), j.note("endless"));
    const timer minutes = l.set_timeout(std::chrono::minutes::max(), j.note("endless"));
    const timer almost = l.set_timeout(duration::max() - 1ns, j.note("endless"));
    const timer past = l.set_timeout(duration::min(), j.note("past"));
    const timer floating = l.set_timeout(std::chrono::duration<double>(1e300), j.note("endless"));
    const timer nan = l.set_timeout(std::chrono::duration<double>(0.0 / 0.0), j.note("nan"));
    const timer long_one = l.set_timeout(std::chrono::milliseconds(1LL << 32), j.note("endless"));
    l.run_nowait();
    CHECK(j.text() == "past nan");
    CHECK(endless.active());
    CHECK(delay(hours::max()).after(l.now()) == never);
    CHECK(delay(-1ns).after(l.now()) == l.now());
    CHECK(l.stats().timers == 5);
}

TEST_CASE("timers: a timer of zero that re-arms itself does not starve the other phases") {
    loop l;
    journal j;
    int turns = 0;
    timer self;
    self = l.set_timeout(0ms, [&] {
        if (++turns < 5) self.rearm(0ms);
    });
    l.set_immediate(j.note("immediate"));
    l.set_immediate([&] { CHECK(turns == 1); });
    l.run();
    CHECK(turns == 5);
    CHECK(j.text() == "immediate");
}

TEST_CASE("timers: a million live ones, most of them cancelled, fire in order") {
    loop l;
    constexpr int count = 1'000'000;
    std::vector<timer> all;
    all.reserve(count);
    std::uint64_t state = 7;
    time_point last{};
    int fired = 0;
    bool in_order = true;
    for (int i = 0; i < count; ++i) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        const duration after{static_cast<std::int64_t>(state >> 34)};  // up to 1 s
        const time_point due = delay(after).after(l.now());
        all.push_back(l.set_timeout(after, [&, due] {
            in_order = in_order && due >= last;
            last = due;
            ++fired;
        }));
    }
    CHECK(l.stats().timers == count);
    for (int i = 0; i < count; ++i)
        if (i % 10 != 0) all[static_cast<std::size_t>(i)].cancel();
    CHECK(l.stats().timers == count / 10);
    all.clear();
    l.spin(2s);
    l.run();
    CHECK(fired == count / 10);
    CHECK(in_order);
}

TEST_CASE("alive: unreferenced callbacks run if the loop turns anyway, and hold nothing") {
    loop l;
    journal j;
    timer early = l.set_timeout(1ms, j.note("early"));
    timer late = l.set_timeout(1h, j.note("late"));
    immediate_handle i = l.set_immediate(j.note("imm"));
    early.unref();
    late.unref();
    i.unref();
    CHECK(!l.alive());
    l.run();
    CHECK(j.text() == "");
    l.spin(2ms);  // early is due, however slow this machine is
    l.set_timeout(200ms, j.note("holder"));
    l.run();
    CHECK(j.text() == "early imm holder");
    CHECK(late.active());
    late.ref();
    late.rearm(1ms);
    CHECK(l.alive());
    l.run();
    CHECK(j.text() == "early imm holder late");
}

TEST_CASE("alive: why_alive names each thing and the line that made it") {
    loop l;
    CHECK(l.why_alive().empty());
    const timer t = l.set_timeout(1s, [] {});
    const unsigned line = __LINE__ - 1;
    const rondo::remote r = l.remote();
    const auto why = l.why_alive();
    REQUIRE(why.size() == 2);
    CHECK(why[0].what.find("timer, due in 1000") == 0);
    CHECK(why[0].place.line() == line);
    CHECK(why[1].what == "1 remote handle");
    CHECK(why[1].place.line() == line + 2);
}

bool lists(const std::vector<alive_entry>& all, std::string_view what, unsigned line) {
    for (const alive_entry& e : all)
        if (e.what.find(what) != std::string::npos && e.place.line() == line &&
            (line == 0 || std::string_view(e.place.file_name()).ends_with("order_test.cpp")))
            return true;
    return false;
}

TEST_CASE("alive: why_alive is not empty while anything is queued, from here or from elsewhere") {
    loop l;
    l.queue_microtask([] {});
    l.next_tick([] {});
    const unsigned line = __LINE__ - 2;
    CHECK(l.alive());
    CHECK(lists(l.why_alive(), "microtask", line));
    CHECK(lists(l.why_alive(), "tick", line + 1));
    l.run();
    CHECK(l.why_alive().empty());
    {
        const rondo::remote r = l.remote();
        CHECK(r.post([] {}));
    }
    CHECK(l.alive());
    CHECK(lists(l.why_alive(), "post from another thread", line + 10));
    l.run();
    CHECK(l.why_alive().empty());
}

TEST_CASE("alive: a task that has not begun is listed with its spawn, whatever its number of arguments") {
    loop l;
    const auto five = [](int, int, int, int, int) -> task<> { co_return; };
    spawn_on(l, five, 1, 2, 3, 4, 5).discard();
    const unsigned line = __LINE__ - 1;
    CHECK(lists(l.why_alive(), "task 1: ready to run", line));
    l.run();
}

TEST_CASE("alive: a socket that is being closed is listed") {
    std::vector<alive_entry> why;
    loop l;
    run_on(
        l,
        [](std::vector<alive_entry>& seen) -> task<> {
            {
                const tcp_listener gone = tcp_listener::bind("127.0.0.1", 0);
            }
            if (this_loop().stats().operations != 0)
                seen = this_loop().why_alive();
            else
                seen.emplace_back().what = "1 socket is being closed";  // this backend was faster
            co_return;
        },
        std::ref(why));
    CHECK(lists(why, "1 socket is being closed", 0));
    CHECK(l.why_alive().empty());
}

TEST_CASE("alive: tasks inside serve are listed, and waits inside the library by the line that led there") {
    std::vector<alive_entry> why;
    unsigned accept_line = 0, serve_line = 0, session_line = 0;
    rondo::run([&]() -> task<> {
        tcp_listener other = tcp_listener::bind("127.0.0.1", 0);
        auto accepting = spawn([&]() -> task<> {
            accept_line = __LINE__ + 1;
            static_cast<void>(co_await other.accept());
        });
        tcp_listener listener = tcp_listener::bind("127.0.0.1", 0);
        auto session = [&](tcp_stream& s) -> task<> {
            session_line = __LINE__ + 1;
            static_cast<void>(co_await s.receive());
        };
        auto server = spawn([&]() -> task<> {
            serve_options options;
            options.stop_on_signals = false;
            serve_line = __LINE__ + 1;
            co_await serve(listener, session, options);
        });
        const tcp_stream client = co_await tcp_stream::connect(listener.local());
        while (session_line == 0) co_await sleep_for(1ms);
        why = this_loop().why_alive();
        server.cancel();
        static_cast<void>(co_await attempt(server));
        accepting.cancel();
        static_cast<void>(co_await attempt(accepting));
    });
    CHECK(lists(why, "accept on", accept_line));
    CHECK(lists(why, "accept on", serve_line));   // the server's acceptor
    CHECK(lists(why, "1 task", serve_line));      // the server, waiting for it
    CHECK(lists(why, "read fd", session_line));
    CHECK(lists(why, "running", 0) == false);
    for (const alive_entry& e : why)
        CHECK(std::string_view(e.place.file_name()).find("lib/") == std::string_view::npos);
}

TEST_CASE("errors: a callback that throws goes to the hook, and the loop goes on") {
    loop l;
    journal j;
    l.on_unhandled(
        [](std::exception_ptr e, std::source_location, void* journal_of) {
            try {
                std::rethrow_exception(e);
            } catch (const std::runtime_error& error) {
                static_cast<journal*>(journal_of)->add(error.what());
            }
        },
        &j);
    l.set_timeout(0ms, [&] {
        l.queue_microtask(j.note("after"));
        throw std::runtime_error("timer!");
    });
    l.queue_microtask([&] { throw std::runtime_error("microtask!"); });
    l.next_tick([&] { throw std::runtime_error("tick!"); });
    l.set_immediate([&] { throw std::runtime_error("immediate!"); });
    l.queue_close([&] { throw std::runtime_error("close!"); });
    l.set_timeout(0ms, j.note("second"));
    l.run();
    CHECK(j.text() == "tick! microtask! timer! after second immediate! close!");
}

TEST_CASE("errors: what the hook throws ends run, after the turn, and the loop can run again") {
    loop l;
    journal j;
    l.on_unhandled([](std::exception_ptr e, std::source_location, void*) { std::rethrow_exception(e); });
    l.set_immediate([] { throw std::runtime_error("stop here"); });
    l.set_immediate(j.note("same turn"));
    CHECK_THROWS_WITH(l.run(), "stop here");
    CHECK(j.text() == "same turn");
    CHECK(!l.running());
    l.set_immediate(j.note("again"));
    l.run();
    CHECK(j.text() == "same turn again");
}

TEST_CASE("errors: what the hook throws again in a turn is logged, so that none is lost") {
    std::string seen;
    set_log_sink(
        [](const log_record& r, void* to) noexcept {
            if (r.level == log_level::debug) return;  // which tasks were left
            CHECK(r.level == log_level::error);
            static_cast<std::string*>(to)->append(r.message).append("|");
        },
        &seen);
    loop l;
    l.on_unhandled([](std::exception_ptr e, std::source_location, void*) { std::rethrow_exception(e); });
    for (const char* name : {"one", "two", "three"}) l.set_immediate([name] { throw std::runtime_error(name); });
    CHECK_THROWS_WITH(l.run(), "one");
    const auto failing_at_the_end = []() -> task<> {
        try {
            co_await sleep_for(1h);
        } catch (const cancelled&) {
        }
        throw std::runtime_error("while unwinding");
    };
    run_on(
        l,
        [](auto child) -> task<> {
            spawn(child).discard();
            spawn(child).discard();
            co_await yield();
        },
        failing_at_the_end);
    set_log_sink(nullptr);
    CHECK(seen.find("nobody can catch it: std::runtime_error: two|") != std::string::npos);
    CHECK(seen.find("nobody can catch it: std::runtime_error: three|") != std::string::npos);
    const std::size_t first = seen.find("while unwinding; at order_test.cpp:");
    CHECK(first != std::string::npos);
    CHECK(seen.find("while unwinding; at order_test.cpp:", first + 1) != std::string::npos);
    CHECK(seen.find("one|") == std::string::npos);
}

TEST_CASE("errors: run inside run is refused, and harms nothing") {
    loop l;
    journal j;
    l.set_immediate([&] {
        CHECK_THROWS_AS(l.run(), std::logic_error);
        CHECK_THROWS_AS(l.run_nowait(), std::logic_error);
        j.add("inner");
    });
    l.set_timeout(1ms, j.note("later"));
    l.run();
    CHECK(j.text() == "inner later");
}

TEST_CASE("run: stop ends it after the turn; run_once and run_nowait make one turn") {
    loop l;
    journal j;
    l.set_immediate([&] { l.stop(), j.add("stop"); });
    l.set_immediate(j.note("same turn"));
    l.set_timeout(1h, j.note("never"));
    l.run();
    CHECK(j.text() == "stop same turn");
    CHECK(l.stopped());
    l.set_immediate(j.note("i"));
    CHECK(l.run_nowait());
    CHECK(j.text() == "stop same turn i");
    const timer soon = l.set_timeout(1ms, j.note("soon"));
    while (soon.active()) l.run_once();
    CHECK(j.text() == "stop same turn i soon");
}

TEST_CASE("embedding: next_deadline tells a foreign loop how long it may wait") {
    loop l;
    CHECK(l.next_deadline() == never);
    const timer t = l.set_timeout(70ms, [] {});
    CHECK(l.next_deadline() == delay(70ms).after(l.now()));
    l.set_immediate([] {});
    CHECK(l.next_deadline() == l.now());
    l.run_nowait();
    CHECK(l.next_deadline() > l.now());
}

TEST_CASE("embedding: a foreign poll() loop drives timers, sockets and posts through poll_fd") {
    if (test::on_sim()) return;  // no descriptor stands for a simulated world
    loop l;
    const int fd = l.poll_fd();
    REQUIRE(fd >= 0);
    bool done = false;
    auto whole = spawn_on(
        l,
        [](bool& finished) -> task<> {
            auto listener = tcp_listener::bind("127.0.0.1", 0);
            auto client = spawn(
                [](endpoint to) -> task<std::string> {
                    auto s = co_await tcp_stream::connect(to);
                    co_await s.write_all("ping");
                    s.shutdown();
                    std::string all;
                    for (;;) {
                        auto piece = co_await s.receive();
                        if (piece.empty()) break;
                        all += piece.text();
                    }
                    co_return all;
                },
                listener.local());
            auto peer = co_await listener.accept();
            std::byte bytes[4];
            const std::size_t n = co_await peer.read_exactly(bytes);
            CHECK(n == 4);
            co_await sleep_for(3ms);
            co_await peer.write_all("pong");
            peer.shutdown();
            const std::string got = co_await client;
            CHECK(got == "pong");
            finished = true;
        },
        std::ref(done));
    bool posted = false;
    // After a turn a post from another thread must make the descriptor readable.
    l.run_nowait();
    std::thread other([&posted, r = l.remote()] { CHECK(r.post([&posted] { posted = true; })); });
    other.join();
    pollfd readable{fd, POLLIN, 0};
    CHECK(poll(&readable, 1, 10'000) == 1);
    for (int turns = 0; turns < 10'000 && (!done || !posted); ++turns) {
        l.run_nowait();
        const time_point until = l.next_deadline();
        l.update_now();
        const auto wait = until == never ? 1000 : std::max<long>(0, (until - l.now() + 999'999ns) / 1ms);
        pollfd p{fd, POLLIN, 0};
        poll(&p, 1, static_cast<int>(wait));
    }
    CHECK(done);
    CHECK(posted);
    CHECK(whole.done());
}

// --- tasks on the same queues ------------------------------------------------------------------------

task<> add_when_started(journal& j, std::string label) {
    j.add(label);
    co_return;
}

TEST_CASE("tasks: spawn queues the child; it starts when the spawner suspends, in order" *
          doctest::test_suite("order")) {
    test::run([]() -> task<> {
        journal j;
        auto a = spawn(add_when_started, std::ref(j), std::string("a"));
        auto b = spawn(add_when_started, std::ref(j), std::string("b"));
        j.add("spawned");
        co_await yield();
        j.add("after");
        CHECK(j.text() == "spawned a b after");
        co_await a;
        co_await b;
    });
}

TEST_CASE("tasks: co_await child() costs no tick") {
    test::run([]() -> task<> {
        journal j;
        this_loop().queue_microtask(j.note("micro"));
        this_loop().next_tick(j.note("tick"));
        co_await add_when_started(j, "child");
        j.add("back");
        CHECK(j.text() == "child back");
        co_await yield();
        CHECK(j.text() == "child back micro");  // the tick waits until the microtasks are done
        co_await immediate();
        CHECK(j.text() == "child back micro tick");
    });
}

task<> note_after(journal& j, std::string label, int kind) {
    if (kind == 0) co_await yield();
    if (kind == 1) co_await microtask();
    if (kind == 2) co_await next_tick();
    if (kind == 3) co_await immediate();
    if (kind == 4) co_await sleep_for(0ms);
    j.add(label);
}

TEST_CASE("tasks: each wait goes on from the queue or phase of its name" * doctest::test_suite("order")) {
    test::run([]() -> task<> {
        journal j;
        std::vector<task_handle<>> all;
        int kind = 0;
        for (const char* name : {"yield", "microtask", "tick", "immediate", "sleep"})
            all.push_back(spawn(note_after, std::ref(j), std::string(name), kind++));
        for (auto& h : all) co_await h;
        // Timers run once before the first turn, and zero is due at once.
        CHECK(j.text() == "yield microtask tick sleep immediate");
    });
}

TEST_CASE("tasks: a completion of a phase is its callback: ticks it queues come before its microtasks") {
    test::run([]() -> task<> {
        journal j;
        loop& l = this_loop();
        co_await sleep_for(1ms);
        l.queue_microtask(j.note("micro"));
        l.next_tick(j.note("tick"));
        co_await immediate();
        CHECK(j.text() == "tick micro");
    });
}

// --- fairness ------------------------------------------------------------------------------------------

task<> yield_until(const bool& stop) {
    while (!stop) co_await yield();
}

TEST_CASE("fairness: tasks that yield for ever do not hold off timers") {
    test::run([]() -> task<> {
        bool stop = false;
        auto a = spawn(yield_until, std::cref(stop));
        auto b = spawn(yield_until, std::cref(stop));
        if (test::on_sim()) {  // virtual time must not move while someone can run
            const time_point before = now();
            for (int i = 0; i < 5000; ++i) co_await yield();
            CHECK(now() == before);
        } else {
            co_await sleep_for(2ms);
        }
        stop = true;
        co_await a;
        co_await b;
        CHECK(this_loop().stats().drains_cut > 0);
    });
}

TEST_CASE("fairness: a tick is never held up by a cut drain") {
    test::run([]() -> task<> {
        bool stop = false;
        journal j;
        auto a = spawn(yield_until, std::cref(stop));
        this_loop().set_timeout(0ms, j.note("timer"));
        co_await yield();
        this_loop().next_tick(j.note("tick"));
        co_await sleep_for(0ns);  // more would never pass on `sim`: someone can always run
        stop = true;
        co_await a;
        CHECK(j.text().find("tick") < j.text().find("timer"));
    });
}

TEST_CASE("fairness: on sim, a loop that spins on immediate() stays at one moment") {
    loop_options simulated;
    simulated.kind = backend_kind::sim;
    rondo::run(simulated, []() -> task<> {
        bool rang = false;
        timer alarm = this_loop().set_timeout(1ms, [&] { rang = true; });
        const time_point before = now();
        for (int i = 0; i < 1000; ++i) co_await immediate();
        CHECK(now() == before);
        CHECK_FALSE(rang);
        this_loop().spin(1ms);  // as if the program had computed
        co_await immediate();
        co_await immediate();
        CHECK(now() == before + 1ms);
        CHECK(rang);
    });
}

TEST_CASE("fairness: a storm of microtasks drains to its end, and is reported (hazard F2)") {
    loop l;
    int left = 1'100'000;
    std::string seen;
    set_log_sink(
        [](const log_record& r, void* to) noexcept {
            static_cast<std::string*>(to)->append(r.message).append(r.place.file_name());
        },
        &seen);
    std::function<void()> again = [&] {
        if (--left > 0) l.queue_microtask([&] { again(); });
    };
    l.queue_microtask([&] { again(); });
    bool timer_ran = false;
    l.set_timeout(0ms, [&] { timer_ran = left == 0; });
    l.run();
    set_log_sink(nullptr);
    CHECK(timer_ran);
    CHECK(l.stats().storms == 1);
    CHECK(seen.find("without a look at timers and I/O; the latest is a callback") != std::string::npos);
    CHECK(seen.ends_with("order_test.cpp"));
}

// --- the limit of steps ------------------------------------------------------------------------------

/// A program that goes on for ever, on `sim`; what it ends with.
struct endless {
    const char* told;  // in the report
    void (*begin)();
    static void ticks() {
        this_loop().next_tick([] { ticks(); });
    }
    static void microtasks() {
        this_loop().queue_microtask([] { microtasks(); });
    }
    static void immediates() {
        this_loop().set_immediate([] { immediates(); });
    }
    static task<> sleeps() {
        for (;;) co_await sleep_for(0ms);
    }
    static task<> is_late() {
        for (;;) co_await sleep_until(now() - 1h);
    }
    static task<> asks_for_microtasks() {
        for (;;) co_await microtask();
    }
    static task<> asks_for_ticks() {
        for (;;) co_await next_tick();
    }
};

std::string ends_with(const std::function<void(const loop_options&)>& program) {
    loop_options options;
    options.kind = backend_kind::sim;
    options.step_limit = 5000;
    try {
        program(options);
    } catch (const livelock_error& e) {
        return e.what();
    }
    return "";
}

TEST_CASE("fairness: on sim a program that goes on for ever ends, and is told who did") {
    // An interval that never lets the clock move, or two retries without a pause, hung without a word.
    const endless programs[] = {
        {"timer: ", [] { this_loop().set_interval(1ns, [] {}); }},
        {"timer: ", [] { this_loop().set_interval(1h, [] {}); }},
        {"callback: ", [] { endless::immediates(); }},
        {"callback: ", [] { this_loop().on_idle([] {}); }},
        {"microtask or tick: ", [] { endless::ticks(); }},
        {"microtask or tick: ", [] { endless::microtasks(); }},
        {"task 2: ", [] { spawn(endless::sleeps).discard(); }},
        {"task 2: ", [] { spawn(endless::is_late).discard(); }},
        {"task 2: ", [] { spawn(endless::asks_for_microtasks).discard(); }},
        {"task 2: ", [] { spawn(endless::asks_for_ticks).discard(); }},
    };
    set_log_level(log_level::error);
    for (const endless& each : programs) {
        CAPTURE(&each - programs);
        bool unwound = false;
        const auto body = [&](const endless& which) -> task<> {
            struct note {
                bool& set;
                ~note() { set = true; }
            };
            const note at_the_end{unwound};
            which.begin();
            co_await event().wait();
        };
        const std::string told = ends_with([&](const loop_options& options) { run(options, body, std::cref(each)); });
        CHECK(told.find("live-lock: ") == 0);
        CHECK(told.find(std::string("\n  ") + each.told) != std::string::npos);
        CHECK(told.find("% of the steps at ") != std::string::npos);
        CHECK(told.find("order_test.cpp") != std::string::npos);
        CHECK(unwound);
    }
    // The same of a loop without tasks; it can run again.
    const std::string told = ends_with([](const loop_options& options) {
        loop l(options);
        int runs = 0;
        timer every = l.set_interval(0ms, [&] { ++runs; });
        CHECK_THROWS_AS(l.run(), livelock_error);
        CHECK(runs > 2000);
        CHECK(runs < 20'000);
        every.cancel();
        l.run();
        bool ran = false;
        l.queue_microtask([&] { ran = true; });
        l.run();
        CHECK(ran);
        l.queue_microtask([] { endless::microtasks(); });
        l.run();
    });
    CHECK(told.find("microtask or tick: 100 % of the steps at ") != std::string::npos);
    set_log_level(log_level::warning);
}

TEST_CASE("fairness: on sim who lets time pass may take a hundred times as many steps") {
    loop_options options;
    options.kind = backend_kind::sim;
    options.step_limit = 1000;
    const auto ticks_for = [](duration d, duration between) -> task<int> {
        int ticks = 0;
        for (const time_point end = now() + d; now() < end; ++ticks) co_await sleep_for(between);
        co_return ticks;
    };
    CHECK(run(options, ticks_for, 200s, 10ms) == 20'000);
    CHECK_THROWS_AS(run(options, ticks_for, 200s, 100us), livelock_error);
    CHECK_THROWS_AS(run(options, ticks_for, 2000s, 10ms), livelock_error);
}

TEST_CASE("fairness: the limit of steps is that of one run, and only on sim") {
    loop_options options;
    options.step_limit = 100;
    const auto takes = [](int steps) -> task<> {
        for (int i = 0; i < steps; ++i) co_await yield();
    };
    for (const backend_kind kind : {backend_kind::sim, backend_kind::epoll}) {
        options.kind = kind;
        loop l(options);
        for (int i = 0; i < 10; ++i) run_on(l, takes, 50);
        if (kind == backend_kind::sim) {
            CHECK_THROWS_AS(run_on(l, takes, 500), livelock_error);
        } else {
            run_on(l, takes, 500);
        }
        run_on(l, takes, 50);
        for (int i = 0; i < 1000; ++i) l.run_nowait();  // who turns it by hand sees what it does
    }
}

}  // namespace
