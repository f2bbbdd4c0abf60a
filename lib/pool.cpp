// Free lists per thread and number of granules, filled by carving 32 KiB chunks.
//
// A granule is as small as 16 bytes, because most blocks are coroutine frames and spawned tasks whose size
// the compiler chose: with coarser steps a sleeping task would pay for air. A thread's chunks
// stay with it until it ends and its last block came back.
#include <rondo/detail/pool.hpp>

#include "malloc_only.hpp"
#include "thread_end.hpp"

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

extern "C" {
// Present when some part of the program was built with a sanitizer: then its malloc is what finds
// uses after free, and recycling would hide them.
__attribute__((weak)) void __asan_init();
__attribute__((weak)) void __tsan_init();
__attribute__((weak)) void __msan_init();
}

namespace rondo::detail {
namespace {

constexpr std::size_t chunk_size = std::size_t{32} * 1024;

#ifdef RONDO_NO_FRAME_POOL
constexpr bool pool_built = false;
#else
constexpr bool pool_built = true;
#endif

using block = frame_lists::block;

struct chunk {
    chunk* next;
    std::uint64_t padding;  // keeps the blocks behind it aligned to 16
};

bool use_malloc() noexcept {
    const char* value = std::getenv("RONDO_FRAME_POOL");  // "0": for valgrind
    return !pool_built || __asan_init != nullptr || __tsan_init != nullptr || __msan_init != nullptr ||
           (value != nullptr && value[0] == '0');
}

// One per thread. Not in its static TLS, of which a library that is loaded at run time gets little.
struct pool : frame_lists {
    block* aside[frame_classes];  // stands in for `free` while allocations are counted to fail one
    std::size_t made;        // blocks carved, and blocks from malloc not given back
    std::size_t fail_in;     // 0: off
    chunk* chunks;
    char* carve;
    char* carve_end;
};

}  // namespace

bool malloc_only = use_malloc();

namespace {

// A thread begins with `none`, which has nothing to give: that sends its first call the slow way, where it gets
// a pool of its own.
constinit frame_lists none{};
constinit thread_local pool* mine = nullptr;

}  // namespace

constinit thread_local frame_lists* frames_here = &none;

namespace {

std::size_t length(block* const (&lists)[frame_classes]) noexcept {
    std::size_t n = 0;
    for (const block* at : lists)
        for (; at != nullptr; at = at->next) ++n;
    return n;
}

// Blocks in use. Counting them one by one as they come and go would cost more than this ever does.
std::size_t live() noexcept { return mine == nullptr ? 0 : mine->made - length(mine->free) - length(mine->aside); }

void give_back_chunks() noexcept {
    if (mine == nullptr || mine->fail_in != 0 || live() != 0) return;
    while (mine->chunks != nullptr) std::free(std::exchange(mine->chunks, mine->chunks->next));
    frames_here = &none;
    delete std::exchange(mine, nullptr);
}

// Everything goes back when the thread ends, unless someone still has a block: then it leaks.
constinit thread_local thread_end at_end{&give_back_chunks};

// The calling thread's, made now if it has none. Throws bad_alloc.
pool& own_pool() {
    if (mine == nullptr) [[unlikely]] {
        if (!at_thread_end(at_end)) throw std::bad_alloc();
        frames_here = mine = new pool{};
    }
    return *mine;
}

void* plain_allocate(std::size_t size) {
    void* memory = std::malloc(size);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

void* carved(pool& own, std::size_t size) {
    if (static_cast<std::size_t>(own.carve_end - own.carve) < size) {
        void* memory = plain_allocate(chunk_size);
        own.chunks = new (memory) chunk{own.chunks, 0};
        own.carve = static_cast<char*>(memory) + sizeof(chunk);
        own.carve_end = static_cast<char*>(memory) + chunk_size;
    }
    return std::exchange(own.carve, own.carve + size);
}

bool failing(const pool& own) noexcept { return own.fail_in != 0; }

block*& list(pool& own, std::size_t count) noexcept { return failing(own) ? own.aside[count] : own.free[count]; }

}  // namespace

void* allocate_slowly(std::size_t count) {
    pool& own = own_pool();
    if (failing(own) && own.fail_in == 1) {
        fail_allocation(0);
        throw std::bad_alloc();
    }
    if (failing(own)) --own.fail_in;
    void* memory;
    if (malloc_only || count >= frame_classes) {
        memory = plain_allocate(count * frame_granule);
    } else {
        if (!failing(own)) own.fast_limit = frame_classes - 1;
        block*& head = list(own, count);
        if (head != nullptr) return std::exchange(head, head->next);
        memory = carved(own, count * frame_granule);
    }
    ++own.made;
    return memory;
}

void deallocate_slowly(void* memory, std::size_t count) noexcept {
    pool& own = *mine;  // where the block came from
    if (malloc_only || count >= frame_classes) {
        --own.made;
        return std::free(memory);
    }
    block*& head = list(own, count);
    head = new (memory) block{head};
}

void fail_allocation(std::size_t n) {
    pool& own = own_pool();
    if (failing(own) != (n != 0)) std::swap(own.free, own.aside);
    own.fail_in = n;
    own.fast_limit = failing(own) || malloc_only ? 0 : frame_classes - 1;
}

std::size_t allocations_to_failure() noexcept { return mine == nullptr ? 0 : mine->fail_in; }

std::size_t frames_live() noexcept { return live(); }

void trim_frames() noexcept { give_back_chunks(); }

}  // namespace rondo::detail
