// Metrics of a loop.
#include "../../lib/loop/engine.hpp"
#include "support/observed.hpp"

#include <rondo/observe/loop_metrics.hpp>
#include <rondo/sim/world_recorder.hpp>

using namespace rondo;
using namespace std::chrono_literals;
using namespace test::observed;

namespace {

TEST_CASE("loop_metrics: step time, queue wait, timer lateness and turns" * doctest::test_suite("order")) {
    loop_metrics metrics;
    run_under(metrics, []() -> task<> {
        this_loop().set_timeout(1ms, [] {});
        auto slow = spawn([]() -> task<> {
            this_loop().spin(20ms);
            co_return;
        });
        auto waits = spawn(child_that_yields);
        co_await slow;
        co_await waits;
        co_await sleep_for(1ms);
    });
    // Real loops take longer, never less.
    const auto about = [](const histogram& h, duration expected) {
        return test::on_sim() ? h.max() == expected : h.max() >= expected;
    };
    CHECK(about(metrics.step_time(), 20ms));
    CHECK(about(metrics.queue_wait(), 20ms));
    CHECK(about(metrics.timer_lateness(), 19ms));
    CHECK(about(metrics.turn_time(), 20ms));
    CHECK(metrics.step_time().count() == 8);   // main 4, slow 1, waits 2, the callback 1
    CHECK(metrics.queue_wait().count() == 7);  // of tasks
    CHECK(metrics.not_sampled() == 0);
    metrics.clear();
    CHECK(metrics.step_time().count() == 0);
}

}  // namespace
