// Failures that asynchronous runtimes are known for, in waiting, cancelling and compiling: each case bears the
// hazard's number in the catalogue that the tests follow, and says where it happened. A5 and A14 are with the
// peers; those of locks and channels are with what they concern, and so are most of descriptors and io_uring
// (git grep "hazards\? D4"), whose others are in hazards_io_test.cpp.
#include "support/net.hpp"
#include "support/scopes.hpp"

#include <rondo/testing/every_step.hpp>

#include <algorithm>
#include <memory>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;
using namespace test;

namespace {

TEST_CASE("hazard A9, libuv#2208, bun#38024: run() in a task of the same loop is refused, and the loop is intact") {
    loop l;
    bool refused = false;
    const int value = run_on(l, [&]() -> task<int> {
        try {
            l.run();
        } catch (const std::logic_error&) {
            refused = true;
        }
        const int got = co_await gives(2, 4);
        co_return got;
    });
    CHECK(refused);
    CHECK(value == 4);
}

// A suspended task cannot be destroyed one by one: its frame belongs to it. What can go is the loop.
TEST_CASE("hazard A12, cobalt#194, asio#1332, stdexec#2047: a loop destroyed under every kind of wait ends each") {
    const std::size_t frames = detail::frames_live();
    const std::size_t descriptors = open_descriptors();
    int unwound = 0;
    {
        struct counts {
            int& unwound;
            ~counts() { ++unwound; }
        };
        const auto sleeping = [&]() -> task<> {
            const counts at_the_end{unwound};
            co_await waits();
        };
        const auto in_groups = [&]() -> task<> {
            const counts at_the_end{unwound};
            auto body = [&](task_group& g) -> task<> {
                g.spawn(sleeping);
                auto inner = [&](supervisor_group& s) -> task<> {
                    s.spawn(sleeping);
                    auto child = s.spawn(sleeping);
                    co_await child;
                };
                co_await with_supervisor_group(inner);
            };
            co_await with_task_group(body);
        };
        const auto limited = [&]() -> task<> {
            const counts at_the_end{unwound};
            co_await with_timeout(1h, sleeping);
        };
        const auto moving_on = [&]() -> task<> {
            const counts at_the_end{unwound};
            static_cast<void>(co_await move_on_after(1h, sleeping));
        };
        const auto accepting = [&]() -> task<> {
            const counts at_the_end{unwound};
            tcp_listener listener = listen();
            static_cast<void>(co_await listener.accept());
        };
        const auto reading = [&]() -> task<> {
            const counts at_the_end{unwound};
            connection c = co_await connected();
            std::byte into[8];
            co_await c.client.read_exactly(into);
        };
        const auto going_round = [&]() -> task<> {
            const counts at_the_end{unwound};
            for (;;) co_await immediate();
        };
        loop l;
        spawn_on(l, in_groups).discard();
        spawn_on(l, limited).discard();
        spawn_on(l, moving_on).discard();
        spawn_on(l, accepting).discard();
        spawn_on(l, reading).discard();
        spawn_on(l, going_round).discard();
        for (int i = 0; i < 20; ++i) l.run_nowait();
        CHECK(unwound == 0);
    }
    CHECK(unwound == 4 + 2 + 2 + 1 + 1 + 1);
    CHECK(detail::frames_live() == frames);
    CHECK(open_descriptors() == descriptors);
}

// --- A13: {child throws before its first wait, after, while it is cancelled} x {body waits, is over, parent cancelled}

enum class throws_when { at_once, later, in_cleanup };
enum class body_is { waiting, over, parent_cancelled };

struct cell {
    throws_when child;
    body_is body;
    const char* task_group;  // how it ends, then what the next wait says
    const char* supervisor_group;
    const char* sibling;  // what becomes of another child: of the task group, of the supervisor group
    const char* sibling_supervised;
};

// Where the child fails of itself, the parent's cancel comes when it has, and a slow sibling still cleans up. Where it
// fails in its cleanup, that is caused by another child: one that fails in a task group, one that cancels a supervisor
// group. A supervisor group hands the child's error to its handler: [child].
constexpr cell cells[] = {
    {throws_when::at_once, body_is::waiting, "(child) goes on", "[child] done goes on", "cancelled", "completes"},
    {throws_when::at_once, body_is::over, "(child) goes on", "[child] done goes on", "cancelled", "completes"},
    {throws_when::at_once, body_is::parent_cancelled, "(child) cancelled", "[child] cancelled cancelled", "cancelled",
     "cancelled"},
    {throws_when::later, body_is::waiting, "(child) goes on", "[child] done goes on", "cancelled", "completes"},
    {throws_when::later, body_is::over, "(child) goes on", "[child] done goes on", "cancelled", "completes"},
    {throws_when::later, body_is::parent_cancelled, "(child) cancelled", "[child] cancelled cancelled", "cancelled",
     "cancelled"},
    {throws_when::in_cleanup, body_is::waiting, "(trigger child) goes on", "[child] done goes on", "cancelled",
     "cancelled"},
    {throws_when::in_cleanup, body_is::over, "(trigger child) goes on", "[child] done goes on", "cancelled",
     "cancelled"},
    {throws_when::in_cleanup, body_is::parent_cancelled, "(child) cancelled", "[child] cancelled cancelled",
     "cancelled", "cancelled"},
};

struct matrix {
    static task<> child(throws_when when) {
        if (when == throws_when::at_once) throw std::runtime_error("child");
        if (when == throws_when::in_cleanup) static_cast<void>(co_await outcome_of(waits()));
        if (when == throws_when::later) co_await shield(goes_round, 2);
        throw std::runtime_error("child");
    }

