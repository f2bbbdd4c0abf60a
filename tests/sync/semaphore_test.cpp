// Permits: who gets them, in which order, and that none is ever lost or doubled.
#include "support/arms.hpp"
#include "support/every_step.hpp"
#include "support/steps.hpp"

#include <deque>
#include <limits>
#include <stdexcept>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

// Notes `name` when it has its permits, and holds them for one place in the ready queue.
task<> take(semaphore& s, journal& j, const char* name, std::size_t n = 1) {
    auto permit = co_await s.acquire(n);
    j.add(name);
    co_await yield();
}

// Keeps what it gets.
task<> take_for_good(semaphore& s, journal& j, const char* name, std::size_t n = 1) {
    auto permit = co_await s.acquire(n);
    j.add(name);
    permit.detach();
}

auto start(task<> (*what)(semaphore&, journal&, const char*, std::size_t), semaphore& s, journal& j, const char* name,
           std::size_t n = 1) {
    return spawn(what, std::ref(s), std::ref(j), name, n);
}

TEST_CASE("semaphore: so many permits at once, and each comes back when its guard goes") {
    struct local {
        static task<> body() {
            semaphore s(2, "two");
            CHECK(s.available() == 2);
            {
                auto first = co_await s.acquire();
                auto second = co_await s.acquire();
                CHECK(s.available() == 0);
                CHECK_FALSE(s.try_acquire());
                second.release();
                CHECK_FALSE(second);
                CHECK(s.available() == 1);
                auto third = s.try_acquire();
                CHECK(third);
                CHECK(third.count() == 1);
            }
            CHECK(s.available() == 2);
            CHECK(s.waiting() == 0);
            CHECK(s.name() == std::string("two"));
        }
    };
    test::run(local::body);
}

TEST_CASE("semaphore: a permit can be moved, given back early, and left to somebody else") {
    struct local {
        static task<> body() {
            semaphore s(5);
            auto a = co_await s.acquire(2);
            auto b = co_await s.acquire(3);
            a = std::move(b);  // what it held goes back
            CHECK(s.available() == 2);
            CHECK(a.count() == 3);
            CHECK(b.count() == 0);
            a.detach();
            CHECK_FALSE(a);
            CHECK(s.available() == 2);
            s.release(3);
            CHECK(s.available() == 5);
        }
    };
    test::run(local::body);
}

TEST_CASE("semaphore: permits go to those who wait in the order in which they asked" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            semaphore s(0);
            auto a = start(take_for_good, s, j, "a");
            auto b = start(take_for_good, s, j, "b", 2);
            auto c = start(take_for_good, s, j, "c");
            co_await yield();
            CHECK(s.waiting() == 3);
            s.release(1);
            s.release(3);  // cpython gh-90155: several releases in one turn wake as many, in order
            CHECK(s.available() == 0);
            co_await a;
            co_await b;
            co_await c;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a b c");
}

TEST_CASE("semaphore: who asks for less does not overtake who asks for more" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            semaphore s(1);
            auto a = start(take_for_good, s, j, "three", 3);
            auto b = start(take_for_good, s, j, "one");
            co_await yield();
            CHECK(s.waiting() == 2);  // there is one permit, but the first needs three
            CHECK(s.available() == 1);
            CHECK_FALSE(s.try_acquire());
            j.add("release");
            s.release(2);
            s.release(1);
            co_await a;
            co_await b;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "release three one");
}

