// A UDP echo server, in batches: --backend NAME, --host ADDRESS, --port N (0: any); Ctrl-C ends it.
#include <rondo/os/signal.hpp>
#include <rondo/net/udp.hpp>
#include <rondo/rondo.hpp>

#include "options.hpp"

#include <array>
#include <csignal>
#include <cstdio>
#include <span>
#include <vector>

namespace {

constexpr std::size_t batch_size = 32;
constexpr std::size_t largest = 2048;  // what is longer is cut, and sent back so

struct totals {
    std::uint64_t datagrams = 0;
    std::uint64_t bytes = 0;
    std::uint64_t truncated = 0;
    std::uint64_t refused = 0;
};

rondo::task<> echo(rondo::udp_socket& server, totals& seen) {
    std::vector<std::array<char, largest>> memory(batch_size);
    std::vector<rondo::datagram> batch;
    for (auto& each : memory) batch.push_back(rondo::datagram::place(each));
    for (;;) {
        const std::size_t count = co_await server.receive_many(batch);
        for (const rondo::datagram& each : std::span(batch).first(count)) {
            ++seen.datagrams;
            seen.bytes += each.size();
            seen.truncated += each.truncated();
        }
        // Each goes back to its sender. One that is refused is none of the others' business.
        for (std::span<rondo::datagram> left = std::span(batch).first(count); !left.empty();) {
            std::size_t sent = 0;
            const auto all = co_await rondo::attempt(server.send_many(left, &sent));
            if (all) break;
            ++seen.refused;
            left = left.subspan(sent + 1);
        }
    }
}

rondo::task<> app(std::string host, std::uint16_t port) {
    rondo::udp_socket server = rondo::udp_socket::bind(host, port);
    rondo::signals ends(SIGINT, SIGTERM);
    std::printf("listening on %s (%s)\n", server.local().to_string().c_str(),
                rondo::this_loop().backend_info().c_str());
    std::fflush(stdout);
    totals seen;
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        group.spawn(echo, std::ref(server), std::ref(seen));
        co_await ends.next();
        group.cancel();
    });
    std::printf("%llu datagrams, %llu bytes echoed, %llu truncated, %llu refused\n",
                static_cast<unsigned long long>(seen.datagrams), static_cast<unsigned long long>(seen.bytes),
                static_cast<unsigned long long>(seen.truncated), static_cast<unsigned long long>(seen.refused));
}

}  // namespace

int main(int argc, char** argv) {
    sample::options given(argc, argv,
                          "  --backend NAME   auto, epoll, uring or sim (auto)\n"
                          "  --host ADDRESS   where to receive, an IP address (127.0.0.1)\n"
                          "  --port N         0 to 65535; 0 takes a free one (7777)\n");
    rondo::loop_options options;
    options.kind = given.backend();
    const std::string host = given.text("--host", "127.0.0.1");
    const std::uint16_t port = given.port("--port", 7777, 0);
    given.done();
    return rondo::run_main(options, app, host, port);
}
