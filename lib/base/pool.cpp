// Free lists per thread and number of granules, filled by carving 32 KiB chunks.
//
// A granule is as small as 16 bytes, because most blocks are coroutine frames and spawned tasks whose size
// the compiler chose: with coarser steps a sleeping task would pay for air.
//
// Nobody counts how much of a chunk is in use: that would cost each allocation. To find out, free blocks are taken off
// the lists and put aside in the chunk that they came from, which their address tells. A chunk that has all its blocks
// goes back to malloc; from one that has some, they are taken again before anything new is carved.
#include <rondo/base/detail/pool.hpp>

#include <rondo/base/detail/list.hpp>

#include "malloc_only.hpp"
#include "thread_end.hpp"

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#include <sys/mman.h>

extern "C" {
// Present when some part of the program was built with a sanitizer: then its malloc is what finds
// uses after free, and recycling would hide them.
__attribute__((weak)) void __asan_init();
__attribute__((weak)) void __tsan_init();
__attribute__((weak)) void __msan_init();
}

namespace rondo::detail {
namespace {

constexpr std::size_t chunk_alignment = std::size_t{32} * 1024;
constexpr std::size_t chunk_size = chunk_alignment - 16;  // with malloc's own word they lie side by side

#ifdef RONDO_NO_FRAME_POOL
constexpr bool pool_built = false;
#else
constexpr bool pool_built = true;
#endif

using block = frame_lists::block;

/// A block that lies aside in its chunk.
struct block_aside {
    block_aside* next;
    std::size_t count;  // of granules
};
static_assert(sizeof(block_aside) <= frame_granule);

struct chunk : links {
    block_aside* aside = nullptr;
    std::uint16_t blocks_aside = 0;
    std::uint16_t bytes_aside = 0;
    std::uint16_t carved = 0;  // bytes, once another chunk is carved

