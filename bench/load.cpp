// The load generator: one thread, epoll, N connections. Each sends a message, waits for its echo,
// verifies every byte, and goes on. Prints the result as one JSON object.
//
// load --port P [--connections 50] [--size 64] [--requests 100000 | --seconds S]
//      [--warm-up 4 (per connection)] [--server PID (also report the CPU time that process used)]
//      [--udp (a message is a datagram; one that is lost ends the run)]
//      [--unix (the port is the number of the server's process)]
#include <sys/epoll.h>

#include <array>
#include <bit>

#include "support.hpp"

namespace {

constexpr int pattern_period = 4096;

struct connection {
    int fd = -1;
    bool wants_write = false;
    std::uint32_t sequence = 0;
    std::size_t sent = 0;
    std::size_t received = 0;
    std::int64_t started = 0;
};

/// Latencies in buckets of 1/32 of a power of two.
struct histogram {
    std::array<std::uint64_t, 64 * 32> buckets{};
    std::uint64_t total = 0;

    void add(std::int64_t ns) {
        auto value = static_cast<std::uint64_t>(ns < 32 ? 32 : ns);
        int shift = static_cast<int>(std::bit_width(value)) - 6;
        ++buckets[static_cast<std::size_t>(shift + 1) * 32 + ((value >> shift) & 31)];
        ++total;
    }
    double percentile_us(double share) const {
        auto rank = static_cast<std::uint64_t>(share * static_cast<double>(total));
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < buckets.size(); ++i)
            if ((seen += buckets[i]) > rank) {
                auto low = static_cast<std::uint64_t>(32 + i % 32) << (i / 32 - 1);
                return static_cast<double>(low) / 1000.0;
            }
        return 0;
    }
};

