// Go's errgroup, context and WaitGroup, and Tokio's JoinSet, TaskTracker and CancellationToken, as programs for
// rondo. Where rondo differs on purpose, the case says what it does and why.
#include "support/scopes.hpp"

#include <vector>

using namespace rondo;
using namespace std::chrono_literals;
using namespace test;

namespace {

// --- Go ------------------------------------------------------------------------------------------------------

TEST_CASE("Go errgroup: Wait waits for all and gives the first error; the context is cancelled with it") {
    journal j;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            g.spawn(cleans_up, 3, std::ref(j), "other");
            g.spawn(fails, 1, "first");
            co_return;
        };
        const std::string ended = co_await outcome_of(with_task_group(body, {.unwrap_single = true}));
        j.add(ended);
    });
    CHECK(j.text() == "other first");
}

TEST_CASE("Go errgroup: the context is also cancelled when Wait returns: what only serves the others ends") {
    journal j;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            g.spawn_background(notes_cancel, std::ref(j), "helper");
            g.spawn([&j]() -> task<> {
                co_await goes_round(2);
                j.add("work");
            });
            co_return;
        };
        const std::string ended = co_await outcome_of(with_task_group(body));
        j.add(ended);
    });
    CHECK(j.text() == "work helper done");
}

// In Go a function given to a group that has failed still runs, against a context that is cancelled. Here it does
// not begin: nothing that it could do is wanted any more.
TEST_CASE("Go go#54045: what is spawned into a group that has failed does not run") {
    bool ran = false;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            g.spawn(fails, 0, "first");
            co_await shield(goes_round, 1);
            CHECK(g.cancelled());
            g.spawn([&ran]() -> task<> {
                ran = true;
                co_return;
            });
        };
        const std::string ended = co_await outcome_of(with_task_group(body));
        CHECK(ended == "(first)");
    });
    CHECK_FALSE(ran);
}

// Go's SetLimit makes Go() block. spawn never waits; the children that are too many begin one by one, in order.
TEST_CASE("Go errgroup.SetLimit: at most so many at once, the others in order, and a cancel takes them all" *
          doctest::test_suite("order")) {
    std::vector<int> began;
    int running = 0, most = 0;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            for (int i = 0; i < 6; ++i) {
                g.spawn([&, i]() -> task<> {
                    began.push_back(i);
                    most = std::max(most, ++running);
                    struct leaves {
                        int& count;
                        ~leaves() { --count; }
                    } at_the_end{running};
                    co_await goes_round(1);
                    if (i == 3) throw std::runtime_error("fourth");
                });
            }
            CHECK(g.size() == 6);
            co_return;
        };
        const std::string ended = co_await outcome_of(with_task_group(body, {.max_running = 2}));
        CHECK(ended == "(fourth)");
    });
    CHECK(most == 2);
    CHECK(running == 0);
    CHECK(began == std::vector<int>{0, 1, 2, 3, 4});
}

TEST_CASE("Go context: when cancel() returns, every descendant is cancelled, however far down") {
    journal j;
    test::run([&]() -> task<> {
        struct local {
            static task<> nest(int depth, journal& to) {
                auto body = [&](task_group& g) -> task<> {
                    if (depth > 0) g.spawn(nest, depth - 1, std::ref(to));
                    const std::string waiting = co_await outcome_of(waits());
                    to.add(std::to_string(depth) + waiting);
                };
                co_await with_task_group(body);
            }
        };
        auto root = [&](cancel_scope& s) -> task<> {
            auto tree = spawn(local::nest, 0, std::ref(j));  // beside it, not below
            const auto cancels = [&]() -> task<> {
                auto body = [&](task_group& g) -> task<> {
                    g.spawn(local::nest, 3, std::ref(j));
                    co_await goes_round(5);
                    s.cancel();
                    // Each wait was asked to end already: one place in the queue, and all have heard of it.
                    j.add("asked");
                    co_await shield([]() -> task<> { co_await test::others_first(); });
                    j.add("heard");
                };
                co_await with_task_group(body);
            };
            const std::string ended = co_await outcome_of(cancels());
            CHECK(tree.state() == task_state::pending);
            tree.cancel();
            throw cancelled{};
        };
        static_cast<void>(co_await with_cancel_scope(root));
    });
    CHECK(j.text().starts_with("asked "));
    for (const char* depth : {"0cancelled", "1cancelled", "2cancelled", "3cancelled"}) {
        CAPTURE(std::string(depth));
        const std::size_t at = j.text().find(depth);
        REQUIRE(at != std::string::npos);
        CHECK(at < j.text().find("heard"));
    }
}

TEST_CASE("Go context: the first cause stays, a second cancel is harmless, a deadline is never later than outside") {
    test::run([]() -> task<> {
        const time_point soon = now() + 1h;
        auto body = [&](cancel_scope& s) -> task<> {
            CHECK(current_deadline() == soon);
            const auto later = [&]() -> task<> {
                CHECK(current_deadline() == soon);
                co_return;
            };
            co_await with_deadline(soon + 1h, later);
            s.cancel("first");
            s.cancel("second");
            CHECK(std::string(s.reason()) == "first");
            CHECK(current_deadline() == time_point::min());
            co_await yield();
        };
        const bool completed = co_await with_cancel_scope(body, {.deadline = soon});
        CHECK_FALSE(completed);
    });
}

