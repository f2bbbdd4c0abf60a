// What is done once, by the first who asks.
#include "support/every_step.hpp"
#include "support/steps.hpp"

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

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
