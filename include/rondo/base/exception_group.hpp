// exception_group: several failures thrown as one.
#pragma once

#include <rondo/base/detail/config.hpp>

#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace rondo {

namespace detail {
struct group_tree;
}

/// What a task group throws: every error of its children, the one that came first in front.
/// Cancellations are not among them. An error may itself be an exception_group.
class RONDO_API exception_group : public std::exception {
 public:
    /// At least one, and none of them null; throws invalid_argument otherwise.
    explicit exception_group(std::vector<std::exception_ptr> errors);
    exception_group(const exception_group&);
    ~exception_group() override;

    /// "3 errors; the first: read 127.0.0.1:5432: Connection reset by peer". If the first is a group, what that
    /// says; if there are more than eight in each other, "1 error: 12 groups further in: read ...".
    const char* what() const noexcept override { return what_.c_str(); }

    const std::vector<std::exception_ptr>& errors() const noexcept { return errors_; }
    const std::exception_ptr& first() const noexcept { return errors_.front(); }

    /// A line for each error, nested groups further in: 100 lines and 40 levels at most. What is beyond is
    /// counted, and of the groups that are too far in, the first error named. Below an error, a line for each place
    /// that it came through, as far as that is known: 100 of these.
    std::string tree() const;

    /// Errors that a split has told apart: those `matching` what was looked for, and the rest.
    struct parts {
        std::vector<std::exception_ptr> matching;
        std::vector<std::exception_ptr> rest;
    };
    /// The errors of type E (or derived), taken out of nested groups, and the rest. Either may be empty.
    template <class E>
    parts split() const {
        return split_by([](const std::exception_ptr& error) {
            try {
                std::rethrow_exception(error);
            } catch (const E&) {
                return true;
            } catch (...) {
                return false;
            }
        });
    }
    template <class E>
    std::vector<std::exception_ptr> subgroup() const {
        return split<E>().matching;
    }
    /// Rethrows what is left when errors of type E are taken out: handled ones, as `except*` does.
    template <class E>
    void rethrow_except() const {
        throw_all(split<E>().rest);
    }

    /// Nothing for no error, the error itself for one, else a group.
    static void throw_all(std::vector<std::exception_ptr> errors);

 private:
    parts split_by(bool (*matches)(const std::exception_ptr&)) const;
    template <class To>
    void write_origin(To& to) const;

    friend detail::group_tree;
    std::vector<std::exception_ptr> errors_;
    std::exception_ptr origin_;  // the first error that is no group
    std::size_t levels_ = 0;  // and how many groups further in it is
    std::string what_;
};

}  // namespace rondo
