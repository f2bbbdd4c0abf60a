// The wall clock, which somebody may set while tasks wait for it.
#include <rondo/task/wall_clock.hpp>

#include "support/every_step.hpp"
#include "support/test.hpp"

#include <rondo/loop/forwarding_backend.hpp>
#include <rondo/sim/world.hpp>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;
using std::chrono::sys_days;
using std::chrono::system_clock;
using test::journal;

namespace {

constexpr auto year_2000 = sys_days(std::chrono::year(2000) / 1 / 1);

/// A backend whose wall clock the test sets. No test may set the one of the machine, so here a pair of sockets
/// stands for the descriptor by which the kernel tells of it.
class settable_clock : public forwarding_backend {
 public:
    using forwarding_backend::forwarding_backend;

    std::int64_t wall_now() noexcept override { return forwarding_backend::wall_now() + ahead_.count(); }

    int control(sys_op& what) noexcept override {
        if (what.what != sys_op::call::watch_clock) return forwarding_backend::control(what);
        ++watched;
        if (what.fd < 0) {
            if (refuses) return -EMFILE;
            sys_op pair{sys_op::call::stream_pair};
            const int result = forwarding_backend::control(pair);
            if (result < 0) return result;
            tells_ = pair.fds[1];
            return told_ = pair.fds[0];
        }
        char heard[16];
        sys_op take{.what = sys_op::call::try_receive, .fd = what.fd};
        take.data = heard;
        take.size = sizeof heard;
        forwarding_backend::control(take);
        return 0;
    }

    void set(duration ahead, bool is_told = true) {
        ahead_ = ahead;
        char news = 1;
        sys_op tell{.what = sys_op::call::try_send, .fd = tells_};
        tell.data = &news;
        tell.size = 1;
        if (is_told) CHECK(forwarding_backend::control(tell) == 1);
    }
    void reap(int fd) noexcept override {
        forwarding_backend::reap(fd);
        if (fd == told_) forwarding_backend::reap(tells_);
    }

    int watched = 0;
    bool refuses = false;

 private:
    duration ahead_{};
    int tells_ = -1, told_ = -1;
};

struct settable_clocks : backend_factory {
    std::unique_ptr<backend> make(const backend_options& options, std::string& why) override {
        auto made = std::make_unique<settable_clock>(choose_backend(test::backend_under_test(), options, why));
        clock = made.get();
        return made;
    }
    settable_clock* clock = nullptr;
};

/// Runs `program(clock)` on a loop whose wall clock it may set.
template <class F>
void with_settable_clock(F program) {
    settable_clocks made;
    loop l({.factory = &made});
    run_on(l, program, std::ref(*made.clock));
}

}  // namespace

TEST_CASE("wall clock: without a loop it is that of the system") {
    const auto before = system_clock::now();
    const auto shown = wall_now();
    CHECK(shown >= before);
    CHECK(shown <= system_clock::now());
}

TEST_CASE("wall clock: who sleeps until a time is not woken before the clock shows it") {
    test::run([]() -> task<> {
        for (const auto ahead : {3ms, 0ms, -1ms}) {
            const auto when = wall_now() + ahead;
            co_await sleep_until(when);
            CHECK(wall_now() >= when);
        }
        const auto seconds = std::chrono::floor<std::chrono::seconds>(wall_now());  // any precision
        co_await sleep_until(seconds);
        co_await sleep_until(sys_days(std::chrono::year(1970) / 1 / 1));
    });
}

TEST_CASE("wall clock: sleepers are woken in the order of their times") {
    journal order;
    test::run([&]() -> task<> {
        const auto begin = wall_now();
        co_await with_task_group([&](task_group& group) -> task<> {
            const auto sleeper = [&](system_clock::duration ahead, const char* label) -> task<> {
                co_await sleep_until(begin + ahead);
                order.add(label);
            };
            group.spawn(sleeper, 6ms, "c");
            group.spawn(sleeper, 2ms, "a");
            group.spawn(sleeper, 4ms, "b");
            co_return;
        });
    });
    CHECK(order.text() == "a b c");
}

