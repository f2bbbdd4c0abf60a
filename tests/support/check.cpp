#include "check.hpp"

#include <utility>

namespace test {
namespace {

// What the last comparison that failed on this thread compared, until its check takes it.
thread_local doctest::String compared;

}  // namespace

void keep_text(const operand& left, const char* comparison, const operand& right) {
    compared = left.text(left.value) + comparison + right.text(right.value);
}

void keep_text(const operand& value) { compared = value.text(value.value); }

void checked(doctest::assertType::Enum kind, const char* file, int line, const char* text, verdict found) {
    checks_under_way.fetch_sub(1, std::memory_order_relaxed);
    doctest::String operands;
    if (!found.passed) operands = std::move(compared);
    doctest::detail::decomp_assert(kind, file, line, text, doctest::detail::Result(found.passed, operands));
}

}  // namespace test
