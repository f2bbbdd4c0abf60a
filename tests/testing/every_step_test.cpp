// The harness itself: it stops everywhere, and finds what it is there to find.
#include "support/net.hpp"

#include <rondo/testing/every_step.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <deque>
#include <stdexcept>

using namespace rondo;
using namespace std::chrono_literals;
using testing::cancel_at_every_step;
using testing::every_step_options;
using testing::every_step_report;
using testing::fail_each_allocation;

namespace {

/// Says whether a failure of the report speaks of `what`.
bool tells_of(const every_step_report& report, std::string_view what) {
    for (const std::string& failure : report.failures)
        if (failure.find(what) != std::string::npos) return true;
    return false;
}

/// Takes `turns` turns of the loop.
task<> goes_round(int turns) {
    for (int i = 0; i < turns; ++i) co_await immediate();
}

TEST_CASE("every step: three sleeps have four points, the first before the first step") {
    int passed = -1;
    std::vector<int> reached;
    const auto program = [&]() -> task<> {
        passed = 0;
        for (int i = 0; i < 3; ++i) {
            co_await sleep_for(1us);
            ++passed;
        }
    };
    const auto after_run = [&] { reached.push_back(std::exchange(passed, -1)); };
    const every_step_report report = cancel_at_every_step(program, after_run);
    CHECK(report.ok());
    CHECK(report.points == 4);
    CHECK(report.runs == 9);  // four, once more three, and two that were over before their turn
    CHECK(report.text() == "9 runs, 4 points");
    REQUIRE(reached.size() == 9);
    reached.resize(5);
    CHECK(reached == std::vector<int>{-1, 0, 1, 2, 3});
}

TEST_CASE("every step: steps of other tasks and of callbacks are points, too") {
    const auto program = []() -> task<> {
        auto child = spawn([]() -> task<> {
            co_await yield();
            co_await yield();
        });
        this_loop().queue_microtask([] {});
        co_await child;
    };
    const every_step_report report = cancel_at_every_step(program);
    CHECK(report.ok());
    CHECK(report.points == 6);  // before all, the main task's first step, the callback, three of the child
}

TEST_CASE("every step: a cancel one look later finds operations under way") {
    const every_step_report report = cancel_at_every_step([]() -> task<> {
        tcp_listener listener = test::listen();
        auto client = spawn(
            [](endpoint to) -> task<> {
                tcp_stream s = co_await tcp_stream::connect(to);
                co_await s.write_all("hello");
            },
            listener.local());
        tcp_stream server = co_await listener.accept();
        std::byte into[5];
        co_await server.read_exactly(into);
        static_cast<void>(co_await attempt(client));
    });
    CHECK_MESSAGE(report.ok(), report.text());
    CHECK(report.points >= 4);
}

TEST_CASE("every step: an error instead of `cancelled` is a failure that names the line of the wait") {
    const every_step_report report = cancel_at_every_step([]() -> task<> {
        auto child = spawn(goes_round, 3);
        bool was_cancelled = false;
        try {
            co_await child;
        } catch (const cancelled&) {
            was_cancelled = true;
        }
        if (was_cancelled) throw std::runtime_error("turned into an error");
    });
    CHECK_FALSE(report.ok());
    // Its own first step, three steps of the child; the third look finds the child's end.
    CHECK(report.failures.size() == 4 + 3);
    CHECK(tells_of(report, "cancelled after step 1 at "));
    CHECK(tells_of(report, "every_step_test.cpp:"));
    CHECK(tells_of(report, "the main task ended with std::runtime_error: turned into an error"));
}

TEST_CASE("every step: what is left of a run is a failure: descriptors, blocks, timers, permits") {
    std::vector<int> leaked;
    const every_step_report descriptors = cancel_at_every_step([&]() -> task<> {
        const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
        leaked.push_back(fd);
        co_await sleep_for(1us);
        ::close(fd);  // a cancel does not come here
        leaked.pop_back();
    });
    CHECK(tells_of(descriptors, " descriptors, not "));
    for (const int fd : leaked) ::close(fd);

    std::vector<void*> blocks;
    const every_step_report memory = cancel_at_every_step([&]() -> task<> {
        blocks.push_back(detail::frame_allocate(100));
        co_await sleep_for(1us);
        detail::frame_deallocate(blocks.back(), 100);
        blocks.pop_back();
    });
    CHECK(tells_of(memory, " frames, tasks or callbacks, not "));
    for (void* block : blocks) detail::frame_deallocate(block, 100);

    const every_step_report timers = cancel_at_every_step([]() -> task<> {
        timer t = this_loop().set_timeout(1h, [] {});
        co_await sleep_for(1us);
        t.cancel();
    });
    CHECK(tells_of(timers, "2 timers (one watches the time limit), not 1"));

    const every_step_report permits = cancel_at_every_step([]() -> task<> {
        semaphore seats(2, "seats");
        auto permit = co_await seats.acquire(2);
        permit.detach();
        co_await sleep_for(1us);
        seats.release(2);
    });
    CHECK(tells_of(permits, "permits that nobody gave back: 2 of semaphore 'seats'"));
}

TEST_CASE("every step: the error of a task that nobody holds is a failure, but not that of a peer that is gone") {
    const auto with_helper = [](auto helper) {
        return cancel_at_every_step([helper]() -> task<> {
            spawn(helper).discard();
            co_await sleep_for(1us);
        });
    };
    const every_step_report wrong = with_helper([]() -> task<> {
        co_await yield();
        throw std::runtime_error("a helper");
    });
    CHECK(tells_of(wrong, "a task that nobody holds ended with std::runtime_error: a helper at "));
    const every_step_report peer = cancel_at_every_step([]() -> task<> {
        test::connection c = co_await test::connected();
        spawn(
            [](tcp_stream stream) -> task<> {
                std::byte into[1];
                for (;;) {
                    const std::size_t n = co_await stream.read_some(into);
                    if (n == 0) throw io_error(std::make_error_code(std::errc::connection_aborted), "read");
                    co_await stream.write_all(into);
                }
            },
            std::move(c.server))
            .discard();
        for (int i = 0; i < 3; ++i) {
            co_await c.client.write_all("x");
            std::byte into[1];
            co_await c.client.read_exactly(into);
        }
    });
    CHECK_MESSAGE(peer.ok(), peer.text());
}

TEST_CASE("every step: a run that does not end is a failure that says what it waits for; the search goes on") {
    struct local {
        static task<> never() { co_await sleep_for(10h); }
        static task<> hangs_in_cleanup() {
            auto child = spawn(goes_round, 3);
            bool was_cancelled = false;
            try {
                co_await child;
            } catch (const cancelled&) {
                was_cancelled = true;
            }
            if (was_cancelled) co_await shield(never);
        }
    };
    every_step_options options;
    options.time_limit = 5ms;
    const every_step_report report = cancel_at_every_step(local::hangs_in_cleanup, options);
    CHECK(tells_of(report, "cancelled after step 1"));
    CHECK(tells_of(report, "the main task does not end; what is left:\n    task 1: sleep"));
    CHECK(tells_of(report, "cancelled one look after step 1"));
}

TEST_CASE("every step: the check after a run may throw; ten failures are enough; so are most_runs") {
    const auto yields = []() -> task<> {
        for (int i = 0; i < 20; ++i) co_await yield();
    };
    int permits = 0;
    const every_step_report lost = cancel_at_every_step(yields, [&] {
        if (++permits != 1) throw std::logic_error("a permit is missing");
    });
    CHECK(lost.failures.size() == 10);
    CHECK(lost.runs == 11);
    CHECK(tells_of(lost, "the check after it threw std::logic_error: a permit is missing"));
    every_step_options few;
    few.most_runs = 7;
    const every_step_report given_up = cancel_at_every_step(yields, few);
    CHECK_FALSE(given_up.ok());
    CHECK(given_up.runs == 7);
    CHECK(tells_of(given_up, "given up after 7 runs"));
    CHECK_FALSE(every_step_report{}.ok());
}

TEST_CASE("every allocation: each fails once, and the program after it is whole") {
    struct local {
        static task<int> child(int n) {
            co_await yield();
            co_return n;
        }
        static task<int> program() {
            auto group_body = [](task_group& g) -> task<int> {
                auto a = g.spawn(child, 1);
                auto b = g.spawn(child, 2);
                const int x = co_await a;
                co_return x + co_await b;
            };
            co_return co_await with_task_group(group_body);
        }
    };
    const every_step_report report = fail_each_allocation(local::program);
    CHECK_MESSAGE(report.ok(), report.text());
    // the task, its frame, the group's, the body's, and two for each child
    CHECK(report.points == 8);
    CHECK(report.runs == 17);
}

TEST_CASE("every allocation: what a program without memory leaves behind is found, and so is a broken next run") {
    std::deque<void*> blocks;
    const every_step_report leak = fail_each_allocation([&]() -> task<> {
        blocks.push_back(detail::frame_allocate(64));
        co_await []() -> task<> { co_return; }();
        detail::frame_deallocate(blocks.back(), 64);
        blocks.pop_back();
    });
    CHECK(tells_of(leak, "without allocation 4: "));
    CHECK(leak.failures.size() == 1);
    for (void* block : blocks) detail::frame_deallocate(block, 64);

    bool broken = false;
    const every_step_report next = fail_each_allocation([&]() -> task<> {
        if (broken) throw std::logic_error("broken");
        broken = true;
        co_await []() -> task<> { co_return; }();
        broken = false;
    });
    CHECK(tells_of(next, "left alone: the main task ended with std::logic_error: broken"));
}

}  // namespace
