// Memory for what one thread makes and another frees, as a post does: a thread carves blocks from a chunk of its
// own, and who gives one back only counts off its bytes; lib/base/crossing.cpp tells why.
#pragma once

#include <rondo/base/detail/pool.hpp>

namespace rondo::detail {

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

/// Gives back the chunks that lie ready for all threads, but for so many. (They have 4 KiB.)
inline constexpr std::size_t crossing_chunks_kept = 256;
RONDO_API void trim_crossing(std::size_t keep) noexcept;

}  // namespace rondo::detail
