#include <rondo/loop/oracle.hpp>

#include <rondo/base/detail/assert.hpp>

#include <algorithm>

namespace rondo {
namespace {

/// SplitMix64 (Steele, Lea, Flood 2014): a counter and a mixer. Small enough to be read, good for
/// any statistical test, and integers only, so no compiler and no library changes a decision.
constexpr std::uint64_t step = 0x9e3779b97f4a7c15;

constexpr std::uint64_t mix(std::uint64_t z) noexcept {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

}  // namespace

oracle::~oracle() = default;

bool oracle::happens(choice point, std::uint32_t per_million) noexcept {
    constexpr std::uint32_t million = 1'000'000;
    return per_million != 0 && choose(point, million) >= million - std::min(per_million, million - 1);
}

std::uint32_t benign_oracle::choose(choice, std::uint32_t alternatives) noexcept {
    RONDO_ASSERT(alternatives > 0, "a choice without alternatives");
    return 0;
}

std::uint64_t benign_oracle::bits(choice) noexcept { return mix(next_ += step); }

/// Mixed twice, or the streams of neighbouring seeds would be one sequence, shifted.
seeded_oracle::seeded_oracle(std::uint64_t seed) noexcept {
    std::uint64_t index = 0;
    for (std::uint64_t& state : state_) state = mix(mix(seed + step) ^ mix(++index * step));
}

/// The high half of bits * alternatives: all in range, even to within 2^-32, without a division and
/// without a retry, hence one draw for each choice whatever its size.
std::uint32_t seeded_oracle::choose(choice point, std::uint32_t alternatives) noexcept {
    RONDO_ASSERT(alternatives > 0, "a choice without alternatives");
    if (alternatives == 1) return 0;
    __extension__ using wide = unsigned __int128;
    return static_cast<std::uint32_t>(static_cast<wide>(bits(point)) * alternatives >> 64);
}

std::uint64_t seeded_oracle::bits(choice point) noexcept { return mix(state_[static_cast<int>(point)] += step); }

}  // namespace rondo
