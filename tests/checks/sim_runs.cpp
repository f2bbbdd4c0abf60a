// Prints the hash of a simulated run for each of so many seeds, and of one with many servers: same_runs.py compares
// what several builds print, and one build in several environments.
#include <rondo/rondo.hpp>
#include <rondo/sim/simulate.hpp>

#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

using namespace std::chrono_literals;

namespace {

rondo::task<> session(rondo::tcp_stream& peer) {
    for (;;) {
        auto data = co_await peer.receive();
        if (data.empty()) co_return;
        co_await peer.write_all(data);
    }
}

rondo::task<> server() {
    auto listener = rondo::tcp_listener::bind("0.0.0.0", 80);
    co_await rondo::serve(listener, session);
}

rondo::task<> client(rondo::endpoint at) {
    for (int i = 0; i < 20; ++i) {
        const auto ask = [&]() -> rondo::task<> {
            try {
                auto peer = co_await rondo::tcp_stream::connect(at);
                std::byte message[100] = {};
                co_await peer.write_all(message);
                co_await peer.read_exactly(message);
            } catch (const std::system_error&) {
            }
        };
        co_await rondo::move_on_after(5s, ask);
        const auto pause = std::chrono::microseconds(rondo::random_u64() % 1000);
        co_await rondo::sleep_for(pause);
    }
}

rondo::task<> scenario(rondo::world& w) {
    auto& srv = w.host("srv").run(server);
    srv.abort_connections(rondo::percent(5)).clock_drift(300);
    w.link("srv", "test").latency(1ms, 30ms).loss(rondo::percent(5)).duplication(rondo::percent(5)).packet_size(40);
    std::vector<rondo::task_handle<>> all;
    for (int i = 0; i < 3; ++i) all.push_back(rondo::spawn(client, w.address_of("srv", 80)));
    co_await rondo::sleep_for(100ms);
    srv.crash(w.choose(2) == 0 ? rondo::crash_mode::reset : rondo::crash_mode::silent);
    srv.restart();
    co_await rondo::sleep_for(100ms);
    srv.signal(SIGTERM);
    for (auto& one : all) co_await one;
}

/// More servers than a process has descriptors, signals or patience for.
rondo::task<> many(rondo::world& w) {
    constexpr int servers = 1000;
    const auto name = [](int i) { return "srv" + std::to_string(i); };
    for (int i = 0; i < servers; ++i) w.host(name(i)).run(server);
    std::vector<rondo::task_handle<>> all;
    for (int i = 0; i < 100; ++i) all.push_back(rondo::spawn(client, w.address_of(name(i / 2), 80)));
    co_await rondo::sleep_for(20ms);
    for (int i = 0; i < servers; ++i) w.host(name(i)).signal(i % 2 == 0 ? SIGTERM : SIGINT);
    for (auto& one : all) co_await one;
}

bool print(std::uint64_t seed, rondo::order mode, rondo::task<> (*scenario_of)(rondo::world&)) {
    rondo::simulation one = rondo::seeds(1, seed);
    one.mode = mode;
    const rondo::simulation_report report = rondo::explore(one, scenario_of);
    std::printf("%" PRIu64 " %d %016" PRIx64 "\n", seed, static_cast<int>(mode), report.event_hash);
    if (report.failed) std::fprintf(stderr, "%s\n", report.message.c_str());
    return !report.failed;
}

}  // namespace

int main(int, char** argv) {
    const std::uint64_t seeds = std::strtoull(argv[1], nullptr, 10);
    for (std::uint64_t seed = 0; seed < seeds; ++seed)
        for (const rondo::order mode : {rondo::order::spec, rondo::order::chaos})
            if (!print(seed, mode, scenario)) return 1;
    return print(seeds, rondo::order::spec, many) ? 0 : 1;
}
