// What the writers of JSON share.
#pragma once

#include "printable.hpp"

#include <cstdio>
#include <string>
#include <string_view>

namespace rondo::detail {

/// Adds `text` as a string of JSON. Also as a part of an HTML page: nothing in it looks like a tag.
inline void add_quoted(std::string& to, std::string_view text) {
    to += '"';
    while (!text.empty()) {
        const std::size_t size = detail::printable_character(text);
        const char c = text.front();
        if (c == '<') {
            to += "\\u003c";
        } else if (size > 1 || (size == 1 && c != '"' && c != '\\')) {
            to += text.substr(0, size);
        } else if (size == 1) {
            to += {'\\', c};
        } else if (static_cast<unsigned char>(c) < 0x80) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
            to += escaped;
        } else {
            to += "\\ufffd";  // no character of UTF-8, or one that terminals obey
        }
        text.remove_prefix(size != 0 ? size : 1);
    }
    to += '"';
}

}  // namespace rondo::detail
