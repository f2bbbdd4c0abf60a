// Tests with doctest that are coroutines: on the backend that RONDO_BACKEND names, or simulated in many worlds:
//
//     RONDO_TEST("client: says hello") {
//         const std::string answer = co_await ask("hello");
//         CHECK(answer == "pong");
//     }
//
//     RONDO_SIM_TEST("client: reconnects after a partition", rondo::seeds(200)) {   // a coroutine; `w` is its world
//         w.host("srv").run(app);
//         ...
//         CHECK(answer == "pong");
//     }
//
// The first simulated run in which a check fails ends the test, writes its decisions to a file in the working directory
// (or RONDO_SIM_TRACE_DIR), with a timeline and a Chrome trace next to it, and says how to have that run again.
// Asserts in programs of other hosts count as well. When all tests are over, a line on standard error says how many
// worlds there were (--success says it for each test; --quiet, --minimal and RONDO_SIM_QUIET=1: never). Await into a
// variable first: CHECK(co_await x) does not work on g++ 12.
#pragma once

#include <rondo/sim/simulate.hpp>
#include <rondo/task/run.hpp>

#include <cerrno>
#include <cstdint>
#include <string>

#include <atomic>
#include <doctest/doctest.h>

namespace rondo::testing {

/// Counts the failed asserts of the process, which may be made on any thread; and the worlds of its tests.
struct failure_counter final : doctest::IReporter {
    static inline std::atomic<std::uint64_t> failures{0};
    static inline simulation_counts counts;
    static inline std::uint64_t simulations = 0;  // tests that simulate
    static inline std::uint64_t failed_simulations = 0;  // and of these, which have failed

    explicit failure_counter(const doctest::ContextOptions& options) : silent_(options.quiet || options.minimal) {}
    void report_query(const doctest::QueryData&) override {}
    void test_run_start() override {}
    void test_run_end(const doctest::TestRunStats&) override {
        if (counts.worlds == 0 || silent_) return;
        rondo::detail::say("[rondo] " + std::to_string(simulations) +
                           (simulations == 1 ? " simulated test, " : " simulated tests, ") +
                           std::to_string(counts.worlds) + (counts.worlds == 1 ? " world, " : " worlds, ") +
                           (failed_simulations == 0 ? "none" : std::to_string(failed_simulations)) + " failed (" +
                           counts.text() + ")");
    }
    void test_case_start(const doctest::TestCaseData&) override {}
    void test_case_reenter(const doctest::TestCaseData&) override {}
    void test_case_end(const doctest::CurrentTestCaseStats&) override {}
    void test_case_exception(const doctest::TestCaseException&) override {}
    void subcase_start(const doctest::SubcaseSignature&) override {}
    void subcase_end() override {}
    void log_assert(const doctest::AssertData& assert) override {
        if (assert.m_failed) ++failures;
    }
    void log_message(const doctest::MessageData& message) override {
        if ((message.m_severity & doctest::assertType::is_warn) == 0) ++failures;
    }
    void test_case_skipped(const doctest::TestCaseData&) override {}

 private:
    const bool silent_;
};
REGISTER_LISTENER("rondo", 1, failure_counter);

/// What RONDO_SIM_TEST does with its body.
template <class F>
void simulate_in_doctest(const char* name, simulation what, F&& scenario) {
    const std::string command = std::string(program_invocation_name) + " -tc=\"" + name + "\"";
    what.name = name;
    what.command = command.c_str();
    if (what.trace_folder[0] == '\0') what.trace_folder = ".";
    what.failures = [](void*) { return failure_counter::failures.load(); };
    what.again = [](bool begins, void*) {  // a failed check is printed once
        const_cast<doctest::detail::TestCase*>(doctest::getContextOptions()->currentTest)->m_no_output = begins;
    };
    const simulation_report report = explore(what, scenario);
    failure_counter::counts += report.counts;
    ++failure_counter::simulations;
    failure_counter::failed_simulations += report.failed;
    if (report.failed) {
        FAIL_CHECK(report.message);
    } else if (doctest::getContextOptions()->success) {
        rondo::detail::say("[rondo] " + report.message);
    }
}

}  // namespace rondo::testing

#define RONDO_TEST_AS(function, name)           \
    static ::rondo::task<> function();          \
    TEST_CASE(name) { ::rondo::run(function); } \
    static ::rondo::task<> function()

/// RONDO_TEST(name) { body }
#define RONDO_TEST(name) RONDO_TEST_AS(DOCTEST_ANONYMOUS(rondo_test_), name)

#define RONDO_SIM_TEST_AS(function, name, ...)                                              \
    static ::rondo::task<> function(::rondo::world& w);                                     \
    TEST_CASE(name) { ::rondo::testing::simulate_in_doctest(name, __VA_ARGS__, function); } \
    static ::rondo::task<> function([[maybe_unused]] ::rondo::world& w)

/// RONDO_SIM_TEST(name, simulation) { body }
#define RONDO_SIM_TEST(name, ...) RONDO_SIM_TEST_AS(DOCTEST_ANONYMOUS(rondo_simulated_), name, __VA_ARGS__)
