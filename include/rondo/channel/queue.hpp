// Queues of work, as Python's asyncio.Queue: some tasks put values, others get them and say when they are
// done with each, and join() waits until all that was put is done.
//
//     rondo::queue<job> jobs(100, "jobs");
//     while (auto next = co_await jobs.get()) {  // a worker
//         const auto done = jobs.done_at_exit();  // also if work() throws
//         co_await work(*next);
//     }
//
// queue<T> gives the oldest value, lifo_queue<T> the newest, priority_queue<T> the smallest. Who waits is
// served first come, first served, on either side, and by a hand-over: a put gives its value to a get that
// waits, a get makes room for a put that waits, and nobody comes between. A wait that is cancelled before
// has put or got nothing; one that is cancelled later has succeeded.
//
// One loop only. The queue must outlive all waits on it.
#pragma once

#include <rondo/task/detail/named_queue.hpp>
#include <rondo/base/detail/safe_argument.hpp>
#include <rondo/base/detail/take.hpp>

#include <concepts>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

namespace rondo {

/// A capacity, for a queue in which put() never waits. It grows as far as memory goes: for who puts no
/// faster than others get, or knows how much there will be.
inline constexpr std::size_t unbounded = ~std::size_t{0};

namespace detail {

/// What a queue is apart from its values and their order.
class RONDO_API queue_core {
 public:
    struct wait;
    class join_awaiter;

    queue_core(const char* kind, std::size_t capacity, const char* name);
    queue_core(const queue_core&) = delete;
    queue_core& operator=(const queue_core&) = delete;

    std::size_t unfinished() const noexcept { return count + in_hand; }
    void task_done();
    /// Ends the waits of all who put or get.
    void end() noexcept;
    void wake_joiners() noexcept {
        while (!joiners.empty()) joiners.complete_first();
    }

    const std::size_t limit;  // of values in it
    std::size_t count = 0;    // of them
    std::size_t in_hand = 0;  // values that were got, and are not done
    bool ended = false;
    named_queue putters;  // for room
    named_queue getters;  // for a value
    named_queue joiners;
    const scheduler* const made_on;  // null: made before any loop ran

 protected:
    ~queue_core() = default;
};

struct RONDO_API queue_core::wait : wait_op {
    wait(queue_core& queue, const op_vtable& table) noexcept : wait_op(table), of(&queue) {}
    void give_back() noexcept {}
    [[noreturn]] void fail(const char* operation) const;
    queue_core* of;
    static const op_vtable putting;
    static const op_vtable getting;
    static const op_vtable joining;
};

class [[nodiscard]] queue_core::join_awaiter : public wait, public awaits<join_awaiter> {
 public:
    explicit join_awaiter(queue_core& q) noexcept : wait(q, joining) {}
    bool start() noexcept {
        if (of->unfinished() == 0) return false;
        of->joiners.push(*this);
        return true;
    }
    void await_resume() const {
        if (result < 0) [[unlikely]]
            fail("join");
    }
    rondo::result<void> finish() const { return await_resume(), rondo::result<void>(); }
};

}  // namespace detail

/// Calls task_done() when it goes, however its block is left: for one value that was got. See queue<T>::done_at_exit().
class RONDO_API task_done_guard {
 public:
    explicit task_done_guard(detail::queue_core& of) noexcept : of_(&of) {}
    task_done_guard(task_done_guard&& other) noexcept : of_(detail::take(other.of_)) {}
    task_done_guard& operator=(task_done_guard other) noexcept {
        detail::trade(of_, other.of_);
        return *this;
    }
    /// Asserts that the value was not said to be done before. O(1), or O(those who join).
    ~task_done_guard();

 private:
    detail::queue_core* of_;
};

namespace detail {

template <class T>
struct get_wait : queue_core::wait {
    explicit get_wait(queue_core& q) noexcept : wait(q, getting) {}
    std::optional<T> await_resume() {
        if (result < 0) [[unlikely]]
            fail("get");
        return std::move(value);
    }
    rondo::result<std::optional<T>> finish() { return await_resume(); }

