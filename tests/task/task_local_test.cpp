// task_local: what is bound, where it is seen, and when it goes.
#include "support/every_step.hpp"

#include <memory>

using namespace rondo;
using test::journal;
using namespace std::chrono_literals;

namespace {

task_local<std::string> name("none");
task_local<int> depth;

task<std::string> current_name() {
    co_await yield();
    co_return *name;
}

TEST_CASE("task_local: bound for a call, what it calls, and what it spawns; nowhere else") {
    struct local {
        static task<> inner(journal& j) {
            j.add(*name);
            auto child = spawn(current_name);
            const std::string seen = co_await child;
            j.add(seen);
            const std::string nested = co_await name.with("inner", current_name);
            j.add(nested);
            j.add(name.get());
        }
        static task<> body(journal& j) {
            j.add(*name);
            co_await name.with("outer", inner, j);
            j.add(*name);
        }
    };
    journal j;
    test::run(local::body, std::ref(j));
    CHECK(j.text() == "none outer outer inner outer none");
}

TEST_CASE("task_local: a child keeps what it was spawned with, after the call that bound it has ended") {
    struct local {
        static task<> spawns(task_handle<std::string>& child) {
            child = spawn(current_name);
            co_return;
        }
        static task<> body() {
            task_handle<std::string> child;
            co_await name.with("kept", spawns, child);
            CHECK(*name == "none");
            const std::string seen = co_await child;
            CHECK(seen == "kept");
        }
    };
    test::run(local::body);
}

TEST_CASE("task_local: each key has its own value; a callback sees the one outside") {
    struct local {
        static task<> both() {
            CHECK(*name == "a");
            CHECK(*depth == 3);
            std::string in_callback;
            this_loop().queue_microtask([&] { in_callback = *name; });
            co_await yield();
            CHECK(in_callback == "none");
        }
        static task<> body() {
            auto with_depth = [] { return depth.with(3, both); };
            auto inner = [&]() -> task<> { co_await with_depth(); };
            co_await name.with("a", inner);
            CHECK(*depth == 0);
        }
    };
    test::run(local::body);
    CHECK(*depth == 0);
}

TEST_CASE("task_local: an error leaves through it, and the binding goes") {
    struct local {
        static task<> fails() {
            co_await yield();
            throw std::runtime_error("seen");
        }
        static task<> body() {
            bool seen = false;
            try {
                co_await name.with("x", fails);
            } catch (const std::runtime_error&) {
                seen = true;
            }
            CHECK(seen);
            CHECK(*name == "none");
        }
    };
    test::run(local::body);
}

TEST_CASE("task_local: a value lives as long as the last task that has it") {
    static task_local<std::shared_ptr<int>> shared;
    struct local {
        static task<> child() { co_await sleep_for(2ms); }
        static task<> spawns(task_handle<>& to) {
            to = spawn(child);
            co_return;
        }
        static task<> body() {
            auto value = std::make_shared<int>(1);
            task_handle<> running;
            co_await shared.with(value, spawns, running);
            CHECK(value.use_count() == 2);
            co_await running;
            running.discard();
            CHECK(value.use_count() == 1);
            auto never_awaited = [&]() -> task<> { co_return; };
            auto called = shared.with(value, never_awaited);
            CHECK(value.use_count() == 2);
            co_await called;
            CHECK(value.use_count() == 1);
        }
    };
    test::run(local::body);
}

TEST_CASE("cancel at every step: bindings in bindings, inherited by children") {
    struct local {
        static task<> leaf() {
            co_await sleep_for(1us);
            CHECK(*name != "none");
        }
        static task<> middle() {
            auto a = spawn(leaf);
            co_await name.with("middle", leaf);
            co_await a;
        }
        static task<> body() {
            co_await name.with("body", middle);
            co_await name.with("again", leaf);
        }
    };
    CHECK(test::cancel_at_every_step(local::body) > 0);
}

}  // namespace