TEST_CASE("wall clock: a clock that is set forward wakes who sleeps") {
    with_settable_clock([](settable_clock& clock) -> task<> {
        const time_point begin = now();
        auto sleeper = spawn([&]() -> task<> { co_await sleep_until(wall_now() + 24h); });
        auto later = spawn([&]() -> task<> { co_await sleep_until(wall_now() + 48h); });
        co_await sleep_for(1ms);
        clock.set(25h);
        co_await sleeper;
        CHECK(now() - begin < 1h);
        co_await immediate();
        CHECK_FALSE(later.done());
        clock.set(49h);
        co_await later;
    });
}

TEST_CASE("wall clock: a clock that is set back lets sleepers wait on") {
    with_settable_clock([](settable_clock& clock) -> task<> {
        const auto when = wall_now() + 2ms;
        auto sleeper = spawn([&]() -> task<> {
            co_await sleep_until(when);
            CHECK(wall_now() >= when);
        });
        co_await sleep_for(1ms);
        clock.set(-1h);
        co_await sleep_for(5ms);
        CHECK_FALSE(sleeper.done());
        clock.set(1h);
        co_await sleeper;
    });
}

TEST_CASE("wall clock: also before the loop has heard of it") {
    with_settable_clock([](settable_clock& clock) -> task<> {
        const auto when = wall_now() + 1ms;
        auto sleeper = spawn([&]() -> task<> {
            co_await sleep_until(when);
            CHECK(wall_now() >= when);
        });
        co_await yield();
        clock.set(-20ms, false);
        co_await sleep_for(2ms);
        CHECK_FALSE(sleeper.done());
        co_await sleeper;  // it looks again
    });
}

TEST_CASE("wall clock: a loop watches the clock while somebody sleeps, by one descriptor") {
    with_settable_clock([](settable_clock& clock) -> task<> {
        co_await sleep_for(1ms);
        CHECK(clock.watched == 0);
        const std::size_t before = clock.open_descriptors();
        auto one = spawn([]() -> task<> { co_await sleep_until(wall_now() + 1h); });
        auto other = spawn([]() -> task<> { co_await sleep_until(wall_now() + 2h); });
        co_await yield();
        CHECK(clock.watched == 1);
        CHECK(clock.open_descriptors() == before + 2);  // of the pair that stands for it
        CHECK(clock.armed() == 1);
        one.cancel();
        other.cancel();
        co_await immediate();
        CHECK(clock.armed() == 0);
        CHECK(clock.open_descriptors() == before);
        for (int i = 0; i < 3; ++i) co_await sleep_until(wall_now() + 1ms);
        CHECK(clock.watched > 1);
        co_await immediate();
        CHECK(clock.open_descriptors() == before);
    });
}

TEST_CASE("wall clock: without a descriptor to watch it the sleep fails") {
    with_settable_clock([](settable_clock& clock) -> task<> {
        clock.refuses = true;
        bool thrown = false;
        try {
            co_await sleep_until(wall_now() + 1h);
        } catch (const io_error& e) {
            thrown = e.code() == std::errc::too_many_files_open;
        }
        CHECK(thrown);
        const auto got = co_await attempt(sleep_until(wall_now() + 1h));
        CHECK(got.error() == std::errc::too_many_files_open);
        clock.refuses = false;
        co_await sleep_until(wall_now() + 1ms);
    });
}

TEST_CASE("wall clock: it can be cancelled at every step, also as an arm") {
    const int points = test::cancel_at_every_step([]() -> task<> {
        auto other = spawn([]() -> task<> { co_await sleep_until(wall_now() + 1ms); });
        auto chosen = co_await select_one(sleep_until(wall_now() + 1h), sleep_until(wall_now() + 2ms));
        CHECK(chosen.index() == 1);
        const auto past = co_await select_one(sleep_until(wall_now()), sleep_for(1h));
        CHECK(past.index() == 0);
        co_await other;
    });
    CHECK(points > 2);
}

