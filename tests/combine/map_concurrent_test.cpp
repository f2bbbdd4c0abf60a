// map_concurrent: how many at once, in which order, and what ends it.
#include "support/children.hpp"

#include <memory>
#include <ranges>
#include <string>
#include <vector>

using namespace rondo;
using namespace test;
using namespace std::chrono_literals;

namespace {

struct counts {
    int running = 0;
    int most = 0;
    int started = 0;
};

task<int> doubles(counts& c, int n) {
    c.most = std::max(c.most, ++c.running);
    ++c.started;
    for (int i = 0; i < 5 - n % 5; ++i) co_await yield();
    --c.running;
    co_return 2 * n;
}

std::vector<int> numbers(int n) {
    std::vector<int> all;
    for (int i = 0; i < n; ++i) all.push_back(i);
    return all;
}

TEST_CASE("map_concurrent: at most so many at once, and the results in the order of the range" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            for (const std::size_t limit : {std::size_t{1}, std::size_t{3}, std::size_t{50}}) {
                counts c;
                const std::vector<int> items = numbers(20);
                auto results = co_await map_concurrent(items, limit, [&c](int n) { return doubles(c, n); });
                CHECK(c.most == static_cast<int>(std::min(limit, items.size())));
                REQUIRE(results.size() == 20);
                for (int i = 0; i < 20; ++i) CHECK(results[static_cast<std::size_t>(i)] == 2 * i);
            }
        }
    };
    test::run(local::body);
}

TEST_CASE("map_concurrent: an empty range is an empty result at once; a limit of 0 is an error") {
    struct local {
        static task<> body() {
            counts c;
            auto none = co_await map_concurrent(std::vector<int>(), 3, [&c](int n) { return doubles(c, n); });
            CHECK(none.empty());
            CHECK_THROWS_AS(static_cast<void>(map_concurrent(numbers(3), 0, [&c](int n) { return doubles(c, n); })),
                            std::invalid_argument);
            CHECK(c.started == 0);
        }
    };
    test::run(local::body);
}

TEST_CASE("map_concurrent: move-only elements and results; nothing for task<void>; borrowed elements stay") {
    struct local {
        static task<std::unique_ptr<int>> adds_one(std::unique_ptr<int> p) {
            co_await yield();
            co_return std::make_unique<int>(*p + 1);
        }
        static task<> length(const std::string& text, std::size_t& sum) {
            co_await yield();
            sum += text.size();
        }
        static task<> takes(std::string text, std::size_t& sum) {
            co_await yield();
            sum += text.size();
        }
        static task<> body() {
            std::vector<std::unique_ptr<int>> owned_items;
            for (int i = 0; i < 4; ++i) owned_items.push_back(std::make_unique<int>(i));
            auto results = co_await map_concurrent(std::move(owned_items), 2, adds_one);
            CHECK(*results[3] == 4);
            const std::vector<std::string> words(3, std::string(30, 'w'));
            std::size_t sum = 0;
            co_await map_concurrent(words, 2, [&sum](const std::string& word) { return length(word, sum); });
            CHECK(sum == 90);
            std::vector<std::string> ours(3, std::string(30, 'w'));
            const std::span<std::string> view(ours);
            co_await map_concurrent(view, 2, [&sum](std::string word) { return takes(std::move(word), sum); });
            co_await map_concurrent(std::span<std::string>(ours), 2,
                                    [&sum](std::string word) { return takes(std::move(word), sum); });
            CHECK(sum == 270);
            CHECK(ours == words);
        }
    };
    test::run(local::body);
}

