// when_all, when_any, race, all_settled: what each gives, throws, cancels and loses.
#include "support/children.hpp"

#include <memory>
#include <string>
#include <vector>

using namespace rondo;
using namespace test;
using namespace std::chrono_literals;

namespace {

// --- when_all ------------------------------------------------------------------------------------------

TEST_CASE("when_all: gives the values in the order of the children, whichever is done first") {
    struct local {
        static task<std::string> word() {
            co_await yield();
            co_return std::string(40, 'w');
        }
        static task<> body() {
            auto [a, b, c] = co_await when_all(after(3, 1), word(), owned(1, 7));
            CHECK(a == 1);
            CHECK(b == std::string(40, 'w'));
            CHECK(*c == 7);
        }
    };
    test::run(local::body);
}

TEST_CASE("when_all: a task<void> stands as `nothing`, a reference stays one") {
    struct local {
        static task<int&> refers(int& n) {
            co_await yield();
            co_return n;
        }
        static task<> body() {
            int n = 3;
            auto all = co_await when_all(does_nothing(), refers(n), after(0, 5));
            static_assert(std::is_same_v<decltype(all), std::tuple<nothing, int&, int>>);
            CHECK(&std::get<1>(all) == &n);
            co_await when_all(does_nothing(), does_nothing());
        }
    };
    test::run(local::body);
}

TEST_CASE("when_all: of a range gives a vector; of nothing an empty one, at once; of task<void> nothing") {
    struct local {
        static task<> body() {
            auto some = co_await when_all(tasks(5, 1, 3));
            CHECK(some == std::vector<int>{1, 2, 3});
            auto none = co_await when_all(std::vector<task<int>>());
            CHECK(none.empty());
            std::vector<task<>> quiet;
            quiet.push_back(does_nothing());
            static_assert(std::is_void_v<decltype(when_all(std::move(quiet)))::value_type>);
            co_await when_all(std::move(quiet));
        }
    };
    test::run(local::body);
}

TEST_CASE("when_all: takes callables, which live as long as their child") {
    struct local {
        static task<> body() {
            const auto number = std::make_shared<int>(4);
            auto named = [number]() -> task<int> {
                co_await yield();
                co_return *number;
            };
            auto [a, b] = co_await when_all(named, [] { return after(1, 6); });
            CHECK(a == 4);
            CHECK(b == 6);
            CHECK(number.use_count() == 2);  // `number` and `named`
            std::vector<decltype(named)> several(3, named);
            auto all = co_await when_all(several);
            CHECK(all == std::vector<int>{4, 4, 4});
            CHECK(several.size() == 3);
        }
    };
    test::run(local::body);
}

TEST_CASE("when_all: the first failure cancels the others, and is thrown as it is" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            const std::string first = co_await errors_of(when_all(fails_after(1, "one"), waits(j, "a"), waits(j, "b")));
            CHECK(first == "just one");
            const std::string last = co_await errors_of(when_all(waits(j, "c"), fails_after(3, "two")));
            CHECK(last == "just two");
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a cancelled b cancelled c cancelled");
}

TEST_CASE("when_all: a failure without a wait keeps those behind it from starting" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            const std::string all = co_await errors_of(when_all(fails_after(0, "one"), waits(j, "a")));
            CHECK(all == "just one");
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text().empty());
}

TEST_CASE("when_all: several failures are thrown together, the first in front; cancellations are not among them" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            const std::string all = co_await errors_of(
                when_all(fails_at_cancel("late"), waits(j, "a"), fails_after(1, "cause"), fails_at_cancel("later")));
            CHECK(all == "cause late later");
            std::vector<task<int>> two;
            two.push_back(fails_after(1, "x"));
            two.push_back(fails_after(1, "y"));  // was on its way already
            const std::string both = co_await errors_of(when_all(std::move(two)));
            CHECK(both == "x y");
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
}

TEST_CASE("when_all: waits for the clean-up of those it cancels" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            const std::string all = co_await errors_of(when_all(cleans_up(j), fails_after(1, "one")));
            j.add(all);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "cleaning clean just one");
}

