// What the benchmark programs share: arguments, clocks, sockets, the timer exercise.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bench {

/// Value of `name VALUE` on the command line, or `fallback`.
inline long option(int argc, char** argv, std::string_view name, long fallback) {
    for (int i = 1; i + 1 < argc; ++i)
        if (argv[i] == name) return std::atol(argv[i + 1]);
    return fallback;
}

inline bool flag(int argc, char** argv, std::string_view name) {
    for (int i = 1; i < argc; ++i)
        if (argv[i] == name) return true;
    return false;
}

/// Ends the program when a system call that has to work did not.
inline long must(long result, const char* what) {
    if (result < 0) {
        std::perror(what);
        std::exit(1);
    }
    return result;
}

inline std::int64_t read_clock(clockid_t id) {
    timespec at{};
    clock_gettime(id, &at);
    return std::int64_t{at.tv_sec} * 1'000'000'000 + at.tv_nsec;
}

/// CPU time, user and system, of this process.
inline std::int64_t cpu_ns() { return read_clock(CLOCK_PROCESS_CPUTIME_ID); }
inline std::int64_t now_ns() { return read_clock(CLOCK_MONOTONIC); }

inline std::int64_t resident_bytes() {
    long total = 0, resident = 0;
    FILE* file = std::fopen("/proc/self/statm", "r");
    if (!file || std::fscanf(file, "%ld %ld", &total, &resident) != 2) std::exit(1);
    std::fclose(file);
    return std::int64_t{resident} * sysconf(_SC_PAGESIZE);
}

/// Keeps the compiler from dropping or precomputing `value`.
template <class T>
inline void keep(const T& value) {
    asm volatile("" : : "g"(&value) : "memory");
}

struct random_source {
    std::uint64_t state = 0x9e3779b97f4a7c15;
    std::uint64_t next() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
    }
    std::uint64_t below(std::uint64_t bound) { return next() % bound; }
};

inline void raise_fd_limit() {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

// servers

/// SIGTERM ends a server at once and quietly; a broken connection is an error code.
inline void prepare_server() {
    raise_fd_limit();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, [](int) { _exit(0); });
}

inline void announce_port(int port) {
    std::printf("port %d\n", port);
    std::fflush(stdout);
}

inline void set_nodelay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

inline sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/// The name of the server `number`, an abstract one: what stands for a port among Unix sockets.
inline std::string unix_name(long number) { return "rondo-bench-" + std::to_string(number); }

inline sockaddr_un unix_address(long number, socklen_t& length) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = unix_name(number);
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    return address;
}

/// A listening Unix socket, whose number is that of this process; prints it as a port.
inline int listen_on_unix(int type_flags) {
    int fd = static_cast<int>(must(socket(AF_UNIX, SOCK_STREAM | type_flags, 0), "socket"));
    socklen_t length = 0;
    const sockaddr_un address = unix_address(getpid(), length);
    must(bind(fd, reinterpret_cast<const sockaddr*>(&address), length), "bind");
    must(listen(fd, 4096), "listen");
    announce_port(getpid());
    return fd;
}

/// A listening socket on 127.0.0.1; prints the port it got.
inline int listen_on(int port, int type_flags) {
    int fd = static_cast<int>(must(socket(AF_INET, SOCK_STREAM | type_flags, 0), "socket"));
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    auto address = loopback(port);
    socklen_t length = sizeof address;
    must(bind(fd, reinterpret_cast<sockaddr*>(&address), length), "bind");
    must(listen(fd, 4096), "listen");
    must(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), "getsockname");
    announce_port(ntohs(address.sin_port));
    return fd;
}

// micro programs: `program ROW COUNT` prints lines of `key value`

inline void report(const char* key, double value) { std::printf("%s %.3f\n", key, value); }

struct row {
    std::string_view name;
    void (*run)(long count);
};

inline int run_row(int argc, char** argv, std::initializer_list<row> rows) {
    for (auto& each : rows)
        if (argc == 3 && each.name == argv[1]) {
            each.run(std::atol(argv[2]));
            return 0;
        }
    std::fprintf(stderr, "usage: %s ROW COUNT; rows:", argv[0]);
    for (auto& each : rows) std::fprintf(stderr, " %s", each.name.data());
    std::fprintf(stderr, "\n");
    return 2;
}

constexpr int live_timers = 100'000;
constexpr int timer_batch = 10'000;
constexpr int timer_slots = live_timers + timer_batch;

/// Timers at `live_timers` live: every round inserts a batch with random deadlines within ten
/// seconds, then cancels as many, picked at random among all. Only insert and cancel are timed.
/// `insert(slot, delay_ms)`, `cancel(slot)`; `settle()` is what cancelling leaves to be done.
template <class Insert, class Cancel, class Settle>
void timer_rounds(long count, Insert insert, Cancel cancel, Settle settle) {
    random_source random;
    std::vector<int> order(timer_slots), delay(timer_slots);
    for (int i = 0; i < timer_slots; ++i) order[i] = i;
    for (auto& each : delay) each = 1 + static_cast<int>(random.below(10'000));
    for (int i = 0; i < live_timers; ++i) insert(order[i], delay[i]);
    std::int64_t inserting = 0, cancelling = 0;
    long rounds = count / timer_batch;
    for (long round = 0; round < rounds; ++round) {
        for (int i = live_timers; i < timer_slots; ++i) delay[i] = 1 + static_cast<int>(random.below(10'000));
        auto start = cpu_ns();
        for (int i = live_timers; i < timer_slots; ++i) insert(order[i], delay[i]);
        inserting += cpu_ns() - start;
        for (int i = timer_slots; i > live_timers; --i)
            std::swap(order[i - 1], order[random.below(static_cast<std::uint64_t>(i))]);
        start = cpu_ns();
        for (int i = live_timers; i < timer_slots; ++i) cancel(order[i]);
        settle();
        cancelling += cpu_ns() - start;
    }
    auto operations = static_cast<double>(rounds * timer_batch);
    report("insert", static_cast<double>(inserting) / operations);
    report("cancel", static_cast<double>(cancelling) / operations);
}

}  // namespace bench
