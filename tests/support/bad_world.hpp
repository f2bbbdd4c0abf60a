// A bad world, for programs that must survive it: every fault there is, mixed anew for each seed (a "swarm").
#pragma once

#include <rondo/rondo.hpp>
#include <rondo/sim/simulate.hpp>
#include <rondo/sim/world.hpp>

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

namespace test {

struct wrong : std::runtime_error {
    using runtime_error::runtime_error;
};
inline void must(bool holds, const char* what) {
    if (!holds) throw wrong(what);
}

/// A server of a host that may have too little of something, and so fail to listen at first.
template <class Session>
rondo::task<> serve_at(std::uint16_t port, Session session, rondo::serve_options options) {
    for (;;) {
        auto listener = rondo::tcp_listener::try_bind("0.0.0.0", port);
        if (listener) {
            co_await rondo::serve(*listener, session, options);
        } else {
            co_await rondo::sleep_for(std::chrono::milliseconds(100));
        }
    }
}

/// Not there in every second world; else of any strength up to `most` percent.
inline rondo::chance some(rondo::world& w, std::uint32_t most) {
    return rondo::percent(w.choose(2) == 0 ? 0 : w.choose(most + 1));
}

inline std::chrono::milliseconds some_ms(rondo::world& w, std::uint32_t most) {
    return std::chrono::milliseconds(w.choose(most + 1));
}

inline void spoil_link(rondo::world& w, const char* a, const char* b) {
    auto link = w.link(a, b);
    link.loss(some(w, 20)).duplication(some(w, 20)).reordering(some(w, 20));
    if (w.choose(2) != 0) link.latency(std::chrono::milliseconds(1), std::chrono::milliseconds(200));
    if (w.choose(3) != 0) link.packet_size(500);
    if (w.choose(4) != 0) link.bandwidth(50'000);
}

inline void make_scarce(rondo::world& w, rondo::host& h) {
    h.lack_descriptors(some(w, 30)).lack_buffers(some(w, 30)).lack_memory(some(w, 5)).abort_connections(some(w, 30));
    h.clock_drift(static_cast<std::int32_t>(w.choose(1000)));
}

/// What heal_all() is for the network.
inline void end_scarcity(rondo::host& h) {
    h.lack_descriptors({}).lack_buffers({}).lack_memory({}).abort_connections({});
}

/// Who may crash, and which links may be cut.
struct victims {
    std::vector<const char*> hosts;
    std::vector<std::pair<const char*, const char*>> links;
};

/// Cuts, crashes and restarts for a while.
inline rondo::task<> disturb(rondo::world& w, const victims& of) {
    const std::uint32_t times = w.choose(8);
    for (std::uint32_t i = 0; i < times; ++i) {
        const auto pause = std::chrono::milliseconds(1 + w.choose(3000));
        co_await rondo::sleep_for(pause);
        auto& whom = w.host(of.hosts[w.choose(static_cast<std::uint32_t>(of.hosts.size()))]);
        const auto [a, b] = of.links[w.choose(static_cast<std::uint32_t>(of.links.size()))];
        switch (w.choose(5)) {
            case 0: whom.crash(); break;
            case 1: whom.crash(rondo::crash_mode::silent); break;
            case 2: {
                const auto cut = w.partition({a}, {b});
                co_await rondo::sleep_for(pause);
                break;
            }
            case 3: {
                const auto cut = w.partition_from({a}, {b});
                co_await rondo::sleep_for(pause);
                break;
            }
            default: {
                const auto cut = w.partition_from({b}, {a});
                co_await rondo::sleep_for(pause);
            }
        }
        const auto down = some_ms(w, 2000);
        co_await rondo::sleep_for(down);
        whom.restart();
    }
}

inline rondo::simulation in_chaos(rondo::simulation how) {
    how.mode = rondo::order::chaos;
    return how;
}

}  // namespace test
