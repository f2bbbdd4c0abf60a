// The rules of Trio's cancel scopes and nurseries, and the bugs that Trio, and AnyIO in imitating it, had
// with them, as programs for rondo. Where rondo differs on purpose, the case says what it does and why.
#include "support/net.hpp"
#include "support/scopes.hpp"

#include <memory>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;
using namespace test;

namespace {

/// "empty" or the value of a scope that may be cut short.
std::string text_of_scope(bool completed) { return completed ? "done" : "empty"; }

// --- cancel scopes -----------------------------------------------------------------------------------------

TEST_CASE("Trio: cancellation is a level, every wait of any kind in the scope says so again") {
    journal j;
    test::run([&]() -> task<> {
        tcp_listener listener = test::listen();
        auto child = spawn(waits);
        auto body = [&](cancel_scope& s) -> task<> {
            s.cancel();
            const auto sleeping = []() -> task<> { co_await sleep_for(0ms); };
            const auto queued = []() -> task<> { co_await microtask(); };
            const auto checked = []() -> task<> { co_await immediate(); };
            const auto accepting = [&]() -> task<> { static_cast<void>(co_await listener.accept()); };
            const auto joining = [&]() -> task<> { co_await child; };
            for (int round = 0; round < 2; ++round) {
                const std::string a = co_await outcome_of(sleeping());
                const std::string b = co_await outcome_of(queued());
                const std::string c = co_await outcome_of(checked());
                const std::string d = co_await outcome_of(accepting());
                const std::string e = co_await outcome_of(joining());
                j.add(a + b + c + d + e);
            }
        };
        const bool completed = co_await with_cancel_scope(body);
        CHECK(completed);  // it swallowed them all, and ended with a value: that stands
        const std::string next = co_await next_wait();
        CHECK(next == "goes on");
        child.cancel();
    });
    const std::string five = "cancelledcancelledcancelledcancelledcancelled";
    CHECK(j.text() == five + " " + five);
}

TEST_CASE("Trio #860: a scope swallows `cancelled` only if it was cancelled itself, whoever threw it") {
    struct row {
        bool inner_cancelled, outer_cancelled;
        std::string got;
    };
    const row rows[] = {
        {true, false, "inner empty, then goes on; outer done"},
        {false, true, "outer empty"},
        {true, true, "outer empty"},
    };
    for (const row& r : rows) {
        CAPTURE(r.got);
        std::string got;
        test::run([&]() -> task<> {
            auto outer = [&](cancel_scope& out) -> task<> {
                auto inner = [&](cancel_scope& in) -> task<> {
                    if (r.inner_cancelled) in.cancel();
                    if (r.outer_cancelled) out.cancel();
                    co_await waits();
                };
                const bool inner_completed = co_await with_cancel_scope(inner);
                got = "inner " + text_of_scope(inner_completed);
                const std::string next = co_await next_wait();
                got += ", then " + next + "; ";
            };
            const bool outer_completed = co_await with_cancel_scope(outer);
            got += "outer " + text_of_scope(outer_completed);
        });
        CHECK(got == r.got);
    }
    // Thrown by hand in a scope that nobody cancelled, it is nobody's.
    test::run([]() -> task<> {
        auto body = [](cancel_scope&) -> task<> {
            co_await yield();
            throw cancelled{};
        };
        const auto whole = [&]() -> task<> { static_cast<void>(co_await with_cancel_scope(body)); };
        const std::string ended = co_await outcome_of(whole());
        CHECK(ended == "cancelled");
    });
}

TEST_CASE("Trio #1175: which scope ends a cancellation does not change with a shield put up while unwinding") {
    test::run([]() -> task<> {
        bool reached = false;
        auto outer = [&](cancel_scope& out) -> task<> {
            auto inner = [&](cancel_scope& in) -> task<> {
                struct shields {
                    cancel_scope& s;
                    ~shields() { s.set_shielded(true); }
                } while_unwinding{in};
                out.cancel();
                co_await waits();
            };
            static_cast<void>(co_await with_cancel_scope(inner));
            reached = true;
        };
        const auto completed = co_await with_cancel_scope(outer);
        CHECK_FALSE(completed);
        CHECK_FALSE(reached);
    });
}

TEST_CASE("Trio: a scope may be cancelled before it is entered; the first wait says so") {
    test::run([]() -> task<> {
        int steps = 0;
        const auto counts = [&]() -> task<> {
            ++steps;
            co_await yield();
            ++steps;
        };
        auto body = [&](cancel_scope& s) -> task<> {
            s.cancel("before it begins");
            CHECK(std::string(s.reason()) == "before it begins");
            return counts();
        };
        const bool completed = co_await with_cancel_scope(body);
        CHECK_FALSE(completed);
        CHECK(steps == 1);
    });
}

TEST_CASE("Trio #837, AnyIO: a deadline that has passed on entry, be it as early as can be, ends the first wait") {
    for (const time_point deadline : {time_point::min(), time_point{}, now() - 1h}) {
        test::run([&]() -> task<> {
            const bool completed = co_await move_on_at(deadline, waits);
            CHECK_FALSE(completed);
            const auto timed = [&]() -> task<> { co_await with_deadline(deadline, waits); };
            const std::string ended = co_await outcome_of(timed());
            CHECK(ended == "timeout");
        });
    }
    test::run([]() -> task<> {
        const bool completed = co_await move_on_at(never, goes_round, 2);
        CHECK(completed);
    });
}

TEST_CASE("Trio: deadlines are noticed by waits only; what is computed in the meantime stands") {
    test::run([]() -> task<> {
        const auto computes = []() -> task<int> {
            this_loop().spin(4ms);
            co_return 3;
        };
        const auto value = co_await move_on_after(1ms, computes);
        CHECK(value == 3);
        const auto waits_then = []() -> task<int> {
            this_loop().spin(4ms);
            co_await sleep_for(1h);
            co_return 3;
        };
        const auto late = co_await move_on_after(1ms, waits_then);
        CHECK_FALSE(late.has_value());
    });
}

TEST_CASE("Trio: the effective deadline is the earliest as far as the shield, also for children of groups") {
    test::run([]() -> task<> {
        const time_point early = now() + 1h, late = now() + 2h;
        std::vector<time_point> seen;
        const auto looks = [&]() -> task<> {
            seen.push_back(current_deadline());
            co_return;
        };
        const auto group = [&]() -> task<> {
            auto body = [&](task_group& g) -> task<> {
                g.spawn(looks);
                co_return;
            };
            co_await with_task_group(body);
        };
        const auto inner = [&]() -> task<> { co_await with_deadline(late, group); };
        co_await with_deadline(early, inner);
        const auto shielded = [&]() -> task<> { co_await shield(inner); };
        co_await with_deadline(early, shielded);
        CHECK(seen == std::vector<time_point>{early, late});
    });
}

TEST_CASE("Trio: a shield keeps out cancels and deadlines from outside; its scope's own still work") {
    journal j;
    test::run([&]() -> task<> {
        const auto outer = [&]() -> task<> {
            auto own_deadline = [&](cancel_scope&) -> task<> { co_await notes_cancel(j, "deadline"); };
            const bool first = co_await with_cancel_scope(own_deadline, {.deadline = now() + 4ms, .shielded = true});
            CHECK_FALSE(first);
            auto own_cancel = [&](cancel_scope& s) -> task<> {
                co_await goes_round(2);
                s.cancel();
                co_await notes_cancel(j, "cancel");
            };
            const bool second = co_await with_cancel_scope(own_cancel, {.shielded = true});
            CHECK_FALSE(second);
            co_await notes_cancel(j, "outside");
        };
        const bool completed = co_await move_on_after(1ms, outer);
        CHECK_FALSE(completed);
    });
    CHECK(j.text() == "deadline cancel outside");
}

TEST_CASE("Trio checkpoints: an operation that says `cancelled` had no effect") {
    test::run([]() -> task<> {
        test::connection c = co_await test::connected();
        bool ran = false;
        auto body = [&](cancel_scope& s) -> task<> {
            s.cancel();
            const auto writes = [&]() -> task<> { co_await c.client.write_all("x"); };
            const std::string wrote = co_await outcome_of(writes());
            CHECK(wrote == "cancelled");
            co_await c.server.close();  // shielded by nature
            auto group_body = [&](task_group& g) -> task<> {
                g.spawn([&ran]() -> task<> {
                    ran = true;
                    co_return;
                });
                co_return;
            };
            co_await with_task_group(group_body);
        };
        co_await c.server.write_all("y");
        const bool completed = co_await with_cancel_scope(body);
        CHECK_FALSE(completed);
        CHECK_FALSE(ran);
        std::byte into[2];
        const std::size_t n = co_await c.client.read_some(into);
        CHECK(n == 1);
    });
}

// In Trio every checkpoint lets others run. Here only what has to wait does, and yield(): a call of a task that
// never waits, and an empty group, cost no trip through a queue.
TEST_CASE("Trio checkpoints, AnyIO 4.6: a group without children lets nobody else run") {
    journal j;
    test::run([&]() -> task<> {
        auto other = spawn([&]() -> task<> {
            j.add("other");
            co_return;
        });
        auto empty = [](task_group&) -> task<> { co_return; };
        co_await with_task_group(empty);
        j.add("group");
        co_await test::others_first();
        j.add("yield");
    });
    CHECK(j.text() == "group other yield");
}

TEST_CASE("Trio #1235: scopes may nest thousands deep; the cancel of the outermost comes back through all") {
    struct local {
        static task<> nest(int depth, int& left) {
            auto deeper = [&](cancel_scope&) -> task<> {
                if (depth == 0) return waits();
                return nest(depth - 1, left);
            };
            struct leaves {
                int& left;
                ~leaves() { ++left; }
            } count{left};
            static_cast<void>(co_await with_cancel_scope(deeper));
        }
    };
    int left = 0;
    test::run([&]() -> task<> {
        const bool completed = co_await move_on_after(2ms, local::nest, 2000, left);
        CHECK_FALSE(completed);
    });
    CHECK(left == 2001);
}

// --- nurseries ---------------------------------------------------------------------------------------------

TEST_CASE("Trio nursery: the body counts as a child, and its `cancelled` is no error either") {
    test::run([]() -> task<> {
        auto body = [](task_group& g) -> task<> {
            g.spawn(fails, 1, "child");
            co_await fails_in_cleanup(0, "body");
        };
        const std::string both = co_await outcome_of(with_task_group(body));
        CHECK(both == "(child body)");
        auto throws_cancelled = [](task_group& g) -> task<> {
            g.spawn(goes_round, 2);
            co_await yield();
            throw cancelled{};
        };
        // Nobody cancelled anything, so it is nobody's to swallow.
        const std::string ended = co_await outcome_of(with_task_group(throws_cancelled));
        CHECK(ended == "cancelled");
    });
}

TEST_CASE("Trio #1457: the end of a group throws no `cancelled` that nobody asked for") {
    journal j;
    test::run([&]() -> task<> {
        auto t = spawn([&]() -> task<> {
            auto body = [](task_group& g) -> task<int> {
                g.spawn([]() -> task<> { co_await shield(goes_round, 4); });
                co_return 5;
            };
            const std::string ended = co_await outcome_of(with_task_group(body));
            const std::string next = co_await next_wait();
            j.add(ended + ", then " + next);
        });
        co_await goes_round(2);
        t.cancel();  // the group waits for a child that completes all the same: nothing was cut short
        static_cast<void>(co_await attempt(t));
        auto body = [](task_group& g) -> task<> {
            auto child = g.spawn(waits);
            co_await yield();
            child.cancel();
        };
        const std::string ended = co_await outcome_of(with_task_group(body));
        j.add(ended);
    });
    CHECK(j.text() == "5, then cancelled done");
}

// --- what AnyIO had to mend ----------------------------------------------------------------------------------

TEST_CASE("AnyIO #695, #1111: a cancelled group that waits for a slow child does not spin") {
    test::run([]() -> task<> {
        auto body = [](task_group& g) -> task<> {
            g.spawn([]() -> task<> { co_await shield([]() -> task<> { co_await sleep_for(30ms); }); });
            co_await yield();
            g.cancel();
            co_await waits();
        };
        const loop_stats before = this_loop().stats();
        co_await with_task_group(body);
        const loop_stats after = this_loop().stats();
        CHECK(after.turns - before.turns < 20);
        CHECK(after.steps - before.steps < 20);
    });
}

TEST_CASE("AnyIO #698, #370: an inner scope, shielded or not, that ends leaves the outer one cancelled") {
    for (const bool shielded : {false, true}) {
        CAPTURE(shielded);
        test::run([&]() -> task<> {
            journal j;
            auto outer = [&](cancel_scope& out) -> task<> {
                out.cancel();
                auto inner = [&](cancel_scope& in) -> task<> {
                    const std::string inside = co_await next_wait();
                    in.cancel();
                    const std::string then = co_await next_wait();
                    j.add(inside + ", " + then + ";");
                };
                const bool completed = co_await with_cancel_scope(inner, {.shielded = shielded});
                CHECK(completed);
                for (int i = 0; i < 2; ++i) {
                    const std::string next = co_await next_wait();
                    j.add(next);
                }
            };
            static_cast<void>(co_await with_cancel_scope(outer));
            CHECK(j.text() ==
                  (shielded ? "goes on, cancelled; cancelled cancelled" : "cancelled, cancelled; cancelled cancelled"));
        });
    }
}

TEST_CASE("AnyIO #642: a cancel does not cross a shield into the children of a group behind it") {
    journal j;
    test::run([&]() -> task<> {
        const auto behind = [&]() -> task<> {
            auto body = [&](task_group& g) -> task<> {
                g.spawn([&j]() -> task<> {
                    co_await goes_round(4);
                    j.add("child");
                });
                co_return;
            };
            co_await with_task_group(body);
            j.add("group");
        };
        auto t = spawn([&]() -> task<> {
            co_await shield(behind);
            const std::string next = co_await next_wait();
            j.add(next);
        });
        co_await goes_round(2);
        t.cancel();
        static_cast<void>(co_await attempt(t));
    });
    CHECK(j.text() == "child group cancelled");
}

TEST_CASE("AnyIO #787 (open): a failure behind a shield cancels its siblings, although further out all is cancelled" *
          doctest::test_suite("order")) {
    journal j;
    test::run([&]() -> task<> {
        const auto behind = [&]() -> task<> {
            auto body = [&](task_group& g) -> task<> {
                g.spawn(notes_cancel, std::ref(j), "sibling");
                g.spawn(fails, 2, "child");
                co_await notes_cancel(j, "body");
            };
            const std::string ended = co_await outcome_of(with_task_group(body));
            j.add(ended);
        };
        auto outer = [&](cancel_scope& s) -> task<> {
            s.cancel();
            co_await shield(behind);
        };
        static_cast<void>(co_await with_cancel_scope(outer));
    });
    CHECK(j.text() == "body sibling (child)");
}

TEST_CASE("AnyIO 4.0: a timeout is reported only by a scope that its deadline ended") {
    test::run([]() -> task<> {
        const auto limited = []() -> task<> { co_await with_timeout(1h, waits); };
        auto outer = [&](cancel_scope& s) -> task<> {
            s.cancel();
            const std::string ended = co_await outcome_of(limited());
            CHECK(ended == "cancelled");
        };
        static_cast<void>(co_await with_cancel_scope(outer));
        auto both = [](cancel_scope& s) -> task<> {
            s.cancel("by hand");
            s.set_deadline(now() - 1h);
            CHECK_FALSE(s.deadline_passed());
            CHECK(std::string(s.reason()) == "by hand");
            co_await yield();
        };
        const bool completed = co_await with_cancel_scope(both, {.deadline = now() + 1h});
        CHECK_FALSE(completed);
    });
}

TEST_CASE("AnyIO #716, #790: a cancel that went through scopes further in leaves nothing of itself behind") {
    test::run([]() -> task<> {
        auto outer = [](cancel_scope& out) -> task<> {
            auto inner = [&](cancel_scope&) -> task<> {
                auto body = [&](task_group& g) -> task<> {
                    g.spawn(waits);
                    out.cancel();
                    co_await waits();
                };
                co_await with_task_group(body);
            };
            static_cast<void>(co_await with_cancel_scope(inner));
        };
        for (int i = 0; i < 3; ++i) {
            const bool completed = co_await with_cancel_scope(outer);
            CHECK_FALSE(completed);
            const std::string next = co_await next_wait();
            CHECK(next == "goes on");
        }
    });
}

TEST_CASE("AnyIO #634, #1091: no `cancelled` hides in a group of errors, and none leaks out of the scope") {
    test::run([]() -> task<> {
        const auto group = []() -> task<> {
            auto body = [](task_group& g) -> task<> {
                g.spawn(waits);
                g.spawn(fails_in_cleanup, 1, "child");
                co_await waits();
            };
            co_await with_task_group(body);
        };
        const auto limited = [&]() -> task<> { co_await with_timeout(1ms, group); };
        // The errors are the outcome; the timeout, which caused the cleanup, is not another one.
        const std::string ended = co_await outcome_of(limited());
        CHECK(ended == "(child)");
        const std::string next = co_await next_wait();
        CHECK(next == "goes on");
    });
}

}  // namespace
