#include <rondo/loop/memory.hpp>

#include <rondo/base/detail/crossing.hpp>

#include "registry.hpp"

#include <malloc.h>

namespace rondo {

void trim_memory() noexcept {
    detail::registry::trim_here();
    detail::trim_frames();
    detail::trim_crossing(0);
#ifdef __GLIBC__
    ::malloc_trim(0);
#endif
}

std::size_t frame_memory() noexcept { return detail::frame_bytes(); }

}  // namespace rondo
