// Kotlin's coroutineScope, supervisorScope and withTimeout, and the policies of Java's StructuredTaskScope,
// as programs for rondo. Where rondo differs on purpose, the case says what it does and why.
#include "support/scopes.hpp"

#include <optional>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;
using namespace test;

namespace {

// --- Kotlin --------------------------------------------------------------------------------------------------

TEST_CASE("Kotlin coroutineScope: gives the block's value, after all children have ended") {
    journal j;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<int> {
            g.spawn([&j]() -> task<> {
                co_await goes_round(3);
                j.add("child");
            });
            j.add("block");
            co_return 8;
        };
        const int value = co_await with_task_group(body);
        j.add(std::to_string(value));
    });
    CHECK(j.text() == "block child 8");
}

// Kotlin rethrows the first failure and hangs the others on it as suppressed. Here they are one group, so that a
// catch does not depend on how many failed; a single one can be had as it is.
TEST_CASE("Kotlin coroutineScope: the first failure cancels scope and siblings; the later ones are not lost" *
          doctest::test_suite("order")) {
    journal j;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<int> {
            g.spawn(notes_cancel, std::ref(j), "sibling");
            g.spawn(fails_in_cleanup, 0, "second");
            g.spawn(fails, 1, "first");
            co_await notes_cancel(j, "block");
            co_return 0;
        };
        const std::string ended = co_await outcome_of(with_task_group(body));
        CHECK(ended == "(first second)");
        auto one = [](task_group& g) -> task<int> {
            g.spawn(fails, 1, "only");
            co_await waits();
            co_return 0;
        };
        const std::string single = co_await outcome_of(with_task_group(one, {.unwrap_single = true}));
        CHECK(single == "only");
    });
    CHECK(j.text() == "block sibling");
}

TEST_CASE("Kotlin coroutineScope: a child's own cancellation cancels nobody") {
    test::run([]() -> task<> {
        auto body = [](task_group& g) -> task<int> {
            auto cancelled_child = g.spawn(waits);
            auto other = g.spawn(gives, 3, 2);
            co_await yield();
            cancelled_child.cancel();
            co_return co_await other;
        };
        const int value = co_await with_task_group(body);
        CHECK(value == 2);
    });
}

TEST_CASE("Kotlin supervisorScope: launch's failure goes to the handler, async's waits in its handle, siblings go on") {
    std::vector<std::string> handled;
    journal j;
    test::run([&]() -> task<> {
        auto body = [&](supervisor_group& g) -> task<int> {
            g.spawn(fails, 1, "launched");  // no handle is kept
            auto deferred = g.spawn(fails, 1, "async");
            auto sibling = g.spawn(gives, 4, 6);
            const auto awaits = [&]() -> task<> { co_await deferred; };
            const std::string got = co_await outcome_of(awaits());
            j.add(got);
            co_return co_await sibling;
        };
        supervisor_group_options options;
        options.context = &handled;
        options.on_error = [](const std::exception_ptr& error, std::source_location spawned, void* to) {
            CHECK(spawned.line() != 0);
            static_cast<std::vector<std::string>*>(to)->push_back(text_of(error));
        };
        const int value = co_await with_supervisor_group(body, options);
        CHECK(value == 6);
    });
    CHECK(j.text() == "async");
    CHECK(handled == std::vector<std::string>{"launched"});
}

TEST_CASE("Kotlin supervisorScope: a failure of the block itself cancels all children, and is thrown as it is") {
    journal j;
    test::run([&]() -> task<> {
        auto body = [&](supervisor_group& g) -> task<> {
            g.spawn(notes_cancel, std::ref(j), "a");
            g.spawn(cleans_up, 3, std::ref(j), "b");
            co_await goes_round(1);
            throw std::runtime_error("block");
        };
        const std::string ended = co_await outcome_of(with_supervisor_group(body));
        j.add(ended);
    });
    CHECK(j.text() == "a b block");
}

