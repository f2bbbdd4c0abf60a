// mutex: order, cancel, and the circle of owners that is found when it closes.
#include "support/arms.hpp"
#include "support/every_step.hpp"
#include "support/growth.hpp"
#include "support/steps.hpp"

#include <deque>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

// Notes `name` when it has the mutex, and keeps it for one place in the ready queue.
task<> hold(mutex& m, journal& j, const char* name) {
    auto guard = co_await m.lock();
    j.add(name);
    co_await yield();
}

auto start(mutex& m, journal& j, const char* name) { return spawn(hold, std::ref(m), std::ref(j), name); }

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

TEST_CASE("mutex: one task at a time, across waits") {
    struct local {
        static task<> add(mutex& m, int& counter) {
            auto guard = co_await m.lock();
            const int seen = counter;
            co_await yield();
            counter = seen + 1;
        }
        static task<> body() {
            mutex m("counter");
            int counter = 0;
            std::vector<task_handle<>> all;
            for (int i = 0; i < 100; ++i) all.push_back(spawn(add, std::ref(m), std::ref(counter)));
            for (auto& each : all) co_await each;
            CHECK(counter == 100);
            CHECK_FALSE(m.locked());
            CHECK(m.name() == std::string("counter"));
        }
    };
    test::run(local::body);
}

TEST_CASE("mutex: goes to those who wait in the order in which they asked, and nobody overtakes" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            mutex m;
            auto mine = co_await m.lock();
            auto a = start(m, j, "a");
            auto b = start(m, j, "b");
            co_await yield();
            CHECK(m.waiting() == 2);
            mine.unlock();
            CHECK(m.locked());  // handed over
            CHECK_FALSE(m.try_lock());
            mine = co_await m.lock();
            j.add("main");
            co_await a;
            co_await b;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a b main");
}

TEST_CASE("mutex: a guard can be moved, returned, and unlocked early") {
    struct local {
        static task<mutex::guard> locked(mutex& m) {
            auto guard = co_await m.lock();
            co_return guard;
        }
        static task<> body() {
            mutex m, other;
            auto a = co_await locked(m);
            CHECK(m.locked());
            auto b = co_await other.lock();
            b = std::move(a);
            CHECK_FALSE(other.locked());
            CHECK(m.locked());
            CHECK_FALSE(a);
            b.unlock();
            b.unlock();
            CHECK_FALSE(m.locked());
            auto c = m.try_lock();
            CHECK(c);
            CHECK_FALSE(m.try_lock());
        }
    };
    test::run(local::body);
}

TEST_CASE("mutex: locking it twice in one task is an error, at once (anyio#798)") {
    struct local {
        static task<> body() {
            mutex m("once");
            auto guard = co_await m.lock();
            std::string message;
            try {
                auto again = co_await m.lock();
            } catch (const std::system_error& e) {
                CHECK(e.code() == std::errc::resource_deadlock_would_occur);
                message = e.what();
            }
            CHECK(message.starts_with("lock mutex 'once', which the task holds already"));
            const auto tried = co_await attempt(m.lock());
            CHECK(tried.error() == std::errc::resource_deadlock_would_occur);
            CHECK_FALSE(m.try_lock());
            guard.unlock();
            const auto free = co_await attempt(m.lock());
            CHECK(free.has_value());
        }
    };
    test::run(local::body);
}

