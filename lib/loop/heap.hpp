// The timer heap: a 4-ary heap of {deadline, sequence, slot} beside tables of slots.
//
// A slot stands for one timer: of a sleeping task while it sleeps, of a handle as long as there is the
// handle. One table says whose it is, another where in the heap it stands. So arming, cancelling and
// moving touch dense tables, never a cold frame: that is what a hundred thousand timers cost.
// All memory is had when a slot is acquired: arming cannot fail.
//
// Due timers are first collected, then taken one by one, so that a timer made while they run waits for
// the next round; one that is disarmed meanwhile is not taken. Timers of one deadline fire in the order
// in which they were armed.
#pragma once

#include <rondo/base/detail/plain_array.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/loop/op.hpp>
#include <rondo/base/time.hpp>

#include <utility>

namespace rondo::detail {

class timer_heap {
 public:
    using slot = std::uint32_t;
    static constexpr slot none = ~slot{0};

    explicit timer_heap(std::uint32_t first_sequence = 0) noexcept : sequence_(first_sequence) {}

    bool empty() const noexcept { return count_ == 0; }
    std::size_t size() const noexcept { return count_ + due_left_ + held_count_; }
    time_point next() const noexcept { return at(0).deadline; }

    // slots

    /// Throws bad_alloc. O(1).
    slot acquire(op& owner) {
        if (free_ == none) [[unlikely]]
            add_slots();
        const slot s = free_;
        free_ = where_[s];
        where_[s] = idle;
        owner_[s] = &owner;
        return s;
    }
    /// Gives back a slot that is not armed.
    void release(slot s) noexcept {
        owner_[s] = nullptr;
        where_[s] = free_;
        free_ = s;
    }
    op& owner(slot s) const noexcept { return *owner_[s]; }
    /// The caller's to keep: the delay a handle's timer was armed with.
    duration& period(slot s) const noexcept { return period_[s]; }
    /// Calls f(op&, deadline) for every slot; of one that is not in the heap the deadline is `never`.
    template <class F>
    void for_each(F f) const {
        for (slot s = 0; s < slots_; ++s)
            if (owner_[s] != nullptr) f(*owner_[s], where_[s] < held ? at(where_[s]).deadline : never);
    }

    /// Gives back what is behind the last slot in use, unless it is busy. O(slots).
    RONDO_API void shrink() noexcept;

    // armed or not

    bool armed(slot s) const noexcept { return where_[s] != idle; }

    /// A slot that is not armed. O(log n); O(1) on average for deadlines that come in no order.
    void arm(slot s, time_point deadline) noexcept {
        if (sequence_ == last_sequence) [[unlikely]]
            number_anew();
        sift_up(count_++, {deadline, sequence_++, s});
    }

    /// A slot that is armed. O(log n).
    void disarm(slot s) noexcept {
        const std::uint32_t place = where_[s];
        where_[s] = idle;
        if (place < held) [[likely]]
            return fill(place);
        if (place == held) {
            --held_count_;
        } else {
            due_[place - due_bit] = none;
            --due_left_;
        }
    }

    /// Moves what is due at `now` out of the heap, in order.
    RONDO_API void collect(time_point now) noexcept;

    /// The next collected slot that was not disarmed meanwhile, which is not armed any more; `none`
    /// when there is none left.
    slot take_due() noexcept {
        while (due_next_ < due_count_) {
            const slot s = due_[due_next_++];
            if (s == none) continue;
            --due_left_;
            where_[s] = idle;
            return s;
        }
        due_count_ = due_next_ = 0;
        return none;
    }

    /// Lets a slot count as armed though it has no deadline: an interval while its callback runs.
    void hold(slot s) noexcept {
        where_[s] = held;
        ++held_count_;
    }
    bool is_held(slot s) const noexcept { return where_[s] == held; }

    /// The slot of an op that was armed by add().
    static slot slot_of(const op& o) noexcept { return o.state - op::armed_at; }

    /// Acquires a slot for `o` and arms it. Throws bad_alloc.
    void add(op& o, time_point deadline) {
        const slot s = acquire(o);
        o.state = op::armed_at + s;
        arm(s, deadline);
    }
    /// Another deadline for an op that was added; a new timer among those of that deadline.
    void move(op& o, time_point deadline) noexcept {
        const slot s = slot_of(o);
        RONDO_ASSERT(s < slots_ && owner_[s] == &o, "not an armed timer");
        disarm(s);
        arm(s, deadline);
    }
    /// Disarms and releases; the state is the caller's to set.
    void remove(op& o) noexcept {
        const slot s = slot_of(o);
        RONDO_ASSERT(s < slots_ && owner_[s] == &o, "not an armed timer");
        if (clearing_ && where_[s] < held && removed_one_by_one_++ >= count_ / 16) {
            owner_[s] = nullptr;  // the entry goes when the clearing ends
            ++dead_;
            return;
        }
        disarm(s);
        release(s);
    }

