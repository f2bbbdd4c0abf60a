// task<T>: a lazy coroutine. `co_await child()` is a call: it costs no trip through a queue, and no
// stack either: awaiting and returning only say who runs next, and the loop's trampoline
// (loop::step) resumes it.
#pragma once

#include <rondo/base/detail/pool.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/base/error.hpp>
#include <rondo/loop/detail/unwinding.hpp>
#include <rondo/loop/op.hpp>

#include <concepts>
#include <coroutine>
#include <exception>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

namespace rondo {

template <class T = void>
class task;

namespace detail {

[[noreturn]] RONDO_API void miscompiled_frame() noexcept;
/// Destroys a frame, but for that of a task which has ended. It may hold another frame, which holds another one, and so
/// on: from a certain depth on they are destroyed one after the other, since the stack might not bear more.
RONDO_API void destroy_frame(promise_base& frame) noexcept;
/// Destroys the frame of a task whose coroutine has not ended.
RONDO_API void destroy_unfinished(promise_base& task) noexcept;

struct start_awaiter {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend([[maybe_unused]] std::coroutine_handle<Promise> frame) const noexcept {
#if RONDO_GCC12
        // GCC 12 lays out some frames 8 bytes off (an awaiting condition in a coroutine without
        // locals): a diagnosis instead of silent corruption. Where `owner` would be, which nobody has
        // set yet, is then a pointer that is set. (What an earlier frame left can look like `frame`.)
        if (frame.promise().owner != nullptr) [[unlikely]]
            miscompiled_frame();
#endif
    }
    void await_resume() const noexcept {}
};

struct final_awaiter {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> frame) const noexcept {
        promise_base& done = frame.promise();
        done.owner->leaf = done.parent;  // null: the fiber has ended
    }
    void await_resume() const noexcept {}
};

/// What a coroutine left behind: nothing yet, a value, or an exception.
template <class T>
class outcome {
 public:
    outcome() noexcept {}
    ~outcome() {
        if (state_ == state::value) std::destroy_at(std::addressof(value_));
        if (state_ == state::error) std::destroy_at(&error_);
    }
    outcome(const outcome&) = delete;
    outcome& operator=(const outcome&) = delete;

    template <class U>
    void set_value(U&& u) {
        std::construct_at(std::addressof(value_), std::forward<U>(u));
        state_ = state::value;
    }
    void set_error(std::exception_ptr e) noexcept {
        std::construct_at(&error_, std::move(e));
        state_ = state::error;
    }
    bool has_error() const noexcept { return state_ == state::error; }
    std::exception_ptr& error() noexcept { return error_; }
    T& value() noexcept { return value_; }  // only if it is one
    T take() {
        if (state_ == state::error) std::rethrow_exception(error_);
        return std::move(value_);
    }

 private:
    enum class state : std::uint8_t { empty, value, error };
    union {
        T value_;
        std::exception_ptr error_;
    };
    state state_ = state::empty;
};

template <class T>
class outcome<T&> {
 public:
    void set_value(T& value) noexcept { value_ = std::addressof(value); }
    void set_error(std::exception_ptr e) noexcept { error_ = std::move(e); }
    bool has_error() const noexcept { return error_ != nullptr; }
    std::exception_ptr& error() noexcept { return error_; }
    T& value() noexcept { return *value_; }
    T& take() {
        if (error_) std::rethrow_exception(error_);
        return *value_;
    }

 private:
    T* value_ = nullptr;
    std::exception_ptr error_;
};

/// It is asked only when the coroutine has ended, so without an error it is a success.
template <>
class outcome<void> {
 public:
    void set_value() noexcept {}
    void set_error(std::exception_ptr e) noexcept { error_ = std::move(e); }
    bool has_error() const noexcept { return error_ != nullptr; }
    std::exception_ptr& error() noexcept { return error_; }
    void take() {
        if (error_) [[unlikely]]
            std::rethrow_exception(error_);
    }

 private:
    std::exception_ptr error_;
};

template <class T>
struct promise;

/// What promises of all types do alike.
template <class T>
struct promise_common : promise_base {
    static void* operator new(std::size_t size) { return frame_allocate(size); }
    static void operator delete(void* frame, std::size_t size) noexcept { frame_deallocate(frame, size); }

    start_awaiter initial_suspend() const noexcept { return {}; }
    final_awaiter final_suspend() const noexcept { return {}; }
    void unhandled_exception() noexcept {
        out.set_error(std::current_exception());
        note_unwinding(*this);
    }
    outcome<T> out;
};

template <class T>
struct promise : promise_common<T> {
    task<T> get_return_object(std::source_location made = std::source_location::current()) noexcept;

    template <class U>
        requires std::convertible_to<U&&, T>
    void return_value(U&& value) {
        this->out.set_value(std::forward<U>(value));
    }
};

template <>
struct promise<void> : promise_common<void> {
    task<void> get_return_object(std::source_location made = std::source_location::current()) noexcept;
    void return_void() noexcept {}
};

}  // namespace detail

