// How far random programs go: a million steps, or less where each costs more.
#pragma once

namespace test {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define RONDO_TEST_SANITIZED 1
#endif
#endif

#if defined(RONDO_TEST_SANITIZED) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    !defined(__OPTIMIZE__)
inline constexpr int steps_per_program = 50'000;
#else
inline constexpr int steps_per_program = 1'000'000;
#endif

}  // namespace test
