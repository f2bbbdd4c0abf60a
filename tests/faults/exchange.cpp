// exchange SCENARIO [OPTION VALUE]...: clients and servers exchange bytes while something outside makes calls fail.
//
// Every byte is looked at. A client that fails says why, and tries again; an exchange that cannot be had in time is
// given up. The last line is a summary in JSON; what has failed is on lines before that. The exit code is 0 if each
// exchange succeeded in the end, 3 if some were given up, 4 if bytes were wrong or descriptors are left, and 5 if the
// program did not get to its end in time.
#include <rondo/io.hpp>
#include <rondo/net.hpp>
#include <rondo/rondo.hpp>

#include "../../samples/options.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <unistd.h>

using namespace rondo;
using namespace std::chrono_literals;
using bytes = std::vector<std::byte>;

namespace {

/// Byte `i` of exchange `which`: neighbours differ, and so do exchanges.
std::byte pattern(std::size_t which, std::size_t i) {
    return static_cast<std::byte>((i * 7 + (i >> 8) * 31 + (i >> 16) * 13 + which * 101) & 0xff);
}

bytes make_pattern(std::size_t which, std::size_t from, std::size_t size) {
    bytes made(size);
    for (std::size_t i = 0; i < size; ++i) made[i] = pattern(which, from + i);
    return made;
}

bool is_pattern(std::span<const std::byte> seen, std::size_t which, std::size_t from) {
    for (std::size_t i = 0; i < seen.size(); ++i)
        if (seen[i] != pattern(which, from + i)) return false;
    return true;
}

long open_descriptors() {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all)) - 1;  // without its own
}

struct settings {
    std::string scenario;
    long clients, rounds, attempts;
    std::size_t size;  // bytes of an exchange
    std::chrono::seconds patience;  // for one attempt
    std::chrono::seconds limit;     // for all
    std::uint16_t port;             // `serve` and `ask`
};

struct account {
    long whole = 0, given_up = 0, failures = 0, wrong = 0;
};

void say_failure(account& all, const char* what) {
    ++all.failures;
    std::printf("failed: %s\n", what);
    std::fflush(stdout);
}

// --- streams

struct echoes {
    template <class Stream>
    task<> operator()(Stream& peer) const {
        for (;;) {
            auto data = co_await peer.receive();
            if (data.empty()) co_return;
            co_await peer.write_all(data);
        }
    }
};

/// Writes in pieces of many sizes, and reads at the same time, so that each side has to wait for the other.
template <class Stream>
task<> exchange_bytes(Stream& peer, std::size_t which, std::size_t size, account& all) {
    auto both = [&](task_group& group) -> task<> {
        auto writes = [&]() -> task<> {
            std::size_t step = 1;
            bool in_parts = false;
            for (std::size_t from = 0; from < size; from += step, step = step % 40'000 * 3 + 1, in_parts = !in_parts) {
                step = std::min(step, size - from);
                const bytes piece = make_pattern(which, from, step);
                const std::span<const std::byte> all_of_it(piece);
                const std::span<const std::byte> parts[] = {all_of_it.first(step / 2), all_of_it.subspan(step / 2)};
                if (in_parts) {
                    co_await peer.write_all(parts);
                } else {
                    co_await peer.write_all(piece);
                }
            }
            peer.shutdown();
        };
        group.spawn(writes).discard();
        std::size_t got = 0;
        for (;;) {
            auto data = co_await peer.receive();
            if (data.empty()) break;
            if (got + data.size() > size || !is_pattern(data, which, got)) ++all.wrong;
            got += data.size();
        }
        if (got != size) throw std::runtime_error("the end came behind " + std::to_string(got) + " bytes");
    };
    co_await with_task_group(both);
}

/// `once` until it succeeds.
template <class Once>
task<> insists(const settings& with, account& all, Once once) {
    for (long attempt = 0; attempt < with.attempts; ++attempt) {
        std::string why;
        try {
            co_await with_timeout(with.patience, once);
            ++all.whole;
            co_return;
        } catch (const std::exception& e) {  // of a group, what() says each
            why = e.what();
        }
        say_failure(all, why.c_str());
        co_await sleep_for(10ms);
    }
    ++all.given_up;
}

