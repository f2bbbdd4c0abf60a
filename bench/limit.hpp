// The least a coroutine framework can do: what the micro rows compare with. A trampoline, frames
// from a pool, an intrusive ready list, a 4-ary timer heap. No cancellation, no scopes, no errors
// other than exceptions passed to the parent.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>
#include <utility>
#include <vector>

namespace limit {

// frames: free lists of 64-byte classes, never given back

class pool {
 public:
    static void* take(std::size_t size) {
        auto index = (size + 63) / 64;
        if (index >= classes) return std::malloc(size);
        auto* block = free_[index];
        if (!block) return refill(index);
        free_[index] = block->next;
        return block;
    }
    static void give(void* memory, std::size_t size) {
        auto index = (size + 63) / 64;
        if (index >= classes) return std::free(memory);
        auto* block = static_cast<cell*>(memory);
        block->next = free_[index];
        free_[index] = block;
    }

 private:
    struct cell {
        cell* next;
    };
    static constexpr std::size_t classes = 33;
    static constexpr std::size_t chunk = 64 * 1024;

    [[gnu::noinline]] static void* refill(std::size_t index) {
        auto size = index * 64;
        auto* memory = static_cast<char*>(std::malloc(chunk));
        if (!memory) throw std::bad_alloc();
        // Backwards, so that blocks are handed out in the order of their addresses.
        for (std::size_t i = chunk / size; i-- > 1;) give(memory + i * size, size);
        return memory;
    }

    static inline thread_local constinit cell* free_[classes] = {};
};

// the ready list and the trampoline

struct waiter {
    waiter* next = nullptr;
    std::coroutine_handle<> handle;
};

inline thread_local constinit waiter* ready_head = nullptr;
inline thread_local constinit waiter** ready_tail = nullptr;
inline thread_local constinit void* next_resume = nullptr;

inline void make_ready(waiter& w) {
    w.next = nullptr;
    if (ready_head)
        *ready_tail = &w;
    else
        ready_head = &w;
    ready_tail = &w.next;
}

inline void resume_next(std::coroutine_handle<> handle) { next_resume = handle.address(); }

inline void drive(std::coroutine_handle<> handle) {
    resume_next(handle);
    while (auto* address = std::exchange(next_resume, nullptr)) std::coroutine_handle<>::from_address(address).resume();
}

inline void drain() {
    while (auto* w = ready_head) {
        ready_head = w->next;
        drive(w->handle);
    }
}

struct yield : waiter {
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) noexcept {
        handle = h;
        make_ready(*this);
    }
    void await_resume() noexcept {}
};

// tasks

struct group {
    long running = 0;
    std::coroutine_handle<> joiner;
};

struct promise_base {
    std::coroutine_handle<> parent;
    group* member_of = nullptr;  // of a spawned task, which frees itself

    static void* operator new(std::size_t size) { return pool::take(size); }
    static void operator delete(void* memory, std::size_t size) { pool::give(memory, size); }

    std::suspend_always initial_suspend() noexcept { return {}; }
    struct final_awaiter {
        bool await_ready() noexcept { return false; }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> self) noexcept {
            promise_base& promise = self.promise();
            if (auto* joined = promise.member_of) {
                self.destroy();
                if (--joined->running == 0 && joined->joiner) resume_next(joined->joiner);
            } else if (promise.parent) {
                resume_next(promise.parent);
            }
        }
        void await_resume() noexcept {}
    };
    final_awaiter final_suspend() noexcept { return {}; }
};

template <class T>
struct result_of : promise_base {
    union {
        T value;
        std::exception_ptr error;
    };
    char tag = 0;

    result_of() {}
    ~result_of() {
        if (tag == 1) value.~T();
        if (tag == 2) error.~exception_ptr();
    }
    void return_value(T v) {
        new (&value) T(std::move(v));
        tag = 1;
    }
    void unhandled_exception() {
        new (&error) std::exception_ptr(std::current_exception());
        tag = 2;
    }
    T take() {
        if (tag == 2) std::rethrow_exception(error);
        return std::move(value);
    }
};

template <>
struct result_of<void> : promise_base {
    std::exception_ptr error;
    void return_void() {}
    void unhandled_exception() { error = std::current_exception(); }
    void take() {
        if (error) std::rethrow_exception(error);
    }
};

template <class T = void>
class [[nodiscard]] task {
 public:
    struct promise_type : result_of<T> {
        task get_return_object() { return task(handle::from_promise(*this)); }
    };
    using handle = std::coroutine_handle<promise_type>;

    task(task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    ~task() {
        if (handle_) handle_.destroy();
    }
    handle release() { return std::exchange(handle_, {}); }

    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> parent) noexcept {
        handle_.promise().parent = parent;
        resume_next(handle_);
    }
    T await_resume() { return handle_.promise().take(); }

 private:
    explicit task(handle h) : handle_(h) {}
    handle handle_;
};

/// Starts `child` when the spawner suspends; it frees itself when it ends.
struct starter : waiter {};

inline void spawn(group& into, task<> child, starter& start) {
    auto handle = child.release();
    handle.promise().member_of = &into;
    ++into.running;
    start.handle = handle;
    make_ready(start);
}

