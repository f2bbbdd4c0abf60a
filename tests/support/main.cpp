#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <rondo/base/detail/pool.hpp>

namespace {

// A test with a million tasks leaves as many free blocks, which every leak check after it would count.
struct trimmer : doctest::IReporter {
    explicit trimmer(const doctest::ContextOptions&) {}
    void test_case_start(const doctest::TestCaseData&) override { rondo::detail::trim_frames(); }

    void report_query(const doctest::QueryData&) override {}
    void test_run_start() override {}
    void test_run_end(const doctest::TestRunStats&) override {}
    void test_case_reenter(const doctest::TestCaseData&) override {}
    void test_case_end(const doctest::CurrentTestCaseStats&) override {}
    void test_case_exception(const doctest::TestCaseException&) override {}
    void subcase_start(const doctest::SubcaseSignature&) override {}
    void subcase_end() override {}
    void log_assert(const doctest::AssertData&) override {}
    void log_message(const doctest::MessageData&) override {}
    void test_case_skipped(const doctest::TestCaseData&) override {}
};

DOCTEST_REGISTER_LISTENER("trimmer", 1, trimmer);

}  // namespace
