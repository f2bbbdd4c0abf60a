// retry: how often, how long in between, which errors, and when not to wait at all.
#include "support/every_step.hpp"

#include <rondo/task/retry.hpp>
#include <rondo/testing/virtual_time.hpp>

#include <stdexcept>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

/// Fails until the n-th call.
struct succeeds_at {
    int nth;
    int* calls;
    task<int> operator()() const {
        const int call = ++*calls;
        co_await immediate();
        if (call < nth) throw io_error(std::make_error_code(std::errc::connection_refused), "connect", "the test");
        co_return call;
    }
};

/// For tests that measure: in virtual time.
template <class F>
void in_virtual_time(F f) {
    world w;
    w.run(f);
}

TEST_CASE("retry: the first success ends it, and its value comes out") {
    test::run([]() -> task<> {
        int calls = 0;
        const int value = co_await retry({.attempts = 5, .first_delay = 1ms}, succeeds_at{3, &calls});
        CHECK(value == 3);
        CHECK(calls == 3);
    });
}

TEST_CASE("retry: after the last attempt its error comes out as it was") {
    test::run([]() -> task<> {
        int calls = 0;
        std::string message;
        try {
            static_cast<void>(co_await retry({.attempts = 3, .first_delay = 1ms}, succeeds_at{9, &calls}));
        } catch (const io_error& e) {
            message = e.what();
        }
        CHECK(message.find("connect the test") != std::string::npos);
        CHECK(calls == 3);
    });
}

TEST_CASE("retry: without jitter the delays grow by the factor, up to the longest") {
    in_virtual_time([]() -> task<> {
        int calls = 0;
        const time_point begin = now();
        const retry_policy policy{.attempts = 6, .first_delay = 100ms, .factor = 3, .longest_delay = 1s, .jitter = 0};
        const auto failed = co_await attempt(retry(policy, succeeds_at{9, &calls}));
        CHECK(!failed);
        CHECK(calls == 6);
        CHECK(now() - begin == 100ms + 300ms + 900ms + 1s + 1s);
    });
}

TEST_CASE("retry: jitter makes a delay shorter, never longer, and not always the same") {
    in_virtual_time([]() -> task<> {
        duration shortest = duration::max(), longest = duration::zero();
        for (int i = 0; i < 50; ++i) {
            int calls = 0;
            const time_point begin = now();
            static_cast<void>(co_await retry({.first_delay = 1s}, succeeds_at{2, &calls}));
            shortest = std::min(shortest, duration(now() - begin));
            longest = std::max(longest, duration(now() - begin));
        }
        CHECK(longest <= 1s);
        CHECK(longest > 700ms);
        CHECK(shortest < 300ms);
    });
}

TEST_CASE("retry: errors that are not the world's, and those that the policy leaves out, are thrown at once") {
    test::run([]() -> task<> {
        int calls = 0;
        auto is_wrong = [&]() -> task<> {
            ++calls;
            co_await immediate();
            throw std::logic_error("a bug");
        };
        bool thrown = false;
        try {
            co_await retry({}, is_wrong);
        } catch (const std::logic_error&) {
            thrown = true;
        }
        CHECK(thrown);
        CHECK(calls == 1);

        retry_policy never_refused{.first_delay = 1ms};
        never_refused.retries = [](const std::exception_ptr& error) {
            return detail::code_of(error) != std::errc::connection_refused;
        };
        int others = 0;
        const auto refused = co_await attempt(retry(never_refused, succeeds_at{2, &others}));
        CHECK(refused.error() == std::errc::connection_refused);
        CHECK(others == 1);
    });
}

TEST_CASE("retry: it does not wait for a moment behind its deadline") {
    in_virtual_time([]() -> task<> {
        int calls = 0;
        const time_point begin = now();
        const retry_policy policy{.attempts = 100, .first_delay = 1s, .factor = 1, .jitter = 0};
        auto tries = [&]() -> task<int> {
            const int value = co_await retry(policy, succeeds_at{1000, &calls});
            co_return value;
        };
        const auto failed = co_await attempt(with_timeout(3500ms, tries));
        CHECK(failed.error() == std::errc::connection_refused);  // the cause, not that time is over
        CHECK(calls == 4);
        CHECK(now() - begin == 3s);
    });
}

TEST_CASE("retry: a budget bounds the retries of all, and successes earn new ones") {
    test::run([]() -> task<> {
        retry_budget budget(2, 0.5);
        const retry_policy policy{.attempts = 10, .first_delay = 1ms, .budget = &budget};
        int calls = 0;
        const auto failed = co_await attempt(retry(policy, succeeds_at{9, &calls}));
        CHECK(!failed);
        CHECK(calls == 3);
        CHECK(budget.left() == 0);
        for (int i = 0; i < 2; ++i) {
            int first = 0;
            static_cast<void>(co_await retry(policy, succeeds_at{1, &first}));
        }
        CHECK(budget.left() == 1);
        int again = 0;
        const int value = co_await retry(policy, succeeds_at{2, &again});
        CHECK(value == 2);
    });
}

TEST_CASE("retry: arguments are kept, and given to each attempt as they were") {
    test::run([]() -> task<> {
        int calls = 0;
        auto takes = [&calls](const std::string& text, int& counter) -> task<std::string> {
            ++counter;
            co_await immediate();
            if (++calls < 3) throw std::system_error(std::make_error_code(std::errc::timed_out));
            co_return text + std::to_string(counter);
        };
        const std::string all = co_await retry({.first_delay = 1ms}, takes, std::string("x"), 0);
        CHECK(all == "x3");
    });
}

TEST_CASE("retry: cancelled between two attempts it makes no other one") {
    test::run([]() -> task<> {
        int calls = 0;
        auto tries = [&]() -> task<int> {
            const int value =
                co_await retry({.first_delay = 1h, .longest_delay = 1h, .jitter = 0}, succeeds_at{2, &calls});
            co_return value;
        };
        auto handle = spawn(tries);
        while (calls == 0) co_await immediate();
        for (int i = 0; i < 3; ++i) co_await immediate();
        handle.cancel();
        const auto ended = co_await attempt(handle);
        CHECK(ended.error() == std::errc::operation_canceled);
        CHECK(calls == 1);
    });
}

TEST_CASE("cancel at every step: retry") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        int calls = 0;
        const int value = co_await retry({.attempts = 4, .first_delay = 1ms}, succeeds_at{3, &calls});
        CHECK(value == 3);
    });
    CHECK(points > 3);
}

}  // namespace
