// What a program does wrong, and the message it gets. Each runs in a child process that must abort.
#include "support/net.hpp"

#include <csignal>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

/// What `program` writes to standard error before it aborts; "(did not abort)" if it does not.
template <class Program>
std::string abort_message(Program program) {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    std::fflush(nullptr);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        dup2(ends[1], 2);
        std::signal(SIGABRT, SIG_DFL);
        alarm(20);
        detail::debug_enabled = true;
        program();
        _exit(0);
    }
    close(ends[1]);
    std::string text;
    char piece[4096];
    for (ssize_t n; (n = read(ends[0], piece, sizeof piece)) > 0;)
        text.append(piece, static_cast<std::size_t>(n));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    // A sanitizer may turn the abort into an exit.
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) text += "(did not abort)";
    return text;
}

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

task<int> one() { co_return 1; }

#define CHECK_ABORTS(text, part)                      \
    do {                                              \
        const std::string printed = (text);           \
        CAPTURE(printed);                             \
        CHECK(has(printed, part));                    \
        CHECK(!has(printed, "(did not abort)"));      \
    } while (false)

TEST_CASE("misuse: a task that is never awaited is named by the line that made it") {
    const std::string text = abort_message([] { static_cast<void>(one()); });
    CHECK_ABORTS(text, "a task was made but never awaited");
    CHECK(has(text, "misuse_test.cpp"));
}

TEST_CASE("misuse: an awaitable that is not rondo's would never resume the task") {
    CHECK_ABORTS(abort_message([] {
        rondo::run([]() -> task<> { co_await std::suspend_always{}; });
    }), "an awaitable that is not rondo's");
}

TEST_CASE("misuse: a task is awaited once") {
    CHECK_ABORTS(abort_message([] {
        rondo::run([]() -> task<> {
            task<int> t = one();
            co_await std::move(t);
            co_await std::move(t);
        });
    }), "a task is awaited once");
}

TEST_CASE("misuse: a loop and its handles belong to one thread") {
    CHECK_ABORTS(abort_message([] {
        loop l;
        timer t = l.set_timeout(1h, [] {});
        std::thread([&] { t.cancel(); }).join();
    }), "a loop is for the thread that made it");
    CHECK_ABORTS(abort_message([] {
        loop l;
        std::thread([&] { l.run(); }).join();
    }), "a loop is for the thread that made it");
}

TEST_CASE("misuse: a wait without a running loop says so") {
    CHECK_ABORTS(abort_message([] { static_cast<void>(spawn(one)); }), "no rondo loop runs on this thread");
}

TEST_CASE("misuse: a task cannot await itself, and a handle has one awaiter") {
    CHECK_ABORTS(abort_message([] {
        rondo::run([]() -> task<> {
            task_handle<> self;
            self = spawn([](task_handle<>& h) -> task<> { co_await h; }, std::ref(self));
            co_await sleep_for(1h);
        });
    }), "a task awaits itself");
}

TEST_CASE("misuse: an error nobody handles ends the process, with the line of the task") {
    const std::string text = abort_message([] {
        rondo::run([]() -> task<> {
            spawn([]() -> task<> {
                throw std::runtime_error("lost and found");
                co_return;
            });
            co_await sleep_for(1h);
        });
    });
    CHECK_ABORTS(text, "lost and found");
    CHECK(has(text, "misuse_test.cpp"));
}

TEST_CASE("misuse: a task that swallows `cancelled` for ever is stopped in bounded time") {
    CHECK_ABORTS(abort_message([] {
        rondo::run([]() -> task<> {
            spawn([]() -> task<> {
                for (;;) {
                    try {
                        co_await yield();
                    } catch (const cancelled&) {
                    }
                }
            });
            co_await yield();
        });
    }), "swallows `cancelled` for ever");
}

TEST_CASE("misuse: after fork the child may not use the loop") {
    if (test::on_sim()) return;  // nothing of the kernel's is shared
    CHECK_ABORTS(abort_message([] {
        loop l;
        l.set_timeout(1ms, [] {});
        const pid_t child = fork();
        if (child == 0) {
            l.run();
            _exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) _exit(0);
        std::abort();
    }), "fork");
}

TEST_CASE("misuse: a received buffer must not outlive its loop, and the message says so") {
    struct local {
        static task<buffer> receive_one() {
            auto c = co_await test::connected();
            co_await c.client.write_all("x");
            co_return co_await c.server.receive();
        }
    };
    CHECK_ABORTS(abort_message([] { const buffer kept = rondo::run(local::receive_one); }),
                 "a received buffer outlives its loop");
}

#if RONDO_GCC12
task<> awaits_in_a_condition(bool& ran) {
    // lint: allow - GCC 12 miscompiles this shape, which is the point
    if (co_await one()) ran = true;
}
task<> awaits_in_a_loop(int& left) {
    // lint: allow - and this one
    while (co_await one()) {
        if (--left == 0) co_return;
    }
}

TEST_CASE("misuse: a coroutine that GCC 12 miscompiles is diagnosed instead of corrupting memory") {
    const std::string text = abort_message([] {
        bool ran = false;
        rondo::run(awaits_in_a_condition, std::ref(ran));
    });
    CHECK_ABORTS(text, "GCC 12 miscompiled this coroutine");
    CHECK_ABORTS(abort_message([] {
        int left = 3;
        rondo::run(awaits_in_a_loop, std::ref(left));
    }), "GCC 12 miscompiled this coroutine");
}
#endif

}  // namespace
