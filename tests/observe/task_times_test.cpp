// Who takes the time of a loop.
#include <rondo/observe/task_times.hpp>

#include "support/observed.hpp"

#include <rondo/observe/observers.hpp>
#include <rondo/observe/prometheus.hpp>

#include <algorithm>
#include <string>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;
using namespace test::observed;

namespace {

/// Takes a short step, a long one, and a short one.
task<> works(duration longest) {
    this_loop().spin(1ms);
    co_await yield();
    this_loop().spin(longest);
    co_await yield();
    this_loop().spin(1ms);
}

const task_times::row* row_of(const std::vector<task_times::row>& rows, std::uint64_t tasks) {
    const auto found = std::find_if(rows.begin(), rows.end(), [&](const auto& r) { return r.tasks == tasks; });
    return found == rows.end() ? nullptr : &*found;
}

/// Virtual time is exact. Real CPU time of a spin is less than what passes if others want the processor as well.
bool about(duration measured, duration expected) {
    return test::on_sim() ? measured == expected : measured > duration::zero();
}

}  // namespace

TEST_CASE("task_times: steps, CPU time and the longest step, by the line that spawned") {
    task_times times;
    run_under(times, []() -> task<> {
        const auto group = [](task_group& children) -> task<> {
            for (int i = 0; i < 3; ++i) children.spawn(works, 5ms + i * 1ms);
            co_return;
        };
        co_await with_task_group(group);
    });
    const auto rows = times.by_place();
    REQUIRE(rows.size() == 2);
    const task_times::row* const workers = row_of(rows, 3);
    REQUIRE(workers != nullptr);
    CHECK(workers == &rows[0]);
    CHECK(workers->time.steps == 9);
    CHECK(about(workers->time.cpu, 24ms));
    CHECK(about(workers->time.longest, 7ms));
    CHECK(workers->time.longest >= 7ms);
    CHECK(workers->time.longest_from.line() != 0);
    CHECK(workers->time.longest_from.line() < workers->spawned.line());  // the first yield in works()
    CHECK(times.not_counted() == 0);
    times.clear();
    CHECK(times.by_place().empty());
}

TEST_CASE("task_times: the await tree has them, as text and as JSON") {
    task_times times;
    run_under(times, []() -> task<> {
        auto worker = spawn([]() -> task<> {
            co_await works(7ms);
            co_await sleep_for(1h);
        });
        co_await sleep_for(20ms);
        const await_tree tree;
        const auto its = std::find_if(tree.nodes.begin(), tree.nodes.end(),
                                      [&](const tree_node& n) { return n.task != 1 && n.time.has_value(); });
        REQUIRE(its != tree.nodes.end());
        CHECK(its->time->steps == 3);
        CHECK(its->time->longest >= 7ms);
        CHECK(tree.text().find(" of CPU in 3 steps, the longest ") != std::string::npos);
        CHECK(tree.json().find("\"steps\":3,\"longest_ms\":") != std::string::npos);
        if (test::on_sim())
            CHECK(tree.text().find("9 ms of CPU in 3 steps, the longest 7 ms from task_times_test.cpp:") !=
                  std::string::npos);
        worker.cancel();
    });
    run_under(times, []() -> task<> { co_return; });
}

TEST_CASE("task_times: without it the tree says nothing of time") {
    test::run([]() -> task<> {
        const await_tree tree;
        CHECK_FALSE(tree.nodes.front().time.has_value());
        CHECK(tree.text().find("CPU") == std::string::npos);
        co_return;
    });
}

TEST_CASE("task_times: behind others, and of tasks that end without a step") {
    task_times times;
    checking_observer other;
    observers both{&other, &times};
    run_under(both, []() -> task<> {
        auto never_started = spawn(works, 1ms);
        never_started.cancel();
        co_await yield();
        task_time mine;
        CHECK(detail::engine::of(this_loop()).watched_by()->time_of(1, mine));
        CHECK(mine.steps == 1);
        CHECK_FALSE(detail::engine::of(this_loop()).watched_by()->time_of(2, mine));
    });
    CHECK(times.by_place().size() == 1);
}

TEST_CASE("task_times: a thousand tasks one after the other, and the same sums") {
    task_times times;
    run_under(times, []() -> task<> {
        for (int i = 0; i < 1000; ++i) {
            auto child = spawn(child_that_yields);
            co_await child;
        }
    });
    const auto rows = times.by_place();
    const task_times::row* const children = row_of(rows, 1000);
    REQUIRE(children != nullptr);
    CHECK(children->time.steps == 2000);
}

TEST_CASE("task_times: on `sim` they are the same in every run") {
    const auto once = [] {
        task_times times;
        loop_options options;
        options.kind = backend_kind::sim;
        options.observer = &times;
        rondo::run(options, []() -> task<> {
            auto child = spawn(works, 3ms);
            co_await child;
        });
        prometheus_writer text;
        write_metrics(text, times);
        return text.text();
    };
    const std::string first = once();
    CHECK(first == once());
    CHECK(first.find("rondo_task_cpu_seconds_total{spawned=\"task_times_test.cpp:") != std::string::npos);
    const auto all = parsed(first);
    const auto most = std::max_element(all.begin(), all.end(), [](const auto& a, const auto& b) {
        return (a.name == "rondo_task_cpu_seconds_total" ? a.value : -1) <
               (b.name == "rondo_task_cpu_seconds_total" ? b.value : -1);
    });
    CHECK(most->value == doctest::Approx(0.005));
    CHECK(first.find("rondo_task_longest_step_seconds{spawned=\"task_times_test.cpp:") != std::string::npos);
    CHECK(first.find("} 0.003\n") != std::string::npos);
}
