// Cancel scopes and groups: how they begin, fail, are cancelled and end.
#include "support/every_step.hpp"
#include "support/growth.hpp"

#include <rondo/observe/observers.hpp>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <memory>
#include <vector>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

task<int> answer_after(duration d, int value) {
    co_await sleep_for(d);
    co_return value;
}

task<> fail_after(duration d, const char* what) {
    if (d > duration::zero()) co_await sleep_for(d);
    throw std::runtime_error(what);
}

task<> note_cancel(journal& j, const char* name) {
    try {
        co_await sleep_for(1h);
        j.add(name);
    } catch (const cancelled&) {
        std::string text = name;
        j.add(text.append(" cancelled"));
        throw;
    }
}

std::string first_error(const exception_group& group) {
    try {
        std::rethrow_exception(group.first());
    } catch (const std::exception& e) {
        return e.what();
    }
}

// --- deadlines -----------------------------------------------------------------------------------------

TEST_CASE("with_timeout: gives the value in time, and throws timeout_error when the time is over") {
    struct local {
        static task<> body() {
            const int in_time = co_await with_timeout(1h, answer_after, 1ms, 42);
            CHECK(in_time == 42);
            const time_point before = now();
            bool timed_out = false;
            try {
                co_await with_timeout(2ms, answer_after, 1h, 1);
            } catch (const std::system_error& e) {
                timed_out = e.code() == std::errc::timed_out;
            }
            CHECK(timed_out);
            CHECK(now() - before >= 2ms);
            CHECK(now() - before < 1h);
            // the task itself is not cancelled
            co_await sleep_for(1ms);
        }
    };
    run(local::body);
}

// The body read its captures from where a closure had stood that was gone (seen by ASan at -O0).
TEST_CASE("attempt(with_timeout(...)): running out of time is a result, as is a system_error of the body") {
    struct local {
        static task<> refuse() {
            co_await yield();
            throw std::system_error(std::make_error_code(std::errc::connection_refused));
        }
        static task<> body() {
            auto kept = [value = std::string("kept")]() -> task<std::string> {
                co_await yield();
                co_return value;
            };
            const auto in_time = co_await attempt(with_timeout(1h, answer_after, 1ms, 3));
            CHECK(in_time.value() == 3);
            const auto closure = co_await attempt(with_timeout(1h, kept));
            CHECK(closure.value() == "kept");
            const auto late = co_await attempt(with_timeout(1ms, answer_after, 1h, 3));
            CHECK(late.error() == std::errc::timed_out);
            const auto later = co_await attempt(with_deadline(now() + 1ms, answer_after, 1h, 3));
            CHECK(later.error() == std::errc::timed_out);
            const auto refused = co_await attempt(with_timeout(1h, refuse));
            CHECK(refused.error() == std::errc::connection_refused);
            bool thrown = false;
            try {
                static_cast<void>(co_await attempt(with_timeout(1h, fail_after, 1ms, "of another type")));
            } catch (const std::runtime_error& e) {
                thrown = std::string_view(e.what()) == "of another type";
            }
            CHECK(thrown);

            const auto moved_on = co_await attempt(move_on_after(1ms, answer_after, 1h, 3));
            CHECK(moved_on.value() == std::nullopt);
            const auto ended = co_await attempt(move_on_after(1h, answer_after, 1ms, 3));
            CHECK(ended.value() == 3);
            const auto failed = co_await attempt(move_on_after(1h, refuse));
            CHECK(failed.error() == std::errc::connection_refused);
            const auto shielded = co_await attempt(shield(refuse));
            CHECK(shielded.error() == std::errc::connection_refused);
        }
        static task<> cancelled_outside(bool& thrown) {
            try {
                static_cast<void>(co_await attempt(with_timeout(1h, answer_after, 1h, 3)));
            } catch (const cancelled&) {
                thrown = true;
                throw;
            }
        }
    };
    test::run(local::body);
    bool thrown = false;
    auto outer = [&]() -> task<> {
        const auto late = co_await attempt(with_timeout(1ms, local::cancelled_outside, std::ref(thrown)));
        CHECK(late.error() == std::errc::timed_out);
    };
    test::run(outer);
    CHECK(thrown);
}

TEST_CASE("with_timeout and its kin: what they give holds the closure they were given") {
    struct local {
        static task<> body() {
            int count = 0;
            const auto from_a_function = [&count] {
                return with_timeout(1h, [&count]() -> task<> {
                    co_await yield();
                    ++count;
                });
            };
            auto limited = from_a_function();
            co_await limited;
            auto moving_on = move_on_after(1h, [&count]() -> task<> {
                co_await yield();
                ++count;
            });
            const bool finished = co_await moving_on;
            CHECK(finished);
            auto cancellable = with_cancel_scope([&count](cancel_scope&) -> task<> {
                co_await yield();
                ++count;
            });
            const bool ran = co_await cancellable;
            CHECK(ran);
            CHECK(count == 3);
        }
    };
    test::run(local::body);
}

TEST_CASE("with_cancel_scope: shielded, its deadline cuts it short also in a task that is cancelled") {
    struct local {
        static task<> program() {
            bool cut_short = false, went_on = false;
            auto body = [&]() -> task<> {
                auto slow = [](cancel_scope&) -> task<> { co_await sleep_for(1h); };
                const bool ended = co_await with_cancel_scope(slow, {.deadline = now() + 5ms, .shielded = true});
                cut_short = !ended;
                co_await yield();
                went_on = true;
            };
            const bool in_time = co_await move_on_after(1ms, body);
            CHECK_FALSE(in_time);
            CHECK(cut_short);
            CHECK_FALSE(went_on);
        }
    };
    run(local::program);
}

TEST_CASE("with_timeout: an error of the body is that error, also when the deadline has passed meanwhile") {
    struct local {
        static task<int> converts() {
            bool was_cancelled = false;
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
                was_cancelled = true;
            }
            if (was_cancelled) throw std::runtime_error("own error");
            co_return 0;
        }
        static task<int> completes() {
            bool was_cancelled = false;
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
                was_cancelled = true;
            }
            co_return was_cancelled ? 7 : 0;
        }
        static task<> body() {
            bool own = false;
            try {
                co_await with_timeout(1ms, converts);
            } catch (const std::runtime_error& e) {
                own = std::string(e.what()) == "own error";
            }
            CHECK(own);
            const int value = co_await with_timeout(1ms, completes);
            CHECK(value == 7);
        }
    };
    run(local::body);
}

