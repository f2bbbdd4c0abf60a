// Memory for what one thread makes and another frees, as a post does.
//
// malloc is slow at that: each thread has an arena, what another frees goes back under the arena's lock, and both
// threads fight for its cache lines: a post took ten times the CPU time (bench/run post). Here a thread carves blocks
// from a chunk of its own, one behind the other, and whoever frees a block only counts its bytes off in its chunk,
// which is found by its address. They come back in about the order in which they were carved, so a thread counts off at
// once all that it frees of one chunk before it frees some of another. The chunk goes round as a whole, through a
// depot, once all its bytes are back. (The magazines of Bonwick and Adams, "Magazines and Vmem", USENIX 2001, go round
// like that.)
#include <rondo/base/detail/crossing.hpp>

#include "fork.hpp"
#include "malloc_only.hpp"
#include "thread_end.hpp"

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <new>
#include <type_traits>
#include <utility>

#include <sched.h>

namespace rondo::detail {

constinit thread_local crossing_cache crossing_here{};

namespace {

constexpr std::size_t depot_capacity = 2048;  // chunks; those beyond go back to malloc
// Malloc's own word about the next chunk: with it a chunk is a page, else malloc spends two on each.
constexpr std::size_t malloc_header = 16;
constexpr std::size_t usable = crossing_chunk - malloc_header;
// A thread that has used so many chunks and finds none in the depot lets others run, who may give some back.
constexpr std::uint32_t patience = 200;

struct alignas(64) chunk {
    // Below zero while its thread carves; then how many bytes are out: who counts the last ones off has the chunk.
    std::atomic<std::int64_t> out{0};
    chunk* next = nullptr;

    char* first_block() noexcept { return reinterpret_cast<char*>(this + 1); }
    static std::uintptr_t address_of(void* block) noexcept {
        return reinterpret_cast<std::uintptr_t>(block) & ~(crossing_chunk - 1);
    }
    static chunk& at(std::uintptr_t address) noexcept { return *reinterpret_cast<chunk*>(address); }
};

constinit std::mutex depot_guard;

class depot {
 public:
    chunk* take() noexcept {
        const std::lock_guard lock(depot_guard);
        if (first_ == nullptr) return nullptr;
        --count_;
        return std::exchange(first_, first_->next);
    }
    void give(chunk& c) noexcept {
        {
            const std::lock_guard lock(depot_guard);
            if (count_ < depot_capacity) {
                ++count_;
                c.next = std::exchange(first_, &c);
                return;
            }
        }
        std::free(&c);
    }
    void trim(std::size_t keep) noexcept {
        for (;;) {
            chunk* c;
            {
                const std::lock_guard lock(depot_guard);
                if (count_ <= keep) return;
                --count_;
                c = std::exchange(first_, first_->next);
            }
            std::free(c);
        }
    }

 private:
    chunk* first_ = nullptr;
    std::size_t count_ = 0;
};

static_assert(std::is_trivially_destructible_v<depot>);  // threads may outlive the statics
constinit depot the_depot;

// No more blocks are carved from the chunk of this thread: counts those that were.
void retire() noexcept {
    crossing_cache& here = crossing_here;
    if (here.end == nullptr) return;
    chunk& c = chunk::at(chunk::address_of(here.end - 1));
    const std::int64_t made = here.at - c.first_block();
    here.at = here.end = nullptr;
    if (c.out.fetch_add(made, std::memory_order_acq_rel) + made == 0) the_depot.give(c);
}

// Counts off what this thread has given back to the chunk that it gave to last.
void settle() noexcept {
    crossing_cache& here = crossing_here;
    if (here.returning == 0) return;
    chunk& c = chunk::at(std::exchange(here.returning, 0));
    const std::int64_t back = std::exchange(here.returned, 0);
    if (c.out.fetch_sub(back, std::memory_order_acq_rel) == back) the_depot.give(c);
}

constinit thread_local thread_end at_end{[]() noexcept {
    retire();
    settle();
}};

// Fresh memory costs more than all else that a post does. So a thread that is far ahead of who frees what it makes
// first gives up the processor: if they share it, the blocks come back while they are still in the cache.
chunk* take_chunk() {
    if (chunk* const c = the_depot.take(); c != nullptr) return c;
    if (crossing_here.begun > patience) {
        crossing_here.begun = 0;
        sched_yield();
        if (chunk* const c = the_depot.take(); c != nullptr) return c;
    }
    void* memory = nullptr;
    if (posix_memalign(&memory, crossing_chunk, usable) != 0) throw std::bad_alloc();
    return new (memory) chunk;
}

void begin_chunk() {
    retire();
    hold_across_forks<depot_guard>();
    if (!at_thread_end(at_end)) throw std::bad_alloc();
    ++crossing_here.begun;
    chunk* const c = take_chunk();
    crossing_here.at = c->first_block();
    crossing_here.end = reinterpret_cast<char*>(c) + usable;
}

}  // namespace

void* crossing_allocate_slowly(std::size_t size) {
    if (size > crossing_largest || malloc_only) return ::operator new(size);
    begin_chunk();
    return std::exchange(crossing_here.at, crossing_here.at + granules(size) * frame_granule);
}

void crossing_deallocate_slowly(void* memory, std::size_t size) noexcept {
    if (size > crossing_largest || malloc_only) return ::operator delete(memory);
    settle();
    crossing_here.returning = chunk::address_of(memory);
    crossing_here.returned = static_cast<std::int64_t>(granules(size) * frame_granule);
    if (!at_thread_end(at_end)) settle();  // no memory to be sure of the end: at once, then
}

void trim_crossing(std::size_t keep) noexcept { the_depot.trim(keep); }

}  // namespace rondo::detail
