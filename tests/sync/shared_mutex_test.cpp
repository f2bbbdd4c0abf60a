// shared_mutex: many readers or one writer, first come, first served.
#include "support/arms.hpp"
#include "support/every_step.hpp"
#include "support/steps.hpp"

#include <deque>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

task<> read(shared_mutex& m, journal& j, const char* name) {
    auto guard = co_await m.lock_shared();
    j.add(name);
    co_await yield();
    co_await yield();
}

task<> write(shared_mutex& m, journal& j, const char* name) {
    auto guard = co_await m.lock();
    CHECK(m.readers() == 0);
    j.add(name);
    co_await yield();
}

auto start(task<> (*what)(shared_mutex&, journal&, const char*), shared_mutex& m, journal& j, const char* name) {
    return spawn(what, std::ref(m), std::ref(j), name);
}

TEST_CASE("shared_mutex: readers share it, a writer has it alone") {
    struct local {
        static task<> body() {
            shared_mutex m("cache");
            {
                auto a = co_await m.lock_shared();
                auto b = m.try_lock_shared();
                CHECK(b);
                CHECK(m.readers() == 2);
                CHECK_FALSE(m.try_lock());
                a.unlock();
                b.unlock();
            }
            {
                auto w = co_await m.lock();
                CHECK(m.locked());
                CHECK_FALSE(m.try_lock_shared());
                CHECK_FALSE(m.try_lock());
                w = {};
            }
            CHECK_FALSE(m.locked());
            auto w = m.try_lock();
            CHECK(w);
            CHECK(m.name() == std::string("cache"));
        }
    };
    test::run(local::body);
}

TEST_CASE("shared_mutex: neither a stream of readers nor one of writers starves the other" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            shared_mutex m;
            auto first = co_await m.lock_shared();
            std::vector<task_handle<>> all;
            for (const char* name : {"w1", "r1", "r2", "w2", "w3", "r3"})
                all.push_back(start(*name == 'w' ? write : read, m, j, name));
            co_await yield();
            CHECK(m.waiting() == 6);  // r1 and r2 too: a writer asked before them
            CHECK_FALSE(m.try_lock_shared());
            first.unlock();
            for (auto& each : all) co_await each;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "w1 r1 r2 w2 w3 r3");
}

TEST_CASE("shared_mutex: readers who stand next to each other get it together" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            shared_mutex m;
            auto mine = co_await m.lock();
            std::vector<task_handle<>> all;
            for (const char* name : {"r1", "r2", "r3", "w1", "r4"})
                all.push_back(start(*name == 'w' ? write : read, m, j, name));
            co_await yield();
            mine.unlock();
            CHECK(m.readers() == 3);
            CHECK(m.waiting() == 2);
            for (auto& each : all) co_await each;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "r1 r2 r3 w1 r4");
}

TEST_CASE("shared_mutex: when a waiting writer is cancelled, the readers behind it join those who read" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            shared_mutex m;
            auto mine = co_await m.lock_shared();
            auto w = start(write, m, j, "w");
            auto r1 = start(read, m, j, "r1");
            auto r2 = start(read, m, j, "r2");
            co_await yield();
            CHECK(m.waiting() == 3);
            w.cancel();
            CHECK(m.readers() == 3);
            co_await r1;
            co_await r2;
            CHECK(m.readers() == 1);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "r1 r2");
}

TEST_CASE("shared_mutex: a cancel that comes after the hand-over does not take it back" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            shared_mutex m;
            auto mine = co_await m.lock();
            auto w = start(write, m, j, "w");
            auto r = start(read, m, j, "r");
            co_await yield();
            mine.unlock();
            w.cancel();
            co_await r;
            CHECK(w.state() == task_state::cancelled);
            CHECK(m.readers() == 0);
            CHECK_FALSE(m.locked());
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "w r");
}

TEST_CASE("shared_mutex: a writer that locks it again, or reads, gets an error at once") {
    struct local {
        static task<> body() {
            shared_mutex m("twice");
            auto mine = co_await m.lock();
            const auto again = co_await attempt(m.lock());
            CHECK(again.error() == std::errc::resource_deadlock_would_occur);
            const auto reads = co_await attempt(m.lock_shared());
            CHECK(reads.error() == std::errc::resource_deadlock_would_occur);
            CHECK_THROWS_AS(throw io_error(reads.error(), "lock"), io_error);
            std::string message;
            try {
                auto guard = co_await m.lock_shared();
            } catch (const std::system_error& e) {
                message = e.what();
            }
            CHECK(message.starts_with("lock shared_mutex 'twice', which the task holds already"));
        }
    };
    test::run(local::body);
}

TEST_CASE("shared_mutex: a circle through writers is found when it closes, a reader that waits being in it too" *
          doctest::test_suite("order")) {
    struct local {
        static task<std::string> read_then_lock(shared_mutex& m, mutex& other) {
            auto guard = co_await other.lock();
            co_await yield();
            std::string report;
            try {
                auto reads = co_await m.lock_shared();
                co_await yield();
            } catch (const deadlock_error& e) {
                report = e.what();
            }
            co_return report;
        }
        static task<std::string> write_then_lock(shared_mutex& m, mutex& other) {
            auto guard = co_await m.lock();
            co_await yield();
            std::string report;
            try {
                auto locks = co_await other.lock();
            } catch (const deadlock_error& e) {
                report = e.what();
            }
            co_return report;
        }
        static task<> body() {
            shared_mutex m("cache");
            mutex other("log");
            auto a = spawn(read_then_lock, std::ref(m), std::ref(other));
            auto b = spawn(write_then_lock, std::ref(m), std::ref(other));
            const std::string first = co_await a;
            const std::string report = co_await b;
            CHECK(first.empty());
            CAPTURE(report);
            CHECK(report.find("task 3 holds shared_mutex 'cache' and waits for mutex 'log'") != std::string::npos);
            CHECK(report.find("task 2 holds mutex 'log' and waits for shared_mutex 'cache'") != std::string::npos);
        }
    };
    test::run(local::body);
}

