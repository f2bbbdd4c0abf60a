// The rules of Python's asyncio, and the bugs it had on the way to them, as programs for rondo. Each case
// is named after its source; where rondo differs on purpose, the case says what it does and why.
#include "support/scopes.hpp"

#include <memory>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;
using namespace test;

namespace {

// --- TaskGroup -------------------------------------------------------------------------------------------

TEST_CASE("CPython TaskGroup: the exit waits for all children, and no number of cancels cuts it short") {
    journal j;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            g.spawn(cleans_up, 6, std::ref(j), "cleaned up");
            co_return;
        };
        auto whole = spawn([&]() -> task<> {
            const std::string ended = co_await outcome_of(with_task_group(body));
            j.add(ended);
        });
        for (int i = 0; i < 3; ++i) {
            co_await goes_round(1);
            whole.cancel();
            CHECK_FALSE(whole.done());
        }
        static_cast<void>(co_await attempt(whole));
    });
    CHECK(j.text() == "cleaned up cancelled");
}

TEST_CASE("CPython TaskGroup: the first failure cancels every unfinished child, and the body, once" *
          doctest::test_suite("order")) {
    journal j;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            auto finished = g.spawn(gives, 0, 1);
            g.spawn(notes_cancel, std::ref(j), "a");
            g.spawn(notes_cancel, std::ref(j), "b");
            g.spawn(fails, 1, "first");
            const int value = co_await finished;
            CHECK(value == 1);
            co_await notes_cancel(j, "body");
        };
        const std::string ended = co_await outcome_of(with_task_group(body));
        CHECK(ended == "(first)");
        const std::string next = co_await next_wait();
        CHECK(next == "goes on");
    });
    CHECK(j.text() == "body a b");
}

TEST_CASE("CPython TaskGroup: a child that was cancelled, or threw `cancelled` itself, is no error") {
    test::run([]() -> task<> {
        auto body = [](task_group& g) -> task<int> {
            auto victim = g.spawn(waits);
            g.spawn([]() -> task<> {
                co_await yield();
                throw cancelled{};
            });
            auto other = g.spawn(gives, 3, 5);
            co_await yield();
            victim.cancel();
            const int value = co_await other;
            CHECK(victim.state() == task_state::cancelled);
            co_return value;
        };
        const std::string ended = co_await outcome_of(with_task_group(body));
        CHECK(ended == "5");
    });
}

TEST_CASE("CPython TaskGroup: a body's error is in the group, also alone") {
    test::run([]() -> task<> {
        auto alone = [](task_group&) -> task<> {
            co_await yield();
            throw std::runtime_error("body");
        };
        const std::string ended = co_await outcome_of(with_task_group(alone));
        CHECK(ended == "(body)");
    });
}

// CPython puts the body's error last, wherever it came from. Here the first failure is in front, whoever's
// it is: it is the cause of the others.
TEST_CASE("CPython TaskGroup: errors stand in the order in which they came, the root cause first") {
    test::run([]() -> task<> {
        auto body_first = [](task_group& g) -> task<> {
            g.spawn(fails_in_cleanup, 2, "late");
            g.spawn(fails_in_cleanup, 0, "early");
            co_await goes_round(1);
            throw std::runtime_error("body");
        };
        const std::string first = co_await outcome_of(with_task_group(body_first));
        CHECK(first == "(body early late)");
        auto body_last = [](task_group& g) -> task<> {
            g.spawn(fails_in_cleanup, 0, "cleanup");
            g.spawn(fails, 1, "child");
            co_await fails_in_cleanup(3, "body");
        };
        const std::string last = co_await outcome_of(with_task_group(body_last));
        CHECK(last == "(child cleanup body)");
    });
}

