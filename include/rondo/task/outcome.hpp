// task_outcome<T>: how a task ended, as a value that can be kept and looked at later.
#pragma once

#include <rondo/task/spawn.hpp>

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

namespace rondo {

/// What stands for the value of a task<void> in a tuple.
struct nothing {
    friend constexpr bool operator==(nothing, nothing) noexcept { return true; }
};

namespace detail {
/// A T that a tuple can hold.
template <class T>
using stored = std::conditional_t<std::is_void_v<T>, nothing, T>;

/// How it ended; marks that someone has seen it.
RONDO_API task_state taken_state(fiber& ended) noexcept;
[[noreturn]] RONDO_API void throw_outcome(task_state state, const std::exception_ptr& error);
}  // namespace detail

/// A value, an error, or neither: the task was cancelled. Errors in it are for who holds it: nobody else
/// hears of them.
template <class T>
class [[nodiscard]] task_outcome {
    static_assert(!std::is_reference_v<T>, "an outcome holds no reference; let the task return a pointer");

 public:
    using value_type = T;

    /// Makes the outcome of a task that was cancelled.
    task_outcome() noexcept = default;
    /// Takes the outcome of a task that has ended; its value moves here. If the move throws, that error is the outcome.
    explicit task_outcome(task_handle<T> ended) noexcept : task_outcome(ended.core()) {}
    // This constructor is for the rooms above.
    explicit task_outcome(detail::fiber& ended) noexcept : state_(detail::taken_state(ended)) {
        if (state_ == task_state::failed) error_ = ended.vt->error(ended);
        if (state_ == task_state::succeeded) take_value(ended);
    }

    /// succeeded, failed or cancelled.
    task_state state() const noexcept { return state_; }
    explicit operator bool() const noexcept { return state_ == task_state::succeeded; }

    /// The value; else throws the error, or io_error(operation_canceled).
    std::add_lvalue_reference_t<T> value() & { return check(), *value_; }
    std::add_lvalue_reference_t<const T> value() const& { return check(), *value_; }
    std::add_rvalue_reference_t<T> value() && { return check(), *std::move(value_); }
    /// Null unless it failed.
    const std::exception_ptr& error() const noexcept { return error_; }

 private:
    void check() const {
        if (state_ != task_state::succeeded) detail::throw_outcome(state_, error_);
    }
    void take_value(detail::fiber& f) noexcept {
        try {
            value_.emplace(static_cast<const detail::spawned_vtable<T>*>(f.vt)->result(f).take());
        } catch (...) {
            state_ = task_state::failed;
            error_ = std::current_exception();
        }
    }

    std::optional<T> value_;
    std::exception_ptr error_;
    task_state state_ = task_state::cancelled;
};

template <>
class RONDO_API task_outcome<void> {
 public:
    using value_type = void;

    task_outcome() noexcept = default;
    explicit task_outcome(task_handle<void> ended) noexcept : task_outcome(ended.core()) {}
    explicit task_outcome(detail::fiber& ended) noexcept;

    task_state state() const noexcept { return state_; }
    explicit operator bool() const noexcept { return state_ == task_state::succeeded; }
    void value() const {
        if (state_ != task_state::succeeded) detail::throw_outcome(state_, error_);
    }
    const std::exception_ptr& error() const noexcept { return error_; }

 private:
    std::exception_ptr error_;
    task_state state_ = task_state::cancelled;
};

}  // namespace rondo
