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

#include <rondo/loop/backend.hpp>

#include <memory>

namespace rondo::detail {

/// Whether it is a task that unwinds who calls, in a forked child. It may have got what it waited for when it was
/// cancelled, and goes on until its next wait: what it calls meanwhile is no bug, and has no effect.
bool unwinding_in_child() noexcept;

/// Asserts that `what` was done with the parent's in a forked child.
[[noreturn]] void used_in_child(const char* what) noexcept;

class left_behind final : public backend {
 public:
    explicit left_behind(std::unique_ptr<backend> parents) noexcept : parents_(std::move(parents)) {}

    /// What it stands in for.
    backend& parents() noexcept { return *parents_; }
    /// From now on, in the child.
    void begin() noexcept { reaping_ = parents_->reaping(); }

    backend_kind kind() const noexcept override { return parents_->kind(); }
    time_point now() noexcept override { return parents_->now(); }
    std::int64_t wall_now() noexcept override { return parents_->wall_now(); }
    std::uint64_t random() noexcept override { return parents_->random(); }
    std::uint32_t choose(choice point, std::uint32_t alternatives) noexcept override {
        return parents_->choose(point, alternatives);
    }

    /// Only a close is no bug.
    bool submit(io_op& what) noexcept override;
    void cancel(io_op& what) noexcept override;
    void reap(int fd) noexcept override;
    /// Only closing and looking are no bugs.
    int control(sys_op& what) noexcept override;
    void give_back(void* data, std::uint32_t size, std::uint16_t buffer) noexcept override;
    /// Reports what was cancelled or closed; to wait for anything else is a bug.
    bool wait(time_point until, completions& done) noexcept override;
    /// Reports what was cancelled or closed, if anything was.
    void look(completions& done) noexcept;
    /// Lets time pass.
    void sleep_until(time_point until) noexcept;
    void wake() noexcept override {}
    int poll_fd() noexcept override;
    void flush() noexcept override {}
    void left_to_parent() noexcept override {}
    /// A signal of the child's is none of the parent's, and nobody here would hear of it.
    int watch_signals(signal_watch&) noexcept override { used_in_child("watching signals"); }
    void unwatch_signals(signal_watch& who) noexcept override { parents_->unwatch_signals(who); }
    std::size_t descriptor_limit() noexcept override { return parents_->descriptor_limit(); }

    std::size_t armed() const noexcept override { return parents_->armed(); }
    std::string describe() const override { return parents_->describe(); }
    bool advance(duration by) noexcept override { return parents_->advance(by); }
    std::size_t descriptors() const noexcept override { return parents_->descriptors(); }

 private:
    backend& silenced() noexcept;

    std::unique_ptr<backend> parents_;
    bool silenced_ = false;
};

}  // namespace rondo::detail
