// What a program does wrong, and the message it gets. Each runs in a child process that must abort.
#include <rondo/actor/actor.hpp>
#include <rondo/actor/supervisor.hpp>

#include "support/child_process.hpp"
#include "support/net.hpp"

#include <csignal>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

/// What `program` writes to standard error before it aborts; "(did not abort)" if it does not.
template <class Program>
std::string abort_message(Program program) {
    const test::child_process child(
        [&](int) {
            detail::debug_enabled = true;
            program();
            return 0;
        },
        STDERR_FILENO);
    std::string text = child.rest();
    const int status = child.ended();
    // A sanitizer may turn the abort into an exit.
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) text += "(did not abort)";
    return text;
}

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

task<int> one() { co_return 1; }

#define CHECK_ABORTS(text, part)                 \
    do {                                         \
        const std::string printed = (text);      \
        CAPTURE(printed);                        \
        CHECK(has(printed, part));               \
        CHECK(!has(printed, "(did not abort)")); \
    } while (false)

TEST_CASE("misuse: a task that is never awaited is named by the line that made it") {
    const std::string text = abort_message([] { static_cast<void>(one()); });
    CHECK_ABORTS(text, "a task was made but never awaited");
    CHECK(has(text, "misuse_test.cpp"));
}

TEST_CASE("misuse: a task that is destroyed while it waits is an assertion") {
    CHECK_ABORTS(abort_message([] {
                     rondo::run([]() -> task<> {
                         auto sleeper = std::make_unique<task<>>([]() -> task<> { co_await rondo::sleep_for(1s); }());
                         auto waiting = rondo::spawn([](task<>& t) -> task<> { co_await t; }, std::ref(*sleeper));
                         co_await test::others_first();
                         sleeper.reset();
                     });
                 }),
                 "a task was destroyed while it waits");
}

TEST_CASE("misuse: an awaitable that is not rondo's would never resume the task") {
    CHECK_ABORTS(abort_message([] { rondo::run([]() -> task<> { co_await std::suspend_always{}; }); }),
                 "an awaitable that is not rondo's");
}

TEST_CASE("misuse: a task is awaited once") {
    CHECK_ABORTS(abort_message([] {
                     rondo::run([]() -> task<> {
                         task<int> t = one();
                         co_await std::move(t);
                         co_await std::move(t);
                     });
                 }),
                 "a task is awaited once");
}

TEST_CASE("misuse: a task is not awaited when it was moved from") {
    CHECK_ABORTS(abort_message([] {
                     rondo::run([]() -> task<> {
                         task<int> a = one();
                         task<int> b = std::move(a);
                         co_await b;
                         co_await a;
                     });
                 }),
                 "not after it was moved from");
}

// With a live remote(), somebody could still end the wait, so the end of run() waited for ever.
TEST_CASE("misuse: a shielded wait that nobody ends does not hold up the end of run for ever, and is named") {
    struct local {
        static task<> waits(event& e) { co_await e.wait(); }
        static task<> body(bool remote_lives, bool interval) {
            static remote kept;
            static event never_set("never");
            if (remote_lives) kept = this_loop().remote();
            if (interval) this_loop().set_interval(1s, [] {});
            spawn([]() -> task<> { co_await shield(waits, std::ref(never_set)); }).discard();
            co_await yield();
        }
    };
    for (const bool interval : {false, true}) {
        // An interval goes on as well; on `sim`, where it moves the time, there is no need to wait.
        if (interval && !test::on_sim()) continue;
        const std::string text = abort_message([interval] { rondo::run(local::body, !interval, interval); });
        CAPTURE(interval);
        CHECK_ABORTS(text, "1 task waits, although cancelled when the program ended");
        CHECK_ABORTS(text, "task 2 at misuse_test.cpp");
        CHECK_ABORTS(text, "a scope was destroyed with 1 live task in it: task 2");
    }
}

TEST_CASE("misuse: the same of a shielded read that no peer ends") {
    struct local {
        static task<> reads(tcp_stream& from) {
            std::byte one[1];
            co_await from.read_some(one);
        }
        static task<> body() {
            auto c = std::make_shared<test::connection>(co_await test::connected());
            spawn([c]() -> task<> { co_await shield(reads, c->server); }).discard();
            co_await yield();
        }
    };
    CHECK_ABORTS(abort_message([] { rondo::run(local::body); }), "1 task waits, although cancelled");
}

