// Token buckets: exact over hours, first come first served, and nothing taken by who was cancelled.
#include "support/every_step.hpp"

#include <deque>
#include <stdexcept>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

task<> take(rate_limiter& limit, std::uint32_t n, journal& j, const char* name) {
    co_await limit.acquire(n);
    j.add(name);
}

TEST_CASE("rate limiter: a burst at once, then tokens one by one, at the moment they are due") {
    struct local {
        static task<> body() {
            rate_limiter limit({.tokens = 1, .per = 2ms, .burst = 3});
            CHECK(limit.available() == 3);
            const time_point start = now();
            for (int i = 0; i < 3; ++i) co_await limit.acquire();
            CHECK(now() == start);
            CHECK(limit.available() == 0);
            CHECK_FALSE(limit.try_acquire());
            for (int i = 1; i <= 3; ++i) {
                co_await limit.acquire();
                CHECK(now() - start >= i * 2ms);
                if (test::on_sim()) CHECK(now() - start == i * 2ms);
            }
        }
    };
    test::run(local::body);
}

TEST_CASE("rate limiter: three tokens in a second are exactly three, also after hours") {
    struct local {
        static task<> body() {
            if (!test::on_sim()) co_return;  // hours are virtual there only
            rate_limiter limit({.tokens = 3, .per = 1s, .burst = 1});
            co_await limit.acquire();
            const time_point start = now();
            for (int i = 1; i <= 3 * 3600 * 5; ++i) {
                co_await limit.acquire();
                // the i-th token is due at i/3 s: the clock's first nanosecond at or after that
                REQUIRE((now() - start).count() == (std::int64_t{i} * 1'000'000'000 + 2) / 3);
            }
            CHECK(now() - start == 5h);
        }
    };
    test::run(local::body);
}

TEST_CASE("rate limiter: first come, first served; a small request does not overtake a large one" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            rate_limiter limit({.tokens = 1, .per = 1ms, .burst = 4}, "api");
            co_await limit.acquire(4);
            auto large = spawn(take, std::ref(limit), 4u, std::ref(j), "large");
            auto small = spawn(take, std::ref(limit), 1u, std::ref(j), "small");
            co_await sleep_for(2ms);
            CHECK_FALSE(limit.try_acquire());  // there are two, but others wait
            CHECK(limit.waiting() == 2);
            co_await small;
            co_await large;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "large small");
}

TEST_CASE("rate limiter: a cancelled head takes no token, and the one behind it is looked at again" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            rate_limiter limit({.tokens = 1, .per = 1ms, .burst = 1000});
            co_await limit.acquire(1000);
            auto head = spawn(take, std::ref(limit), 1000u, std::ref(j), "head");
            auto next = spawn(take, std::ref(limit), 2u, std::ref(j), "next");
            co_await sleep_for(3ms);
            head.cancel();
            co_await next;  // its two tokens are there already
            CHECK(head.state() == task_state::cancelled);
            CHECK(limit.available() <= 998);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "next");
}

TEST_CASE("rate limiter: twenty requests of five at once, one more every 200 ms, 3 s each: the twentieth is late" *
          doctest::test_suite("order")) {
    struct local {
        static task<> request(rate_limiter& limit, int i, std::vector<int>& served, std::vector<int>& late) {
            try {
                auto wait = [&]() -> task<> { co_await limit.acquire(); };
                co_await with_timeout(3s, wait);
                served.push_back(i);
            } catch (const timeout_error&) {
                late.push_back(i);
            }
        }
        static task<> body() {
            if (!test::on_sim()) co_return;  // three seconds of real time
            rate_limiter limit({.tokens = 1, .per = 200ms, .burst = 5});
            std::vector<int> served, late;
            auto all = [&](task_group& g) -> task<> {
                for (int i = 1; i <= 20; ++i) g.spawn(request, std::ref(limit), i, std::ref(served), std::ref(late));
                co_return;
            };
            co_await with_task_group(all);
            // Token and deadline fall on one nanosecond; of timers with one deadline the older one is first.
            CHECK(served.size() == 19);
            CHECK(late == std::vector<int>{20});
            CHECK(limit.available() == 1);  // its token is still there
        }
    };
    test::run(local::body);
}

TEST_CASE("rate limiter: what could never be is refused, by name") {
    struct local {
        static task<> body() {
            rate_limiter limit({.tokens = 1, .per = 1ms, .burst = 2});
            CHECK_THROWS_AS(static_cast<void>(limit.acquire(3)), std::invalid_argument);
            CHECK_THROWS_AS(static_cast<void>(limit.try_acquire(3)), std::invalid_argument);
            CHECK(limit.available() == 2);
            co_return;
        }
    };
    CHECK_THROWS_AS(rate_limiter({.tokens = 0, .per = 1ms, .burst = 1}), std::invalid_argument);
    CHECK_THROWS_AS(rate_limiter({.tokens = 1, .per = -1ms, .burst = 1}), std::invalid_argument);
    CHECK_THROWS_AS(rate_limiter({.tokens = 1, .per = 1ms, .burst = 0}), std::invalid_argument);
    CHECK_THROWS_AS(rate_limiter({.tokens = 1, .per = std::chrono::hours(24 * 365 * 200), .burst = 1}),
                    std::invalid_argument);
    test::run(local::body);
}

