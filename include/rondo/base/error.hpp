// How things fail: `cancelled`, `io_error`, and `result<T>` for callers who decide at once.
#pragma once

#include <rondo/base/detail/assert.hpp>

#include <exception>
#include <memory>
#include <new>
#include <source_location>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace rondo {

/// Thrown by a wait whose task was cancelled. Not an error, and on purpose not a std::exception:
/// let it pass (clean up in destructors), so that `catch (const std::exception&)` does not eat it.
struct RONDO_API cancelled{};

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

/// A simulated world has not what was asked of it, and a real loop has: operation() says what. Its code, which is what
/// the spellings that do not throw give, is function_not_supported.
class RONDO_API not_simulated : public io_error {
 public:
    explicit not_simulated(const char* operation);
    ~not_simulated() override;
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
[[nodiscard]] inline std::error_code errno_code(int code) noexcept { return {code, std::generic_category()}; }

/// What an error is, as run_main() prints it: kind, errno, operation, peer; below it the awaits and tasks that it came
/// through, the innermost first, as far as that is known; then what it holds or was caused by. docs/errors.md tells how
/// much is remembered. Several lines, the last one not ended. For the thread that the error came up on.
/// Throws bad_alloc.
[[nodiscard]] RONDO_API std::string describe(const std::exception_ptr& error);

/// Why a result has no value: a code, and as a rule the error that the throwing spelling would have thrown. It becomes
/// a failed result<T> of any T: `if (!r) return r.failure();`.
class RONDO_API failure {
 public:
    failure(std::error_code code, std::exception_ptr error = nullptr) noexcept  // NOLINT(*-explicit-*)
        : code_(code), error_(std::move(error)) {}
    failure(std::errc code) noexcept : code_(std::make_error_code(code)) {}  // NOLINT(*-explicit-*)

    std::error_code code() const noexcept { return code_; }
    /// Whether nothing but the code is known.
    bool is_just_code() const noexcept { return error_ == nullptr; }
    /// "connect 10.0.0.1:80: Connection refused"; if only the code is known, what that says. Throws bad_alloc.
    std::string message() const;
    /// Throws the error; if only the code is known, a system_error of that.
    [[noreturn]] void raise() const;
    /// What raise() throws. Throws bad_alloc.
    std::exception_ptr error() const;

 private:
    std::error_code code_;
    std::exception_ptr error_;
};

/// A value or why there is none: the non-throwing spelling (`co_await rondo::attempt(...)`).
/// Reading the value of a failed result throws its error, with operation and subject. T is not itself an error code.
template <class T>
class [[nodiscard]] result {
    static_assert(!std::is_same_v<std::remove_cv_t<T>, std::error_code> &&
                      !std::is_same_v<std::remove_cv_t<T>, std::errc> &&
                      !std::is_same_v<std::remove_cv_t<T>, rondo::failure>,
                  "a result whose value is an error code cannot be told from a failure; wrap the value");

 public:
    using value_type = T;

    result(T value) noexcept(std::is_nothrow_move_constructible_v<T>)  // NOLINT(*-explicit-*)
        : value_(std::move(value)), ok_(true) {}
    result(rondo::failure why) noexcept : failure_(std::move(why)), ok_(false) {}  // NOLINT(*-explicit-*)
    result(std::error_code error) noexcept : failure_(error), ok_(false) {}  // NOLINT(*-explicit-*)
    result(std::errc error) noexcept : failure_(error), ok_(false) {}  // NOLINT(*-explicit-*)

    result(result&& other) noexcept(std::is_nothrow_move_constructible_v<T>) : ok_(other.ok_) {
        if (ok_) {
            std::construct_at(std::addressof(value_), std::move(other.value_));
        } else {
            std::construct_at(&failure_, other.failure_);
        }
    }
    /// If moving the value throws, the old one is gone: this is then a failure (state_not_recoverable).
    result& operator=(result&& other) noexcept(std::is_nothrow_move_constructible_v<T>) {
        if (this == &other) return *this;
        if (!other.ok_) {
            rondo::failure why = other.failure_;
            clear();
            std::construct_at(&failure_, std::move(why));
            return *this;
        }
        clear();
        struct leave_a_failure {
            result* in;
            ~leave_a_failure() {
                if (!in->ok_) std::construct_at(&in->failure_, std::errc::state_not_recoverable);
            }
        } unless_ok{this};
        std::construct_at(std::addressof(value_), std::move(other.value_));
        ok_ = true;
        return *this;
    }
    ~result() {
        if (ok_) {
            std::destroy_at(std::addressof(value_));
        } else {
            std::destroy_at(&failure_);
        }
    }

    /// has_value(), like the conversion to bool: it holds a value and no error.
    bool has_value() const noexcept { return ok_; }
    explicit operator bool() const noexcept { return ok_; }

