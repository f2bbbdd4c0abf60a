// What a loop and its remote handles share.
#pragma once

#include <rondo/loop/loop.hpp>

#include "post_box.hpp"

#include <atomic>

namespace rondo::detail {

struct remote_state : post_box<backend> {
    using post_box::post_box;

    /// That of a loop. (remote.cpp)
    static remote_state& of(loop& l) noexcept;
    /// Another handle of the loop whose it is.
    rondo::remote handle() noexcept { return rondo::remote(*this); }

    /// Any thread. False when the loop is gone, and `c` was not taken.
    static bool post(const rondo::remote& to, callback& c) noexcept { return to.post_callback(c); }
    static bool is_gone(const rondo::remote& r) noexcept { return r.state_ == nullptr || r.state_->closed(); }
    using post_box::post;

    void retain() noexcept { owners.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept {
        if (owners.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }

    void drop_handle() noexcept {
        // The last one may be all that keeps the loop in its poll.
        if (handles.fetch_sub(1, std::memory_order_seq_cst) == 1) wake();
        release();
    }

    /// Whether it is of a parent's loop, and who calls is a task that unwinds; anyone else there asserts.
    bool in_child() const noexcept;

    std::size_t handle_count() const noexcept { return handles.load(std::memory_order_seq_cst); }

    /// In a forked child: nobody reads what is posted, and `instead` is what may be woken.
    void leave_behind(backend& instead) noexcept {
        left_behind = true;
        retarget(instead);
    }

    /// Refuses posts from now on, waits until nobody is inside post(), and drops what was queued:
    /// after this the backend may go.
    void close() noexcept;

    std::atomic<std::size_t> handles{0};
    std::atomic<std::size_t> owners{1};
    bool left_behind = false;  // set while there is one thread only
};

}  // namespace rondo::detail
