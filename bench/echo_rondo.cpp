// The echo server as a user of rondo would write it. RONDO_BACKEND chooses the backend.
#include <rondo/rondo.hpp>

#include "support.hpp"

namespace {

rondo::task<> session(rondo::tcp_stream& peer) {
    for (;;) {
        auto data = co_await peer.receive();
        if (data.empty()) co_return;
        co_await peer.write_all(data);
    }
}

rondo::task<> app(std::uint16_t port) {
    auto listener = rondo::tcp_listener::bind("127.0.0.1", port, {.backlog = 4096});
    bench::announce_port(listener.local().port());
    co_await rondo::serve(listener, session, {.max_connections = 10'000});
}

}  // namespace

int main(int argc, char** argv) {
    bench::raise_fd_limit();
    auto port = static_cast<std::uint16_t>(bench::option(argc, argv, "--port", 0));
    return rondo::run_main(app, port);
}
