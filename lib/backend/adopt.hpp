// Making a socket of somebody else's one of rondo's.
#pragma once

#include <rondo/loop/backend.hpp>

namespace rondo::detail {

/// What sys_op::call::adopt wants of the kernel: looks whether `fd` is a socket of that kind that listens, or that is
/// connected, and makes it non-blocking and close-on-exec. 0, or a negative errno, and then nothing about it has
/// changed.
int make_ours(int fd, int kind, bool listening) noexcept;

}  // namespace rondo::detail