TEST_CASE("CPython gh-155433: a group that cancels itself does not swallow the cancel of its task") {
    for (const bool own_first : {true, false}) {
        CAPTURE(own_first);
        journal j;
        test::run([&]() -> task<> {
            task_group* inside = nullptr;
            auto body = [&](task_group& g) -> task<> {
                inside = &g;
                co_await cleans_up(2, j, "body");
            };
            auto whole = spawn([&]() -> task<> {
                const std::string ended = co_await outcome_of(with_task_group(body));
                const std::string next = co_await next_wait();
                j.add(ended + ", then " + next);
            });
            co_await goes_round(1);
            if (own_first) inside->cancel();
            whole.cancel();
            inside->cancel();
            static_cast<void>(co_await attempt(whole));
        });
        CHECK(j.text() == "body cancelled, then cancelled");
    }
}

TEST_CASE("CPython gh-116720: errors win over a cancel, which is delivered at the next wait") {
    journal j;
    test::run([&]() -> task<> {
        auto body = [](task_group& g) -> task<> {
            g.spawn(fails_in_cleanup, 1, "child");
            co_await waits();
        };
        auto whole = spawn([&]() -> task<> {
            const std::string ended = co_await outcome_of(with_task_group(body));
            const std::string next = co_await next_wait();
            j.add(ended + ", then " + next);
        });
        co_await goes_round(1);
        whole.cancel();
        static_cast<void>(co_await attempt(whole));
    });
    CHECK(j.text() == "(child), then cancelled");
}

// Python has exceptions that leave a group bare (SystemExit, KeyboardInterrupt). C++ has none that are more
// than others: whatever is thrown is in the group, and nothing is only logged.
TEST_CASE("CPython gh-135736: whatever a child throws is in the group, an int as well") {
    test::run([]() -> task<> {
        auto body = [](task_group& g) -> task<> {
            g.spawn([]() -> task<> {
                co_await test::others_first();
                throw 7;
            });
            g.spawn(fails_in_cleanup, 0, "other");
            co_await waits();
        };
        const std::string ended = co_await outcome_of(with_task_group(body));
        CHECK(ended == "(something thrown other)");
    });
}

// CPython refuses a task for a group that is shutting down with an error. Here it is born cancelled: a child
// that spawns another need not know whether somebody failed meanwhile. (After the end it is an assertion.)
TEST_CASE("CPython TaskGroup.create_task: in a group that is shutting down, never runs, and leaks nothing") {
    auto argument = std::make_shared<int>(1);
    bool ran = false;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            g.spawn(fails, 0, "abort");
            static_cast<void>(co_await outcome_of(waits()));
            auto refused = g.spawn(
                [&ran](const std::shared_ptr<int>&) -> task<> {
                    ran = true;
                    co_return;
                },
                argument);
            CHECK(argument.use_count() == 2);
            CHECK(refused.state() == task_state::pending);
        };
        const std::string ended = co_await outcome_of(with_task_group(body));
        CHECK(ended == "(abort)");
        CHECK(argument.use_count() == 1);
    });
    CHECK_FALSE(ran);
}

TEST_CASE("CPython TaskGroup.create_task: children may spawn while the exit waits") {
    int ended = 0;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            struct local {
                static task<> child(task_group& to, int more, int& count) {
                    co_await goes_round(1);
                    if (more > 0) to.spawn(child, std::ref(to), more - 1, std::ref(count));
                    ++count;
                }
            };
            g.spawn(local::child, std::ref(g), 5, std::ref(ended));
            co_return;
        };
        co_await with_task_group(body);
        CHECK(ended == 6);
    });
}

TEST_CASE("CPython TaskGroup: a child made just before the body fails never starts") {
    bool started = false;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            co_await yield();
            g.spawn([&started]() -> task<> {
                started = true;
                co_return;
            });
            throw std::runtime_error("body");
        };
        const std::string ended = co_await outcome_of(with_task_group(body));
        CHECK(ended == "(body)");
    });
    CHECK_FALSE(started);
}

