// The proxy of the proxy rows: each connection is relayed to 127.0.0.1:TO.
//
// proxy_rondo --port P --to P [--copy (through the program's memory, without splice)]
#include <rondo/io/relay.hpp>
#include <rondo/rondo.hpp>

#include "support.hpp"

namespace {

rondo::task<> app(int port, int to, bool splice) {
    const auto target = rondo::endpoint::parse("127.0.0.1:" + std::to_string(to));
    auto listener = rondo::tcp_listener::bind("127.0.0.1", static_cast<std::uint16_t>(port));
    bench::announce_port(listener.local().port());
    const auto session = [&](rondo::tcp_stream& here) -> rondo::task<> {
        auto there = co_await rondo::tcp_stream::connect(target);
        co_await rondo::relay(here, there, {.splice = splice});
    };
    co_await rondo::serve(listener, session, {.max_connections = 10'000});
}

}  // namespace

int main(int argc, char** argv) {
    bench::prepare_server();
    const int port = static_cast<int>(bench::option(argc, argv, "--port", 0));
    const int to = static_cast<int>(bench::option(argc, argv, "--to", 0));
    return rondo::run_main(app, port, to, !bench::flag(argc, argv, "--copy"));
}
