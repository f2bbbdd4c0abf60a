// Loads an echo server and verifies every byte: --port N, --connections N, --size BYTES, --seconds N.
#include <rondo/rondo.hpp>

#include "options.hpp"

#include <algorithm>
#include <cstring>

#include <unistd.h>

using namespace std::chrono_literals;

namespace {

struct settings {
    rondo::endpoint server;
    long connections;
    long size;
    std::chrono::seconds duration;
    bool quiet;
};

struct totals {
    std::vector<float> microseconds;  // one per request
    std::uint64_t wrong = 0;
    std::uint64_t failed = 0;  // connections
    std::string failure;       // of the first of them
    bool stop = false;
};

std::chrono::steady_clock::time_point real_now() { return std::chrono::steady_clock::now(); }

rondo::task<> exchange(const settings& with, totals& all, std::uint32_t seed) {
    auto stream = co_await rondo::tcp_stream::connect(with.server);
    std::vector<std::byte> sent(static_cast<std::size_t>(with.size));
    std::vector<std::byte> back(sent.size());
    while (!all.stop) {
        for (auto& b : sent) b = static_cast<std::byte>((seed = seed * 1664525 + 1013904223) >> 24);
        const auto start = real_now();
        co_await stream.write_all(sent);
        const std::size_t got = co_await stream.read_exactly(back);
        all.microseconds.push_back(std::chrono::duration<float, std::micro>(real_now() - start).count());
        if (got != sent.size() || std::memcmp(sent.data(), back.data(), got) != 0) ++all.wrong;
        if (got != sent.size()) break;
    }
    stream.shutdown();
    co_await stream.receive();
    co_await stream.close();
}

// The first failure ends the measurement: without a server all connections fail, and one line says it.
rondo::task<> client(const settings& with, totals& all, std::uint32_t seed) {
    try {
        co_await exchange(with, all, seed);
    } catch (const std::system_error& e) {
        if (all.failed++ == 0) all.failure = e.what();
        all.stop = true;
    }
}

float percentile(const std::vector<float>& sorted, double p) {
    return sorted.empty() ? 0 : sorted[static_cast<std::size_t>(p * static_cast<double>(sorted.size() - 1))];
}

rondo::task<int> app(settings with) {
    totals all;
    all.microseconds.reserve(1 << 20);
    std::vector<rondo::task_handle<>> clients;
    const auto start = real_now();
    for (long i = 0; i < with.connections; ++i)
        clients.push_back(
            rondo::spawn(client, std::cref(with), std::ref(all), static_cast<std::uint32_t>(i)));
    const bool progress = !with.quiet && isatty(2);
    for (auto passed = 0ms; passed < with.duration && !all.stop; passed += 100ms) {
        co_await rondo::sleep_for(100ms);
        if (progress)
            std::fprintf(stderr, "\r%4.1f s  %zu requests ", static_cast<double>(passed / 100ms) / 10,
                         all.microseconds.size());
    }
    if (progress) std::fputs("\r\033[K", stderr);
    all.stop = true;
    for (auto& c : clients) {
        if (all.failed > 0) c.cancel();
        static_cast<void>(co_await rondo::attempt(c));
    }
    if (all.failed > 0) {
        std::fprintf(stderr, "echo_load: %s (%llu of %ld connections failed)\n", all.failure.c_str(),
                     static_cast<unsigned long long>(all.failed), with.connections);
        co_return 1;
    }
    const double seconds = std::chrono::duration<double>(real_now() - start).count();

    std::sort(all.microseconds.begin(), all.microseconds.end());
    std::printf("%-6s %6ld conns %7ld B %10.0f req/s   p50 %6.0f  p99 %6.0f  p99.9 %6.0f us   "
                "%zu requests, %s\n",
                rondo::name_of(rondo::this_loop().kind()), with.connections, with.size,
                static_cast<double>(all.microseconds.size()) / seconds, percentile(all.microseconds, .5),
                percentile(all.microseconds, .99), percentile(all.microseconds, .999),
                all.microseconds.size(), all.wrong == 0 ? "every byte right" : "WRONG BYTES");
    co_return all.wrong == 0 && !all.microseconds.empty() ? 0 : 1;
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
    rondo::loop_options options;
    options.kind = given.backend();
    const std::string host = given.text("--host", "127.0.0.1");
    const auto port = static_cast<std::uint16_t>(given.number("--port", 7777, 1, 65535));
    const auto address = rondo::ip_address::try_parse(host);
    if (!address) given.fail("--host takes an IP address, not '" + host + "'");
    const settings with{{*address, port},
                        given.number("--connections", 50, 1, 100'000),
                        given.number("--size", 64, 1, 1 << 24),
                        std::chrono::seconds(given.number("--seconds", 2, 1, 3600)),
                        given.number("--quiet", 0, 0, 1) != 0};
    given.done();
    return rondo::run_main(options, app, with);
}
