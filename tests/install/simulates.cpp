// The smallest program that simulates: two hosts, and an answer after a second of their time.
#include <rondo/rondo.hpp>
#include <rondo/sim.hpp>

#include <string>

using namespace std::chrono_literals;

rondo::task<> serves() {
    auto listener = rondo::tcp_listener::bind("0.0.0.0", 7777);
    rondo::tcp_stream peer = co_await listener.accept();
    co_await rondo::sleep_for(1s);
    co_await peer.write_all("hello");
}

int main() {
    std::string heard(5, ' ');
    rondo::world w;
    w.host("srv").run(serves);
    w.run([&]() -> rondo::task<> {
        co_await rondo::sleep_for(10ms);  // until it listens
        rondo::tcp_stream peer = co_await rondo::tcp_stream::connect(w.address_of("srv", 7777));
        co_await peer.read_exactly(heard);
    });
    return heard == "hello" ? 0 : 1;
}