TEST_CASE("CPython TaskGroup.cancel: body and children are cancelled, twice is once, and it is no error") {
    journal j;
    test::run([&]() -> task<> {
        auto from_body = [&](task_group& g) -> task<> {
            g.spawn(notes_cancel, std::ref(j), "child");
            co_await test::others_first();
            g.cancel();
            g.cancel();
            co_await notes_cancel(j, "body");
        };
        const std::string first = co_await outcome_of(with_task_group(from_body));
        CHECK(first == "done");
        auto from_child = [&](task_group& g) -> task<> {
            g.spawn([&g]() -> task<> {
                g.cancel();
                co_return;
            });
            co_await notes_cancel(j, "other body");
        };
        const std::string second = co_await outcome_of(with_task_group(from_child));
        CHECK(second == "done");
        const std::string next = co_await next_wait();
        CHECK(next == "goes on");
    });
    CHECK(j.text() == "body child other body");
}

// nested_groups_both_cancelled, error_and_cancel, cancelling_level_preserved.
TEST_CASE("CPython TaskGroup: of nested groups each ends its own cancellation, and only that") {
    struct row {
        bool inner_fails, outer_fails, task_cancelled;
        std::string inner, outer, after;
    };
    // A group that fails together with one further out gives its errors; the other's follow there.
    const row rows[] = {
        {true, false, false, "(inner)", "done", "goes on"},
        {false, true, false, "cancelled", "(outer)", "goes on"},
        {true, true, false, "(inner)", "(outer)", "goes on"},
        {false, false, true, "cancelled", "cancelled", "cancelled"},
        {true, false, true, "(inner)", "cancelled", "cancelled"},
        {false, true, true, "cancelled", "(outer)", "cancelled"},
        {true, true, true, "(inner)", "(outer)", "cancelled"},
    };
    struct local {
        static task<> fails_anyway(std::string what) {
            static_cast<void>(co_await outcome_of(goes_round(2)));
            throw std::runtime_error(what);
        }
        static task<> inner_body(task_group& g, bool fails_too) {
            if (fails_too) g.spawn(fails_anyway, "inner");
            co_await waits();
        }
        static task<> outer_body(task_group& g, const row& r, std::string& inner) {
            if (r.outer_fails) g.spawn(fails_anyway, "outer");
            auto body = [&r](task_group& in) -> task<> { return inner_body(in, r.inner_fails); };
            inner = co_await outcome_of(with_task_group(body));
            const std::string next = co_await next_wait();
            if (next == "cancelled") throw cancelled{};
        }
        static task<> whole(const row& r, std::vector<std::string>& got) {
            std::string inner;
            auto body = [&](task_group& g) -> task<> { return outer_body(g, r, inner); };
            const std::string outer = co_await outcome_of(with_task_group(body));
            const std::string after = co_await next_wait();
            got = {inner, outer, after};
        }
    };
    for (const row& r : rows) {
        CAPTURE(r.inner);
        CAPTURE(r.outer);
        CAPTURE(r.after);
        std::vector<std::string> got;
        test::run([&]() -> task<> {
            auto t = spawn(local::whole, std::cref(r), std::ref(got));
            co_await goes_round(1);
            if (r.task_cancelled) t.cancel();
            static_cast<void>(co_await attempt(t));
        });
        REQUIRE(got.size() == 3);
        CHECK(got[0] == r.inner);
        CHECK(got[1] == r.outer);
        CHECK(got[2] == r.after);
    }
}

TEST_CASE("CPython gh-95289: a body that swallows its group's cancel leaves no cancel behind") {
    test::run([]() -> task<> {
        auto body = [](task_group& g) -> task<> {
            g.spawn(fails, 1, "child");
            const std::string ended = co_await outcome_of(waits());
            CHECK(ended == "cancelled");
        };
        const std::string ended = co_await outcome_of(with_task_group(body));
        CHECK(ended == "(child)");
        const std::string next = co_await next_wait();
        CHECK(next == "goes on");
    });
}

TEST_CASE("CPython gh-155418, gh-128550, gh-128588: children that end in their first step, before the body waits") {
    test::run([]() -> task<> {
        auto fails_at_once = [](task_group& g) -> task<> {
            g.spawn(fails, 0, "at once");
            g.spawn(waits);
            co_return;
        };
        const std::string failed = co_await outcome_of(with_task_group(fails_at_once));
        CHECK(failed == "(at once)");
        auto cancels_at_once = [](task_group& g) -> task<> {
            g.spawn([&g]() -> task<> {
                g.cancel();
                co_return;
            });
            g.spawn(waits);
            co_return;
        };
        const std::string ended = co_await outcome_of(with_task_group(cancels_at_once));
        CHECK(ended == "done");
    });
}