TEST_CASE("with_timeout: nested, the inner and the outer deadline are told apart") {
    struct local {
        static task<int> inner(journal& j, duration limit) {
            try {
                co_return co_await with_timeout(limit, answer_after, 1h, 1);
            } catch (const timeout_error&) {
                j.add("inner");
            }
            co_return -1;
        }
        static task<> body(journal& j) {
            const int a = co_await with_timeout(1h, inner, j, 1ms);
            CHECK(a == -1);
            try {
                co_await with_timeout(1ms, inner, j, 1h);
            } catch (const timeout_error&) {
                j.add("outer");
            }
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "inner outer");
}

TEST_CASE("with_timeout: a limit of zero lets the body run to its first wait") {
    struct local {
        static task<> body(journal& j) {
            try {
                co_await with_timeout(0ms, note_cancel, j, "a");
            } catch (const timeout_error&) {
                j.add("timeout");
            }
            const int no_wait = co_await with_timeout(-1s, at_once);
            CHECK(no_wait == 3);
        }
        static task<int> at_once() { co_return 3; }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "a cancelled timeout");
}

TEST_CASE("move_on_after: running out of time is an empty answer") {
    struct local {
        static task<> body() {
            const auto late = co_await move_on_after(1ms, answer_after, 1h, 1);
            CHECK(!late.has_value());
            const auto early = co_await move_on_after(1h, answer_after, 1ms, 2);
            CHECK(early == 2);
            const bool done = co_await move_on_after(1ms, sleeper, 1h);
            CHECK(!done);
            const bool finished = co_await move_on_after(1h, sleeper, 1ms);
            CHECK(finished);
        }
        static task<> sleeper(duration d) { co_await sleep_for(d); }
    };
    run(local::body);
}

TEST_CASE("scopes: the effective deadline is the earliest one as far as the next shield") {
    struct local {
        static task<> innermost(time_point outer) {
            CHECK(current_deadline() == outer);
            co_return;
        }
        static task<> shielded(time_point) {
            CHECK(current_deadline() == never);
            co_return;
        }
        static task<> middle(time_point outer) {
            co_await with_timeout(2h, innermost, outer);
            co_await shield(shielded, outer);
        }
        static task<> body() {
            CHECK(current_deadline() == never);
            const time_point soon = now() + 1h;
            co_await with_deadline(soon, middle, soon);
            CHECK(current_deadline() == never);
        }
    };
    run(local::body);
}

TEST_CASE("current_deadline: time_point::min() in a task that is cancelled, by a scope or by its handle") {
    struct local {
        static task<> body() {
            time_point by_handle = never, behind_shield = never, by_group = never;
            auto looks = [](time_point& seen) -> task<> {
                try {
                    co_await sleep_for(1h);
                } catch (const cancelled&) {
                    seen = current_deadline();
                    throw;
                }
            };
            auto looks_behind_a_shield = [&]() -> task<> {
                behind_shield = current_deadline();
                co_return;
            };
            auto h = spawn([&]() -> task<> {
                auto waits = [&]() -> task<> { co_await with_timeout(1h, looks, by_handle); };
                co_await with_cleanup(waits, looks_behind_a_shield, duration::max());
            });
            auto group_body = [&](task_group& g) -> task<> {
                g.spawn(looks, std::ref(by_group));
                co_await sleep_for(1ms);
                h.cancel();
                g.cancel();
            };
            co_await with_task_group(group_body);
            static_cast<void>(co_await attempt(h));
            CHECK(by_handle == time_point::min());
            CHECK(by_group == time_point::min());
            CHECK(behind_shield == never);
        }
    };
    run(local::body);
}

TEST_CASE("cancel scope: level-triggered, every wait in it says cancelled; outside none does") {
    struct local {
        static task<> stubborn(int& refused) {
            for (int i = 0; i < 3; ++i) {
                try {
                    co_await sleep_for(1h);
                } catch (const cancelled&) {
                    ++refused;
                }
            }
            co_await sleep_for(1h);
        }
        static task<> body() {
            int refused = 0;
            auto in_scope = [&](cancel_scope& s) -> task<> {
                s.cancel("enough");
                co_await stubborn(refused);
            };
            const bool completed = co_await with_cancel_scope(in_scope);
            CHECK(!completed);
            CHECK(refused == 3);
            co_await sleep_for(1ms);
        }
    };
    run(local::body);
}

TEST_CASE("shield: keeps a cancel out until it ends; then the next wait sees it") {
    struct local {
        static task<> shielded_part(journal& j) {
            co_await sleep_for(5ms);
            j.add("finished");
        }
        static task<> victim(journal& j) {
            co_await shield(shielded_part, j);
            j.add("after");
            co_await note_cancel(j, "next");
        }
        static task<> body(journal& j) {
            auto t = spawn(victim, std::ref(j));
            co_await sleep_for(1ms);
            t.cancel();
            const auto r = co_await attempt(t);
            CHECK(r.error() == std::errc::operation_canceled);
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "finished after next cancelled");
}

TEST_CASE("shield: taken down, it lets in what was cancelled meanwhile") {
    struct local {
        static task<> body(journal& j) {
            cancel_scope* inner = nullptr;
            auto shielded = [&](cancel_scope& s) -> task<> {
                inner = &s;
                co_await note_cancel(j, "inner");
            };
            auto outer = [&](cancel_scope&) -> task<> { co_await with_cancel_scope(shielded, {.shielded = true}); };
            auto helper = [&]() -> task<> {
                co_await sleep_for(2ms);
                j.add("unshield");
                inner->set_shielded(false);
            };
            auto t = spawn(helper);
            const bool done = co_await with_cancel_scope(outer, {.deadline = now() + 1ms});
            CHECK(!done);
            co_await t;
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "unshield inner cancelled");
}

TEST_CASE("cancel scope: a deadline can be moved") {
    struct local {
        static task<> body() {
            auto extended = [](cancel_scope& s) -> task<int> {
                s.set_deadline(now() + 1h);
                co_await sleep_for(5ms);
                s.set_deadline(never);
                co_await sleep_for(1ms);
                s.set_deadline(now());
                co_await sleep_for(1h);
                co_return 1;
            };
            const auto got = co_await with_cancel_scope(extended, {.deadline = now() + 1ms});
            CHECK(!got);
        }
    };
    run(local::body);
}

// --- task groups ---------------------------------------------------------------------------------------

TEST_CASE("task group: waits for all its children, and gives what its body gives") {
    struct local {
        static task<> body() {
            int ended = 0;
            auto child = [&](int ms) -> task<> {
                co_await sleep_for(std::chrono::milliseconds(ms));
                ++ended;
            };
            auto group_body = [&](task_group& g) -> task<int> {
                for (int i = 0; i < 5; ++i) g.spawn(child, i);
                co_return 9;
            };
            const int value = co_await with_task_group(group_body);
            CHECK(value == 9);
            CHECK(ended == 5);
        }
    };
    run(local::body);
}

TEST_CASE("task group: handles give values to the body") {
    struct local {
        static task<> body() {
            auto group_body = [](task_group& g) -> task<int> {
                auto a = g.spawn(answer_after, 2ms, 1);
                auto b = g.spawn(answer_after, 1ms, 2);
                const int x = co_await a;
                const int y = co_await b;
                co_return x * 10 + y;
            };
            const int value = co_await with_task_group(group_body);
            CHECK(value == 12);
        }
    };
    run(local::body);
}

TEST_CASE("task group: the first failure cancels siblings and body; all errors come, the first in front" *
          doctest::test_suite("order")) {
    struct local {
        static task<> failing_cleanup() {
            bool was_cancelled = false;
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
                was_cancelled = true;
            }
            if (was_cancelled) throw std::runtime_error("cleanup");
        }
        static task<> body(journal& j) {
            auto group_body = [&](task_group& g) -> task<> {
                g.spawn(note_cancel, std::ref(j), "sibling");
                g.spawn(failing_cleanup);
                g.spawn(fail_after, 1ms, "root cause");
                co_await note_cancel(j, "body");
            };
            try {
                co_await with_task_group(group_body);
                FAIL_CHECK("no error");
            } catch (const exception_group& group) {
                CHECK(group.errors().size() == 2);
                CHECK(first_error(group) == "root cause");
                const std::string tree = group.tree();
                CHECK(tree.starts_with("2 errors\n|- std::runtime_error: root cause\n|    at   "));
                CHECK(tree.find("\n`- std::runtime_error: cleanup\n     at   ") != tree.npos);
            }
            co_await sleep_for(1ms);  // not cancelled any more
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "body cancelled sibling cancelled");
}

TEST_CASE("task group: a body that fails cancels its children, and its error is in the group") {
    struct local {
        static task<> body(journal& j) {
            auto group_body = [&](task_group& g) -> task<> {
                g.spawn(note_cancel, std::ref(j), "child");
                co_await sleep_for(1ms);
                throw std::runtime_error("body");
            };
            bool thrown = false;
            try {
                co_await with_task_group(group_body, {.unwrap_single = true});
            } catch (const std::runtime_error& e) {
                thrown = std::string(e.what()) == "body";
            }
            CHECK(thrown);
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "child cancelled");
}

TEST_CASE("task group: a cancel from outside reaches body, children and grandchildren, and goes on") {
    struct local {
        static task<> inner(journal& j) {
            auto group_body = [&](task_group& g) -> task<> {
                g.spawn(note_cancel, std::ref(j), "grandchild");
                co_return;
            };
            co_await with_task_group(group_body);
        }
        static task<> outer(journal& j) {
            auto group_body = [&](task_group& g) -> task<> {
                g.spawn(inner, std::ref(j));
                co_await note_cancel(j, "body");
            };
            co_await with_task_group(group_body);
            j.add("not reached");
        }
        static task<> body(journal& j) {
            auto t = spawn(outer, std::ref(j));
            co_await sleep_for(1ms);
            t.cancel();
            const auto r = co_await attempt(t);
            CHECK(r.error() == std::errc::operation_canceled);
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK((j.text() == "grandchild cancelled body cancelled" || j.text() == "body cancelled grandchild cancelled"));
}

TEST_CASE("task group: cancelled from inside, it ends without an error; with a value due, it says so") {
    struct local {
        static task<> body() {
            auto quiet = [](task_group& g) -> task<> {
                g.spawn(answer_after, 1h, 1);
                g.cancel();
                co_await sleep_for(1h);
            };
            co_await with_task_group(quiet);
            auto with_value = [](task_group& g) -> task<int> {
                g.cancel();
                co_await sleep_for(1h);
                co_return 1;
            };
            bool said = false;
            try {
                static_cast<void>(co_await with_task_group(with_value));
            } catch (const std::system_error& e) {
                said = e.code() == std::errc::operation_canceled;
            }
            CHECK(said);
        }
    };
    run(local::body);
}

TEST_CASE("task group: at most max_running children run at once, in the order they were spawned" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            int running = 0, most = 0;
            auto child = [&](int i) -> task<> {
                most = std::max(most, ++running);
                j.add(std::to_string(i));
                co_await sleep_for(1ms);
                --running;
            };
            auto group_body = [&](task_group& g) -> task<> {
                for (int i = 0; i < 7; ++i) g.spawn(child, i);
                co_return;
            };
            co_await with_task_group(group_body, {.max_running = 3});
            CHECK(most == 3);
            CHECK(running == 0);

            auto cancelled_body = [&](task_group& g) -> task<> {
                for (int i = 10; i < 20; ++i) g.spawn(child, i);
                co_await yield();
                g.cancel();
            };
            co_await with_task_group(cancelled_body, {.max_running = 1});
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "0 1 2 3 4 5 6 10");
}

// Children that were cancelled while they waited for their turn counted as places given back.
TEST_CASE("task group: children that end before their turn leave no room for others") {
    struct local {
        static task<> goes_round(int turns) {
            for (int i = 0; i < turns; ++i) co_await immediate();
        }
        static task<> body() {
            int running = 0, most = 0, ended = 0;
            auto child = [&](int turns) -> task<> {
                most = std::max(most, ++running);
                co_await shield(goes_round, turns);
                --running;
                ++ended;
            };
            auto outer = [&](cancel_scope& out) -> task<> {
                auto inner = [&](cancel_scope& in) -> task<> {
                    auto group_body = [&](task_group& g) -> task<> {
                        g.spawn(child, 9);
                        for (int i = 0; i < 3; ++i) g.spawn(child, 1);
                        co_await shield(goes_round, 2);
                        out.cancel();  // the three end without having run
                        co_await shield(goes_round, 2);
                        CHECK(g.size() == 1);
                        in.set_shielded(true);  // from here on nothing is cancelled
                        for (int i = 0; i < 3; ++i) g.spawn(child, 1);
                    };
                    co_await with_task_group(group_body, {.max_running = 1});
                };
                co_await with_cancel_scope(inner);
            };
            co_await with_cancel_scope(outer);
            CHECK(most == 1);
            CHECK(ended == 4);
        }
    };
    run(local::body);
}

TEST_CASE("task group: a cancel that a shield kept out ends, when let in, also children that wait for their turn") {
    struct local {
        static task<> body() {
            auto outer = [](cancel_scope& out) -> task<> {
                auto inner = [&](cancel_scope& in) -> task<> {
                    auto group_body = [&](task_group& g) -> task<> {
                        g.spawn([]() -> task<> { co_await shield(long_rest); });
                        for (int i = 0; i < 3; ++i) g.spawn(answer_after, 1h, i);
                        co_await test::others_first();
                        out.cancel();
                        co_await test::others_first();
                        CHECK(g.size() == 4);
                        in.set_shielded(false);
                        co_await shield(rest);
                        CHECK(g.size() == 1);
                    };
                    co_await with_task_group(group_body, {.max_running = 1});
                };
                co_await with_cancel_scope(inner, {.shielded = true});
            };
            co_await with_cancel_scope(outer);
        }
        static task<> rest() { co_await test::others_first(); }
        static task<> long_rest() {
            for (int i = 0; i < 9; ++i) co_await immediate();
        }
    };
    run(local::body);
}

// They kept their places until their turn, which may never come.
TEST_CASE("task group: a child that is cancelled while it waits for its turn ends at once") {
    struct local {
        static task<> body(journal& j) {
            auto child = [&](int i) -> task<> {
                j.add(std::to_string(i));
                co_await immediate();
            };
            auto group_body = [&](task_group& g) -> task<> {
                std::vector<task_handle<>> line;
                auto for_ever = []() -> task<> { co_await sleep_for(1h); };
                auto first = g.spawn(for_ever);
                for (int i = 0; i < 6; ++i) line.push_back(g.spawn(child, i));
                co_await test::others_first();
                for (const int i : {0, 3, 5, 2}) {  // the first, one in the middle, the last, one between
                    line[static_cast<std::size_t>(i)].cancel();
                    co_await test::others_first();
                    CHECK(line[static_cast<std::size_t>(i)].done());
                }
                CHECK(g.size() == 3);
                line.push_back(g.spawn(child, 6));
                first.cancel();
            };
            co_await with_task_group(group_body, {.max_running = 1});
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "1 4 6");
}

TEST_CASE("task group: whom a cancelled child in the line leaves behind is not let in") {
    struct local {
        static task<> body() {
            int running = 0, most = 0;
            auto child = [&]() -> task<> {
                most = std::max(most, ++running);
                co_await immediate();
                --running;
            };
            auto group_body = [&](task_group& g) -> task<> {
                for (int i = 0; i < 200; ++i) {
                    auto handle = g.spawn(child);
                    if (i % 3 != 0) handle.cancel();
                    if (i % 7 == 0) co_await yield();
                }
            };
            co_await with_task_group(group_body, {.max_running = 2});
            CHECK(most == 2);
            CHECK(running == 0);
        }
    };
    run(local::body);
}

// What a completion had queued was taken for a task that goes on. A deadline may queue first steps, and several tasks.
struct set_free {
    static task<> sleeps() { co_await sleep_for(1h); }
    static task<int> sleeps_for_a_number() {
        co_await sleep_for(1h);
        co_return 1;
    }
    static task<> reports_late(started<> ready) {
        co_await sleep_for(1h);
        ready.set();
    }

    // The first in the queue is a child that never ran, then come others of them, then who is woken.
    static task<> limited_group() {
        auto body = [](task_group& g) -> task<> {
            for (int i = 0; i < 3; ++i) g.spawn(sleeps);
            co_return;
        };
        co_await with_task_group(body, {.max_running = 1});
    }
    static task<> limited_group_in_a_waiting_body() {
        auto body = [](task_group& g) -> task<> {
            for (int i = 0; i < 3; ++i) g.spawn(sleeps);
            co_await sleeps();
        };
        co_await with_task_group(body, {.max_running = 2});
    }
    static task<> groups_in_groups() {
        auto body = [](task_group& g) -> task<> {
            for (int i = 0; i < 3; ++i) g.spawn(limited_group);
            co_return;
        };
        co_await with_task_group(body, {.max_running = 2});
    }
    static task<> start_of_what_waits_for_its_turn() {
        auto body = [](task_group& g) -> task<> {
            g.spawn(sleeps);
            co_await g.start(reports_late);
        };
        co_await with_task_group(body, {.max_running = 1});
    }
    static task<> start() {
        auto body = [](task_group& g) -> task<> { co_await g.start(reports_late); };
        co_await with_task_group(body);
    }
    static task<> supervised_group() {
        auto body = [](supervisor_group& g) -> task<> {
            for (int i = 0; i < 3; ++i) g.spawn(sleeps);
            co_return;
        };
        co_await with_supervisor_group(body, {.max_running = 1});
    }
    static task<> at_most_two_at_once() {
        const std::vector<int> numbers(5, 0);
        co_await map_concurrent(numbers, 2, [](int) { return sleeps_for_a_number(); });
    }
    static task<> all() { co_await when_all(sleeps(), sleeps_for_a_number()); }
    static task<> any() { static_cast<void>(co_await when_any(sleeps(), sleeps_for_a_number())); }
    static task<> selects() {
        channel<int> nothing(1);
        event never_set;
        static_cast<void>(co_await select_one(nothing.receive(), never_set.wait(), sleep_for(1h)));
    }
    // The cancelled wait at the front of a queue lets the one behind it through, who is somebody else.
    static task<> lets_another_through() {
        semaphore two(2);
        auto permit = co_await two.acquire();
        auto small = [&]() -> task<> { auto one = co_await two.acquire(); };
        auto behind = [&]() -> task<> {
            co_await yield();
            auto h = spawn(small);
            co_await shield([&]() -> task<> { co_await h; });
        };
        auto body = [&](task_group& g) -> task<> {
            g.spawn(behind);
            auto both = co_await two.acquire(2);
        };
        co_await with_task_group(body);
    }
    static task<> locks_again() {
        mutex m;
        condition c;
        auto guard = co_await m.lock();
        co_await c.wait(guard);
    }
    static task<> waits_for_tasks() {
        std::vector<task_handle<>> handles;
        for (int i = 0; i < 3; ++i) handles.push_back(spawn(sleeps));
        try {
            co_await wait_for_tasks(return_when::all_completed, handles);
        } catch (const cancelled&) {
            for (auto& h : handles) h.cancel();
            throw;
        }
    }

    static constexpr task<> (*things[])() = {sleeps,
                                             limited_group,
                                             limited_group_in_a_waiting_body,
                                             groups_in_groups,
                                             start_of_what_waits_for_its_turn,
                                             start,
                                             supervised_group,
                                             at_most_two_at_once,
                                             all,
                                             any,
                                             selects,
                                             lets_another_through,
                                             locks_again,
                                             waits_for_tasks};

    static task<> one_after_another() {
        for (auto thing : things) {
            const bool done = co_await move_on_after(1ms, thing);
            CHECK(!done);
        }
        // All deadlines in one phase: each finds in the queue what those before it have left.
        auto body = [](task_group& g) -> task<> {
            for (auto thing : things)
                g.spawn([thing]() -> task<> {
                    const bool done = co_await move_on_after(1ms, thing);
                    CHECK(!done);
                });
            co_return;
        };
        co_await with_task_group(body);
    }
};

TEST_CASE("deadline: whatever it sets free, tasks that were still to begin or several at once, ends as it should") {
    run(set_free::one_after_another);
}

TEST_CASE("deadline: the same under an observer") {
    observers nobody{};
    loop_options options;
    options.observer = &nobody;
    rondo::run(options, set_free::one_after_another);
}

TEST_CASE("task group: with a limit, within move_on_after, it ends when the time is over") {
    struct local {
        static task<> body() {
            int ran = 0;
            auto child = [&]() -> task<> {
                ++ran;
                co_await sleep_for(1h);
            };
            auto all = [&]() -> task<> {
                auto group_body = [&](task_group& g) -> task<> {
                    g.spawn(child);
                    g.spawn(child);
                    co_return;
                };
                co_await with_task_group(group_body, {.max_running = 1});
            };
            const bool done = co_await move_on_after(1ms, all);
            CHECK(!done);
            CHECK(ran == 1);
        }
    };
    run(local::body);
}

// They were added up over the life of the task, which was ended after a while: "swallows `cancelled` for ever".
TEST_CASE("cancel scope: waits that were refused are counted for each cancellation, not over a task's life") {
    struct local {
        static task<> look(channel<int>& box) { co_await box.receive(); }
        static task<> polls(channel<int>& box) {
            for (int i = 0; i < 40'000; ++i) {
                const auto got = co_await move_on_after(0ms, look, box);
                CHECK(!got);
            }
        }
        static task<> body() {
            channel<int> box(1);
            co_await polls(box);
        }
    };
    std::string warnings;
    set_log_sink(
        [](const log_record& r, void* to) noexcept {
            if (r.level >= log_level::warning) static_cast<std::string*>(to)->append(r.message);
        },
        &warnings);
    run(local::body);
    set_log_sink(nullptr);
    CHECK(warnings.empty());
}

// A wait that a cancel had ended was read as a failure, "Operation canceled", or as a success of the whole, if a
// shield went up before the task ran: it asked whether the task was cancelled by then.
struct flipped {
    static task<> sleeps() { co_await sleep_for(1h); }
    static task<> waits_for_a_value() {
        channel<int> nothing(1);
        co_await nothing.receive();
    }
    static task<> waits_for_room() {
        channel<int> full;
        co_await full.send(1);
    }
    static task<> waits_for_a_permit() {
        semaphore one(1);
        auto first = co_await one.acquire();
        auto second = co_await one.acquire();
    }
    static task<> waits_for_an_event() {
        event never_set;
        co_await never_set.wait();
    }
    static task<> waits_for_a_condition() {
        mutex m;
        condition c;
        auto guard = co_await m.lock();
        co_await c.wait(guard);
    }
    static task<> waits_for_work() {
        queue<int> none(1);
        co_await none.get();
    }
    static task<> selects() {
        channel<int> nothing(1);
        static_cast<void>(co_await select_one(nothing.receive(), sleep_for(1h)));
    }
    static task<> attempts() { static_cast<void>(co_await attempt(sleep_for(1h))); }
    static task<> joins() {
        auto h = spawn([]() -> task<> { co_await sleep_for(10ms); });
        co_await h;
    }
    static task<> accepts() {
        tcp_listener listener = test::listen();
        static_cast<void>(co_await listener.accept());
    }
    static task<> reads() {
        test::connection c = co_await test::connected();
        std::byte one[1];
        co_await c.client.read_some(one);
    }
    static task<> receives() {
        test::connection c = co_await test::connected();
        static_cast<void>(co_await c.client.receive());
    }
    static task<> attempts_to_read() {
        test::connection c = co_await test::connected();
        std::byte one[1];
        static_cast<void>(co_await attempt(c.client.read_exactly(one)));
    }
    static task<> serves() {
        tcp_listener listener = test::listen();
        co_await serve(listener, [](tcp_stream&) -> task<> { co_return; }, {.stop_on_signals = false});
    }
    static task<> starts() {
        auto body = [](task_group& g) -> task<> {
            co_await g.start([](started<> ready) -> task<> {
                co_await sleep_for(1h);
                ready.set();
            });
        };
        co_await with_task_group(body);
    }
    // The body is over: what becomes of the children says how the group ends.
    static task<> has_children() {
        auto body = [](task_group& g) -> task<> {
            g.spawn(sleeps);
            co_return;
        };
        co_await with_task_group(body);
    }
    static task<> has_a_child_that_waits_for_its_turn() {
        int ran = 0;
        auto child = [&ran]() -> task<> {
            ++ran;
            co_await sleep_for(1h);
        };
        auto body = [&](supervisor_group& g) -> task<> {
            g.spawn(child);
            g.spawn(child);
            co_return;
        };
        try {
            co_await with_supervisor_group(body, {.max_running = 1});
        } catch (const cancelled&) {
            CHECK(ran == 1);
            throw;
        }
    }
    static task<> has_children_with_cleanup() {
        auto body = [](task_group& g) -> task<> {
            g.spawn([]() -> task<> { co_await with_cleanup(sleeps, []() -> task<> { co_await sleep_for(1ms); }, 1h); });
            co_return;
        };
        co_await with_task_group(body);
    }
    static task<> waits_for_all() { co_await when_all(sleeps(), sleeps()); }

    // One at a time: a cancel, and in the same turn a shield further in.
    static task<> meets(task<> (*waits)()) {
        cancel_scope* shield_of = nullptr;
        bool told = false;
        auto outer = [&](cancel_scope& out) -> task<> {
            this_loop().set_timeout(1ms, [&] {
                out.cancel();
                shield_of->set_shielded(true);
            });
            auto inner = [&](cancel_scope& in) -> task<> {
                shield_of = &in;
                try {
                    co_await waits();
                } catch (const cancelled&) {
                    told = true;
                    throw;
                }
            };
            const bool inner_done = co_await with_cancel_scope(inner);
            CHECK(!inner_done);
        };
        const bool done = co_await with_cancel_scope(outer);
        CHECK(told);
        CHECK(!done);
    }
    static task<> all() {
        constexpr task<> (*waits[])() = {sleeps,
                                         waits_for_a_value,
                                         waits_for_room,
                                         waits_for_a_permit,
                                         waits_for_an_event,
                                         waits_for_a_condition,
                                         waits_for_work,
                                         selects,
                                         attempts,
                                         joins,
                                         accepts,
                                         reads,
                                         receives,
                                         attempts_to_read,
                                         serves,
                                         starts,
                                         has_children,
                                         has_a_child_that_waits_for_its_turn,
                                         has_children_with_cleanup,
                                         waits_for_all};
        for (std::size_t i = 0; i < std::size(waits); ++i) {
            CAPTURE(i);
            co_await meets(waits[i]);
        }
    }
};

TEST_CASE("cancel: a wait it has ended says cancelled, also if a shield goes up before the task runs") {
    run(flipped::all);
}

TEST_CASE("shield: of children that waited for their turn, those that a cancel has met do not run beyond the limit") {
    struct local {
        static task<> body() {
            int running = 0, most = 0, ran = 0;
            cancel_scope* shield_of = nullptr;
            auto child = [&]() -> task<> {
                ++ran;
                most = std::max(most, ++running);
                co_await immediate();
                --running;
            };
            auto outer = [&](cancel_scope& out) -> task<> {
                auto inner = [&](cancel_scope& in) -> task<> {
                    shield_of = &in;
                    auto group_body = [&](task_group& g) -> task<> {
                        for (int i = 0; i < 5; ++i) g.spawn(child);
                        this_loop().set_timeout(0ms, [&] {
                            out.cancel();
                            shield_of->set_shielded(true);
                        });
                        co_return;
                    };
                    co_await with_task_group(group_body, {.max_running = 1});
                };
                co_await with_cancel_scope(inner);
            };
            co_await with_cancel_scope(outer);
            CHECK(most == 1);
            CHECK(ran < 5);
        }
    };
    run(local::body);
}

TEST_CASE("shield: put up and taken down by others, it reaches every scope below, however these are nested") {
    struct local {
        static task<> body() {
            cancel_scope* out = nullptr;
            cancel_scope* middle = nullptr;
            cancel_scope* in = nullptr;
            journal j;
            auto waits = [&](cancel_scope& s) -> task<> {
                in = &s;
                for (int i = 0; i < 3; ++i) {
                    try {
                        co_await sleep_for(1ms);
                        j.add("slept");
                    } catch (const cancelled&) {
                        j.add("told");
                    }
                }
            };
            auto child = [&]() -> task<> { co_await with_cancel_scope(waits); };
            auto in_middle = [&](cancel_scope& s) -> task<> {
                middle = &s;
                auto group_body = [&](task_group& g) -> task<> {
                    g.spawn(child);
                    co_return;
                };
                co_await with_task_group(group_body);
            };
            auto outer = [&](cancel_scope& s) -> task<> {
                out = &s;
                co_await with_cancel_scope(in_middle, {.shielded = true});
            };
            auto changes = [&]() -> task<> {
                co_await test::others_first();
                out->cancel();                 // kept out
                co_await sleep_for(1ms);
                co_await test::others_first();
                middle->set_shielded(false);   // let in
                in->set_shielded(true);
                co_await test::others_first();
            };
            auto all = [&](task_group& g) -> task<> {
                g.spawn([&]() -> task<> { co_await with_cancel_scope(outer); });
                g.spawn(changes);
                co_return;
            };
            co_await with_task_group(all);
            CHECK(j.text() == "slept told slept");
        }
    };
    run(local::body);
}

TEST_CASE("task group: a background child is cancelled when the body and the other children have ended") {
    struct local {
        static task<> body(journal& j) {
            auto group_body = [&](task_group& g) -> task<> {
                g.spawn_background(note_cancel, std::ref(j), "background");
                auto child = [](journal& to) -> task<> {
                    co_await sleep_for(2ms);
                    to.add("child");
                };
                g.spawn(child, std::ref(j));
                co_return;
            };
            co_await with_task_group(group_body);
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "child background cancelled");
}

TEST_CASE("task group: a child spawned into a cancelled group never runs") {
    struct local {
        static task<> body(journal& j) {
            auto group_body = [&](task_group& g) -> task<> {
                g.cancel();
                auto h = g.spawn(note_cancel, std::ref(j), "never");
                bool was_cancelled = false;
                try {
                    co_await sleep_for(1ms);
                } catch (const cancelled&) {
                    was_cancelled = true;
                }
                CHECK(was_cancelled);
            };
            co_await with_task_group(group_body);
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "");
}

TEST_CASE("task group: a cancel reaches through 10,000 groups, and comes back through all of them") {
    struct local {
        static task<> deeper(int depth) {
            auto group_body = [depth](task_group& g) -> task<> {
                if (depth > 0) {
                    g.spawn(deeper, depth - 1);
                } else {
                    g.spawn(answer_after, 1h, 1);
                }
                co_return;
            };
            co_await with_task_group(group_body);
        }
        static task<> body() {
            const bool ended = co_await move_on_after(5ms, deeper, 10'000);
            CHECK(!ended);
        }
    };
    run(local::body);
}

// --- supervisor groups ---------------------------------------------------------------------------------

TEST_CASE("supervisor group: a failure harms nobody else; held, it is the handle's, else the handler's") {
    struct seen {
        int count = 0;
        std::string last;
    };
    struct local {
        static task<> body(seen& s) {
            auto group_body = [](supervisor_group& g) -> task<int> {
                g.spawn(fail_after, 1ms, "unheld");
                auto held = g.spawn(fail_after, 1ms, "held");
                auto value = g.spawn(answer_after, 5ms, 3);
                std::string got;
                try {
                    co_await held;
                } catch (const std::runtime_error& e) {
                    got = e.what();
                }
                CHECK(got == "held");
                co_return co_await value;
            };
            supervisor_group_options options;
            options.context = &s;
            options.on_error = [](const std::exception_ptr& error, std::source_location, void* context) {
                auto& to = *static_cast<seen*>(context);
                ++to.count;
                try {
                    std::rethrow_exception(error);
                } catch (const std::exception& e) {
                    to.last = e.what();
                }
            };
            const int value = co_await with_supervisor_group(group_body, options);
            CHECK(value == 3);
        }
    };
    seen s;
    run(local::body, std::ref(s));
    CHECK(s.count == 1);
    CHECK(s.last == "unheld");
}

TEST_CASE("supervisor group: its body's failure cancels the children and is thrown as it is") {
    struct local {
        static task<> body(journal& j) {
            auto group_body = [&](supervisor_group& g) -> task<> {
                g.spawn(note_cancel, std::ref(j), "child");
                co_await sleep_for(1ms);
                throw std::runtime_error("body");
            };
            bool thrown = false;
            try {
                co_await with_supervisor_group(group_body);
            } catch (const std::runtime_error&) {
                thrown = true;
            }
            CHECK(thrown);
        }
    };
    journal j;
    run(local::body, std::ref(j));
    CHECK(j.text() == "child cancelled");
}

// --- groups of errors ----------------------------------------------------------------------------------

TEST_CASE("exception_group: splits by type through nested groups, and prints as a tree") {
    std::vector<std::exception_ptr> inner{std::make_exception_ptr(std::runtime_error("a")),
                                          std::make_exception_ptr(std::logic_error("b"))};
    std::vector<std::exception_ptr> outer{std::make_exception_ptr(exception_group(std::move(inner))),
                                          std::make_exception_ptr(std::runtime_error("c"))};
    const exception_group group(std::move(outer));
    CHECK(std::string(group.what()) == "2 errors; the first: 2 errors; the first: std::runtime_error: a");
    CHECK(group.tree() ==
          "2 errors\n|- 2 errors\n|  |- std::runtime_error: a\n|  `- std::logic_error: b\n`- std::runtime_error: c");
    const auto [runtime, rest] = group.split<std::runtime_error>();
    CHECK(runtime.size() == 2);
    CHECK(rest.size() == 1);
    CHECK(group.subgroup<std::logic_error>().size() == 1);
    CHECK_THROWS_AS(group.rethrow_except<std::runtime_error>(), exception_group);
    CHECK_NOTHROW(group.rethrow_except<std::exception>());
    CHECK_THROWS_AS(exception_group(std::vector<std::exception_ptr>()), std::invalid_argument);
}

// Its tree was as wide as it was deep, what() repeated itself at each level, and its end took the stack.
// A null one ended the program when somebody asked what it was.
TEST_CASE("exception_group: of no error, or of one that is null, is an invalid_argument") {
    CHECK_THROWS_AS(exception_group(std::vector<std::exception_ptr>()), std::invalid_argument);
    const std::vector<std::exception_ptr> one_is_null = {std::make_exception_ptr(1), nullptr};
    CHECK_THROWS_AS(exception_group(std::vector(one_is_null)), std::invalid_argument);
}

TEST_CASE("exception_group: groups in groups, a hundred thousand deep, are told shortly, split, and end") {
    std::exception_ptr error = std::make_exception_ptr(std::runtime_error("innermost"));
    std::size_t longest = 0;
    for (int i = 0; i < 100'000; ++i) {
        const exception_group group({error});
        longest = std::max(longest, std::strlen(group.what()));
        error = std::make_exception_ptr(group);
    }
    CHECK(longest < 200);
    const exception_group all({error, std::make_exception_ptr(std::logic_error("beside it"))});
    CHECK(std::string(all.what()) == "2 errors; the first: 100000 groups further in: std::runtime_error: innermost");
    const std::string tree = all.tree();
    CHECK(tree.size() < 8000);
    CHECK(tree.find("1 error: 99960 groups further in: std::runtime_error: innermost") != tree.npos);
    CHECK(tree.ends_with("\n`- std::logic_error: beside it"));
    const auto [runtime, rest] = all.split<std::runtime_error>();
    CHECK(runtime.size() == 1);
    CHECK(rest.size() == 1);
}

TEST_CASE("exception_group: a tree of very many errors is cut, and says how many more there are") {
    std::vector<std::exception_ptr> many(1000, std::make_exception_ptr(std::runtime_error("again")));
    const std::vector<std::exception_ptr> outer(3, std::make_exception_ptr(exception_group(many)));
    const std::string tree = exception_group(outer).tree();
    CHECK(std::count(tree.begin(), tree.end(), '\n') == 102);
    CHECK(tree.find("\n|  `- ... and 901 more\n`- ... and 2 more") != tree.npos);
}

/// Of this thread, in seconds.
double processor_time() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/// What each of `depth` groups in each other costs: the least of three.
double cost_of_nesting(int depth) {
    struct local {
        static task<int> nest(int n) {
            if (n == 0) {
                co_await yield();
                co_return 0;
            }
            auto body = [n](task_group&) -> task<int> {
                const int below = co_await nest(n - 1);
                co_return 1 + below;
            };
            co_return co_await with_task_group(body);
        }
    };
    double least = 1e9;
    for (int i = 0; i < 3; ++i) {
        const double begin = processor_time();
        const int counted = run(local::nest, depth);
        CHECK(counted == depth);
        least = std::min(least, (processor_time() - begin) / depth);
    }
    return least;
}

/// What cancelling each of `depth` scopes in each other costs, the outermost first: the least of three.
double cost_of_cancelling_each(int depth) {
    struct local {
        static task<> nest(int n, std::vector<cancel_scope*>& all) {
            if (n == 0) {
                for (cancel_scope* s : all) s->cancel();
                co_return;
            }
            auto body = [n, &all](cancel_scope& s) -> task<> {
                all.push_back(&s);
                co_await nest(n - 1, all);
            };
            co_await with_cancel_scope(body);
        }
    };
    double least = 1e9;
    for (int i = 0; i < 3; ++i) {
        std::vector<cancel_scope*> all;
        const double begin = processor_time();
        run(local::nest, depth, std::ref(all));
        least = std::min(least, (processor_time() - begin) / depth);
    }
    return least;
}

// Each looked at all scopes around it when it was left: at this depth that was fifty times as dear.
TEST_CASE("task group: one in many others is left as fast as one alone") {
    CHECK(test::least_ratio(cost_of_nesting, 500, 20'000, 4) < 8);
}

TEST_CASE("cancel scope: in one that is cancelled already, a cancel has nobody left to ask") {
    CHECK(test::least_ratio(cost_of_cancelling_each, 500, 20'000, 4) < 8);
}

// --- operations, tasks and handles under a limit -----------------------------------------------------------

TEST_CASE("with_timeout: an operation, a task, a handle and a function can be limited alike") {
    test::run([]() -> task<> {
        semaphore one(1, "one");
        {
            const semaphore::permit mine = co_await with_timeout(1s, one.acquire());
            const auto late = co_await attempt(with_timeout(5ms, one.acquire()));
            CHECK(late.error() == std::errc::timed_out);
            CHECK(one.waiting() == 0);
        }
        CHECK(one.available() == 1);

        auto gives = [](int n) -> task<int> {
            co_await immediate();
            co_return n;
        };
        const int of_task = co_await with_timeout(1s, gives(1));
        CHECK(of_task == 1);
        const int of_function = co_await with_timeout(1s, gives, 2);
        CHECK(of_function == 2);
        auto handle = spawn(gives, 3);
        const int of_handle = co_await with_timeout(1s, handle);
        CHECK(of_handle == 3);

        auto sleeper = spawn([]() -> task<> { co_await sleep_for(1h); });
        const bool over = co_await move_on_after(5ms, sleeper);
        CHECK(!over);
        CHECK(!sleeper.done());  // the wait for it was given up, not the task
        sleeper.cancel();
        const bool slept = co_await move_on_after(1s, sleep_for(1ms));
        CHECK(slept);
        const auto in_time = co_await move_on_after(1s, gives(4));
        CHECK(in_time.value() == 4);
        const bool nested = co_await move_on_after(5ms, with_timeout(1h, sleep_for(1h)));
        CHECK(!nested);
    });
}

TEST_CASE("with_timeout: a read that is cut short gives back what had arrived") {
    test::run([]() -> task<> {
        test::connection c = co_await test::connected();
        co_await c.client.write_all("half");
        std::string text(8, ' ');
        const auto cut = co_await attempt(with_timeout(200ms, c.server.read_exactly(text)));
        CHECK(cut.error() == std::errc::timed_out);
        co_await c.client.write_all("done");
        const std::size_t n = co_await with_timeout(10s, c.server.read_exactly(text));
        CHECK(text.substr(0, n) == "halfdone");
        const auto nothing = co_await move_on_after(5ms, c.server.receive());
        CHECK(!nothing);
    });
}

TEST_CASE("shield: an operation is out of reach of a cancel") {
    test::run([]() -> task<> {
        event go;
        bool passed = false;
        auto waits = [&]() -> task<> {
            co_await shield(go.wait());
            passed = true;
            co_await immediate();
        };
        auto handle = spawn(waits);
        co_await immediate();
        handle.cancel();
        co_await immediate();
        CHECK(!passed);
        go.set();
        const auto ended = co_await attempt(handle);
        CHECK(passed);
        CHECK(ended.error() == std::errc::operation_canceled);
    });
}

TEST_CASE("timeout_error: it says how long and where, and is no error of the system's") {
    test::run([]() -> task<> {
        const auto line = std::source_location::current().line() + 2;
        try {
            co_await with_timeout(2ms, sleep_for(1h));
            FAIL("it was in time");
        } catch (const timeout_error& e) {
            CHECK(std::string(e.what()) ==
                  "timed out after 0.002 s (with_timeout at scope_test.cpp:" + std::to_string(line) + ")");
            CHECK(e.code() == std::errc::timed_out);
            CHECK(e.code() != errno_code(ETIMEDOUT));
            CHECK(e.code().category() == limit_category());
            CHECK(e.code().message() == "the time limit has passed");
            CHECK(e.limit().length == 2ms);
            CHECK(e.limit().place.line() == line);
        }
        std::string text;
        try {
            co_await with_deadline(now() + 1ms, sleep_for(1h));
        } catch (const timeout_error& e) {
            text = e.what();
        }
        CHECK(text.starts_with("timed out (with_deadline at scope_test.cpp:"));
    });
}

TEST_CASE("cancel at every step: limits around operations") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        semaphore one(1, "one");
        auto takes = [&one]() -> task<> {
            const semaphore::permit mine = co_await with_timeout(1h, one.acquire());
            co_await move_on_after(1ms, sleep_for(1h));
        };
        auto body = [&](task_group& group) -> task<> {
            for (int i = 0; i < 3; ++i) group.spawn(takes).discard();
            co_return;
        };
        co_await with_task_group(body);
        CHECK(one.available() == 1);
    });
    CHECK(points > 5);
}

// --- everything, cancelled everywhere --------------------------------------------------------------------

TEST_CASE("cancel at every step: groups in groups with deadlines, shields and limits") {
    struct local {
        static task<> leaf(duration d) {
            co_await shield(rest);
            co_await sleep_for(d);
        }
        static task<> rest() {
            co_await yield();
            co_await sleep_for(1us);
        }
        static task<> nested() {
            auto group_body = [](task_group& g) -> task<> {
                for (int i = 0; i < 3; ++i) g.spawn(leaf, std::chrono::microseconds(i));
                co_await with_timeout(1h, leaf, 3us);
            };
            co_await with_task_group(group_body, {.max_running = 2});
        }
        static task<> body() {
            auto group_body = [](supervisor_group& g) -> task<> {
                auto a = g.spawn(nested);
                auto b = g.spawn(nested);
                co_await move_on_after(1us, leaf, 1h);
                co_await a;
                co_await b;
            };
            co_await with_supervisor_group(group_body);
        }
    };
    CHECK(test::cancel_at_every_step(local::body) > 0);
}

}  // namespace
