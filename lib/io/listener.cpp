#include <rondo/io/listener.hpp>

#include <rondo/base/log.hpp>

#include "loop/places.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace rondo::detail {

/// An accept that pauses, because descriptors or memory ran out, waits for time instead.
struct accept_functions {
    static accept_wait& from(op& o) noexcept { return static_cast<accept_wait&>(static_cast<io_op&>(o)); }
    static const accept_wait& from(const op& o) noexcept {
        return static_cast<const accept_wait&>(static_cast<const io_op&>(o));
    }

    static void cancel(op& o) noexcept {
        if (!from(o).pausing_) return cancel_io(o);
        from(o).end_pause(-ECANCELED);
    }
    static void done(op& o) noexcept {
        if (from(o).settled()) wake_owner(o);
    }
    static void describe(const op& o, char* text, std::size_t size) noexcept {
        if (!from(o).pausing_) return describe_io(o, text, size);
        std::snprintf(text, size, "accept on fd %d, after a pause", from(o).fd);
    }
    static const scheduler* belongs_to(const op& o) noexcept {
        const socket_handle& socket = from(o).listener_->socket_;
        return socket.open() ? socket.home() : nullptr;
    }
    static bool settled(op& o) noexcept { return from(o).settled(); }
};

const op_vtable accept_vtable = {&accept_functions::cancel, &accept_functions::done, &accept_functions::describe,
                                 &accept_functions::belongs_to, &accept_functions::settled};

// Not in a forked child: the connection is the parent's to refuse, or to serve.
void unclaimed_connection::refuse() noexcept {
    if (const detail::scheduler* const l = open() ? home() : nullptr; l != nullptr && !l->left_behind())
        reset_on_close();
}

bool accept_wait::start() noexcept {
    if (listener_->pausing_ != nullptr) [[unlikely]] {
        result = -EBUSY;
        return false;
    }
    if (listener_->unclaimed_.open()) [[unlikely]] {
        peer_ = listener_->unclaimed_peer_;
        result = listener_->unclaimed_.release();
        return false;
    }
    return !current->submit(*this) || !settled();
}

// What has been accepted waits in the listener for the next accept(). One place is enough: only one task
// accepts at a time, and none asks the kernel while there is one.
void accept_wait::give_back() noexcept {
    if (result < 0) return;
    listener_->unclaimed_ = unclaimed_connection(*current, result);
    listener_->unclaimed_peer_ = peer_;
}

// Whether a negative errno of accept says that this listener will never accept: it is closed, or no listener. All
// others come from the network, from a connection, or from what the machine is short of, and kernels have
// more of them than any list. EOPNOTSUPP is one of these: accept(2) hands it out for a connection as well, and a
// listener cannot be of a kind that does not listen. EBUSY is ours: another task accepts already.
static bool is_listeners_own(std::int32_t error) noexcept {
    return error == -EBADF || error == -EINVAL || error == -ENOTSOCK || error == -EBUSY || error == -ECANCELED;
}

// What is no fault of the listener does not end the wait: it goes on as another accept, or as a timer.
bool accept_wait::settled() noexcept {
    if (pausing_) {
        pausing_ = false;
        listener_->pausing_ = nullptr;
        if (result < 0) return true;  // cancelled, or closed
        if (!current->submit(*this)) return false;
    }
    while (result >= 0) {
        sys_op ask{.what = sys_op::call::peer_address, .fd = result, .address = &peer_};
        const int answer = current->control(ask);
        if (answer >= 0) return true;
        current->reap(result);
        if (answer != -ENOTCONN && answer != -EINVAL) {
            result = answer;  // as of an accept: the kernel does not say who is there
            return !pause();
        }
        ++listener_->died_in_queue_;  // reset while it was in the queue: nobody is there any more
        if (!current->submit(*this)) return false;
    }
    return is_listeners_own(result) || !pause();
}

bool accept_wait::pause() noexcept {
    constexpr std::uint16_t first_ms = 5;
    constexpr std::uint16_t longest_ms = 1000;
    if (result == -EMFILE || result == -ENFILE || result == -ENOBUFS || result == -ENOMEM) ++listener_->exhausted_;
    if (owner->flags & fiber::cancel_pending) {
        result = -ECANCELED;
        return false;
    }
    pause_ms_ = pause_ms_ == 0 ? first_ms : std::min<std::uint16_t>(pause_ms_ * 2, longest_ms);
    static log_gate gate;
    write_log(gate, log_level::warning, shown_place(*owner), "accept: %s; trying again in %d ms",
              std::strerror(-result), static_cast<int>(pause_ms_));
    try {
        current->add_timer(*this, current->now() + std::chrono::milliseconds(pause_ms_));
    } catch (const std::bad_alloc&) {
        result = -ENOMEM;
        return false;
    }
    pausing_ = true;
    listener_->pausing_ = this;
    return true;
}

void accept_wait::end_pause(std::int32_t with) noexcept {
    scheduler& home = *listener_->socket_.home();
    if (home.left_behind()) return;  // in a forked child it waits for ever
    home.remove_timer(*this);
    home.complete(*this, with);
}

}  // namespace rondo::detail

namespace rondo {

descriptor_listener::descriptor_listener(descriptor_listener&& other) noexcept
    : socket_(std::move(other.socket_)),
      pausing_(detail::take(other.pausing_)),
      unclaimed_(std::move(other.unclaimed_)),
      unclaimed_peer_(other.unclaimed_peer_),
      exhausted_(other.exhausted_),
      died_in_queue_(other.died_in_queue_) {
    if (pausing_ != nullptr) pausing_->listener_ = this;
}

descriptor_listener& descriptor_listener::operator=(descriptor_listener&& other) noexcept {
    if (this == &other) return *this;
    end_pause();
    socket_ = std::move(other.socket_);
    pausing_ = detail::take(other.pausing_);
    if (pausing_ != nullptr) pausing_->listener_ = this;
    unclaimed_ = std::move(other.unclaimed_);
    unclaimed_peer_ = other.unclaimed_peer_;
    exhausted_ = other.exhausted_;
    died_in_queue_ = other.died_in_queue_;
    return *this;
}

}  // namespace rondo
