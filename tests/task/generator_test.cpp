#include <rondo/task/generator.hpp>

#include "support/every_step.hpp"

#include <memory>
#include <string>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;
using test::journal;

namespace {

async_generator<int> count_to(int n) {
    for (int i = 1; i <= n; ++i) co_yield i;
}

async_generator<int> count_slowly(int n, duration pause) {
    for (int i = 1; i <= n; ++i) {
        co_await sleep_for(pause);
        co_yield i;
    }
}

/// One generator that pulls from another.
async_generator<int> squares(async_generator<int> of) {
    while (auto number = co_await of.next()) co_yield *number** number;
}

async_generator<std::string> lines(tcp_stream& from) {
    std::string line;
    for (;;) {
        const buffer data = co_await from.receive();
        if (data.empty()) co_return;
        for (const char c : data.text()) {
            if (c != '\n') {
                line += c;
                continue;
            }
            co_yield line;
            line.clear();
        }
    }
}

struct noted {
    explicit noted(journal& j) : in(&j) { in->add("made"); }
    noted(const noted&) = delete;
    noted& operator=(const noted&) = delete;
    ~noted() { in->add("gone"); }
    journal* in;
};

}  // namespace

TEST_CASE("generator: values one by one, then null, and null again") {
    test::run([]() -> task<> {
        async_generator<int> numbers = count_to(3);
        std::string seen;
        while (auto n = co_await numbers.next()) seen += std::to_string(*n);
        CHECK(seen == "123");
        const int* const after = co_await numbers.next();
        CHECK(after == nullptr);
    });
}

TEST_CASE("generator: it runs only while a value is asked for") {
    test::run([]() -> task<> {
        journal seen;
        const auto talks = [&]() -> async_generator<int> {
            seen.add("begin");
            co_yield 1;
            seen.add("middle");
            co_yield 2;
            seen.add("end");
        };
        async_generator<int> g = talks();
        co_await yield();
        CHECK(seen.text().empty());
        const int one = *co_await g.next();
        CHECK(one == 1);
        CHECK(seen.text() == "begin");
        static_cast<void>(co_await g.next());
        static_cast<void>(co_await g.next());
        CHECK(seen.text() == "begin middle end");
    });
}

TEST_CASE("generator: waits between values, and generators of generators") {
    test::run([]() -> task<> {
        const time_point began = now();
        async_generator<int> all = squares(count_slowly(4, 10ms));
        std::string seen;
        while (auto n = co_await all.next()) seen += std::to_string(*n) + " ";
        CHECK(seen == "1 4 9 16 ");
        CHECK(now() - began >= 40ms);
    });
}

TEST_CASE("generator: a copy of what is yielded by name, the thing itself of a temporary") {
    test::run([]() -> task<> {
        const auto names = []() -> async_generator<std::string> {
            std::string name = "kept by the generator";
            co_yield name;
            CHECK(name == "kept by the generator");
            co_yield std::string("a temporary");
        };
        async_generator<std::string> g = names();
        std::string* first = co_await g.next();
        const std::string taken = std::move(*first);
        const std::string* second = co_await g.next();
        CHECK(*second == "a temporary");
        const auto only_moves = []() -> async_generator<std::unique_ptr<int>> { co_yield std::make_unique<int>(5); };
        async_generator<std::unique_ptr<int>> h = only_moves();
        const std::unique_ptr<int> five = std::move(*co_await h.next());
        CHECK(*five == 5);
    });
}

TEST_CASE("generator: an error passes to who asks, and ends it") {
    test::run([]() -> task<> {
        const auto fails = []() -> async_generator<int> {
            co_yield 1;
            throw std::runtime_error("no second");
        };
        async_generator<int> g = fails();
        static_cast<void>(co_await g.next());
        std::string said;
        try {
            static_cast<void>(co_await g.next());
        } catch (const std::runtime_error& e) {
            said = e.what();
        }
        CHECK(said == "no second");
        const int* const after = co_await g.next();
        CHECK(after == nullptr);
    });
}

TEST_CASE("generator: abandoned between two values, it cleans up") {
    test::run([]() -> task<> {
        journal seen;
        {
            const auto holds = [&]() -> async_generator<int> {
                const noted guard(seen);
                for (int i = 0;; ++i) co_yield i;
            };
            async_generator<int> g = holds();
            static_cast<void>(co_await g.next());
            static_cast<void>(co_await g.next());
            async_generator<int> never_asked = holds();
        }
        CHECK(seen.text() == "made gone");
    });
}