TEST_CASE("misuse: a loop and its handles belong to one thread") {
    CHECK_ABORTS(abort_message([] {
                     loop l;
                     timer t = l.set_timeout(1h, [] {});
                     std::thread([&] { t.cancel(); }).join();
                 }),
                 "a loop is for the thread that made it");
    CHECK_ABORTS(abort_message([] {
                     loop l;
                     std::thread([&] { l.run(); }).join();
                 }),
                 "a loop is for the thread that made it");
}

/// `use` of a loop and of a timer of it, on a thread that they are not for.
std::string used_elsewhere(void (*use)(loop&, timer&)) {
    return abort_message([use] {
        loop l;
        timer t = l.set_timeout(1h, [] {});
        std::thread([&] { use(l, t); }).join();
    });
}

TEST_CASE("misuse: whatever is done to a loop on another thread is refused, with the line and both threads") {
    using use = void (*)(loop&, timer&);
    const use all[] = {
        [](loop& l, timer&) { l.set_timeout(1ms, [] {}); },
        [](loop& l, timer&) { l.set_interval(1ms, [] {}); },
        [](loop& l, timer&) { l.set_immediate([] {}); },
        [](loop& l, timer&) { l.on_idle([] {}); },
        [](loop& l, timer&) { l.on_prepare([] {}); },
        [](loop& l, timer&) { l.on_check([] {}); },
        [](loop& l, timer&) { l.queue_close([] {}); },
        [](loop& l, timer&) { l.next_tick([] {}); },
        [](loop& l, timer&) { l.queue_microtask([] {}); },
        [](loop& l, timer&) { l.stop(); },
        [](loop& l, timer&) { l.update_now(); },
        [](loop& l, timer&) { static_cast<void>(l.why_alive()); },
        [](loop& l, timer&) { static_cast<void>(l.remote()); },
        [](loop& l, timer&) { spawn_on(l, one).discard(); },
        [](loop&, timer& t) { const timer copy = t; },
        [](loop&, timer& t) { const timer taken = std::move(t); },
        [](loop&, timer& t) { t.unref(); },
        [](loop&, timer& t) { t.rearm(1ms); },
        [](loop&, timer& t) { t.cancel(); },
        [](loop&, timer& t) { static_cast<void>(t.active()); },
    };
    std::size_t number = 0;
    for (const use each : all) {
        CAPTURE(number++);
        const std::string text = used_elsewhere(each);
        CHECK_ABORTS(text, "a loop is for the thread that made it; that is thread ");
        CHECK(has(text, "misuse_test.cpp:"));
    }
}

TEST_CASE("misuse: a task's handle is for its loop's thread") {
    CHECK_ABORTS(abort_message([] {
                     loop l;
                     task_handle<> h = spawn_on(l, []() -> task<> { co_await sleep_for(1h); });
                     std::thread([&] { h.cancel(); }).join();
                 }),
                 "cancel() of the task spawned here: a loop is for the thread");
    CHECK_ABORTS(abort_message([] {
                     loop l;
                     task_handle<> h = spawn_on(l, []() -> task<> { co_await sleep_for(1h); });
                     std::thread([&] { h.discard(); }).join();
                 }),
                 "dropping the handle of the task spawned here");
}

struct sockets {
    tcp_listener listener;
    tcp_stream stream;
};

task<> makes(sockets& s) {
    s.listener = tcp_listener::bind("127.0.0.1", 0);
    s.stream = co_await tcp_stream::connect(s.listener.local());
}
task<> accepts(sockets& s) { static_cast<void>(co_await s.listener.accept()); }
task<> receives(sockets& s) { static_cast<void>(co_await s.stream.receive()); }
task<> writes(sockets& s) { co_await s.stream.write_all("x"); }
task<> closes(sockets& s) { co_await s.stream.close(); }

