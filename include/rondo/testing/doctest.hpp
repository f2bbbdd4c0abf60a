// Simulated tests with doctest:
//
//     RONDO_SIM_TEST("client: reconnects after a partition", rondo::seeds(200)) {   // a coroutine; `w` is its world
//         w.host("srv").run(app);
//         ...
//         CHECK(answer == "pong");
//     }
//
// The first run in which a check fails ends the test, writes its decisions to a file in the working directory
// (or RONDO_SIM_TRACE_DIR), with a timeline and a Chrome trace next to it, and says how to have that run again.
// Asserts in programs of other hosts count as well. Await into a variable first: CHECK(co_await x) does not work
// on g++ 12.
#pragma once

#include <rondo/sim/simulate.hpp>

#include <cerrno>
#include <cstdint>
#include <string>

#include <atomic>
#include <doctest/doctest.h>

namespace rondo::testing {

/// Counts the failed asserts of the process, which may be made on any thread.
struct failure_counter final : doctest::IReporter {
    static inline std::atomic<std::uint64_t> failures{0};

    explicit failure_counter(const doctest::ContextOptions&) {}
    void report_query(const doctest::QueryData&) override {}
    void test_run_start() override {}
    void test_run_end(const doctest::TestRunStats&) override {}
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
    if (report.failed) FAIL_CHECK(report.message);
}

}  // namespace rondo::testing

#define RONDO_SIM_TEST_AS(function, name, ...)                                        \
    static ::rondo::task<> function(::rondo::world& w);                               \
    TEST_CASE(name) { ::rondo::testing::simulate_in_doctest(name, __VA_ARGS__, function); } \
    static ::rondo::task<> function([[maybe_unused]] ::rondo::world& w)

/// RONDO_SIM_TEST(name, simulation) { body }
#define RONDO_SIM_TEST(name, ...) RONDO_SIM_TEST_AS(DOCTEST_ANONYMOUS(rondo_simulated_), name, __VA_ARGS__)
