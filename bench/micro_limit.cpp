// Micro rows on the hand-written limit.
#include "limit.hpp"
#include "support.hpp"

namespace {

using limit::task;

[[gnu::noinline]] task<int> child(int n) { co_return n; }

template <class Body>
void run(Body body) {
    auto root = body();
    limit::drive(root.release());
    limit::drain();
}

void timed(long count, task<> (*body)(long)) {
    auto start = bench::cpu_ns();
    run([=] { return body(count); });
    bench::report("ns", static_cast<double>(bench::cpu_ns() - start) / static_cast<double>(count));
}

void call(long count) {
    timed(count, [](long n) -> task<> {
        long sum = 0;
        for (long i = 0; i < n; ++i) sum += co_await child(1);
        bench::keep(sum);
    });
}

task<> yielder(long times) {
    for (long i = 0; i < times; ++i) co_await limit::yield{};
}

task<> yield_among(long tasks, long count) {
    limit::group all;
    std::vector<limit::starter> starters(static_cast<std::size_t>(tasks));
    for (auto& each : starters) limit::spawn(all, yielder(count / tasks), each);
    co_await limit::join{all};
}

void yield(long count) {
    timed(count, [](long n) { return yield_among(2, n); });
}
void yield1000(long count) {
    timed(count, [](long n) { return yield_among(1000, n); });
}

task<> nothing() { co_return; }

void spawn(long count) {
    timed(count, [](long n) -> task<> {
        std::vector<limit::starter> starters(100);
        for (long i = 0; i < n; i += 100) {
            limit::group all;
            for (auto& each : starters) limit::spawn(all, nothing(), each);
            co_await limit::join{all};
        }
    });
}

task<> worker(limit::semaphore& permits, long times) {
    for (long i = 0; i < times; ++i) {
        co_await limit::semaphore::acquire{permits};
        co_await limit::yield{};
        permits.release();
    }
}

void semaphore(long count) {
    timed(count, [](long n) -> task<> {
        limit::semaphore permits(1);
        limit::group all;
        std::vector<limit::starter> starters(100);
        for (auto& each : starters) limit::spawn(all, worker(permits, n / 100), each);
        co_await limit::join{all};
    });
}

task<> echo(limit::channel<long>& in, limit::channel<long>& out, long times) {
    for (long i = 0; i < times; ++i) {
        long value = co_await in.receive();
        co_await out.send(value);
    }
}

void channel(long count) {
    timed(count, [](long n) -> task<> {
        limit::channel<long> there, back;
        limit::group all;
        limit::starter start;
        limit::spawn(all, echo(there, back, n), start);
        for (long i = 0; i < n; ++i) {
            co_await there.send(i);
            long value = co_await back.receive();
            bench::keep(value);
        }
        co_await limit::join{all};
    });
}

void timer(long count) {
    std::vector<limit::timer> timers(bench::timer_slots);
    bench::timer_rounds(
        count, [&](int slot, int delay) { limit::timers.insert(timers[std::size_t(slot)], delay); },
        [&](int slot) { limit::timers.cancel(timers[std::size_t(slot)]); }, [] {});
}

task<> sleeper() { co_await limit::sleep_until(3'600'000); }

void sleepers(long count) {
    limit::group all;
    auto resident = bench::resident_bytes();
    auto start = bench::cpu_ns();
    limit::starter start_one;
    for (long i = 0; i < count; ++i) {
        limit::spawn(all, sleeper(), start_one);
        limit::drain();
    }
    auto elapsed = bench::cpu_ns() - start;
    bench::report("ns", static_cast<double>(elapsed) / static_cast<double>(count));
    bench::report("bytes", static_cast<double>(bench::resident_bytes() - resident) / static_cast<double>(count));
    std::fflush(stdout);
    _exit(0);
}

}  // namespace

int main(int argc, char** argv) {
    return bench::run_row(argc, argv,
                          {{"call", call},
                           {"yield", yield},
                           {"yield1000", yield1000},
                           {"spawn", spawn},
                           {"spawn_group", spawn},
                           {"semaphore", semaphore},
                           {"channel", channel},
                           {"timer", timer},
                           {"sleepers", sleepers}});
}
