// Numbers as people read them, for reports: "1,000,000", "830 ms", "2 h 5 min".
#pragma once

#include <rondo/base/time.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>

namespace rondo::detail {

/// A short text that needs no memory of its own.
struct readable {
    char text[32] = "";
};

inline readable readable_count(std::size_t n) noexcept {
    char digits[24];
    const int size = std::snprintf(digits, sizeof digits, "%zu", n);
    readable to;
    std::size_t at = 0;
    for (int i = 0; i < size; ++i) {
        if (i != 0 && (size - i) % 3 == 0) to.text[at++] = ',';
        to.text[at++] = digits[i];
    }
    return to;
}

/// Two figures or three: what lasts for hours need not be known to the second. Negative is nothing.
inline readable readable_duration(duration d) noexcept {
    readable to;
    const auto write = [&to](const char* format, auto... values) {
        std::snprintf(to.text, sizeof to.text, format, values...);
    };
    const long long ns = d.count() > 0 ? d.count() : 0;
    const long long ms = ns / 1'000'000;
    const long long s = ms / 1000;
    if (ns < 1'000'000) {
        write("%lld us", ns / 1000);
    } else if (ms < 1000) {
        write("%lld ms", ms);
    } else if (s < 60) {
        write("%lld.%lld s", s, ms % 1000 / 100);
    } else if (s < 3600) {
        write("%lld min %lld s", s / 60, s % 60);
    } else if (s < 48 * 3600) {
        write("%lld h %lld min", s / 3600, s % 3600 / 60);
    } else {
        write("%lld days", s / 86400);
    }
    return to;
}

}  // namespace rondo::detail
