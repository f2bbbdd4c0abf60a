#include <rondo/loop/detail/extras.hpp>

#include <rondo/base/detail/pool.hpp>

#include "base/printable.hpp"

#include <cstdio>
#include <new>

namespace rondo::detail {

extras& extras_of(fiber& f) {
    if (f.more == nullptr) f.more = new (frame_allocate(sizeof(extras))) extras;
    return *f.more;
}

void inherit_extras(fiber& child, const fiber& parent) {
    if (parent.more->locals == nullptr) return;
    try {
        extras_of(child).locals = parent.more->locals;
    } catch (...) {
        child.vt->discard(child);
        child.vt->free(child);
        throw;
    }
    ++parent.more->locals->shares;
}

void drop_extras(extras* more) noexcept {
    if (more->locks != nullptr) [[unlikely]]
        ended_with_lock(*more->locks);
    release_bindings(more->locals);
    more->~extras();
    frame_deallocate(more, sizeof(extras));
}

task_label::task_label(const fiber& f) noexcept {
    constexpr std::size_t room = sizeof text - 2;
    const int number = std::snprintf(text, sizeof text, "task %u", static_cast<unsigned>(f.id));
    std::size_t size = static_cast<std::size_t>(number);
    if (f.more != nullptr && !f.more->name.empty()) {
        text[size++] = ' ';
        text[size++] = '\'';
        size += write_printable(text + size, room - size, f.more->name, false);
        text[size++] = '\'';
    }
    text[size] = '\0';
}

void release_bindings(binding* innermost) noexcept {
    while (innermost != nullptr && --innermost->shares == 0) {
        binding* const outer = innermost->outer;
        innermost->destroy(*innermost);
        innermost = outer;
    }
}

}  // namespace rondo::detail
