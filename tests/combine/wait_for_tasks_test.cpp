// wait_for_tasks: asyncio.wait's rules. It cancels nothing and takes nothing.
#include "support/children.hpp"

#include <vector>

using namespace rondo;
using namespace test;
using namespace std::chrono_literals;

namespace {

using indices = std::vector<std::size_t>;

task<int> sleeps(duration d, int value) {
    co_await sleep_for(d);
    co_return value;
}

TEST_CASE("wait_for_tasks: first_completed returns at the first end, all_completed at the last" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            std::vector<task_handle<int>> handles;
            handles.push_back(spawn(after, 9, 1));
            handles.push_back(spawn(after, 1, 2));
            handles.push_back(spawn(after, 1, 3));
            {
                auto [done, pending] = co_await wait_for_tasks(return_when::first_completed, handles);
                CHECK(done == indices{1, 2});  // the third had ended by the time this went on
                CHECK(pending == indices{0});
            }
            {
                auto [done, pending] = co_await wait_for_tasks(return_when::all_completed, handles);
                CHECK(done == indices{0, 1, 2});
                CHECK(pending.empty());
            }
            const int three = co_await handles[2];  // no result was taken
            CHECK(three == 3);
        }
    };
    test::run(local::body);
}

TEST_CASE("wait_for_tasks: first_exception returns at a failure, or when all have ended; a cancel is none" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            auto fine = spawn(after, 1, 1);
            auto broken = spawn(fails_after, 4, "x");
            auto cancelled_one = spawn(waits, std::ref(j), "a");
            auto slow = spawn(waits, std::ref(j), "b");
            co_await yield();
            cancelled_one.cancel();
            {
                auto [done, pending] =
                    co_await wait_for_tasks(return_when::first_exception, fine, broken, cancelled_one, slow);
                CHECK(done == indices{0, 1, 2});
                CHECK(pending == indices{3});
            }
            slow.cancel();
            {
                auto [done, pending] = co_await wait_for_tasks(return_when::first_exception, fine, cancelled_one, slow);
                CHECK(done == indices{0, 1, 2});
            }
            CHECK(slow.state() == task_state::cancelled);
            broken.discard();
        }
    };
    journal j;
    bool reported = false;
    loop l;
    l.on_unhandled([](std::exception_ptr, std::source_location, void* seen) { *static_cast<bool*>(seen) = true; },
                   &reported);
    run_on(l, local::body, std::ref(j));
    CHECK(reported);  // it does not take errors either
    CHECK(j.text() == "a cancelled b cancelled");
}

TEST_CASE("wait_for_tasks: a timeout is no error and cancels nothing") {
    struct local {
        static task<> body() {
            auto quick = spawn(sleeps, 1ms, 1);
            auto slow = spawn(sleeps, 1h, 2);
            const time_point before = now();
            {
                auto [done, pending] = co_await wait_for_tasks(return_when::all_completed, 5ms, quick, slow);
                CHECK(done == indices{0});
                CHECK(pending == indices{1});
            }
            CHECK(now() - before >= 5ms);
            {
                auto [done, pending] = co_await wait_for_tasks(return_when::all_completed, 0ms, slow);
                CHECK(done.empty());
            }
            slow.cancel();
            {
                auto [done, pending] = co_await wait_for_tasks(return_when::all_completed, 1h, slow);
                CHECK(done == indices{0});
            }
            {
                auto [done, pending] = co_await wait_for_tasks(return_when::all_completed, 1h, slow, quick);
                CHECK(done == indices{0, 1});  // at once
            }
            CHECK(this_loop().stats().timers == 0);
        }
    };
    test::run(local::body);
}

TEST_CASE("wait_for_tasks: of no tasks it returns at once") {
    struct local {
        static task<> body() {
            std::vector<task_handle<>> none;
            auto [done, pending] = co_await wait_for_tasks(return_when::first_completed, none);
            CHECK(done.empty());
            CHECK(pending.empty());
        }
    };
    test::run(local::body);
}

TEST_CASE("wait_for_tasks: cancelled, it lets go of the tasks, which go on and may be awaited again" *
          doctest::test_suite("order")) {
    struct local {
        static task<> waits_for(std::vector<task_handle<int>>& handles) {
            co_await wait_for_tasks(return_when::first_completed, 1h, handles);
        }
        static task<> body() {
            std::vector<task_handle<int>> handles;
            handles.push_back(spawn(after, 5, 1));
            handles.push_back(spawn(after, 6, 2));
            auto waiter = spawn(waits_for, std::ref(handles));
            co_await yield();
            co_await yield();
            waiter.cancel();
            const auto over = co_await attempt(waiter);
            CHECK(over.error() == std::errc::operation_canceled);
            const int one = co_await handles[0];
            const int two = co_await handles[1];
            CHECK(one + two == 3);
            CHECK(this_loop().stats().timers == 0);
        }
        static task<> program() {
            auto a = spawn(after, 2, 1);
            auto b = spawn(sleeps, 1ms, 2);
            auto [done, pending] = co_await wait_for_tasks(return_when::first_completed, 1h, a, b);
            CHECK(done == indices{0});
            co_await wait_for_tasks(return_when::all_completed, 10ms, a, b);
            co_await sleep_for(1ms);
        }
    };
    test::run(local::body);
    CHECK(test::cancel_at_every_step(local::program) > 0);
}

TEST_CASE("wait_for_tasks: a completion and a cancel in one turn: the result wins, the cancel meets the next wait") {
    struct local {
        static task<bool> waits_for(task_handle<int>& handle, bool& next_was_cancelled) {
            auto [done, pending] = co_await wait_for_tasks(return_when::first_completed, handle);
            const bool got = done.size() == 1;
            try {
                co_await test::others_first();
            } catch (const cancelled&) {
                next_was_cancelled = true;
            }
            co_return got;
        }
        static task<> body() {
            bool next_was_cancelled = false;
            auto handle = spawn(after, 1, 1);
            auto waiter = spawn(waits_for, std::ref(handle), std::ref(next_was_cancelled));
            while (!handle.done()) co_await test::others_first();
            waiter.cancel();  // it has been woken, and has not run
            const bool got = co_await waiter;
            CHECK(got);
            CHECK(next_was_cancelled);
        }
    };
    test::run(local::body);
}

}  // namespace
