#include <rondo/sync/condition.hpp>

namespace rondo {

void condition::notify_one() noexcept {
    if (waits_.empty()) return;
    auto& first = static_cast<detail::condition_wait&>(waits_.front());
    waits_.remove(first);
    first.lock->wait_next(first);
}

void condition::notify_all() noexcept {
    while (!waits_.empty()) notify_one();
}

}  // namespace rondo
