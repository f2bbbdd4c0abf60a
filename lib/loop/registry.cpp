#include "registry.hpp"

#include "engine.hpp"

#include <atomic>
#include <utility>

#include <pthread.h>

namespace rondo::detail {

constinit engine* every_loop = nullptr;
constinit thread_local char thread_mark = 0;
constinit thread_local engine* registry::loops_here = nullptr;
constinit std::mutex registry::every_loop_guard;

void registry::enlist(engine& l) noexcept {
    l.next_on_thread_ = std::exchange(loops_here, &l);
    watch_forks();
    const std::lock_guard lock(every_loop_guard);
    l.next_in_process_ = std::exchange(every_loop, &l);
}

void registry::unlist(engine& l) noexcept {
    engine** at = &loops_here;
    while (*at != nullptr && *at != &l) at = &(*at)->next_on_thread_;
    if (*at != nullptr) *at = l.next_on_thread_;
    const std::lock_guard lock(every_loop_guard);
    at = &every_loop;
    while (*at != nullptr && *at != &l) at = &(*at)->next_in_process_;
    if (*at != nullptr) *at = l.next_in_process_;
}

engine* registry::find(std::uint32_t serial) noexcept {
    engine* at = loops_here;
    while (at != nullptr && at->serial() != serial) at = at->next_on_thread_;
    if (at == nullptr && debug_enabled) [[unlikely]] {
        const std::lock_guard lock(every_loop_guard);
        at = every_loop;
        while (at != nullptr && at->serial() != serial) at = at->next_in_process_;
    }
    return at;
}

std::uint32_t registry::next_serial() noexcept {
    static constinit std::atomic<std::uint32_t> next{1};
    return next.fetch_add(1, std::memory_order_relaxed);
}

void registry::trim_here() noexcept {
    for (engine* l = loops_here; l != nullptr; l = l->next_on_thread_) l->trim();
}

void registry::watch_forks() noexcept {
    static const int registered =
        pthread_atfork([] { every_loop_guard.lock(); }, [] { every_loop_guard.unlock(); }, &registry::forked);
    static_cast<void>(registered);
}

// The child's first act. A loop of another thread may be in the middle of something, for ever: nobody finds it any
// more, and what belongs to it is as of a loop that is gone.
void registry::forked() noexcept {
    for (engine** at = &every_loop; *at != nullptr;) {
        engine& l = **at;
        l.leave_behind(l.is_of_this_thread());
        if (l.is_of_this_thread()) {
            at = &l.next_in_process_;
        } else {
            *at = l.next_in_process_;
        }
    }
    every_loop_guard.unlock();
}

}  // namespace rondo::detail
