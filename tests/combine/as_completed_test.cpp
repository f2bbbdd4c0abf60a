// as_completed: outcomes in the order of their coming; what becomes of those nobody waits for.
#include "support/children.hpp"

#include <string>
#include <vector>

using namespace rondo;
using namespace test;
using namespace std::chrono_literals;

namespace {

/// Reads the sequence to its end, or `most` of it: "1=2 0!x" is child 1 with the value 2, then child 0 with
/// an error.
task<std::string> reads(completion_sequence<int>& sequence, int most = 1000) {
    std::string text;
    while (most-- > 0) {
        auto next = co_await sequence.next();
        if (!next) break;
        text.append(text.empty() ? "" : " ").append(std::to_string(next->index()));
        if (*next) text.append("=").append(std::to_string(next->value()));
        if (next->state() == task_state::failed) text.append("!").append(what_of(next->error()));
        if (next->state() == task_state::cancelled) text.append("?");
    }
    co_return text;
}

std::vector<task<int>> mixed() {
    std::vector<task<int>> made = tasks(3, 1, 1, 0);
    made.push_back(fails_after(2, "x"));
    return made;
}

TEST_CASE("as_completed: gives outcomes in the order of completion; of one turn, in the order of the children" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            const auto all = co_await as_completed(mixed(), [](completion_sequence<int>& s) { return reads(s); });
            CHECK(all == "3=4 1=2 2=3 4!x 0=1");
            const auto none =
                co_await as_completed(std::vector<task<int>>(), [](completion_sequence<int>& s) { return reads(s); });
            CHECK(none.empty());
        }
    };
    test::run(local::body);
}

TEST_CASE("as_completed: a slow reader misses nothing, and the end stays the end" * doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            co_await as_completed(mixed(), [](completion_sequence<int>& s) -> task<> {
                for (int i = 0; i < 10; ++i) co_await yield();
                const std::string all = co_await reads(s);
                CHECK(all == "3=4 1=2 2=3 4!x 0=1");
                const std::string after_that = co_await reads(s);
                CHECK(after_that.empty());
            });
        }
    };
    test::run(local::body);
}

TEST_CASE("as_completed: abandoned, the rest is cancelled and awaited" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            std::vector<task<int>> children = tasks(1, 0);
            children.push_back(waits(j, "a"));
            children.push_back(cleans_up(j));
            const auto first =
                co_await as_completed(std::move(children), [](completion_sequence<int>& s) { return reads(s, 1); });
            CHECK(first == "1=2");
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a cancelled cleaning clean");
}

TEST_CASE("as_completed: a body that fails is thrown when all have ended; errors nobody asked for are logged") {
    static int logged;
    logged = 0;
    set_log_sink([](const log_record& record, void*) noexcept {
        if (record.message.find("nobody heard") != std::string_view::npos) ++logged;
    });
    struct local {
        static task<> body(journal& j) {
            std::vector<task<int>> children = tasks(1);
            children.push_back(fails_after(0, "nobody heard"));
            children.push_back(waits(j, "a"));
            const auto fails = [](completion_sequence<int>&) -> task<> {
                for (int i = 0; i < 3; ++i) co_await test::others_first();
                throw std::runtime_error("body");
            };
            const std::string failed = co_await errors_of(as_completed(std::move(children), fails));
            CHECK(failed == "just body");
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    set_log_sink(nullptr);
    CHECK(j.text() == "a cancelled");
    CHECK(logged == 1);
}

TEST_CASE("as_completed: nested, and with callables" * doctest::test_suite("order")) {
    struct local {
        static task<int> inner() {
            int sum = 0;
            co_await as_completed(tasks(2, 1), [&](completion_sequence<int>& s) -> task<> {
                for (;;) {
                    auto next = co_await s.next();
                    if (!next) break;
                    sum += next->value();
                }
            });
            co_return sum;
        }
        static task<> body() {
            std::vector<task<int> (*)()> calls(2, inner);
            const auto sums = co_await as_completed(calls, [](completion_sequence<int>& s) { return reads(s); });
            CHECK(sums == "0=3 1=3");
        }
    };
    test::run(local::body);
}

TEST_CASE("as_completed: cancelled, children and body unwind; what had come is destroyed" *
          doctest::test_suite("order")) {
    journal j;
    const auto waits_for_ever = [](journal& log) {
        std::vector<task<int>> children = tasks(0, 1);
        children.push_back(waits(log, "a"));
        return as_completed(std::move(children), [](completion_sequence<int>& s) { return reads(s); });
    };
    CHECK(when_cancelled(waits_for_ever, j) == "a cancelled cancelled");
    struct local {
        static task<> program() {
            const auto all = co_await as_completed(mixed(), [](completion_sequence<int>& s) { return reads(s); });
            CHECK(all == "3=4 1=2 2=3 4!x 0=1");
            co_await as_completed(tasks(3, 1, 2), [](completion_sequence<int>& s) { return reads(s, 2); });
            co_await sleep_for(1ms);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 0);
}

TEST_CASE("as_completed: a shielded reader gets the outcomes of children that were cancelled") {
    struct local {
        static task<std::string> shielded(completion_sequence<int>& s) {
            co_return co_await shield([&s] { return reads(s); });
        }
    };
    std::string seen;
    journal j;
    const auto reads_on = [&](journal& log) {
        std::vector<task<int>> children = tasks(0);
        children.push_back(waits(log, "a"));
        return as_completed(std::move(children),
                            [&seen](completion_sequence<int>& s) -> task<> { seen = co_await local::shielded(s); });
    };
    CHECK(when_cancelled(reads_on, j) == "a cancelled a result");
    CHECK(seen == "0=1 1?");
}

}  // namespace
