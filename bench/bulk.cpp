// The load of the proxy rows: sends many bytes to itself, through a proxy, and reads the CPU time that the proxy has
// used for them. Prints the port that the proxy has to connect to, then waits for a line on standard input with the
// proxy's port and process, and prints the result as one JSON object. Every byte is verified.
//
// bulk [--mebibytes 1024] [--warm-up 32 (mebibytes)]
#include <sys/epoll.h>

#include <algorithm>

#include "support.hpp"

namespace {

constexpr std::size_t write_size = 64 << 10;
constexpr std::size_t read_size = 256 << 10;
constexpr std::size_t period = 4093;  // of the pattern; prime, so that no boundary of a page is one of it

std::vector<char> pattern() {
    bench::random_source random;
    std::vector<char> made(period + std::max(write_size, read_size));
    for (std::size_t i = 0; i < made.size(); ++i)
        made[i] = i < period ? static_cast<char>(random.next()) : made[i - period];
    return made;
}

/// One thread that sends and receives in turns, as there is room and as bytes come.
struct transfer {
    int from;
    int to;
    std::vector<char> bytes = pattern();
    std::vector<char> incoming = std::vector<char>(read_size);
    std::size_t sent = 0;
    std::size_t received = 0;

    void run(std::size_t until) {
        while (received < until) {
            pollfd ready[2] = {{to, POLLIN, 0}, {sent < until ? from : -1, POLLOUT, 0}};
            const int n = poll(ready, 2, 20'000);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) fail("nothing has moved for 20 s");
            if (ready[1].revents != 0) send_some(until);
            if (ready[0].revents != 0) receive_some();
        }
    }

    void send_some(std::size_t until) {
        const std::size_t size = std::min(write_size, until - sent);
        const ssize_t n = send(from, bytes.data() + sent % period, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) return;
        sent += static_cast<std::size_t>(bench::must(n, "send"));
    }

    void receive_some() {
        const ssize_t n = recv(to, incoming.data(), read_size, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return;
        if (bench::must(n, "recv") == 0) fail("the proxy has ended the stream");
        const auto size = static_cast<std::size_t>(n);
        if (std::memcmp(incoming.data(), bytes.data() + received % period, size) != 0) fail("wrong bytes");
        received += size;
    }

    [[noreturn]] static void fail(const char* why) {
        std::fprintf(stderr, "bulk: %s\n", why);
        std::exit(1);
    }
};

/// CPU time of another process, all its threads.
std::int64_t cpu_ns_of(long pid) {
    clockid_t id{};
    if (clock_getcpuclockid(static_cast<pid_t>(pid), &id) != 0) return 0;
    return bench::read_clock(id);
}

}  // namespace

int main(int argc, char** argv) {
    constexpr std::size_t mebibyte = 1 << 20;
    const auto size = static_cast<std::size_t>(bench::option(argc, argv, "--mebibytes", 1024)) * mebibyte;
    const auto warm_up = static_cast<std::size_t>(bench::option(argc, argv, "--warm-up", 32)) * mebibyte;
    const int listener = bench::listen_on(0, SOCK_CLOEXEC);
    int port = 0;
    long proxy = 0;
    if (std::scanf("%d %ld", &port, &proxy) != 2) transfer::fail("no port and process on standard input");
    const int to = static_cast<int>(bench::must(socket(AF_INET, SOCK_STREAM, 0), "socket"));
    auto address = bench::loopback(port);
    bench::must(connect(to, reinterpret_cast<sockaddr*>(&address), sizeof address), "connect");
    const int from = static_cast<int>(bench::must(accept(listener, nullptr, nullptr), "accept"));

    transfer load{from, to};
    load.run(warm_up);
    const std::int64_t start = bench::now_ns(), before = cpu_ns_of(proxy);
    load.run(warm_up + size);
    const std::int64_t used = cpu_ns_of(proxy) - before;
    const double elapsed = static_cast<double>(bench::now_ns() - start) / 1e9;
    const double gibibytes = static_cast<double>(size) / (1 << 30);
    std::printf("{\"proxy_cpu_ns_per_gib\": %.0f, \"gib_per_second\": %.3f}\n", static_cast<double>(used) / gibibytes,
                gibibytes / elapsed);
}
