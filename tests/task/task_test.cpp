// task<T>, spawn, handles, run.
#include "support/net.hpp"

#include <rondo/testing/every_step.hpp>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <stdexcept>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

task<int> number(int n) { co_return n; }
task<std::unique_ptr<int>> owned(int n) { co_return std::make_unique<int>(n); }
task<int&> reference(int& n) { co_return n; }
task<> failing(const char* what) {
    throw std::runtime_error(what);
    co_return;
}
task<std::string> text(std::string s) { co_return s + "!"; }

TEST_CASE("task: gives values, move-only values, references and nothing") {
    CHECK(test::run(number, 7) == 7);
    CHECK(*test::run(owned, 8) == 8);
    int n = 9;
    CHECK(&test::run(reference, std::ref(n)) == &n);
    CHECK(test::run(text, std::string("hello")) == "hello!");
    test::run([]() -> task<> {
        int local = 1;
        int& same = co_await reference(local);
        CHECK(&same == &local);
        const std::unique_ptr<int> p = co_await owned(2);
        CHECK(*p == 2);
    });
}

task<int> through(int depth) {
    if (depth == 0) throw std::out_of_range("deep");
    co_return co_await through(depth - 1);
}

TEST_CASE("task: an exception crosses awaits unchanged") {
    CHECK_THROWS_WITH_AS(test::run(through, 5), "deep", std::out_of_range);
    test::run([]() -> task<> {
        bool caught = false;
        try {
            co_await failing("x");
        } catch (const std::runtime_error& e) {
            caught = std::string(e.what()) == "x";
        }
        CHECK(caught);
    });
}

[[gnu::noinline]] task<int> ready(int n) { co_return n; }

task<long> many_awaits(int n) {
    long sum = 0;
    for (int i = 0; i < n; ++i) sum += co_await ready(1);
    co_return sum;
}

TEST_CASE("task: ten million synchronous awaits use no stack") {
    CHECK(test::run(many_awaits, 10'000'000) == 10'000'000);
}

task<long> chain(int depth) {
    if (depth == 0) {
        co_await yield();
        co_return 0;
    }
    co_return 1 + co_await chain(depth - 1);
}

// It was a swap: the one that was moved from held the other coroutine, and could run it.
TEST_CASE("task: move assignment ends what was there before, and leaves nothing behind") {
    struct local {
        static task<int> give(std::shared_ptr<int> n) { co_return *n; }
        static async_generator<int> count(std::shared_ptr<int> n) {
            for (;;) co_yield *n;
        }
    };
    test::run([]() -> task<> {
        const auto one = std::make_shared<int>(1), two = std::make_shared<int>(2);
        task<int> a = local::give(one);
        const int first = co_await a;
        CHECK(first == 1);
        task<int> b = local::give(two);
        a = std::move(b);
        CHECK(one.use_count() == 1);
        CHECK(b.is_none());
        const int second = co_await a;
        CHECK(second == 2);

        async_generator<int> c = local::count(one), d = local::count(two);
        int* value = co_await c.next();
        CHECK(*value == 1);
        c = std::move(d);
        CHECK(one.use_count() == 1);
        value = co_await c.next();
        CHECK(*value == 2);
    });
}

