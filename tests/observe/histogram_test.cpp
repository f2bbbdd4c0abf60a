// Histograms of durations.
#include "../../lib/loop/engine.hpp"
#include "support/observed.hpp"

#include <rondo/observe/loop_metrics.hpp>
#include <rondo/observe/prometheus.hpp>
#include <rondo/sim/world_recorder.hpp>

#include <algorithm>

using namespace rondo;
using namespace std::chrono_literals;
using namespace test::observed;

namespace {

TEST_CASE("histogram: quantiles within an eighth, powers of two exactly") {
    std::uint64_t state = 1;
    const auto next = [&] { return state = state * 6364136223846793005u + 1442695040888963407u; };
    histogram h;
    std::vector<std::int64_t> all;
    std::int64_t sum = 0;
    for (int i = 0; i < 20000; ++i) {
        const auto ns = static_cast<std::int64_t>((next() >> 20) >> (next() >> 59));  // of all sizes
        h.add(duration(ns));
        all.push_back(ns);
        sum += ns;
    }
    std::sort(all.begin(), all.end());
    CHECK(h.count() == all.size());
    CHECK(h.sum().count() == sum);
    CHECK(h.max().count() == all.back());
    for (const std::uint32_t per_mille : {1u, 100u, 500u, 900u, 990u, 999u, 1000u}) {
        const std::int64_t exact = all[(all.size() * per_mille + 999) / 1000 - 1];
        const std::int64_t said = h.quantile(per_mille).count();
        CHECK(said >= exact);
        if (exact < std::int64_t{1} << 40) CHECK(said <= exact + exact / 8 + 1);
    }
    for (unsigned power = 0; power <= 41; ++power)
        CHECK(h.up_to_power(power) ==
              static_cast<std::uint64_t>(std::upper_bound(all.begin(), all.end(), std::int64_t{1} << power) -
                                         all.begin()));
}

TEST_CASE("histogram: empty, negative, huge; merged") {
    histogram h;
    CHECK(h.quantile(500) == duration(0));
    h.add(duration(-5));
    h.add(duration::max());
    CHECK(h.quantile(500) == duration(1));
    CHECK(h.quantile(1000) == duration::max());
    CHECK(h.up_to_power(41) == 1);
    histogram other;
    other.add(1ms);
    h.merge(other);
    CHECK(h.count() == 3);
    CHECK(h.up_to_power(20) == 2);
    h.clear();
    CHECK(h.count() == 0);
}

TEST_CASE("prometheus: what a loop counts, with its histograms") {
    loop_metrics metrics;
    std::string text;
    run_under(metrics, [&]() -> task<> {
        co_await something_of_everything();
        text = prometheus_text(this_loop(), &metrics);
        const auto without = parsed(prometheus_text(this_loop()));
        CHECK(find(without, "rondo_loop_step_seconds_count") == nullptr);
    });
    const auto all = parsed(text);
    CHECK(find(all, "rondo_loop_tasks")->value == 1);
    CHECK(find(all, "rondo_loop_steps_total")->value > 500);
    for (const char* name : {"rondo_loop_timer_lateness_seconds", "rondo_loop_queue_wait_seconds",
                             "rondo_loop_step_seconds", "rondo_loop_turn_seconds"})
        check_histogram(all, name);
}

}  // namespace
