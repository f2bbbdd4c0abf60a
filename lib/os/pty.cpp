#include <rondo/os/pty.hpp>

#include <cerrno>

namespace rondo {

namespace detail {

rondo::result<window_size> pty_end::try_window() const noexcept {
    window_size size;
    sys_op ask{.what = sys_op::call::terminal_window, .data = &size};
    if (const int answer = socket().control(ask); answer < 0) return errno_code(-answer);
    return size;
}

window_size pty_end::window() const {
    const rondo::result<window_size> size = try_window();
    if (!size) check(size.error(), "window size");
    return *size;
}

rondo::result<void> pty_end::try_window(const window_size& size) noexcept {
    window_size wanted = size;
    sys_op set{.what = sys_op::call::terminal_window, .value = 1, .data = &wanted};
    return as_result(socket().control(set));
}

void pty_end::window(const window_size& size) { check(try_window(size), "window size"); }

}  // namespace detail

std::string pty_master::name_of(const descriptor_stream&) { return "the master of a pseudo-terminal"; }
std::string pty_terminal::name_of(const descriptor_stream&) { return "a pseudo-terminal"; }

std::string pty_master::name() const {
    sys_op ask{.what = sys_op::call::terminal_number};
    const int number = socket().control(ask);
    if (number < 0) check(errno_code(-number), "name of its terminal");
    return "/dev/pts/" + std::to_string(number);
}

rondo::result<pty> pty::try_make(const pty_options& options) noexcept {
    detail::scheduler& l = detail::running();
    l.check_thread("making a pseudo-terminal");
    sys_op make{.what = sys_op::call::terminal_pair, .value = options.raw};
    if (const int answer = l.control(make); answer < 0) return errno_code(-answer);
    pty made{pty_master(detail::socket_handle(l, make.fds[0])), pty_terminal(detail::socket_handle(l, make.fds[1]))};
    if (options.window != window_size()) {
        const rondo::result<void> set = made.master.try_window(options.window);
        if (!set) return set.error();
    }
    return made;
}

pty pty::make(const pty_options& options) {
    rondo::result<pty> made = try_make(options);
    if (!made) detail::throw_refused(made.error(), "make a pseudo-terminal", {});
    return *std::move(made);
}

}  // namespace rondo
