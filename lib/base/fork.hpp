// Telling a forked child from its parent.
#pragma once

#include <mutex>

#include <pthread.h>

namespace rondo::detail {

/// How often this process is a forked child; what remembers a smaller number is the parent's. Asking getpid()
/// instead would be a system call each time: glibc stopped caching it. A child of vfork or posix_spawn, which
/// only goes to exec, does not count.
unsigned forks() noexcept;

/// From now on nobody but the forking thread holds `Guard` in the moment of a fork. In the child, which has no other
/// thread, it would stay locked for ever. Only for locks under which no other lock is taken.
template <std::mutex& Guard>
void hold_across_forks() noexcept {
    static const int registered = pthread_atfork([] { Guard.lock(); }, [] { Guard.unlock(); }, [] { Guard.unlock(); });
    static_cast<void>(registered);
}

}  // namespace rondo::detail
