// latch, barrier and once: tasks that meet, once or again and again.
#include "support/every_step.hpp"
#include "support/steps.hpp"

#include <deque>
#include <map>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

// --- latch -----------------------------------------------------------------------------------------------

task<> wait_for(latch& l, journal& j, const char* name) {
    co_await l.wait();
    j.add(name);
}

TEST_CASE("latch: opens when the count is zero, and stays open" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            latch l(3, "start");
            auto a = spawn(wait_for, std::ref(l), std::ref(j), "a");
            auto b = spawn(wait_for, std::ref(l), std::ref(j), "b");
            co_await yield();
            CHECK(l.waiting() == 2);
            CHECK(l.name() == std::string("start"));
            l.count_down();
            CHECK(l.count() == 2);
            l.count_down(0);
            co_await yield();
            CHECK_FALSE(l.try_wait());
            j.add("open");
            l.count_down(2);
            CHECK(l.try_wait());
            co_await a;
            co_await b;
            co_await l.wait();
            l.count_down(0);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "open a b");
}

TEST_CASE("latch: arrive_and_wait counts even if the wait is cancelled, but not in a task that was cancelled before") {
    struct local {
        static task<> arrives(latch& l) { co_await l.arrive_and_wait(); }
        static task<> arrives_late(latch& l) {
            try {
                co_await sleep_for(1h);
            } catch (const cancelled&) {
            }
            co_await l.arrive_and_wait();
        }
        static task<> body() {
            latch l(3);
            auto a = spawn(arrives, std::ref(l));
            auto b = spawn(arrives_late, std::ref(l));
            co_await test::others_first();
            CHECK(l.count() == 2);
            a.cancel();
            b.cancel();
            co_await test::others_first();
            CHECK(l.count() == 2);
            CHECK(l.waiting() == 0);
            auto c = spawn(arrives, std::ref(l));
            co_await test::others_first();
            CHECK(l.waiting() == 1);
            co_await l.arrive_and_wait();
            co_await c;
            const auto after = co_await attempt(l.wait());
            CHECK(after.has_value());
        }
    };
    test::run(local::body);
}

