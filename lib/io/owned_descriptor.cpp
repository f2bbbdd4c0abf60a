#include <rondo/io/owned_descriptor.hpp>

#include "loop/engine.hpp"

#include <unistd.h>

namespace rondo {

owned_descriptor::owned_descriptor(int descriptor) noexcept
    : raw_descriptor{.loop = detail::current != nullptr ? detail::current->serial() : 0, .fd = descriptor} {}

// The loop it came to may have watched it, and is told if this is its thread. Elsewhere, and when that loop is gone,
// the kernel is enough.
void owned_descriptor::close() noexcept {
    detail::scheduler* const l = detail::scheduler::living(loop);
    const int last = release();
    if (l != nullptr && detail::engine::of(*l).is_of_this_thread()) {
        l->reap(last);
    } else if (!detail::scheduler::was_simulated(loop)) {
        ::close(last);
    }
}

raw_descriptor* detail::descriptor_places::prepare(std::span<owned_descriptor> places) noexcept {
    for (owned_descriptor& each : places) {
        each.reset();
        each.loop = current->serial();
    }
    return places.data();
}

}  // namespace rondo
