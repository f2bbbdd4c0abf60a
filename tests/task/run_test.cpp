// run_main: signals that end the main task, and through it the process.
#include "support/child_process.hpp"

#include <rondo/os/signal.hpp>

#include <csignal>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

using namespace rondo;
using namespace std::chrono_literals;
using test::child_process;

namespace {

void say(int to, std::string_view word) {
    static_cast<void>(!::write(to, (std::string(word) + ' ').c_str(), word.size() + 1));
}

/// Waits for what only the outside could bring, and says when it unwinds.
task<> waits(int to) {
    struct says_at_the_end {
        int to;
        ~says_at_the_end() { say(to, "unwound"); }
    } const guard{to};
    const remote keeps_it_alive = this_loop().remote();
    event never_set;
    say(to, "ready");
    co_await never_set.wait();
}

TEST_CASE("run_main: a signal cancels the main task, and then ends the process") {
    for (const int signal : {SIGINT, SIGTERM}) {
        CAPTURE(signal);
        const child_process child([](int to) { return run_main(waits, to); });
        CHECK(child.word() == "ready");
        child.signal(signal);
        CHECK(child.word() == "unwound");
        const int status = child.ended();
        REQUIRE(WIFSIGNALED(status));
        CHECK(WTERMSIG(status) == signal);
    }
}

TEST_CASE("run_main: a second signal ends the process at once") {
    const child_process child([](int to) {
        return run_main(
            [](int out) -> task<> {
                auto cleans_for_ever = []() -> task<> {
                    const remote keeps_it_alive = this_loop().remote();
                    event never_set;
                    co_await never_set.wait();
                };
                auto body = [&](task_group& group) -> task<> {
                    group.spawn(waits, out);  // two signals that come before one is heard are one
                    co_await shield(cleans_for_ever);
                };
                co_await with_task_group(body);
                say(out, "never");
            },
            to);
    });
    CHECK(child.word() == "ready");
    child.signal(SIGINT);
    CHECK(child.word() == "unwound");
    child.signal(SIGINT);
    CHECK(child.word() == "");
    const int status = child.ended();
    REQUIRE(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGINT);
}

TEST_CASE("run_main: what a main task makes of its cancellation is its own affair") {
    const child_process child([](int to) {
        return run_main(
            [](int out) -> task<int> {
                try {
                    co_await waits(out);
                } catch (const cancelled&) {
                }
                co_return 7;
            },
            to);
    });
    CHECK(child.word() == "ready");
    child.signal(SIGTERM);
    CHECK(child.word() == "unwound");
    const int status = child.ended();
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 7);
}

TEST_CASE("run_main: a signal that somebody else listens for is theirs") {
    const child_process child([](int to) {
        return run_main(
            [](int out) -> task<int> {
                {
                    signals asked{SIGTERM};
                    say(out, "ready");
                    const int got = co_await asked.next();
                    say(out, got == SIGTERM ? "mine" : "other");
                }
                co_await waits(out);
                co_return 0;
            },
            to);
    });
    CHECK(child.word() == "ready");
    child.signal(SIGTERM);
    CHECK(child.word() == "mine");
    CHECK(child.word() == "ready");
    child.signal(SIGTERM);
    CHECK(child.word() == "unwound");
    CHECK(WIFSIGNALED(child.ended()));
}

TEST_CASE("run_main: a signal that was ignored stays ignored, and one may decline the whole") {
    {
        const child_process child([](int to) {
            std::signal(SIGINT, SIG_IGN);
            return run_main(waits, to);
        });
        CHECK(child.word() == "ready");
        child.signal(SIGINT);
        ::usleep(20'000);
        child.signal(SIGTERM);
        CHECK(child.word() == "unwound");
        const int status = child.ended();
        REQUIRE(WIFSIGNALED(status));
        CHECK(WTERMSIG(status) == SIGTERM);
    }
    {
        const child_process child([](int to) {
            loop_options options;
            options.cancel_on_signals = false;
            return run_main(options, waits, to);
        });
        CHECK(child.word() == "ready");
        child.signal(SIGTERM);
        CHECK(child.word() == "");  // it did not unwind
        CHECK(WIFSIGNALED(child.ended()));
    }
}

}  // namespace
