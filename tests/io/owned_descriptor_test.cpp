// A descriptor that somebody owns.
#include <rondo/io/owned_descriptor.hpp>

#include "support/net.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <thread>

using namespace rondo;

static_assert(std::is_nothrow_move_constructible_v<owned_descriptor> &&
              std::is_nothrow_move_assignable_v<owned_descriptor> && !std::is_copy_constructible_v<owned_descriptor>);

namespace {

int open_one() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }
bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST_CASE("owned descriptor: it is closed with its owner, once, wherever it has moved") {
    const int fd = open_one();
    {
        owned_descriptor one(fd);
        CHECK(one.native_handle() == fd);
        owned_descriptor other = std::move(one);
        CHECK_FALSE(one.is_open());
        one = std::move(other);
        CHECK(one.is_open());
        CHECK(is_open(fd));
    }
    CHECK_FALSE(is_open(fd));
    CHECK_FALSE(owned_descriptor().is_open());
}

TEST_CASE("owned descriptor: assigned to, reset or released, it lets go of what it had") {
    const int first = open_one();
    const int second = open_one();
    owned_descriptor one(first);
    one = owned_descriptor(second);
    CHECK_FALSE(is_open(first));
    CHECK(one.release() == second);
    CHECK(one.native_handle() == -1);
    CHECK(is_open(second));
    one = owned_descriptor(second);
    one.reset();
    CHECK_FALSE(is_open(second));
}

TEST_CASE("owned descriptor: it may outlive the loop, and go on another thread") {
    if (test::on_sim()) return;  // whose descriptors are none of the kernel's
    owned_descriptor survives;
    owned_descriptor leaves;
    test::run([&]() -> task<> {
        survives = owned_descriptor(open_one());
        leaves = owned_descriptor(open_one());
        std::thread([gone = std::move(leaves)]() mutable { gone.reset(); }).join();
        co_return;
    });
    const int fd = survives.native_handle();
    CHECK(is_open(fd));
    survives.reset();
    CHECK_FALSE(is_open(fd));
}

}  // namespace