// It was swapped: the old one ran on, and held what it held, until the one that was moved from went.
TEST_CASE("generator: another that moves in takes the place of what was there, which is gone at once") {
    test::run([]() -> task<> {
        journal seen;
        const auto holds = [&](int n) -> async_generator<int> {
            const noted held(seen);
            co_yield n;
        };
        auto g = holds(1);
        co_await g.next();
        auto other = holds(2);
        g = std::move(other);
        CHECK(seen.text() == "made gone");
        const int* const n = co_await g.next();
        REQUIRE(n != nullptr);
        CHECK(*n == 2);
        auto& same = g;
        g = std::move(same);
        const int* const end = co_await g.next();
        CHECK(end == nullptr);
        CHECK(seen.text() == "made gone made gone");
    });
}

TEST_CASE("generator: cancelled and limited as its asker is, in the asker's scopes") {
    test::run([]() -> task<> {
        journal seen;
        const auto slow = [&]() -> async_generator<int> {
            const noted guard(seen);
            co_yield 1;
            co_await sleep_for(1h);
            co_yield 2;
        };
        async_generator<int> g = slow();
        const auto ask = [&]() -> task<> {
            while (auto n = co_await g.next()) seen.add(std::to_string(*n));
        };
        const bool in_time = co_await move_on_after(1ms, ask);
        CHECK_FALSE(in_time);
        CHECK(seen.text() == "made 1 gone");  // `cancelled` passed through it: it has ended
        const int* const after = co_await g.next();
        CHECK(after == nullptr);
    });
}

TEST_CASE("generator: one task after another may ask") {
    test::run([]() -> task<> {
        async_generator<int> g = count_slowly(4, 1ms);
        std::string seen;
        for (int i = 0; i < 4; ++i) {
            auto asks = spawn([&]() -> task<int> { co_return *co_await g.next(); });
            const int n = co_await asks;
            seen += std::to_string(n);
        }
        CHECK(seen == "1234");
    });
}

TEST_CASE("generator: lines of a stream") {
    test::run([]() -> task<> {
        test::connection c = co_await test::connected();
        co_await c.client.write_all("one\ntwo\nthr");
        auto later = spawn([&]() -> task<> {
            co_await sleep_for(1ms);
            co_await c.client.write_all("ee\n");
            c.client.shutdown();
        });
        async_generator<std::string> input = lines(c.server);
        std::string seen;
        while (auto line = co_await input.next()) seen += *line + "|";
        CHECK(seen == "one|two|three|");
        co_await later;
    });
}

// Each destructor called the next one: 200,000 of them overflowed the stack.
TEST_CASE("generator: however long a chain is, destroying it needs no more stack than there is") {
    struct local {
        static async_generator<int> passes_on(async_generator<int> from) {
            while (auto n = co_await from.next()) co_yield *n;
        }
        static async_generator<int> makes_the_next(int n) {
            if (n == 0) {
                co_yield 7;
                co_return;
            }
            async_generator<int> inner = makes_the_next(n - 1);
            while (auto value = co_await inner.next()) co_yield *value;
        }
        static task<> ask(async_generator<int>& g, int times, int expected) {
            for (int i = 0; i < times; ++i) {
                const int* const n = co_await g.next();
                CHECK((n != nullptr) == (i < expected));
            }
        }
        static task<> body() {
            constexpr int many = 200'000;
            for (const int times : {0, 1, 3}) {  // not begun, abandoned, at its end
                async_generator<int> g = count_to(2);
                for (int i = 0; i < many; ++i) g = passes_on(std::move(g));
                co_await ask(g, times, 2);
            }
            async_generator<int> g = makes_the_next(many);
            co_await ask(g, 1, 1);
        }
    };
    test::run(local::body);
}

TEST_CASE("generator: one that holds another outlives it, as far in as usual programs go") {
    struct local {
        struct noted {
            int depth;
            std::vector<int>* gone;
            ~noted() { gone->push_back(depth); }
        };
        static async_generator<int> nested(int depth, std::vector<int>* gone) {
            const noted held{depth, gone};
            if (depth == 0) co_yield 1;
            if (depth == 0) co_return;
            auto inner = nested(depth - 1, gone);
            while (auto n = co_await inner.next()) co_yield *n;
        }
        static task<> body() {
            std::vector<int> gone, expected;
            for (int i = 0; i <= 100; ++i) expected.push_back(i);
            {
                auto g = nested(100, &gone);
                const int* const n = co_await g.next();
                REQUIRE(n != nullptr);
                CHECK(*n == 1);
            }
            CHECK(gone == expected);
        }
    };
    test::run(local::body);
}

TEST_CASE("generator: cancel at every step") {
    const auto program = []() -> task<> {
        async_generator<int> g = squares(count_slowly(3, 1ms));
        int sum = 0;
        while (auto n = co_await g.next()) {
            sum += *n;
            co_await yield();
        }
        CHECK(sum == 14);
    };
    CHECK(test::cancel_at_every_step(program) > 0);
}
