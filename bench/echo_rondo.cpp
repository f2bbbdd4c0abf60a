// The echo server as a user of rondo would write it, on TCP, or --unix. RONDO_BACKEND chooses the backend.
#include <rondo/net/unix.hpp>
#include <rondo/rondo.hpp>

#include "support.hpp"

namespace {

template <class Stream>
rondo::task<> session(Stream& peer) {
    for (;;) {
        auto data = co_await peer.receive();
        if (data.empty()) co_return;
        co_await peer.write_all(data);
    }
}

rondo::task<> local_app() {
    auto listener = rondo::unix_listener::bind("@" + bench::unix_name(getpid()), {.backlog = 4096});
    bench::announce_port(getpid());
    co_await rondo::serve(listener, session<rondo::unix_stream>, {.max_connections = 10'000});
}

rondo::task<> app(std::uint16_t port) {
    auto listener = rondo::tcp_listener::bind("127.0.0.1", port, {.backlog = 4096});
    bench::announce_port(listener.local().port());
    co_await rondo::serve(listener, session<rondo::tcp_stream>, {.max_connections = 10'000});
}

}  // namespace

int main(int argc, char** argv) {
    bench::raise_fd_limit();
    auto port = static_cast<std::uint16_t>(bench::option(argc, argv, "--port", 0));
    if (bench::flag(argc, argv, "--unix")) return rondo::run_main(local_app);
    return rondo::run_main(app, port);
}