    /// While one lives, remove() may leave entries behind, which go together at its end: when a scope
    /// with many sleepers is cancelled, the heap is made anew once, not repaired for each. Then the heap
    /// may not be looked at meanwhile.
    class clearing {
     public:
        explicit clearing(timer_heap& heap) noexcept : heap_(heap), inner_(take(heap.clearing_, true)) {}
        ~clearing() {
            if (inner_) return;
            heap_.clearing_ = false;
            heap_.removed_one_by_one_ = 0;
            if (heap_.dead_ != 0) heap_.bury();
        }
        clearing(const clearing&) = delete;
        clearing& operator=(const clearing&) = delete;

     private:
        timer_heap& heap_;
        bool inner_;
    };

 private:
    struct entry {
        time_point deadline;
        std::uint32_t sequence;
        slot of;

        // Without a branch: which of two is earlier cannot be predicted.
        bool before(const entry& other) const noexcept {
            return (int{deadline < other.deadline} |
                    (int{deadline == other.deadline} & int{sequence < other.sequence})) != 0;
        }
    };
    static_assert(sizeof(entry) == 16);

    // Values of where_: an index of the heap, or one of these, or due_bit + an index of due_.
    static constexpr std::uint32_t idle = none;
    static constexpr std::uint32_t held = 0x7fff'ffff;
    static constexpr std::uint32_t due_bit = 0x8000'0000;

    static constexpr slot batch = 64;  // slots are added, and given back, so many at a time

    static constexpr std::uint32_t last_sequence = ~std::uint32_t{0};
    /// Entries left empty in front. Large blocks of malloc begin 16 bytes into a page: with these
    /// two, brothers (4i + 1 to 4i + 4) share a cache line.
    static constexpr std::size_t pad = 2;

    entry& at(std::size_t i) const noexcept { return entries_[i + pad]; }

    void place(std::size_t i, const entry& e) noexcept {
        at(i) = e;
        where_[e.of] = static_cast<std::uint32_t>(i);
    }

    /// Closes the hole at index i with the last entry.
    void fill(std::size_t i) noexcept {
        const entry last = at(--count_);
        if (i == count_) return;
        if (i > 0 && last.before(at((i - 1) / 4))) {
            sift_up(i, last);
        } else {
            sift_down(i, last);
        }
    }

    void sift_up(std::size_t hole, const entry e) noexcept {
        while (hole > 0) {
            const std::size_t parent = (hole - 1) / 4;
            if (!e.before(at(parent))) break;
            place(hole, at(parent));
            hole = parent;
        }
        place(hole, e);
    }

    void sift_down(std::size_t hole, const entry e) noexcept {
        for (std::size_t first; (first = hole * 4 + 1) < count_;) {
            std::size_t least = first;
            if (first + 4 <= count_) [[likely]] {
                const std::size_t a = first + at(first + 1).before(at(first));
                const std::size_t b = first + 2 + at(first + 3).before(at(first + 2));
                least = at(b).before(at(a)) ? b : a;
            } else {
                for (std::size_t child = first + 1; child < count_; ++child)
                    if (at(child).before(at(least))) least = child;
            }
            if (!at(least).before(e)) break;
            place(hole, at(least));
            hole = least;
        }
        place(hole, e);
    }

    RONDO_API void add_slots();
    RONDO_API void number_anew() noexcept;
    RONDO_API void bury() noexcept;

    plain_array<entry> entries_;        // the heap
    plain_array<op*> owner_;            // of each slot; null: a free one
    plain_array<std::uint32_t> where_;  // of each slot; of a free one: the next
    plain_array<duration> period_;      // of each slot, if its owner wants it
    plain_array<slot> due_;             // collected, in order
    std::size_t count_ = 0;             // of entries_
    std::size_t due_left_ = 0;          // still armed in due_
    std::size_t held_count_ = 0;
    std::size_t dead_ = 0;                // entries whose slot has no owner any more: during a clearing
    std::size_t removed_one_by_one_ = 0;  // in this clearing
    bool clearing_ = false;
    slot slots_ = 0;
    slot free_ = none;
    std::uint32_t due_count_ = 0;
    std::uint32_t due_next_ = 0;
    std::uint32_t sequence_;
};

}  // namespace rondo::detail
