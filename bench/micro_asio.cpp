// Micro rows on stand-alone Asio, C++20 coroutines, one thread.
#include <asio.hpp>

#include <memory>
#include <thread>

#include "support.hpp"

namespace {

using asio::awaitable;
using asio::use_awaitable;

[[gnu::noinline]] awaitable<int> child(int n) { co_return n; }

void timed(long count, awaitable<void> (*body)(long)) {
    asio::io_context context(1);
    auto start = bench::cpu_ns();
    co_spawn(context, body(count), asio::detached);
    context.run();
    bench::report("ns", static_cast<double>(bench::cpu_ns() - start) / static_cast<double>(count));
}

void call(long count) {
    timed(count, [](long n) -> awaitable<void> {
        long sum = 0;
        for (long i = 0; i < n; ++i) sum += co_await child(1);
        bench::keep(sum);
    });
}

awaitable<void> yielder(long times) {
    for (long i = 0; i < times; ++i) co_await asio::post(use_awaitable);
}

awaitable<void> yield_among(long tasks, long count) {
    auto executor = co_await asio::this_coro::executor;
    for (long i = 0; i < tasks; ++i) co_spawn(executor, yielder(count / tasks), asio::detached);
}

void yield(long count) {
    timed(count, [](long n) { return yield_among(2, n); });
}
void yield1000(long count) {
    timed(count, [](long n) { return yield_among(1000, n); });
}

awaitable<void> nothing() { co_return; }

// No join: a batch is over when the parent, posted behind it, goes on.
void spawn(long count) {
    timed(count, [](long n) -> awaitable<void> {
        auto executor = co_await asio::this_coro::executor;
        for (long i = 0; i < n; i += 100) {
            for (int k = 0; k < 100; ++k) co_spawn(executor, nothing(), asio::detached);
            co_await asio::post(use_awaitable);
        }
    });
}

// Cancelling includes delivering operation_aborted: a timer may not be started again before.
void timer(long count) {
    asio::io_context context(1);
    std::vector<asio::steady_timer> timers;
    timers.reserve(bench::timer_slots);
    for (int i = 0; i < bench::timer_slots; ++i) timers.emplace_back(context);
    auto base = std::chrono::steady_clock::now() + std::chrono::hours(1);
    bench::timer_rounds(
        count,
        [&](int slot, int delay) {
            auto& one = timers[std::size_t(slot)];
            one.expires_at(base + std::chrono::milliseconds(delay));
            one.async_wait([](const asio::error_code&) {});
        },
        [&](int slot) { timers[std::size_t(slot)].cancel(); },
        [&] {
            context.poll();
            context.restart();
        });
    _exit((std::fflush(stdout), 0));
}

// Another thread posts, the loop runs what it posted.
void post(long count) {
    asio::io_context context(1);
    auto work = asio::make_work_guard(context);
    long seen = 0;
    auto start = bench::cpu_ns();
    std::thread producer([&] {
        for (long i = 0; i < count; ++i) asio::post(context, [&seen, i] { seen += i; });
        asio::post(context, [&work] { work.reset(); });
    });
    context.run();
    producer.join();
    bench::report("ns", static_cast<double>(bench::cpu_ns() - start) / static_cast<double>(count));
    bench::keep(seen);
}

awaitable<void> sleeper() {
    asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::hours(1));
    co_await timer.async_wait(use_awaitable);
}

void sleepers(long count) {
    asio::io_context context(1);
    auto resident = bench::resident_bytes();
    auto start = bench::cpu_ns();
    for (long i = 0; i < count; ++i) {
        co_spawn(context, sleeper(), asio::detached);
        if (i % 1000 == 0) context.poll();
    }
    context.poll();
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
                           {"timer", timer},
                           {"post", post},
                           {"sleepers", sleepers}});
}