TEST_CASE("map_concurrent: the first failure cancels the others; what is left is not looked at" *
          doctest::test_suite("order")) {
    struct local {
        static task<int> fails_at(counts& c, journal& j, int n) {
            ++c.started;
            if (n == 2) co_return co_await fails_after(1, "two");
            if (n == 3) co_return co_await fails_at_cancel("three");
            co_return co_await waits(j, std::to_string(n));
        }
        static task<> body(journal& j) {
            counts c;
            auto all = map_concurrent(numbers(100), 4, [&](int n) { return fails_at(c, j, n); });
            const std::string failed = co_await errors_of(std::move(all));
            CHECK(failed == "two three");
            CHECK(c.started == 4);
            const auto throws = [](int) -> task<int> { throw std::runtime_error("no task"); };
            const auto refuses = [&](int n) {
                if (n == 1) throw std::runtime_error("not made");
                return waits(j, "b");
            };
            const std::string thrown = co_await errors_of(map_concurrent(numbers(3), 2, throws));
            CHECK(thrown == "just no task");
            const std::string refused = co_await errors_of(map_concurrent(numbers(3), 2, refuses));
            CHECK(refused == "just not made");
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "0 cancelled 1 cancelled b cancelled");
}

// The element was not passed: the next worker called the function for it again, and failed as well.
TEST_CASE("map_concurrent: a call that throws is one failure, and the last") {
    test::run([]() -> task<> {
        int calls = 0;
        const auto fails = [&](int n) -> task<int> {
            ++calls;
            if (n == 2) throw std::runtime_error("two");
            return [](int k) -> task<int> {
                co_await yield();
                co_return k;
            }(n);
        };
        std::string what;
        try {
            co_await map_concurrent(numbers(10), 2, fails);
        } catch (const std::exception& e) {
            what = e.what();
        }
        CHECK(what == "two");
        CHECK(calls == 3);
    });
}

// With too large a size it waited for ever for an element that did not come.
TEST_CASE("map_concurrent: a range that is wrong about its size is as long as it is") {
    struct liar {
        std::vector<int> items;
        std::size_t says;
        auto begin() const { return items.begin(); }
        auto end() const { return items.end(); }
        std::size_t size() const { return says; }
    };
    test::run([]() -> task<> {
        const auto same = [](int n) -> task<int> {
            co_await yield();
            co_return n;
        };
        for (const std::size_t says : {std::size_t{0}, std::size_t{1}, std::size_t{9}}) {
            const liar three{numbers(3), says};
            const auto got = co_await map_concurrent(three, 5, same);
            CHECK(got.size() == 3);
            const liar none{{}, says};
            const auto nothing_there = co_await map_concurrent(none, 5, same);
            CHECK(nothing_there.empty());
        }
    });
}

TEST_CASE("map_concurrent: a range that does not know its size, of elements that are made as it goes") {
    struct local {
        static task<int> refers(const int& n) {
            co_await yield();
            co_return n;
        }
        static task<> body() {
            auto odd = std::views::iota(0, 10) | std::views::filter([](int n) { return n % 2 == 1; });
            auto results = co_await map_concurrent(odd, 2, refers);
            CHECK(results == std::vector<int>{1, 3, 5, 7, 9});
        }
    };
    test::run(local::body);
}

TEST_CASE("map_concurrent: never more children than the limit, however long the range") {
    struct local {
        static task<int> looks(std::size_t& most) {
            most = std::max(most, this_loop().stats().tasks);
            co_await yield();
            co_return 0;
        }
        static task<> body() {
            std::size_t most = 0;
            co_await map_concurrent(numbers(500), 3, [&most](int) { return looks(most); });
            CHECK(most == 4);  // and this one
        }
    };
    test::run(local::body);
}

TEST_CASE("map_concurrent: nested; cancelled; cancelled at every step" * doctest::test_suite("order")) {
    struct local {
        static task<int> inner(int n) {
            auto sums = co_await map_concurrent(numbers(n), 2, [](int i) { return after(1, i); });
            int sum = 0;
            for (const int s : sums) sum += s;
            co_return sum;
        }
        static task<> program() {
            auto sums = co_await map_concurrent(numbers(4), 3, inner);
            CHECK(sums == std::vector<int>{0, 0, 1, 3});
            auto results = co_await map_concurrent(numbers(5), 2, [](int n) { return owned(n % 3, n); });
            CHECK(*results[4] == 4);
            co_await sleep_for(1ms);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 0);
    journal j;
    const auto endless = [](journal& log) {
        return map_concurrent(numbers(9), 2, [&log](int n) { return waits(log, std::to_string(n)); });
    };
    CHECK(when_cancelled(endless, j) == "0 cancelled 1 cancelled cancelled");
}

}  // namespace
