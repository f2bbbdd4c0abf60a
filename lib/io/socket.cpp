#include <rondo/io/detail/socket.hpp>

#include <unistd.h>

#include <cerrno>

namespace rondo::detail {

socket_handle::~socket_handle() {
    if (fd_ < 0) return;
    if (scheduler* const l = home(); l != nullptr) {
        l->check_thread("dropping a socket");
        l->reap(fd_);
    } else if (!scheduler::was_simulated(loop_)) {
        ::close(fd_);
    }
}

int socket_handle::control(sys_op& call) const noexcept {
    if (fd_ < 0) return -EBADF;
    scheduler* const l = home();
    if (l == nullptr) return -EBADF;
    l->check_thread("a call on a socket");
    call.fd = fd_;
    return l->control(call);
}

int socket_handle::set(sys_op::option which, int value) const noexcept {
    sys_op call{.what = sys_op::call::set_option, .which = which, .value = value};
    return control(call);
}

int socket_handle::reset_on_close() const noexcept {
    sys_op call{.what = sys_op::call::reset_on_close};
    return control(call);
}

bool close_awaiter::start() noexcept {
    if (scheduler* const home = socket_.home(); home != current) [[unlikely]]
        home->assert_here("closing a socket", owner->leaf->site);
    fd = socket_.release();
    return !current->submit(*this);
}

rondo::result<void> close_awaiter::finish() const noexcept {
    if (fd < 0 || result >= 0) return {};
    return io_failure(errno_code(-result), "close");
}

void close_awaiter::await_resume() const {
    if (fd >= 0 && result < 0) throw_failure(result, "close");
}

bool release_awaiter::start() noexcept {
    scheduler* const home = socket_->home();
    if (socket_->open() && home != nullptr && home != current) [[unlikely]]
        home->assert_here("releasing a socket", owner->leaf->site);
    result = !socket_->open() ? -EBADF : holds_something_ ? -EAGAIN : 0;
    if (result < 0 || home == nullptr) return false;  // a loop that is gone knows nothing of it any more
    return !current->submit(*this);
}

rondo::result<int> release_awaiter::finish() noexcept {
    if (result < 0) return io_failure(errno_code(-result), "release");
    return socket_->release();
}

int release_awaiter::await_resume() {
    if (result < 0) throw_io(result, "release", {});
    return socket_->release();
}

rondo::result<socket_handle> adopt_socket(int fd, bool listening, int kind) noexcept {
    scheduler& l = running();
    l.check_thread("adopting a socket");
    sys_op adopt{.what = sys_op::call::adopt, .fd = fd, .value = listening, .name = kind};
    if (const int answer = l.control(adopt); answer < 0) return errno_code(-answer);
    return socket_handle(l, fd);
}

}  // namespace rondo::detail