TEST_CASE("misuse: a socket of one loop cannot be awaited on another, of this thread or of its own") {
    for (const auto use : {&accepts, &receives, &writes, &closes}) {
        const std::string near = abort_message([use] {
            loop a;
            sockets s;
            run_on(a, makes, std::ref(s));
            loop b;
            run_on(b, use, std::ref(s));
        });
        CHECK_ABORTS(near, "it belongs to another loop of this thread");
        CHECK(has(near, "misuse_test.cpp:"));
        const std::string far = abort_message([use] {
            loop a;
            sockets s;
            run_on(a, makes, std::ref(s));
            std::thread([&] { rondo::run(use, std::ref(s)); }).join();
        });
        CHECK_ABORTS(far, "a loop is for the thread that made it; that is thread ");
        CHECK(has(far, "misuse_test.cpp:"));
    }
    CHECK_ABORTS(abort_message([] {
                     loop a;
                     sockets s;
                     run_on(a, makes, std::ref(s));
                     std::thread([&] { static_cast<void>(s.stream.try_write_some({})); }).join();
                 }),
                 "a call on a socket: a loop is for the thread");
}

TEST_CASE("misuse: a task of one loop cannot be awaited on another") {
    CHECK_ABORTS(abort_message([] {
                     loop a;
                     task_handle<> h = spawn_on(a, []() -> task<> { co_await sleep_for(1h); });
                     rondo::run([](task_handle<>& other) -> task<> { co_await other; }, std::ref(h));
                 }),
                 "awaiting a task: it belongs to another loop of this thread");
}

TEST_CASE("misuse: a wait without a running loop says so") {
    CHECK_ABORTS(abort_message([] { static_cast<void>(spawn(one)); }), "no rondo loop runs on this thread");
}

TEST_CASE("misuse: a task cannot await itself, and a handle has one awaiter") {
    CHECK_ABORTS(abort_message([] {
                     rondo::run([]() -> task<> {
                         task_handle<> self;
                         self = spawn([](task_handle<>& h) -> task<> { co_await h; }, std::ref(self));
                         co_await sleep_for(1h);
                     });
                 }),
                 "a task awaits itself");
}

TEST_CASE("misuse: an error nobody handles ends the process, with the line of the task") {
    const std::string text = abort_message([] {
        rondo::run([]() -> task<> {
            spawn([]() -> task<> {
                throw std::runtime_error("lost and found");
                co_return;
            });
            co_await sleep_for(1h);
        });
    });
    CHECK_ABORTS(text, "lost and found");
    CHECK(has(text, "nobody handles it; it left the task or callback that was made at "));
    CHECK(has(text, "misuse_test.cpp"));
}

// --- what is printed about errors ------------------------------------------------------------------

struct custom {};

task<> leaf(int which) {
    co_await yield();
    if (which == 3) throw custom{};
    throw std::runtime_error("leaf " + std::to_string(which));
}
task<> middle(int which) { co_await leaf(which); }
task<> top(int which) { co_await middle(which); }

task<> outer() {
    try {
        co_await middle(7);
    } catch (...) {
        std::throw_with_nested(std::logic_error("on top of it"));
    }
}

std::size_t count_of(const std::string& text, std::string_view part) {
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}

TEST_CASE("errors: a task awaited after others have failed still prints the awaits it came through") {
    const std::string text = abort_message([] {
        rondo::run_main([]() -> task<> {
            auto first = spawn(top, 1);
            auto second = spawn(top, 2);
            for (int i = 0; i < 5; ++i) co_await yield();
            const auto ignored = [&]() -> task<> {
                try {
                    co_await second;
                } catch (const std::runtime_error&) {
                }
            };
            co_await ignored();
            co_await first;
        });
    });
    CAPTURE(text);
    CHECK(has(text, "rondo: std::runtime_error: leaf 1\n  at         "));
    CHECK(count_of(text, "awaited at ") == 3);  // in middle, in top, and of the handle
    CHECK_FALSE(has(text, "leaf 2"));
}

TEST_CASE("errors: another exception at the same address does not inherit the awaits of the one before") {
    const std::string text = abort_message([] {
        rondo::run_main([]() -> task<> {
            for (int i = 0; i < 3; ++i) {
                try {
                    co_await top(1);
                } catch (const std::runtime_error&) {
                }
            }
            co_await top(2);
        });
    });
    CAPTURE(text);
    CHECK(has(text, "leaf 2"));
    CHECK(count_of(text, "  at  ") == 1);
    CHECK(count_of(text, "awaited at ") == 3);
}

