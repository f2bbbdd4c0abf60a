// A noisy neighbour: whoever moves bytes as fast as the machine can lets timers and quiet clients have their turn.
// Counted in turns and bytes, never in seconds.
#include "support/net.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <span>
#include <thread>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;
using test::bytes;
using test::connection;

namespace {

/// The other end of a connection, which never lets this one wait: a thread that reads, or writes, as fast as it
/// can. In a simulated world a task, which takes what the network carries.
class fast_peer {
 public:
    enum class does { read, write };

    fast_peer() = default;
    fast_peer(const fast_peer&) = delete;
    fast_peer& operator=(const fast_peer&) = delete;
    ~fast_peer() {
        if (thread_.joinable()) thread_.join();
    }

    /// Our end.
    task<tcp_stream> connects(tcp_listener& listener, does what, std::size_t total) {
        if (test::on_sim()) {
            connection c = co_await test::connect_to(listener);
            spawn(&fast_peer::runs, std::move(c.client), what, total).discard();
            co_return std::move(c.server);
        }
        thread_ = std::thread(&fast_peer::work, listener.local().port(), what, total);
        tcp_stream here = co_await listener.accept();
        co_return here;
    }

 private:
    static constexpr std::size_t piece = 4 << 20;

    static void work(std::uint16_t port, does what, std::size_t total) {
        const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(port);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) {
            std::vector<char> buffer(piece);
            while (total > 0) {
                const std::size_t size = std::min(total, piece);
                const ssize_t n = what == does::read ? ::recv(fd, buffer.data(), size, MSG_TRUNC)
                                                     : ::send(fd, buffer.data(), size, MSG_NOSIGNAL);
                if (n <= 0) break;
                total -= static_cast<std::size_t>(n);
            }
        }
        ::close(fd);
    }

    // Owns its stream: it may go on a little longer than the test.
    static task<> runs(tcp_stream there, does what, std::size_t total) {
        bytes buffer(std::min(total, piece));
        while (total > 0) {
            const auto part = std::span(buffer).first(std::min(total, buffer.size()));
            task<std::size_t> moves = what == does::read ? read(there, part) : write(there, part);
            const auto n = co_await attempt(std::move(moves));
            if (!n || *n == 0) co_return;
            total -= *n;
        }
    }
    static task<std::size_t> read(tcp_stream& there, std::span<std::byte> into) {
        const std::size_t n = co_await there.read_some(into);
        co_return n;
    }
    static task<std::size_t> write(tcp_stream& there, std::span<const std::byte> from) {
        const std::size_t n = co_await there.write_some(from);
        co_return n;
    }

    std::thread thread_;
};

using does = fast_peer::does;

std::size_t much() { return test::on_sim() ? 8u << 20 : 128u << 20; }

/// How many bytes a turn may have moved on the average: who comes last may be in the middle of an operation.
constexpr std::size_t per_turn = byte_budget::per_turn + byte_budget::at_a_time;

/// Runs `body(stream, total)`, which moves that many bytes, and checks how much the turns have moved.
template <class Body>
void moves(does what_the_peer_does, Body body) {
    test::run([&]() -> task<> {
        tcp_listener listener = test::listen();
        fast_peer peer;
        const std::size_t total = much();
        tcp_stream here = co_await peer.connects(listener, what_the_peer_does, total);
        // A timer that is always due: each turn runs it.
        std::uint64_t looks = 0;
        timer quiet = this_loop().set_interval(1us, [&looks] { ++looks; });
        const std::uint64_t before = this_loop().stats().turns;
        co_await body(here, total);
        const std::uint64_t turns = this_loop().stats().turns - before;
        quiet.cancel();
        CAPTURE(turns);
        CHECK(turns >= total / per_turn);
        CHECK(looks >= turns / 2);
        co_await here.close();
    });
}

// One write_all made 316 system calls without a look at anything else, and everybody waited for a second.
TEST_CASE("fairness: one long write to a peer that reads as fast as it comes lets others have their turn (hazard F1)") {
    moves(does::read, [](tcp_stream& to, std::size_t total) -> task<> {
        const bytes all(total);
        const std::size_t sent = co_await to.write_all(all);
        CHECK(sent == total);
    });
}

