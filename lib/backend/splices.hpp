// Splicing, as both real backends do it: plain calls of splice(2), tried at once and again when the socket is ready.
//
// io_uring has IORING_OP_SPLICE, which never runs where it is submitted: each one goes to a worker thread (seen on
// Linux 6.18 with a socket that had bytes: the ring has a thread afterwards), which costs more than the call, and
// spends CPU time beside the loop's. So there, too, the ring is asked for readiness only.
#pragma once

#include "posix.hpp"

#include <rondo/loop/backend.hpp>

#include <cstdint>

namespace rondo::detail {

/// One try: takes a pipe if anything has come, and sets `data` to it. The number of bytes in it, 0 at the end of the
/// stream, a negative errno, or would_block: nothing is there, or something that splice(2) does not take.
std::int32_t splice_in(io_op& what, byte_budget& budget, pipe_pool& pipes) noexcept;
/// Whether recv(2) would find something, be it the end of the stream. TCP's splice(2) stops in front of an urgent byte
/// as if nothing were there, and never passes it; recv(2) does.
bool has_input(int fd) noexcept;

/// One try: how many bytes are through, a negative errno, or would_block. It never raises SIGPIPE.
std::int32_t splice_out(io_op& what, byte_budget& budget) noexcept;

}  // namespace rondo::detail