TEST_CASE("task: a chain of 100,000 awaits suspends and returns") { CHECK(test::run(chain, 100'000) == 100'000); }

task<long> throwing_awaits(int n) {
    long caught = 0;
    for (int i = 0; i < n; ++i) {
        try {
            co_await failing("again");
        } catch (const std::runtime_error&) {
            ++caught;
        }
    }
    co_return caught;
}

TEST_CASE("task: a hundred thousand throwing awaits use no stack") {
    CHECK(test::run(throwing_awaits, 100'000) == 100'000);
}

TEST_CASE("task: a chain of tasks that nobody awaits is dropped without a stack that grows with it") {
    struct local {
        static task<> passes_on(task<> inner) { co_await std::move(inner); }
        static task<> nothing_to_do() { co_return; }
    };
    const std::size_t before = detail::frames_live();
    const bool debug = std::exchange(detail::debug_enabled, false);  // which would name the first of them
    {
        task<> t = local::nothing_to_do();
        for (int i = 0; i < 200'000; ++i) t = local::passes_on(std::move(t));
        t.drop();
        t = local::passes_on(local::nothing_to_do());
    }
    detail::debug_enabled = debug;
    CHECK(detail::frames_live() == before);
}

TEST_CASE("task: attempt of a reference refers to the same thing") {
    static int there = 7;
    struct local {
        static task<int&> find(bool known) {
            co_await rondo::yield();
            if (!known) throw std::system_error(std::make_error_code(std::errc::no_such_process));
            co_return there;
        }
        static task<> body() {
            auto found = co_await attempt(find(true));
            CHECK(&*found == &there);
            auto lost = co_await attempt(find(false));
            CHECK(lost.error() == std::errc::no_such_process);
            CHECK_THROWS_AS(lost.value(), std::system_error);
        }
    };
    run(local::body);
}

TEST_CASE("result: value_or copies from a result that has a name, and moves out of another") {
    const result<std::string> named(std::string("there"));
    CHECK(named.value_or("nothing") == "there");
    CHECK(named.value_or("nothing") == "there");
    const result<std::string> failed(std::errc::broken_pipe);
    CHECK(failed.value_or("nothing") == "nothing");
    result<std::unique_ptr<int>> owned(std::make_unique<int>(7));
    CHECK(*std::move(owned).value_or(nullptr) == 7);
}

TEST_CASE("result: an assignment that throws leaves a failure, and destroys nothing twice") {
    struct fragile {
        explicit fragile(int* l) : live(l) { ++*live; }
        fragile(fragile&& other) : live(other.live) {
            if (other.armed) throw std::runtime_error("moved");
            ++*live;
        }
        ~fragile() { --*live; }
        int* live;
        bool armed = false;
    };
    int live = 0;
    {
        result<fragile> a{fragile(&live)}, b{fragile(&live)};
        b->armed = true;
        CHECK_THROWS_AS(a = std::move(b), std::runtime_error);
        CHECK(a.error() == std::errc::state_not_recoverable);
        CHECK(live == 1);
        b->armed = false;
        a = std::move(b);
        CHECK(a.has_value());
        CHECK(live == 2);
        a = result<fragile>(std::errc::io_error);
        CHECK(a.error() == std::errc::io_error);
        CHECK(live == 1);
    }
    CHECK(live == 0);
}

TEST_CASE("task: attempt gives system_errors as results, and lets everything else through") {
    test::run([]() -> task<> {
        const auto refused = [](int code) -> task<int> {
            throw std::system_error(errno_code(code));
            co_return 1;
        };
        auto r = co_await attempt(refused(ENOENT));
        CHECK(!r);
        CHECK(r.error() == std::errc::no_such_file_or_directory);
        CHECK_THROWS_AS(r.value(), std::system_error);
        auto ok = co_await attempt(number(3));
        CHECK(*ok == 3);
        bool thrown = false;
        try {
            static_cast<void>(co_await attempt(failing("not a system error")));
        } catch (const std::runtime_error&) {
            thrown = true;
        }
        CHECK(thrown);
    });
}

// --- spawn ------------------------------------------------------------------------------------------------

TEST_CASE("spawn: the handle gives the value, or the error unchanged") {
    test::run([]() -> task<> {
        auto n = spawn(number, 5);
        auto p = spawn(owned, 6);
        auto bad = spawn(failing, "child");
        const int five = co_await n;
        CHECK(five == 5);
        const auto six = co_await p;
        CHECK(*six == 6);
        bool caught = false;
        try {
            co_await bad;
        } catch (const std::runtime_error& e) {
            caught = std::string(e.what()) == "child";
        }
        CHECK(caught);
        CHECK(n.state() == task_state::succeeded);
        CHECK(bad.state() == task_state::failed);
    });
}

task<int> sum_of(std::string a, std::unique_ptr<int> b, const int& c) {
    co_await yield();
    co_return static_cast<int>(a.size()) + *b + c;
}

TEST_CASE("spawn: arguments live in the child's block, also those taken by reference") {
    test::run([]() -> task<> {
        task_handle<int> h;
        {
            const std::string local = "four";
            h = spawn(sum_of, local, std::make_unique<int>(10), 100);
        }
        const int sum = co_await h;
        CHECK(sum == 114);
    });
}

struct counter {
    int total = 0;
    task<int> add(int n) {
        co_await yield();
        co_return total += n;
    }
};

TEST_CASE("spawn: a member function, of an object by pointer, by reference or as a copy" *
          doctest::test_suite("order")) {
    test::run([]() -> task<> {
        counter c;
        auto by_pointer = spawn(&counter::add, &c, 1);
        auto by_reference = spawn(&counter::add, std::ref(c), 10);
        auto on_a_copy = spawn(&counter::add, c, 100);
        const int one = co_await by_pointer;
        const int eleven = co_await by_reference;
        const int hundred = co_await on_a_copy;
        CHECK(one == 1);
        CHECK(eleven == 11);
        CHECK(hundred == 100);
        CHECK(c.total == 11);
    });
}

TEST_CASE("attempt: of a plain wait is a value, and lets `cancelled` through") {
    test::run([]() -> task<> {
        const auto slept = co_await attempt(sleep_for(1ms));
        const auto yielded = co_await attempt(yield());
        const auto next = co_await attempt(immediate());
        CHECK((slept.has_value() && yielded.has_value() && next.has_value()));
        auto sleeper = spawn([]() -> task<> { static_cast<void>(co_await attempt(sleep_for(1h))); });
        co_await yield();
        sleeper.cancel();
        const auto ended = co_await attempt(sleeper);
        CHECK(ended.error() == std::errc::operation_canceled);
        CHECK(sleeper.state() == task_state::cancelled);
    });
}

TEST_CASE("spawn: a capturing lambda outlives the closure it was made from") {
    test::run([]() -> task<> {
        task_handle<std::string> h;
        {
            std::string captured = "a string that is too long for the small buffer";
            h = spawn([captured]() -> task<std::string> {
                co_await sleep_for(1ms);
                co_return captured;
            });
        }
        const std::string got = co_await h;
        CHECK(got == "a string that is too long for the small buffer");
    });
}

struct counted {
    explicit counted(int& n) : live(&n) { ++*live; }
    counted(const counted& o) : live(o.live) { ++*live; }
    counted(counted&& o) noexcept : live(o.live) { ++*live; }
    ~counted() { --*live; }
    int* live;
};

task<> hold(counted, bool& started) {
    started = true;
    co_await sleep_for(1h);
}

TEST_CASE("spawn: a child cancelled before its first step never runs, and its arguments go") {
    test::run([]() -> task<> {
        int live = 0;
        bool started = false;
        auto h = spawn(hold, counted(live), std::ref(started));
        CHECK(live == 1);
        h.cancel();
        const auto r = co_await attempt(h);
        CHECK(r.error() == std::errc::operation_canceled);
        CHECK(!started);
        CHECK(live == 0);
        CHECK(h.state() == task_state::cancelled);
    });
}

TEST_CASE("spawn: cancel ends the present wait, and every later one") {
    test::run([]() -> task<> {
        int waits = 0;
        auto h = spawn(
            [](int& count) -> task<> {
                for (int i = 0; i < 3; ++i) {
                    try {
                        co_await sleep_for(1h);
                    } catch (const cancelled&) {
                        ++count;
                    }
                }
                co_await sleep_for(1h);
            },
            std::ref(waits));
        co_await test::others_first();
        h.cancel();
        const auto r = co_await attempt(h);
        CHECK(!r);
        CHECK(waits == 3);
    });
}

TEST_CASE("spawn: a result that was there before the cancel is not lost" * doctest::test_suite("order")) {
    test::run([]() -> task<> {
        journal j;
        auto h = spawn(
            [](journal& log) -> task<> {
                co_await sleep_for(1ms);
                log.add("woke");  // the sleep had ended when the cancel came
                co_await sleep_for(1h);
                log.add("never");
            },
            std::ref(j));
        this_loop().set_timeout(1ms, [&] { h.cancel(); });
        static_cast<void>(co_await attempt(h));
        if (test::on_sim()) CHECK(j.text() == "");  // this timer is older than the sleep: it came first
        auto g = spawn(
            [](journal& log) -> task<int> {
                co_await yield();
                log.add("ran");
                co_return 1;
            },
            std::ref(j));
        co_await yield();
        g.cancel();  // it stands in the queue: the yield is over, and no wait follows
        const int one = co_await g;
        CHECK(one == 1);
    });
}

TEST_CASE("spawn: `cancelled` is not a std::exception, and a result cannot hide it") {
    static_assert(!std::is_base_of_v<std::exception, cancelled>);
    test::run([]() -> task<> {
        bool eaten = false;
        auto h = spawn(
            [](bool& swallowed) -> task<> {
                try {
                    static_cast<void>(co_await attempt(wait_readable(-1)));
                    co_await sleep_for(1h);
                } catch (const std::exception&) {
                    swallowed = true;
                }
            },
            std::ref(eaten));
        co_await yield();
        h.cancel();
        static_cast<void>(co_await attempt(h));
        CHECK(!eaten);
        CHECK(h.state() == task_state::cancelled);
    });
}

TEST_CASE("spawn: a result that was faster than cancel() lets the child take one more step" *
          doctest::test_suite("order")) {
    test::run([]() -> task<> {
        journal j;
        auto child = spawn(
            [](journal& log) -> task<> {
                auto inner = spawn(number, 1);
                const int n = co_await inner;
                log.add("result " + std::to_string(n));
                try {
                    co_await yield();
                    log.add("more");
                } catch (const cancelled&) {
                    log.add("cancelled");
                    throw;
                }
            },
            std::ref(j));
        co_await yield();  // the child waits for the inner task,
        co_await yield();  // and that one has ended
        child.cancel();
        CHECK(j.text().empty());
        static_cast<void>(co_await attempt(child));
        CHECK(j.text() == "result 1 cancelled");
        CHECK(child.state() == task_state::cancelled);
    });
}

TEST_CASE("spawn: a task that swallows `cancelled` in a loop is put behind the others, and reported" *
          doctest::test_suite("order")) {
    std::string seen;
    set_log_sink(
        [](const log_record& r, void* to) noexcept {
            if (r.level >= log_level::warning) static_cast<std::string*>(to)->append(r.message);
        },
        &seen);
    test::run([]() -> task<> {
        bool stop = false;
        auto h = spawn(
            [](const bool& end) -> task<> {
                while (!end) {
                    try {
                        co_await sleep_for(1ms);
                    } catch (const cancelled&) {
                    }
                }
            },
            std::cref(stop));
        co_await yield();
        h.cancel();
        for (int i = 0; i < 300; ++i) co_await yield();
        stop = true;
        co_await h;
    });
    set_log_sink(nullptr);
    CHECK(seen == "goes on waiting although it is cancelled: it swallows `cancelled`");
}

/// What is logged at level debug, as long as this lives.
struct debug_log {
    debug_log() {
        set_log_level(log_level::debug);
        set_log_sink(
            [](const log_record& r, void* to) noexcept {
                if (r.message.find("epoll instead of io_uring") == r.message.npos)  // where the kernel refuses it
                    static_cast<std::string*>(to)->append(r.message);
            },
            &text);
    }
    ~debug_log() {
        set_log_sink(nullptr);
        set_log_level(detail::debug_enabled ? log_level::debug : log_level::warning);
    }
    std::string text;
};

task<> swallows_what_it_is_told() {
    try {
        co_await sleep_for(1h);
    } catch (const cancelled&) {
    }
}

TEST_CASE("spawn: a task that was told it is cancelled, and ends as a success, is noted at level debug") {
    debug_log log;
    test::run([]() -> task<> {
        auto h = spawn(swallows_what_it_is_told);
        co_await test::others_first();
        h.cancel();
        co_await h;
        CHECK(h.state() == task_state::succeeded);
    });
    CHECK(log.text == "ended as a success although it was cancelled and told so: it swallowed `cancelled`");
}

TEST_CASE("spawn: who ends his own scope, or was cancelled after his last wait, has swallowed nothing") {
    debug_log log;
    test::run([]() -> task<> {
        auto timed =
            spawn([]() -> task<> { static_cast<void>(co_await move_on_after(1ms, swallows_what_it_is_told)); });
        co_await timed;
        auto late = spawn([]() -> task<> {
            static_cast<void>(co_await move_on_after(1ms, swallows_what_it_is_told));
            detail::running().root().cancel();
        });
        co_await shield([&]() -> task<> { co_await late; });
        CHECK(late.state() == task_state::succeeded);
    });
    CHECK(log.text.empty());
}

TEST_CASE("spawn: a name shows in reports; it may be long, or not fit for a terminal") {
    test::run([]() -> task<> {
        auto h = spawn([]() -> task<> {
            name_task("first");
            co_await sleep_for(1ms);
        });
        CHECK(h.name().empty());
        co_await test::others_first();
        CHECK(h.name() == "first");
        h.set_name("reader\n\x1b[2J");
        CHECK(h.name() == "reader\n\x1b[2J");
        const auto listed = [&h](const std::string& text) {
            for (const alive_entry& each : this_loop().why_alive())
                if (each.what.starts_with("task " + std::to_string(h.id()) + text)) return true;
            return false;
        };
        CHECK(listed(" 'reader\\n\\x1b[2J': sleep"));
        h.set_name(std::string(200, 'x'));
        bool cut = false;
        for (const alive_entry& each : this_loop().why_alive())
            cut |= each.what.find("xxx...': sleep") != std::string::npos;
        CHECK(cut);
        h.set_name("");
        CHECK(listed(": sleep"));
        co_await h;
        CHECK(h.name().empty());
    });
}

TEST_CASE("spawn: a discarded task runs on; its error goes to the hook") {
    journal j;
    loop l;
    l.on_unhandled(
        [](std::exception_ptr e, std::source_location, void* to) {
            try {
                std::rethrow_exception(e);
            } catch (const std::runtime_error& error) {
                static_cast<journal*>(to)->add(error.what());
            }
        },
        &j);
    run_on(l, [&]() -> task<> {
        spawn(failing, "dropped at once");
        auto late = spawn(failing, "dropped when it had ended");
        co_await test::others_first();
        CHECK(late.done());
        late.discard();
        auto seen = spawn(failing, "seen");
        const auto ignore = [](task_handle<>& h) -> task<> {
            try {
                co_await h;
            } catch (const std::runtime_error&) {
            }
        };
        co_await ignore(seen);
    });
    CHECK(j.text() == "dropped at once dropped when it had ended");
}

TEST_CASE("loop: a hook may be any callable, which the loop keeps until there is another one") {
    struct kept {
        explicit kept(int& n) noexcept : live(&n) { ++*live; }
        kept(const kept& other) noexcept : live(other.live) { ++*live; }
        kept& operator=(const kept&) = delete;
        ~kept() { --*live; }
        int* live;
    };
    int live = 0;
    std::string seen;
    {
        loop l;
        l.on_unhandled([&seen, &l, held = kept(live)](std::exception_ptr e, std::source_location place) {
            seen += describe(e).find("first") != std::string::npos && place.line() != 0 ? "first" : "?";
            l.on_unhandled([&seen, held](std::exception_ptr, std::source_location) { seen += " second"; });
            CHECK(*held.live >= 2);  // the one that runs is still there
        });
        CHECK(live == 1);
        l.next_tick([] { throw std::runtime_error("first"); });
        l.next_tick([] { throw std::runtime_error("second"); });
        l.run();
        CHECK(live == 1);
        l.on_dead_letter([held = kept(live)](const dead_letter&) {});
        CHECK(live == 2);
        l.on_dead_letter(nullptr);
        CHECK(live == 1);
    }
    CHECK(seen == "first second");
    CHECK(live == 0);
}

TEST_CASE("spawn: awaiting a handle in a cancelled task throws `cancelled`, and leaves the child alone") {
    test::run([]() -> task<> {
        auto child = spawn([]() -> task<int> {
            co_await sleep_for(2ms);
            co_return 5;
        });
        auto waiter = spawn([](task_handle<int>& h) -> task<> { co_await h; }, std::ref(child));
        co_await yield();
        waiter.cancel();
        const auto r = co_await attempt(waiter);
        CHECK(!r);
        CHECK(waiter.state() == task_state::cancelled);
        const int five = co_await child;
        CHECK(five == 5);
    });
}

// --- run --------------------------------------------------------------------------------------------------

TEST_CASE("run: when the main task ends, what is left in the root scope is cancelled and awaited") {
    journal j;
    test::run([&]() -> task<> {
        spawn(
            [](journal& log) -> task<> {
                struct at_end {
                    journal& of;
                    ~at_end() { of.add("unwound"); }
                } guard{log};
                co_await sleep_for(1h);
            },
            std::ref(j));
        co_await yield();
        j.add("main ends");
    });
    CHECK(j.text() == "main ends unwound");
}

// A wait of a program's own making: nothing ever completes it but a cancel.
class for_ever : public basic_wait<for_ever> {
 public:
    static constexpr const char* name = "Godot";
    bool start() noexcept { return arm(); }
    void cancel() noexcept { complete(-ECANCELED); }
};

// On `sim`, where it takes no time: elsewhere the patience at the end is one of real seconds.
TEST_CASE("run: at its end a shielded read is waited for as long as bytes come, though no task takes a step") {
    if (!test::on_sim()) return;
    struct local {
        static task<> reads(tcp_stream& from, std::string& into) {
            std::byte eight[8];
            co_await from.read_exactly(eight);
            into = test::as_text(eight);
        }
        static task<> body(std::string& got, timer& writes) {
            auto c = std::make_shared<test::connection>(co_await test::connected());
            spawn([c](std::string& into) -> task<> { co_await shield(reads, c->server, into); }, std::ref(got))
                .discard();
            writes = this_loop().set_interval(2s, [c] { CHECK(c->client.try_write_some("x")); });
            co_await yield();
        }
    };
    loop l;
    std::string got;
    timer writes;
    run_on(l, local::body, std::ref(got), std::ref(writes));
    CHECK(got == "xxxxxxxx");
    writes.cancel();
}

TEST_CASE("run: a main task that ends in the pending phase ends it, before poll waits for the tasks that are left") {
    // It was noticed after the turn only, hence after the first of their timers.
    loop l;
    const time_point before = l.now();
    run_on(l, []() -> task<> {
        for (std::uint32_t i = 0; i < loop::wakeups_per_drain; ++i)
            spawn([]() -> task<> { co_await sleep_for(1h); }).discard();
        co_await yield();  // behind a full budget of first steps: it goes on in the pending phase
    });
    CHECK(l.now() - before < 1h);
}

TEST_CASE("run: a main task that waits for what cannot happen is a deadlock, with the lines") {
    std::string report;
    unsigned line = 0;
    journal j;
    try {
        test::run([&]() -> task<> {
            auto child = spawn(
                [](journal& log) -> task<> {
                    struct at_end {
                        journal& of;
                        ~at_end() { of.add("unwound"); }
                    } guard{log};
                    co_await for_ever();
                },
                std::ref(j));
            line = __LINE__ + 1;
            co_await child;
        });
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CHECK(report.find("task_test.cpp:" + std::to_string(line)) != std::string::npos);
    CHECK(report.find("waits: task 2") != std::string::npos);
    CHECK(report.find("waits: Godot") != std::string::npos);
    CHECK(j.text() == "unwound");
}

/// RONDO_BACKEND is `name` for as long as this lives.
struct backend_named {
    explicit backend_named(const std::string& name) {
        if (const char* const named = std::getenv("RONDO_BACKEND")) before = named;
        ::setenv("RONDO_BACKEND", name.c_str(), 1);
    }
    ~backend_named() { ::setenv("RONDO_BACKEND", before.c_str(), 1); }
    backend_named(const backend_named&) = delete;
    backend_named& operator=(const backend_named&) = delete;
    std::string before;
};

TEST_CASE("run: a backend that RONDO_BACKEND names and nobody knows is an invalid_argument") {
    for (const std::string name : {"kqueue", "epoll:1", "simulated", "sim:", "sim:abc", "sim:-1", "sim: 1", "sim:7x",
                                   "sim:7:", "sim:7:spec", "sim:chaos", "sim:7:chaos:", "sim:18446744073709551616"}) {
        const backend_named in_environment(name);
        std::error_code code;
        std::string said;
        try {
            const loop l;
        } catch (const io_error& e) {
            code = e.code();
            said = e.what();
        }
        CAPTURE(said);
        CHECK(code == std::errc::invalid_argument);
        CHECK(said.find("RONDO_BACKEND must be auto, epoll, uring, sim, sim:SEED or sim:SEED:chaos, not " + name) !=
              std::string::npos);
        loop_options chosen;
        chosen.kind = backend_kind::sim;
        const loop not_asked(chosen);  // then the environment does not matter
        CHECK(not_asked.kind() == backend_kind::sim);
    }
}

TEST_CASE("run: with RONDO_BACKEND=sim:SEED a seed decides; with :chaos ready tasks run in any order") {
    struct seen {
        std::vector<std::uint64_t> drawn;
        std::string order;
    };
    const auto with = [](const std::string& name) {
        const backend_named in_environment(name);
        return run([]() -> task<seen> {
            CHECK(this_loop().kind() == backend_kind::sim);
            seen all;
            for (int i = 0; i < 4; ++i) all.drawn.push_back(random_u64());
            co_await with_task_group([&all](task_group& group) -> task<> {
                for (char c = 'a'; c < 'k'; ++c)
                    group
                        .spawn(
                            [](std::string& into, char own) -> task<> {
                                into += own;
                                co_await yield();
                                into += own;
                            },
                            std::ref(all.order), c)
                        .discard();
                co_return;
            });
            co_return all;
        });
    };
    const seen plain = with("sim");
    const seen seven = with("sim:7");
    CHECK(seven.drawn == with("sim:0x7").drawn);
    CHECK(seven.drawn != with("sim:8").drawn);
    CHECK(seven.drawn != plain.drawn);
    CHECK(seven.drawn == with("sim:7:chaos").drawn);
    CHECK(plain.order == "abcdefghijabcdefghij");
    CHECK(seven.order == plain.order);
    CHECK(with("sim:7:chaos").order != plain.order);
    CHECK(with("sim:7:chaos").order != with("sim:8:chaos").order);
    CHECK(with("sim:7:chaos").order == with("sim:7:chaos").order);
}

TEST_CASE("run: options of the backend that make no sense are refused when the loop is made") {
    loop_options options;
    options.kind = test::backend_under_test();
    options.backend.receive_buffer_count = 100;
    std::string said;
    std::error_code code;
    try {
        loop l(options);
    } catch (const io_error& e) {
        said = e.what();
        code = e.code();
    }
    CHECK(code == std::errc::invalid_argument);
    CHECK(said.find("receive_buffer_count") != std::string::npos);
}

TEST_CASE("run: stop() ends it with an error that says so, and the loop remembers") {
    loop l;
    std::string said;
    std::error_code code;
    journal j;
    try {
        run_on(l, [&]() -> task<> {
            spawn(
                [](journal& log) -> task<> {
                    struct at_end {
                        journal& of;
                        ~at_end() {
                            this_loop().stop();  // while the last tasks unwind: they still all do
                            of.add("unwound");
                        }
                    } guard{log};
                    co_await sleep_for(1h);
                },
                std::ref(j))
                .discard();
            this_loop().set_timeout(1ms, [] { this_loop().stop(); });
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
            }
            co_await sleep_for(1h);
        });
    } catch (const io_error& e) {
        said = e.what();
        code = e.code();
    }
    CHECK(said.find("run was ended by loop::stop(): ") == 0);
    CHECK(code == std::errc::operation_canceled);
    CHECK(l.stopped());
    CHECK(j.text() == "unwound");
    CHECK(l.stats().tasks == 0);
    const int made_something_of_it = run_on(l, []() -> task<int> {
        this_loop().set_timeout(1ms, [] { this_loop().stop(); });
        try {
            co_await sleep_for(1h);
        } catch (const cancelled&) {
        }
        co_return 5;
    });
    CHECK(made_something_of_it == 5);
    CHECK(l.stopped());
    run_on(l, []() -> task<> { co_return; });
    CHECK_FALSE(l.stopped());
}

TEST_CASE("spawn: awaiting a child that was cancelled says which, in one sentence") {
    std::string said;
    test::run([&]() -> task<> {
        auto child = spawn([]() -> task<> { co_await sleep_for(1h); });
        child.cancel();
        try {
            co_await child;
        } catch (const io_error& e) {
            said = e.what();
        }
    });
    CHECK(said.find("await task 2, which was cancelled: ") == 0);
}

TEST_CASE("run: stop() cancels the main task") {
    CHECK_THROWS_AS(test::run([]() -> task<> {
                        this_loop().set_timeout(0ms, [] { this_loop().stop(); });
                        co_await sleep_for(1h);
                    }),
                    io_error);
}

TEST_CASE("run_main: the exit code is the task's int, 0, or 1 after an error") {
    CHECK(run_main([]() -> task<int> { co_return 42; }) == 42);
    CHECK(run_main([]() -> task<> { co_return; }) == 0);
    CHECK(run_main(number, 3) == 3);
}

TEST_CASE("run: loops may follow each other, and nest in different threads of control") {
    for (int i = 0; i < 50; ++i) CHECK(test::run(number, i) == i);
}

TEST_CASE("every allocation: of tasks, children and waits: an error, no leak, and the next run works") {
    const auto program = []() -> task<> {
        auto a = spawn(number, 1);
        auto b = spawn(text, std::string("b"));
        const int n = co_await number(2);
        co_await sleep_for(0ms);
        const std::string s = co_await b;
        const int one = co_await a;
        if (n + one + static_cast<int>(s.size()) != 5) throw std::logic_error("a result got lost");
    };
    const testing::every_step_report report = testing::fail_each_allocation(program);
    CHECK_MESSAGE(report.ok(), report.text());
    CHECK(report.points > 5);
}

// --- where tasks are spawned ---------------------------------------------------------------------------

task<> fails_with(std::size_t arguments) {
    co_await yield();
    throw std::logic_error("of " + std::to_string(arguments));
}
template <class... Numbers>
task<> counts_all(Numbers...) {
    return fails_with(sizeof...(Numbers));
}

TEST_CASE("spawn: the place is known with any number of arguments, in groups and in the background too") {
    struct local {
        static unsigned line_of(const task_handle<>& child) {
            CHECK(std::string_view(child.core().place.file_name()).ends_with("task_test.cpp"));
            return static_cast<unsigned>(child.core().place.line());
        }
        static task<> body() {
            const auto five = [](int a, int b, int c, int d, int e) { return counts_all(a, b, c, d, e); };
            const auto eight = [](int a, int b, int c, int d, int e, int f, int g, int h) {
                return counts_all(a, b, c, d, e, f, g, h);
            };
            const auto nine = [](int a, int b, int c, int d, int e, int f, int g, int h, int i) {
                return counts_all(a, b, c, d, e, f, g, h, i);
            };
            const auto inside = [&](supervisor_group& group) -> task<> {
                auto of_five = spawn(five, 1, 2, 3, 4, 5);
                CHECK(line_of(of_five) == __LINE__ - 1);
                auto of_eight = spawn(eight, 1, 2, 3, 4, 5, 6, 7, 8);
                CHECK(line_of(of_eight) == __LINE__ - 1);
                auto group_five = group.spawn(five, 1, 2, 3, 4, 5);
                CHECK(line_of(group_five) == __LINE__ - 1);
                auto group_eight = group.spawn(eight, 1, 2, 3, 4, 5, 6, 7, 8);
                CHECK(line_of(group_eight) == __LINE__ - 1);
                auto background = group.spawn_background([] { return counts_all(); });
                CHECK(line_of(background) == __LINE__ - 1);
                auto background_eight = group.spawn_background(eight, 1, 2, 3, 4, 5, 6, 7, 8);
                CHECK(line_of(background_eight) == __LINE__ - 1);
                co_await yield();
                // With more it is the latest await.
                auto group_nine = group.spawn(nine, 1, 2, 3, 4, 5, 6, 7, 8, 9);
                CHECK(line_of(group_nine) == __LINE__ - 3);
                for (task_handle<>* each :
                     {&of_five, &of_eight, &group_five, &group_eight, &background, &background_eight, &group_nine}) {
                    bool failed = false;
                    try {
                        co_await *each;
                    } catch (const std::logic_error&) {
                        failed = true;
                    }
                    CHECK(failed);
                }
            };
            co_await with_supervisor_group(inside);
        }
    };
    test::run(local::body);
}

}  // namespace
