// The UDP echo server as a user of rondo would write it. RONDO_BACKEND chooses the backend.
#include <rondo/net/udp.hpp>
#include <rondo/rondo.hpp>

#include "support.hpp"

#include <array>

namespace {

rondo::task<> app(std::uint16_t port) {
    auto server = rondo::udp_socket::bind("127.0.0.1", port);
    bench::announce_port(server.local().port());
    std::vector<std::array<char, 2048>> memory(32);
    std::vector<rondo::datagram> batch;
    for (auto& each : memory) batch.push_back(rondo::datagram::place(each));
    for (;;) {
        const std::size_t count = co_await server.receive_many(batch);
        co_await server.send_many(std::span(batch).first(count));
    }
}

}  // namespace

int main(int argc, char** argv) {
    bench::prepare_server();
    return rondo::run_main(app, static_cast<std::uint16_t>(bench::option(argc, argv, "--port", 0)));
}
