// The usual joiners, for join and with_joiner: when each stops, and what it gives.
#pragma once

#include <rondo/combine/joiner.hpp>

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

namespace rondo {

namespace detail {

/// There are fewer values than wanted, and no errors to blame.
[[noreturn]] RONDO_API void throw_too_few(const char* who, std::size_t children, std::size_t wanted);
[[noreturn]] RONDO_API void throw_no_children(const char* who);
[[noreturn]] RONDO_API void throw_quorum_of_none();

/// Collects values until there are enough; the failures matter only if there never are.
template <class T>
class values_wanted {
 public:
    values_wanted(const char* who, std::size_t wanted) noexcept : who_(who), wanted_(wanted) {}

    void on_start(std::size_t index) noexcept {
        started_ = index + 1;
        ++running_;
    }
    bool on_complete(ended<T>& child) {
        --running_;
        if (child.failed()) failures_.add(child.core());
        if (child.succeeded() && values_.size() < wanted_) {
            if constexpr (std::is_void_v<T>) {
                values_.emplace_back();
            } else {
                values_.push_back(child.take());
            }
        }
        return values_.size() >= wanted_;
    }
    /// There is an error only when that is certain: a child that was cut short might have succeeded.
    std::exception_ptr error() noexcept {
        if (values_.size() >= wanted_ || running_ != 0) return nullptr;
        return failures_.take(failures::one::in_a_group);
    }
    std::vector<stored<T>>& values() {
        if (values_.size() >= wanted_) return values_;
        if (std::exception_ptr errors = failures_.take(failures::one::in_a_group)) std::rethrow_exception(errors);
        throw_too_few(who_, started_, wanted_);
    }

 private:
    const char* who_;
    std::size_t wanted_;
    std::size_t started_ = 0;
    std::size_t running_ = 0;
    std::vector<stored<T>> values_;
    failures failures_;
};

}  // namespace detail

namespace joiners {

/// Stops at the first failure and throws it: unchanged if it is the only one, else an exception_group. It has no
/// result, and nothing to do without children.
class RONDO_API all_succeed {
 public:
    bool on_complete(ended_child& child) noexcept {
        if (child.failed()) failures_.add(child.core());
        return child.failed();
    }
    std::exception_ptr error() noexcept { return failures_.take(detail::failures::one::as_it_is); }
    void result() noexcept {}

 private:
    detail::failures failures_;
};

/// Does what all_succeed does, and gives the values, a std::vector<T> in the order of the children's start. A child
/// that ended as cancelled by itself has no value: then io_error(operation_canceled) is thrown.
template <class T>
class all_values : all_succeed {
 public:
    using value_type = T;

    void on_start(std::size_t) { values_.emplace_back(); }
    bool on_complete(ended<T>& child) {
        if (child.succeeded()) values_[child.index()] = child.take();
        return all_succeed::on_complete(child);
    }
    using all_succeed::error;
    std::vector<T> result() {
        std::vector<T> all;
        all.reserve(values_.size());
        for (std::optional<T>& value : values_) {
            if (!value) detail::throw_outcome(task_state::cancelled, nullptr);
            all.push_back(*std::move(value));
        }
        return all;
    }

 private:
    std::vector<std::optional<T>> values_;
};

/// Stops at the first success and gives its value. When no child succeeds: an exception_group of all
/// their errors. Without children: invalid_argument.
template <class T>
class first_value {
 public:
    using value_type = T;

    explicit first_value(const char* who = "first_value") noexcept : wanted_(who, 1) {}
    void on_start(std::size_t index) noexcept { wanted_.on_start(index); }
    bool on_complete(ended<T>& child) { return wanted_.on_complete(child); }
    std::exception_ptr error() noexcept { return wanted_.error(); }
    T result() {
        if constexpr (std::is_void_v<T>) {
            wanted_.values();
        } else {
            return std::move(wanted_.values().front());
        }
    }

 private:
    detail::values_wanted<T> wanted_;
};

/// Stops when `n` children have succeeded and gives their values, in that order. When fewer do: an
/// exception_group of the errors; with too few children for that, invalid_argument. Throws that at once for an `n`
/// of 0, with which no child would ever be asked.
template <class T>
class quorum {
 public:
    using value_type = T;

    explicit quorum(std::size_t n) : wanted_("quorum", n) {
        if (n == 0) detail::throw_quorum_of_none();
    }
    void on_start(std::size_t index) noexcept { wanted_.on_start(index); }
    bool on_complete(ended<T>& child) { return wanted_.on_complete(child); }
    std::exception_ptr error() noexcept { return wanted_.error(); }
    std::vector<T> result() { return std::move(wanted_.values()); }

 private:
    detail::values_wanted<T> wanted_;
};

/// Never stops. Gives the errors of those that failed, in that order, as a std::vector<std::exception_ptr>.
class RONDO_API wait_for_all {
 public:
    wait_for_all() noexcept;
    wait_for_all(wait_for_all&&) noexcept;
    ~wait_for_all();
    bool on_complete(ended_child& child);
    std::vector<std::exception_ptr> result() noexcept;

 private:
    std::vector<std::exception_ptr> errors_;
};

/// Stops when `enough(ended_child&)` says so; made by until<T>(enough).
template <class T, class Enough>
class until_enough {
 public:
    using value_type = T;

    explicit until_enough(Enough enough) : enough_(std::move(enough)) {}
    void on_start(std::size_t) { outcomes_.emplace_back(); }
    bool on_complete(ended<T>& child) {
        const bool stop = enough_(child);
        outcomes_[child.index()] = child.take_outcome();
        return stop;
    }
    std::vector<task_outcome<T>> result() noexcept { return std::move(outcomes_); }

 private:
    Enough enough_;
    std::vector<task_outcome<T>> outcomes_;
};

/// Stops when `enough(child)` is true, for a child that has ended (an ended<T>&). Gives the outcomes of all,
/// a std::vector<task_outcome<T>> in the order of their start; those that were still running are cancelled.
template <class T, class Enough>
auto until(Enough&& enough) {
    RONDO_ASSERT_SAFE_CALLABLE(Enough);
    return until_enough<T, std::decay_t<Enough>>(std::forward<Enough>(enough));
}

}  // namespace joiners
}  // namespace rondo
