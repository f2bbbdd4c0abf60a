// Ten threads count to 100,000 with atomics, as Java and Go do it; ten tasks of one loop need none.
#include <rondo/rondo.hpp>

#include <atomic>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

constexpr int counters = 10;
constexpr int times = 10'000;

template <class F>
void in_threads(F count) {
    std::vector<std::thread> threads;
    for (int i = 0; i < counters; ++i) threads.emplace_back(count, i);
    for (std::thread& each : threads) each.join();
}

// AtomicLong.incrementAndGet
long atomic_increment() {
    std::atomic<long> counter = 0;
    in_threads([&](int) {
        for (int i = 0; i < times; ++i) counter.fetch_add(1, std::memory_order_relaxed);
    });
    return counter;
}

// Go's LockFreeCounter: read, and exchange if nobody was faster; else with what he has written.
long exchange_loop() {
    std::atomic<long> counter = 0;
    in_threads([&](int) {
        for (int i = 0; i < times; ++i) {
            long seen = counter.load(std::memory_order_relaxed);
            while (!counter.compare_exchange_weak(seen, seen + 1, std::memory_order_relaxed)) {
            }
        }
    });
    return counter;
}

// Go's PaddedCounter: each thread its own, on a cache line of its own; added up at the end.
long padded() {
    struct alignas(64) counter {
        long value = 0;
    };
    std::vector<counter> all(counters);
    in_threads([&](int own) {
        for (int i = 0; i < times; ++i) ++all[static_cast<std::size_t>(own)].value;
    });
    long sum = 0;
    for (const counter& each : all) sum += each.value;
    return sum;
}

// The rondo way. Tasks of one loop take turns, and only where they wait: a plain number will do.
rondo::task<> count(long& counter) {
    for (int i = 0; i < times; ++i) {
        ++counter;
        if (i % 100 == 0) co_await rondo::yield();
    }
}

rondo::task<long> plain_number() {
    long counter = 0;
    auto body = [&](rondo::task_group& group) -> rondo::task<> {
        for (int i = 0; i < counters; ++i) group.spawn(count, std::ref(counter)).discard();
        co_return;
    };
    co_await rondo::with_task_group(body);
    co_return counter;
}

// Where there are threads, they share nothing: what they have counted comes to the loop, which adds.
rondo::task<long> sent_to_the_loop() {
    rondo::thread_channel<long> parts(4);
    std::vector<std::thread> threads;
    {
        const auto out = parts.make_sender();  // the channel ends with the last sender: not before all are made
        for (int i = 0; i < counters; ++i)
            threads.emplace_back([out] {
                for (int part = 0; part < times; part += 1000) out.send(1000L);
            });
    }
    long counter = 0;
    while (auto part = co_await parts.receive()) counter += *part;
    for (std::thread& each : threads) each.join();
    co_return counter;
}

// AtomicReference.compareAndSet: only who saw the present value replaces it.
void configure() {
    const std::string first = "default", production = "production", test = "test";
    std::atomic<const std::string*> config = &first;
    const std::string* seen = &first;
    const bool updated = config.compare_exchange_strong(seen, &production);
    seen = &first;
    const bool again = config.compare_exchange_strong(seen, &test);
    std::printf("Config updated: %s, again: %s\nConfig value: %s\n", updated ? "true" : "false",
                again ? "true" : "false", config.load()->c_str());
}

rondo::task<> app() {
    std::printf("Counter (atomic): %ld\n", atomic_increment());
    std::printf("Counter (exchange loop): %ld\n", exchange_loop());
    std::printf("Counter (one per thread): %ld\n", padded());
    const long plain = co_await plain_number();
    std::printf("Counter (tasks, a plain number): %ld\n", plain);
    const long sent = co_await sent_to_the_loop();
    std::printf("Counter (threads send to the loop): %ld\n", sent);
    configure();
}

int main() { return rondo::run_main(app); }
