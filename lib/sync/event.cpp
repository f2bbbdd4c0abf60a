#include <rondo/sync/event.hpp>

namespace rondo {

void event::set() noexcept {
    set_ = true;
    while (!waits_.empty()) waits_.complete_first();
}

void auto_event::set() noexcept {
    if (waits_.empty()) {
        set_ = true;
    } else {
        waits_.complete_first();
    }
}

}  // namespace rondo