TEST_CASE("when_all: nested, an error passes through every level unchanged") {
    struct local {
        static task<int> deep(int levels) {
            if (levels == 0) throw std::runtime_error("bottom");
            auto inner = co_await when_all(deep(levels - 1), after(100, 1));
            co_return std::get<0>(inner);
        }
        static task<> body() {
            const std::string deeply = co_await errors_of(deep(5));
            CHECK(deeply == "just bottom");
            auto [ab, c] = co_await when_all(when_all(after(1, 1), after(2, 2)), after(1, 3));
            CHECK(std::get<1>(ab) == 2);
            CHECK(c == 3);
            const std::string through = co_await errors_of(
                when_all(when_all(when_all(fails_after(2, "inner"), after(9, 1)), after(9, 2)), after(9, 3)));
            CHECK(through == "just inner");
        }
    };
    test::run(local::body);
}

TEST_CASE("when_all: a child that ends as cancelled by itself has no value") {
    struct local {
        static task<int> gives_up() {
            co_await yield();
            throw cancelled();
        }
        static task<> body() {
            std::error_code error;
            try {
                co_await when_all(gives_up(), after(5, 1));
            } catch (const std::system_error& e) {
                error = e.code();
            }
            CHECK(error == std::errc::operation_canceled);
        }
    };
    test::run(local::body);
}

TEST_CASE("when_all: cancelled, it cancels its children, waits for them, and goes on with `cancelled`" *
          doctest::test_suite("order")) {
    journal j;
    const auto all = [](journal& log) { return when_all(waits(log, "a"), after(1, 1), cleans_up(log)); };
    CHECK(when_cancelled(all, j) == "a cancelled cleaning clean cancelled");
    journal k;
    const auto fails = [](journal& log) { return when_all(waits(log, "a"), fails_at_cancel("own error")); };
    CHECK(when_cancelled(fails, k) == "a cancelled own error");
}

TEST_CASE("when_all: children that complete in spite of the cancel give a result") {
    struct local {
        static task<int> stubborn() {
            co_return co_await shield([] { return after(20, 4); });
        }
    };
    journal j;
    CHECK(when_cancelled([](journal&) { return when_all(local::stubborn(), local::stubborn()); }, j) == "a result");
}

TEST_CASE("when_all: in a cancelled task its children do not start") {
    struct local {
        static task<> body(journal& j) {
            bool reached = false;
            co_await with_cancel_scope([&](cancel_scope& scope) -> task<> {
                scope.cancel();
                co_await when_all(waits(j, "a"), after(0, 1));
                reached = true;
            });
            CHECK(!reached);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text().empty());
}

TEST_CASE("when_all: reports show its children, and who waits for them, at the line that awaits it" *
          doctest::test_suite("order")) {
    struct local {
        static task<> looks(std::vector<alive_entry>& seen) {
            seen = this_loop().why_alive();
            co_return;
        }
        static task<> body(std::vector<alive_entry>& seen, int& line) {
            line = __LINE__ + 1;
            co_await when_all(looks(seen), after(0, 1), when_all(after(0, 2), after(0, 3)));
        }
    };
    std::vector<alive_entry> seen;
    int line = 0;
    test::run(local::body, std::ref(seen), std::ref(line));
    REQUIRE(seen.size() == 4);  // the main task, who looks, and two children that have not begun
    CHECK(seen[0].place.line() == line);
    CHECK(seen[2].place.line() == line);
    CHECK(seen[3].place.line() == line);
    CHECK(seen[0].what.find("3 tasks") != std::string::npos);
}

TEST_CASE("when_all: cancelled at every step") {
    struct local {
        static task<> program() {
            auto [a, b, c] = co_await when_all(owned(2, 1), owned(0, 2), when_all(owned(1, 3), does_nothing()));
            CHECK(*a + *b + *std::get<0>(c) == 6);
            const std::string failed = co_await errors_of(when_all(fails_after(2, "x"), fails_at_cancel("y")));
            // Cancelled before x had failed, only y does.
            CHECK((failed == "x y" || failed == "just y" || test::in_chaos()));
            auto range = co_await when_all(tasks(2, 0, 1));
            CHECK(range.size() == 3);
            co_await sleep_for(1ms);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 0);
}

// --- when_any ------------------------------------------------------------------------------------------

TEST_CASE("when_any: tells who ended first; the others are cancelled and awaited" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            auto any = co_await when_any(waits(j, "a"), after(2, 7), cleans_up(j));
            CHECK(any.index() == 1);
            CHECK(any.value() == 7);
            CHECK(any.get<1>() == 7);
            CHECK(std::get<0>(any.outcomes()).state() == task_state::cancelled);
            CHECK(any.get<2>() == 5);  // it completed in spite of the cancel
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a cancelled cleaning clean");
}

TEST_CASE("when_any: value() and get() move out of a result that has no name, and leave one that has" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            const std::unique_ptr<int> first = (co_await when_any(owned(2, 1), owned(3, 2))).value();
            CHECK(*first == 1);
            const std::unique_ptr<int> second = (co_await when_any(owned(2, 1), owned(2, 2))).get<1>();
            CHECK(*second == 2);
            std::vector<task<std::unique_ptr<int>>> some;
            some.push_back(owned(2, 3));
            const std::unique_ptr<int> third = (co_await when_any(std::move(some))).value();
            CHECK(*third == 3);
            const auto kept = co_await when_any(owned(2, 4), owned(3, 5));
            CHECK(*kept.value() == 4);
            CHECK(*kept.value() == 4);
        }
    };
    test::run(local::body);
}

