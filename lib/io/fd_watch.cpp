#include <rondo/io/fd_watch.hpp>

#include <cerrno>
#include <utility>

namespace rondo {
namespace detail {

struct watch_functions {
    static watch_awaiter& from(op& o) noexcept { return static_cast<watch_awaiter&>(static_cast<io_op&>(o)); }

    static void cancel(op& o) noexcept {
        from(o).changed_ = false;  // it is to end after all
        cancel_io(o);
    }
    static void done(op& o) noexcept {
        if (from(o).settled()) wake_owner(o);
    }
    static bool settled(op& o) noexcept { return from(o).settled(); }
};

const op_vtable watch_vtable = {&watch_functions::cancel, &watch_functions::done, &describe_io, nullptr,
                                &watch_functions::settled};

bool watch_awaiter::start() noexcept {
    if (watch_->waiting_ != nullptr || watch_->fd_ < 0) {
        result = watch_->fd_ < 0 ? -EBADF : -EBUSY;
        return false;
    }
    fd = watch_->fd_;
    size = static_cast<std::uint32_t>(watch_->wanted_);
    watch_->loop_ = current->serial();
    if (current->submit(*this)) return false;
    watch_->waiting_ = this;
    return true;
}

// Its result may be for what is not wanted any more.
bool watch_awaiter::settled() noexcept {
    if (watch_ == nullptr) return true;
    const auto wanted = static_cast<std::int32_t>(watch_->wanted_) | poll_mask::error;
    const bool again = std::exchange(changed_, false) && result == -ECANCELED;
    if (result > 0) result &= wanted;
    if (again || result == 0) {
        result = -ECANCELED;
        if (!(owner->flags & fiber::cancel_pending)) {
            size = static_cast<std::uint32_t>(watch_->wanted_);
            if (!current->submit(*this)) return false;
        }
    }
    watch_->waiting_ = nullptr;
    return true;
}

rondo::result<fd_events> watch_awaiter::finish() const {
    if (result >= 0) return static_cast<fd_events>(result);
    check_cancelled();
    return io_failure(errno_code(-result), "watch");
}

fd_events watch_awaiter::await_resume() const {
    if (result < 0) [[unlikely]]
        throw_io(result, "watch", {});
    return static_cast<fd_events>(result);
}

}  // namespace detail

void fd_watch::want(fd_events wanted) noexcept {
    wanted_ = wanted;
    if (waiting_ == nullptr || waiting_->state != op::armed) return;
    if (waiting_->size == static_cast<std::uint32_t>(wanted)) return;
    waiting_->changed_ = true;
    detail::cancel_io(*waiting_);
}

void fd_watch::close() noexcept {
    const int fd = std::exchange(fd_, -1);
    if (detail::watch_awaiter* const left = std::exchange(waiting_, nullptr)) {
        left->watch_ = nullptr;
        left->changed_ = false;
        left->flags |= io_op::closing;
    }
    detail::scheduler* const l = detail::scheduler::living(loop_);
    if (fd < 0 || l == nullptr) return;
    l->check_thread("closing a watch");
    sys_op unwatch{.what = sys_op::call::unwatch, .fd = fd};
    l->control(unwatch);
}

}  // namespace rondo