TEST_CASE("shared_mutex: a deadlock report counts its readers") {
    struct local {
        static task<> body(shared_mutex& m) {
            auto reads = co_await m.lock_shared();
            auto too = co_await m.lock_shared();
            auto writes = co_await m.lock();
        }
    };
    shared_mutex m("cache");
    std::string report;
    try {
        test::run(local::body, std::ref(m));
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CHECK(report.find("waits: shared_mutex 'cache', read by 2 tasks, 1 waiting") != std::string::npos);
}

TEST_CASE("shared_mutex: an arm that lost unlocks it") {
    struct local {
        static task<> body(journal& j) {
            shared_mutex m;
            auto reads = co_await test::started_arm(m.lock_shared());
            CHECK(reads.finished());
            auto writer = start(write, m, j, "w");
            co_await yield();
            reads.wait.give_back();
            co_await writer;
            auto writes = co_await test::started_arm(m.lock());
            CHECK(writes.finished());
            auto reader = start(read, m, j, "r");
            co_await yield();
            writes.wait.give_back();
            co_await reader;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "w r");
}

TEST_CASE("shared_mutex: cancelled at every step") {
    struct local {
        static task<> user(shared_mutex& m, bool writes) {
            for (int i = 0; i < 2; ++i) {
                if (writes) {
                    auto guard = co_await m.lock();
                    co_await immediate();
                } else {
                    auto guard = co_await m.lock_shared();
                    co_await immediate();
                }
                co_await yield();
            }
        }
        static task<> program() {
            shared_mutex m;
            struct unlocked {
                shared_mutex& m;
                ~unlocked() {
                    CHECK_FALSE(m.locked());
                    CHECK(m.readers() == 0);
                    CHECK(m.waiting() == 0);
                }
            } check{m};
            auto body = [&](task_group& group) -> task<> {
                for (const bool writes : {true, false, false, true, false})
                    group.spawn(user, std::ref(m), writes).discard();
                co_await user(m, true);
            };
            co_await with_task_group(body);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 1);
}

// --- against a model -----------------------------------------------------------------------------------

struct random_shared {
    struct client {
        client(int number, bool writer) : who(number), writes(writer) {}
        int who;
        bool writes;
        task_handle<> handle;
        auto_event release;
    };

    explicit random_shared(std::uint64_t seed) : rolls(seed) {}

    test::dice rolls;
    shared_mutex m;
    std::deque<client*> waiting;
    std::vector<client*> holding;
    std::vector<int> got, should_have;
    std::vector<std::unique_ptr<client>> clients;
    int names = 0;

    task<> live(client& c) {
        if (c.writes) {
            auto guard = co_await m.lock();
            got.push_back(c.who);
            co_await c.release.wait();
        } else {
            auto guard = co_await m.lock_shared();
            got.push_back(c.who);
            co_await c.release.wait();
        }
    }
    void look() {
        while (!waiting.empty()) {
            client& first = *waiting.front();
            const bool writer = !holding.empty() && holding.front()->writes;
            if (writer || (first.writes && !holding.empty())) return;
            waiting.pop_front();
            holding.push_back(&first);
            should_have.push_back(first.who);
        }
    }

    // Now and then a wait that is over at once goes round the ready queue all the same.
    static task<> rounds() {
        for (int i = 0; i < 3; ++i) co_await yield();
    }

    task<> step() {
        if (clients.size() < 10 && rolls.one_in(2)) {
            clients.push_back(std::make_unique<client>(names++, rolls.one_in(3)));
            client& c = *clients.back();
            c.handle = spawn(&random_shared::live, this, std::ref(c));
            co_await rounds();
            waiting.push_back(&c);
            look();
        } else if (!clients.empty()) {
            client& c = *clients[rolls.below(clients.size())];
            const bool holds = std::erase(holding, &c) != 0;
            if (holds && rolls.one_in(2)) {
                c.release.set();
                co_await rounds();
            } else {
                c.handle.cancel();
                if (holds) co_await rounds();  // it unlocks
                std::erase(waiting, &c);
            }
            look();
            co_await rounds();
            CHECK(c.handle.done());
            std::erase_if(clients, [&](auto& each) { return each.get() == &c; });
        }
        CHECK(got == should_have);
        got.clear();
        should_have.clear();
        const bool writer = !holding.empty() && holding.front()->writes;
        if (m.locked() != writer) FAIL_CHECK("locked");
        if (m.readers() != (writer ? 0 : holding.size())) FAIL_CHECK("readers");
        if (m.waiting() != waiting.size()) FAIL_CHECK("waiting");
    }

    task<> run(int steps) {
        for (int i = 0; i < steps; ++i) co_await step();
        for (auto& c : clients) c->handle.cancel();
        for (int i = 0; i < 12; ++i) co_await yield();
        CHECK_FALSE(m.locked());
        CHECK(m.readers() == 0);
    }
};

TEST_CASE("shared_mutex: random readers, writers and cancels, compared with a list" * doctest::test_suite("order")) {
    struct local {
        static task<> body(std::uint64_t seed, int steps) {
            random_shared program(seed);
            co_await program.run(steps);
        }
    };
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        CAPTURE(seed);
        test::run(local::body, seed, test::steps_per_program / 50);
    }
}

}  // namespace
