// The timer heap: a 4-ary heap of {deadline, sequence, op}, whose index is kept in the op.
//
// Due timers are first collected, then taken one by one, so that a timer made while they run waits for
// the next round; one that is removed meanwhile is not taken.
//
// The entries are plain data in memory from realloc: a million of them grow in place (mremap) where a
// vector would copy them and leave holes behind.
//
// Four children share little more than a cache line, and the tree is half as deep as a binary one.
// The sequence number makes timers of one deadline fire in order of creation.
#pragma once

#include <rondo/op.hpp>
#include <rondo/time.hpp>

#include <cstdlib>
#include <new>
#include <span>

namespace rondo::detail {

class timer_heap {
 public:
    struct entry {
        time_point deadline;
        std::uint64_t sequence;
        op* what;

        bool before(const entry& other) const noexcept {
            return deadline != other.deadline ? deadline < other.deadline : sequence < other.sequence;
        }
    };

    timer_heap() noexcept = default;
    timer_heap(const timer_heap&) = delete;
    timer_heap& operator=(const timer_heap&) = delete;
    ~timer_heap() {
        std::free(entries_);
        std::free(due_);
    }

    bool empty() const noexcept { return count_ == 0; }
    std::size_t size() const noexcept { return count_ + due_left_; }
    const entry& top() const noexcept { return entries_[0]; }
    std::span<const entry> all() const noexcept { return {entries_, count_}; }

    /// Arms `what`. Throws bad_alloc, and then nothing has changed. O(log n).
    void insert(op& what, time_point deadline) {
        if (count_ == capacity_) [[unlikely]]
            if (!grow(entries_, capacity_)) throw std::bad_alloc();
        sift_up(count_++, {deadline, ++sequence_, &what});
    }

    /// Moves what is due at `now` out of the heap, in order; what does not fit in memory stays for
    /// the next time.
    void collect(time_point now) noexcept {
        while (count_ != 0 && entries_[0].deadline <= now) {
            if (due_count_ == due_capacity_ && !grow(due_, due_capacity_)) return;
            op& what = *entries_[0].what;
            remove(what);
            what.state = static_cast<std::uint32_t>(op::due_at + due_count_);
            due_[due_count_++] = &what;
            ++due_left_;
        }
    }

    /// The next collected op that was not removed; null when there is none. Its state is the
    /// caller's to set.
    op* take_due() noexcept {
        while (due_next_ < due_count_) {
            op* what = due_[due_next_++];
            if (what == nullptr) continue;
            --due_left_;
            return what;
        }
        due_count_ = due_next_ = 0;
        return nullptr;
    }

    /// Takes an armed op out; its state is the caller's to set. O(log n).
    void remove(op& what) noexcept {
        if (what.state >= op::due_at) {
            due_[what.state - op::due_at] = nullptr;
            --due_left_;
            return;
        }
        const std::size_t hole = what.state - op::armed_at;
        RONDO_ASSERT(hole < count_ && entries_[hole].what == &what, "not an armed timer");
        const entry last = entries_[--count_];
        if (hole == count_) return;
        if (hole > 0 && last.before(entries_[(hole - 1) / 4])) {
            sift_up(hole, last);
        } else {
            sift_down(hole, last);
        }
    }

    /// Gives memory back when a crowd of timers is gone. O(1).
    void trim() noexcept {
        if (capacity_ <= 4096 || count_ >= capacity_ / 8) return;
        resize(entries_, capacity_, capacity_ / 2);
        if (due_count_ == 0) {
            std::free(due_);
            due_ = nullptr;
            due_capacity_ = 0;
        }
    }

 private:
    void place(std::size_t index, const entry& e) noexcept {
        entries_[index] = e;
        e.what->state = static_cast<std::uint32_t>(op::armed_at + index);
    }

    void sift_up(std::size_t hole, entry e) noexcept {
        while (hole > 0) {
            const std::size_t parent = (hole - 1) / 4;
            if (!e.before(entries_[parent])) break;
            place(hole, entries_[parent]);
            hole = parent;
        }
        place(hole, e);
    }

    void sift_down(std::size_t hole, entry e) noexcept {
        for (;;) {
            const std::size_t first = hole * 4 + 1;
            if (first >= count_) break;
            const std::size_t end = first + 4 < count_ ? first + 4 : count_;
            std::size_t least = first;
            for (std::size_t child = first + 1; child < end; ++child)
                if (entries_[child].before(entries_[least])) least = child;
            if (!entries_[least].before(e)) break;
            place(hole, entries_[least]);
            hole = least;
        }
        place(hole, e);
    }

    template <class T>
    static bool resize(T*& items, std::size_t& capacity, std::size_t wanted) noexcept {
        void* memory = std::realloc(static_cast<void*>(items), wanted * sizeof(T));
        if (memory == nullptr) return false;
        items = static_cast<T*>(memory);
        capacity = wanted;
        return true;
    }
    template <class T>
    static bool grow(T*& items, std::size_t& capacity) noexcept {
        return resize(items, capacity, capacity == 0 ? 64 : capacity * 2);
    }

    entry* entries_ = nullptr;
    std::size_t count_ = 0;
    std::size_t capacity_ = 0;
    op** due_ = nullptr;
    std::size_t due_count_ = 0;
    std::size_t due_capacity_ = 0;
    std::size_t due_next_ = 0;
    std::size_t due_left_ = 0;
    std::uint64_t sequence_ = 0;
};

}  // namespace rondo::detail