template <class Stream, class Address>
task<> client(const settings& with, Address to, std::size_t which, account& all) {
    for (long round = 0; round < with.rounds; ++round) {
        auto once = [&]() -> task<> {
            Stream peer = co_await Stream::connect(to);
            co_await exchange_bytes(peer, which, with.size, all);
            co_await peer.close();
        };
        co_await insists(with, all, once);
    }
}

template <class Stream, class Address>
task<> clients(const settings& with, Address to, account& all) {
    auto body = [&](task_group& group) -> task<> {
        for (long i = 0; i < with.clients; ++i)
            group.spawn(client<Stream, Address>, std::cref(with), to, static_cast<std::size_t>(i), std::ref(all));
        co_return;
    };
    co_await with_task_group(body);
}

constexpr serve_options unsignalled{.stop_on_signals = false};

/// `body` while `session` serves at the listener.
template <class Listener, class Session, class Body>
task<> while_served(Listener& listener, Session session, Body body) {
    auto both = [&](task_group& group) -> task<> {
        auto serves = [&]() -> task<> { co_await serve(listener, session, unsignalled); };
        group.spawn_background(serves).discard();
        co_await body();
    };
    co_await with_task_group(both);
    co_await listener.close();
}

task<> over_tcp(const settings& with, account& all) {
    tcp_listener listener = tcp_listener::bind("127.0.0.1", 0);
    const endpoint at = listener.local();
    co_await while_served(listener, echoes(), [&]() -> task<> { return clients<tcp_stream>(with, at, all); });
}

task<> over_unix(const settings& with, account& all) {
    const unix_address at("/tmp/rondo-exchange-" + std::to_string(::getpid()));
    unix_listener listener = unix_listener::bind(at);
    co_await while_served(listener, echoes(), [&]() -> task<> { return clients<unix_stream>(with, at, all); });
}

task<> through_relay(const settings& with, account& all) {
    tcp_listener far = tcp_listener::bind("127.0.0.1", 0);
    tcp_listener near = tcp_listener::bind("127.0.0.1", 0);
    const endpoint target = far.local(), at = near.local();
    auto passes_on = [&](tcp_stream& here) -> task<> {
        tcp_stream there;
        try {
            there = co_await tcp_stream::connect(target);
        } catch (const std::system_error&) {
            here.reset_on_close();
            throw;
        }
        const relay_result moved = co_await relay(here, there);
        if (moved.error) throw std::system_error(moved.error, "relay");
    };
    auto in_front = [&]() -> task<> {
        return while_served(near, passes_on, [&]() -> task<> { return clients<tcp_stream>(with, at, all); });
    };
    co_await while_served(far, echoes(), in_front);
}

// --- datagrams

task<> echoes_datagrams(udp_socket& server, account& all) {
    std::vector<std::array<std::byte, 2048>> memory(16);
    std::vector<datagram> batch;
    for (auto& each : memory) batch.push_back(datagram::place(each));
    for (;;) {
        std::string why;
        try {
            const std::size_t count = co_await server.receive_many(batch);
            co_await server.send_many(std::span(batch).first(count));
            continue;
        } catch (const std::system_error& e) {
            why = e.what();
        }
        say_failure(all, why.c_str());
        co_await sleep_for(1ms);
    }
}

/// Each datagram goes out twice in one batch. One that does not come back is sent again.
task<> exchange_datagrams(udp_socket& socket, std::size_t which, std::size_t size, account& all) {
    constexpr std::size_t each = 700;
    for (std::size_t from = 0; from < size; from += each) {
        const bytes sent = make_pattern(which, from, each);
        bool came = false;
        for (int times = 0; times < 50 && !came; ++times) {
            auto once = [&]() -> task<> {
                std::vector<datagram> batch(2, datagram(sent));
                co_await socket.send_many(batch);
                for (bytes into(2048); !came;) {
                    const received_datagram got = co_await socket.receive(into);
                    const bytes seen(into.begin(), into.begin() + static_cast<std::ptrdiff_t>(got.size));
                    if (seen == sent) {
                        came = true;
                        continue;
                    }
                    bool is_late = false;  // an answer to one that was sent twice
                    for (std::size_t at = 0; at < from && !is_late; at += each)
                        is_late = seen.size() == each && is_pattern(seen, which, at);
                    if (!is_late) ++all.wrong;
                }
            };
            co_await move_on_after(200ms, once);
        }
        if (!came) throw std::runtime_error("a datagram was sent 50 times, and never came back");
    }
}

