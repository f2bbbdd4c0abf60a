#include "left_behind.hpp"

#include <rondo/loop/loop.hpp>

#include <cerrno>
#include <cstdio>
#include <thread>

namespace rondo::detail {

void used_in_child(const char* what) noexcept {
    char message[160];
    std::snprintf(message, sizeof message, "%s: a loop cannot be used in a forked child; make a new one", what);
    assertion_failed(message, nullptr, {});
}

bool unwinding_in_child() noexcept {
    if (current == nullptr || !current->left_behind()) return false;
    const fiber* const f = current->current_fiber();
    return f != nullptr && (f->flags & fiber::cancel_pending) != 0;
}

// Not at the fork itself: most children are about to exec, and need not pay for it.
backend& left_behind::silenced() noexcept {
    if (!std::exchange(silenced_, true)) parents_->left_to_parent();
    return *parents_;
}

bool left_behind::submit(io_op& what) noexcept {
    if (what.kind == io_kind::close) return silenced().submit(what);
    char text[48];
    std::snprintf(text, sizeof text, "an operation on descriptor %d", what.fd);
    used_in_child(text);
}

void left_behind::reap(int fd) noexcept {
    silenced().reap(fd);
    reaping_ = parents_->reaping();
}

void left_behind::cancel(io_op& what) noexcept { silenced().cancel(what); }

int left_behind::control(sys_op& what) noexcept {
    switch (what.what) {
        case sys_op::call::local_address:
        case sys_op::call::peer_address:
        case sys_op::call::get_option:
        case sys_op::call::close: return silenced().control(what);
        default: break;
    }
    if (unwinding_in_child()) return -ECANCELED;
    if (what.what == sys_op::call::tcp_socket || what.what == sys_op::call::stream_pair) used_in_child("making a socket");
    char text[48];
    std::snprintf(text, sizeof text, "a call on descriptor %d", what.fd);
    used_in_child(text);
}

void left_behind::give_back(void* data, std::uint32_t size, std::uint16_t buffer) noexcept {
    parents_->give_back(data, size, buffer);
}

void left_behind::look(completions& done) noexcept {
    silenced().wait(time_point::min(), done);
    reaping_ = parents_->reaping();
}

bool left_behind::wait(time_point until, completions& done) noexcept {
    const std::size_t reaped_before = reaping_;
    look(done);
    if (done.size() == 0 && reaping_ == reaped_before && until > now()) used_in_child("waiting for something");
    return true;
}

void left_behind::sleep_until(time_point until) noexcept {
    if (advance(until - now())) return;
    std::this_thread::sleep_for(until - now());
}

int left_behind::poll_fd() noexcept { used_in_child("poll_fd()"); }

}  // namespace rondo::detail
