// Timers three ways: callbacks on the loop, sleeping tasks, and an interval that ends itself.
#include <rondo/interop/spdlog.hpp>
#include <rondo/rondo.hpp>

#include "options.hpp"

using namespace std::chrono_literals;

rondo::task<> countdown(const char* name, int from, std::chrono::milliseconds pause) {
    for (int n = from; n > 0; --n) {
        spdlog::info("{} {}", name, n);
        co_await rondo::sleep_for(pause);
    }
}

rondo::task<> app() {
    rondo::loop& loop = rondo::this_loop();
    spdlog::info("on {}", loop.backend_info());

    loop.set_timeout(0ms, [] { spdlog::info("timers phase: a timeout of 0 ms"); });
    loop.set_immediate([] { spdlog::info("check phase: an immediate"); });
    loop.queue_microtask([] { spdlog::info("a microtask, before any phase"); });
    loop.next_tick([] { spdlog::info("a tick"); });

    int beats = 0;
    rondo::timer beat;
    beat = loop.set_interval(20ms, [&] {
        spdlog::info("beat {}", ++beats);
        if (beats == 3) beat.cancel();
    });

    // Two tasks at once: the slower one decides how long this takes, not the sum.
    const rondo::time_point start = rondo::now();
    auto fast = rondo::spawn(countdown, "fast", 3, 15ms);
    auto slow = rondo::spawn(countdown, "slow", 2, 40ms);
    co_await fast;
    co_await slow;
    spdlog::info("both done after {} ms", (rondo::now() - start) / 1ms);

    auto endless = rondo::spawn(countdown, "endless", 1'000'000, 1h);
    co_await rondo::yield();
    endless.cancel();
    const auto ended = co_await rondo::attempt(endless);
    spdlog::info("endless: {}", ended.error().message());
}

int main(int argc, char** argv) {
    sample::options given(argc, argv, "  --backend NAME   auto, epoll, uring or sim (auto)\n");
    rondo::loop_options options;
    options.kind = given.backend();
    given.done();
    spdlog::set_formatter(rondo::spdlog_formatter("%H:%M:%S.%e [task %J, %K] %v"));
    rondo::log_to(spdlog::default_logger());
    return rondo::run_main(options, app);
}
