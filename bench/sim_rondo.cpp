// The simulator at work: an echo server and ten clients in a world of two hosts. `plain` is all benign; `run`
// has a seed, which cuts messages into pieces, and writes its decisions to the file SIM_LOG; `replay` is that
// run again, from the file.
#include <rondo/rondo.hpp>
#include <rondo/sim/simulate.hpp>

#include "support.hpp"

#include <cstdlib>
#include <string>

namespace {

using rondo::task;

constexpr int clients = 10;
long operations = 0;  // that were awaited, and so completed

task<> session(rondo::tcp_stream& peer) {
    for (;;) {
        auto data = co_await peer.receive();
        ++operations;
        if (data.empty()) co_return;
        co_await peer.write_all(data);
        ++operations;
    }
}

task<> server() {
    auto listener = rondo::tcp_listener::bind("0.0.0.0", 7777);
    co_await rondo::serve(listener, session);
}

task<> client(rondo::endpoint at, long requests) {
    auto peer = co_await rondo::tcp_stream::connect(at);
    std::byte message[64] = {};
    for (long i = 0; i < requests; ++i) {
        co_await peer.write_all(message);
        co_await peer.read_exactly(message);
        operations += 2;
    }
}

task<> scenario(rondo::world& w, long requests) {
    w.host("srv").run(server);
    std::vector<rondo::task_handle<>> all;
    for (int i = 0; i < clients; ++i)
        all.push_back(rondo::spawn(client, w.address_of("srv", 7777), requests / clients));
    for (auto& each : all) co_await each;
    bench::report("operations", static_cast<double>(operations));
}

const char* file() {
    const char* name = std::getenv("SIM_LOG");
    return name != nullptr ? name : "/dev/null";
}

void in_world(rondo::oracle& decisions, rondo::decision_log& log, long requests) {
    rondo::recording_oracle recording(decisions, log);  // as simulate() does, also when it replays
    rondo::world_options options;
    options.decisions = &recording;
    options.step_limit = ~std::uint64_t{0};
    rondo::world w(options);
    w.run(scenario, std::ref(w), requests);
    log.event_hash = w.hash();
}

void plain(long requests) {
    rondo::benign_oracle decisions;
    rondo::decision_log log;
    in_world(decisions, log, requests);
}

void run(long requests) {
    rondo::decision_log log;
    log.from = rondo::decision_log::origin::seeded;
    log.seed = 1;
    rondo::seeded_oracle decisions(1);
    in_world(decisions, log, requests);
    log.save(file());
}

void replay(long requests) {
    const rondo::decision_log log = rondo::decision_log::load(file());
    rondo::replay_oracle decisions(log);
    rondo::decision_log again;
    in_world(decisions, again, requests);
    if (decisions.diverged() || again.event_hash != log.event_hash) std::abort();
}

}  // namespace

int main(int argc, char** argv) {
    return bench::run_row(argc, argv, {{"plain", plain}, {"run", run}, {"replay", replay}});
}
