#include <rondo/sync/condition.hpp>

#include <cstdio>

namespace rondo {
namespace detail {

bool condition_wait::start() noexcept {
    in->push(*this);
    lock->unlock();
    return true;
}

const op_vtable condition_wait::table = {
    [](op& o) noexcept {
        auto& w = static_cast<condition_wait&>(o);
        if (w.wanted != nullptr) return;  // it takes the mutex, come what may
        w.cut_short = true;
        w.in->remove(w);
        w.lock->wait_next(w);
    },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        auto& w = static_cast<const condition_wait&>(o);
        if (w.wanted != nullptr) return w.wanted->describe(text, size);
        w.in->describe(text, size);
    },
};

}  // namespace detail

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
