#include <rondo/sync/latch.hpp>

namespace rondo {

void latch::count_down(std::size_t n) noexcept {
    RONDO_ASSERT(n <= count_, "a latch is counted down below zero");
    count_ -= n;
    if (count_ != 0) return;
    while (!waits_.empty()) waits_.complete_first();
}

}  // namespace rondo
