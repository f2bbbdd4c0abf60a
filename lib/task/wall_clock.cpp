#include <rondo/task/wall_clock.hpp>

#include <cerrno>
#include <new>

namespace rondo {

std::chrono::system_clock::time_point wall_now() noexcept {
    using std::chrono::system_clock;
    if (detail::current == nullptr) return system_clock::now();
    const std::chrono::nanoseconds shown(detail::current->io().wall_now());
    return system_clock::time_point(std::chrono::duration_cast<system_clock::duration>(shown));
}

namespace detail {

bool wall_sleep_awaiter::start_as_arm() noexcept {
    if (is_due()) return false;
    try {
        return start();
    } catch (const std::bad_alloc&) {
        result = -ENOMEM;
        return false;
    }
}

rondo::result<void> wall_sleep_awaiter::finish() const {
    if (result >= 0) return {};
    if (result == -ECANCELED) throw_cancelled();
    return errno_code(-result);
}

}  // namespace detail
}  // namespace rondo
