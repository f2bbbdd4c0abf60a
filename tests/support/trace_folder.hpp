// A folder for the decisions of failed simulations that is gone afterwards.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <string>

namespace test {

struct trace_folder {
    trace_folder() {
        char name[] = "/tmp/rondo_traces.XXXXXX";
        REQUIRE(::mkdtemp(name) != nullptr);
        path = name;
    }
    ~trace_folder() { std::filesystem::remove_all(path); }
    trace_folder(const trace_folder&) = delete;
    trace_folder& operator=(const trace_folder&) = delete;
    std::string path;
};

}  // namespace test