TEST_CASE("when_any: a loser that completes in the same turn keeps its result for the caller" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            auto any = co_await when_any(owned(2, 1), owned(2, 2), owned(3, 3));
            CHECK(any.index() == 0);  // of two in one turn, the one that was spawned first
            CHECK(*any.get<0>() == 1);
            CHECK(*any.get<1>() == 2);
            CHECK(std::get<2>(any.outcomes()).state() == task_state::cancelled);
        }
    };
    test::run(local::body);
}

TEST_CASE("when_any: a first one that failed throws when its value is asked for; the others are not lost" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            auto any = co_await when_any(after(2, 4), fails_after(0, "broken"), after(0, 5));
            CHECK(any.index() == 1);
            CHECK_THROWS_WITH(any.value(), "broken");
            CHECK(std::get<0>(any.outcomes()).state() == task_state::cancelled);  // had taken its first step
            CHECK(what_of(std::get<1>(any.outcomes()).error()) == "broken");
            CHECK(std::get<2>(any.outcomes()).state() == task_state::cancelled);  // had not
            CHECK_THROWS_AS(any.get<2>(), io_error);
            auto late = co_await when_any(after(1, 4), fails_at_cancel("late"));
            CHECK(late.value() == 4);
            CHECK_THROWS_WITH(late.get<1>(), "late");
        }
    };
    test::run(local::body);
}

TEST_CASE("when_any: different types are asked for by position" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            auto any = co_await when_any(owned(1, 2), does_nothing(), waits(j, "a"));
            CHECK(any.index() == 0);
            CHECK(*any.get<0>() == 2);
            any.get<1>();  // had completed as well
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
}

TEST_CASE("when_any: of a range; of an empty one it is an error at once" * doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            auto any = co_await when_any(tasks(4, 1, 1));
            CHECK(any.index() == 1);
            CHECK(any.value() == 2);
            CHECK(any.outcomes().size() == 3);
            CHECK(any.outcomes()[2].value() == 3);
            CHECK(!any.outcomes()[0]);
            const std::string none = co_await errors_of(when_any(std::vector<task<int>>()));
            CHECK(none == "just when_any of no children");
        }
    };
    test::run(local::body);
}

TEST_CASE("when_any: the first may never wait: then those behind it never start" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            auto any = co_await when_any(after(0, 1), waits(j, "a"));
            CHECK(any.index() == 0);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text().empty());
}