/// A coroutine that runs when it is awaited, once, on the loop that runs the awaiter. Move-only; it
/// must be awaited (RONDO_DEBUG=1 asserts that it was). T may be void, a value, or a reference.
/// An exception crosses it unchanged. Awaiting it allocates nothing beyond its frame.
template <class T>
class [[nodiscard("a task does nothing until it is awaited"), gnu::warn_unused]] task {
 public:
    using promise_type = detail::promise<T>;
    using value_type = T;

    task(task&& other) noexcept : frame_(detail::take(other.frame_)) {}
    /// What it was before goes at once, as in its destructor.
    task& operator=(task other) noexcept {
        detail::trade(frame_, other.frame_);
        return *this;
    }
    ~task() {
        if (frame_) {
            if (!frame_.done() && !frame_.promise().out.has_error()) [[unlikely]] {  // end_with() leaves an error
                detail::destroy_unfinished(frame_.promise());
            } else {
                frame_.destroy();
            }
        }
    }

    // A task is its own awaiter: on g++ a second object would cost 8 bytes of frame per await.

    bool await_ready() const noexcept { return false; }

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> waiting,
                       std::source_location site = std::source_location::current()) const noexcept {
        RONDO_ASSERT(frame_ && !frame_.promise().owner, "a task is awaited once, and not after it was moved from");
        detail::promise_base& parent = detail::promise_of(waiting);
        detail::promise_base& child = frame_.promise();
        parent.site = site;
        child.parent = &parent;
        child.owner = parent.owner;
        parent.owner->leaf = &child;
    }

    T await_resume() const { return frame_.promise().out.take(); }

    /// This is for the rooms above: no task, in a place where one may come.
    static task none() noexcept { return task(std::coroutine_handle<promise_type>()); }
    bool is_none() const noexcept { return !frame_; }
    /// Makes it the first coroutine of `f`, which owns the frame from now on.
    void start_as_root_of(detail::fiber& f) && noexcept {
        promise_type& root = detail::take(frame_).promise();
        root.parent = nullptr;
        root.owner = &f;
        f.leaf = &root;
    }
    detail::outcome<T>& outcome() noexcept { return frame_.promise().out; }
    /// It will not be awaited, and that is no mistake: what should have run it was cancelled before.
    void drop() noexcept {
        if (frame_) detail::destroy_frame(detail::take(frame_).promise());
    }

 private:
    friend detail::promise<T>;
    explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}

    std::coroutine_handle<promise_type> frame_;
};

// implementation

namespace detail {

template <class T>
task<T> promise<T>::get_return_object(std::source_location made) noexcept {
    const auto made_frame = std::coroutine_handle<promise>::from_promise(*this);
    this->frame = made_frame.address();
    this->site = made;
    return task<T>(made_frame);
}

inline task<void> promise<void>::get_return_object(std::source_location made) noexcept {
    const auto made_frame = std::coroutine_handle<promise>::from_promise(*this);
    this->frame = made_frame.address();
    site = made;
    return task<void>(made_frame);
}

template <class T>
inline constexpr bool is_task = false;
template <class T>
inline constexpr bool is_task<task<T>> = true;

template <class Returned>
struct value_of_task {
    static_assert(is_task<Returned>,
                  "the function must give a task: a coroutine that returns rondo::task<T>, as "
                  "`[&](...) -> rondo::task<> { ... }`");
    using type = void;
};
template <class T>
struct value_of_task<task<T>> {
    using type = T;
};

/// The T of the task<T> that `F()(Args()...)` gives.
template <bool Callable, class F, class... Args>
struct value_called_if {
    static_assert(Callable,
                  "the function cannot be called with these arguments; a body takes its group or scope, as "
                  "`[&](rondo::task_group& group) -> rondo::task<> { ... }`");
    using type = void;
};
template <class F, class... Args>
struct value_called_if<true, F, Args...> : value_of_task<std::invoke_result_t<F, Args...>> {};
template <class F, class... Args>
using value_called = typename value_called_if<std::is_invocable_v<F, Args...>, F, Args...>::type;

#if RONDO_GCC12
/// GCC 12 destroys a temporary closure with captures twice when it stands in an awaiting statement.
template <class F>
inline constexpr bool safe_callable =
    std::is_lvalue_reference_v<F&&> || std::is_trivially_destructible_v<std::remove_reference_t<F>>;
#else
template <class F>
inline constexpr bool safe_callable = true;
#endif

}  // namespace detail
}  // namespace rondo

/// What functions assert that take a callable and are awaited.
#define RONDO_ASSERT_SAFE_CALLABLE(F)                                                            \
    static_assert(::rondo::detail::safe_callable<F>,                                             \
                  "GCC 12 destroys this closure twice: give the capturing lambda a name first, " \
                  "then pass the name (or capture by reference)")