    std::optional<T> value;
};

template <class T>
struct put_wait : queue_core::wait {
    put_wait(queue_core& q, T* from) noexcept : wait(q, putting), value(from) {}
    void await_resume() const {
        if (result < 0) [[unlikely]]
            fail("put");
    }
    rondo::result<void> finish() const {
        if (result == -ECANCELED) [[unlikely]]
            fail("put");
        if (result < 0) return failure_thrown_by(errno_code(-result), [this] { await_resume(); });
        return {};
    }

    T* value;
};

template <class Queue>
class [[nodiscard]] get_awaiter : public get_wait<typename Queue::value_type>, public awaits<get_awaiter<Queue>> {
 public:
    explicit get_awaiter(Queue& q) noexcept : get_wait<typename Queue::value_type>(q) {}
    bool start() noexcept { return static_cast<Queue&>(*this->of).start(*this); }
};

/// Puts a value that lies elsewhere, and stays there if the put fails.
template <class Queue>
class [[nodiscard]] put_awaiter : public put_wait<typename Queue::value_type>, public awaits<put_awaiter<Queue>> {
 public:
    put_awaiter(Queue& q, typename Queue::value_type& from) noexcept
        : put_wait<typename Queue::value_type>(q, std::addressof(from)) {}
    bool start() noexcept { return static_cast<Queue&>(*this->of).start(*this); }
};

/// Puts a value that the awaiter itself holds.
template <class Queue>
class [[nodiscard]] put_new_awaiter : public put_wait<typename Queue::value_type>,
                                      public awaits<put_new_awaiter<Queue>> {
 public:
    template <class... Args>
    explicit put_new_awaiter(Queue& q, std::in_place_t, Args&&... args)
        : put_wait<typename Queue::value_type>(q, nullptr), held_(std::forward<Args>(args)...) {}
    bool start() noexcept {
        this->value = std::addressof(held_);
        return static_cast<Queue&>(*this->of).start(*this);
    }

 private:
    typename Queue::value_type held_;
};

template <class T, class Store>
class queue_of : queue_core {
    static_assert(std::is_object_v<T> && !std::is_const_v<T>, "a queue carries values");
    static_assert(std::is_nothrow_move_constructible_v<T> && std::is_nothrow_destructible_v<T>,
                  "what a queue carries must move without throwing, or a value could be lost on its way");
    static_assert(alignof(T) <= 16, "a queue carries what is aligned to 16 bytes at most");

 public:
    using value_type = T;

    // --- putting
    //
    // Waits until there is room. Throws io_error(broken_pipe) when the queue is shut down, before or
    // meanwhile; an unbounded one throws bad_alloc. Cancel, and any failure: nothing was put; where the value
    // is then is said of each. O(1); a priority_queue O(log n).

    /// Puts T(args...), which is built at once. When it was not put it is destroyed.
    template <class... Args>
    put_new_awaiter<queue_of> emplace(Args&&... args) {
        (assert_safe_argument<Args>(), ...);
        return put_new_awaiter<queue_of>(*this, std::in_place, std::forward<Args>(args)...);
    }
    /// Puts a T by moving it from where it is, in the moment it is taken: when it was not put, it has not
    /// been touched. It must stay valid until this ends.
    template <class U>
        requires(std::same_as<U, T>)
    put_awaiter<queue_of> put(U&& value) noexcept {
        static_assert(
            safe_argument<U>,
            "GCC 12 destroys this value twice if it is a temporary, and cannot tell std::move(name) from one: "
            "say put_from(name), which does the same, or emplace(args...)");
        return {*this, value};
    }
    /// Puts a copy, or what converts: as emplace(value).
    template <class U>
        requires(!std::same_as<U, T> && std::constructible_from<T, U>)
    put_new_awaiter<queue_of> put(U&& value) {
        return emplace(std::forward<U>(value));
    }
    /// put(std::move(value)), in a spelling that every compiler takes for every type.
    put_awaiter<queue_of> put_from(T& value) noexcept { return {*this, value}; }

