// Durations counted in buckets whose width grows with the value: 8 to each power of two, so a quantile is
// right to 12.5 %. The size is fixed, and counting allocates nothing.
#pragma once

#include <rondo/base/time.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace rondo {

class histogram {
 public:
    /// Below 2^41 ns (36 minutes) by its bucket; more counts into the last one, and into sum() and max() as it
    /// is. Negative is 0. O(1).
    void add(duration d) noexcept {
        const auto ns = static_cast<std::uint64_t>(std::max(d.count(), duration::rep{0}));
        ++counts_[bucket_of(ns)];
        ++count_;
        sum_ += ns;
        max_ = std::max(max_, ns);
    }
    void merge(const histogram& other) noexcept {
        for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
        count_ += other.count_;
        sum_ += other.sum_;
        max_ = std::max(max_, other.max_);
    }
    void clear() noexcept { *this = {}; }

    std::uint64_t count() const noexcept { return count_; }
    duration sum() const noexcept { return duration(static_cast<duration::rep>(sum_)); }
    duration max() const noexcept { return duration(static_cast<duration::rep>(max_)); }
    /// What this many per mille of the durations do not exceed: the upper end of a bucket, max() at most. 0 of none.
    duration quantile(std::uint32_t per_mille) const noexcept {
        if (count_ == 0) return {};
        const std::uint64_t wanted = std::max<std::uint64_t>((count_ * std::min(per_mille, 1000u) + 999) / 1000, 1);
        std::uint64_t seen = 0;
        std::size_t i = 0;
        while (i < buckets && (seen += counts_[i]) < wanted) ++i;
        return i == buckets ? max() : std::min(upper(i), max());
    }
    /// How many did not exceed 2^n ns: exact, since that is where a bucket ends. n up to 41.
    std::uint64_t up_to_power(unsigned n) const noexcept {
        std::uint64_t seen = 0;
        const std::size_t last = bucket_of(std::uint64_t{1} << std::min(n, 41u));
        for (std::size_t i = 0; i <= last; ++i) seen += counts_[i];
        return seen;
    }

 private:
    static constexpr unsigned fine = 3;  // bits
    static constexpr std::size_t buckets = 312;

    // A bucket holds what is above the end of the one before it, up to and with its own end: ends are powers
    // of two and what divides them evenly. The last one has no end.
    static std::size_t bucket_of(std::uint64_t ns) noexcept {
        const std::uint64_t v = ns == 0 ? 0 : ns - 1;
        if (v < (1u << fine)) return static_cast<std::size_t>(v);
        const unsigned power = static_cast<unsigned>(std::bit_width(v)) - 1;
        const std::size_t i = ((power - fine + 1) << fine) + ((v >> (power - fine)) & ((1u << fine) - 1));
        return std::min(i, buckets);
    }
    static duration upper(std::size_t i) noexcept {
        if (i < (1u << fine)) return duration(static_cast<duration::rep>(i + 1));
        const std::size_t power = (i >> fine) + fine - 1;
        const std::uint64_t part = (i & ((1u << fine) - 1)) + (1u << fine) + 1;
        return duration(static_cast<duration::rep>(part << (power - fine)));
    }

    std::array<std::uint64_t, buckets + 1> counts_{};
    std::uint64_t count_ = 0;
    std::uint64_t sum_ = 0;
    std::uint64_t max_ = 0;
};

}  // namespace rondo
