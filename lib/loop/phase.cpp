#include <rondo/loop/phase.hpp>

#include <cstddef>

namespace rondo {

const char* name_of(phase p) noexcept {
    constexpr const char* names[] = {"none", "timers", "pending", "idle", "prepare", "poll", "check", "close"};
    return names[static_cast<std::size_t>(p)];
}

}  // namespace rondo