    /// The error; a default (no error) code when there is a value.
    std::error_code error() const noexcept { return ok_ ? std::error_code{} : failure_.code(); }
    /// Why there is no value, with all that is known of it. With a value: of no error.
    rondo::failure failure() const noexcept { return ok_ ? rondo::failure(std::error_code{}) : failure_; }

    T& value() & { return check(), value_; }
    const T& value() const& { return check(), value_; }
    T&& value() && { return check(), std::move(value_); }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T&& operator*() && { return std::move(*this).value(); }
    T* operator->() { return std::addressof(value()); }
    const T* operator->() const { return std::addressof(value()); }

    /// The value, or `fallback` if there is none. Of a result that has a name it is a copy.
    template <class U>
    T value_or(U&& fallback) const& {
        static_assert(std::is_copy_constructible_v<T>,
                      "value_or() of a result that has a name copies the value: std::move(it).value_or(...)");
        return ok_ ? value_ : static_cast<T>(std::forward<U>(fallback));
    }
    template <class U>
    T value_or(U&& fallback) && {
        return ok_ ? std::move(value_) : static_cast<T>(std::forward<U>(fallback));
    }

 private:
    void check() const {
        if (!ok_) failure_.raise();
    }
    /// Neither, until one is made.
    void clear() noexcept {
        if (std::exchange(ok_, false)) {
            std::destroy_at(std::addressof(value_));
        } else {
            std::destroy_at(&failure_);
        }
    }

    union {
        T value_;
        rondo::failure failure_;
    };
    bool ok_;
};

/// The result of what gives a reference: what it refers to must outlive it.
template <class T>
class [[nodiscard]] result<T&> {
 public:
    using value_type = T&;

    result(T& value) noexcept : value_(std::addressof(value)) {}  // NOLINT(*-explicit-*)
    result(rondo::failure why) noexcept : failure_(std::move(why)) {}  // NOLINT(*-explicit-*)
    result(std::error_code error) noexcept : failure_(error) {}  // NOLINT(*-explicit-*)
    result(std::errc error) noexcept : failure_(error) {}  // NOLINT(*-explicit-*)

    bool has_value() const noexcept { return value_ != nullptr; }
    explicit operator bool() const noexcept { return has_value(); }
    std::error_code error() const noexcept { return failure_.code(); }
    rondo::failure failure() const noexcept { return failure_; }
    T& value() const {
        if (value_ == nullptr) failure_.raise();
        return *value_;
    }
    T& operator*() const { return value(); }
    T* operator->() const { return std::addressof(value()); }

 private:
    T* value_ = nullptr;
    rondo::failure failure_{std::error_code{}};
};

template <>
class [[nodiscard]] result<void> {
 public:
    using value_type = void;

    result() noexcept = default;
    result(rondo::failure why) noexcept : failure_(std::move(why)) {}  // NOLINT(*-explicit-*)
    result(std::error_code error) noexcept : failure_(error) {}  // NOLINT(*-explicit-*)
    result(std::errc error) noexcept : failure_(error) {}  // NOLINT(*-explicit-*)

    bool has_value() const noexcept { return !failure_.code(); }
    explicit operator bool() const noexcept { return has_value(); }
    std::error_code error() const noexcept { return failure_.code(); }
    rondo::failure failure() const noexcept { return failure_; }
    void value() const {
        if (failure_.code()) failure_.raise();
    }

 private:
    rondo::failure failure_{std::error_code{}};
};

namespace detail {
/// The code of a system_error; no code for any other error.
RONDO_API std::error_code code_of(const std::exception_ptr& error) noexcept;
/// An error in one line: kind, errno, operation, peer; and what caused it.
RONDO_API std::string message_of(const std::exception_ptr& error) noexcept;
/// The same, and the way it has come, for a line in the log. The place where the task was spawned is left out if it is
/// `known`: a record names it.
RONDO_API std::string traced_message_of(const std::exception_ptr& error, std::source_location known = {}) noexcept;

/// The failure that an operation of this library throws as an io_error. Without memory it is just the code.
RONDO_API failure io_failure(std::error_code code, const char* operation, std::string_view subject = {}) noexcept;
/// The same for one of which only the code is known.
RONDO_API failure with_operation(failure why, const char* operation) noexcept;
/// The failure that `throw_it()` throws, of which the code is known. For what fails seldom: it is thrown and caught.
template <class Throws>
failure failure_thrown_by(std::error_code code, const Throws& throw_it) noexcept {
    try {
        throw_it();
    } catch (const std::bad_alloc&) {
    } catch (...) {
        return {code, std::current_exception()};
    }
    return code;
}
/// That of a system_error.
RONDO_API failure failure_of(const std::exception_ptr& error) noexcept;

/// An error that says itself which one has led to it.
class RONDO_API has_cause {
 public:
    virtual const std::exception_ptr& cause() const noexcept = 0;

 protected:
    ~has_cause() = default;
};
}  // namespace detail

}  // namespace rondo
