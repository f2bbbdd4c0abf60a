// Text of others (exceptions, peers) before it goes to a terminal or a log.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace rondo::detail {

/// How many bytes at the begin of `text` are one printable character in UTF-8; 0 if there is none.
inline std::size_t printable_character(std::string_view text) noexcept {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned first = byte(0);
    if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
    const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || text.size() < size) return 0;
    for (std::size_t i = 1; i < size; ++i)
        if ((byte(i) & 0xc0) != 0x80) return 0;
    if (first == 0xc2 && byte(1) < 0xa0) return 0;  // terminals obey these controls as well
    return size;
}

/// Writes `text` to `to` on one line, control characters as \n or \x1b; gives the size. What does not fit
/// into `room`, or was `cut` before, shows as "..." at the end.
inline std::size_t write_printable(char* to, std::size_t room, std::string_view text, bool cut) noexcept {
    constexpr std::string_view dots = "...";
    std::size_t size = 0;
    std::size_t fits = 0;  // what leaves room for the dots
    while (!text.empty()) {
        char escaped[8];
        std::string_view piece = text.substr(0, printable_character(text));
        std::size_t taken = piece.size();
        if (taken == 0) {
            taken = 1;
            const char c = text.front();
            const char letter = c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : 0;
            const int n = letter != 0 ? std::snprintf(escaped, sizeof escaped, "\\%c", letter)
                                      : std::snprintf(escaped, sizeof escaped, "\\x%02x",
                                                      static_cast<unsigned>(static_cast<unsigned char>(c)));
            piece = {escaped, static_cast<std::size_t>(n)};
        }
        if (size + piece.size() > room) {
            cut = true;
            break;
        }
        std::memcpy(to + size, piece.data(), piece.size());
        size += piece.size();
        if (size + dots.size() <= room) fits = size;
        text.remove_prefix(taken);
    }
    if (!cut) return size;
    std::memcpy(to + fits, dots.data(), dots.size());
    return fits + dots.size();
}

}  // namespace rondo::detail
