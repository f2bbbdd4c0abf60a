// No memory for the n-th frame, for every n: what scopes are made of either works or fails as a whole.
#include "support/net.hpp"

#include <rondo/testing/every_step.hpp>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

const task_local<std::string> who("nobody");

task<int> answer(int value) {
    co_await sleep_for(1us);
    co_return value;
}

task<> serve_for_a_while(started<int> ready) {
    co_await yield();
    ready.set(static_cast<int>(who->size()));
    co_await sleep_for(1us);
}

// Every opening is matched by a closing, whatever fails in between.
int open_now = 0;

task<int> guarded() {
    auto body = []() -> task<int> {
        ++open_now;
        const int value = co_await with_timeout(1h, answer, 3);
        co_return value;
    };
    auto close = []() -> task<> {
        open_now = 0;
        co_await yield();
    };
    const int value = co_await with_cleanup(body, close, 1h);
    co_return value;
}

task<int> in_a_group() {
    auto body = [](task_group& group) -> task<int> {
        name_task("the body");
        auto a = group.spawn(answer, 1);
        auto b = group.spawn(guarded);
        group.spawn_background(answer, 7);
        const int length = co_await group.start(serve_for_a_while);
        const int x = co_await a;
        const int y = co_await b;
        co_return x + y + length;
    };
    const int sum = co_await with_task_group(body, {.max_running = 3});
    co_return sum;
}

task<> everything() {
    const int sum = co_await who.with(std::string("somebody"), in_a_group);
    CHECK(sum == 1 + 3 + 8);
    auto body = [](supervisor_group& group) -> task<> {
        auto value = group.spawn(answer, 5);
        const std::optional<int> five = co_await move_on_after(1h, [&]() -> task<int> {
            const int v = co_await value;
            co_return v;
        });
        CHECK(five == 5);
        const bool ran = co_await with_cancel_scope([](cancel_scope& scope) -> task<> {
            scope.cancel();
            co_await yield();
        });
        CHECK_FALSE(ran);
    };
    co_await with_supervisor_group(body);
    co_await shield([]() -> task<> { co_await yield(); });
}

TEST_CASE("memory: the n-th allocation of scopes, groups, start and cleanup fails: an error, and nothing leaks") {
    const auto program = []() -> task<> {
        CHECK(open_now == 0);
        co_await everything();
        CHECK(open_now == 0);
    };
    const testing::every_step_report report = testing::fail_each_allocation(program);
    CHECK_MESSAGE(report.ok(), report.text());
    CHECK(report.points > 15);
    CHECK(open_now == 0);
}

}  // namespace
