// A transparent TCP proxy: tcp_proxy LISTEN_PORT TARGET_ADDRESS:PORT. Half-closes and resets pass through, too.
#include <rondo/rondo.hpp>
#include <rondo/io.hpp>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>

using namespace std::chrono_literals;

namespace {

std::uint64_t bytes_there = 0, bytes_back = 0;

rondo::task<rondo::tcp_stream> dial(rondo::endpoint target) {
    rondo::tcp_stream there = co_await rondo::tcp_stream::connect(target);
    co_return there;
}

rondo::task<> session(rondo::tcp_stream& here, rondo::endpoint target) {
    rondo::tcp_stream there;
    try {
        there = co_await rondo::with_timeout(10s, dial, target);
    } catch (const std::system_error&) {
        here.reset_on_close();  // nobody is there: neither is the proxy
        throw;
    }
    const rondo::relay_result moved = co_await rondo::relay(here, there);
    bytes_there += moved.first_to_second;
    bytes_back += moved.second_to_first;
}

rondo::task<> app(std::uint16_t port, rondo::endpoint target) {
    auto listener = rondo::tcp_listener::bind("127.0.0.1", port);
    std::printf("listening on %s, for %s\n", listener.local().to_string().c_str(), target.to_string().c_str());
    std::fflush(stdout);
    auto each = [target](rondo::tcp_stream& here) { return session(here, target); };
    co_await rondo::serve(listener, each);  // until SIGINT or SIGTERM; a second one ends the connections
    std::printf("%llu bytes there, %llu back\n", static_cast<unsigned long long>(bytes_there),
                static_cast<unsigned long long>(bytes_back));
}

int usage(const char* program, const char* wrong) {
    std::fprintf(stderr, "%s: %s\nusage: %s LISTEN_PORT TARGET_ADDRESS:PORT\n", program, wrong, program);
    return 2;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return usage(argv[0], "it takes two arguments");
    std::uint16_t port = 0;
    const char* const end = argv[1] + std::strlen(argv[1]);
    const auto [stopped, error] = std::from_chars(argv[1], end, port);
    if (error != std::errc() || stopped != end) return usage(argv[0], "LISTEN_PORT is a number from 0 to 65535");
    const auto target = rondo::endpoint::try_parse(argv[2]);
    if (!target) return usage(argv[0], "the target is an IP address and a port, as in 127.0.0.1:80 or [::1]:80");
    return rondo::run_main(app, port, *target);
}