// --- timeouts --------------------------------------------------------------------------------------------

/// Runs `fn` on the same task for `limit`.
template <class F>
task<> limited(delay limit, F fn) {
    co_await with_timeout(limit, fn);
}

TEST_CASE("asyncio.timeout: a body that never waits is not timed out") {
    test::run([]() -> task<> {
        const auto computes = []() -> task<> {
            this_loop().spin(3ms);
            co_return;
        };
        const std::string late = co_await outcome_of(limited(1ms, computes));
        CHECK(late == "done");
        const std::string none = co_await outcome_of(limited(-1s, computes));
        CHECK(none == "done");
    });
}

TEST_CASE("asyncio.timeout: of two with one deadline the outer one reports") {
    journal j;
    test::run([&]() -> task<> {
        const time_point soon = now() + 2ms;
        const auto inner = [&]() -> task<> {
            const auto innermost = [&]() -> task<> { co_await with_deadline(soon, waits); };
            const std::string ended = co_await outcome_of(innermost());
            j.add("inner " + ended);
            if (ended == "cancelled") throw cancelled{};
        };
        const auto outer = [&]() -> task<> { co_await with_deadline(soon, inner); };
        const std::string ended = co_await outcome_of(outer());
        j.add("outer " + ended);
    });
    CHECK(j.text() == "inner cancelled outer timeout");
}

// In asyncio a cancel comes once, so a handler of it may wait. Here every wait of a cancelled task is
// cancelled: cleanup that waits says so with a shield, and its own timeout then works.
TEST_CASE("CPython gh-102780: a timeout in the cleanup of a cancelled task is told from that cancel") {
    journal j;
    test::run([&]() -> task<> {
        auto t = spawn([&]() -> task<> {
            static_cast<void>(co_await outcome_of(waits()));
            const std::string bare = co_await outcome_of(limited(1ms, waits));
            const auto cleanup = [&]() -> task<> {
                const std::string shielded = co_await outcome_of(limited(1ms, waits));
                j.add(shielded);
            };
            j.add(bare);
            co_await shield(cleanup);
        });
        co_await goes_round(1);
        t.cancel();
        static_cast<void>(co_await attempt(t));
        CHECK(t.state() == task_state::succeeded);
    });
    CHECK(j.text() == "cancelled timeout");
}

TEST_CASE("CPython gh-134471 (open): timeout(0) does not eat an earlier cancel") {
    for (const delay limit : {delay(0ms), delay(-1s), delay(1h)}) {
        journal j;
        test::run([&]() -> task<> {
            auto t = spawn([&]() -> task<> {
                static_cast<void>(co_await outcome_of(waits()));
                const std::string ended = co_await outcome_of(limited(limit, waits));
                j.add(ended);
            });
            co_await goes_round(1);
            t.cancel();
            static_cast<void>(co_await attempt(t));
        });
        CHECK(j.text() == "cancelled");
    }
}

TEST_CASE("CPython gh-96037: a block that its timeout ends with another error gives that error") {
    test::run([]() -> task<> {
        const auto converts = []() -> task<> { return fails_in_cleanup(0, "own error"); };
        const std::string ended = co_await outcome_of(limited(1ms, converts));
        CHECK(ended == "own error");
    });
}

TEST_CASE("CPython bpo-32751: wait_for waits until what it cut short has cleaned up") {
    journal j;
    test::run([&]() -> task<> {
        const auto body = [&]() -> task<> { return cleans_up(3, j, "cleaned up"); };
        const std::string ended = co_await outcome_of(limited(1ms, body));
        j.add(ended);
    });
    CHECK(j.text() == "cleaned up timeout");
}