TEST_CASE("mutex: a lock() that is cancelled in the queue leaves nothing locked (hazard A3: tokio#1898, tokio#1902)") {
    struct local {
        static task<> body(journal& j) {
            mutex m;
            auto mine = co_await m.lock();
            auto a = start(m, j, "a");
            auto b = start(m, j, "b");
            co_await test::others_first();
            a.cancel();
            CHECK(m.waiting() == 1);
            b.cancel();
            mine.unlock();
            CHECK_FALSE(m.locked());
            auto again = m.try_lock();
            CHECK(again);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text().empty());
}

TEST_CASE("mutex: a cancel that comes after the hand-over does not take it back, and the next one runs (bpo-27585)" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            mutex m;
            auto mine = co_await m.lock();
            auto a = start(m, j, "a");
            auto b = start(m, j, "b");
            co_await yield();
            mine.unlock();
            a.cancel();
            co_await b;
            CHECK(a.state() == task_state::cancelled);
            CHECK_FALSE(m.locked());
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a b");
}

TEST_CASE(
    "mutex: of three who wait the first two are cancelled, one of them when it has it: the third runs "
    "(anyio#387, anyio#1145)" *
    doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            mutex m;
            auto mine = co_await m.lock();
            auto a = start(m, j, "a");
            auto b = start(m, j, "b");
            auto c = start(m, j, "c");
            co_await yield();
            mine.unlock();
            b.cancel();
            a.cancel();
            co_await c;
            CHECK_FALSE(m.locked());
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a c");
}

TEST_CASE("mutex: a lock() with a deadline") {
    struct local {
        static task<> body(journal& j) {
            mutex m;
            auto other = spawn(keep, std::ref(m));
            co_await test::others_first();
            const bool in_time = co_await move_on_after(1ms, hold, std::ref(m), std::ref(j), "late");
            CHECK_FALSE(in_time);
            CHECK(m.waiting() == 0);
            other.cancel();
            co_await test::others_first();
            CHECK_FALSE(m.locked());
        }
        static task<> keep(mutex& m) {
            auto guard = co_await m.lock();
            co_await sleep_for(1h);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text().empty());
}

TEST_CASE("mutex: an error leaves it unlocked") {
    struct local {
        static task<> fails(mutex& m) {
            auto guard = co_await m.lock();
            throw std::runtime_error("on the way");
        }
        static task<> body() {
            mutex m;
            bool failed = false;
            try {
                co_await fails(m);
            } catch (const std::runtime_error&) {
                failed = true;
            }
            CHECK(failed);
            CHECK_FALSE(m.locked());
        }
    };
    test::run(local::body);
}

TEST_CASE("mutex: a task's first lock needs memory; without it, it throws bad_alloc and leaves the mutex free") {
    struct local {
        static task<> body() {
            mutex m;
            int failures = 0;
            rondo::detail::fail_allocation(1);
            try {
                auto guard = co_await m.lock();
            } catch (const std::bad_alloc&) {
                ++failures;
            }
            rondo::detail::fail_allocation(1);
            try {
                auto guard = m.try_lock();
            } catch (const std::bad_alloc&) {
                ++failures;
            }
            rondo::detail::fail_allocation(0);
            CHECK(failures == 2);
            CHECK_FALSE(m.locked());
            auto guard = co_await m.lock();
            rondo::detail::fail_allocation(1);
            mutex other;
            auto second = co_await other.lock();  // it has what it needs
            rondo::detail::fail_allocation(0);
            CHECK(other.locked());
        }
    };
    test::run(local::body);
}

TEST_CASE("mutex: an arm that lost unlocks it") {
    struct local {
        static task<> body(journal& j) {
            mutex m;
            auto lost = co_await test::started_arm(m.lock());
            CHECK(lost.finished());
            CHECK(m.locked());
            auto next = start(m, j, "next");
            co_await yield();
            lost.wait.give_back();
            co_await next;
            CHECK_FALSE(m.locked());
        }
        static task<> holds_and_tries_again() {
            mutex m;
            auto guard = co_await m.lock();
            auto again = co_await test::started_arm(m.lock());  // the other arms may still end this
            CHECK_FALSE(again.finished());
            again.cancel();
            CHECK(again.finished());
            again.wait.give_back();
            CHECK(m.locked());
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "next");
    test::run(local::holds_and_tries_again);
}

TEST_CASE("mutex: cancelled at every step") {
    struct local {
        static task<> user(mutex& a, mutex& b) {
            for (int i = 0; i < 2; ++i) {
                auto first = co_await a.lock();
                co_await yield();
                auto second = co_await b.lock();
                co_await immediate();
            }
        }
        static task<> program() {
            mutex a, b;
            auto body = [&](task_group& group) -> task<> {
                for (int i = 0; i < 4; ++i) group.spawn(user, std::ref(a), std::ref(b)).discard();
                co_await user(a, b);
            };
            struct unlocked {
                mutex &a, &b;
                ~unlocked() {
                    CHECK_FALSE(a.locked());
                    CHECK_FALSE(b.locked());
                    CHECK(a.waiting() + b.waiting() == 0);
                }
            } check{a, b};
            co_await with_task_group(body);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 1);
}

// --- circles -------------------------------------------------------------------------------------------

// Locks one, lets others run, locks the other; gives what() of the deadlock, if there is one.
task<std::string> lock_both(mutex& first, mutex& second) {
    auto a = co_await first.lock();
    co_await yield();
    try {
        auto b = co_await second.lock();
        co_await yield();
    } catch (const deadlock_error& e) {
        co_return e.what();
    }
    co_return std::string();
}

TEST_CASE("mutex: the lock() that closes a circle of two owners throws, and says where both are" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            mutex a("accounts"), b("audit");
            auto one = spawn(lock_both, std::ref(a), std::ref(b));
            auto two = spawn(lock_both, std::ref(b), std::ref(a));
            const std::string first = co_await one;
            const std::string second = co_await two;
            CHECK(first.empty());  // it got the mutex that the other gave up
            CAPTURE(second);
            CHECK(has(second, "task 3 holds mutex 'audit' and waits for mutex 'accounts'"));
            CHECK(has(second, "task 2 holds mutex 'accounts' and waits for mutex 'audit'"));
            const std::size_t place = second.find("mutex_test.cpp:");
            REQUIRE(place != std::string::npos);
            CHECK(second.find("mutex_test.cpp:", place + 1) != std::string::npos);
        }
    };
    test::run(local::body);
}

TEST_CASE("mutex: the report has every await of both chains" * doctest::test_suite("order")) {
    struct local {
        static task<std::string> outer(mutex& first, mutex& second) {
            std::string found = co_await lock_both(first, second);
            co_return found;
        }
        static task<> body() {
            mutex a("a"), b("b");
            auto one = spawn(outer, std::ref(a), std::ref(b));
            auto two = spawn(outer, std::ref(b), std::ref(a));
            const std::string first = co_await one;
            const std::string report = co_await two;
            CAPTURE(report);
            std::size_t awaited = 0;
            for (std::size_t at = 0; (at = report.find("awaited at ", at)) != std::string::npos; ++at) ++awaited;
            CHECK(awaited == 2);
        }
    };
    test::run(local::body);
}

TEST_CASE("mutex: always in the same order there is no circle") {
    struct local {
        static task<> body() {
            mutex a, b;
            std::vector<task_handle<std::string>> all;
            for (int i = 0; i < 10; ++i) all.push_back(spawn(lock_both, std::ref(a), std::ref(b)));
            for (auto& each : all) {
                const std::string report = co_await each;
                CHECK(report.empty());
            }
        }
    };
    test::run(local::body);
}

TEST_CASE("mutex: a circle of three, and of a hundred" * doctest::test_suite("order")) {
    struct local {
        static task<> body(std::size_t size) {
            std::deque<mutex> all(size);
            std::vector<task_handle<std::string>> tasks;
            for (std::size_t i = 0; i < size; ++i)
                tasks.push_back(spawn(lock_both, std::ref(all[i]), std::ref(all[(i + 1) % size])));
            std::size_t refused = 0;
            for (auto& each : tasks) {
                const std::string report = co_await each;
                if (report.empty()) continue;
                ++refused;
                std::size_t members = 0;
                for (std::size_t at = 0; (at = report.find(" holds ", at)) != std::string::npos; ++at) ++members;
                CHECK(members == size);
            }
            CHECK(refused == 1);
        }
    };
    test::run(local::body, 3);
    test::run(local::body, 100);
}

TEST_CASE("mutex: a chain that is no circle is waited for" * doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            mutex a, b, c;
            auto held = co_await c.lock();
            auto one = spawn(lock_both, std::ref(a), std::ref(b));
            auto two = spawn(lock_both, std::ref(b), std::ref(c));
            co_await yield();
            co_await yield();
            CHECK(b.waiting() == 1);
            CHECK(c.waiting() == 1);
            held.unlock();
            const std::string first = co_await one;
            const std::string second = co_await two;
            CHECK(first.empty());
            CHECK(second.empty());
        }
    };
    test::run(local::body);
}

