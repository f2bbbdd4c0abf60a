// Bytes through descriptors that are no sockets, as both real backends move them: a plain system call, tried at once
// and again when the descriptor is ready.
//
// io_uring's own requests are of no use here. A read of a pipe that is not ready may go to a thread of the kernel's,
// where a cancel may find that it has taken bytes; and a write raises SIGPIPE in the thread that has handed it over.
#pragma once

#include "buffers.hpp"
#include "datagrams.hpp"
#include "posix.hpp"

#include <rondo/loop/backend.hpp>

#include <cstdint>

namespace rondo::detail {

/// How bytes get in and out of a descriptor, and whether that can wait.
enum class file_kind : std::uint8_t {
    none,      // it is a socket of rondo's, and nothing of what follows
    pipe,      // non-blocking
    fifo,      // likewise, to read from: as long as nobody has opened it for writing, that is not its end
    terminal,  // non-blocking
    master,    // of a terminal, likewise; it has ended when nobody has the terminal open
    regular,   // never waits: a file on a disk
    shared,    // may wait, and others rely on that, so it is asked before: what could not be opened once more
    shared_socket,
};

/// What kind `fd` is. One of a pipe, a terminal or a device is `shared` unless it is non-blocking.
file_kind look_at_file(int fd) noexcept;

/// Whether an op of this kind moves bytes.
inline bool moves_bytes(io_kind kind) noexcept {
    return kind == io_kind::receive || kind == io_kind::borrow || kind == io_kind::send || kind == io_kind::send_vector;
}

/// One try at an op that moves bytes: its result, would_block, or out_of_share.
std::int32_t move_file_bytes(io_op& what, file_kind kind, byte_budget& budget, buffer_pool& lent) noexcept;

/// What try_send and try_receive want of the kernel.
int try_file_bytes(const sys_op& what, file_kind kind, byte_budget& budget) noexcept;

}  // namespace rondo::detail
