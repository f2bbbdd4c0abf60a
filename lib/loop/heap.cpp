// What the timer heap does less often.
#include "heap.hpp"

#include <algorithm>
#include <new>

namespace rondo::detail {

void timer_heap::collect(time_point now) noexcept {
    while (count_ != 0 && at(0).deadline <= now) {
        const slot s = at(0).of;
        fill(0);
        where_[s] = due_bit + due_count_;
        due_[due_count_++] = s;
        ++due_left_;
    }
}

// Takes the entries out whose op was removed, and makes a heap of the others.
void timer_heap::bury() noexcept {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count_; ++i) {
        const entry e = at(i);
        if (owner_[e.of] == nullptr) {
            release(e.of);
        } else {
            place(kept++, e);
        }
    }
    count_ = kept;
    dead_ = 0;
    for (std::size_t i = count_ / 4 + 1; i-- > 0;)
        if (i < count_) sift_down(i, at(i));
}

// A few at a time: what is not used yet should not become resident.
void timer_heap::add_slots() {
    if (slots_ == due_.capacity()) {
        const std::size_t wanted = slots_ == 0 ? batch : std::size_t{slots_} * 2;
        if (wanted >= held) throw std::bad_alloc();  // 2^31 timers
        // due_ comes last: its size is what says that all tables have grown
        if (!entries_.resize(wanted + pad) || !owner_.resize(wanted) || !where_.resize(wanted) ||
            !period_.resize(wanted) || !due_.resize(wanted))
            throw std::bad_alloc();
    }
    slots_ += batch;
    for (slot s = slots_; s-- > slots_ - batch;) release(s);
}

// Numbers of slots stay as they are: their ops know them.
void timer_heap::shrink() noexcept {
    if (clearing_ || due_count_ != 0) return;
    slot last = slots_;
    while (last != 0 && owner_[last - 1] == nullptr) --last;
    const slot wanted = (last + batch - 1) / batch * batch;
    if (wanted == slots_) return;
    slots_ = wanted;
    free_ = none;
    for (slot s = slots_; s-- > 0;)
        if (owner_[s] == nullptr) release(s);
    if (wanted == 0) {
        entries_.clear();
        owner_.clear();
        where_.clear();
        period_.clear();
        due_.clear();
        return;
    }
    // What is not given back stays: then only `due_`, which tells the size of all, may not be the larger one.
    if (!due_.resize(wanted)) return;
    static_cast<void>(entries_.resize(wanted + pad));
    static_cast<void>(owner_.resize(wanted));
    static_cast<void>(where_.resize(wanted));
    static_cast<void>(period_.resize(wanted));
}

// After 2^32 timers the numbers run out. An array in order is a heap, and its indices serve as well.
void timer_heap::number_anew() noexcept {
    if (count_ != 0) std::sort(&at(0), &at(0) + count_, [](const entry& a, const entry& b) { return a.before(b); });
    for (sequence_ = 0; sequence_ < count_; ++sequence_) {
        at(sequence_).sequence = sequence_;
        where_[at(sequence_).of] = sequence_;
    }
}

}  // namespace rondo::detail
