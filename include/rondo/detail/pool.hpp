// Where coroutine frames, spawned tasks and callbacks live.
#pragma once

#include <rondo/detail/config.hpp>

#include <cstddef>

namespace rondo::detail {

/// Memory in granules of 16 bytes. These functions are the only door: they live in the library, so a
/// program and the library always agree.
inline constexpr std::size_t frame_granule = 16;
inline constexpr std::size_t frame_classes = 2048 / frame_granule + 1;  // free lists: for less than so many
[[nodiscard]] RONDO_API void* allocate_granules(std::size_t count);
[[nodiscard]] RONDO_API void* allocate_large(std::size_t count);
RONDO_API void deallocate_granules(void* memory, std::size_t count) noexcept;

/// Memory of at least `size` bytes, aligned to 16, from the calling thread's free lists (one per
/// granule; plain malloc above 2 KiB, under a sanitizer, with RONDO_FRAME_POOL=0 (for valgrind),
/// and when the library was built with `-Dframe_pool=false`). Throws bad_alloc.
[[nodiscard]] inline void* frame_allocate(std::size_t size) {
    const std::size_t count = (size + frame_granule - 1) / frame_granule;
    return count < frame_classes ? allocate_granules(count) : allocate_large(count);
}
/// Gives back what frame_allocate(size) gave, on the thread that asked for it.
inline void frame_deallocate(void* memory, std::size_t size) noexcept {
    deallocate_granules(memory, (size + frame_granule - 1) / frame_granule);
}

/// The same for blocks that any other thread may give back. Small ones go round without malloc. Throws bad_alloc.
[[nodiscard]] RONDO_API void* crossing_allocate(std::size_t size);
RONDO_API void crossing_deallocate(void* memory, std::size_t size) noexcept;

/// For tests: the n-th allocation from now on throws bad_alloc (1 = the next); 0 switches off.
RONDO_API void fail_allocation(std::size_t n) noexcept;
/// How many are still to come, the failing one included; 0: it has failed, or none is to.
RONDO_API std::size_t allocations_to_failure() noexcept;

/// Blocks handed out by this thread and not yet given back: a leak check for tests. O(free blocks).
RONDO_API std::size_t frames_live() noexcept;
/// Gives this thread's free lists back to malloc if no block of it is in use.
RONDO_API void trim_frames() noexcept;

}  // namespace rondo::detail
