// Memory that a burst has left behind, and how it goes back to the system.
//
// Frames, tasks, callbacks and posts come from pools that keep what is free, which is why they cost next to nothing. A
// thread's pool is trimmed to a megabyte when the last loop of the thread ends, and slowly while one turns: what a
// burst of a hundred megabytes has left is gone after a few thousand turns, in a minute or so. Who knows better asks.
#pragma once

#include <rondo/base/detail/config.hpp>

#include <cstddef>

namespace rondo {

/// Gives all memory that is free back to the system: of this thread's frames, tasks and callbacks, of the tables of
/// this thread's loops (timers), of posts in the whole process, and of malloc (malloc_trim). O(free blocks): about 50
/// ns each, 100 ms after a burst of a million tasks, and what is needed again costs page faults. So once after a burst,
/// not in a request. In a task, a callback, or without a loop.
RONDO_API void trim_memory() noexcept;

/// Bytes that this thread's pool of frames, tasks and callbacks has, in use or not: a multiple of 32 KiB. 0 where
/// malloc serves them (RONDO_FRAME_POOL=0, sanitizers).
[[nodiscard]] RONDO_API std::size_t frame_memory() noexcept;

}  // namespace rondo
