// A million tasks asleep at once in one group: what they cost in time and memory.
#include <rondo/rondo.hpp>

#include "options.hpp"

#include <cstdio>
#include <sys/resource.h>

using namespace std::chrono_literals;

// The most memory the process has had so far.
double peak_megabytes() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    return static_cast<double>(used.ru_maxrss) * 1024 / 1e6;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

rondo::task<> sleeper(long& woken) {
    co_await rondo::sleep_for(3s);
    ++woken;
}

rondo::task<int> app(long count) {
    const double before = peak_megabytes();
    const auto start = std::chrono::steady_clock::now();
    long woken = 0;
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        for (long i = 0; i < count; ++i) group.spawn(sleeper, std::ref(woken)).discard();
        std::printf("%zu tasks spawned in %.2f s\n", group.size(), seconds_since(start));
        const auto asleep = static_cast<std::size_t>(count);
        while (rondo::this_loop().stats().timers < asleep && woken == 0) co_await rondo::yield();
        const double all = peak_megabytes() - before;
        std::printf("%zu asleep after %.2f s: %.1f MB, %.0f bytes each\n", rondo::this_loop().stats().timers,
                    seconds_since(start), all, all * 1e6 / static_cast<double>(count));
    });
    std::printf("%ld have woken, after %.2f s\n", woken, seconds_since(start));
    co_return woken == count ? 0 : 1;
}

int main(int argc, char** argv) {
    sample::options given(argc, argv,
                          "  --count N        tasks (1000000)\n"
                          "  --backend NAME   auto, epoll, uring or sim (auto)\n");
    const long count = given.number("--count", 1'000'000, 1, 100'000'000);
    rondo::loop_options options;
    options.kind = given.backend();
    given.done();
    return rondo::run_main(options, app, count);
}
