// What stands in for a loop's backend in a forked child.
//
// The child has a copy of all that the loop remembers, but what that stands for it shares with the parent: the epoll
// instance or the ring, the eventfd, every socket. Whatever it did there, it would do to the parent: an epoll_ctl
// takes the parent's registration away, a write wakes the parent's loop. So the child's copy of a loop changes its
// backend right after the fork, before the program goes on. From then on, closing only closes the child's
// descriptor, cancelling ends the wait here and nowhere else, and all else is a bug that is told.
//
// It is made with the loop: in the child there may be no memory for it.
#pragma once

#include <rondo/loop/forwarding_backend.hpp>

#include "forked.hpp"

namespace rondo::detail {

class left_behind final : public forwarding_backend {
 public:
    /// Around the backend that the loop has until it is left behind.
    using forwarding_backend::forwarding_backend;

    /// From now on, in the child.
    void begin() noexcept { reaping_ = inside().reaping(); }

    /// Only a close is no bug.
    bool submit(io_op& what) noexcept override;
    void cancel(io_op& what) noexcept override;
    void reap(int fd) noexcept override;
    /// Only closing and looking are no bugs.
    int control(sys_op& what) noexcept override;
    /// Reports what was cancelled or closed; to wait for anything else is a bug.
    bool wait(time_point until, completions& done) noexcept override;
    /// Reports what was cancelled or closed, if anything was.
    void look(completions& done) noexcept;
    /// Lets time pass.
    void sleep_until(time_point until) noexcept;
    void wake() noexcept override {}
    int poll_fd() noexcept override { used_in_child("poll_fd()"); }
    void flush() noexcept override {}
    void left_to_parent() noexcept override {}
    /// A signal of the child's is none of the parent's, and nobody here would hear of it.
    int watch_signals(signal_watch&) noexcept override { used_in_child("watching signals"); }
    void expect_wakes(std::size_t, duration) noexcept override {}

 private:
    void silence() noexcept;
    bool silenced_ = false;
};

}  // namespace rondo::detail
