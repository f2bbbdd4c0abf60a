// join, with_joiner, and the usual joiners: who is told what, who is stopped, and what comes of it.
#include "support/children.hpp"

#include <memory>
#include <string>
#include <vector>

using namespace rondo;
using namespace test;
using namespace std::chrono_literals;

namespace {

/// Writes down what it is told.
class tells {
 public:
    explicit tells(journal& j, int stop_at = -1) : journal_(j), stop_at_(stop_at) {}
    void on_start(std::size_t index) { journal_.add("+" + std::to_string(index)); }
    bool on_complete(ended_child& child) {
        const char* how = child.failed() ? "!" : child.succeeded() ? "=" : "?";
        journal_.add(how + std::to_string(child.index()));
        return static_cast<int>(child.index()) == stop_at_;
    }
    int result() {
        journal_.add("result");
        return 9;
    }

 private:
    journal& journal_;
    int stop_at_;
};

// --- joiners of one's own ------------------------------------------------------------------------------

TEST_CASE("join: a joiner is told of every start, every end by itself, and is asked for the result last" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            const int result = co_await join(tells(j), after(2, 1), fails_after(1, "x"), after(0, 3));
            CHECK(result == 9);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "+0 +1 +2 =2 !1 =0 result");
}

TEST_CASE("join: when it says stop the others are cancelled and awaited; those are not shown to it" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            co_await join(tells(j, 1), waits(j, "a"), after(1, 1), cleans_up(j), fails_at_cancel("late"));
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "+0 +1 +2 +3 =1 a cancelled cleaning !3 clean =2 result");
}

TEST_CASE("join: of a range; of an empty one there is nothing but the result" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            co_await join(tells(j), tasks(1, 0));
            co_await join(tells(j), std::vector<task<int>>());
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "+0 +1 =1 =0 result result");
}

TEST_CASE("join: a joiner given by name is used in place" * doctest::test_suite("order")) {
    struct counts {
        int ended = 0;
        bool on_complete(ended_child&) { return ++ended == 2; }
        void result() {}
    };
    struct local {
        static task<> body() {
            counts c;
            co_await join(c, after(0, 1), after(1, 1), after(5, 1));
            CHECK(c.ended == 2);
        }
    };
    test::run(local::body);
}

