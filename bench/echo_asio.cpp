// Peer: stand-alone Asio, C++20 coroutines, one thread.
#include <asio.hpp>

#include "support.hpp"

namespace {

asio::awaitable<void> session(asio::ip::tcp::socket peer) {
    char buffer[16 * 1024];
    try {
        for (;;) {
            auto size = co_await peer.async_read_some(asio::buffer(buffer), asio::use_awaitable);
            co_await asio::async_write(peer, asio::buffer(buffer, size), asio::use_awaitable);
        }
    } catch (const std::system_error&) {
    }
}

asio::awaitable<void> serve(asio::ip::tcp::acceptor& listener) {
    for (;;) {
        auto peer = co_await listener.async_accept(asio::use_awaitable);
        peer.set_option(asio::ip::tcp::no_delay(true));
        co_spawn(listener.get_executor(), session(std::move(peer)), asio::detached);
    }
}

}  // namespace

int main(int argc, char** argv) {
    bench::prepare_server();
    asio::io_context context(1);
    auto port = static_cast<unsigned short>(bench::option(argc, argv, "--port", 0));
    asio::ip::tcp::acceptor listener(context, {asio::ip::address_v4::loopback(), port});
    bench::announce_port(listener.local_endpoint().port());
    co_spawn(context, serve(listener), asio::detached);
    context.run();
}
