// "Cancel at every step": runs a program again and again, and cancels its main task at every point where
// it could be cancelled, until a run completes before its turn comes. After each run nothing may be left.
#pragma once

#include "net.hpp"

namespace test {

/// How one such run ended.
enum class ending { completed, cancelled_meanwhile, failed };

namespace detail {

inline rondo::task<> cancel_after(rondo::task_handle<>& victim, int yields) {
    for (int i = 0; i < yields; ++i) co_await rondo::yield();
    if (!victim.done()) victim.cancel();
}

}  // namespace detail

/// Runs `program()` on a loop of its own, for `turns` turns and then `yields` places in the ready queue;
/// then cancels it and waits for its end.
template <class Program>
ending run_and_cancel(Program program, int turns, int yields) {
    CAPTURE(turns);
    CAPTURE(yields);
    const std::size_t frames = rondo::detail::frames_live();
    const std::size_t descriptors = open_descriptors();
    ending ended = ending::completed;
    {
        rondo::loop l;
        bool hung = false;
        // A helper may lose its connection when the program goes; anything else is a failure.
        l.on_unhandled([](std::exception_ptr error, std::source_location, void*) {
            try {
                std::rethrow_exception(error);
            } catch (const std::system_error&) {
            } catch (const std::exception& e) {
                FAIL_CHECK(e.what());
            }
        });
        rondo::timer watchdog = l.set_timeout(60s, [&] {
            hung = true;
            l.stop();
        });
        watchdog.unref();
        rondo::task_handle<> main = rondo::spawn_on(l, program);
        for (int i = 0; i < turns && !main.done() && !hung; ++i) l.run_once();
        if (!main.done()) {
            if (yields == 0) {
                main.cancel();
            } else {
                rondo::spawn_on(l, detail::cancel_after, std::ref(main), yields).discard();
            }
            const bool over =
                l.run_until([](void* m) { return static_cast<rondo::task_handle<>*>(m)->done(); }, &main);
            CHECK(over);
            ended = ending::cancelled_meanwhile;
        }
        CHECK_FALSE(hung);
        l.drain_root();
        REQUIRE(main.done());
        if (main.state() == rondo::task_state::failed) ended = ending::failed;
        CHECK(main.state() != rondo::task_state::failed);
        CHECK(l.stats().tasks == 0);
        CHECK(l.stats().operations == 0);
        CHECK(l.stats().timers == 1);  // the watchdog
        CHECK(simulated_descriptors(l) == 0);
        watchdog.cancel();
    }
    CHECK(rondo::detail::frames_live() == frames);
    CHECK(open_descriptors() == descriptors);
    return ended;
}

/// The whole harness. Gives how many turns the program takes by itself.
template <class Program>
int cancel_at_every_step(Program program) {
    int longest = 0;
    for (int yields = 0; yields < 4; ++yields) {
        for (int turns = 0;; ++turns) {
            REQUIRE(turns < 5000);
            const ending ended = run_and_cancel(program, turns, yields);
            if (ended == ending::failed) return -1;
            longest = std::max(longest, turns);
            if (ended == ending::completed) break;
        }
    }
    return longest;
}

}  // namespace test
