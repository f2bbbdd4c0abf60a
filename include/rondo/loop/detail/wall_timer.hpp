// What a wait for a moment of the wall clock is: a timer of the loop that moves when that clock is set.
#pragma once

#include <rondo/loop/op.hpp>

#include <cstddef>
#include <cstdint>

namespace rondo::detail {

struct wall_timer : linked_op {
    explicit wall_timer(std::int64_t ns_since_1970) noexcept : linked_op(table), when(ns_since_1970) {}

    /// Lets the owner wait. 0, or -errno: the loop cannot hear of a clock that is set. Throws bad_alloc.
    RONDO_API int begin();
    /// Whether the moment has come already.
    RONDO_API bool is_due() const noexcept;

    const std::int64_t when;

 private:
    RONDO_API static const op_vtable table;
    RONDO_API static void describe(const op& o, char* text, std::size_t size) noexcept;
};

}  // namespace rondo::detail