    // Either it is cancelled, and takes long to clean up, or it completes.
    static task<> sibling(std::string& ended) {
        const std::string waited = co_await outcome_of(goes_round(6));
        co_await shield(goes_round, 8);
        ended = waited == "done" ? "completes" : waited;
        if (waited != "done") throw cancelled{};
    }

    template <class Group>
    static task<> trigger(Group& g) {
        co_await goes_round(2);
        if constexpr (std::is_same_v<Group, task_group>) throw std::runtime_error("trigger");
        g.cancel();
    }

    template <class Group>
    static task<> body(Group& g, const cell& c, std::string& sibling_ended) {
        g.spawn(sibling, std::ref(sibling_ended));
        g.spawn(child, c.child);
        if (c.child == throws_when::in_cleanup && c.body != body_is::parent_cancelled)
            g.spawn(trigger<Group>, std::ref(g));
        if (c.body == body_is::over) co_return;
        // In a supervisor group nothing may interrupt it; then it waits for no longer than the siblings.
        if constexpr (std::is_same_v<Group, task_group>) {
            co_await waits();
        } else {
            co_await goes_round(9);
        }
    }

    template <class Group>
    static task<> whole(const cell& c, std::string& got, std::string& sibling_ended) {
        std::string handled;
        auto call = [&](Group& g) -> task<> { return body<Group>(g, c, sibling_ended); };
        std::string ended;
        if constexpr (std::is_same_v<Group, task_group>) {
            ended = co_await outcome_of(with_task_group(call));
        } else {
            supervisor_group_options options;
            options.context = &handled;
            options.on_error = [](const std::exception_ptr& error, std::source_location, void* to) {
                *static_cast<std::string*>(to) += "[" + text_of(error) + "] ";
            };
            ended = co_await outcome_of(with_supervisor_group(call, options));
        }
        const std::string next = co_await next_wait();
        got = handled + ended + " " + next;
    }