TEST_CASE("errors: nested exceptions are all printed, and types that are no std::exception are named") {
    const std::string nested = abort_message([] { rondo::run_main(outer); });
    CAPTURE(nested);
    CHECK(has(nested, "rondo: std::logic_error: on top of it\n  at "));
    CHECK(has(nested, "  caused by: std::runtime_error: leaf 7\n  at "));
    CHECK(count_of(nested, "misuse_test.cpp:") == 3);
    const std::string foreign = abort_message([] { rondo::run_main(top, 3); });
    CHECK(has(foreign, "an exception of type (anonymous namespace)::custom"));
}

TEST_CASE("errors: the text of an error cannot speak to the terminal") {
    const std::string text = abort_message([] {
        rondo::run_main([]() -> task<> {
            throw std::runtime_error("two\nlines \x1b[31m");
            co_return;
        });
    });
    CHECK(has(text, "rondo: std::runtime_error: two\nlines \\x1b[31m\n"));
}

TEST_CASE("misuse: a scope that is destroyed with live tasks names them") {
    const std::string text = abort_message([] {
        rondo::run([]() -> task<> {
            detail::scope home(detail::running(), [](detail::scope&, detail::fiber&) noexcept {});
            const auto sleeper = [](int n) -> task<> {
                name_task("sleeper " + std::to_string(n));
                co_await sleep_for(1h);
            };
            for (int i = 0; i < 10; ++i)
                task_handle<>(detail::make_child(home, std::source_location::current(), sleeper, i)).discard();
            co_await test::others_first();
        });
    });
    CHECK_ABORTS(text, "a scope was destroyed with 10 live tasks in it: task 2 'sleeper 0', task 3 'sleeper 1'");
    CHECK(has(text, "'sleeper 7' and 2 more"));
}

TEST_CASE("misuse: a task that swallows `cancelled` for ever is stopped in bounded time") {
    CHECK_ABORTS(abort_message([] {
                     rondo::run([]() -> task<> {
                         spawn([]() -> task<> {
                             for (;;) {
                                 try {
                                     co_await yield();
                                 } catch (const cancelled&) {
                                 }
                             }
                         });
                         co_await yield();
                     });
                 }),
                 "swallows `cancelled` for ever");
}

TEST_CASE("misuse, hazard B6: a destructor that throws while `cancelled` passes ends the program, as C++ says") {
    const std::string text = abort_message([] {
        rondo::run([]() -> task<> {
            struct throws {
                ~throws() noexcept(false) { throw std::runtime_error("out of a destructor"); }
            };
            auto victim = spawn([]() -> task<> {
                const throws at_the_end;
                co_await sleep_for(1h);
            });
            co_await test::others_first();
            victim.cancel();
            static_cast<void>(co_await attempt(victim));
        });
    });
    CHECK_ABORTS(text, "terminate called");
    CHECK(has(text, "out of a destructor"));
}

TEST_CASE("misuse: after fork the child may not use the loop") {
    if (test::on_sim()) return;  // nothing of the kernel's is shared
    CHECK_ABORTS(abort_message([] {
                     loop l;
                     l.set_timeout(1ms, [] {});
                     const pid_t child = fork();
                     if (child == 0) {
                         l.run();
                         _exit(0);
                     }
                     int status = 0;
                     waitpid(child, &status, 0);
                     if (WIFEXITED(status) && WEXITSTATUS(status) == 0) _exit(0);
                     std::abort();
                 }),
                 "fork");
}

TEST_CASE("misuse: a received buffer must not outlive its loop, and the message says so") {
    struct local {
        static task<buffer> receive_one() {
            auto c = co_await test::connected();
            co_await c.client.write_all("x");
            co_return co_await c.server.receive();
        }
    };
    CHECK_ABORTS(abort_message([] { const buffer kept = rondo::run(local::receive_one); }),
                 "a received buffer outlives its loop");
}