TEST_CASE("latch: cancelled at every step") {
    struct local {
        static task<> arrives(latch& l) {
            co_await immediate();
            co_await l.arrive_and_wait();
            co_await yield();
        }
        static task<> program() {
            latch l(4);
            auto body = [&l](task_group& group) -> task<> {
                for (int i = 0; i < 3; ++i) group.spawn(arrives, std::ref(l)).discard();
                co_await arrives(l);
            };
            co_await with_task_group(body);
            CHECK(l.waiting() == 0);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 0);
}

// --- barrier ---------------------------------------------------------------------------------------------

TEST_CASE("barrier: every round waits for all, and the last to arrive goes on before the others" *
          doctest::test_suite("order")) {
    struct local {
        static task<> party(barrier& b, journal& j, const char* name) {
            for (int round = 0; round < 2; ++round) {
                j.add(name);
                const bool last = co_await b.arrive_and_wait();
                if (last) j.add("|");
            }
        }
        static task<> body(journal& j) {
            barrier b(3, "rounds");
            CHECK(b.parties() == 3);
            CHECK(b.name() == std::string("rounds"));
            auto x = spawn(party, std::ref(b), std::ref(j), "x");
            auto y = spawn(party, std::ref(b), std::ref(j), "y");
            co_await yield();
            CHECK(b.waiting() == 2);
            auto z = spawn(party, std::ref(b), std::ref(j), "z");
            co_await x;
            co_await y;
            co_await z;
            CHECK(b.waiting() == 0);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "x y z | z x y |");
}

task<> arrive(barrier& b, journal& j, const char* name) {
    const bool last = co_await b.arrive_and_wait();
    j.add(std::string(name) + (last ? "!" : ""));
}

TEST_CASE("barrier: a cancelled party just leaves the round, which needs one more (asyncio)") {
    struct local {
        static task<> body(journal& j) {
            barrier b(2);
            auto a = spawn(arrive, std::ref(b), std::ref(j), "a");
            co_await test::others_first();
            a.cancel();
            CHECK(b.waiting() == 0);
            auto c = spawn(arrive, std::ref(b), std::ref(j), "c");
            co_await test::others_first();
            CHECK(b.waiting() == 1);
            auto d = spawn(arrive, std::ref(b), std::ref(j), "d");
            co_await c;
            co_await d;
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "d! c");
}

TEST_CASE("barrier: a cancel that comes after the round was full changes nothing") {
    struct local {
        static task<> body(journal& j) {
            barrier b(2);
            auto a = spawn(arrive, std::ref(b), std::ref(j), "a");
            co_await test::others_first();
            const bool last = co_await b.arrive_and_wait();
            CHECK(last);
            a.cancel();
            co_await test::others_first();
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a");
}

TEST_CASE("barrier: a party that drops out counts no more, and may complete the round" * doctest::test_suite("order")) {
    struct local {
        static task<> body(journal& j) {
            barrier b(3);
            auto a = spawn(arrive, std::ref(b), std::ref(j), "a");
            auto c = spawn(arrive, std::ref(b), std::ref(j), "c");
            co_await yield();
            CHECK(b.arrive_and_drop());
            CHECK(b.parties() == 2);
            co_await a;
            co_await c;
            CHECK_FALSE(b.arrive_and_drop());
            const bool alone = co_await b.arrive_and_wait();
            CHECK(alone);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "a c");
}

TEST_CASE("barrier: cancelled at every step") {
    struct local {
        static task<> party(barrier& b) {
            for (int i = 0; i < 3; ++i) {
                co_await immediate();
                const bool last = co_await b.arrive_and_wait();
                if (last) co_await yield();
            }
        }
        static task<> program() {
            barrier b(3);
            auto body = [&b](task_group& group) -> task<> {
                for (int i = 0; i < 2; ++i) group.spawn(party, std::ref(b)).discard();
                co_await party(b);
            };
            co_await with_task_group(body);
            CHECK(b.waiting() == 0);
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 1);
}

TEST_CASE("latch, barrier: a deadlock report says which one") {
    struct local {
        static task<> at_latch(latch& l) { co_await l.wait(); }
        static task<> body(latch& l, barrier& b) {
            auto other = spawn(at_latch, std::ref(l));
            co_await b.arrive_and_wait();
        }
    };
    latch l(2, "start");
    barrier b(2, "rounds");
    std::string report;
    try {
        test::run(local::body, std::ref(l), std::ref(b));
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CHECK(report.find("waits: latch 'start', 1 waiting") != std::string::npos);
    CHECK(report.find("waits: barrier 'rounds', 1 waiting") != std::string::npos);
}

// --- random steps ----------------------------------------------------------------------------------------

/// Barriers and latches whose parties arrive, leave and drop out at random; the model is who waits.
class random_meetings {
 public:
    explicit random_meetings(std::uint64_t seed) : rolls_(seed) {}

    task<> rounds_of_a_barrier(int steps) {
        barrier b(1 + rolls_.below(5));
        std::size_t parties = b.parties();
        for (; steps > 0 && parties > 0; --steps) {
            const std::size_t what = rolls_.below(400);
            if (what < 280) {
                begin(&random_meetings::at_barrier, b);
                co_await rounds();
                if (waiting_.size() >= parties) pass(true);
            } else if (what < 399) {
                co_await cancel_one();
            } else if (parties > 1) {  // the last ones stay
                --parties;
                const bool completes = !waiting_.empty() && waiting_.size() >= parties;
                CHECK(b.arrive_and_drop() == completes);
                co_await rounds();
                if (completes) pass(false);
            }
            compare(b.waiting());
            CHECK(b.parties() == parties);
        }
        co_await end();
    }

    task<> a_latch(int& steps) {
        std::size_t count = rolls_.below(12);
        latch l(count);
        for (; steps > 0 && (count != 0 || !rolls_.one_in(10)); --steps) {
            const std::size_t what = rolls_.below(10);
            if (what < 4) {
                begin(&random_meetings::at_latch, l);
                co_await rounds();
                if (count == 0) pass(false);
            } else if (what < 6) {
                if (count != 0) {
                    --count;
                    begin(&random_meetings::arrives_at_latch, l);
                    co_await rounds();
                    if (count == 0) pass(false);
                }
            } else if (what < 9) {
                co_await cancel_one();
            } else if (count != 0) {
                const std::size_t n = 1 + rolls_.below(count);
                l.count_down(n);
                count -= n;
                co_await rounds();
                if (count == 0) pass(false);
            }
            compare(l.waiting());
            CHECK(l.count() == count);
        }
        co_await end();
    }

 private:
    task<> at_barrier(barrier& b, int name) {
        const bool last = co_await b.arrive_and_wait();
        passed_[name] = last;
    }
    task<> at_latch(latch& l, int name) {
        co_await l.wait();
        passed_[name] = false;
    }
    task<> arrives_at_latch(latch& l, int name) {
        co_await l.arrive_and_wait();
        passed_[name] = false;
    }
    static task<> rounds() {
        co_await yield();
        co_await yield();
    }

    template <class Body, class What>
    void begin(Body body, What& at) {
        ++names_;
        waiting_[names_] = spawn(body, this, std::ref(at), names_);
    }
    /// All who wait go on; the latest to come is the last one, if there is such.
    void pass(bool latest_is_last) {
        for (auto& [name, task] : waiting_) {
            CHECK(task.done());
            should_have_passed_[name] = latest_is_last && name == names_;
        }
        waiting_.clear();
    }
    task<> cancel_one() {
        if (waiting_.empty()) co_return;
        const auto at = std::next(waiting_.begin(), static_cast<long>(rolls_.below(waiting_.size())));
        at->second.cancel();
        co_await rounds();
        CHECK(at->second.state() == task_state::cancelled);
        waiting_.erase(at);
    }
    void compare(std::size_t really_waiting) {
        if (really_waiting != waiting_.size()) FAIL_CHECK("waiting");
        for (auto& [name, task] : waiting_)
            if (task.done()) FAIL_CHECK("one went on alone");
        CHECK(passed_ == should_have_passed_);
        passed_.clear();
        should_have_passed_.clear();
    }
    task<> end() {
        while (!waiting_.empty()) co_await cancel_one();
    }

    test::dice rolls_;
    int names_ = 0;
    std::map<int, task_handle<>> waiting_;
    std::map<int, bool> passed_, should_have_passed_;  // and whether as the last
};

TEST_CASE("barrier: random arrivals, departures and cancels, compared with a list" * doctest::test_suite("order")) {
    struct local {
        static task<> body(std::uint64_t seed, int steps) {
            random_meetings program(seed);
            co_await program.rounds_of_a_barrier(steps);
        }
    };
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        CAPTURE(seed);
        test::run(local::body, seed, test::steps_per_program / 200);
    }
}

TEST_CASE("latch: random arrivals and cancels, compared with a count and a list" * doctest::test_suite("order")) {
    struct local {
        static task<> body(std::uint64_t seed, int steps) {
            random_meetings program(seed);
            while (steps > 0) co_await program.a_latch(steps);
        }
    };
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        CAPTURE(seed);
        test::run(local::body, seed, test::steps_per_program / 50);
    }
}

// --- once ------------------------------------------------------------------------------------------------

struct loading {
    once loaded{"config"};
    journal j;
    int failures = 0;

    task<> load() {
        j.add("load");
        co_await immediate();
        if (failures > 0) {
            --failures;
            throw std::runtime_error("load");
        }
    }
    task<> use(const char* name) {
        co_await loaded.run([this] { return load(); });
        j.add(name);
    }
};

TEST_CASE("once: the first does it, the others wait for that, later ones do not wait" * doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            loading l;
            CHECK_FALSE(l.loaded.done());
            auto a = spawn(&loading::use, &l, "a");
            auto b = spawn(&loading::use, &l, "b");
            auto c = spawn(&loading::use, &l, "c");
            co_await a;
            co_await b;
            co_await c;
            CHECK(l.loaded.done());
            co_await l.use("late");
            CHECK(l.j.text() == "load a b c late");
        }
    };
    test::run(local::body);
}

TEST_CASE("once: if it fails, that caller gets the error and the next one tries" * doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            loading l;
            l.failures = 1;
            auto a = spawn(&loading::use, &l, "a");
            auto b = spawn(&loading::use, &l, "b");
            auto c = spawn(&loading::use, &l, "c");
            bool failed = false;
            try {
                co_await a;
            } catch (const std::runtime_error&) {
                failed = true;
            }
            CHECK(failed);
            co_await b;
            co_await c;
            CHECK(l.j.text() == "load load b c");
        }
    };
    test::run(local::body);
}

TEST_CASE("once: if it is cancelled, the next one tries; one that waits may leave" * doctest::test_suite("order")) {
    struct local {
        static task<> body() {
            loading l;
            auto a = spawn(&loading::use, &l, "a");
            auto b = spawn(&loading::use, &l, "b");
            auto c = spawn(&loading::use, &l, "c");
            co_await yield();
            a.cancel();
            b.cancel();
            co_await c;
            CHECK(a.state() == task_state::cancelled);
            CHECK(b.state() == task_state::cancelled);
            CHECK(l.j.text() == "load load c");
        }
    };
    test::run(local::body);
}

TEST_CASE("once: what it runs cannot wait for itself") {
    struct local {
        static task<> recursive(once& o) {
            co_await o.run([&o] { return recursive(o); });
        }
        static task<> body() {
            once o("itself");
            std::string message;
            try {
                co_await recursive(o);
            } catch (const std::system_error& e) {
                CHECK(e.code() == std::errc::resource_deadlock_would_occur);
                message = e.what();
            }
            CHECK(message.starts_with("lock once 'itself', which the task holds already"));
            CHECK_FALSE(o.done());
        }
    };
    test::run(local::body);
}

TEST_CASE("once: cancelled at every step, it is done once or not at all") {
    struct local {
        static task<> use(once& o, int& times) {
            co_await o.run([&times]() -> task<> {
                co_await immediate();
                ++times;
            });
        }
        static task<> program() {
            once o;
            int times = 0;
            auto body = [&](task_group& group) -> task<> {
                for (int i = 0; i < 3; ++i) group.spawn(use, std::ref(o), std::ref(times)).discard();
                co_await use(o, times);
            };
            co_await with_task_group(body);
            CHECK(times == (o.done() ? 1 : 0));
        }
    };
    CHECK(test::cancel_at_every_step(local::program) > 0);
}

}  // namespace
