// A directory for the files of one test.
#pragma once

#include "check.hpp"

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include <sys/stat.h>

namespace test {

/// A directory of its own, gone at the end.
struct directory {
    directory() {
        std::string at = (std::filesystem::temp_directory_path() / "rondo-XXXXXX").string();
        REQUIRE(::mkdtemp(at.data()) != nullptr);
        path = at;
    }
    ~directory() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    directory(const directory&) = delete;
    directory& operator=(const directory&) = delete;

    std::string operator/(std::string_view name) const { return path + "/" + std::string(name); }
    std::string path;
};

inline bool is_socket(const std::string& path) {
    struct stat found;
    return ::lstat(path.c_str(), &found) == 0 && S_ISSOCK(found.st_mode);
}

}  // namespace test
