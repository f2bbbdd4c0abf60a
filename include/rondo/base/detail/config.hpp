// What every header shares: the export macro and the compiler it was taught about.
#pragma once

/// Marks what the library exports; everything else is hidden.
#define RONDO_API __attribute__((visibility("default")))

/// GCC before 13 miscompiles some coroutines (docs/compilers.md); guards depend on this.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#define RONDO_GCC12 1
#else
#define RONDO_GCC12 0
#endif
