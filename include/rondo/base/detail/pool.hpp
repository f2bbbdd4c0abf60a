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

/// Memory for what one thread makes and another frees, as a post does: a thread carves blocks from a chunk of its
/// own, and who gives one back only counts off its bytes; lib/base/crossing.cpp tells why.
inline constexpr std::size_t crossing_chunk = 4096;   // and its alignment
inline constexpr std::size_t crossing_largest = 512;  // larger blocks are malloc's

struct crossing_cache {
    char* at;                  // what is left of the chunk that this thread carves: from here
    char* end;                 // to here
    std::uintptr_t returning;  // the chunk that it gave a block back to last
    std::int64_t returned;     // so many bytes, which are counted off when blocks of another chunk come
    std::uint32_t begun;       // chunks that it has begun since it last let others run
};
extern RONDO_API constinit thread_local crossing_cache crossing_here __attribute__((tls_model("initial-exec")));

[[nodiscard]] RONDO_API void* crossing_allocate_slowly(std::size_t size);
RONDO_API void crossing_deallocate_slowly(void* memory, std::size_t size) noexcept;

/// Memory that any thread may give back, aligned to 16. Small blocks go round without malloc. Throws bad_alloc.
[[nodiscard]] inline void* crossing_allocate(std::size_t size) {
    crossing_cache& here = crossing_here;
    const std::size_t rounded = granules(size) * frame_granule;
    if (size > crossing_largest || static_cast<std::size_t>(here.end - here.at) < rounded) [[unlikely]]
        return crossing_allocate_slowly(size);
    char* const memory = here.at;
    here.at = memory + rounded;
    return memory;
}
inline void crossing_deallocate(void* memory, std::size_t size) noexcept {
    crossing_cache& here = crossing_here;
    const std::uintptr_t chunk = reinterpret_cast<std::uintptr_t>(memory) & ~(crossing_chunk - 1);
    if (size > crossing_largest || chunk != here.returning) [[unlikely]]
        return crossing_deallocate_slowly(memory, size);
    here.returned += static_cast<std::int64_t>(granules(size) * frame_granule);
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

/// Gives the chunks of crossing blocks back that lie ready for all threads, but for so many. (They have 4 KiB.)
inline constexpr std::size_t crossing_chunks_kept = 256;
RONDO_API void trim_crossing(std::size_t keep) noexcept;

}  // namespace rondo::detail
