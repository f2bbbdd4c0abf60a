// signals: waiting for SIGTERM and the like as for anything else.
#include "support/every_step.hpp"

#include <rondo/os/signal.hpp>
#include <rondo/sim/world.hpp>

#include <csignal>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

/// Signals that nobody listens for do nothing meanwhile, instead of ending the tests.
struct harmless {
    harmless() {
        for (const int signal : {SIGUSR1, SIGUSR2}) std::signal(signal, SIG_IGN);
    }
    ~harmless() {
        for (const int signal : {SIGUSR1, SIGUSR2}) std::signal(signal, SIG_DFL);
    }
};

TEST_CASE("signals: a task waits for one, and gets its number") {
    test::run([]() -> task<> {
        signals asked{SIGUSR1, SIGUSR2};
        auto raises = []() -> task<> {
            co_await immediate();
            std::raise(SIGUSR2);
        };
        spawn(raises).discard();
        const int which = co_await asked.next();
        CHECK(which == SIGUSR2);
    });
}

TEST_CASE("signals: what comes while nobody waits is kept, the same one once, the lowest first") {
    test::run([]() -> task<> {
        signals asked{SIGUSR1, SIGUSR2};
        std::raise(SIGUSR2);
        std::raise(SIGUSR1);
        std::raise(SIGUSR1);
        co_await immediate();
        co_await immediate();
        const int first = co_await asked.next();
        CHECK(first == SIGUSR1);
        CHECK(asked.try_next() == SIGUSR2);
        CHECK(!asked.try_next());
        auto waits = [&asked]() -> task<> { static_cast<void>(co_await asked.next()); };
        const auto none = co_await move_on_after(5ms, waits);
        CHECK(!none);
    });
}

TEST_CASE("signals: each of several listeners hears of a signal") {
    test::run([]() -> task<> {
        signals one{SIGUSR1};
        signals other{SIGUSR1};
        std::raise(SIGUSR1);
        const int first = co_await one.next();
        const int second = co_await other.next();
        CHECK(first == SIGUSR1);
        CHECK(second == SIGUSR1);
    });
}

TEST_CASE("signals: as an arm of select_one, a signal that came to a losing arm is kept") {
    test::run([]() -> task<> {
        signals asked{SIGUSR1};
        {
            auto chosen = co_await select_one(asked.next(), sleep_for(1ms));
            CHECK(chosen.index() == 1);
        }
        std::raise(SIGUSR1);
        {
            auto chosen = co_await select_one(asked.next(), sleep_for(10s));
            REQUIRE(chosen.index() == 0);
            CHECK(chosen.get<0>() == SIGUSR1);
        }
        event ready;
        ready.set();
        for (int i = 0; i < 20; ++i) {  // when both are there, either may be chosen
            std::raise(SIGUSR1);
            co_await immediate();
            co_await immediate();
            auto chosen = co_await select_one(ready.wait(), asked.next());
            const bool lost = chosen.index() == 0;
            CHECK(asked.try_next().has_value() == lost);
        }
    });
}

TEST_CASE("signals: one that cannot be caught is an error, and so is what is no signal") {
    test::run([]() -> task<> {
        for (const int bad : {SIGKILL, SIGSTOP, 0, -1, 1000}) {
            std::error_code code;
            try {
                signals none{bad};
            } catch (const io_error& e) {
                code = e.code();
            }
            CHECK(code == std::errc::invalid_argument);
        }
        co_return;
    });
}

TEST_CASE("signals: when the last listener has gone, a signal does what it did") {
    static volatile std::sig_atomic_t heard = 0;
    struct sigaction ours = {}, before = {};
    ours.sa_handler = [](int) { heard = heard + 1; };
    sigaction(SIGUSR1, &ours, &before);
    test::run([]() -> task<> {
        {
            signals asked{SIGUSR1};
            std::raise(SIGUSR1);
            const int which = co_await asked.next();
            CHECK(which == SIGUSR1);
            CHECK(heard == 0);
        }
        std::raise(SIGUSR1);
        CHECK(heard == 1);
    });
    sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("signals: a temporary one can be awaited") {
    test::run([]() -> task<> {
        auto raises = []() -> task<> {
            co_await immediate();
            std::raise(SIGUSR1);
        };
        spawn(raises).discard();
        const int which = co_await signals{SIGUSR1}.next();
        CHECK(which == SIGUSR1);
    });
}

TEST_CASE("signals: a world sends them to its hosts") {
    world w;
    int got = 0;
    host& server = w.host("server").run([&]() -> task<> {
        signals asked{SIGTERM, SIGHUP};
        got = co_await asked.next();
    });
    w.run([&]() -> task<> {
        co_await sleep_for(5s);
        server.signal(SIGHUP);
        co_await sleep_for(1s);
    });
    CHECK(got == SIGHUP);
}

TEST_CASE("cancel at every step: a wait for signals loses none") {
    const harmless unheard;
    const int points = test::cancel_at_every_step([]() -> task<> {
        signals asked{SIGUSR1, SIGUSR2};
        auto raises = []() -> task<> {
            std::raise(SIGUSR1);
            co_await immediate();
            std::raise(SIGUSR2);
        };
        spawn(raises).discard();
        static_cast<void>(co_await asked.next());
        static_cast<void>(co_await asked.next());
    });
    CHECK(points > 2);
}

}  // namespace
