// How things fail: `cancelled`, `io_error`, and `result<T>` for callers who decide at once.
#pragma once

#include <rondo/base/detail/assert.hpp>

#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace rondo {

/// Thrown by a wait whose task was cancelled. Not an error, and on purpose not a std::exception:
/// let it pass (clean up in destructors), so that `catch (const std::exception&)` does not eat it.
struct RONDO_API cancelled {};

/// A failure of the world, with what was being done and to whom.
class RONDO_API io_error : public std::system_error {
 public:
    /// `operation` must be a literal ("connect"); `subject` is a peer or address, or empty.
    io_error(std::error_code code, const char* operation, std::string subject = {});
    ~io_error() override;

    const char* operation() const noexcept { return operation_; }
    const std::string& subject() const noexcept { return subject_; }

 private:
    const char* operation_;
    std::string subject_;
};

/// The loop has nothing left to wait for, yet a task is not finished. what() has the await tree.
class RONDO_API deadlock_error : public std::runtime_error {
 public:
    explicit deadlock_error(const std::string& report);
    ~deadlock_error() override;
};

/// On `sim`, tasks or callbacks go on for ever without getting anywhere. what() names the busiest.
class RONDO_API livelock_error : public std::runtime_error {
 public:
    explicit livelock_error(const std::string& report);
    ~livelock_error() override;
};

/// The errno `code` (positive) as an error_code.
[[nodiscard]] inline std::error_code errno_code(int code) noexcept {
    return {code, std::generic_category()};
}

/// A value or an error_code: the non-throwing spelling (`co_await rondo::attempt(...)`).
/// Reading the value of a failed result throws its system_error. T is not itself an error code.
template <class T>
class [[nodiscard]] result {
    static_assert(!std::is_same_v<std::remove_cv_t<T>, std::error_code> &&
                      !std::is_same_v<std::remove_cv_t<T>, std::errc>,
                  "a result whose value is an error code cannot be told from a failure; wrap the value");

 public:
    using value_type = T;

    result(T value) noexcept(std::is_nothrow_move_constructible_v<T>)  // NOLINT(*-explicit-*)
        : value_(std::move(value)), ok_(true) {}
    result(std::error_code error) noexcept : error_(error), ok_(false) {}  // NOLINT
    result(std::errc error) noexcept : result(std::make_error_code(error)) {}  // NOLINT

    result(result&& other) noexcept(std::is_nothrow_move_constructible_v<T>) : ok_(other.ok_) {
        if (ok_) {
            std::construct_at(std::addressof(value_), std::move(other.value_));
        } else {
            std::construct_at(&error_, other.error_);
        }
    }
    /// If moving the value throws, the old one is gone: this is then a failure (state_not_recoverable).
    result& operator=(result&& other) noexcept(std::is_nothrow_move_constructible_v<T>) {
        if (this == &other) return *this;
        if (ok_) std::destroy_at(std::addressof(value_));
        ok_ = false;
        struct leave_a_failure {
            result* in;
            std::error_code error;
            ~leave_a_failure() {
                if (!in->ok_) std::construct_at(&in->error_, error);
            }
        } unless_ok{this, other.ok_ ? std::make_error_code(std::errc::state_not_recoverable) : other.error_};
        if (other.ok_) {
            std::construct_at(std::addressof(value_), std::move(other.value_));
            ok_ = true;
        }
        return *this;
    }
    ~result() {
        if (ok_) std::destroy_at(std::addressof(value_));
    }

    bool has_value() const noexcept { return ok_; }
    explicit operator bool() const noexcept { return ok_; }

    /// The error; a default (no error) code when there is a value.
    std::error_code error() const noexcept { return ok_ ? std::error_code{} : error_; }

    T& value() & { return check(), value_; }
    const T& value() const& { return check(), value_; }
    T&& value() && { return check(), std::move(value_); }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T&& operator*() && { return std::move(*this).value(); }
    T* operator->() { return std::addressof(value()); }
    const T* operator->() const { return std::addressof(value()); }

    template <class U>
    T value_or(U&& fallback) && {
        return ok_ ? std::move(value_) : static_cast<T>(std::forward<U>(fallback));
    }

 private:
    void check() const {
        if (!ok_) throw std::system_error(error_);
    }

    union {
        T value_;
        std::error_code error_;
    };
    bool ok_;
};

/// Of a reference: what it refers to must outlive it.
template <class T>
class [[nodiscard]] result<T&> {
 public:
    using value_type = T&;

    result(T& value) noexcept : value_(std::addressof(value)) {}  // NOLINT(*-explicit-*)
    result(std::error_code error) noexcept : error_(error) {}     // NOLINT
    result(std::errc error) noexcept : error_(std::make_error_code(error)) {}  // NOLINT

    bool has_value() const noexcept { return value_ != nullptr; }
    explicit operator bool() const noexcept { return has_value(); }
    std::error_code error() const noexcept { return error_; }
    T& value() const {
        if (value_ == nullptr) throw std::system_error(error_);
        return *value_;
    }
    T& operator*() const { return value(); }
    T* operator->() const { return std::addressof(value()); }

 private:
    T* value_ = nullptr;
    std::error_code error_;
};

template <>
class [[nodiscard]] result<void> {
 public:
    using value_type = void;

    result() noexcept = default;
    result(std::error_code error) noexcept : error_(error) {}  // NOLINT(*-explicit-*)
    result(std::errc error) noexcept : error_(std::make_error_code(error)) {}  // NOLINT

    bool has_value() const noexcept { return !error_; }
    explicit operator bool() const noexcept { return !error_; }
    std::error_code error() const noexcept { return error_; }
    void value() const {
        if (error_) throw std::system_error(error_);
    }

 private:
    std::error_code error_;
};

namespace detail {
/// Of a system_error, its code; else none.
RONDO_API std::error_code code_of(const std::exception_ptr& error) noexcept;
}  // namespace detail

}  // namespace rondo
