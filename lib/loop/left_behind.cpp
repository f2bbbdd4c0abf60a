#include "left_behind.hpp"

#include <cerrno>
#include <cstdio>
#include <thread>
#include <utility>

namespace rondo::detail {

// Not at the fork itself: most children are about to exec, and need not pay for it.
void left_behind::silence() noexcept {
    if (!std::exchange(silenced_, true)) inside().left_to_parent();
}

bool left_behind::submit(io_op& what) noexcept {
    if (what.kind == io_kind::close) {
        silence();
        return forwarding_backend::submit(what);
    }
    char text[48];
    std::snprintf(text, sizeof text, "an operation on descriptor %d", what.fd);
    used_in_child(text);
}

void left_behind::reap(int fd) noexcept {
    silence();
    forwarding_backend::reap(fd);
}

void left_behind::cancel(io_op& what) noexcept {
    silence();
    forwarding_backend::cancel(what);
}

int left_behind::control(sys_op& what) noexcept {
    switch (what.what) {
        case sys_op::call::local_address:
        case sys_op::call::peer_address:
        case sys_op::call::get_option:
        case sys_op::call::get_any_option:
        case sys_op::call::tcp_info:
        case sys_op::call::unwatch:
        case sys_op::call::unix_local_name:
        case sys_op::call::unix_peer_name:
        case sys_op::call::unix_credentials:
        case sys_op::call::terminal_number:
        case sys_op::call::give_back_pipe:
        case sys_op::call::close: silence(); return forwarding_backend::control(what);
        default: break;
    }
    if (unwinding_in_child()) return -ECANCELED;
    if (what.what == sys_op::call::tcp_socket || what.what == sys_op::call::stream_pair ||
        what.what == sys_op::call::udp_socket || what.what == sys_op::call::unix_socket)
        used_in_child("making a socket");
    if (what.what == sys_op::call::pipe_pair) used_in_child("making a pipe");
    if (what.what == sys_op::call::fifo_open) used_in_child("opening a FIFO");
    if (what.what == sys_op::call::fifo_make) used_in_child("making a FIFO");
    if (what.what == sys_op::call::standard_stream) used_in_child("opening a standard stream");
    if (what.what == sys_op::call::terminal_pair) used_in_child("making a terminal");
    if (what.what == sys_op::call::watch_clock) used_in_child("waiting for the wall clock");
    char text[48];
    std::snprintf(text, sizeof text, "a call on descriptor %d", what.fd);
    used_in_child(text);
}

void left_behind::look(completions& done) noexcept {
    silence();
    forwarding_backend::wait(time_point::min(), done);
}

bool left_behind::wait(time_point until, completions& done) noexcept {
    const std::size_t reaped_before = reaping_;
    look(done);
    if (done.size() == 0 && reaping_ == reaped_before && until > now()) used_in_child("waiting for something");
    return true;
}

void left_behind::sleep_until(time_point until) noexcept {
    if (is_closed_world()) return spin(until - now());
    std::this_thread::sleep_for(until - now());
}

}  // namespace rondo::detail
