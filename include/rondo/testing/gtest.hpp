// Tests with GoogleTest that are coroutines: on the backend that RONDO_BACKEND names, or simulated in many worlds:
//
//     RONDO_TEST(Client, SaysHello) {
//         const std::string answer = co_await ask("hello");
//         EXPECT_EQ(answer, "pong");
//     }
//     RONDO_SIM_TEST(Client, ReconnectsAfterAPartition, rondo::seeds(200)) {   // `w` is its world
//         w.host("srv").run(app);
//         ...
//         EXPECT_EQ(answer, "pong");
//     }
//
// The first simulated run in which an expectation fails ends the test, writes its decisions to a file in the working
// directory (or RONDO_SIM_TRACE_DIR), with a timeline and a Chrome trace next to it, and says how to have that run
// again. Expectations in programs of other hosts count as well. ASSERT_... returns, which a coroutine cannot: take
// EXPECT_..., and `if (HasFailure()) co_return;` of ::testing::Test. Await into a variable first, for g++ 12.
#pragma once

#include <rondo/sim/simulate.hpp>
#include <rondo/task/run.hpp>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>

#include <atomic>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

namespace rondo::testing {

/// Counts the expectations that fail, on any thread; and while a run is made again, keeps what fails to itself.
class gtest_failures final : public ::testing::EmptyTestEventListener {
 public:
    static gtest_failures& here() {
        static gtest_failures& listens = [&]() -> gtest_failures& {
            auto* const made = new gtest_failures;
            ::testing::UnitTest::GetInstance()->listeners().Append(made);  // which owns it
            return *made;
        }();
        return listens;
    }

    std::uint64_t count() {
        if (silence_) {
            for (; looked_at_ < unsaid_->size(); ++looked_at_)
                if (unsaid_->GetTestPartResult(looked_at_).failed()) ++failures_;
        }
        return failures_.load();
    }
    void silence(bool begins) {
        looked_at_ = 0;
        if (begins) {
            unsaid_.emplace();
            using reporter = ::testing::ScopedFakeTestPartResultReporter;
            silence_.emplace(reporter::INTERCEPT_ALL_THREADS, &*unsaid_);
        } else {
            silence_.reset();
            unsaid_.reset();
        }
    }

 private:
    void OnTestPartResult(const ::testing::TestPartResult& result) override {
        if (result.failed()) ++failures_;
    }

    std::atomic<std::uint64_t> failures_{0};
    std::optional<::testing::TestPartResultArray> unsaid_;
    std::optional<::testing::ScopedFakeTestPartResultReporter> silence_;
    int looked_at_ = 0;
};

/// What RONDO_SIM_TEST does with its body.
template <class F>
void simulate_in_gtest(const char* file, int line, simulation what, F&& scenario) {
    const ::testing::TestInfo& test = *::testing::UnitTest::GetInstance()->current_test_info();
    const std::string name = std::string(test.test_suite_name()) + "." + test.name();
    const std::string command = std::string(program_invocation_name) + " --gtest_filter=" + name;
    what.name = name.c_str();
    what.command = command.c_str();
    if (what.trace_folder[0] == '\0') what.trace_folder = ".";
    what.failures = [](void*) { return gtest_failures::here().count(); };
    what.again = [](bool begins, void*) { gtest_failures::here().silence(begins); };  // what failed is said once
    const simulation_report report = explore(what, scenario);
    if (report.failed) ADD_FAILURE_AT(file, line) << report.message;
}

}  // namespace rondo::testing

/// RONDO_TEST(suite, name) { body }
#define RONDO_TEST(suite, name)                                      \
    static ::rondo::task<> rondo_test_##suite##_##name();            \
    TEST(suite, name) { ::rondo::run(rondo_test_##suite##_##name); } \
    static ::rondo::task<> rondo_test_##suite##_##name()

/// RONDO_SIM_TEST(suite, name, simulation) { body }
#define RONDO_SIM_TEST(suite, name, ...)                                                                        \
    static ::rondo::task<> rondo_simulated_##suite##_##name(::rondo::world& w);                                 \
    TEST(suite, name) {                                                                                         \
        ::rondo::testing::simulate_in_gtest(__FILE__, __LINE__, __VA_ARGS__, rondo_simulated_##suite##_##name); \
    }                                                                                                           \
    static ::rondo::task<> rondo_simulated_##suite##_##name([[maybe_unused]] ::rondo::world& w)