    /// Puts if that needs no waiting; else gives resource_unavailable_try_again; or broken_pipe of a queue that
    /// is shut down, or not_enough_memory of an unbounded one. Then it has not touched the value.
    rondo::result<void> try_put(T&& value) noexcept {
        const int error = give(value, nullptr);
        if (error != 0) return errno_code(error);
        return {};
    }
    rondo::result<void> try_put(const T& value) { return try_put(T(value)); }

    // --- getting

    /// Waits for a value. Empty when the queue is shut down and there is none left.
    /// Cancel: nothing is lost. A value that was faster than the cancel is got all the same. O(1); of a
    /// priority_queue O(log n).
    get_awaiter<queue_of> get() noexcept { return get_awaiter<queue_of>(*this); }
    /// What can be got without waiting; empty if nothing can, and finished() tells whether that may change.
    std::optional<T> try_get() noexcept {
        std::optional<T> value;
        take(value, nullptr);
        return value;
    }

    // --- done

    /// Says that all that was to be done with one of the values that were got is done. Throws logic_error when that has
    /// been said of all of them. O(1), or O(those who join).
    void task_done() { queue_core::task_done(); }
    /// Calls task_done() when what it gives goes: at the end of the block, also by an exception or a cancel. The queue
    /// must outlive it.
    [[nodiscard]] task_done_guard done_at_exit() noexcept { return task_done_guard(*this); }
    /// Waits until nothing is unfinished: everything that was put has been got, and is done. Returns at once if
    /// that is so already. Cancel: nothing is lost. O(1).
    join_awaiter join() noexcept { return join_awaiter(*this); }

    /// Nothing can be put any more. Puts that wait fail and keep their values, gets that wait end empty; what is in
    /// the queue can still be got. If `immediate` it is destroyed instead, and counts as done; join() goes on
    /// waiting for what has been got. Gives how many values were destroyed. Any number of times. O(waits + values).
    std::size_t shutdown(bool immediate = false) noexcept {
        end();
        const std::size_t dropped = immediate ? drop() : 0;
        if (unfinished() == 0) wake_joiners();
        return dropped;
    }

    // --- looking

    /// `unbounded` if it is.
    std::size_t capacity() const noexcept { return limit; }
    /// How many values are in it.
    std::size_t size() const noexcept { return count; }
    /// How many values were put and are not done.
    std::size_t unfinished() const noexcept { return queue_core::unfinished(); }
    bool is_shut_down() const noexcept { return ended; }
    /// Whether it is shut down and everything has been got.
    bool finished() const noexcept { return ended && count == 0; }
    std::size_t waiting_putters() const noexcept { return putters.size(); }
    std::size_t waiting_getters() const noexcept { return getters.size(); }
    std::size_t waiting_joiners() const noexcept { return joiners.size(); }
    const char* name() const noexcept { return getters.name(); }

 protected:
    template <class... Order>
    queue_of(const char* kind, std::size_t capacity, const char* name, Order&&... order)
        : queue_core(kind, capacity, name),
          values_(capacity == unbounded ? 0 : capacity, std::forward<Order>(order)...) {}
    ~queue_of() { drop(); }

 private:
    friend get_awaiter<queue_of>;
    friend put_awaiter<queue_of>;
    friend put_new_awaiter<queue_of>;

    /// An errno, or 0.
    int give(T& value, const fiber* from) noexcept;
    /// False: there is none.
    bool take(std::optional<T>& into, const fiber* by) noexcept;
    bool start(put_wait<T>& w) noexcept;
    bool start(get_wait<T>& w) noexcept;
    std::size_t drop() noexcept {
        std::size_t dropped = 0;
        for (; count != 0; ++dropped) {
            std::optional<T> value;
            values_.take(value, count--);
        }
        return dropped;
    }

    Store values_;
};

/// Raw memory for a number of values.
template <class Value>
class queue_memory {
 public:
    /// Throws bad_alloc.
    explicit queue_memory(std::size_t size)
        : values_(size != 0 ? std::allocator<Value>().allocate(size) : nullptr), size_(size) {}
    ~queue_memory() {
        if (values_ != nullptr) std::allocator<Value>().deallocate(values_, size_);
    }
    queue_memory(const queue_memory&) = delete;
    queue_memory& operator=(const queue_memory&) = delete;

