// The same script on simulated sockets and on those of the kernel: what a program can see must be the same.
#include "support/net.hpp"

#include <optional>
#include <string>

using namespace std::literals;
using namespace test;
using rondo::task;
using rondo::tcp_stream;

namespace {

std::string seen(const rondo::result<std::size_t>& r) {
    return r ? std::to_string(*r) : std::error_code(r.error()).message();
}

/// What is under way arrives, whichever of the two backends this is.
task<> arrive() {
    const bool simulated = rondo::this_loop().kind() == rondo::backend_kind::sim;
    const rondo::duration a_while = simulated ? 100ms : 1ms;
    for (int i = 0; i < 3; ++i) co_await rondo::sleep_for(a_while);
}

/// Steps at the two ends of one connection, drawn from `seed`. Between steps what is under way arrives, so that
/// what one sees does not depend on how fast a network is.
task<> play(std::uint64_t seed, std::string& log) {
    dice draw(seed);
    connection made = co_await connected();
    std::optional<tcp_stream> ends[2] = {std::move(made.client), std::move(made.server)};
    std::size_t sent[2] = {};
    const std::size_t steps = 4 + draw.below(12);
    for (std::size_t i = 0; i < steps; ++i) {
        const std::size_t which = draw.below(2);
        std::optional<tcp_stream>& end = ends[which];
        const std::size_t size = 1 + draw.below(2000);
        const std::size_t action = draw.below(10);
        if (!end) continue;
        log += "\n" + std::string(which == 0 ? "client " : "server ");
        if (action < 3) {
            const bytes some = make_pattern(which, sent[which], size);
            const rondo::result<std::size_t> r = end->try_write_some(some);
            if (r) sent[which] += *r;
            log += "write " + std::to_string(size) + ": " + seen(r);
        } else if (action < 6) {
            bytes into(size);
            const rondo::result<std::size_t> r = end->try_read_some(into);
            log += "read " + std::to_string(size) + ": " + seen(r);
        } else if (action == 6) {
            const rondo::result<void> r = end->try_shutdown();
            log += "shutdown: " + (r ? "done"s : r.error().message());
        } else if (action == 7) {
            log += "close";
            co_await end->close();
            end.reset();
        } else if (action == 8) {
            log += "reset";
            end->reset_on_close();
            co_await end->close();
            end.reset();
        } else {
            const rondo::result<void> r = end->try_no_delay(true);
            log += "option: " + (r ? "done"s : r.error().message());
        }
        co_await arrive();
    }
    for (std::optional<tcp_stream>& end : ends) {  // what is left to read, to the end or the error
        if (!end) continue;
        log += "\nrest:";
        for (int i = 0; i < 50; ++i) {
            bytes into(700);
            const rondo::result<std::size_t> r = end->try_read_some(into);
            log += " " + seen(r);
            if (!r || *r == 0) break;
        }
    }
}

std::string played(rondo::backend_kind kind, std::uint64_t seed) {
    rondo::loop_options options;
    options.kind = kind;
    std::string log;
    rondo::run(options, play, seed, std::ref(log));
    return log;
}

}  // namespace

TEST_CASE("parity: a script at both ends of a connection sees the same on sim and on the kernel") {
    std::size_t resets = 0;
    for (std::uint64_t seed = 0; seed < 150; ++seed) {
        CAPTURE(seed);
        const std::string simulated = played(rondo::backend_kind::sim, seed);
        const std::string real = played(rondo::backend_kind::epoll, seed);
        CHECK(simulated == real);
        resets += real.find("reset by peer") != std::string::npos;
    }
    CHECK(resets > 5);  // the scripts get that far
}
