// The names of Unix sockets.
#include <rondo/net/unix_address.hpp>

#include "support/test.hpp"

using namespace rondo;
using namespace std::literals;

namespace {

TEST_CASE("unix address: a name is a path, or abstract, and at most 107 bytes (hazard C13)") {
    const unix_address path("/run/app.sock");
    CHECK(path.is_path());
    CHECK(path.to_string() == "/run/app.sock");
    const unix_address abstract("@app");
    CHECK(abstract.is_abstract());
    CHECK_FALSE(abstract.is_path());
    CHECK(abstract.to_string() == "@app");
    CHECK(unix_address().is_unnamed());
    CHECK(unix_address().to_string() == "(unnamed)");
    CHECK(path == unix_address("/run/app.sock"s));
    CHECK_FALSE(path == abstract);
    CHECK(unix_address("./@app").is_path());
    CHECK(unix_address("/a\nb").to_string() == "/a\\nb");

    CHECK(unix_address(std::string(107, 'x')).name().size == 107);
    CHECK(unix_address("@" + std::string(107, 'x')).name().size == 108);
    CHECK(unix_address::try_parse(std::string(108, 'x')).error() == std::errc::filename_too_long);
    CHECK(unix_address::try_parse("@" + std::string(108, 'x')).error() == std::errc::filename_too_long);
    CHECK(unix_address::try_parse("").error() == std::errc::invalid_argument);
    CHECK(unix_address::try_parse("@").error() == std::errc::invalid_argument);
    CHECK(unix_address::try_parse("a\0b"sv).error() == std::errc::invalid_argument);
    CHECK(unix_address::try_parse("@a\0b"sv).has_value());

    std::string said;
    try {
        static_cast<void>(unix_address(std::string(130, 'y')));
    } catch (const std::system_error& e) {
        said = e.what();
    }
    CHECK(said.find("it has 130 bytes and 107 is the most: 'yyy") != std::string::npos);
}

}  // namespace
