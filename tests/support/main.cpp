#define DOCTEST_CONFIG_IMPLEMENT
#include "check.hpp"

#include <rondo/base/detail/pool.hpp>

#include <cstdio>
#include <string>

namespace {

std::string failed;  // a line for each test case that has; what the servers of tests log hides the checks' own words

struct between_tests : doctest::IReporter {
    explicit between_tests(const doctest::ContextOptions&) {}
    void test_case_start(const doctest::TestCaseData& test) override {
        current = &test;
        // A test with a million tasks leaves as many free blocks, which every leak check after it would count.
        rondo::detail::trim_frames();
    }
    void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
        const bool a_check_has_thrown = test::checks_under_way.exchange(0) != 0;
        if (stats.testCaseSuccess && !a_check_has_thrown) return;
        failed += std::string(current->m_file.c_str()) + ':' + std::to_string(current->m_line) + ": " + current->m_name;
        failed += a_check_has_thrown ? ": the expression of a check has thrown\n" : "\n";
    }
    const doctest::TestCaseData* current = nullptr;

    void report_query(const doctest::QueryData&) override {}
    void test_run_start() override {}
    void test_run_end(const doctest::TestRunStats&) override {}
    void test_case_reenter(const doctest::TestCaseData&) override {}
    void test_case_exception(const doctest::TestCaseException&) override {}
    void subcase_start(const doctest::SubcaseSignature&) override {}
    void subcase_end() override {}
    void log_assert(const doctest::AssertData&) override {}
    void log_message(const doctest::MessageData&) override {}
    void test_case_skipped(const doctest::TestCaseData&) override {}
};

DOCTEST_REGISTER_LISTENER("between_tests", 1, between_tests);

}  // namespace

int main(int argc, char** argv) {
    const int status = doctest::Context(argc, argv).run();
    if (failed.empty()) return status;
    std::fprintf(stderr, "Failed:\n%s", failed.c_str());
    return 1;
}