TEST_CASE("join: what a joiner throws ends the wait: the children are cancelled, then it is thrown" *
          doctest::test_suite("order")) {
    struct throws {
        bool on_complete(ended_child&) { throw std::runtime_error("on_complete"); }
        void result() { FAIL("not asked"); }
    };
    struct refuses {
        void on_start(std::size_t index) {
            if (index == 1) throw std::runtime_error("on_start");
        }
        bool on_complete(ended_child&) { return false; }
        void result() { FAIL("not asked"); }
    };
    struct fails {
        bool on_complete(ended_child&) { return false; }
        int result() { throw std::runtime_error("result"); }
    };
    struct local {
        static task<> body(journal& j) {
            const std::string one = co_await errors_of(join(throws(), after(1, 1), waits(j, "a")));
            CHECK(one == "just on_complete");
            const std::string two = co_await errors_of(join(refuses(), waits(j, "b"), waits(j, "c")));
            CHECK(two == "just on_start");
            const std::string three = co_await errors_of(join(fails(), after(1, 1)));
            CHECK(three == "just result");
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a cancelled");
}

TEST_CASE("join: cut short from outside, a joiner is not asked for a result; its error() goes first" *
          doctest::test_suite("order")) {
    journal j;
    CHECK(when_cancelled([](journal& log) { return join(tells(log), after(1, 1), waits(log, "a")); }, j) ==
          "+0 +1 =0 a cancelled cancelled");
    journal k;
    CHECK(when_cancelled(
              [](journal& log) { return join(joiners::all_succeed(), waits(log, "a"), fails_at_cancel("x")); }, k) ==
          "a cancelled x");
}

// --- with_joiner ---------------------------------------------------------------------------------------

TEST_CASE("with_joiner: the body spawns as it likes, and its children may be told apart by their index" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            auto spawns = [&](joined_group<tells>& group) -> task<> {
                group.spawn(after(5, 1));
                spawn(after, 0, 0).discard();  // another task in between
                auto second = group.spawn([] { return after(0, 7); });
                spawn(after, 0, 0).discard();
                group.spawn(fails_after(1, "x"));
                CHECK(group.size() == 3);
                const int seven = co_await second;
                CHECK(seven == 7);
            };
            const int result = co_await with_joiner(tells(j), spawns);
            CHECK(result == 9);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "+0 +1 +2 =1 !2 =0 result");
}

TEST_CASE("with_joiner: stop cancels the body too, and its `cancelled` ends there") {
    struct local {
        static task<> body(journal& j) {
            const int result = co_await with_joiner(tells(j, 0), [&](auto& group) -> task<> {
                group.spawn(after(1, 1));
                co_await waits(j, "body");
            });
            CHECK(result == 9);
            co_await sleep_for(1ms);  // nothing is left of it
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "+0 =0 body cancelled result");
}

TEST_CASE("with_joiner: a body that fails cancels the children; no error of theirs is lost") {
    struct local {
        static task<> body(journal& j) {
            const std::string alone = co_await errors_of(with_joiner(tells(j), [&](auto& group) -> task<> {
                group.spawn(waits(j, "a"));
                co_await test::others_first();
                throw std::runtime_error("body");
            }));
            CHECK(alone == "just body");
            const std::string first = co_await errors_of(with_joiner(joiners::all_succeed(), [](auto& group) -> task<> {
                group.spawn(fails_at_cancel("child"));
                co_await test::others_first();
                throw std::runtime_error("body");
            }));
            CHECK(first == "body child");
            const std::string second =
                co_await errors_of(with_joiner(joiners::all_succeed(), [](auto& group) -> task<> {
                    group.spawn(fails_after(0, "child"));
                    co_await fails_at_cancel("body");
                }));
            CHECK(second == "child body");
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "+0 a cancelled");
}

TEST_CASE("with_joiner: cancelled from outside, or by its own group") {
    journal j;
    const auto outside = [](journal& log) {
        return with_joiner(tells(log), [&log](auto& group) -> task<> {
            group.spawn(waits(log, "a"));
            co_return;
        });
    };
    CHECK(when_cancelled(outside, j) == "+0 a cancelled cancelled");
    journal k;
    struct local {
        static task<> body(journal& log) {
            const int result = co_await with_joiner(tells(log), [&](auto& group) -> task<> {
                group.spawn(waits(log, "a"));
                co_await test::others_first();
                group.cancel();
                CHECK(group.cancelled());
            });
            CHECK(result == 9);
        }
    };
    test::run(local::body, std::ref(k));
    CHECK(k.text() == "+0 a cancelled result");
}

TEST_CASE("joiner: Java's StructuredTaskScope: a subtask of a cancelled scope is not started") {
    struct local {
        static task<> body(journal& j) {
            co_await with_joiner(tells(j, 0), [&](auto& group) -> task<> {
                group.spawn(after(0, 1));
                bool stopped = false;
                try {
                    co_await sleep_for(1h);
                } catch (const cancelled&) {
                    stopped = true;
                }
                CHECK(stopped);
                auto late = group.spawn(waits(j, "late"));
                CHECK(late.state() == task_state::pending);
            });
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "+0 =0 +1 result");
}

// --- the usual ones ------------------------------------------------------------------------------------

TEST_CASE("joiners: all_succeed and all_values stop at the first failure" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            co_await join(joiners::all_succeed(), after(2, 1), does_nothing(), owned(1, 1));
            auto values = co_await join(joiners::all_values<int>(), after(2, 1), after(0, 2), after(1, 3));
            CHECK(values == std::vector<int>{1, 2, 3});
            const std::string failed = co_await errors_of(
                join(joiners::all_values<int>(), waits(j, "a"), fails_after(1, "x"), fails_at_cancel("y")));
            CHECK(failed == "x y");
            auto none = co_await join(joiners::all_values<int>(), std::vector<task<int>>());
            CHECK(none.empty());
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a cancelled");
}

TEST_CASE("joiners: first_value gives the first success, or a group of all errors" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            auto first = co_await join(joiners::first_value<std::unique_ptr<int>>(), owned(2, 1), owned(1, 2));
            CHECK(*first == 2);
            const std::string all =
                co_await errors_of(join(joiners::first_value<int>(), fails_after(1, "b"), fails_after(0, "a")));
            CHECK(all == "a b");
            const std::string none = co_await errors_of(join(joiners::first_value<int>(), std::vector<task<int>>()));
            CHECK(none == "just first_value of no children");
            auto cancelled_itself = with_joiner(joiners::first_value<int>(), [&](auto& group) -> task<> {
                group.spawn(fails_after(0, "x"));
                group.spawn(waits(j, "a"));
                for (int i = 0; i < 3; ++i) co_await yield();
                group.cancel();
            });
            const std::string failed = co_await errors_of(std::move(cancelled_itself));
            CHECK(failed == "x");
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a cancelled");
}

TEST_CASE("joiners: quorum gives the first n values, in the order of their coming" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            auto two =
                co_await join(joiners::quorum<int>(2), after(3, 1), fails_after(0, "x"), after(1, 3), waits(j, "a"));
            CHECK(two == std::vector<int>{3, 1});
            const std::string failed = co_await errors_of(
                join(joiners::quorum<int>(2), after(1, 1), fails_after(2, "x"), fails_after(1, "y")));
            CHECK(failed == "y x");
            const std::string few = co_await errors_of(join(joiners::quorum<int>(3), after(0, 1), after(0, 2)));
            CHECK(few == "just quorum: 3 of 2 children");
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a cancelled");
}

TEST_CASE("joiners: wait_for_all never stops, and hands out the errors" * doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            auto errors = co_await join(joiners::wait_for_all(), fails_after(2, "b"), after(3, 1), fails_after(1, "a"));
            REQUIRE(errors.size() == 2);
            CHECK(what_of(errors[0]) == "a");
            CHECK(what_of(errors[1]) == "b");
        }
    };
    test::run(local::body);
}

TEST_CASE("joiners: until stops when its predicate says so, and gives every outcome" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            int failures = 0;
            auto outcomes =
                co_await join(joiners::until<int>([&](ended<int>& child) { return child.failed() && ++failures == 2; }),
                              fails_after(0, "x"), after(1, 5), fails_after(2, "y"), waits(j, "a"));
            REQUIRE(outcomes.size() == 4);
            CHECK(what_of(outcomes[0].error()) == "x");
            CHECK(outcomes[1].value() == 5);
            CHECK(what_of(outcomes[2].error()) == "y");
            CHECK(outcomes[3].state() == task_state::cancelled);
            auto by_value =
                co_await join(joiners::until<int>([](ended<int>& child) { return child.value() > 1; }), tasks(0, 1, 9));
            CHECK(by_value[1].value() == 2);
            CHECK(!by_value[2]);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a cancelled");
}

TEST_CASE("joiners: a quorum of 0 is refused: no child would ever be asked") {
    CHECK_THROWS_AS(joiners::quorum<int>(0), std::invalid_argument);
}

// It ended the program.
TEST_CASE("join: an error() that throws is thrown") {
    struct throws_in_error {
        using value_type = int;
        bool on_complete(ended<int>&) { return false; }
        std::exception_ptr error() { throw std::runtime_error("no error to give"); }
        int result() { return 1; }
    };
    test::run([]() -> task<> {
        const auto one = []() -> task<int> { co_return 1; };
        throws_in_error joiner;
        std::string what;
        try {
            co_await join(joiner, one());
        } catch (const std::runtime_error& e) {
            what = e.what();
        }
        CHECK(what == "no error to give");
    });
}

TEST_CASE("joiner: cancelled at every step") {
    struct local {
        static task<> program() {
            auto two = co_await join(joiners::quorum<std::unique_ptr<int>>(2), owned(3, 1), owned(1, 2), owned(2, 3));
            CHECK(two.size() == 2);
            auto values = co_await with_joiner(joiners::all_values<int>(), [](auto& group) -> task<> {
                group.spawn(after(2, 1));
                co_await yield();
                group.spawn(after(0, 2));
                co_await yield();
            });
            CHECK(values == std::vector<int>{1, 2});
            auto until = co_await join(joiners::until<int>([](ended<int>&) { return true; }), after(1, 1), after(2, 2));
            CHECK((test::in_chaos() || until[0].value() == 1));
            co_await sleep_for(1ms);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 0);
}

}  // namespace