TEST_CASE("when_any: nested, and with a timeout as its rival" * doctest::test_suite("order")) {
    struct local {
        static task<> sleeps(delay d) { co_await sleep_for(d.value()); }
        static task<> body(journal& j) {
            auto any = co_await when_any(when_any(waits(j, "a"), waits(j, "b")), sleeps(1ms));
            CHECK(any.index() == 1);
            CHECK(std::get<0>(any.outcomes()).state() == task_state::cancelled);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a cancelled b cancelled");
}

TEST_CASE("when_any: cancelled before anyone has ended, it goes on with `cancelled`; after that, with the result" *
          doctest::test_suite("order")) {
    journal j;
    CHECK(when_cancelled([](journal& log) { return when_any(waits(log, "a"), waits(log, "b")); }, j) ==
          "a cancelled b cancelled cancelled");
    struct local {
        // Someone has ended; the other one is still cleaning up when the cancel comes.
        static task<int> slow_to_clean(journal& log) {
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
                log.add("cleaning");
            }
            co_await shield([] { return after(30, 0); });
            throw cancelled();
        }
    };
    journal k;
    CHECK(when_cancelled([](journal& log) { return when_any(after(1, 1), local::slow_to_clean(log)); }, k) ==
          "cleaning a result");
}

TEST_CASE("when_any: cancelled at every step") {
    struct local {
        static task<> program() {
            auto any = co_await when_any(owned(1, 1), owned(1, 2), owned(3, 3));
            CHECK((any.index() == 0 || test::in_chaos()));
            auto range = co_await when_any(tasks(2, 1, 3));
            CHECK((range.index() == 1 || test::in_chaos()));
            auto failed = co_await when_any(fails_after(1, "x"), fails_at_cancel("y"));
            CHECK((failed.index() == 0 || test::in_chaos()));
            co_await sleep_for(1ms);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 0);
}

// --- race ----------------------------------------------------------------------------------------------

TEST_CASE("race: gives the first success; failures only leave the race" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            const int won = co_await race(fails_after(0, "x"), waits(j, "a"), after(3, 8), fails_after(1, "y"));
            CHECK(won == 8);
            auto moved = co_await race(owned(2, 1), owned(1, 2));
            CHECK(*moved == 2);
            const int of_range = co_await race(tasks(3, 1, 2));
            CHECK(of_range == 2);
            co_await race(does_nothing(), does_nothing());
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a cancelled");
}

TEST_CASE("race: when all fail it throws a group of all, in the order of their failing, also of one" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            const std::string all =
                co_await errors_of(race(fails_after(3, "c"), fails_after(1, "a"), fails_after(2, "b")));
            CHECK(all == "a b c");
            const std::string one = co_await errors_of(race(fails_after(1, "only")));
            CHECK(one == "only");
        }
    };
    test::run(local::body);
}

TEST_CASE("race: of no children is an error at once; of one that gave up by itself, operation_canceled") {
    struct local {
        static task<int> gives_up() {
            co_await yield();
            throw cancelled();
        }
        static task<> body() {
            const std::string none = co_await errors_of(race(std::vector<task<int>>()));
            CHECK(none == "just race of no children");
            std::error_code error;
            try {
                co_await race(gives_up());
            } catch (const std::system_error& e) {
                error = e.code();
            }
            CHECK(error == std::errc::operation_canceled);
        }
    };
    test::run(local::body);
}

