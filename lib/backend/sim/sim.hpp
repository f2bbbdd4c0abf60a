// The simulated world as a backend: virtual time, TCP in memory, every open question to an oracle.
#pragma once

#include <rondo/loop/backend.hpp>

#include <cstdint>
#include <memory>

namespace rondo {

namespace simulated {
struct machine;
}

/// What a simulated backend is made of.
struct sim_parts {
    oracle* decisions = nullptr;              // who decides; null: own_decisions
    std::unique_ptr<oracle> own_decisions{};  // likewise, and the backend keeps it; null as well: all is benign
    simulated::machine* machine = nullptr;    // one of a world's; null: a world of its own
};

/// Null when there is no memory.
[[nodiscard]] RONDO_API std::unique_ptr<backend> make_sim(const backend_options& options, sim_parts parts) noexcept;

/// A running hash over everything that has happened in the world of a `sim`: what, on which
/// descriptor, with which result, at which virtual time. Two runs with the same hash were the same.
[[nodiscard]] std::uint64_t event_hash(const backend& simulated) noexcept;

/// The machine of this `sim`, one of a world's, crashes: see network::crash. Its program can unwind, with
/// all ops ending at once and no further effect. Throws bad_alloc, and then nothing has happened.
RONDO_API void crash_machine(backend& simulated, bool silently);

/// The program of this `sim`, one of a world's, gets a signal. False: it does not watch that, and nothing has
/// happened.
RONDO_API bool signal_machine(backend& simulated, int number) noexcept;

}  // namespace rondo
