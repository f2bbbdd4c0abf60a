// Where coroutine frames, spawned tasks and callbacks live.
#pragma once

#include <rondo/detail/config.hpp>

#include <cstddef>

namespace rondo::detail {

/// Memory of at least `size` bytes, aligned to 16, from the calling thread's free lists (one per
/// size class; plain malloc above 2 KiB, under a sanitizer, with RONDO_FRAME_POOL=0 (for valgrind),
/// and when the library was built with `-Dframe_pool=false`). Throws bad_alloc. These two functions are the only door:
/// both live in the library, so a program and the library always agree.
[[nodiscard]] RONDO_API void* frame_allocate(std::size_t size);

/// Gives back what frame_allocate(size) gave, on the thread that asked for it.
RONDO_API void frame_deallocate(void* memory, std::size_t size) noexcept;

/// For tests: the n-th allocation from now on throws bad_alloc (1 = the next); 0 switches off.
RONDO_API void fail_allocation(std::size_t n) noexcept;

/// Blocks handed out by this thread and not yet given back: a leak check for tests.
RONDO_API std::size_t frames_live() noexcept;

}  // namespace rondo::detail