TEST_CASE("rate limiter: random requests and cancels agree with a bucket that is filled drop by drop") {
    // The model: a list of waiters, and one token more whenever its time has come.
    struct asked {
        std::uint32_t n;
        task_handle<> task;
        bool served = false;
    };
    struct local {
        static task<> request(rate_limiter& limit, asked& a) {
            co_await limit.acquire(a.n);
            a.served = true;
        }
        static task<> body(std::uint64_t seed) {
            if (!test::on_sim()) co_return;  // the model must see every token come
            test::dice dice(seed);
            const auto burst = static_cast<std::uint32_t>(1 + dice.below(5));
            rate_limiter limit({.tokens = 1, .per = 1ms, .burst = burst});
            std::deque<asked> all;
            std::vector<asked*> model;
            std::uint32_t tokens = burst;
            const auto serve = [&] {
                while (!model.empty() && model.front()->n <= tokens) {
                    tokens -= model.front()->n;
                    REQUIRE(model.front()->served);
                    model.erase(model.begin());
                }
                for (asked* a : model) REQUIRE_FALSE(a->served);
                REQUIRE(limit.available() == tokens);
                REQUIRE(limit.waiting() == model.size());
            };
            for (int step = 0; step < 2000; ++step) {
                switch (dice.below(4)) {
                    case 0:
                    case 1: {
                        asked& a = all.emplace_back();
                        a.n = static_cast<std::uint32_t>(1 + dice.below(burst));
                        a.task = spawn(request, std::ref(limit), std::ref(a));
                        model.push_back(&a);
                        break;
                    }
                    case 2:
                        if (!model.empty()) {
                            const std::size_t i = dice.below(model.size());
                            model[i]->task.cancel();
                            model.erase(model.begin() + static_cast<std::ptrdiff_t>(i));
                        }
                        break;
                    default:
                        co_await sleep_for(1ms);
                        if (tokens < burst) ++tokens;
                        break;
                }
                co_await test::others_first();
                co_await test::others_first();
                serve();
            }
            for (asked& a : all) a.task.cancel();
            for (asked& a : all) static_cast<void>(co_await attempt(a.task));  // they use what ends here
        }
    };
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        CAPTURE(seed);
        test::run(local::body, seed);
    }
}

TEST_CASE("keyed rate limiter: each key has its own bucket, and idle ones are forgotten") {
    struct local {
        static task<> body() {
            keyed_rate_limiter<std::string> limit({.tokens = 1, .per = 1ms, .burst = 2});
            CHECK(limit.try_acquire("a", 2));
            CHECK_FALSE(limit.try_acquire("a"));
            CHECK(limit.try_acquire("b"));
            CHECK(limit.size() == 2);
            co_await limit.acquire("a");
            co_await sleep_for(5ms);
            CHECK(limit.forget_idle() == 2);
            CHECK(limit.size() == 0);
            std::size_t most = 0;
            for (int i = 0; i < 2000; ++i) {
                co_await limit.acquire(std::to_string(i));
                most = std::max(most, limit.size());
                if (i % 10 == 0) co_await sleep_for(1ms);
            }
            CHECK(most < 200);
            CHECK(limit.try_acquire("b", 2));
        }
    };
    test::run(local::body);
}

TEST_CASE("keyed rate limiter: a bucket that a wait was made for is not forgotten before the wait begins") {
    struct local {
        static task<> body() {
            keyed_rate_limiter<int> limit({.tokens = 1, .per = 1ms, .burst = 1});
            auto wait = limit.acquire(1);
            for (int i = 2; i < 50; ++i) static_cast<void>(limit.try_acquire(i));
            co_await wait;
            CHECK_FALSE(limit.try_acquire(1));
        }
    };
    test::run(local::body);
}

// The order of use was looked at from the front, and no further than the first that could not go: one key with a
// line of waiters kept every key that came after it.
TEST_CASE("keyed rate limiter: a key that is always waited for does not keep the others from being forgotten" *
          doctest::skip(!test::on_sim())) {
    struct local {
        static task<> waits(keyed_rate_limiter<int>& limit) { co_await limit.acquire(-1); }
        static task<> body() {
            keyed_rate_limiter<int> limit({.tokens = 1, .per = 1s, .burst = 1});
            const auto others = [&](task_group& g) -> task<> {
                for (int i = 0; i < 50; ++i) g.spawn_background(waits, std::ref(limit)).discard();
                std::size_t most = 0;
                for (int second = 0; second < 20; ++second) {
                    for (int i = 0; i < 100; ++i) {
                        CHECK(limit.try_acquire(second * 100 + i));
                        most = std::max(most, limit.size());
                    }
                    co_await sleep_for(1s);
                }
                CHECK(most <= 101);  // those of the last second, and the one that is waited for
                co_await sleep_for(60s);
            };
            co_await with_task_group(others);
            CHECK(limit.forget_idle() == 101);  // that one, too, when nobody waits any more
        }
    };
    test::run(local::body);
}

TEST_CASE("cancel at every step: tasks that share a rate limiter") {
    struct local {
        static task<> worker(rate_limiter& limit, std::uint32_t n) {
            for (int i = 0; i < 3; ++i) co_await limit.acquire(n);
        }
        static task<> body() {
            rate_limiter limit({.tokens = 1, .per = 1us, .burst = 3});
            auto group_body = [&](task_group& g) -> task<> {
                for (std::uint32_t n = 1; n <= 3; ++n) g.spawn(worker, std::ref(limit), n);
                co_return;
            };
            co_await with_task_group(group_body);
        }
    };
    CHECK(test::cancel_at_every_step(local::body) > 0);
}

}  // namespace