    template <class Group>
    static task<> run(const cell& c, std::string& got, std::string& sibling_ended) {
        auto t = spawn(whole<Group>, std::cref(c), std::ref(got), std::ref(sibling_ended));
        co_await goes_round(4);
        if (c.body == body_is::parent_cancelled) t.cancel();
        static_cast<void>(co_await attempt(t));
    }
};

TEST_CASE("hazard A13, anyio#49, #787, #685, #1070, #37, cpython#155418, cpython#95704: all nine cells, both groups" *
          doctest::test_suite("order")) {
    for (const cell& c : cells) {
        CAPTURE(static_cast<int>(c.child));
        CAPTURE(static_cast<int>(c.body));
        std::string got, sibling;
        test::run(matrix::run<task_group>, std::cref(c), std::ref(got), std::ref(sibling));
        CHECK(got == std::string(c.task_group));
        CHECK(sibling == std::string(c.sibling));
        got.clear();
        sibling.clear();
        test::run(matrix::run<supervisor_group>, std::cref(c), std::ref(got), std::ref(sibling));
        CHECK(got == std::string(c.supervisor_group));
        CHECK(sibling == std::string(c.sibling_supervised));
    }
}

TEST_CASE("hazard A13: a child's failure and a cancel of its group's task in one turn, both orders" *
          doctest::test_suite("order")) {
    // The cancel comes at each place in the queue around the one where the child fails.
    std::vector<std::string> seen;
    for (int yields = 1; yields < 8; ++yields) {
        std::string got;
        test::run([&]() -> task<> {
            auto t = spawn([&]() -> task<> {
                auto body = [](task_group& g) -> task<> {
                    g.spawn([]() -> task<> {
                        for (int i = 0; i < 2; ++i) co_await yield();
                        throw std::runtime_error("child");
                    });
                    co_await waits();
                };
                const std::string ended = co_await outcome_of(with_task_group(body));
                const std::string next = co_await next_wait();
                got = ended + " " + next;
            });
            for (int i = 0; i < yields; ++i) co_await yield();
            t.cancel();
            static_cast<void>(co_await attempt(t));
        });
        seen.push_back(got);
    }
    // In a queue already, the child goes on to its end or its next wait; so the failure is the error or did not happen.
    CHECK(seen.front() == "cancelled cancelled");
    CHECK(seen.back() == "(child) goes on");
    std::vector<std::string> kinds;
    for (const std::string& one : seen)
        if (kinds.empty() || kinds.back() != one) kinds.push_back(one);
    CHECK(kinds == std::vector<std::string>{"cancelled cancelled", "(child) cancelled", "(child) goes on"});
}

// A body behind a shield is not interrupted by the failure, and meets it in the handle.
TEST_CASE("hazard A13: an error that the body has met in a handle as well is reported once") {
    test::run([]() -> task<> {
        auto body = [](task_group& g) -> task<> {
            auto child = g.spawn(fails, 1, "child");
            g.spawn(fails_in_cleanup, 0, "sibling");
            const auto joins = [&]() -> task<> { co_await child; };
            co_await shield(joins);
        };
        const std::string ended = co_await outcome_of(with_task_group(body));
        CHECK(ended == "(child sibling)");
    });
}

// --- coroutines and the compiler -----------------------------------------------------------------------------

TEST_CASE("hazard B1, llvm#49888, libcoro#273: scopes that end at once, in the hundred thousands, use no stack") {
    test::run([]() -> task<> {
        int sum = 0;
        auto empty = [](task_group&) -> task<int> { co_return 1; };
        auto fails_at_once = [](task_group&) -> task<> {
            throw std::runtime_error("at once");
            co_return;
        };
        const auto at_once = []() -> task<int> { co_return 1; };
        for (int i = 0; i < 100'000; ++i) {
            sum += co_await with_timeout(1h, at_once);
            sum += co_await with_task_group(empty);
            sum += co_await shield(at_once);
        }
        CHECK(sum == 300'000);
        int failed = 0;
        for (int i = 0; i < 10'000; ++i) {
            const std::string ended = co_await outcome_of(with_task_group(fails_at_once));
            if (ended == "(at once)") ++failed;
        }
        CHECK(failed == 10'000);
    });
}

TEST_CASE("hazard B2, B3, gcc PR95599, PR115851, PR124584: captures and structured bindings around scopes live once") {
    const auto shared = std::make_shared<int>(5);
    test::run([&]() -> task<> {
        auto timed = [shared]() -> task<int> {
            co_await yield();
            co_return *shared;
        };
        auto group = [shared](task_group& g) -> task<std::pair<int, std::shared_ptr<int>>> {
            auto child = g.spawn([shared]() -> task<int> { co_return *shared; });
            const int value = co_await child;
            co_return std::pair(value, shared);
        };
        for (int i = 0; i < 3; ++i) {
            const int five = co_await with_timeout(1h, timed);
            const auto [value, again] = co_await with_task_group(group);
            CHECK(five + value == 10);
            CHECK(again == shared);
            CHECK(shared.use_count() == 4);  // with those of `timed` and `group`, and of `again`
        }
    });
    CHECK(shared.use_count() == 1);
}

TEST_CASE("hazard B4, CP.51: a temporary capturing lambda, spawned into a group, outlives the closure it came from") {
    const auto shared = std::make_shared<int>(5);
    int seen = 0;
    test::run([&]() -> task<> {
        auto body = [&](task_group& g) -> task<> {
            g.spawn([shared, &seen]() -> task<> {
                co_await goes_round(3);
                seen = *shared;
            });
            co_return;
        };
        co_await with_task_group(body);
        CHECK(shared.use_count() == 1);
    });
    CHECK(seen == 5);
}

TEST_CASE("hazard B5, CWG#574, capy#259: an error nobody holds goes to the hook, from a task or any phase's callback") {
    std::vector<std::string> reported;
    loop l;
    l.on_unhandled(
        [](std::exception_ptr error, std::source_location place, void* to) {
            CHECK(place.line() != 0);
            static_cast<std::vector<std::string>*>(to)->push_back(text_of(error));
        },
        &reported);
    const auto throws = [](const char* what) { return [what] { throw std::runtime_error(what); }; };
    watcher watchers[] = {l.on_idle(throws("idle")), l.on_prepare(throws("prepare")), l.on_check(throws("check"))};
    l.next_tick(throws("tick"));
    l.queue_microtask(throws("microtask"));
    l.set_immediate(throws("immediate"));
    l.queue_close(throws("close"));
    l.set_timeout(0ms, throws("timer"));
    CHECK(l.remote().post(throws("post")));
    spawn_on(l, fails, 0, "detached").discard();
    {
        auto owner_goes = spawn_on(l, fails, 1, "its owner has gone");
    }
    l.run_once();
    for (watcher& w : watchers) w.cancel();
    l.run();
    for (const char* what : {"idle", "prepare", "check", "tick", "microtask", "immediate", "close", "timer", "post",
                             "detached", "its owner has gone"}) {
        CAPTURE(std::string(what));
        CHECK(std::count(reported.begin(), reported.end(), what) == 1);
    }
    const int value = run_on(l, gives, 2, 3);  // the loop is whole
    CHECK(value == 3);
}

TEST_CASE("hazard B7: groups, timeouts, shields and bindings without the n-th allocation, for every n") {
    struct local {
        static task<> leaf(int turns) { co_await shield(goes_round, turns); }
        static task<> supervised() {
            auto body = [](supervisor_group& g) -> task<> {
                auto held = g.spawn(gives, 1, 1);
                g.spawn_background(waits).discard();
                const int one = co_await held;
                co_await with_timeout(1h, goes_round, one);
            };
            supervisor_group_options options;
            options.on_error = [](const std::exception_ptr&, std::source_location, void*) {};
            co_await with_supervisor_group(body, options);
        }
        static task<> program() {
            static task_local<int> bound(0);
            auto body = [](task_group& g) -> task<> {
                for (int i = 0; i < 3; ++i) g.spawn(leaf, i);
                g.spawn(supervised);
                static_cast<void>(co_await move_on_after(0ms, waits));
                co_await bound.with(1, leaf, 1);
            };
            co_await with_task_group(body, {.max_running = 2});
        }
    };
    const testing::every_step_report without = testing::fail_each_allocation(local::program);
    CHECK_MESSAGE(without.ok(), without.text());
    CHECK(without.points > 15);
    const testing::every_step_report cancelled_everywhere = testing::cancel_at_every_step(local::program);
    CHECK_MESSAGE(cancelled_everywhere.ok(), cancelled_everywhere.text());
    CHECK(cancelled_everywhere.points > 10);
}

}  // namespace