TEST_CASE("Kotlin: a cancelled caller cancels the scope and all in it; waits of cleanup need NonCancellable") {
    for (const bool supervisor : {false, true}) {
        CAPTURE(supervisor);
        journal j;
        test::run([&]() -> task<> {
            const auto cleans = [&]() -> task<> {
                static_cast<void>(co_await outcome_of(waits()));
                const std::string bare = co_await outcome_of(goes_round(1));
                const auto non_cancellable = []() -> task<> { co_await shield(goes_round, 2); };
                const std::string shielded = co_await outcome_of(non_cancellable());
                j.add(bare + "/" + shielded);
                throw cancelled{};
            };
            auto t = spawn([&]() -> task<> {
                if (supervisor) {
                    auto body = [&](supervisor_group& g) -> task<> {
                        g.spawn(cleans);
                        co_await waits();
                    };
                    co_await with_supervisor_group(body);
                } else {
                    auto body = [&](task_group& g) -> task<> {
                        g.spawn(cleans);
                        co_await waits();
                    };
                    co_await with_task_group(body);
                }
                j.add("not reached");
            });
            co_await goes_round(1);
            t.cancel();
            static_cast<void>(co_await attempt(t));
            CHECK(t.state() == task_state::cancelled);
        });
        CHECK(j.text() == "cancelled/done");
    }
}

// Kotlin's "prompt cancellation" throws although a result was ready, and the element of a channel may be lost with
// it. Here what has completed is given to the task, and the cancel meets its next wait.
TEST_CASE("Kotlin #1813, #1936, #2435, #3330: a cancel after the result takes nothing away" *
          doctest::test_suite("order")) {
    journal j;
    test::run([&]() -> task<> {
        auto child = spawn([]() -> task<int> {
            co_await yield();
            co_return 9;
        });
        auto t = spawn([&]() -> task<> {
            const int value = co_await child;
            j.add(std::to_string(value));
            const std::string next = co_await next_wait();
            j.add(next);
        });
        co_await yield();  // the child waits, so does the task
        co_await yield();  // the child has ended; the task is ready, but has not run
        CHECK(child.done());
        CHECK(j.text() == "");
        t.cancel();
        static_cast<void>(co_await attempt(t));
    });
    CHECK(j.text() == "9 cancelled");
}

TEST_CASE("Kotlin #1374 (open): a timeout that nobody catches is an error, not a silent cancellation") {
    journal j;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            g.spawn([]() -> task<> { co_await with_timeout(1ms, waits); });
            co_await notes_cancel(j, "block");
        };
        const std::string ended = co_await outcome_of(with_task_group(body));
        j.add(ended);
    });
    CHECK(j.text() == "block (timeout)");
}

// Kotlin does not run a block that has no time. Here it runs to its first wait, as in Trio: what need not wait needs
// no time.
TEST_CASE("Kotlin withTimeout: without any time the block runs to its first wait") {
    for (const delay none : {delay(0ms), delay(-5ms)}) {
        journal j;
        test::run([&]() -> task<> {
            const auto block = [&]() -> task<> {
                j.add("began");
                co_await yield();
                j.add("not reached");
            };
            const auto limited = [&]() -> task<> { co_await with_timeout(none, block); };
            const std::string ended = co_await outcome_of(limited());
            j.add(ended);
        });
        CHECK(j.text() == "began timeout");
    }
}

TEST_CASE("Kotlin #67: withTimeoutOrNull does not answer for a timeout further in, nor the inner for the outer") {
    test::run([]() -> task<> {
        const auto inner_throws = []() -> task<> { co_await with_timeout(1ms, waits); };
        const auto outer_or_null = [&]() -> task<> { static_cast<void>(co_await move_on_after(1h, inner_throws)); };
        const std::string inner = co_await outcome_of(outer_or_null());
        CHECK(inner == "timeout");

        bool inner_answered = false;
        const auto inner_or_null = [&]() -> task<> {
            static_cast<void>(co_await move_on_after(1h, waits));
            inner_answered = true;
        };
        const bool outer = co_await move_on_after(1ms, inner_or_null);
        CHECK_FALSE(outer);
        CHECK_FALSE(inner_answered);
    });
}

// --- Java ----------------------------------------------------------------------------------------------------

/// The first value that a child gives; the group is over then.
template <class T>
struct first_success {
    task_group& group;
    std::optional<T> value;

    template <class F>
    void fork(F subtask) {
        group.spawn([this, subtask]() -> task<> {
            const auto got = co_await attempt(subtask());
            if (!got || value) co_return;
            value = *got;
            group.cancel();
        });
    }
};

task<int> answers(int turns, int value, journal& j) {
    struct note {
        journal& to;
        int value;
        bool finished = false;
        ~note() { to.add((finished ? "finished " : "stopped ") + std::to_string(value)); }
    } at_the_end{j, value};
    co_await goes_round(turns);
    at_the_end.finished = true;
    if (value < 0) throw std::system_error(std::make_error_code(std::errc::io_error));
    co_return value;
}

