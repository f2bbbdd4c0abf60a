// Datagrams, as both real backends move them: plain system calls, tried at once and again when the socket is ready.
#pragma once

#include "posix.hpp"

#include <rondo/loop/backend.hpp>

#include <cstdint>

namespace rondo::detail {

/// One try. The number of datagrams that have come, a negative errno, or would_block. `emptied`: there are no more, and
/// the next try would find nothing, unless it is an error.
std::int32_t receive_datagrams(io_op& what, byte_budget& budget, bool& emptied) noexcept;
/// One try, which goes on where the one before has stopped. The number of datagrams when all are through, a negative
/// errno, would_block, or out_of_share.
std::int32_t send_datagrams(io_op& what, byte_budget& budget) noexcept;
/// Whether it moves no more than byte_budget::small.
bool moves_little(const io_op& what) noexcept;

/// The calls of sys_op that are about datagrams.
int call_for_datagrams(sys_op& what, byte_budget& budget) noexcept;
/// The options that have another name for each family.
bool is_datagram_option(sys_op::option which) noexcept;
int set_datagram_option(const sys_op& what) noexcept;
int get_datagram_option(sys_op& what) noexcept;

}  // namespace rondo::detail