TEST_CASE("misuse: what tasks wait for, or hold, must not go before they do") {
    struct local {
        static task<> wait(semaphore& s) { auto permit = co_await s.acquire(); }
        static task<> semaphore_goes() {
            task_handle<> waits;
            semaphore s(0, "db");
            waits = spawn(wait, std::ref(s));
            co_await test::others_first();
        }
        static task<> hold(mutex& m) {
            auto guard = co_await m.lock();
            co_await sleep_for(1h);
        }
        static task<> mutex_goes() {
            mutex m("accounts");
            spawn(hold, std::ref(m)).discard();
            co_await test::others_first();
        }
    };
    const std::string text = abort_message([] { rondo::run(local::semaphore_goes); });
    CHECK_ABORTS(text, "semaphore 'db' was destroyed while 1 task waits for it, task 2 the first");
    CHECK(has(text, "misuse_test.cpp"));
    CHECK_ABORTS(abort_message([] { rondo::run(local::mutex_goes); }),
                 "mutex 'accounts', held by task 2, 0 waiting, was destroyed");
}

TEST_CASE("misuse: a lock stays with the task that took it, and ends before it") {
    struct local {
        static task<> unlock(mutex::guard& guard) {
            guard.unlock();
            co_return;
        }
        static task<> other_unlocks(mutex& m) {
            auto guard = co_await m.lock();
            auto other = spawn(unlock, std::ref(guard));
            co_await other;
        }
        static task<> leaves_it(mutex& m, mutex::guard& kept) { kept = co_await m.lock(); }
        static task<> another_waits(mutex& m, mutex::guard& kept) {
            auto other = spawn(leaves_it, std::ref(m), std::ref(kept));
            co_await other;
        }
    };
    CHECK_ABORTS(abort_message([] {
                     mutex m("accounts");
                     rondo::run(local::other_unlocks, std::ref(m));
                 }),
                 "mutex 'accounts', held by task 1, 0 waiting, is unlocked by another than its owner");
    CHECK_ABORTS(abort_message([] {
                     mutex m("accounts");
                     mutex::guard kept;
                     rondo::run(local::another_waits, std::ref(m), std::ref(kept));
                 }),
                 "a task has ended as the owner of a lock: mutex 'accounts', held by task 2");
    CHECK_ABORTS(abort_message([] {
                     loop l;
                     mutex m;
                     l.set_timeout(0ms, [&m] { auto guard = m.try_lock(); });
                     l.run();
                 }),
                 "a lock is for tasks: a callback cannot own it");
}

TEST_CASE("misuse: counting below zero, and waiting without the mutex") {
    CHECK_ABORTS(abort_message([] {
                     latch l(1);
                     l.count_down(2);
                 }),
                 "a latch is counted down below zero");
    CHECK_ABORTS(abort_message([] { barrier b(0); }), "a barrier without parties");
    CHECK_ABORTS(abort_message([] { semaphore s(2, "", 1); }), "begins with more permits than it may have");
    CHECK_ABORTS(abort_message([] {
                     rondo::run([]() -> task<> {
                         condition c;
                         mutex::guard none;
                         co_await c.wait(none);
                     });
                 }),
                 "waiting for a condition needs the mutex locked");
    CHECK_ABORTS(abort_message([] {
                     struct local {
                         static task<> wait(auto_event& e) { co_await e.wait(); }
                     };
                     auto_event e;
                     loop l;
                     auto waits = spawn_on(l, local::wait, std::ref(e));
                     l.run_nowait();
                     e.set();  // no loop runs here
                 }),
                 "no rondo loop runs on this thread");
}

#if RONDO_GCC12
task<> awaits_in_a_condition(bool& ran) {
    // lint: allow - GCC 12 miscompiles this shape, which is the point
    if (co_await one()) ran = true;
}
task<> awaits_in_a_loop(int& left) {
    // lint: allow - and this one
    while (co_await one()) {
        if (--left == 0) co_return;
    }
}

