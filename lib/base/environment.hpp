// Variables of the environment that settle something.
#pragma once

#include <rondo/base/error.hpp>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace rondo::detail {

/// Null if it is not set, or empty.
inline const char* variable(const char* name) noexcept {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0' ? value : nullptr;
}

/// What the variable `name` says, as a number. Throws io_error(invalid_argument).
inline std::uint64_t number_in(const char* name, const char* text) {
    char* end = nullptr;
    errno = 0;
    const std::uint64_t value = std::strtoull(text, &end, 0);
    if (errno != 0 || *end != '\0' || *text == '-')
        throw io_error(errno_code(EINVAL), name, "is not a number: " + std::string(text));
    return value;
}

}  // namespace rondo::detail
