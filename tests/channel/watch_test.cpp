#include <rondo/channel/watch.hpp>

#include "support/every_step.hpp"

#include <string>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

task<std::string> follow(watch<int>& of) {
    std::string seen;
    watch_reader<int> reader = of.reader();
    while (auto value = co_await reader.changed()) seen += std::to_string(*value) + " ";
    co_return seen;
}

}  // namespace

TEST_CASE("watch: each reader sees the latest value, and none twice") {
    test::run([]() -> task<> {
        watch<int> level(0);
        auto a = spawn(follow, std::ref(level));
        auto b = spawn(follow, std::ref(level));
        co_await test::others_first();
        level.set(1);
        co_await test::others_first();
        co_await test::others_first();
        level.set(2);
        level.set(3);  // whoever was slow has not missed it: it is the value
        level.update([](int& v) { return ++v, true; });
        level.update([](int&) { return false; });  // no change
        CHECK(level.version() == 4);
        co_await test::others_first();
        co_await test::others_first();
        level.set(5);
        level.close();
        const std::string by_a = co_await a;
        const std::string by_b = co_await b;
        CHECK(by_a == "1 4 5 ");  // also what came right before the end
        CHECK(by_b == by_a);
    });
}

TEST_CASE("watch: a change that nobody waits for is found later") {
    test::run([]() -> task<> {
        watch<std::string> name("a");
        watch_reader<std::string> reader = name.reader();
        CHECK_FALSE(reader.has_changed());
        name.set("b");
        CHECK(reader.has_changed());
        const std::string* const changed = co_await reader.changed();
        REQUIRE(changed);
        CHECK(*changed == "b");
        CHECK(&reader.get() == changed);
        watch_reader<std::string> copy = reader;
        name.close();
        const std::string* const none = co_await copy.changed();
        CHECK_FALSE(none);
    });
}

TEST_CASE("watch: a cancelled wait has not seen the change") {
    test::run([]() -> task<> {
        watch<int> level(0);
        watch_reader<int> reader = level.reader();
        auto waits = spawn([&]() -> task<> { static_cast<void>(co_await reader.changed()); });
        co_await yield();
        waits.cancel();
        level.set(1);
        static_cast<void>(co_await attempt(waits));
        CHECK(reader.has_changed());
    });
}

// The first to go on counted the change as seen, and the second, woken by the same change, was told that there
// would be no other.
TEST_CASE("watch: two tasks with one reader both see the change that woke them, and both the end") {
    struct local {
        static task<> looks(watch_reader<int>& r, std::string& seen) {
            const int* const value = co_await r.changed();
            seen += value != nullptr ? std::to_string(*value) : "-";
        }
        static task<> body() {
            watch<int> w(0);
            auto reader = w.reader();
            std::string seen;
            const auto two = [&](task_group& g) -> task<> {
                g.spawn(looks, std::ref(reader), std::ref(seen)).discard();
                g.spawn(looks, std::ref(reader), std::ref(seen)).discard();
                co_await test::others_first();
            };
            const auto change = [&](task_group& g) -> task<> {
                co_await two(g);
                w.set(1);
            };
            co_await with_task_group(change);
            CHECK(seen == "11");
            const auto end = [&](task_group& g) -> task<> {
                co_await two(g);
                w.close();
            };
            co_await with_task_group(end);
            CHECK(seen == "11--");
        }
    };
    test::run(local::body);
}

TEST_CASE("watch: once closed it does not change any more") {
    test::run([]() -> task<> {
        watch<int> w(1);
        auto reader = w.reader();
        const bool before = w.set(2);
        CHECK(before);
        w.close();
        CHECK_FALSE(w.set(3));
        CHECK_FALSE(w.update([](int& n) { return ++n, true; }));
        CHECK(w.get() == 2);
        const int* const last = co_await reader.changed();
        REQUIRE(last != nullptr);
        CHECK(*last == 2);
        const int* const end = co_await reader.changed();
        CHECK(end == nullptr);
    });
}

TEST_CASE("watch: cancel at every step") {
    const auto program = []() -> task<> {
        watch<int> level(0);
        co_await with_task_group([&](task_group& group) -> task<> {
            auto follower = group.spawn(follow, std::ref(level));
            for (int i = 1; i < 4; ++i) {
                co_await sleep_for(1ms);
                level.set(i);
            }
            level.close();
            const std::string seen = co_await follower;
            CHECK(seen == "1 2 3 ");
        });
    };
    CHECK(test::cancel_at_every_step(program) > 0);
}
