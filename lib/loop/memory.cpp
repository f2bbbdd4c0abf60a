#include <rondo/loop/memory.hpp>

#include <rondo/loop/loop.hpp>

#include <malloc.h>

namespace rondo {

void trim_memory() noexcept {
    loop::trim_all_here();
    detail::trim_frames();
    detail::trim_crossing(0);
#ifdef __GLIBC__
    ::malloc_trim(0);
#endif
}

std::size_t frame_memory() noexcept { return detail::frame_bytes(); }

}  // namespace rondo
