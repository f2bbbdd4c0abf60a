// The places of a bounded structure that are free: taken by any thread, put back by one.
//
// A Treiber stack, and here its ABA problem is real: a thread reads the top and what lies below it, and is
// put to sleep; others take both, and the first comes back. When it wakes, the top is the same as before and
// what lay below is in use. So the top and a counter are exchanged as one word and every exchange counts
// up: the sleeper's word is never current again, unless it sleeps through exactly 2^32 of them. Places are
// numbered, so that both fit into 64 bits.
//
// The same word carries the bit that says `closed`. Once it is set no place can be taken: what is not free
// then is all that is still out, and can be counted.
#pragma once

#include <atomic>
#include <cstdint>

namespace rondo::detail {

/// `Places` gives, for a number, what of that place the stack needs: `Atomic<std::uint32_t>& below(n)`.
template <class Places, template <class> class Atomic = std::atomic>
class free_stack {
 public:
    static constexpr std::uint32_t none = 0x7fff'ffff;
    static constexpr std::uint32_t is_closed = 0x8000'0000;

    explicit free_stack(Places& places) noexcept : places_(places) {}

    /// Any thread: the number of a place, or `none`, or `is_closed`.
    std::uint32_t pop() noexcept {
        std::uint64_t top = top_.load(std::memory_order_seq_cst);
        for (;;) {
            if (top & is_closed) return is_closed;
            const auto index = static_cast<std::uint32_t>(top);
            if (index == none) return none;
            // By now it may be another's; then the exchange fails, and what was read here is forgotten.
            const std::uint64_t next = counted(top) | places_.below(index).load(std::memory_order_relaxed);
            if (top_.compare_exchange_weak(top, next, std::memory_order_seq_cst, std::memory_order_seq_cst))
                return index;
        }
    }

    /// One thread at a time; open or closed.
    void push(std::uint32_t index) noexcept {
        std::uint64_t top = top_.load(std::memory_order_relaxed);
        std::uint64_t next;
        do {
            places_.below(index).store(static_cast<std::uint32_t>(top) & none, std::memory_order_relaxed);
            next = counted(top) | (top & is_closed) | index;
        } while (!top_.compare_exchange_weak(top, next, std::memory_order_seq_cst, std::memory_order_relaxed));
    }

    /// Any thread. True for who closes it first.
    bool close() noexcept { return (top_.fetch_or(is_closed, std::memory_order_seq_cst) & is_closed) == 0; }
    bool closed() const noexcept { return (top_.load(std::memory_order_seq_cst) & is_closed) != 0; }

    /// How many are free; the thread that pushes, when it is closed. O(n).
    std::size_t count() noexcept {
        std::size_t found = 0;
        for (auto at = static_cast<std::uint32_t>(top_.load(std::memory_order_relaxed)) & none; at != none;
             at = places_.below(at).load(std::memory_order_relaxed))
            ++found;
        return found;
    }

 private:
    static constexpr std::uint64_t counted(std::uint64_t top) noexcept { return ((top >> 32) + 1) << 32; }

    Places& places_;
    Atomic<std::uint64_t> top_{none};
};

}  // namespace rondo::detail
