// copy: one way, to the end or up to a limit, spliced and copied; and nothing is lost when it is stopped.
#include "support/relayed.hpp"
#include "support/scripted_stream.hpp"

#include <rondo/io/copy.hpp>

using namespace rondo;
using namespace std::chrono_literals;
using test::both_ways;
using test::gets;
using test::in_between;
using test::relayed;
using test::run_relay;
using test::sends;

static_assert(std::is_trivially_copyable_v<copy_options>);

namespace {

TEST_CASE("copy: to the end, and the target stays open") {
    for (const bool splice : both_ways)
        run_relay([&]() -> task<> {
            relayed r = co_await in_between();
            auto writes = spawn(sends, std::ref(r.client()), 1, 700'001);
            auto reads = spawn([&]() -> task<> {
                test::bytes got(700'001);
                co_await r.server().read_exactly(got);
                CHECK(test::is_pattern(got, 1));
            });
            const std::uint64_t moved = co_await copy(r.near_end(), r.far_end(), {.splice = splice});
            CHECK(moved == 700'001);
            co_await reads;
            co_await writes;
            co_await r.far_end().write_all("more");
            const std::string more = co_await test::receive_text(r.server(), 4);
            CHECK(more == "more");
        });
}

TEST_CASE("copy: to its limit and not a byte further, what was stashed first") {
    for (const bool splice : both_ways)
        run_relay([&]() -> task<> {
            relayed r = co_await in_between();
            const test::bytes all = test::make_pattern(1, 0, 400'000);
            co_await r.client().write_all(std::span(all).first(5'000));
            test::bytes too_many(10'000);
            auto reads = spawn([&]() -> task<> { co_await r.near_end().read_exactly(too_many); });
            co_await test::settle();
            reads.cancel();
            static_cast<void>(co_await attempt(reads));  // 5000 bytes are in the stash
            auto writes = spawn([&]() -> task<> { co_await r.client().write_all(std::span(all).subspan(5'000)); });
            auto seen = spawn([&]() -> task<> {
                test::bytes got(300'007);
                co_await r.server().read_exactly(got);
                CHECK(test::is_pattern(got, 1));
            });
            std::uint64_t copied = 0;
            const std::uint64_t moved =
                co_await copy(r.near_end(), r.far_end(), {.limit = 300'007, .splice = splice}, &copied);
            CHECK(moved == 300'007);
            CHECK(copied == 300'007);
            const std::uint64_t none =
                co_await copy(r.near_end(), r.far_end(), {.limit = 0, .splice = splice}, &copied);
            CHECK(none == 0);
            CHECK(copied == 0);
            test::bytes rest(99'993);
            co_await r.near_end().read_exactly(rest);
            CHECK(test::is_pattern(rest, 1, 300'007));
            co_await seen;
            co_await writes;
        });
}

TEST_CASE("copy: cancelled, it says how many were written, and the source still has the others") {
    for (const bool splice : both_ways)
        run_relay([&]() -> task<> {
            relayed r = co_await in_between();
            test::keep_small(r.right);
            constexpr std::size_t size = 1'500'000;
            auto writes = spawn(sends, std::ref(r.client()), 1, size);
            std::uint64_t copied = 0;
            auto copies = spawn(
                [&]() -> task<std::uint64_t> { return copy(r.near_end(), r.far_end(), {.splice = splice}, &copied); });
            co_await test::settle();
            copies.cancel();
            const auto stopped = co_await attempt(copies);
            CHECK(stopped.error() == std::errc::operation_canceled);
            CHECK(copied > 0);
            CHECK(copied < size);
            const test::bytes rest = co_await test::read_to_end(r.near_end());
            CHECK(rest.size() == size - copied);
            CHECK(test::is_pattern(rest, 1, copied));
            r.far_end().shutdown();
            co_await gets(r.server(), 1, copied);
            co_await writes;
        });
}

TEST_CASE("copy: when writing fails, the source still has what was not written") {
    for (const bool splice : both_ways)
        run_relay([&]() -> task<> {
            relayed r = co_await in_between();
            auto writes = spawn(sends, std::ref(r.client()), 1, 200'000);
            r.far_end().shutdown();
            std::uint64_t copied = 1;
            const std::error_code why =
                co_await test::error_of(copy(r.near_end(), r.far_end(), {.splice = splice}, &copied));
            CHECK(why == std::errc::broken_pipe);
            CHECK(copied == 0);
            co_await gets(r.near_end(), 1, 200'000);
            co_await writes;
        });
}

TEST_CASE("copy: streams that are no descriptors are as good, with a limit and without") {
    test::run([]() -> task<> {
        test::scripted_stream from({"one ", "two ", "three"});
        test::scripted_stream to;
        const std::uint64_t first = co_await copy(from, to, {.limit = 6, .chunk = 3});
        CHECK(first == 6);
        CHECK(to.taken == "one tw");
        const std::uint64_t rest = co_await copy(from, to);
        CHECK(rest == 7);
        CHECK(to.taken == "one two three");
        CHECK(!to.ended);
    });
}

}  // namespace
