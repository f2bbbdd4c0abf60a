// async_generator<T>: a coroutine that gives values one by one, each when it is asked for the next.
//
//     async_generator<std::string> lines(tcp_stream& from) {
//         ... co_await from.receive() ... co_yield line ...
//     }
//     while (auto line = co_await input.next()) use(*line);
//
// It runs only while next() is awaited, as a part of the task that awaits: its waits are that task's, in that
// task's scopes, and so is their cancellation. So it cannot be abandoned in the middle of a wait; between two
// values it can, and destroying it destroys what its coroutine holds. Nothing is allocated but its frame.
//
// Generators may be wrapped in each other as often as there is memory. Of a chain whose destructors would need more
// than a quarter of a MiB of stack, those further in are destroyed after the ones that hold them.
#pragma once

#include <rondo/base/detail/safe_argument.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/task/task.hpp>

#include <memory>
#include <type_traits>
#include <utility>

namespace rondo {

template <class T>
class async_generator;

namespace detail {

template <class T>
struct generator_promise : promise_base {
    /// Where the value that was asked for is; null at the end.
    T* value = nullptr;
    std::exception_ptr error;
    bool ended = false;
    bool asked = false;  // a task awaits its next value

    void ask() noexcept {
        RONDO_ASSERT(!asked, "two tasks ask one async_generator, or it asks itself");
        asked = true;
    }

    static void* operator new(std::size_t size) { return frame_allocate(size); }
    static void operator delete(void* frame, std::size_t size) noexcept { frame_deallocate(frame, size); }

    async_generator<T> get_return_object(std::source_location made = std::source_location::current()) noexcept;
    start_awaiter initial_suspend() const noexcept { return {}; }

    /// Back to who asked, as a coroutine that has ended goes back.
    struct yield_awaiter {
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<generator_promise> frame) const noexcept {
            generator_promise& self = frame.promise();
            self.asked = false;
            self.owner->leaf = self.parent;
        }
        void await_resume() const noexcept {}
    };
    /// A value that is yielded by copy lives here until the next is asked for.
    struct copy_awaiter : yield_awaiter {
        explicit copy_awaiter(const T& from) : copy(from) {}
        void await_suspend(std::coroutine_handle<generator_promise> frame) noexcept {
            frame.promise().value = std::addressof(copy);
            yield_awaiter::await_suspend(frame);
        }
        T copy;
    };

    template <class U>
        requires std::is_same_v<U, T>
    yield_awaiter yield_value(U&& from) noexcept {
        assert_safe_argument<U>();
        value = std::addressof(from);
        return {};
    }
    copy_awaiter yield_value(const T& from) { return copy_awaiter(from); }

    void return_void() noexcept {}
    void unhandled_exception() noexcept {
        error = std::current_exception();
        note_unwinding(*this);
    }
    struct end_awaiter : yield_awaiter {
        void await_suspend(std::coroutine_handle<generator_promise> frame) const noexcept {
            frame.promise().ended = true;
            frame.promise().value = nullptr;
            yield_awaiter::await_suspend(frame);
        }
    };
    end_awaiter final_suspend() const noexcept { return {}; }
};

}  // namespace detail

/// Move-only. `T` is a value; it need not be movable if it is only yielded as a temporary.
template <class T>
class [[nodiscard]] async_generator {
    static_assert(std::is_object_v<T> && !std::is_const_v<T>, "an async_generator gives values");

 public:
    using promise_type = detail::generator_promise<T>;
    class next_awaiter;

    async_generator(async_generator&& other) noexcept : frame_(detail::take(other.frame_)) {}
    async_generator& operator=(async_generator other) noexcept {
        detail::trade(frame_, other.frame_);
        return *this;
    }
    ~async_generator() {
        if (!frame_) return;
        RONDO_ASSERT(!frame_.promise().asked, "an async_generator was destroyed while a task asks it");
        detail::destroy_frame(frame_.promise());
    }

    /// Runs it until its next value; gives a pointer to that, valid until the next next(), or null when the
    /// coroutine has ended. Throws what the coroutine throws; it has ended then. One task asks at a time, and it
    /// must not go meanwhile; both are asserted, and that it was not moved from.
    /// Cancel: is met by the generator's own waits; if it lets `cancelled` pass, it has ended.
    [[nodiscard]] next_awaiter next() noexcept {
        RONDO_ASSERT(frame_, "an async_generator is asked that was moved from");
        return next_awaiter(frame_);
    }

 private:
    friend promise_type;
    explicit async_generator(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
    std::coroutine_handle<promise_type> frame_;
};

// implementation

template <class T>
class async_generator<T>::next_awaiter {
 public:
    explicit next_awaiter(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}

    bool await_ready() const noexcept { return frame_.promise().ended; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> waiting,
                       std::source_location site = std::source_location::current()) const noexcept {
        detail::promise_base& parent = detail::promise_of(waiting);
        promise_type& self = frame_.promise();
        self.ask();
        parent.site = site;
        self.parent = &parent;
        self.owner = parent.owner;
        parent.owner->leaf = &self;
    }
    T* await_resume() const {
        promise_type& p = frame_.promise();
        if (p.error) [[unlikely]]
            std::rethrow_exception(std::exchange(p.error, nullptr));
        return p.value;
    }

 private:
    std::coroutine_handle<promise_type> frame_;
};

namespace detail {

template <class T>
async_generator<T> generator_promise<T>::get_return_object(std::source_location made) noexcept {
    const auto made_frame = std::coroutine_handle<generator_promise>::from_promise(*this);
    this->frame = made_frame.address();
    this->site = made;
    return async_generator<T>(made_frame);
}

}  // namespace detail
}  // namespace rondo
