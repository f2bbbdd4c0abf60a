// Free lists per thread and size class, filled by carving 32 KiB chunks.
//
// Classes are 16 bytes apart, because most blocks are coroutine frames and spawned tasks whose size
// the compiler chose: with coarser classes a sleeping task would pay for air. A thread's chunks
// stay with it until it ends and its last block came back.
#include <rondo/detail/pool.hpp>

#include <array>
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

constexpr std::size_t granule = 16;
constexpr std::size_t largest = 2048;
constexpr std::size_t chunk_size = std::size_t{32} * 1024;

#ifdef RONDO_NO_FRAME_POOL
constexpr bool pool_built = false;
#else
constexpr bool pool_built = true;
#endif

struct block {
    block* next;
};

struct chunk {
    chunk* next;
    std::uint64_t padding;  // keeps the blocks behind it aligned to 16
};

bool use_malloc() noexcept {
    const char* value = std::getenv("RONDO_FRAME_POOL");  // "0": for valgrind
    return !pool_built || __asan_init != nullptr || __tsan_init != nullptr || __msan_init != nullptr ||
           (value != nullptr && value[0] == '0');
}

// One per thread. Trivially destructible, so that the fast paths need no guard.
struct pool {
    std::array<block*, largest / granule + 1> free;
    std::size_t fast_limit;  // sizes up to this may come from `free`; 0: every call takes the slow path
    std::size_t live;
    std::size_t fail_in;     // 0: off
    chunk* chunks;
    char* carve;
    char* carve_end;
};

bool malloc_only = use_malloc();

// Through a pointer of the initial-exec kind: one load, also in a shared library. A thread begins with
// `none`, whose limit of 0 sends its first call the slow way, where it gets a pool of its own.
constinit pool none{};
constinit thread_local pool own{};
constinit thread_local pool* mine __attribute__((tls_model("initial-exec"))) = &none;

// Gives the chunks back when the thread ends, unless someone still has a block: then they leak.
struct janitor {
    ~janitor() {
        if (own.live != 0) return;
        while (own.chunks != nullptr) std::free(std::exchange(own.chunks, own.chunks->next));
        own = {};
    }
    bool at_work = false;
};
thread_local janitor cleaner;

void* plain_allocate(std::size_t size) {
    void* memory = std::malloc(size);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

// A fresh block of `size` bytes, a multiple of the granule.
void* carved(std::size_t size) {
    if (static_cast<std::size_t>(own.carve_end - own.carve) < size) {
        cleaner.at_work = true;  // makes sure that it runs
        void* memory = plain_allocate(chunk_size);
        own.chunks = new (memory) chunk{own.chunks, 0};
        own.carve = static_cast<char*>(memory) + sizeof(chunk);
        own.carve_end = static_cast<char*>(memory) + chunk_size;
    }
    return std::exchange(own.carve, own.carve + size);
}

constexpr std::size_t class_of(std::size_t size) noexcept { return (size + granule - 1) / granule; }

[[gnu::noinline]] void* allocate_slowly(std::size_t size) {
    mine = &own;
    if (own.fail_in != 0 && --own.fail_in == 0) {
        own.fast_limit = malloc_only ? 0 : largest;
        throw std::bad_alloc();
    }
    void* memory;
    if (malloc_only || size > largest) {
        memory = plain_allocate(size);
    } else if (block*& head = own.free[class_of(size)]; head != nullptr) {
        memory = std::exchange(head, head->next);
    } else {
        memory = carved(class_of(size) * granule);
    }
    if (own.fail_in == 0 && !malloc_only) own.fast_limit = largest;
    ++own.live;
    return memory;
}

[[gnu::noinline]] void deallocate_slowly(void* memory, std::size_t size) noexcept {
    --own.live;
    if (malloc_only || size > largest) return std::free(memory);
    block*& head = own.free[class_of(size)];
    head = new (memory) block{head};
}

}  // namespace

void* frame_allocate(std::size_t size) {
    pool& p = *mine;
    if (size > p.fast_limit) [[unlikely]]
        return allocate_slowly(size);
    block*& head = p.free[class_of(size)];
    block* const first = head;
    if (first == nullptr) [[unlikely]]
        return allocate_slowly(size);
    head = first->next;
    ++p.live;
    return first;
}

void frame_deallocate(void* memory, std::size_t size) noexcept {
    pool& p = *mine;
    if (size > p.fast_limit) [[unlikely]]
        return deallocate_slowly(memory, size);
    block*& head = p.free[class_of(size)];
    head = new (memory) block{head};
    --p.live;
}

void fail_allocation(std::size_t n) noexcept {
    mine = &own;
    own.fail_in = n;
    own.fast_limit = n != 0 || malloc_only ? 0 : largest;
}

std::size_t frames_live() noexcept { return own.live; }

}  // namespace rondo::detail
