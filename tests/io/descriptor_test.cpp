// Descriptors that another library made.
#include "support/net.hpp"
#include "support/net.hpp"

#include <climits>
#include <cstdio>

using namespace rondo;
using namespace std::literals;
using test::error_of;

namespace {

// The table of descriptors grew by 256 MiB before the kernel was asked about the number.
TEST_CASE("fd: a number that is no descriptor is bad, and costs nothing") {
    if (test::on_sim()) {
        MESSAGE("skipped: real backends only");
        return;
    }
    const auto resident = [] {
        long pages = 0, all = 0;
        if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
            CHECK(std::fscanf(f, "%ld %ld", &all, &pages) == 2);
            std::fclose(f);
        }
        return all;
    };
    test::run([&]() -> task<> {
        const long before = resident();
        for (const int fd : {INT_MAX, INT_MAX - 64, 100'000'000, -1, INT_MIN}) {
            CAPTURE(fd);
            const std::error_code readable = co_await error_of(wait_readable(fd));
            const std::error_code writable = co_await error_of(wait_writable(fd));
            CHECK(readable == std::errc::bad_file_descriptor);
            CHECK(writable == std::errc::bad_file_descriptor);
        }
        CHECK((resident() - before) * 4096 < (16 << 20));
    });
}

}  // namespace
