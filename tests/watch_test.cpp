#include <rondo/watch.hpp>

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