TEST_CASE("race: cancelled while nobody has won, it is over without an error, though some had failed" *
          doctest::test_suite("order")) {
    journal j;
    CHECK(when_cancelled([](journal& log) { return race(fails_after(1, "x"), waits(log, "a")); }, j) ==
          "a cancelled cancelled");
    struct local {
        static task<> program() {
            auto won = co_await race(owned(3, 1), owned(1, 2));
            CHECK(*won == 2);
            const std::string failed = co_await errors_of(race(fails_after(2, "x"), fails_after(1, "y")));
            CHECK(failed == "y x");
            co_await sleep_for(1ms);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 0);
}

// --- all_settled ---------------------------------------------------------------------------------------

TEST_CASE("all_settled: waits for all and gives every outcome, in the order of the children") {
    struct local {
        static task<> body() {
            auto [a, b, c] = co_await all_settled(fails_after(2, "x"), owned(3, 6), does_nothing());
            CHECK(a.state() == task_state::failed);
            CHECK(what_of(a.error()) == "x");
            CHECK(*b.value() == 6);
            CHECK(c.state() == task_state::succeeded);
            c.value();
            std::vector<task<int>> some;
            some.push_back(fails_after(0, "y"));
            some.push_back(after(2, 2));
            auto all = co_await all_settled(std::move(some));
            CHECK_THROWS_WITH(all[0].value(), "y");
            CHECK(all[1].value() == 2);
            auto none = co_await all_settled(std::vector<task<int>>());
            CHECK(none.empty());
        }
    };
    test::run(local::body);
}

TEST_CASE("all_settled: all may fail; nothing is thrown, and nested nothing either") {
    struct local {
        static task<> body() {
            auto [inner, x] =
                co_await all_settled(all_settled(fails_after(1, "a"), fails_after(0, "b")), fails_after(0, "c"));
            auto& [a, b] = inner.value();
            CHECK(what_of(a.error()) == "a");
            CHECK(what_of(b.error()) == "b");
            CHECK(what_of(x.error()) == "c");
        }
    };
    test::run(local::body);
}

TEST_CASE("all_settled: cancelled, it goes on with `cancelled`; results that were there are destroyed") {
    const auto value = std::make_shared<int>(1);
    struct local {
        static task<std::shared_ptr<int>> shares(std::shared_ptr<int> v) { co_return v; }
    };
    journal j;
    CHECK(when_cancelled([&](journal& log) { return all_settled(local::shares(value), waits(log, "a")); }, j) ==
          "a cancelled cancelled");
    CHECK(value.use_count() == 1);
}

TEST_CASE("all_settled: cancelled at every step") {
    struct local {
        static task<> program() {
            auto all = co_await all_settled(owned(2, 1), fails_after(1, "x"), does_nothing());
            CHECK(*std::get<0>(all).value() == 1);
            co_await sleep_for(1ms);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 0);
}

// --- what they cost, and without memory ----------------------------------------------------------------

TEST_CASE("combinators: cost one frame, and one block for each child beside the child's own frame" *
          doctest::test_suite("order")) {
    struct local {
        static task<> counts(std::size_t& blocks) {
            blocks = rondo::detail::frames_live();
            co_return;
        }
        static task<> body() {
            std::size_t blocks = 0;
            const std::size_t before = rondo::detail::frames_live();
            co_await when_all(counts(blocks), after(1, 1));
            CHECK(blocks == before + 1 + 2 * 2);
            static_cast<void>(co_await when_any(counts(blocks), after(1, 1)));
            CHECK(blocks == before + 1 + 2 * 2);
            co_await all_settled(counts(blocks), after(1, 1), after(1, 1));
            CHECK(blocks == before + 1 + 2 * 3);
            const auto call = [&blocks] { return counts(blocks); };
            co_await race(call, call);
            CHECK(blocks == before + 1 + 2 + 1);  // a callable's frame is made when it is called
        }
    };
    test::run(local::body);
}

TEST_CASE("combinators: the n-th allocation fails, for every n: bad_alloc, no leak, and the next run works" *
          doctest::test_suite("order")) {
    struct local {
        static task<> shows(int& sum) {
            auto [a, b] = co_await when_all(after(1, 1), owned(2, 2));
            auto any = co_await when_any(owned(1, 3), after(2, 4));
            const int won = co_await race(after(2, 5), after(1, 6));
            auto settled = co_await all_settled(after(1, 7), does_nothing());
            sum = a + *b + *any.get<0>() + won + std::get<0>(settled).value();
        }
        static task<int> program() {
            int sum = 0;
            co_await shows(sum);
            const auto first = [](completion_sequence<int>& sequence) -> task<int> {
                auto next = co_await sequence.next();
                co_return next->value();
            };
            sum += co_await as_completed(tasks(2, 1), first);
            const std::vector<int> items(3, 1);
            const auto mapped = co_await map_concurrent(items, 2, [](int n) { return after(n, n); });
            for (const int n : mapped) sum += n;
            auto a = spawn(after, 1, 8);
            auto b = spawn(after, 2, 9);
            auto [done, pending] = co_await wait_for_tasks(return_when::all_completed, 1h, a, b);
            sum += co_await a;
            sum += co_await b;
            const auto two = co_await join(joiners::quorum<int>(2), after(1, 1), after(2, 2), after(3, 3));
            co_return sum + static_cast<int>(done.size()) + two[1];
        }
    };
    const std::size_t before = rondo::detail::frames_live();
    bool passed = false;
    for (std::size_t n = 1; !passed && n < 500; ++n) {
        rondo::detail::fail_allocation(n);
        try {
            passed = rondo::run(local::program) == 45;
            CHECK(passed);
        } catch (const std::bad_alloc&) {
        }
        rondo::detail::fail_allocation(0);
        CAPTURE(n);
        CHECK(rondo::detail::frames_live() == before);
    }
    CHECK(passed);
}

TEST_CASE("combinators: ten thousand children, in order" * doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            std::vector<task<int>> many;
            for (int i = 0; i < 10'000; ++i) many.push_back(after(i % 7, i));
            const auto all = co_await when_all(std::move(many));
            bool in_order = true;
            for (std::size_t i = 0; i < all.size(); ++i) in_order &= all[i] == static_cast<int>(i);
            CHECK(in_order);
        }
    };
    test::run(local::body);
}

// --- what went wrong elsewhere -------------------------------------------------------------------------

TEST_CASE("asyncio gather: its first error left the others running; here it does not return before they end") {
    struct local {
        static task<int> marks(bool& running) {
            running = true;
            struct guard {
                explicit guard(bool& b) : of(b) {}
                ~guard() { of = false; }
                bool& of;
            };
            const guard at_end(running);
            co_await sleep_for(1h);
            co_return 0;
        }
        static task<> body() {
            bool running = false;
            const std::string failed = co_await errors_of(when_all(marks(running), fails_after(1, "x")));
            CHECK(failed == "just x");
            CHECK(!running);
        }
    };
    test::run(local::body);
}

TEST_CASE("bpo-32684: gather(return_exceptions=True) and its own cancel: all_settled passes the cancel on") {
    journal j;
    const auto all = [](journal& log) { return all_settled(fails_after(0, "x"), waits(log, "a")); };
    CHECK(when_cancelled(all, j) == "a cancelled cancelled");
}

TEST_CASE("bpo-37658, gh-86296: a result and a cancel in one turn: the result is not dropped, the cancel not eaten") {
    struct local {
        static task<> waits_for(bool& won, bool& next_was_cancelled, std::shared_ptr<int> resource) {
            const auto gives = [resource]() -> task<std::shared_ptr<int>> {
                co_await test::others_first();
                co_return resource;
            };
            auto any = co_await when_any(gives);
            won = *any.value() == 4;
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
                next_was_cancelled = true;
            }
        }
        static task<> body() {
            bool won = false;
            bool next_was_cancelled = false;
            auto resource = std::make_shared<int>(4);
            auto waiter = spawn(waits_for, std::ref(won), std::ref(next_was_cancelled), resource);
            while (this_loop().stats().tasks < 3) co_await test::others_first();
            while (this_loop().stats().tasks == 3) co_await test::others_first();
            waiter.cancel();  // the child has ended, its result is on the way
            co_await waiter;
            CHECK(won);
            CHECK(next_was_cancelled);
            CHECK(resource.use_count() == 1);
        }
    };
    test::run(local::body);
}

