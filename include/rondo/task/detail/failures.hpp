// The children of a scope that failed, until their errors are thrown together.
#pragma once

#include <rondo/loop/op.hpp>

#include <exception>

namespace rondo::detail {

/// In the order in which they failed. Their blocks are kept, so collecting errors needs no memory.
class RONDO_API failures {
 public:
    failures() noexcept = default;
    ~failures();  // nobody wants the errors that are left
    failures(failures&& other) noexcept { failed_.splice_back(other.failed_); }
    failures& operator=(failures&&) = delete;

    bool empty() const noexcept { return failed_.empty(); }
    /// `child` has just ended with an error.
    void add(fiber& child) noexcept;

    enum class one { in_a_group, as_it_is };  // how a single error is thrown
    /// All errors as one, and forgets them; null if there are none. `before` and `after` are added in
    /// front and behind, unless they are null. Short of memory it is the first one alone.
    std::exception_ptr take(one single, std::exception_ptr before = {}, std::exception_ptr after = {}) noexcept;

 private:
    std::exception_ptr take_first() noexcept;
    ring<fiber> failed_;
};

}  // namespace rondo::detail