    static chunk& of(void* memory) noexcept {
        return *reinterpret_cast<chunk*>(reinterpret_cast<std::uintptr_t>(memory) & ~(chunk_alignment - 1));
    }
    char* begin() noexcept { return reinterpret_cast<char*>(this + 1); }
    char* end() noexcept { return reinterpret_cast<char*>(this) + chunk_size; }
};
static_assert(sizeof(chunk) % 16 == 0 && chunk_size <= 0xffff);

bool use_malloc() noexcept {
    const char* value = std::getenv("RONDO_FRAME_POOL");  // "0": for valgrind
    return !pool_built || __asan_init != nullptr || __tsan_init != nullptr || __msan_init != nullptr ||
           (value != nullptr && value[0] == '0');
}

// One per thread. Not in its static TLS, of which a library that is loaded at run time gets little.
struct pool : frame_lists {
    block* instead[frame_classes];  // stands in for `free` while allocations are counted to fail one
    std::size_t made = 0;         // blocks carved, and blocks from malloc not given back
    std::size_t aside = 0;        // blocks, in their chunks
    std::size_t fail_in = 0;      // 0: off
    ring<chunk> whole;            // chunks with no block aside,
    ring<chunk> partly;           // and those with some
    chunk* carving = nullptr;
    char* carve = nullptr;
    char* carve_end = nullptr;
    std::int64_t next_trim = 0;
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
std::size_t live() noexcept {
    return mine == nullptr ? 0 : mine->made - mine->aside - length(mine->free) - length(mine->instead);
}

// --- giving back ----------------------------------------------------------------------------------------

// malloc may keep the chunk, but the system has its pages back: the first and the last have words of malloc's in them.
void give_back(pool& own, chunk& c) noexcept {
    own.made -= c.blocks_aside;
    own.aside -= c.blocks_aside;
    c.unlink();
    --own.chunks;
    constexpr std::size_t page = 4096;
    static_cast<void>(::madvise(reinterpret_cast<char*>(&c) + page, chunk_alignment - 2 * page, MADV_DONTNEED));
    std::free(&c);
}

void put_aside(pool& own, block& b, std::size_t count) noexcept {
    chunk& c = chunk::of(&b);
    if (c.aside == nullptr) {
        c.unlink();
        own.partly.push_back(c);
    }
    c.aside = new (&b) block_aside{c.aside, count};
    c.bytes_aside = static_cast<std::uint16_t>(c.bytes_aside + count * frame_granule);
    ++c.blocks_aside;
    ++own.aside;
    if (&c != own.carving && c.bytes_aside == c.carved) give_back(own, c);
}

// Puts up to `most` free blocks aside, until there are no more than `keep` chunks.
void put_aside(pool& own, std::size_t most, std::size_t keep) noexcept {
    for (std::size_t count = 1; count < frame_classes; ++count)
        while (own.free[count] != nullptr) {
            if (own.chunks <= keep || most-- == 0) return;
            put_aside(own, *std::exchange(own.free[count], own.free[count]->next), count);
        }
}

// What one chunk has aside can be had again.
void take_back(pool& own) noexcept {
    chunk& c = own.partly.pop_front();
    own.whole.push_back(c);
    own.aside -= c.blocks_aside;
    c.blocks_aside = c.bytes_aside = 0;
    while (c.aside != nullptr) {
        block_aside* const b = std::exchange(c.aside, c.aside->next);
        const std::size_t count = b->count;
        own.free[count] = new (b) block{own.free[count]};
    }
}

void carve_no_more(pool& own) noexcept {
    chunk* const c = std::exchange(own.carving, nullptr);
    if (c == nullptr) return;
    c->carved = static_cast<std::uint16_t>(own.carve - c->begin());
    own.carve = own.carve_end = nullptr;
    if (c->bytes_aside == c->carved) give_back(own, *c);
}

// Everything goes back when the thread ends, unless someone still has a block: then it leaks.
void give_back_all() noexcept {
    trim_frames();
    if (mine == nullptr || mine->made != 0) return;
    frames_here = &none;
    delete std::exchange(mine, nullptr);
}
constinit thread_local thread_end at_end{&give_back_all};

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
        void* memory = nullptr;
        if (::posix_memalign(&memory, chunk_alignment, chunk_size) != 0) throw std::bad_alloc();
        carve_no_more(own);
        own.carving = new (memory) chunk;
        own.whole.push_back(*own.carving);
        ++own.chunks;
        own.carve = own.carving->begin();
        own.carve_end = own.carving->end();
    }
    return std::exchange(own.carve, own.carve + size);
}

bool failing(const pool& own) noexcept { return own.fail_in != 0; }

block*& list(pool& own, std::size_t count) noexcept { return failing(own) ? own.instead[count] : own.free[count]; }

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
        if (head == nullptr && !failing(own) && !own.partly.empty()) take_back(own);
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
    if (failing(own) != (n != 0)) std::swap(own.free, own.instead);
    own.fail_in = n;
    own.fast_limit = failing(own) || malloc_only ? 0 : frame_classes - 1;
}

std::size_t allocations_to_failure() noexcept { return mine == nullptr ? 0 : mine->fail_in; }

std::size_t frames_live() noexcept { return live(); }

void trim_frames(std::size_t keep) noexcept {
    if (mine == nullptr || failing(*mine)) return;
    if (mine->chunks > keep) carve_no_more(*mine);
    put_aside(*mine, ~std::size_t{0}, keep);
}

void trim_frames_slowly(std::int64_t now_ns) noexcept {
    constexpr std::int64_t pause = 100'000'000;
    constexpr std::size_t blocks = 4096;  // a few hundred microseconds
    if (failing(*mine) || (now_ns < mine->next_trim && now_ns > mine->next_trim - pause)) return;
    mine->next_trim = now_ns + pause;
    put_aside(*mine, blocks, chunks_kept);
}

std::size_t frame_bytes() noexcept { return mine == nullptr ? 0 : mine->chunks * chunk_alignment; }

}  // namespace rondo::detail
