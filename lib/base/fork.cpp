#include "fork.hpp"

#include <atomic>

namespace rondo::detail {
namespace {
std::atomic<unsigned> count{0};
}

unsigned forks() noexcept {
    static const int registered =
        pthread_atfork(nullptr, nullptr, [] { count.fetch_add(1, std::memory_order_relaxed); });
    static_cast<void>(registered);
    return count.load(std::memory_order_relaxed);
}

}  // namespace rondo::detail
