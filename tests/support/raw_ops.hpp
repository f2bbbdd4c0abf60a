// The words of the tests that speak to a backend without a loop.
#pragma once

#include "test.hpp"

#include <rondo/loop/backend.hpp>

namespace test::ops {

using namespace std::chrono_literals;
using rondo::backend_kind;
using rondo::backend_options;
using rondo::io_kind;
using rondo::io_op;
using rondo::raw_address;
using rondo::sys_op;
using rondo::time_point;
using sys_call = rondo::sys_op::call;
using sys_option = rondo::sys_op::option;

/// Of ops that nobody waits for.
inline const rondo::op_vtable no_table{[](rondo::op&) noexcept {}, [](rondo::op&) noexcept {},
                                       [](const rondo::op&, char*, std::size_t) noexcept {}};

}  // namespace test::ops