// The first was a crash: both asked, and the second overwrote who the first was to go back to.
TEST_CASE("misuse: two tasks ask one async_generator, or one that was moved from, or one that goes meanwhile") {
    struct local {
        static async_generator<int> numbers(channel<int>& from) {
            while (auto n = co_await from.receive()) co_yield *n;
        }
        static task<> asks(async_generator<int>& g) { static_cast<void>(co_await g.next()); }
        static async_generator<int> asks_itself(async_generator<int>& g) { co_yield *co_await g.next(); }
        static task<> two() {
            channel<int> c;
            auto g = numbers(c);
            auto a = rondo::spawn(asks, std::ref(g));
            auto b = rondo::spawn(asks, std::ref(g));
            co_await a;
        }
        static task<> itself() {
            async_generator<int> g = asks_itself(g);
            static_cast<void>(co_await g.next());
        }
        static task<> moved_from() {
            channel<int> c;
            auto g = numbers(c);
            const auto to = std::move(g);
            static_cast<void>(co_await g.next());
        }
        static task<> goes() {
            channel<int> c;
            std::optional<async_generator<int>> g = numbers(c);
            auto a = rondo::spawn(asks, std::ref(*g));
            co_await test::others_first();
            g.reset();
        }
    };
    CHECK_ABORTS(abort_message([] { rondo::run(local::two); }), "two tasks ask one async_generator");
    CHECK_ABORTS(abort_message([] { rondo::run(local::itself); }), "two tasks ask one async_generator");
    CHECK_ABORTS(abort_message([] { rondo::run(local::moved_from); }),
                 "an async_generator is asked that was moved from");
    CHECK_ABORTS(abort_message([] { rondo::run(local::goes); }),
                 "an async_generator was destroyed while a task asks it");
}

// The second one to wait took the value of the first, which then saw the end where there was none; of those
// that wait to be asked to stop the first was forgotten.
TEST_CASE("misuse: two tasks wait where one at a time may") {
    struct local {
        static task<> receives(subscription<int>& s) { static_cast<void>(co_await s.receive()); }
        static task<> two_subscribers(bool woken) {
            broadcast<int> b(4);
            auto s = b.subscribe();
            auto first = rondo::spawn(receives, std::ref(s));
            co_await test::others_first();
            if (woken) static_cast<void>(b.try_send(1));  // the first is ready, and has not read it
            static_cast<void>(co_await s.receive());
        }
        static task<> takes(oneshot_receiver<int>& r) { static_cast<void>(co_await r.receive()); }
        static task<> two_receivers(bool woken) {
            oneshot<int> o;
            auto first = rondo::spawn(takes, std::ref(o.receiver));
            co_await test::others_first();
            if (woken) o.sender.send(1);
            static_cast<void>(co_await o.receiver.receive());
        }
        static task<> hears(supervised& s) { co_await s.stop_asked(); }
        static task<> child(supervised& s) {
            s.ready();
            const auto body = [&](task_group& g) -> task<> {
                g.spawn(hears, std::ref(s)).discard();
                co_await s.stop_asked();
            };
            co_await with_task_group(body);
        }
        static task<> two_to_stop() {
            co_await with_supervisor([](supervisor& s) -> task<> {
                co_await s.start({}, child);
                co_await sleep_for(1ms);
            });
        }
    };
    for (const bool woken : {false, true}) {
        CHECK_ABORTS(abort_message([&] { rondo::run(local::two_subscribers, woken); }),
                     "two tasks receive from one subscription");
        CHECK_ABORTS(abort_message([&] { rondo::run(local::two_receivers, woken); }),
                     "two tasks wait on one end of a oneshot");
    }
    CHECK_ABORTS(abort_message([] { rondo::run(local::two_to_stop); }), "two tasks of a child wait");
}

