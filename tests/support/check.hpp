// CHECK and REQUIRE of doctest, in a form that is cheap to compile: four thousand of them stand in coroutines, where
// the code that doctest's macros expand to (an object that must be destroyed, a handler of exceptions) took a fifth of
// the time that the tests need to be built. Here a check compares, and hands one bool to a function that is compiled
// once. The operands become text only where the check fails.
// Unlike doctest's, a check whose expression throws lets the exception go on. That fails the test case, also where
// somebody catches it: a check that has begun must end.
#pragma once

// Else comparisons of numbers of different signs are warned of, which pragmas do not end where the header is
// precompiled.
#pragma GCC system_header

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <type_traits>

namespace test {

/// A value that a failed check shows, and how it becomes text.
struct operand {
    const void* value;
    doctest::String (*text)(const void*);
};

template <class T>
doctest::String text_of_operand(const void* value) {
    using doctest::toString;
    return toString(*static_cast<const T*>(value));
}

inline doctest::String text_of_literal(const void* value) { return static_cast<const char*>(value); }

template <class T>
operand show(const T& value) {
    const volatile void* address = std::addressof(value);
    return {const_cast<const void*>(address), &text_of_operand<std::remove_volatile_t<T>>};
}

template <std::size_t N>
operand show(const char (&value)[N]) {
    return {static_cast<const void*>(value), &text_of_literal};
}

/// Keeps the text of a comparison that failed for the report of its check.
[[gnu::cold]] void keep_text(const operand& left, const char* comparison, const operand& right);
[[gnu::cold]] void keep_text(const operand& value);

/// What a check found. It has no operators, so that no check of `a == b && c` compiles: its parts are no operands.
struct verdict {
    bool passed;
};

/// Checks that have begun and not ended, on any thread. More than none at the end of a test case have thrown.
inline constinit std::atomic<int> checks_under_way{0};

/// Ends a check, and counts it; reports one that failed. A REQUIRE that failed throws.
void checked(doctest::assertType::Enum kind, const char* file, int line, const char* text, verdict found);

/// The left operand of a check, or its only one. `Expected` is false for CHECK_FALSE.
template <class L, bool Expected>
struct left_operand {
    const L& value;

    operator verdict() const {
        const bool passed = static_cast<bool>(value) == Expected;
        if (!passed) [[unlikely]]
            keep_text(show(value));
        return {passed};
    }

#define RONDO_TEST_COMPARISON(op)                                          \
    template <class R>                                                     \
    verdict operator op(const R& right) const {                            \
        const bool passed = static_cast<bool>(value op right) == Expected; \
        if (!passed) [[unlikely]]                                          \
            keep_text(show(value), " " #op " ", show(right));              \
        return {passed};                                                   \
    }
    RONDO_TEST_COMPARISON(==)
    RONDO_TEST_COMPARISON(!=)
    RONDO_TEST_COMPARISON(<)
    RONDO_TEST_COMPARISON(<=)
    RONDO_TEST_COMPARISON(>)
    RONDO_TEST_COMPARISON(>=)
#undef RONDO_TEST_COMPARISON
};

/// Takes what follows it in `decompose<true>() << a == b`: the shift binds more tightly than the comparison.
template <bool Expected>
struct decompose {
    template <class L>
    left_operand<L, Expected> operator<<(const L& value) const {
        return {value};
    }
};

}  // namespace test

#ifdef __clang__
#pragma clang diagnostic ignored "-Woverloaded-shift-op-parentheses"
#endif

#undef CHECK
#undef CHECK_FALSE
#undef REQUIRE
#undef REQUIRE_FALSE
#define RONDO_TEST_CHECK(kind, expected, ...)                                       \
    (::test::checks_under_way.fetch_add(1, std::memory_order_relaxed),              \
     ::test::checked(::doctest::assertType::kind, __FILE__, __LINE__, #__VA_ARGS__, \
                     ::test::decompose<expected>() << __VA_ARGS__))
#define CHECK(...) RONDO_TEST_CHECK(DT_CHECK, true, __VA_ARGS__)
#define CHECK_FALSE(...) RONDO_TEST_CHECK(DT_CHECK_FALSE, false, __VA_ARGS__)
#define REQUIRE(...) RONDO_TEST_CHECK(DT_REQUIRE, true, __VA_ARGS__)
#define REQUIRE_FALSE(...) RONDO_TEST_CHECK(DT_REQUIRE_FALSE, false, __VA_ARGS__)