TEST_CASE("semaphore: between a grant and the wake-up nobody else gets the permit (anyio 4.14.2)") {
    struct local {
        static task<> body(journal& j) {
            semaphore s(0);
            auto waits = start(take, s, j, "waiter");
            co_await test::others_first();
            s.release();
            CHECK_FALSE(s.try_acquire());
            auto mine = co_await s.acquire();
            j.add("main");
            co_await waits;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "waiter main");
}

TEST_CASE("semaphore: who acquires again stands behind all others (bpo-45997)" * doctest::test_suite("order")) {
    struct local {
        static task<> twice(semaphore& s, journal& j, const char* name) {
            for (int i = 0; i < 2; ++i) {
                auto permit = co_await s.acquire();
                j.add(name);
                co_await yield();
            }
        }
        static task<> body(journal& j) {
            semaphore s(1);
            auto a = spawn(twice, std::ref(s), std::ref(j), "a");
            auto b = spawn(twice, std::ref(s), std::ref(j), "b");
            auto c = spawn(twice, std::ref(s), std::ref(j), "c");
            co_await a;
            co_await b;
            co_await c;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a b c a b c");
}

TEST_CASE("semaphore: a cancelled waiter does not take the permit") {
    struct local {
        static task<> body(journal& j) {
            semaphore s(0);
            auto a = start(take, s, j, "a");
            auto b = start(take, s, j, "b");
            co_await test::others_first();
            a.cancel();
            CHECK(s.waiting() == 1);
            s.release();
            co_await b;
            co_await test::others_first();
            CHECK(a.state() == task_state::cancelled);
            CHECK(s.available() == 1);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "b");
}

TEST_CASE("semaphore: a cancel that comes after the grant does not take it back, and the next one runs (asyncio#270)" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            semaphore s(0);
            auto a = start(take, s, j, "a");
            auto b = start(take, s, j, "b");
            co_await yield();
            s.release();
            a.cancel();  // it has the permit, and its next wait throws
            co_await b;
            CHECK(a.state() == task_state::cancelled);
            CHECK(s.available() == 1);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a b");
}

TEST_CASE("semaphore: usable after a release and a cancel in one turn, in either order (gh-90155)") {
    struct local {
        static task<> body(bool cancel_first) {
            journal j;
            semaphore s(0);
            auto a = start(take, s, j, "a");
            co_await test::others_first();
            if (cancel_first) a.cancel();
            s.release();
            a.cancel();
            co_await test::others_first();
            auto again = start(take, s, j, "again");
            co_await again;
            CHECK(j.text() == (cancel_first ? "again" : "a again"));
            CHECK(s.available() == 1);
        }
    };
    test::run(local::body, true);
    test::run(local::body, false);
}

TEST_CASE("semaphore: two releases, the two in front cancelled: two others run (gh-90155)" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(bool cancel_first) {
            journal j;
            semaphore s(0);
            std::vector<task_handle<>> all;
            for (const char* name : {"a", "b", "c", "d"}) all.push_back(start(take, s, j, name));
            co_await yield();
            if (!cancel_first) s.release(2);
            all[0].cancel();
            all[1].cancel();
            if (cancel_first) s.release(2);
            co_await all[2];
            co_await all[3];
            CHECK(j.text() == (cancel_first ? "c d" : "a b c d"));
            CHECK(s.available() == 2);
        }
    };
    test::run(local::body, true);
    test::run(local::body, false);
}

TEST_CASE(
    "semaphore: when the first, who asks for much, is cancelled, those behind are looked at "
    "(tokio#6450, embassy#6964, shuttle#167, x/sync#10)" *
    doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            semaphore s(2);
            auto much = start(take, s, j, "much", 3);
            auto a = start(take, s, j, "a");
            auto b = start(take, s, j, "b");
            auto c = start(take, s, j, "c");
            co_await yield();
            CHECK(s.waiting() == 4);
            much.cancel();
            CHECK(s.waiting() == 1);
            CHECK(s.available() == 0);
            co_await c;
            CHECK(s.available() == 2);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a b c");
}

TEST_CASE("semaphore: cancelling one in the middle or at the end wakes nobody" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            semaphore s(1);
            auto a = start(take, s, j, "a", 2);
            auto b = start(take, s, j, "b");
            auto c = start(take, s, j, "c");
            co_await yield();
            b.cancel();
            c.cancel();
            CHECK(s.available() == 1);
            CHECK(s.waiting() == 1);
            s.release();
            co_await a;
            CHECK(s.available() == 2);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a");
}

TEST_CASE("semaphore: an acquire that timed out has taken nothing (tokio#904)") {
    struct local {
        static task<> body(journal& j) {
            semaphore s(0);
            bool late = false;
            try {
                co_await with_timeout(1ms, take, std::ref(s), std::ref(j), "late", std::size_t{1});
            } catch (const timeout_error&) {
                late = true;
            }
            CHECK(late);
            CHECK(s.waiting() == 0);
            CHECK(s.available() == 0);
            s.release();
            CHECK(s.available() == 1);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text().empty());
}

TEST_CASE("semaphore: in a cancelled task acquire() throws, also when there are permits") {
    struct local {
        static task<> waits_twice(semaphore& s, bool& refused) {
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
            }
            try {
                auto permit = co_await s.acquire();
            } catch (const cancelled&) {
                refused = true;
            }
        }
        static task<> body() {
            semaphore s(1);
            bool refused = false;
            auto t = spawn(waits_twice, std::ref(s), std::ref(refused));
            co_await test::others_first();
            t.cancel();
            co_await t;
            CHECK(refused);
            CHECK(s.available() == 1);
        }
    };
    test::run(local::body);
}

TEST_CASE("semaphore: more permits than there may be is an error that changes nothing (hazard A4, tokio#3644)") {
    struct local {
        static task<> body(journal& j) {
            semaphore bounded(1, "bounded", 2);
            bounded.release();
            CHECK_THROWS_WITH_AS(bounded.release(), "semaphore 'bounded': released more often than acquired",
                                 std::overflow_error);
            CHECK(bounded.available() == 2);

            constexpr std::size_t all = std::numeric_limits<std::size_t>::max();
            semaphore s(1);
            CHECK_THROWS_AS(s.release(all), std::overflow_error);
            CHECK(s.available() == 1);
            s.release(all - 1);
            CHECK(s.available() == all);
            CHECK_THROWS_AS(s.release(), std::overflow_error);
            CHECK(s.available() == all);
            co_await take(s, j, "a", all);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a");
}

TEST_CASE("semaphore: asking for more than there can ever be fails at once, and holds up nobody") {
    struct local {
        static task<> body() {
            semaphore s(0, "small", 3);
            const auto refused = co_await attempt(s.acquire(4));
            CHECK(refused.error() == std::errc::invalid_argument);
            std::string message;
            try {
                auto permit = co_await s.acquire(4);
            } catch (const io_error& e) {
                message = e.what();
            }
            CHECK(message.starts_with("acquire 4 of semaphore 'small', which never has so many"));
            CHECK(s.waiting() == 0);
            s.release(3);
            auto all = co_await attempt(s.acquire(3));
            REQUIRE(all.has_value());
            CHECK(all->count() == 3);
        }
    };
    test::run(local::body);
}

TEST_CASE("semaphore: who asks for none does not wait") {
    struct local {
        static task<> body(journal& j) {
            semaphore s(0);
            auto a = start(take_for_good, s, j, "one");
            co_await yield();
            co_await take(s, j, "none", 0);
            CHECK(s.try_acquire(0));
            s.release();
            co_await a;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "none one");
}

TEST_CASE("semaphore: a deadlock report says which one, and how many wait") {
    struct local {
        static task<> body() {
            semaphore s(0, "db");
            journal j;
            auto other = start(take, s, j, "other");
            auto mine = co_await s.acquire();
        }
    };
    std::string report;
    try {
        test::run(local::body);
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CHECK(report.find("waits: semaphore 'db', 2 waiting") != std::string::npos);
    CHECK(report.find("semaphore_test.cpp") != std::string::npos);
}

TEST_CASE("semaphore: an arm that lost gives its permits to the next in the queue") {
    struct local {
        static task<> body(journal& j) {
            semaphore s(1);
            auto at_once = co_await test::started_arm(s.acquire());
            CHECK(at_once.finished());
            CHECK(s.available() == 0);
            auto next = start(take, s, j, "next");
            co_await test::others_first();
            at_once.wait.give_back();
            CHECK(s.available() == 0);  // handed over
            co_await next;
            CHECK(s.available() == 1);

            auto held = co_await s.acquire();
            auto later = co_await test::started_arm(s.acquire());
            CHECK_FALSE(later.finished());
            held.release();
            CHECK(later.finished());
            later.wait.give_back();
            CHECK(s.available() == 1);

            held = co_await s.acquire();
            auto loser = co_await test::started_arm(s.acquire());
            loser.cancel();
            CHECK(loser.finished());
            loser.wait.give_back();
            CHECK(s.available() == 0);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "next");
}

TEST_CASE("semaphore: cancelled at every step, all permits come back") {
    struct local {
        static task<> user(semaphore& s, std::size_t n) {
            for (int i = 0; i < 2; ++i) {
                auto permit = co_await s.acquire(n);
                CHECK(permit.count() == n);
                co_await yield();
                permit.release();
                co_await immediate();
            }
        }
        static task<> users(semaphore& s) {
            auto body = [&s](task_group& group) -> task<> {
                for (const std::size_t n : {1, 3, 2, 1, 3, 2}) group.spawn(user, std::ref(s), n).discard();
                auto permit = co_await s.acquire();
                co_await yield();
            };
            co_await with_task_group(body);
        }
        static task<> program() {
            semaphore s(3);
            struct all_back {
                semaphore& s;
                ~all_back() {
                    CHECK(s.available() == 3);
                    CHECK(s.waiting() == 0);
                }
            } check{s};
            co_await users(s);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 1);
}

// --- against a model -----------------------------------------------------------------------------------

// What a semaphore does, said without one: a counter and a list.
class semaphore_model {
 public:
    explicit semaphore_model(std::size_t permits) : available(permits) {}

    void acquire(int who, std::size_t n) {
        waiting.push_back({who, n});
        look();
    }
    bool try_acquire(std::size_t n) {
        if (!waiting.empty() || n > available) return false;
        available -= n;
        return true;
    }
    void release(std::size_t n) {
        available += n;
        look();
    }
    /// False: it has its permits already.
    bool cancel(int who) {
        for (auto at = waiting.begin(); at != waiting.end(); ++at) {
            if (at->first != who) continue;
            waiting.erase(at);
            look();
            return true;
        }
        return false;
    }

    std::size_t available;
    std::deque<std::pair<int, std::size_t>> waiting;
    std::vector<int> granted;  // in order

 private:
    void look() {
        while (!waiting.empty() && waiting.front().second <= available) {
            available -= waiting.front().second;
            granted.push_back(waiting.front().first);
            waiting.pop_front();
        }
    }
};

struct random_semaphore {
    struct client {
        int who;
        std::size_t n;
        task_handle<> handle;
        semaphore::permit held;
    };

    explicit random_semaphore(std::uint64_t seed) : rolls(seed), s(permits), model(permits) {}

    static constexpr std::size_t permits = 7;
    test::dice rolls;
    semaphore s;
    semaphore_model model;
    std::vector<std::unique_ptr<client>> clients;
    std::vector<int> granted;
    int names = 0;

    task<> acquire(client& c) {
        c.held = co_await s.acquire(c.n);
        granted.push_back(c.who);
    }

    // Those who have their permits, or never will, are up to date after this.
    task<> settle() {
        co_await yield();
        CHECK(granted == model.granted);
        granted.clear();
        model.granted.clear();
    }

    task<> step() {
        const std::size_t what = rolls.below(10);
        if (what < 4 && clients.size() < 30) {
            auto c = std::make_unique<client>(++names, 1 + rolls.below(permits), task_handle<>(), semaphore::permit());
            c->handle = spawn(&random_semaphore::acquire, this, std::ref(*c));
            co_await yield();  // it asks
            model.acquire(c->who, c->n);
            clients.push_back(std::move(c));
        } else if (what < 5) {
            const std::size_t n = 1 + rolls.below(permits);
            auto permit = s.try_acquire(n);
            CHECK(static_cast<bool>(permit) == model.try_acquire(n));
            if (permit) model.release(n);  // and so does the permit
        } else if (!clients.empty()) {
            const std::size_t at = rolls.below(clients.size());
            client& c = *clients[at];
            if (c.held) {
                model.release(c.n);
                c.held.release();
                remove(at);
            } else if (what < 8) {
                const bool waited = model.cancel(c.who);
                c.handle.cancel();
                if (waited) remove(at);
            }
        }
        const bool same = s.available() == model.available && s.waiting() == model.waiting.size();
        if (!same) {
            CHECK(s.available() == model.available);
            CHECK(s.waiting() == model.waiting.size());
        }
        if (rolls.one_in(3)) co_await settle();
    }

    task<> run(int steps) {
        for (int i = 0; i < steps; ++i) {
            co_await step();
            if (granted.size() > 100) break;  // it failed already
        }
        while (!clients.empty()) {
            co_await settle();
            for (std::size_t at = clients.size(); at-- > 0;) {
                if (!clients[at]->held) continue;
                model.release(clients[at]->n);
                clients[at]->held.release();
                remove(at);
            }
        }
        CHECK(s.available() == permits);
        CHECK(s.waiting() == 0);
    }

    void remove(std::size_t at) {
        gone.push_back(std::move(clients[at]));  // its task may still be ending
        clients[at] = std::move(clients.back());
        clients.pop_back();
        if (gone.size() < 64) return;
        for (auto& c : gone)
            if (c->handle.done()) c.reset();
        std::erase(gone, nullptr);
    }
    std::vector<std::unique_ptr<client>> gone;
};

TEST_CASE("semaphore: a million random steps, compared with a counter and a list (hazard A2)" *
          doctest::test_suite("order")) {
    struct local {
        static task<> body(std::uint64_t seed, int steps) {
            random_semaphore program(seed);
            co_await program.run(steps);
        }
    };
    constexpr int seeds = 10;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        CAPTURE(seed);
        test::run(local::body, seed, test::steps_per_program / seeds);
    }
}

}  // namespace
