// A TCP proxy that is a bad network: chaos_proxy LISTEN_PORT TARGET_ADDRESS:PORT [--delay MS] [--cut P] and more.
#include <rondo/io/relay.hpp>
#include <rondo/rondo.hpp>

#include "options.hpp"

#include <algorithm>
#include <cstdio>
#include <random>

using namespace std::chrono_literals;

namespace {

struct settings {
    rondo::endpoint target;
    std::chrono::milliseconds delay{0};
    std::size_t dribble = 16 * 1024;  // bytes in a piece, at most
    std::uint64_t cut = 0, reset = 0;  // how many connections of a hundred
    std::uint64_t within = 65536;      // of so many bytes, one is their last
    std::uint64_t seed = 0;
};

struct totals {
    std::uint64_t connections = 0, cut = 0, reset = 0;
};

/// How a connection ends, and behind which byte of both its directions together.
struct fate {
    enum { on_its_own, cut, reset } how = on_its_own;
    std::uint64_t left = ~std::uint64_t{0};
};

/// What becomes of a connection depends on nothing but the seed and its number.
fate fate_of(const settings& with, std::uint64_t number) {
    std::seed_seq mixed{with.seed, with.seed >> 32, number};
    std::mt19937_64 dice(mixed);
    const std::uint64_t percent = dice() % 100, place = dice() % with.within;
    if (percent < with.cut) return {fate::cut, place};
    if (percent < with.cut + with.reset) return {fate::reset, place};
    return {};
}

/// Writes in pieces, each of which is held back for a while, until the connection's fate is met; for relay().
class bad_stream {
 public:
    bad_stream(rondo::tcp_stream& inside, const settings& with, fate& shared, rondo::cancel_scope& scope)
        : inside_(inside), with_(with), fate_(shared), scope_(scope) {}

    auto read_some(rondo::writable_bytes into) { return inside_.read_some(into); }
    auto read_exactly(rondo::writable_bytes into) { return inside_.read_exactly(into); }
    rondo::task<std::size_t> write_all(rondo::bytes_view from, std::size_t* written = nullptr) {
        std::size_t done = 0, in_vain = 0;
        if (written == nullptr) written = &in_vain;
        for (*written = 0; done < from.size(); *written = done) {
            if (with_.delay > 0ms) co_await rondo::sleep_for(with_.delay);
            if (fate_.left == 0) {
                scope_.cancel("its fate");
                co_await rondo::immediate();  // throws, as every wait from here on
            }
            const auto piece =
                static_cast<std::size_t>(std::min<std::uint64_t>({from.size() - done, with_.dribble, fate_.left}));
            fate_.left -= piece;
            co_await inside_.write_all(rondo::bytes_view(static_cast<const char*>(from.data()) + done, piece));
            done += piece;
            if (done < from.size()) co_await rondo::immediate();  // others' turn, and the piece is on its way
        }
        co_return done;
    }
    auto write_some(rondo::bytes_view from) { return write_all(from); }
    void shutdown() { inside_.shutdown(); }
    auto try_reset_on_close() { return inside_.try_reset_on_close(); }
    auto close() { return inside_.close(); }

 private:
    rondo::tcp_stream& inside_;
    const settings& with_;
    fate& fate_;
    rondo::cancel_scope& scope_;
};

/// Ends a connection in peace: a close with unread bytes would reset it, and the peer might lose what it was sent.
rondo::task<> end_in_peace(rondo::tcp_stream& stream) {
    static_cast<void>(stream.try_shutdown());
    char into[4096];
    for (std::size_t got = 1; got > 0;) got = co_await stream.read_some(into);
}

rondo::task<rondo::tcp_stream> dial(rondo::endpoint target) {
    rondo::tcp_stream there = co_await rondo::tcp_stream::connect(target);
    co_return there;
}

rondo::task<> session(rondo::tcp_stream& here, const settings& with, totals& seen) {
    fate of_this = fate_of(with, seen.connections++);
    rondo::tcp_stream there;
    try {
        there = co_await rondo::with_timeout(10s, dial, with.target);
    } catch (const std::system_error&) {
        here.reset_on_close();  // nobody is there: neither is the proxy
        throw;
    }
    auto moves = [&](rondo::cancel_scope& scope) -> rondo::task<> {
        bad_stream one(here, with, of_this, scope), two(there, with, of_this, scope);
        co_await rondo::relay(one, two);
    };
    const bool ended_itself = co_await rondo::with_cancel_scope(moves);
    if (ended_itself) co_return;
    if (of_this.how == fate::reset) {
        ++seen.reset;
        static_cast<void>(here.try_reset_on_close());
        static_cast<void>(there.try_reset_on_close());
        co_return;
    }
    ++seen.cut;
    auto both = [&]() -> rondo::task<> { co_await rondo::when_all(end_in_peace(here), end_in_peace(there)); };
    static_cast<void>(co_await rondo::attempt(rondo::move_on_after(1s, both)));
}

rondo::task<> app(std::uint16_t port, settings with) {
    auto listener = rondo::tcp_listener::bind("127.0.0.1", port);
    std::printf("listening on %s, for %s, with --seed %llu\n", listener.local().to_string().c_str(),
                with.target.to_string().c_str(), static_cast<unsigned long long>(with.seed));
    std::fflush(stdout);
    totals seen;
    auto each = [&](rondo::tcp_stream& here) { return session(here, with, seen); };
    co_await rondo::serve(listener, each);  // until SIGINT or SIGTERM; a second one ends the connections
    std::printf("%llu connections, %llu cut, %llu reset\n", static_cast<unsigned long long>(seen.connections),
                static_cast<unsigned long long>(seen.cut), static_cast<unsigned long long>(seen.reset));
}

}  // namespace

int main(int argc, char** argv) {
    sample::options given(argc, argv,
                          "  --backend NAME   auto, epoll, uring or sim (auto)\n"
                          "  --delay MS       how long each piece is held back, 0 to 60000 (0)\n"
                          "  --dribble BYTES  of a piece, 1 to 16384 (16384)\n"
                          "  --cut P          percent of the connections that end early, in peace (0)\n"
                          "  --reset P        percent of the connections that are reset (0)\n"
                          "  --within BYTES   those pass fewer than this, both ways together (65536)\n"
                          "  --seed N         the same one has the same fates (a random one)\n",
                          "LISTEN_PORT TARGET_ADDRESS:PORT");
    const std::uint16_t port = given.port_word("LISTEN_PORT", 0);
    settings with{given.endpoint_word("TARGET_ADDRESS:PORT")};
    rondo::loop_options options;
    options.kind = given.backend();
    with.delay = std::chrono::milliseconds(given.number("--delay", 0, 0, 60'000));
    with.dribble = static_cast<std::size_t>(given.number("--dribble", 16 * 1024, 1, 16 * 1024));
    with.cut = static_cast<std::uint64_t>(given.number("--cut", 0, 0, 100));
    with.reset = static_cast<std::uint64_t>(given.number("--reset", 0, 0, 100));
    with.within = static_cast<std::uint64_t>(given.number("--within", 65'536, 1, 1L << 40));
    with.seed = given.seed("--seed", std::random_device()());
    given.done();
    if (with.cut + with.reset > 100) given.fail("--cut and --reset are more than 100 percent together");
    return rondo::run_main(options, app, port, with);
}