task<> over_udp(const settings& with, account& all) {
    udp_socket server = udp_socket::bind("127.0.0.1", 0);
    const endpoint at = server.local();
    auto body = [&](task_group& group) -> task<> {
        group.spawn_background(echoes_datagrams, std::ref(server), std::ref(all)).discard();
        for (long i = 0; i < with.clients * with.rounds; ++i) {
            auto once = [&]() -> task<> {
                udp_socket socket = udp_socket::unbound_v4();
                socket.connect(at);
                co_await exchange_datagrams(socket, static_cast<std::size_t>(i), with.size / 8, all);
                co_await socket.close();
            };
            co_await insists(with, all, once);
        }
    };
    co_await with_task_group(body);
    co_await server.close();
}

// --- in two processes

task<> only_serves(const settings& with, account&) {
    tcp_listener listener = tcp_listener::bind("127.0.0.1", with.port);
    std::printf("listening on %s\n", listener.local().to_string().c_str());
    std::fflush(stdout);
    co_await serve(listener, echoes(), {.write_stall_limit = 2s, .grace = 1s});
}

task<> only_asks(const settings& with, account& all) {
    co_await clients<tcp_stream>(with, endpoint("127.0.0.1", with.port), all);
}

task<int> app(settings with, account& all) {
    struct named {
        const char* name;
        task<> (*run)(const settings&, account&);
    };
    constexpr named scenarios[] = {{"tcp", over_tcp}, {"unix", over_unix},    {"relay", through_relay},
                                   {"udp", over_udp}, {"serve", only_serves}, {"ask", only_asks}};
    const auto* const chosen = std::find_if(std::begin(scenarios), std::end(scenarios),
                                            [&](const named& each) { return with.scenario == each.name; });
    if (chosen == std::end(scenarios)) co_return (std::fputs("there is no such scenario\n", stderr), 2);
    auto all_of_it = [&]() -> task<> { return chosen->run(with, all); };
    const bool in_time = co_await move_on_after(with.limit, all_of_it);
    co_return in_time ? 0 : 5;
}

}  // namespace

int main(int argc, char** argv) {
    sample::options given(argc, argv,
                          "  --backend NAME    auto, epoll or uring (auto)\n"
                          "  --clients N       at the same time (3)\n"
                          "  --rounds N        exchanges of each, one after the other (2)\n"
                          "  --size BYTES      of an exchange (60000)\n"
                          "  --attempts N      at each exchange (6)\n"
                          "  --patience S      seconds for an attempt (5)\n"
                          "  --limit S         seconds for all (40)\n"
                          "  --port N          of `serve` and `ask` (0)\n",
                          "tcp|unix|relay|udp|serve|ask");
    loop_options options;
    options.kind = given.backend();
    const settings with{given.word("SCENARIO"),
                        given.number("--clients", 3, 1, 1000),
                        given.number("--rounds", 2, 1, 100'000),
                        given.number("--attempts", 6, 1, 1000),
                        static_cast<std::size_t>(given.number("--size", 60'000, 1, 1 << 30)),
                        std::chrono::seconds(given.number("--patience", 5, 1, 600)),
                        std::chrono::seconds(given.number("--limit", 40, 1, 600)),
                        given.port("--port", 0, 0)};
    given.done();
    std::signal(SIGPIPE, SIG_DFL);  // no write of a stream may raise it
    const long before = open_descriptors();
    account all;
    int code = run_main(options, app, with, std::ref(all));
    const long left = open_descriptors() - before;
    std::printf("{\"whole\": %ld, \"given_up\": %ld, \"failures\": %ld, \"wrong\": %ld, \"left\": %ld}\n", all.whole,
                all.given_up, all.failures, all.wrong, left);
    if (code == 0 && all.given_up != 0) code = 3;
    if (all.wrong != 0 || left > 0) code = 4;
    return code;
}