struct generator {
    int epoll = static_cast<int>(bench::must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
    std::size_t size = 64;
    std::vector<connection> connections;
    std::vector<char> pattern;
    std::vector<char> incoming;
    histogram latency;
    long completed = 0;
    long under_way = 0;
    bool measuring = false;
    bool ending = false;

    /// Every connection and every message starts somewhere else in the pattern.
    const char* message(const connection& c) const {
        auto index = static_cast<std::size_t>(&c - connections.data());
        return pattern.data() + (index * 131 + c.sequence * 17) % pattern_period;
    }

    enum class over { tcp, udp, local };

    void open_all(int port, long number, over what) {
        bench::random_source random;
        pattern.resize(pattern_period + size);
        for (auto& each : pattern) each = static_cast<char>(random.next());
        incoming.resize(size + 1);
        connections.resize(static_cast<std::size_t>(number));
        const sockaddr_in address = bench::loopback(port);
        socklen_t local_length = 0;
        const sockaddr_un local_address = bench::unix_address(port, local_length);
        const auto* const to = what == over::local ? reinterpret_cast<const sockaddr*>(&local_address)
                                                   : reinterpret_cast<const sockaddr*>(&address);
        for (auto& c : connections) {
            const int family = what == over::local ? AF_UNIX : AF_INET;
            c.fd = static_cast<int>(
                bench::must(socket(family, what == over::udp ? SOCK_DGRAM : SOCK_STREAM, 0), "socket"));
            bench::must(connect(c.fd, to, what == over::local ? local_length : sizeof address), "connect");
            if (what == over::tcp) bench::set_nodelay(c.fd);
            epoll_event event{EPOLLIN, {.ptr = &c}};
            bench::must(epoll_ctl(epoll, EPOLL_CTL_ADD, c.fd, &event), "epoll_ctl");
        }
    }

    void watch_write(connection& c, bool on) {
        if (c.wants_write == on) return;
        c.wants_write = on;
        epoll_event event{EPOLLIN | (on ? unsigned{EPOLLOUT} : 0u), {.ptr = &c}};
        bench::must(epoll_ctl(epoll, EPOLL_CTL_MOD, c.fd, &event), "epoll_ctl");
    }

    void send_rest(connection& c) {
        while (c.sent < size) {
            auto n = send(c.fd, message(c) + c.sent, size - c.sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (n < 0 && errno == EAGAIN) return watch_write(c, true);
            c.sent += static_cast<std::size_t>(bench::must(n, "send"));
        }
        watch_write(c, false);
    }

    void begin(connection& c) {
        c.sent = c.received = 0;
        c.started = bench::now_ns();
        ++under_way;
        send_rest(c);
    }

    void receive(connection& c) {
        // One byte of room too many: a server that answers more than it was asked is caught.
        auto n = recv(c.fd, incoming.data(), size - c.received + 1, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return;
        bench::must(n, "recv");
        auto end = c.received + static_cast<std::size_t>(n);
        if (n == 0 || end > c.sent || std::memcmp(incoming.data(), message(c) + c.received, end - c.received) != 0) {
            std::fprintf(stderr, n == 0 ? "load: the server closed\n" : "load: wrong bytes\n");
            std::exit(1);
        }
        c.received = end;
        if (c.received < size) return;
        if (measuring) latency.add(bench::now_ns() - c.started);
        ++completed;
        --under_way;
        ++c.sequence;
        if (!ending) begin(c);
    }

    /// Runs until `until` messages are complete or the deadline has passed.
    void run(long until, std::int64_t deadline) {
        while (completed < until && (deadline == 0 || bench::now_ns() < deadline)) turn();
    }

    /// Waits for the answers under way: the server then sees connections end, not break.
    void end() {
        ending = true;
        while (under_way > 0) turn();
    }

    void turn() {
        std::array<epoll_event, 512> events;
        int n = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), 20'000);
        if (n < 0 && errno == EINTR) return;
        if (n <= 0) {
            std::fprintf(stderr, "load: no answer for 20 s\n");
            std::exit(1);
        }
        for (int i = 0; i < n; ++i) {
            auto& c = *static_cast<connection*>(events[static_cast<std::size_t>(i)].data.ptr);
            if (c.wants_write) send_rest(c);
            receive(c);
        }
    }
};

/// CPU time of another process, all its threads, exact to the moment (schedstat lags by a tick).
std::int64_t cpu_ns_of(long pid) {
    clockid_t id{};
    if (pid == 0 || clock_getcpuclockid(static_cast<pid_t>(pid), &id) != 0) return 0;
    return bench::read_clock(id);
}

}  // namespace

int main(int argc, char** argv) {
    bench::raise_fd_limit();
    auto seconds = bench::option(argc, argv, "--seconds", 0);
    auto requests = bench::option(argc, argv, "--requests", seconds ? 1'000'000'000 : 100'000);
    auto number = bench::option(argc, argv, "--connections", 50);
    auto server = bench::option(argc, argv, "--server", 0);
    generator load;
    load.size = static_cast<std::size_t>(bench::option(argc, argv, "--size", 64));
    const auto over = bench::flag(argc, argv, "--udp")    ? generator::over::udp
                      : bench::flag(argc, argv, "--unix") ? generator::over::local
                                                          : generator::over::tcp;
    load.open_all(static_cast<int>(bench::option(argc, argv, "--port", 0)), number, over);
    for (auto& each : load.connections) load.begin(each);
    load.run(number * bench::option(argc, argv, "--warm-up", 4), 0);

    load.measuring = true;
    auto before = load.completed;
    auto start = bench::now_ns(), own_cpu = bench::cpu_ns(), server_cpu = cpu_ns_of(server);
    load.run(before + requests, seconds ? start + seconds * 1'000'000'000 : 0);
    server_cpu = cpu_ns_of(server) - server_cpu;
    own_cpu = bench::cpu_ns() - own_cpu;
    auto elapsed = static_cast<double>(bench::now_ns() - start) / 1e9;
    auto done = static_cast<double>(load.completed - before);
    load.end();
    std::printf(
        "{\"requests\": %.0f, \"seconds\": %.4f, \"rate\": %.0f, \"p50_us\": %.1f, "
        "\"p99_us\": %.1f, \"load_cpu_ns\": %.1f, \"server_cpu_ns\": %.1f}\n",
        done, elapsed, done / elapsed, load.latency.percentile_us(0.50), load.latency.percentile_us(0.99),
        static_cast<double>(own_cpu) / done, static_cast<double>(server_cpu) / done);
}
