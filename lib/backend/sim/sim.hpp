// The simulated world as a backend: virtual time, TCP in memory, every open question to an oracle.
#pragma once

#include <rondo/loop/backend.hpp>

#include <cstdint>
#include <memory>

namespace rondo {

/// Null when there is no memory.
[[nodiscard]] std::unique_ptr<backend> make_sim(const backend_options& options) noexcept;

/// A running hash over everything that has happened in the world of a `sim`: what, on which
/// descriptor, with which result, at which virtual time. Two runs with the same hash were the same.
[[nodiscard]] std::uint64_t event_hash(const backend& simulated) noexcept;

/// The machine of this `sim`, one of a world's, crashes: see network::crash. Its program can unwind, with
/// all ops ending at once and no further effect. Throws bad_alloc, and then nothing has happened.
void crash_machine(backend& simulated, bool silently);

/// The program of this `sim`, one of a world's, gets a signal. False: it does not watch that, and nothing has
/// happened.
bool signal_machine(backend& simulated, int number) noexcept;

}  // namespace rondo
