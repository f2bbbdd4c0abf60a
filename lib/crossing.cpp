// Memory for what one thread makes and another frees, as a post does.
//
// malloc is slow at that: each thread has an arena, what another frees goes back under the arena's lock, and both
// threads fight for its cache lines: a post took ten times the CPU time (bench/run post). Here a thread carves blocks from a
// chunk of its own, one behind the other, and whoever frees a block only counts it off in its chunk, which is found by
// its address. The chunk goes round as a whole, through a depot, once all its blocks are back. (The magazines of
// Bonwick and Adams, "Magazines and Vmem", USENIX 2001, go round like that.)
#include <rondo/detail/pool.hpp>

#include "fork.hpp"
#include "malloc_only.hpp"
#include "thread_end.hpp"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <type_traits>
#include <utility>

namespace rondo::detail {
namespace {

constexpr std::size_t chunk_size = 4096;     // and its alignment
constexpr std::size_t largest_block = 512;
constexpr std::size_t depot_capacity = 2048;  // chunks; those beyond go back to malloc

struct alignas(64) chunk {
    // Below zero while its thread carves; then how many blocks are out: who counts the last one off has the chunk.
    std::atomic<std::int64_t> out{0};
    chunk* next = nullptr;

    static chunk& of(void* block) noexcept {
        return *reinterpret_cast<chunk*>(reinterpret_cast<std::uintptr_t>(block) & ~(chunk_size - 1));
    }
};

constinit std::mutex depot_guard;

class depot {
 public:
    depot() noexcept { hold_across_forks<depot_guard>(); }

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
                const std::lock_guard lock(guard_);
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

struct carver {
    chunk* from = nullptr;
    char* at = nullptr;
    char* end = nullptr;
    std::int64_t made = 0;

    void retire() noexcept {
        if (from == nullptr) return;
        if (from->out.fetch_add(made, std::memory_order_acq_rel) + made == 0) the_depot.give(*from);
        *this = {};
    }
};

constinit thread_local carver mine;
constinit thread_local thread_end at_end{[]() noexcept { mine.retire(); }};

[[gnu::noinline]] void begin_chunk() {
    mine.retire();
    if (!at_thread_end(at_end)) throw std::bad_alloc();
    chunk* c = the_depot.take();
    if (c == nullptr) {
        void* memory = std::aligned_alloc(chunk_size, chunk_size);
        if (memory == nullptr) throw std::bad_alloc();
        c = new (memory) chunk;
    }
    mine = {c, reinterpret_cast<char*>(c + 1), reinterpret_cast<char*>(c) + chunk_size, 0};
}

}  // namespace

void* crossing_allocate(std::size_t size) {
    if (size > largest_block || malloc_only) [[unlikely]]
        return ::operator new(size);
    size = granules(size) * frame_granule;
    if (static_cast<std::size_t>(mine.end - mine.at) < size) [[unlikely]]
        begin_chunk();
    ++mine.made;
    return std::exchange(mine.at, mine.at + size);
}

void crossing_deallocate(void* memory, std::size_t size) noexcept {
    if (size > largest_block || malloc_only) [[unlikely]]
        return ::operator delete(memory);
    chunk& c = chunk::of(memory);
    if (c.out.fetch_sub(1, std::memory_order_acq_rel) == 1) the_depot.give(c);
}

void trim_crossing(std::size_t keep) noexcept { the_depot.trim(keep); }

}  // namespace rondo::detail