TEST_CASE("wall clock: an arm whose clock is set back waits on") {
    with_settable_clock([](settable_clock& clock) -> task<> {
        auto sleeper = spawn([]() -> task<int> {
            const auto chosen = co_await select_one(sleep_until(wall_now() + 1ms), sleep_for(10s));
            co_return static_cast<int>(chosen.index());
        });
        co_await yield();
        clock.set(-1h, false);
        co_await sleep_for(5ms);
        CHECK_FALSE(sleeper.done());
        clock.set(1h);
        const int arm = co_await sleeper;
        CHECK(arm == 0);
    });
}

TEST_CASE("wall clock: a time without an end never comes, and is no reason to overflow") {
    test::run([]() -> task<> {
        using years = std::chrono::duration<std::int64_t, std::chrono::years::period>;
        const auto never_comes = std::chrono::time_point<system_clock, years>(years(1'000'000));
        const auto got = co_await move_on_after(1ms, sleep_until(never_comes));
        CHECK_FALSE(got);
        const auto also = co_await move_on_after(1ms, sleep_until(system_clock::time_point::max()));
        CHECK_FALSE(also);
        co_await sleep_until(system_clock::time_point::min());
    });
}

TEST_CASE("wall clock: the dump names the time") {
    if (!test::on_sim()) return;  // where the calendar is known
    test::run([]() -> task<> {
        auto sleeper = spawn([]() -> task<> { co_await sleep_until(year_2000 + 36h + 90s); });
        co_await test::others_first();
        CHECK(await_tree().text().find("sleep until 2000-01-02 12:01:30 UTC") != std::string::npos);
        sleeper.cancel();
    });
}

TEST_CASE("wall clock: a sleep that nobody ends is no deadlock, and ends at its time in a simulated world") {
    loop l({.kind = backend_kind::sim});
    run_on(l, []() -> task<> {
        CHECK(wall_now() == year_2000);
        co_await sleep_until(sys_days(std::chrono::year(2000) / 3 / 1));
        CHECK(wall_now() == sys_days(std::chrono::year(2000) / 3 / 1));
    });
    CHECK(l.now() == time_point(60 * 24h));  // a leap year
    CHECK_FALSE(l.alive());
}

TEST_CASE("world: a host whose calendar is set wakes who sleeps by it, and no other host does") {
    world w;
    time_point woke{}, woke_elsewhere{};
    const auto sleeper = [&w](time_point& at) -> task<> {
        co_await sleep_until(year_2000 + 10h);
        at = w.now();
    };
    w.host("a").run(sleeper, std::ref(woke));
    w.host("b").run(sleeper, std::ref(woke_elsewhere));
    w.run([&]() -> task<> {
        co_await sleep_for(1h);
        w.host("a").clock_offset(2h);  // it sleeps on
        co_await sleep_for(1h);
        w.host("a").clock_offset(-2h);
        co_await sleep_for(7h);
        CHECK(woke == time_point{});
        w.host("a").clock_offset(1h);
        co_await w.wait_all_blocked();
        CHECK(woke == time_point(9h));
        co_await sleep_for(2h);
    });
    CHECK(woke_elsewhere == time_point(10h));
}

TEST_CASE("world: a calendar on clocks that drift is right, and a crash ends who sleeps by it") {
    world w;
    time_point woke{};
    bool unwound = false;
    w.host("fast").clock_drift(100'000).run([&]() -> task<> {
        co_await sleep_until(year_2000 + 11s);
        woke = w.now();
        CHECK(wall_now() >= year_2000 + 11s);
    });
    w.host("gone").run([&]() -> task<> {
        struct note {
            bool& left;
            ~note() { left = true; }
        } here{unwound};
        co_await sleep_until(year_2000 + 1h);
    });
    w.run([&]() -> task<> {
        co_await sleep_for(20s);
        w.host("gone").crash();
        co_await w.wait_all_blocked();
        CHECK(unwound);
    });
    CHECK(woke == time_point(10s));
}