// asyncio does not start a coroutine that has no time, and returns what is done already. Here the function runs
// to its first wait, which is cancelled, also if it is for something that is done: there is one rule for all waits.
TEST_CASE("asyncio.wait_for: without any time no wait succeeds, and nothing is lost") {
    test::run([]() -> task<> {
        auto finished = spawn(gives, 0, 4);
        co_await goes_round(1);
        CHECK(finished.done());
        const auto takes = [&]() -> task<int> { co_return co_await finished; };
        const auto in_no_time = [&]() -> task<int> { co_return co_await with_timeout(0ms, takes); };
        const std::string ended = co_await outcome_of(in_no_time());
        // Awaiting a handle is a wait, and in a cancelled scope every wait is cancelled: the value stays there.
        CHECK(ended == "timeout");
        const int value = co_await finished;
        CHECK(value == 4);
    });
}

TEST_CASE("hazard A5, CPython gh-86296, bpo-37658, asyncpg#548: a result and a cancel in one turn: neither is lost" *
          doctest::test_suite("order")) {
    struct resource {
        explicit resource(int& live) : count(&live) { ++*count; }
        resource(resource&& other) noexcept : count(std::exchange(other.count, nullptr)) {}
        ~resource() {
            if (count != nullptr) --*count;
        }
        int* count;
    };
    struct local {
        static task<resource> opens(int yields, int& live) {
            for (int i = 0; i < yields; ++i) co_await yield();
            co_return resource(live);
        }
        static task<> uses(journal& j, int& live) {
            auto opening = spawn(opens, 3, std::ref(live));
            const auto takes = [&]() -> task<resource> { co_return co_await opening; };
            const resource got = co_await with_timeout(1h, takes);
            j.add("got it");
            const std::string next = co_await next_wait();
            j.add(next);
        }
    };
    // The cancel comes at each place in the queue around the one where the result is there.
    std::vector<std::string> seen;
    for (int yields = 0; yields < 8; ++yields) {
        int live = 0;
        journal j;
        test::run([&]() -> task<> {
            auto t = spawn(local::uses, std::ref(j), std::ref(live));
            for (int i = 0; i < yields; ++i) co_await yield();
            t.cancel();
            static_cast<void>(co_await attempt(t));
        });
        CHECK(live == 0);
        seen.push_back(j.text());
    }
    CHECK(seen == std::vector<std::string>{"", "", "", "", "", "got it cancelled", "got it goes on", "got it goes on"});
}

// asyncio's shield leaves what it protects running by itself. Nothing runs on its own here: the shielded part
// is waited for, and the cancel meets the next wait.
TEST_CASE("asyncio.shield: cancelled outside, the inside runs to its end") {
    journal j;
    test::run([&]() -> task<> {
        auto t = spawn([&]() -> task<> {
            const auto inside = [&]() -> task<int> {
                co_await goes_round(3);
                j.add("inside");
                co_return 1;
            };
            const int value = co_await shield(inside);
            j.add(std::to_string(value));
            const std::string next = co_await next_wait();
            j.add(next);
        });
        co_await goes_round(1);
        t.cancel();
        static_cast<void>(co_await attempt(t));
    });
    CHECK(j.text() == "inside 1 cancelled");
}

// --- tasks -------------------------------------------------------------------------------------------------

TEST_CASE("asyncio: a task cancelled before its first step never runs its body") {
    bool ran = false;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            auto child = g.spawn([&ran]() -> task<> {
                ran = true;
                co_return;
            });
            child.cancel();
            const auto ended = co_await attempt(child);
            CHECK(ended.error() == std::errc::operation_canceled);
        };
        co_await with_task_group(body);
    });
    CHECK_FALSE(ran);
}

// asyncio's cancel is an edge: swallowed, the task goes on as if nothing had been. Here it is a level.
TEST_CASE("asyncio Task.cancel: swallowed once, the next wait is cancelled again") {
    int refused = 0;
    test::run([&]() -> task<> {
        auto t = spawn([&]() -> task<> {
            for (int i = 0; i < 3; ++i) {
                const std::string ended = co_await outcome_of(waits());
                if (ended == "cancelled") ++refused;
            }
        });
        co_await goes_round(1);
        t.cancel();
        static_cast<void>(co_await attempt(t));
    });
    CHECK(refused == 3);
}

}  // namespace
