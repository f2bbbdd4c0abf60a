#include <rondo/sync/barrier.hpp>

namespace rondo {

barrier::barrier(std::size_t parties, const char* name) noexcept : waits_("barrier", name), parties_(parties) {
    RONDO_ASSERT(parties > 0, "a barrier without parties");
}

bool barrier::arrive_and_drop() noexcept {
    RONDO_ASSERT(parties_ > waits_.size(), "a barrier is left by more tasks than it has parties");
    --parties_;
    if (waits_.empty() || waits_.size() < parties_) return false;
    open();
    return true;
}

void barrier::open() noexcept {
    while (!waits_.empty()) waits_.complete_first();
}

}  // namespace rondo