    std::size_t size() const noexcept { return size_; }
    Value& operator[](std::size_t i) const noexcept { return values_[i]; }
    template <class... Args>
    void make(std::size_t i, Args&&... args) noexcept {
        std::construct_at(values_ + i, std::forward<Args>(args)...);
    }
    void destroy(std::size_t i) noexcept { std::destroy_at(values_ + i); }
    void move(std::size_t from, std::size_t to) noexcept {
        make(to, std::move(values_[from]));
        destroy(from);
    }

    /// Doubles it when all of it is in use, as a ring that begins at `first`, which then begins at 0. False: there
    /// is no memory, and nothing has changed.
    bool grow(std::size_t first) noexcept {
        const std::size_t larger = size_ == 0 ? 16 : size_ * 2;
        Value* memory = nullptr;
        try {
            memory = std::allocator<Value>().allocate(larger);
        } catch (const std::bad_alloc&) {
            return false;
        }
        for (std::size_t i = 0; i < size_; ++i) {
            Value& each = values_[(first + i) % size_];
            std::construct_at(memory + i, std::move(each));
            std::destroy_at(&each);
        }
        if (values_ != nullptr) std::allocator<Value>().deallocate(values_, size_);
        values_ = memory;
        size_ = larger;
        return true;
    }

 private:
    Value* values_;
    std::size_t size_;
};

// The three orders. Each is told how many values there are: the queue counts them.

template <class T>
class oldest_first {
 public:
    explicit oldest_first(std::size_t size) : ring_(size) {}

    bool has_room(std::size_t count) noexcept {
        if (count < ring_.size()) return true;
        if (!ring_.grow(first_)) return false;
        first_ = 0;
        return true;
    }
    void keep(T& value, std::size_t count) noexcept {
        const std::size_t i = first_ + count;
        ring_.make(i < ring_.size() ? i : i - ring_.size(), std::move(value));
    }
    void take(std::optional<T>& into, std::size_t) noexcept {
        const std::size_t i = first_;
        first_ = i + 1 < ring_.size() ? i + 1 : 0;
        into.emplace(std::move(ring_[i]));
        ring_.destroy(i);
    }

 private:
    queue_memory<T> ring_;
    std::size_t first_ = 0;
};

template <class T>
class newest_first {
 public:
    explicit newest_first(std::size_t size) : stack_(size) {}

    bool has_room(std::size_t count) noexcept { return count < stack_.size() || stack_.grow(0); }
    void keep(T& value, std::size_t count) noexcept { stack_.make(count, std::move(value)); }
    void take(std::optional<T>& into, std::size_t count) noexcept {
        into.emplace(std::move(stack_[count - 1]));
        stack_.destroy(count - 1);
    }

 private:
    queue_memory<T> stack_;
};

[[noreturn]] RONDO_API void compare_threw() noexcept;

/// A binary heap. Equals are told apart by their age.
template <class T, class Compare>
class first_by {
 public:
    first_by(std::size_t size, const Compare& compare) : heap_(size), compare_(compare) {}

    bool has_room(std::size_t count) noexcept { return count < heap_.size() || heap_.grow(0); }
    void keep(T& value, std::size_t count) noexcept {
        std::size_t hole = count;
        while (hole > 0) {
            const std::size_t parent = (hole - 1) / 2;
            if (!first_of(value, heap_[parent].value)) break;
            heap_.move(parent, hole);
            hole = parent;
        }
        heap_.make(hole, std::move(value), next_++);
    }
    void take(std::optional<T>& into, std::size_t count) noexcept {
        into.emplace(std::move(heap_[0].value));
        heap_.destroy(0);
        const std::size_t last = count - 1;
        if (last == 0) return;
        std::size_t hole = 0;
        for (std::size_t child; (child = hole * 2 + 1) < last; hole = child) {
            if (child + 1 < last && before(heap_[child + 1], heap_[child])) ++child;
            if (!before(heap_[child], heap_[last])) break;
            heap_.move(child, hole);
        }
        heap_.move(last, hole);
    }

