#include <rondo/sync/detail/owned_lock.hpp>

#include "loop/places.hpp"

#include <cerrno>
#include <cstdio>
#include <new>

namespace rondo::detail {

// --- waiting -------------------------------------------------------------------------------------------

namespace {

// The lock that `f` waits for, and nothing else: not as one arm of several.
const owned_lock* wanted_by(const fiber& f) noexcept {
    const op* const waits = f.waiting;
    if (waits == nullptr || !waits->pending()) return nullptr;
    if (waits->vt != &lock_wait::table && waits->vt != &condition_wait::table) return nullptr;
    return static_cast<const lock_wait*>(waits)->wanted;
}

// Whether who owns `lock` waits, directly or not, for a lock of `f`. The chain may run into a circle that
// does not contain `f`, if a condition's re-lock closed it: hence the mark that is left behind now and then.
// For none of the locks of `f` may anybody wait: that is looked at by the side, and mostly ends it soon.
bool waits_for(const owned_lock& lock, const fiber& f) noexcept {
    const owned_lock* own = f.more != nullptr ? f.more->locks : nullptr;
    const fiber* mark = nullptr;
    std::size_t steps = 0;
    std::size_t next_mark = 2;
    for (const owned_lock* at = &lock; at != nullptr; at = wanted_by(*at->owner())) {
        const fiber* const owner = at->owner();
        if (owner == &f) return true;
        if (owner == nullptr || owner == mark || own == nullptr) return false;
        if (own->waiting() == 0) own = own->next_of_owner();
        if (++steps == next_mark) {
            mark = owner;
            next_mark *= 2;
        }
    }
    return false;
}

}  // namespace

// An owner's first lock makes room for the list of its locks; later it only links.
bool owned_lock::may_own(lock_wait& w) noexcept {
    if (w.shared) return true;
    try {
        extras_of(*w.owner);
    } catch (const std::bad_alloc&) {
        w.result = -ENOMEM;
        return false;
    }
    return true;
}

bool owned_lock::wait_or_refuse(lock_wait& w) noexcept {
    const bool alone = w.owner->waiting == &w;  // not one arm of several, which others may end
    if (alone && waits_for(*this, *w.owner)) {
        w.result = -EDEADLK;
        return false;
    }
    waits_.push(w);
    return true;
}

bool owned_lock::try_lock_here(bool shared) {
    fiber* const f = running().current_fiber();
    RONDO_ASSERT(f != nullptr, "a lock is for tasks: a callback cannot own it");
    if (!shared) extras_of(*f);
    return try_lock(*f, shared);
}

void owned_lock::wait_next(lock_wait& w) noexcept {
    w.wanted = this;
    if (try_lock(*w.owner, w.shared)) {
        running().complete(w, w.cut_short ? -ECANCELED : 0);
    } else {
        waits_.push(w);
    }
}

// To the first, and as long as they share it, to those behind: neither sort can starve the other.
void owned_lock::hand_over() noexcept {
    while (!waits_.empty()) {
        auto& first = static_cast<lock_wait&>(waits_.front());
        if (owner_ != nullptr || (!first.shared && readers_ != 0)) return;
        if (first.shared) {
            ++readers_;
        } else {
            own(*first.owner);
        }
        waits_.complete_first(first.cut_short ? -ECANCELED : 0);
    }
}

void owned_lock::cancel(lock_wait& w) noexcept {
    waits_.cancel(w);
    hand_over();  // it may have been a writer between readers
}

const op_vtable lock_wait::table = {
    [](op& o) noexcept {
        auto& w = static_cast<lock_wait&>(o);
        w.wanted->cancel(w);
    },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        static_cast<const lock_wait&>(o).wanted->describe(text, size);
    },
};

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

// --- reports -------------------------------------------------------------------------------------------

namespace {

std::string task_text(const fiber& f) {
    std::string text = "task " + std::to_string(f.id);
    if (f.more != nullptr && !f.more->name.empty()) text += " (" + f.more->name + ")";
    return text;
}

// A task of the circle: what it has, what it wants, and the awaits it came through.
std::string member_text(const fiber& f, const owned_lock& has, const owned_lock& wants) {
    std::string text = "\n  " + task_text(f) + " holds " + has.title() + " and waits for " + wants.title();
    const char* lead = "\n     ";
    for (const promise_base* p = f.leaf; p != nullptr; p = p->parent) {
        text += lead + at_place(p->site);
        lead = "\n      awaited";
    }
    return text;
}

// Begins with the task that asks, which holds what the last one wants.
std::string circle_text(const fiber& asking, const owned_lock& wanted) {
    std::string text = "deadlock: each of these tasks waits for a lock that the next one holds";
    const owned_lock* last = &wanted;
    while (last->owner() != &asking) last = wanted_by(*last->owner());
    text += member_text(asking, *last, wanted);
    for (const owned_lock* at = &wanted; at != last; at = wanted_by(*at->owner()))
        text += member_text(*at->owner(), *at, *wanted_by(*at->owner()));
    return text;
}

}  // namespace

void owned_lock::fail(const lock_wait& w) {
    if (w.result == -ENOMEM) throw std::bad_alloc();
    if (w.result != -EDEADLK) throw_failure(w.result, "lock");
    const owned_lock& lock = *w.wanted;
    if (lock.owner() == w.owner || !waits_for(lock, *w.owner))
        throw io_error(errno_code(EDEADLK), "lock", lock.title() + ", which the task holds already");
    throw deadlock_error(circle_text(*w.owner, lock));
}

void owned_lock::describe(char* text, std::size_t size) const noexcept {
    std::size_t written = waits_.write_title(text, size);
    const auto add = [&](const char* format, auto... values) {
        const int length = std::snprintf(text + written, size - written, format, values...);
        written = std::min(written + static_cast<std::size_t>(length), size - 1);
    };
    if (owner_ != nullptr) add(", held by task %u", static_cast<unsigned>(owner_->id));
    if (readers_ != 0) add(readers_ == 1 ? ", read by %zu task" : ", read by %zu tasks", readers_);
    add(", %zu waiting", waits_.size());
}

namespace {

// `before` and `behind` stand around what the lock says of itself.
[[noreturn]] void misused(const owned_lock& lock, const char* before, const char* behind,
                          std::source_location place) noexcept {
    char what[160];
    lock.describe(what, sizeof what);
    char text[220];
    std::snprintf(text, sizeof text, "%s%s%s", before, what, behind);
    assertion_failed(text, nullptr, place);
}

}  // namespace

void owned_lock::not_the_owner() const noexcept { misused(*this, "", ", is unlocked by another than its owner", {}); }

void owned_lock::destroyed_while_held() const noexcept { misused(*this, "", ", was destroyed", {}); }

void ended_with_lock(const owned_lock& lock) noexcept {
    misused(lock, "a task has ended as the owner of a lock: ", "", lock.owner()->place);
}

}  // namespace rondo::detail
