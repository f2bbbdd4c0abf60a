// The stall watchdog: it tells of a step while that is still stuck, so each test holds its step until it has.
#include "support/test.hpp"

#include <rondo/observe/stall_watchdog.hpp>

#include <atomic>
#include <mutex>
#include <semaphore>
#include <thread>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

/// Keeps what is reported, and lets the stuck step go on when its stall was.
struct reports {
    static void add(const stall& s, void* self) noexcept {
        auto& its = *static_cast<reports*>(self);
        {
            const std::lock_guard lock(its.guard);
            its.all.push_back(s);
        }
        s.over ? its.over.release() : its.told.release();
    }
    stall_options options() {
        stall_options o;
        o.limit = 1ms;
        o.report = &add;
        o.context = this;
        return o;
    }
    stall at(std::size_t i) {
        const std::lock_guard lock(guard);
        return all.at(i);
    }
    std::size_t count() {
        const std::lock_guard lock(guard);
        return all.size();
    }
    std::mutex guard;
    std::vector<stall> all;
    std::counting_semaphore<> told{0};
    std::counting_semaphore<> over{0};
};

std::uint32_t line_of_wait = 0;

task<> gets_stuck(reports& r) {
    line_of_wait = __LINE__ + 1;
    co_await sleep_for(1us);
    r.told.acquire();
}

template <class F>
void run_under(observer& by, F&& fn) {
    loop_options options;
    options.observer = &by;
    rondo::run(options, std::forward<F>(fn));
}

}  // namespace

TEST_SUITE_BEGIN("threads");

TEST_CASE("stall_watchdog: names the task, where it was spawned, and where it has waited last (hazard F4)") {
    reports r;
    stall_watchdog watchdog(r.options());
    const auto line = std::source_location::current().line() + 2;
    run_under(watchdog, [&]() -> task<> {
        auto child = spawn(gets_stuck, std::ref(r));
        co_await child;
    });
    const stall s = r.at(0);
    CHECK(s.task == 2);
    CHECK(s.spawned.line() == line);
    CHECK(s.place.line() == line_of_wait);
    CHECK(std::string_view(s.place.file_name()).ends_with("stall_watchdog_test.cpp"));
    CHECK(s.lasts >= 1ms);
    CHECK_FALSE(s.over);
}

TEST_CASE("stall_watchdog: says when it went on") {
    reports r;
    stall_watchdog watchdog(r.options());
    run_under(watchdog, [&]() -> task<> {
        co_await gets_stuck(r);
        co_await sleep_for(1us);
    });
    r.over.acquire();
    const stall s = r.at(1);
    CHECK(s.over);
    CHECK(s.task == 1);
    CHECK(s.lasts >= r.at(0).lasts);
}

TEST_CASE("stall_watchdog: a callback that is stuck is named by where it was made") {
    reports r;
    stall_watchdog watchdog(r.options());
    const auto line = std::source_location::current().line() + 2;
    run_under(watchdog, [&]() -> task<> {
        this_loop().set_immediate([&] { r.told.acquire(); });
        co_await immediate();
    });
    CHECK(r.at(0).task == 0);
    CHECK(r.at(0).place.line() == line);
}

TEST_CASE("stall_watchdog: of many stalls only so many a minute are reported") {
    reports r;
    stall_options options = r.options();
    options.per_minute = 2;
    stall_watchdog watchdog(options);
    run_under(watchdog, [&]() -> task<> {
        for (std::uint64_t i = 1; i <= 5; ++i) {
            co_await yield();
            while (watchdog.stalls() < i) std::this_thread::yield();
        }
    });
    CHECK(watchdog.stalls() == 5);
    std::size_t begun = 0;
    for (std::size_t i = 0; i < r.count(); ++i) begun += !r.at(i).over;
    CHECK(begun == 2);
}

TEST_CASE("stall_watchdog: a loop that waits in poll, or takes short steps, is no stall") {
    reports r;
    stall_options options = r.options();
    options.limit = 1h;
    stall_watchdog watchdog(options);
    run_under(watchdog, []() -> task<> {
        for (int i = 0; i < 100; ++i) co_await sleep_for(10us);
    });
    CHECK(watchdog.stalls() == 0);
    CHECK(r.count() == 0);
}

namespace {

struct logged {
    std::mutex guard;
    std::vector<std::string> lines;
    std::atomic<bool> any{false};
};

}  // namespace

TEST_CASE("stall_watchdog: without a report of its own it logs a warning") {
    logged log;
    set_log_sink(
        [](const log_record& r, void* self) noexcept {
            auto& its = *static_cast<logged*>(self);
            if (r.level != log_level::warning) return;
            const std::lock_guard lock(its.guard);
            its.lines.emplace_back(r.message);
            its.any = true;
        },
        &log);
    {
        stall_watchdog watchdog({.limit = 1ms});
        run_under(watchdog, [&]() -> task<> {
            auto child = spawn([&]() -> task<> {
                while (!log.any) std::this_thread::yield();
                co_return;
            });
            co_await child;
        });
    }
    set_log_sink(nullptr);
    REQUIRE(!log.lines.empty());
    CHECK(log.lines[0].find("task 2, spawned at ") == 0);
    CHECK(log.lines[0].find("stall_watchdog_test.cpp:") != std::string::npos);
    CHECK(log.lines[0].find("has held up its loop for ") != std::string::npos);
}

TEST_SUITE_END();
