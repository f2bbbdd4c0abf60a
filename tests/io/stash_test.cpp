// The stash of a stream: what was kept comes out once, in order, and a gap is never passed over.
#include "support/test.hpp"

#include <rondo/io/detail/stash.hpp>

#include <cerrno>
#include <cstdlib>
#include <cstring>

using rondo::detail::stash;

namespace {

std::string take(stash& from, std::size_t size) {
    std::string into(size, '\0');
    const std::int32_t n = from.take(into.data(), size);
    REQUIRE(n >= 0);
    into.resize(static_cast<std::size_t>(n));
    return into;
}

TEST_CASE("stash: gives what it keeps in order, in pieces or whole") {
    stash kept;
    CHECK(kept.empty());
    kept.keep("abcdef", 6);
    CHECK(take(kept, 2) == "ab");
    CHECK(take(kept, 0).empty());
    CHECK(take(kept, 2) == "cd");
    stash moved(std::move(kept));
    void* rest = nullptr;
    CHECK(moved.take_all(rest) == 2);
    CHECK(std::string_view(static_cast<const char*>(rest), 2) == "ef");
    std::free(rest);
    CHECK(moved.empty());
}

TEST_CASE("stash: an error is told once, a lost byte for ever") {
    stash kept;
    char byte;
    kept.keep_error(-ECONNRESET);
    CHECK(kept.take(&byte, 0) == 0);  // a read of nothing has no error
    CHECK(kept.take(&byte, 1) == -ECONNRESET);
    CHECK(kept.empty());
    kept.poison();
    void* all = nullptr;
    for (int i = 0; i < 3; ++i) {
        CHECK(kept.take(&byte, 1) == -ENOMEM);
        CHECK(kept.take_all(all) == -ENOMEM);
    }
    CHECK(!kept.empty());
    kept.clear();
    CHECK(kept.empty());
}

TEST_CASE("stash: bytes that come back are in front of the others, and none passes over an error") {
    stash kept;
    std::memcpy(kept.put_back(3), "cde", 3);
    std::memcpy(kept.put_back(2), "ab", 2);
    CHECK(take(kept, 4) == "abcd");
    std::memcpy(kept.put_back(1), "d", 1);
    CHECK(take(kept, 9) == "de");
    CHECK(kept.empty());
    kept.keep_error(-ECONNRESET);
    CHECK(kept.put_back(1) == nullptr);
    char byte;
    CHECK(kept.take(&byte, 1) == -ENOMEM);
}

}  // namespace
