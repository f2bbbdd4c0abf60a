#include <rondo/detail/extras.hpp>

#include <rondo/detail/pool.hpp>

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
    release_bindings(more->locals);
    more->~extras();
    frame_deallocate(more, sizeof(extras));
}

void release_bindings(binding* innermost) noexcept {
    while (innermost != nullptr && --innermost->shares == 0) {
        binding* const outer = innermost->outer;
        innermost->destroy(*innermost);
        innermost = outer;
    }
}

}  // namespace rondo::detail
