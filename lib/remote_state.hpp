// What a loop and its remote handles share: the inbox, and who must be woken.
#pragma once

#include <rondo/loop.hpp>

#include "inbox.hpp"

#include <atomic>

namespace rondo::detail {

struct remote_state {
    explicit remote_state(backend& b) noexcept : wake_target(&b) {}

    static remote_state& of(loop& l) noexcept { return *l.shared_; }

    void retain() noexcept { owners.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
        if (owners.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }

    // --- any thread

    bool post(callback& c) noexcept {
        if (inbox.closed()) return false;  // before the visit: close() waits until there are none
        const visit here(*this);
        if (!inbox.push(c)) return false;
        if (sleeping.load(std::memory_order_seq_cst)) wake_target->wake();
        return true;
    }

    void drop_handle() noexcept {
        {
            const visit here(*this);
            // The last one may be all that keeps the loop in its poll.
            if (handles.fetch_sub(1, std::memory_order_seq_cst) == 1 && !inbox.closed()) wake_target->wake();
        }
        release();
    }

    // --- the loop's thread

    /// About to block. False: there is something in the inbox, do not.
    bool sleep() noexcept {
        sleeping.store(true, std::memory_order_seq_cst);
        return inbox.empty();
    }
    void awake() noexcept { sleeping.store(false, std::memory_order_relaxed); }

    queue<ready_node> take() noexcept { return inbox.take(); }
    bool has_posts() const noexcept { return !inbox.empty(); }
    std::size_t handle_count() const noexcept { return handles.load(std::memory_order_seq_cst); }

    /// Refuses posts from now on, waits until nobody is inside post(), and drops what was queued:
    /// after this the backend may go.
    void close() noexcept;

    // A thread inside post() or drop_handle() may be about to touch the backend.
    struct visit {
        explicit visit(remote_state& s) noexcept : of(s) {
            of.visitors.fetch_add(1, std::memory_order_seq_cst);
        }
        ~visit() { of.visitors.fetch_sub(1, std::memory_order_seq_cst); }
        remote_state& of;
    };

    detail::inbox inbox;
    backend* wake_target;
    std::atomic<bool> sleeping{false};
    std::atomic<std::size_t> visitors{0};
    std::atomic<std::size_t> handles{0};
    std::atomic<std::size_t> owners{1};
};

}  // namespace rondo::detail
