#include <rondo/task/wait.hpp>

#include <rondo/loop/detail/extras.hpp>

#include <cerrno>
#include <new>

namespace rondo::detail {

bool refuse_queueing(fiber& f) noexcept {
    f.told_cancelled = 1;
    if (!current->refuse_cancelled(f)) return false;
    f.waiting = &in_queue;
    current->make_ready(f);
    return true;
}

void note_wait(fiber& f) noexcept {
    if (!f.inside->its_loop.tracks_waits()) return;
    try {
        extras_of(f).waits_since = f.inside->its_loop.now();
    } catch (const std::bad_alloc&) {
    }
}

bool begin_unusual(op& o) noexcept {
    fiber& f = *o.owner;
    if (f.flags & fiber::checked) {
        const scheduler* its_loop = debug_enabled && o.vt->belongs_to != nullptr ? o.vt->belongs_to(o) : nullptr;
        if (its_loop != nullptr) its_loop->assert_here("awaiting a stream", f.leaf->site);
        note_wait(f);
    }
    if (!(f.flags & fiber::cancel_pending)) {
        f.waiting = &o;
        return true;
    }
    o.result = -ECANCELED;
    o.state = op::done;
    refuse_queueing(f);
    return false;
}

void throw_cancelled() {
    if (fiber* const f = current != nullptr ? current->current_fiber() : nullptr; f != nullptr)
        f->told_cancelled = (f->flags & fiber::cancel_pending) != 0;
    throw cancelled{};
}

void throw_failure(int negative_errno, const char* operation) {
    if (negative_errno == -ECANCELED) throw_cancelled();
    throw io_error(errno_code(-negative_errno), operation);
}

}  // namespace rondo::detail
