// Where coroutine frames, spawned tasks and callbacks live.
#pragma once

#include <rondo/base/detail/config.hpp>

#include <cstddef>
#include <cstdint>
#include <new>

namespace rondo::detail {

/// Memory in granules of 16 bytes.
inline constexpr std::size_t frame_granule = 16;
inline constexpr std::size_t frame_classes = 2048 / frame_granule + 1;  // free lists: for less than so many
constexpr std::size_t granules(std::size_t size) noexcept { return (size + frame_granule - 1) / frame_granule; }

/// A thread's free lists, by granules; the rest of its pool is in the library. Whether there is anything to
/// be had here, and whether anything may come back, only the library decides.
struct frame_lists {
    struct block {
        block* next;
    };
    block* free[frame_classes];
    std::size_t fast_limit;  // blocks up to so many granules go back to `free`; 0: none does
    std::size_t chunks;      // that they were carved from
};
/// A thread keeps so many chunks, a megabyte, whatever it needs of them.
inline constexpr std::size_t chunks_kept = 32;
/// (The initial-exec kind: one load, also in a shared library.)
extern RONDO_API constinit thread_local frame_lists* frames_here __attribute__((tls_model("initial-exec")));

[[nodiscard]] RONDO_API void* allocate_slowly(std::size_t count);
RONDO_API void deallocate_slowly(void* memory, std::size_t count) noexcept;

/// Memory of at least `size` bytes, aligned to 16, from the calling thread's free lists (one per
/// granule; plain malloc above 2 KiB, under a sanitizer, with RONDO_FRAME_POOL=0 (for valgrind),
/// and when the library was built with `-Dframe_pool=false`). Throws bad_alloc.
[[nodiscard]] inline void* frame_allocate(std::size_t size) {
    const std::size_t count = granules(size);
    if (count < frame_classes) [[likely]] {
        frame_lists::block*& head = frames_here->free[count];
        if (frame_lists::block* const first = head; first != nullptr) [[likely]] {
            head = first->next;
            return first;
        }
    }
    return allocate_slowly(count);
}
/// Gives back `count` granules if that is done quickly; else false.
inline bool deallocate_quickly(void* memory, std::size_t count) noexcept {
    frame_lists& here = *frames_here;
    if (count > here.fast_limit) [[unlikely]]
        return false;
    frame_lists::block*& head = here.free[count];
    head = new (memory) frame_lists::block{head};
    return true;
}
/// Gives back what frame_allocate(size) gave, on the thread that asked for it.
inline void frame_deallocate(void* memory, std::size_t size) noexcept {
    const std::size_t count = granules(size);
    if (count >= frame_classes || !deallocate_quickly(memory, count)) [[unlikely]]
        deallocate_slowly(memory, count);
}

/// For tests: the n-th allocation from now on throws bad_alloc (1 = the next); 0 switches off. Throws bad_alloc.
RONDO_API void fail_allocation(std::size_t n);
/// How many are still to come, the failing one included; 0: it has failed, or none is to.
RONDO_API std::size_t allocations_to_failure() noexcept;

/// Blocks handed out by this thread and not yet given back: a leak check for tests. O(free blocks).
RONDO_API std::size_t frames_live() noexcept;
/// Gives this thread's chunks back that are wholly free, but for so many. O(free blocks).
RONDO_API void trim_frames(std::size_t keep = 0) noexcept;
/// A little of that, at most every 100 ms of a loop's time: for a thread that has more than `chunks_kept`.
RONDO_API void trim_frames_slowly(std::int64_t now_ns) noexcept;
/// Bytes of this thread's chunks.
RONDO_API std::size_t frame_bytes() noexcept;

}  // namespace rondo::detail
