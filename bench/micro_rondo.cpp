// Micro rows on rondo. A backend that does no I/O here; RONDO_BACKEND may choose one.
#include <rondo/observe/loop_metrics.hpp>
#include <rondo/loop/observer.hpp>
#include <rondo/observe/recorder.hpp>
#include <rondo/observe/stall_watchdog.hpp>
#include <rondo/actor/actor.hpp>
#include <rondo/rondo.hpp>

#include "support.hpp"

#include <thread>
#include <variant>

namespace {

using rondo::task;

void timed(long count, task<> (*body)(long)) {
    auto start = bench::cpu_ns();
    rondo::run(body, count);
    bench::report("ns", static_cast<double>(bench::cpu_ns() - start) / static_cast<double>(count));
}

[[gnu::noinline]] task<int> child(int n) { co_return n; }

task<> call_children(long count) {
    long sum = 0;
    for (long i = 0; i < count; ++i) sum += co_await child(1);
    bench::keep(sum);
}

task<> yielder(long times) {
    for (long i = 0; i < times; ++i) co_await rondo::yield();
}

task<> yield_among(long tasks, long count) {
    std::vector<rondo::task_handle<void>> all;
    for (long i = 0; i < tasks; ++i) all.push_back(rondo::spawn(yielder, count / tasks));
    for (auto& each : all) co_await each;
}

task<> nothing() { co_return; }

task<> spawn_and_join(long count) {
    std::vector<rondo::task_handle<void>> batch(100);
    for (long i = 0; i < count; i += 100) {
        for (auto& each : batch) each = rondo::spawn(nothing);
        for (auto& each : batch) co_await each;
    }
}

task<> spawn_into_groups(long count) {
    for (long i = 0; i < count; i += 100) {
        co_await rondo::with_task_group([](rondo::task_group& all) -> task<> {
            for (int n = 0; n < 100; ++n) all.spawn(nothing);
            co_return;
        });
    }
}

task<> worker(rondo::semaphore& permits, long times) {
    for (long i = 0; i < times; ++i) {
        auto permit = co_await permits.acquire();
        co_await rondo::yield();
    }
}

task<> share_permit(long count) {
    rondo::semaphore permits(1);
    std::vector<rondo::task_handle<void>> all;
    for (int i = 0; i < 100; ++i) all.push_back(rondo::spawn(worker, std::ref(permits), count / 100));
    for (auto& each : all) co_await each;
}

task<> echo(rondo::channel<long>& in, rondo::channel<long>& out, long times) {
    for (long i = 0; i < times; ++i) {
        const auto value = co_await in.receive();
        co_await out.send(*value);
    }
}

// A value goes to another task and comes back, by two unbuffered channels.
task<> ping_pong(long count) {
    rondo::channel<long> there, back;
    auto other = rondo::spawn(echo, std::ref(there), std::ref(back), count);
    for (long i = 0; i < count; ++i) {
        co_await there.send(i);
        const auto value = co_await back.receive();
        bench::keep(*value);
    }
    co_await other;
}

// Timers that exist are started and stopped.
task<> time_timers(long count) {
    auto& loop = rondo::this_loop();
    std::vector<rondo::timer> timers(bench::timer_slots);
    for (auto& each : timers) {
        each = loop.set_timeout(std::chrono::hours(1), [] {});
        each.cancel();
    }
    bench::timer_rounds(
        count, [&](int slot, int delay) { timers[std::size_t(slot)].rearm(std::chrono::milliseconds(delay)); },
        [&](int slot) { timers[std::size_t(slot)].cancel(); }, [] {});
    for (auto& each : timers) each.cancel();
    co_return;
}

// Every timer is made for one use.
task<> time_new_timers(long count) {
    auto& loop = rondo::this_loop();
    std::vector<rondo::timer> timers(bench::timer_slots);
    bench::timer_rounds(
        count,
        [&](int slot, int delay) {
            timers[std::size_t(slot)] = loop.set_timeout(std::chrono::milliseconds(delay), [] {});
        },
        [&](int slot) {
            timers[std::size_t(slot)].cancel();
            timers[std::size_t(slot)] = {};
        },
        [] {});
    for (auto& each : timers) each.cancel();
    co_return;
}

// Another thread posts, the loop runs what it posted.
void post(long count) {
    rondo::loop loop;
    long seen = 0;
    auto start = bench::cpu_ns();
    std::thread producer([&, out = loop.remote()] {
        for (long i = 0; i < count; ++i)
            if (!out.post([&seen, i] { seen += i; })) return;
    });
    loop.run();
    producer.join();
    bench::report("ns", static_cast<double>(bench::cpu_ns() - start) / static_cast<double>(count));
    bench::keep(seen);
}

// The same through a channel of 1024 places.
task<> receive_all(long count) {
    rondo::thread_channel<long> in(1024);
    std::thread producer([count, out = in.make_sender()] {
        for (long i = 0; i < count; ++i)
            if (!out.send(i)) return;
    });
    long seen = 0;
    while (auto value = co_await in.receive()) seen += *value;
    producer.join();
    bench::keep(seen);
}

void post_channel(long count) {
    auto start = bench::cpu_ns();
    rondo::run(receive_all, count);
    bench::report("ns", static_cast<double>(bench::cpu_ns() - start) / static_cast<double>(count));
}

long armed = 0;

task<> sleeper() {
    ++armed;
    co_await rondo::sleep_for(std::chrono::hours(1));
}

task<> stander() {
    ++armed;
    co_await rondo::yield();
}

task<> start_all(long count, task<> (*each)()) {
    auto resident = bench::resident_bytes();
    auto start = bench::cpu_ns();
    for (long i = 0; i < count; ++i) rondo::spawn(each);
    while (armed < count) co_await rondo::yield();
    auto elapsed = bench::cpu_ns() - start;
    bench::report("ns", static_cast<double>(elapsed) / static_cast<double>(count));
    bench::report("bytes", static_cast<double>(bench::resident_bytes() - resident) / static_cast<double>(count));
    std::fflush(stdout);
    _exit(0);
}

// Only the request: what the tasks do about it would come after.
task<> cancel_sleepers(long count) {
    auto body = [count](rondo::task_group& all) -> task<> {
        for (long i = 0; i < count; ++i) all.spawn(sleeper);
        while (armed < count) co_await rondo::yield();
        auto start = bench::cpu_ns();
        all.cancel();
        bench::report("ns", static_cast<double>(bench::cpu_ns() - start) / static_cast<double>(count));
        std::fflush(stdout);
        _exit(0);
    };
    co_await rondo::with_task_group(body);
}

// Told and handled, in the rhythm of a mailbox that fills up and is emptied.
struct add {
    long amount;
};
struct get_sum : rondo::request<long> {};
struct adder {
    using message = std::variant<add, get_sum>;
    void on(add& a) { sum += a.amount; }
    long on(get_sum&) { return sum; }
    long sum = 0;
};

task<> tell_actor(long count) {
    auto ref = rondo::spawn_actor<adder>();
    for (long i = 0; i < count; ++i) co_await ref.tell<add>(1);
    const long sum = co_await ref.ask<get_sum>();
    bench::keep(sum);
}

task<> ask_actor(long count) {
    auto ref = rondo::spawn_actor<adder>();
    long sum = 0;
    for (long i = 0; i < count; ++i) sum += co_await ref.ask<get_sum>();
    bench::keep(sum);
}

// Alive, each has handled a message, and waits for the next.
task<> keep_actors(long count) {
    std::vector<rondo::actor_ref<adder::message>> all;
    all.reserve(std::size_t(count));
    auto resident = bench::resident_bytes();
    auto start = bench::cpu_ns();
    for (long i = 0; i < count; ++i) all.push_back(rondo::spawn_actor<adder>());
    long sum = 0;
    for (auto& each : all) {
        co_await each.tell<add>(1);
        sum += co_await each.ask<get_sum>();
    }
    auto elapsed = bench::cpu_ns() - start;
    if (sum != count) std::abort();
    bench::report("ns", static_cast<double>(elapsed) / static_cast<double>(count));
    // (without the addresses, whose pages were first touched meanwhile)
    bench::report("bytes", static_cast<double>(bench::resident_bytes() - resident) / static_cast<double>(count) -
                               double(sizeof all[0]));
    std::fflush(stdout);
    _exit(0);
}

void call(long count) { timed(count, call_children); }
void yield(long count) {
    timed(count, [](long n) { return yield_among(2, n); });
}
/// What an observer costs: the row `yield` under one.
void yield_under(rondo::observer& by, long count) {
    rondo::loop_options options;
    options.observer = &by;
    auto start = bench::cpu_ns();
    rondo::run(options, yield_among, 2, count);
    bench::report("ns", static_cast<double>(bench::cpu_ns() - start) / static_cast<double>(count));
}
void yield_observed(long count) {
    struct : rondo::observer {
        void on(const rondo::loop_event&) noexcept override {}
    } nobody;
    yield_under(nobody, count);
}
void yield_recorded(long count) {
    rondo::recorder seen;
    yield_under(seen, count);
}
void yield_recorded_briefly(long count) {
    rondo::recorder seen({.waits = false});
    yield_under(seen, count);
}
void yield_measured(long count) {
    rondo::loop_metrics metrics;
    yield_under(metrics, count);
}
void yield_guarded(long count) {
    rondo::stall_watchdog watchdog;
    yield_under(watchdog, count);
}
void yield1000(long count) {
    timed(count, [](long n) { return yield_among(1000, n); });
}
void spawn(long count) { timed(count, spawn_and_join); }
void spawn_group(long count) { timed(count, spawn_into_groups); }
void semaphore(long count) { timed(count, share_permit); }
void channel(long count) { timed(count, ping_pong); }
void timer(long count) { rondo::run(time_timers, count); }
void timer_new(long count) { rondo::run(time_new_timers, count); }
void sleepers(long count) { rondo::run(start_all, count, sleeper); }
void tasks(long count) { rondo::run(start_all, count, stander); }
void cancel(long count) { rondo::run(cancel_sleepers, count); }
void actor(long count) { timed(count, tell_actor); }
void actor_ask(long count) { timed(count, ask_actor); }
void actors_idle(long count) { rondo::run(keep_actors, count); }

}  // namespace

int main(int argc, char** argv) {
    return bench::run_row(argc, argv,
                          {{"call", call},
                           {"yield", yield},
                           {"yield1000", yield1000},
                           {"yield_observed", yield_observed},
                           {"yield_recorded", yield_recorded},
                           {"yield_recorded_briefly", yield_recorded_briefly},
                           {"yield_measured", yield_measured},
                           {"yield_guarded", yield_guarded},
                           {"spawn", spawn},
                           {"spawn_group", spawn_group},
                           {"semaphore", semaphore},
                           {"channel", channel},
                           {"timer", timer},
                           {"timer_new", timer_new},
                           {"post", post},
                           {"post_channel", post_channel},
                           {"sleepers", sleepers},
                           {"tasks", tasks},
                           {"cancel", cancel},
                           {"actor", actor},
                           {"actor_ask", actor_ask},
                           {"actors_idle", actors_idle}});
}