TEST_CASE("fairness: so does one of many long parts") {
    moves(does::read, [](tcp_stream& to, std::size_t total) -> task<> {
        const bytes part(1 << 20);
        const std::vector<std::span<const std::byte>> parts(total / part.size(), part);
        const std::size_t sent = co_await to.write_all(parts);
        CHECK(sent == total);
    });
}

TEST_CASE("fairness: so do many writes that never wait") {
    moves(does::read, [](tcp_stream& to, std::size_t total) -> task<> {
        const bytes part(128 << 10);
        for (std::size_t sent = 0; sent < total; sent += part.size()) co_await to.write_all(part);
    });
}

TEST_CASE("fairness: so do writes of some") {
    moves(does::read, [](tcp_stream& to, std::size_t total) -> task<> {
        const bytes all(total);
        for (std::size_t sent = 0; sent < total;) {
            const std::size_t n = co_await to.write_some(std::span(all).subspan(sent));
            sent += n;
        }
    });
}

TEST_CASE("fairness: one long read from a peer that writes as fast as it can lets others have their turn") {
    moves(does::write, [](tcp_stream& from, std::size_t total) -> task<> {
        bytes all(total);
        const std::size_t got = co_await from.read_exactly(all);
        CHECK(got == total);
    });
}

TEST_CASE("fairness: so do many reads that never wait") {
    moves(does::write, [](tcp_stream& from, std::size_t total) -> task<> {
        bytes into(1 << 20);
        for (std::size_t got = 0; got < total;) {
            const std::size_t n = co_await from.read_some(into);
            if (n == 0) co_return;
            got += n;
        }
    });
}

TEST_CASE("fairness: what does not wait moves no more at once than what does") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        fast_peer peer;
        tcp_stream here = co_await peer.connects(listener, does::read, much());
        const bytes all(much());
        std::size_t most = 0;
        for (std::size_t sent = 0; sent < all.size();) {
            const auto n = here.try_write_some(std::span(all).subspan(sent));
            if (!n) {
                CHECK(n.error() == std::errc::resource_unavailable_try_again);
                co_await sleep_for(1ms);
                continue;
            }
            most = std::max(most, *n);
            sent += *n;
        }
        CHECK(most <= byte_budget::at_a_time);
    });
}

task<> downloads(tcp_stream& to, std::size_t& moved, const bool& enough) {
    const bytes page(256 << 10);
    while (!enough) {
        const std::size_t n = co_await to.write_all(page);
        moved += n;
    }
    co_await to.close();
}

TEST_CASE(
    "fairness: a quiet client beside noisy downloads waits for few turns, and those are short (hazard F1: "
    "tokio#6249)") {
    constexpr int noisy = 3;
    constexpr int questions = 50;
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        fast_peer peers[noisy];
        std::vector<tcp_stream> streams;
        for (fast_peer& each : peers) {
            tcp_stream here = co_await each.connects(listener, does::read, ~std::size_t{0});
            streams.push_back(std::move(here));
        }
        connection quiet = co_await test::connect_to(listener);
        auto server = spawn(test::echo_session, std::ref(quiet.server));
        std::size_t moved = 0;
        bool enough = false;
        std::vector<task_handle<>> all;
        for (tcp_stream& each : streams)
            all.push_back(spawn(downloads, std::ref(each), std::ref(moved), std::cref(enough)));
        const std::uint64_t begun = this_loop().stats().turns;
        std::uint64_t longest = 0;
        for (int i = 0; i < questions; ++i) {
            const std::uint64_t before = this_loop().stats().turns;
            co_await quiet.client.write_all("?");
            const std::string answer = co_await test::receive_text(quiet.client, 1);
            CHECK(answer == "?");
            longest = std::max(longest, this_loop().stats().turns - before);
        }
        const std::uint64_t turns = this_loop().stats().turns - begun;
        CAPTURE(turns);
        // Two ways, and on each a turn in which the bytes of the turn may have been spent.
        if (!test::on_sim()) CHECK(longest <= 8);  // there a way takes time, and others have many turns meanwhile
        CHECK(moved <= (turns + 1) * (per_turn + noisy * byte_budget::at_a_time));
        enough = true;
        for (task_handle<>& each : all) co_await each;
        quiet.client.shutdown();
        co_await server;
    });
}

}  // namespace
