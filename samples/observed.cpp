// What a run looks like: an echo server in a bad network, as a timeline and as a Chrome trace.
//
//     samples/run observed [seed]     then open observed.html in a browser, and observed.json in ui.perfetto.dev
#include <rondo/observe/chrome_trace.hpp>
#include <rondo/observe/timeline.hpp>
#include <rondo/rondo.hpp>
#include <rondo/sim/world_recorder.hpp>

#include <cstdio>
#include <cstdlib>

using namespace std::chrono_literals;

rondo::task<> session(rondo::tcp_stream& peer) {
    for (;;) {
        auto data = co_await peer.receive();
        if (data.empty()) co_return;
        co_await peer.write_all(data);
    }
}

rondo::task<> app() {
    auto listener = rondo::tcp_listener::bind("0.0.0.0", 7777);
    co_await rondo::serve(listener, session);
}

rondo::task<> ask(rondo::endpoint server) {
    auto peer = co_await rondo::tcp_stream::connect(server);
    for (int i = 0; i < 5; ++i) {
        co_await peer.write_all("ping");
        char answer[4];
        const std::size_t size = co_await peer.read_exactly(answer);
        if (size != 4) co_return;
        co_await rondo::sleep_for(20ms);
    }
}

rondo::task<> ask_in_time(rondo::endpoint server) { co_await rondo::with_timeout(2s, ask, server); }

/// Asks until it has been answered: whatever goes wrong, it tries again.
rondo::task<> client(rondo::endpoint server) {
    for (int i = 0; i < 10; ++i) {
        const auto asked = co_await rondo::attempt(ask_in_time(server));
        if (asked) co_return;
        co_await rondo::sleep_for(100ms);
    }
}

rondo::task<> scenario(rondo::world& w) {
    const rondo::endpoint server = w.address_of("server", 7777);
    for (const char* name : {"alice", "bob"}) w.host(name).run(client, server);
    co_await rondo::sleep_for(50ms);
    {
        const auto cut = w.partition({"bob"}, {"server"});
        co_await rondo::sleep_for(300ms);
    }
    w.host("server").crash();
    co_await rondo::sleep_for(200ms);
    w.host("server").restart();
    co_await rondo::sleep_for(5s);
}

int main(int argc, char** argv) {
    const std::uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 0) : 1;
    rondo::world_recorder seen;
    rondo::seeded_oracle decisions(seed);
    rondo::world_options options;
    options.decisions = &decisions;
    options.observer = &seen;
    rondo::world w(options);
    w.host("server").run(app);
    for (const char* name : {"alice", "bob"}) w.link(name, "server").latency(1ms, 20ms).loss(rondo::percent(5));
    w.run(scenario, std::ref(w));
    rondo::save_timeline(seen, "observed.html", "an echo server, seed " + std::to_string(seed));
    rondo::save_chrome_trace(seen, "observed.json");
    std::printf("%zu events of %zu hosts: observed.html, observed.json\n", seen.size(), seen.hosts().size());
}
