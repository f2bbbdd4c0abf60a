// Messages of Unix sockets, and descriptors that go along with them, as both real backends move them: plain system
// calls, tried at once and again when the socket is ready. So neither a message nor a descriptor is ever in the hands
// of a request that is cancelled.
#pragma once

#include "posix.hpp"

#include <rondo/loop/backend.hpp>

#include <cstdint>

namespace rondo::detail {

/// One try. How many bytes have come, a negative errno, or would_block.
std::int32_t receive_message(io_op& what, byte_budget& budget) noexcept;
/// One try, which goes on where the one before has stopped. How many bytes when all are through, a negative errno,
/// would_block, or out_of_share.
std::int32_t send_message(io_op& what, byte_budget& budget) noexcept;
/// Whether it moves no more than byte_budget::small.
bool message_is_small(const io_op& what) noexcept;

/// Closes those that have come with it.
void close_descriptors(raw_message& message) noexcept;

/// receive_message(), and then `remember(fd)` for each descriptor that has come, whose number is new here; it says
/// whether there was memory for that.
template <class Remember>
std::int32_t receive_message(io_op& what, byte_budget& budget, Remember remember) noexcept {
    const std::int32_t result = receive_message(what, budget);
    auto& message = *static_cast<raw_message*>(what.data);
    if (result < 0 || message.places == nullptr) return result;
    for (std::uint16_t i = 0; i < message.descriptor_count; ++i) {
        if (remember(message.places[i].fd)) continue;
        close_descriptors(message);
        return -ENOMEM;
    }
    return result;
}

/// sys_op::call::try_send_message and try_receive_message as the op that they are.
io_op message_op(const sys_op& call) noexcept;
/// What such a call answers.
int message_answer(std::int32_t result, const io_op& what) noexcept;

}  // namespace rondo::detail
