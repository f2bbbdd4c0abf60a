// A file written in one go.
#pragma once

#include <rondo/base/error.hpp>

#include "report.hpp"

#include <cerrno>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <string_view>

namespace rondo::detail {

/// Puts the parts, one behind the other, in the place of what is there. Throws io_error, with `operation`.
inline void write_file(const std::string& path, std::initializer_list<std::string_view> parts, const char* operation) {
    const no_write_signals errors_only;  // it may be a pipe, or grow too large
    errno = 0;
    std::FILE* const out = std::fopen(path.c_str(), "wb");
    bool written = out != nullptr;
    for (const std::string_view part : parts)
        written = written && std::fwrite(part.data(), 1, part.size(), out) == part.size();
    int error = errno;
    if (out != nullptr && std::fclose(out) != 0 && written) {
        written = false;
        error = errno;
    }
    if (!written) throw io_error(errno_code(error != 0 ? error : EIO), operation, path);
}

}  // namespace rondo::detail