TEST_CASE("Go WaitGroup: add, done and wait are spawn, return and the end of the group") {
    int sum = 0;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            for (int i = 1; i <= 10; ++i) {
                g.spawn([&sum, i]() -> task<> {
                    co_await goes_round(10 - i);
                    sum += i;
                });
            }
            co_return;
        };
        co_await with_task_group(body);
        CHECK(sum == 55);
    });
}

TEST_CASE("Go: all goroutines are asleep: tasks that wait for each other are a deadlock that names both lines") {
    struct local {
        static task<> waits_for(task_handle<>& other, int& unwound) {
            struct leaves {
                int& count;
                ~leaves() { ++count; }
            } at_the_end{unwound};
            co_await other;
        }
        enum { line = __LINE__ - 2 };
    };
    std::string report;
    int unwound = 0;
    try {
        rondo::run([&]() -> task<> {
            task_handle<> one, two;
            auto body = [&](task_group& g) -> task<> {
                one = g.spawn(local::waits_for, std::ref(two), std::ref(unwound));
                two = g.spawn(local::waits_for, std::ref(one), std::ref(unwound));
                co_return;
            };
            co_await with_task_group(body);
        });
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CHECK(report.find("deadlock") != std::string::npos);
    CHECK(report.find("task 2") != std::string::npos);
    CHECK(report.find("task 3") != std::string::npos);
    const std::string line = "peers_go_tokio_test.cpp:" + std::to_string(local::line);
    CHECK(report.find(line) != std::string::npos);
    CHECK(unwound == 2);
}

// --- Tokio -----------------------------------------------------------------------------------------------------

TEST_CASE("Tokio JoinSet: results can be had in the order of completion") {
    std::vector<int> finished;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            for (const int turns : {3, 1, 2}) {
                g.spawn([&finished, turns]() -> task<> {
                    const int value = co_await gives(turns, turns * 10);
                    finished.push_back(value);
                });
            }
            co_return;
        };
        co_await with_task_group(body);
    });
    CHECK(finished == std::vector<int>{10, 20, 30});
}

TEST_CASE("Tokio JoinSet: abort_all, shutdown and drop are the group's cancel, which waits for all") {
    enum class how { abort_all, drop };
    for (const how h : {how::abort_all, how::drop}) {
        journal j;
        test::run([&]() -> task<> {
            auto body = [&](task_group& g) -> task<> {
                g.spawn(cleans_up, 2, std::ref(j), "a");
                g.spawn(cleans_up, 1, std::ref(j), "b");
                co_await goes_round(1);
                if (h == how::abort_all) g.cancel();
                if (h == how::drop) throw std::runtime_error("left");
            };
            const std::string ended = co_await outcome_of(with_task_group(body));
            j.add(ended);
        });
        CHECK(j.text() == (h == how::drop ? "b a (left)" : "b a done"));
    }
}

TEST_CASE("Tokio join_next is cancel safe: a cancelled wait for a child takes nothing, the next one gets it") {
    test::run([]() -> task<> {
        auto body = [](task_group& g) -> task<int> {
            auto child = g.spawn(gives, 3, 7);
            const auto takes = [&]() -> task<int> { co_return co_await child; };
            for (int i = 0; i < 3; ++i) {
                const auto none = co_await move_on_after(0ms, takes);
                CHECK_FALSE(none.has_value());
            }
            CHECK(child.state() == task_state::pending);
            co_return co_await child;
        };
        const int value = co_await with_task_group(body);
        CHECK(value == 7);
    });
}

TEST_CASE("Tokio TaskTracker: wait needs closed and empty at once: a group that is empty for a while goes on") {
    journal j;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            for (int round = 0; round < 3; ++round) {
                g.spawn(goes_round, 1);
                co_await goes_round(2);
                CHECK(g.empty());
            }
            j.add("closed");
        };
        co_await with_task_group(body);
        j.add("over");
    });
    CHECK(j.text() == "closed over");
}

TEST_CASE("Tokio CancellationToken: children follow their parent, not the reverse; one made late is born cancelled") {
    journal j;
    test::run([&]() -> task<> {
        auto parent = [&](cancel_scope& outer) -> task<> {
            auto child = [&](cancel_scope& inner) -> task<> {
                inner.cancel();
                CHECK_FALSE(outer.cancelled());
                co_await waits();
            };
            const bool first = co_await with_cancel_scope(child);
            j.add(first ? "child done" : "child empty");
            const std::string next = co_await next_wait();
            j.add(next);
            outer.cancel();
            auto late = [&](cancel_scope& inner) -> task<> {
                CHECK_FALSE(inner.cancelled());  // it was not; but what it is in was
                const std::string inside = co_await next_wait();
                j.add("late " + inside);
            };
            static_cast<void>(co_await with_cancel_scope(late));
        };
        static_cast<void>(co_await with_cancel_scope(parent));
    });
    CHECK(j.text() == "child empty goes on late cancelled");
}

TEST_CASE("Tokio #4612, hazard A14: children that are always ready do not hold off a sibling's timer") {
    int rounds = 0;
    bool rang = false;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            for (int i = 0; i < 3; ++i) {
                g.spawn_background([&rounds]() -> task<> {
                    for (;;) {
                        ++rounds;
                        co_await yield();
                        if (rounds % 1000 == 0) this_loop().spin(20us);  // on sim, time passes only so
                    }
                });
            }
            g.spawn([&]() -> task<> {
                co_await sleep_for(1ms);
                rang = true;
            });
            co_return;
        };
        co_await with_task_group(body);
    });
    CHECK(rang);
    CHECK(rounds > 0);
}

}  // namespace
