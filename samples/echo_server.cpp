// An echo server: --backend NAME, --host ADDRESS, --port N (0: any), --max N; Ctrl-C ends it.
#include <rondo/interop/spdlog.hpp>
#include <rondo/rondo.hpp>

#include "options.hpp"

namespace {

struct totals {
    std::uint64_t sessions = 0;
    std::uint64_t bytes = 0;
};

totals served;

rondo::task<> session(rondo::tcp_stream& peer) {
    ++served.sessions;
    for (;;) {
        auto data = co_await peer.receive();  // borrowed: an idle connection holds no buffer
        if (data.empty()) co_return;          // end of stream is a value
        served.bytes += data.size();
        co_await peer.write_all(data);
    }
}

struct settings {
    std::string host;
    std::uint16_t port;
    std::uint32_t max_connections;
};

rondo::task<> app(settings with) {
    auto listener = rondo::tcp_listener::bind(with.host, with.port);
    spdlog::info("listening on {} ({})", listener.local().to_string(), rondo::this_loop().backend_info());
    rondo::serve_options limits;
    limits.max_connections = with.max_connections;
    co_await rondo::serve(listener, session, limits);  // until SIGINT or SIGTERM; a second one hurries
    spdlog::info("{} sessions, {} bytes echoed", served.sessions, served.bytes);
}

}  // namespace

int main(int argc, char** argv) {
    sample::options given(argc, argv,
                          "  --backend NAME   auto, epoll, uring or sim (auto)\n"
                          "  --host ADDRESS   where to listen, an IP address (127.0.0.1)\n"
                          "  --port N         0 to 65535; 0 takes a free one (7777)\n"
                          "  --max N          connections at a time, 1 to 1000000 (10000)\n");
    rondo::loop_options options;
    options.kind = given.backend();
    const settings with{given.text("--host", "127.0.0.1"), given.port("--port", 7777, 0),
                        static_cast<std::uint32_t>(given.number("--max", 10'000, 1, 1'000'000))};
    given.done();
    spdlog::set_formatter(rondo::spdlog_formatter("%H:%M:%S.%e %^%l%$ [task %J, %K] %v"));
    rondo::log_to(spdlog::default_logger());
    return rondo::run_main(options, app, with);
}