 private:
    struct entry {
        entry(T&& v, std::uint64_t n) noexcept : value(std::move(v)), number(n) {}
        T value;
        std::uint64_t number;
    };
    bool first_of(const T& a, const T& b) const noexcept {
        try {
            return compare_(a, b);
        } catch (...) {
            compare_threw();
        }
    }
    bool before(const entry& a, const entry& b) const noexcept {
        if (first_of(a.value, b.value)) return true;
        return a.number < b.number && !first_of(b.value, a.value);
    }

    queue_memory<entry> heap_;
    std::uint64_t next_ = 0;
    [[no_unique_address]] Compare compare_;
};

struct smaller {
    template <class T>
    bool operator()(const T& a, const T& b) const {
        return a < b;
    }
};

}  // namespace detail

/// First in, first out.
template <class T>
class queue : public detail::queue_of<T, detail::oldest_first<T>> {
 public:
    /// Room for `capacity` values, had at once: throws bad_alloc, and nothing is allocated later; or `unbounded`.
    /// Throws invalid_argument if it is 0, which to some means no bound and to others no buffer: that is
    /// channel<T>. `name` is for reports and must outlive it (a literal).
    explicit queue(std::size_t capacity, const char* name = "")
        : detail::queue_of<T, detail::oldest_first<T>>("queue", capacity, name) {}
};

/// Last in, first out.
template <class T>
class lifo_queue : public detail::queue_of<T, detail::newest_first<T>> {
 public:
    /// Takes what the constructor of queue takes, and throws what that throws.
    explicit lifo_queue(std::size_t capacity, const char* name = "")
        : detail::queue_of<T, detail::newest_first<T>>("lifo_queue", capacity, name) {}
};

/// Gives the value that comes before all others: `compare(a, b)` tells whether a comes before b, by default
/// a < b, so the smallest (as in Python; std::priority_queue gives the largest). Of equals the one that was put
/// first. `compare` must not throw, which is asserted. A value whose put waits for room is not in the queue yet,
/// whatever its rank.
template <class T, class Compare = detail::smaller>
class priority_queue : public detail::queue_of<T, detail::first_by<T, Compare>> {
 public:
    /// Takes what the constructor of queue takes, and throws what that throws.
    explicit priority_queue(std::size_t capacity, const char* name = "") : priority_queue(capacity, Compare(), name) {}
    priority_queue(std::size_t capacity, const Compare& compare, const char* name = "")
        : detail::queue_of<T, detail::first_by<T, Compare>>("priority_queue", capacity, name, compare) {}
};

// implementation

namespace detail {

template <class T, class Store>
int queue_of<T, Store>::give(T& value, const fiber* from) noexcept {
    if (ended) return EPIPE;
    if (wait_op* const w = getters.first_of_others(from)) {
        static_cast<get_wait<T>*>(w)->value.emplace(std::move(value));
        ++in_hand;
        getters.complete(*w);
        return 0;
    }
    if (count == limit) return EAGAIN;
    if (!values_.has_room(count)) return ENOMEM;
    values_.keep(value, count++);
    return 0;
}

template <class T, class Store>
bool queue_of<T, Store>::take(std::optional<T>& into, const fiber* by) noexcept {
    if (count == 0) return false;
    values_.take(into, count--);
    ++in_hand;
    if (wait_op* const w = putters.first_of_others(by)) {
        values_.keep(*static_cast<put_wait<T>*>(w)->value, count++);
        putters.complete(*w);
    }
    return true;
}

template <class T, class Store>
bool queue_of<T, Store>::start(put_wait<T>& w) noexcept {
    const int error = give(*w.value, w.owner);
    if (error == EAGAIN) {
        putters.push(w);
        return true;
    }
    w.result = -error;
    return false;
}

template <class T, class Store>
bool queue_of<T, Store>::start(get_wait<T>& w) noexcept {
    if (take(w.value, w.owner) || ended) return false;
    getters.push(w);
    return true;
}

}  // namespace detail
}  // namespace rondo