TEST_CASE("misuse: what a task receives from neither moves nor goes before the task has the value") {
    struct local {
        static task<> receives(subscription<int>& s) { static_cast<void>(co_await s.receive()); }
        static task<> subscription_goes(bool moves) {
            broadcast<int> b(4);
            std::optional<subscription<int>> s = b.subscribe();
            auto first = rondo::spawn(receives, std::ref(*s));
            co_await test::others_first();
            static_cast<void>(b.try_send(1));
            if (moves) const auto to = std::move(*s);
            s.reset();
        }
        static task<> takes(oneshot_receiver<int>& r) { static_cast<void>(co_await r.receive()); }
        static task<> receiver_goes() {
            oneshot<int> o;
            std::optional<oneshot_receiver<int>> r = std::move(o.receiver);
            auto first = rondo::spawn(takes, std::ref(*r));
            co_await test::others_first();
            o.sender.send(1);
            r.reset();
        }
        static task<> limiter_goes() {
            std::optional<keyed_rate_limiter<int>> limits(std::in_place, rate_options{});
            auto wait = limits->acquire(1);
            limits.reset();
            co_await wait;
        }
    };
    CHECK_ABORTS(abort_message([] { rondo::run(local::subscription_goes, false); }),
                 "a subscription was destroyed while a task receives from it");
    CHECK_ABORTS(abort_message([] { rondo::run(local::subscription_goes, true); }),
                 "a subscription was moved while a task receives from it");
    CHECK_ABORTS(abort_message([] { rondo::run(local::receiver_goes); }),
                 "an end of a oneshot was destroyed while a task waits on it");
    CHECK_ABORTS(abort_message([] { rondo::run(local::limiter_goes); }),
                 "a keyed_rate_limiter was destroyed before a wait that was made for it");
}

TEST_CASE("misuse: a comparison that throws in a priority_queue, and a start() that is awaited twice") {
    struct throws {
        bool operator()(int, int) const { throw std::runtime_error("cannot compare"); }
    };
    CHECK_ABORTS(abort_message([] {
                     priority_queue<int, throws> q(4);
                     static_cast<void>(q.try_put(1));
                     static_cast<void>(q.try_put(2));
                 }),
                 "the comparison of a priority_queue threw: std::runtime_error: cannot compare");
    CHECK_ABORTS(abort_message([] {
                     rondo::run([]() -> task<> {
                         co_await with_supervisor([](supervisor& s) -> task<> {
                             auto start = s.start({}, []() -> task<> { co_await sleep_for(1h); });
                             co_await start;
                             co_await start;
                         });
                     });
                 }),
                 "is awaited once");
}

TEST_CASE("misuse: what is empty, or was moved from, says so") {
    struct local {
        static task<int> fails() {
            throw std::runtime_error("why");
            co_return 1;
        }
        static task<> outcome_moved_from() {
            auto [outcome] = co_await all_settled(fails());
            const auto to = std::move(outcome);
            static_cast<void>(outcome.value());
        }
        static task<> subscription_moved_from() {
            broadcast<int> b(4);
            auto s = b.subscribe();
            const auto to = std::move(s);
            static_cast<void>(co_await s.receive());
        }
    };
    CHECK_ABORTS(abort_message([] { static_cast<void>(actor_ref<int>().try_tell(1)); }), "an empty actor_ref is used");
    CHECK_ABORTS(abort_message([] { actor_ref<int>().stop(); }), "an empty actor_ref is used");
    CHECK_ABORTS(abort_message([] { static_cast<void>(child_handle().state()); }), "an empty child_handle is used");
    CHECK_ABORTS(abort_message([] {
                     channel<int> c(1);
                     channel_sender<int> s(c);
                     const auto to = std::move(s);
                     static_cast<void>(s->try_send(1));
                 }),
                 "an empty channel_sender is used");
    CHECK_ABORTS(abort_message([] {
                     channel<int> c(1);
                     channel_receiver<int> r(c);
                     const auto to = std::move(r);
                     static_cast<void>(r->try_receive());
                 }),
                 "an empty channel_receiver is used");
    CHECK_ABORTS(abort_message([] { rondo::run(local::outcome_moved_from); }), "the outcome of a task was moved from");
    CHECK_ABORTS(abort_message([] { rondo::run(local::subscription_moved_from); }),
                 "a subscription is used that was moved from");
}

TEST_CASE("misuse: a coroutine that GCC 12 miscompiles is diagnosed instead of corrupting memory") {
    const std::string text = abort_message([] {
        bool ran = false;
        rondo::run(awaits_in_a_condition, std::ref(ran));
    });
    CHECK_ABORTS(text, "GCC 12 miscompiled this coroutine");
    CHECK_ABORTS(abort_message([] {
                     int left = 3;
                     rondo::run(awaits_in_a_loop, std::ref(left));
                 }),
                 "GCC 12 miscompiled this coroutine");
}
#endif

}  // namespace
