// Looking at a program as it runs, on a real loop: what it did lately, how long things take, and what holds it up.
//
//     samples/run observed_loop     prints metrics, and writes observed_loop.html and observed_loop.json
#include <rondo/observe/chrome_trace.hpp>
#include <rondo/observe/loop_metrics.hpp>
#include <rondo/observe/observers.hpp>
#include <rondo/observe/prometheus.hpp>
#include <rondo/observe/stall_watchdog.hpp>
#include <rondo/observe/timeline.hpp>
#include <rondo/rondo.hpp>

#include <cstdio>

using namespace std::chrono_literals;

rondo::task<> session(rondo::tcp_stream& peer) {
    for (;;) {
        auto data = co_await peer.receive();
        if (data.empty()) co_return;
        co_await peer.write_all(data);
    }
}

rondo::task<> client(rondo::endpoint server, int rounds) {
    rondo::name_task("a client");
    auto peer = co_await rondo::tcp_stream::connect(server);
    for (int i = 0; i < rounds; ++i) {
        co_await peer.write_all("ping");
        char answer[4];
        const std::size_t size = co_await peer.read_exactly(answer);
        if (size != 4) throw std::runtime_error("cut short");
        co_await rondo::sleep_for(1ms);
    }
}

rondo::task<> computes() {
    co_await rondo::sleep_for(10ms);
    rondo::this_loop().spin(80ms);  // the watchdog says so, while it does
}

rondo::task<> app(rondo::loop_metrics& metrics) {
    auto listener = rondo::tcp_listener::bind("127.0.0.1", 0);
    const rondo::endpoint server = listener.local();
    auto body = [&](rondo::task_group& group) -> rondo::task<> {
        auto serving = group.spawn([&]() -> rondo::task<> { co_await rondo::serve(listener, session); });
        auto clients = [&](rondo::task_group& all) -> rondo::task<> {
            for (int i = 0; i < 10; ++i) all.spawn(client, server, 20);
            all.spawn(computes);
            co_return;
        };
        co_await rondo::with_task_group(clients);
        serving.cancel();
    };
    co_await rondo::with_task_group(body);
    std::fputs(rondo::prometheus_text(rondo::this_loop(), &metrics).c_str(), stdout);
}

int main() {
    rondo::recorder seen;
    rondo::loop_metrics metrics;
    rondo::stall_watchdog watchdog({.limit = 40ms});
    rondo::observers all{&seen, &metrics, &watchdog};
    rondo::loop_options options;
    options.observer = &all;
    const int code = rondo::run_main(options, app, std::ref(metrics));
    rondo::save_timeline(seen, "observed_loop.html", "an echo server and ten clients");
    rondo::save_chrome_trace(seen, "observed_loop.json");
    return code;
}
