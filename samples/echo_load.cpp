// Loads an echo server and verifies every byte: --port N, --connections N, --size BYTES, --seconds N.
#include <rondo/rondo.hpp>

#include "options.hpp"

#include <algorithm>

#include <unistd.h>

using namespace std::chrono_literals;

namespace {

struct settings {
    rondo::endpoint server;
    long connections, size;
    std::chrono::seconds duration;
    bool progress;
};

struct totals {
    std::vector<float> times;  // in microseconds, one per request
    std::uint64_t wrong = 0;
    bool stop = false;
};

std::chrono::steady_clock::time_point real_now() { return std::chrono::steady_clock::now(); }

rondo::task<> client(const settings& with, totals& all, std::uint32_t seed) {
    auto stream = co_await rondo::tcp_stream::connect(with.server);
    std::vector<std::byte> sent(static_cast<std::size_t>(with.size));
    std::vector<std::byte> back(sent.size());
    while (!all.stop) {
        for (auto& b : sent) b = static_cast<std::byte>((seed = seed * 1664525 + 1013904223) >> 24);
        const auto start = real_now();
        co_await stream.write_all(sent);
        const std::size_t got = co_await stream.read_exactly(back);
        all.times.push_back(std::chrono::duration<float, std::micro>(real_now() - start).count());
        if (got != sent.size() || sent != back) ++all.wrong;
        if (got != sent.size()) break;
    }
    stream.shutdown();
    co_await stream.receive();
}

// The first connection that fails ends the others.
rondo::task<int> app(settings with) {
    totals all;
    all.times.reserve(1 << 20);
    const auto start = real_now();
    auto load = [&](rondo::task_group& clients) -> rondo::task<> {
        for (long i = 0; i < with.connections; ++i)
            clients.spawn(client, std::cref(with), std::ref(all), static_cast<std::uint32_t>(i));
        for (auto passed = 0ms; passed < with.duration; passed += 100ms) {
            co_await rondo::sleep_for(100ms);
            if (with.progress)
                std::fprintf(stderr, "\r%5lld ms  %zu requests ", static_cast<long long>(passed / 1ms),
                             all.times.size());
        }
        if (with.progress) std::fputs("\r\033[K", stderr);
        all.stop = true;
    };
    try {
        co_await rondo::with_task_group(load);
    } catch (const rondo::exception_group& failures) {
        std::fprintf(stderr, "echo_load: %s\n", failures.what());
        co_return 1;
    }
    const double seconds = std::chrono::duration<double>(real_now() - start).count();
    if (all.times.empty()) co_return (std::fputs("echo_load: no answer in time\n", stderr), 1);
    std::sort(all.times.begin(), all.times.end());
    const auto count = static_cast<double>(all.times.size());
    const auto at = [&](double p) { return all.times[static_cast<std::size_t>(p * (count - 1))]; };
    std::printf(
        "%-6s %6ld conns %7ld B %10.0f req/s   p50 %6.0f  p99 %6.0f  p99.9 %6.0f us   "
        "%.0f requests, %s\n",
        rondo::name_of(rondo::this_loop().kind()), with.connections, with.size, count / seconds, at(.5), at(.99),
        at(.999), count, all.wrong == 0 ? "every byte right" : "WRONG BYTES");
    co_return all.wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    sample::options given(argc, argv,
                          "  --backend NAME    auto, epoll, uring or sim (auto)\n"
                          "  --host ADDRESS    the server's IP address (127.0.0.1)\n"
                          "  --port N          1 to 65535 (7777)\n"
                          "  --connections N   1 to 100000, one request in flight on each (50)\n"
                          "  --size N          bytes in a request, 1 to 16777216 (64)\n"
                          "  --seconds N       1 to 3600 (2)\n"
                          "  --quiet N         1: no progress on a terminal (0)\n");
    const rondo::loop_options options{.kind = given.backend()};
    const settings with{{given.address("--host", "127.0.0.1"), given.port("--port", 7777, 1)},
                        given.number("--connections", 50, 1, 100'000),
                        given.number("--size", 64, 1, 1 << 24),
                        std::chrono::seconds(given.number("--seconds", 2, 1, 3600)),
                        given.number("--quiet", 0, 0, 1) == 0 && isatty(2)};
    given.done();
    return rondo::run_main(options, app, with);
}