struct join {
    group& joined;
    bool await_ready() noexcept { return joined.running == 0; }
    void await_suspend(std::coroutine_handle<> h) noexcept { joined.joiner = h; }
    void await_resume() noexcept { joined.joiner = {}; }
};

// a semaphore: a permit that is released goes to the first who waits

class semaphore {
 public:
    explicit semaphore(long permits) : available_(permits) {}

    struct acquire : waiter {
        semaphore& of;
        explicit acquire(semaphore& s) : of(s) {}
        bool await_ready() noexcept {
            if (of.available_ == 0) return false;
            --of.available_;
            return true;
        }
        void await_suspend(std::coroutine_handle<> h) noexcept {
            handle = h;
            next = nullptr;
            *of.tail_ = this;
            of.tail_ = &next;
        }
        void await_resume() noexcept {}
    };
    void release() {
        auto* first = head_;
        if (!first) {
            ++available_;
            return;
        }
        head_ = first->next;
        if (!head_) tail_ = &head_;
        make_ready(*first);
    }

 private:
    waiter* head_ = nullptr;
    waiter** tail_ = &head_;
    long available_;
};

// channels: unbuffered, first come first served, never closed

template <class T>
class channel {
    struct wait : waiter {
        T value;
    };
    class line {
     public:
        bool empty() const { return head_ == nullptr; }
        void push(wait& w) {
            w.next = nullptr;
            *tail_ = &w;
            tail_ = &w.next;
        }
        wait& pop() {
            auto* first = static_cast<wait*>(head_);
            head_ = first->next;
            if (!head_) tail_ = &head_;
            return *first;
        }

     private:
        waiter* head_ = nullptr;
        waiter** tail_ = &head_;
    };

 public:
    struct sending : wait {
        channel& to;
        sending(channel& c, T v) : to(c) { this->value = std::move(v); }
        bool await_ready() noexcept {
            if (to.receivers_.empty()) return false;
            wait& receiver = to.receivers_.pop();
            receiver.value = std::move(this->value);
            make_ready(receiver);
            return true;
        }
        void await_suspend(std::coroutine_handle<> h) noexcept {
            this->handle = h;
            to.senders_.push(*this);
        }
        void await_resume() noexcept {}
    };
    struct receiving : wait {
        channel& from;
        explicit receiving(channel& c) : from(c) {}
        bool await_ready() noexcept {
            if (from.senders_.empty()) return false;
            wait& sender = from.senders_.pop();
            this->value = std::move(sender.value);
            make_ready(sender);
            return true;
        }
        void await_suspend(std::coroutine_handle<> h) noexcept {
            this->handle = h;
            from.receivers_.push(*this);
        }
        T await_resume() noexcept { return std::move(this->value); }
    };
    sending send(T value) { return {*this, std::move(value)}; }
    receiving receive() { return receiving(*this); }

 private:
    line senders_, receivers_;
};

// timers: a 4-ary heap of deadlines; the index is kept in the timer, which makes cancelling easy

struct timer {
    std::uint32_t index = 0;
    std::coroutine_handle<> handle;
};

class timer_heap {
 public:
    void insert(timer& t, std::int64_t deadline) {
        entries_.push_back({deadline, &t});
        sift_up(entries_.size() - 1, {deadline, &t});
    }
    void cancel(timer& t) {
        std::size_t at = t.index;
        auto last = entries_.back();
        entries_.pop_back();
        if (at == entries_.size()) return;
        if (at > 0 && last.deadline < entries_[(at - 1) / 4].deadline)
            sift_up(at, last);
        else
            sift_down(at, last);
    }
    bool empty() const { return entries_.empty(); }
    std::int64_t next() const { return entries_.front().deadline; }
    timer& pop() {
        auto& first = *entries_.front().owner;
        cancel(first);
        return first;
    }

 private:
    struct entry {
        std::int64_t deadline;
        timer* owner;
    };

    void place(std::size_t at, entry e) {
        entries_[at] = e;
        e.owner->index = static_cast<std::uint32_t>(at);
    }
    void sift_up(std::size_t at, entry e) {
        while (at > 0) {
            auto parent = (at - 1) / 4;
            if (entries_[parent].deadline <= e.deadline) break;
            place(at, entries_[parent]);
            at = parent;
        }
        place(at, e);
    }
    void sift_down(std::size_t at, entry e) {
        for (;;) {
            auto first = at * 4 + 1, end = first + 4;
            if (end > entries_.size()) end = entries_.size();
            if (first >= end) break;
            auto least = first;
            for (auto child = first + 1; child < end; ++child)
                if (entries_[child].deadline < entries_[least].deadline) least = child;
            if (entries_[least].deadline >= e.deadline) break;
            place(at, entries_[least]);
            at = least;
        }
        place(at, e);
    }

    std::vector<entry> entries_;
};

inline timer_heap timers;

struct sleep_until : timer {
    std::int64_t deadline;
    explicit sleep_until(std::int64_t at) : deadline(at) {}
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) noexcept {
        handle = h;
        timers.insert(*this, deadline);
    }
    void await_resume() noexcept {}
};

}  // namespace limit