TEST_CASE("gh-116720: an inner failure does not eat the cancel from outside") {
    struct local {
        static task<> body() {
            bool reached = false;
            const bool ended = co_await move_on_after(2ms, [&]() -> task<> {
                const std::string inner = co_await errors_of(when_all(fails_at_cancel("x"), fails_at_cancel("y")));
                CHECK(inner == "x y");
                co_await yield();
                reached = true;
            });
            CHECK(!ended);
            CHECK(!reached);
        }
    };
    test::run(local::body);
}

TEST_CASE("Kotlin coroutineScope: a child that ends as cancelled cancels nobody") {
    struct local {
        static task<int> gives_up() {
            co_await yield();
            throw cancelled();
        }
        static task<> body() {
            auto [a, b] = co_await all_settled(gives_up(), after(5, 2));
            CHECK(a.state() == task_state::cancelled);
            CHECK(b.value() == 2);
        }
    };
    test::run(local::body);
}

TEST_CASE("Kotlin #67: withTimeoutOrNull does not answer for an inner timeout; nor does when_any's rival") {
    struct local {
        static task<int> times_out() {
            co_return co_await with_timeout(1ms, [] { return sleeps(); });
        }
        static task<int> sleeps() {
            co_await sleep_for(1h);
            co_return 0;
        }
        static task<> body() {
            bool inner = false;
            try {
                static_cast<void>(co_await move_on_after(1h, [] { return when_all(times_out()); }));
            } catch (const timeout_error&) {
                inner = true;
            }
            CHECK(inner);
        }
    };
    test::run(local::body);
}

TEST_CASE("Go errgroup: Wait returns the first error after all have ended; a Tokio JoinSet yields in completion order" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            const std::string failed = co_await errors_of(join(joiners::all_succeed(), fails_after(2, "first"),
                                                               cleans_up(j), fails_after(9, "never gets there")));
            CHECK(failed == "just first");
            co_await as_completed(tasks(3, 2, 1), [&j](completion_sequence<int>& set) -> task<> {
                for (int i = 0; i < 3; ++i) {
                    auto next = co_await set.next();
                    j.add(std::to_string(next->value()));
                }
            });
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "cleaning clean 3 2 1");
}

}  // namespace
