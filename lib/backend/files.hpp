// Making the descriptors that are no sockets: pipes, FIFOs, terminals, and what a program was started with.
#pragma once

#include "file_bytes.hpp"

#include <rondo/loop/backend.hpp>

namespace rondo::detail {

/// The calls of sys_op that are about them.
int call_for_files(sys_op& what) noexcept;

/// Whether a call makes a file, or two of them; then a backend has to learn of them.
bool makes_files(sys_op::call what) noexcept;

/// Tells of what such a call has made: f(descriptor, kind) for each. It gives false when there is no memory to keep
/// that, and then the files are closed again, unless they were the program's. The result of the call.
template <class F>
int keep_files(const sys_op& made, int result, F f) noexcept;

// implementation

int refuse_files(const sys_op& made, int result) noexcept;
file_kind kind_of_made(const sys_op& made, int fd) noexcept;

template <class F>
int keep_files(const sys_op& made, int result, F f) noexcept {
    if (result < 0) return result;
    const bool two = made.what == sys_op::call::pipe_pair || made.what == sys_op::call::terminal_pair;
    const int one = made.what == sys_op::call::adopt_pipe ? made.fd : result;
    bool kept = true;
    for (int i = 0; i < (two ? 2 : 1) && kept; ++i) {
        const int fd = two ? made.fds[i] : one;
        kept = f(fd, kind_of_made(made, fd));
    }
    return kept ? result : refuse_files(made, result);
}

}  // namespace rondo::detail