// Each of them walked to the end of the chain, although nobody could wait for it yet.
TEST_CASE("mutex: a chain that grows at its begin is not walked by each who joins it") {
    struct local {
        static task<> joins(mutex& own, mutex& wanted) {
            const auto first = co_await own.lock();
            const auto second = co_await wanted.lock();
        }
        static task<> body(int n) {
            std::deque<mutex> locks(static_cast<std::size_t>(n) + 1);
            const auto chain = [&](task_group& g) -> task<> {
                const auto last = co_await locks.back().lock();
                for (std::size_t i = locks.size() - 1; i-- > 0;) {
                    g.spawn(joins, std::ref(locks[i]), std::ref(locks[i + 1])).discard();
                    co_await test::others_first();
                }
            };
            co_await with_task_group(chain);
        }
    };
    CHECK(test::growth([](int n) { test::run(local::body, n); }, 500) < 30);
}

TEST_CASE("mutex: with a refused lock() given up, the others in the circle go on" * doctest::test_suite("order")) {
    struct local {
        static task<> retry(mutex& first, mutex& second, journal& j, const char* name) {
            for (;;) {
                auto a = co_await first.lock();
                co_await yield();
                auto b = co_await attempt(second.lock());
                if (b) break;
                j.add("retry");
            }
            j.add(name);
        }
        static task<> body(journal& j) {
            mutex a, b;
            auto one = spawn(retry, std::ref(a), std::ref(b), std::ref(j), "one");
            auto two = spawn(retry, std::ref(b), std::ref(a), std::ref(j), "two");
            co_await one;
            co_await two;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "retry one two");
}

TEST_CASE("mutex: a deadlock report of run() says who holds it") {
    struct local {
        static task<> forever(mutex& m, semaphore& s) {
            auto guard = co_await m.lock();
            auto permit = co_await s.acquire();
        }
        static task<> body(mutex& m, semaphore& s) {
            auto other = spawn(forever, std::ref(m), std::ref(s));
            co_await test::others_first();
            auto mine = co_await m.lock();
        }
    };
    mutex m("accounts");
    semaphore s(0, "db");
    std::string report;
    try {
        test::run(local::body, std::ref(m), std::ref(s));
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CAPTURE(report);
    CHECK(has(report, "waits: mutex 'accounts', held by task 2, 1 waiting"));
    CHECK(has(report, "waits: semaphore 'db', 1 waiting"));
}

// --- against a model -----------------------------------------------------------------------------------

// Tasks that lock one of several mutexes, and a second one now and then. Circles are refused; the model
// follows the same arrows over its own lists.
struct random_mutexes {
    static constexpr std::size_t count = 4;
    struct client {
        explicit client(int number) : who(number) {}
        int who;
        std::deque<mutex::guard> guards;
        std::vector<std::size_t> owns;
        auto_event go{"go"};
        std::size_t next = count;  // which to lock; `count`: end
        std::size_t waits_for = count;
        task_handle<> handle;
        bool refused = false;
    };

    explicit random_mutexes(std::uint64_t seed) : rolls(seed) {}

    test::dice rolls;
    std::deque<mutex> real{count};
    std::vector<std::unique_ptr<client>> clients;
    client* owner[count] = {};
    std::deque<client*> waiting[count];
    std::vector<int> got, should_have;
    int names = 0;
    int refusals = 0;

    task<> live(client& c) {
        struct unlocks {
            client& c;
            ~unlocks() { c.guards.clear(); }
        } at_the_end{c};
        for (;;) {
            co_await c.go.wait();
            if (c.next == count) break;
            auto guard = co_await attempt(real[c.next].lock());
            if (guard) {
                got.push_back(c.who);
                c.guards.push_back(std::move(*guard));
            } else {
                c.refused = true;
            }
        }
    }

    bool closes_circle(client& c, std::size_t which) {
        client* at = owner[which];
        while (at != nullptr && at != &c) at = at->waits_for == count ? nullptr : owner[at->waits_for];
        return at == &c;
    }
    void hand_over(std::size_t which) {
        owner[which] = nullptr;
        if (waiting[which].empty()) return;
        client& c = *waiting[which].front();
        waiting[which].pop_front();
        own(c, which);
    }
    void own(client& c, std::size_t which) {
        owner[which] = &c;
        c.waits_for = count;
        c.owns.push_back(which);
        should_have.push_back(c.who);
    }

    // Now and then a wait that is over at once goes round the ready queue all the same.
    static task<> rounds() {
        for (int i = 0; i < 3; ++i) co_await yield();
    }

    task<> lock(client& c, std::size_t which) {
        c.next = which;
        c.refused = false;
        c.go.set();
        co_await rounds();
        const bool refuse = closes_circle(c, which);
        CHECK(c.refused == refuse);
        if (refuse) {
            ++refusals;
        } else if (owner[which] == nullptr) {
            own(c, which);
        } else {
            c.waits_for = which;
            waiting[which].push_back(&c);
        }
    }

    // It ends: what it waits for is given up, what it owns is handed over.
    task<> end(std::size_t at) {
        client& c = *clients[at];
        if (c.waits_for != count) {
            std::erase(waiting[c.waits_for], &c);
            c.handle.cancel();
        } else if (rolls.one_in(2)) {
            c.next = count;
            c.go.set();
        } else {
            c.handle.cancel();
        }
        co_await rounds();
        CHECK(c.handle.done());
        for (const std::size_t which : c.owns) hand_over(which);
        clients.erase(clients.begin() + static_cast<std::ptrdiff_t>(at));
        co_await rounds();
    }

    task<> step() {
        if (clients.size() < 8) {
            clients.push_back(std::make_unique<client>(++names));
            client& c = *clients.back();
            c.handle = spawn(&random_mutexes::live, this, std::ref(c));
            co_await rounds();
        }
        const std::size_t at = rolls.below(clients.size());
        client& c = *clients[at];
        if (c.waits_for == count && c.owns.size() < 3 && !rolls.one_in(3)) {
            co_await lock(c, rolls.below(count));
        } else if (rolls.one_in(2)) {
            co_await end(at);
        }
        CHECK(got == should_have);
        got.clear();
        should_have.clear();
        for (std::size_t i = 0; i < count; ++i) {
            if (real[i].locked() != (owner[i] != nullptr)) FAIL_CHECK("locked");
            if (real[i].waiting() != waiting[i].size()) FAIL_CHECK("waiting");
        }
    }

    task<> run(int steps) {
        for (int i = 0; i < steps; ++i) co_await step();
        while (!clients.empty()) co_await end(clients.size() - 1);
        for (const mutex& m : real) CHECK_FALSE(m.locked());
        if (steps > 1000) CHECK(refusals > steps / 100);
    }
};

TEST_CASE("mutex: random tasks lock several, compared with lists of owners" * doctest::test_suite("order")) {
    struct local {
        static task<> body(std::uint64_t seed, int steps) {
            random_mutexes program(seed);
            co_await program.run(steps);
        }
    };
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        CAPTURE(seed);
        test::run(local::body, seed, test::steps_per_program / 50);
    }
}

}  // namespace
