// Micro rows on libuv, where it has something alike: timers, and idle handles for yield (a turn of
// its loop is the only way to let others go first).
#include <uv.h>

#include "support.hpp"

namespace {

void ignore(uv_timer_t*) {}

void timer(long count) {
    auto* loop = uv_default_loop();
    std::vector<uv_timer_t> timers(bench::timer_slots);
    for (auto& each : timers) uv_timer_init(loop, &each);
    bench::timer_rounds(
        count,
        [&](int slot, int delay) { uv_timer_start(&timers[std::size_t(slot)], ignore, std::uint64_t(delay), 0); },
        [&](int slot) { uv_timer_stop(&timers[std::size_t(slot)]); }, [] {});
}

// Every timer is made for one use. Closing needs a turn of the loop, so deadlines lie an hour away.
void timer_new(long count) {
    auto* loop = uv_default_loop();
    std::vector<uv_timer_t*> timers(bench::timer_slots);
    bench::timer_rounds(
        count,
        [&](int slot, int delay) {
            auto* made = timers[std::size_t(slot)] = new uv_timer_t;
            uv_timer_init(loop, made);
            uv_timer_start(made, ignore, 3'600'000 + std::uint64_t(delay), 0);
        },
        [&](int slot) {
            uv_close(reinterpret_cast<uv_handle_t*>(timers[std::size_t(slot)]),
                     [](uv_handle_t* closed) { delete reinterpret_cast<uv_timer_t*>(closed); });
        },
        [&] { uv_run(loop, UV_RUN_NOWAIT); });
    _exit((std::fflush(stdout), 0));
}

long left;

void idle_among(std::size_t handles, long count) {
    auto* loop = uv_default_loop();
    std::vector<uv_idle_t> all(handles);
    left = count;
    auto start = bench::cpu_ns();
    for (auto& each : all) {
        uv_idle_init(loop, &each);
        uv_idle_start(&each, [](uv_idle_t* handle) {
            if (--left <= 0) uv_idle_stop(handle);
        });
    }
    uv_run(loop, UV_RUN_DEFAULT);
    bench::report("ns", static_cast<double>(bench::cpu_ns() - start) / static_cast<double>(count));
}

void yield(long count) { idle_among(2, count); }
void yield1000(long count) { idle_among(1000, count); }

void sleepers(long count) {
    auto* loop = uv_default_loop();
    auto resident = bench::resident_bytes();
    auto start = bench::cpu_ns();
    for (long i = 0; i < count; ++i) {
        auto* one = new uv_timer_t;
        uv_timer_init(loop, one);
        uv_timer_start(one, ignore, 3'600'000, 0);
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
                          {{"timer", timer},
                           {"timer_new", timer_new},
                           {"yield", yield},
                           {"yield1000", yield1000},
                           {"sleepers", sleepers}});
}