TEST_CASE("Java ShutdownOnFailure: join waits for all or the first failure, throwIfFailed throws that one") {
    journal j;
    test::run([&]() -> task<> {
        auto all_well = [&](task_group& g) -> task<int> {
            auto user = g.spawn(answers, 1, 30, std::ref(j));
            auto order = g.spawn(answers, 2, 12, std::ref(j));
            const int u = co_await user;
            co_return u + co_await order;
        };
        const int sum = co_await with_task_group(all_well, {.unwrap_single = true});
        CHECK(sum == 42);
        auto one_fails = [&](task_group& g) -> task<int> {
            auto user = g.spawn(answers, 1, -1, std::ref(j));
            auto order = g.spawn(answers, 5, 12, std::ref(j));
            const int u = co_await user;
            co_return u + co_await order;
        };
        const std::string ended = co_await outcome_of(with_task_group(one_fails, {.unwrap_single = true}));
        // The body met the error in the handle as well; it is reported once, for it is one error.
        CHECK(ended == "Input/output error");
    });
    CHECK(j.text() == "finished 30 finished 12 finished -1 stopped 12");
}

TEST_CASE("Java ShutdownOnSuccess: the first result stops the others; failures before it do not matter") {
    journal j;
    test::run([&]() -> task<> {
        std::optional<int> result;
        auto scope = [&](task_group& g) -> task<> {
            first_success<int> any{g, {}};
            any.fork([&j] { return answers(1, -1, j); });
            any.fork([&j] { return answers(2, 5, j); });
            any.fork([&j] { return answers(9, 6, j); });
            static_cast<void>(co_await outcome_of(waits()));
            result = any.value;
        };
        co_await with_task_group(scope);
        CHECK(result == 5);
    });
    CHECK(j.text() == "finished -1 finished 5 stopped 6");
}

TEST_CASE("Java fork after shutdown: the subtask is not started, and that is no error") {
    bool started = false;
    test::run([&]() -> task<> {
        auto scope = [&](task_group& g) -> task<> {
            g.cancel();
            auto unavailable = g.spawn([&started]() -> task<int> {
                started = true;
                co_return 1;
            });
            CHECK(unavailable.state() == task_state::pending);
            co_await shield(goes_round, 1);
            CHECK(unavailable.state() == task_state::cancelled);
        };
        co_await with_task_group(scope);
    });
    CHECK_FALSE(started);
}

TEST_CASE("Java awaitAll: every subtask runs to its end, and each outcome is looked at by itself") {
    std::string outcomes;
    test::run([&]() -> task<> {
        auto scope = [&](supervisor_group& g) -> task<> {
            std::vector<task_handle<int>> subtasks;
            journal unused;
            for (const int value : {1, -1, 3}) subtasks.push_back(g.spawn(answers, 1, value, std::ref(unused)));
            for (auto& subtask : subtasks) {
                const auto got = co_await attempt(subtask);
                outcomes += got ? std::to_string(*got) + ";" : got.error().message() + ";";
            }
        };
        co_await with_supervisor_group(scope);
    });
    CHECK(outcomes == "1;Input/output error;3;");
}

TEST_CASE("Java close: waits for all, also when the owner has thrown") {
    journal j;
    test::run([&]() -> task<> {
        auto scope = [&](task_group& g) -> task<> {
            g.spawn(cleans_up, 4, std::ref(j), "subtask");
            co_await goes_round(1);
            throw std::runtime_error("owner");
        };
        const std::string ended = co_await outcome_of(with_task_group(scope));
        j.add(ended);
    });
    CHECK(j.text() == "subtask (owner)");
}

TEST_CASE("Java ScopedValue: subtasks see what was bound where they were forked") {
    static task_local<int> request(0);
    std::vector<int> seen;
    test::run([&]() -> task<> {
        const auto forks = [&]() -> task<> {
            auto scope = [&](task_group& g) -> task<> {
                g.spawn([&seen]() -> task<> {
                    co_await goes_round(1);
                    seen.push_back(*request);
                });
                co_return;
            };
            co_await with_task_group(scope);
        };
        co_await request.with(17, forks);
        co_await forks();
    });
    CHECK(seen == std::vector<int>{17, 0});
}

}  // namespace
