// What is asked of the kernel: one submission entry per request.
#include "backend.hpp"

#include <poll.h>

namespace rondo::detail::uring {

void uring_backend::start(record& r, std::uint16_t request) noexcept {
    if (issue(r, request)) [[likely]]
        return;
    r.wanted |= request;
    table_.enqueue(r);
}

/// False when there is no submission entry.
bool uring_backend::issue(record& r, std::uint16_t request) noexcept {
    if (request == record::fill) return issue_fill(r);
    io_uring_sqe* sqe = ring_.entry();
    if (sqe == nullptr) [[unlikely]]
        return false;
    switch (request) {
        case record::read: {
            io_op& what = *r.reader;
            if (what.kind == io_kind::receive && !r.is_file()) {
                // Not MSG_WAITALL: with it a reset after some bytes is reported as a short read, and
                // the error is gone.
                io_uring_prep_recv(sqe, r.fd, static_cast<std::byte*>(what.data) + what.moved,
                                   budget_.portion(left_to_move(what)), 0);
            } else if (what.kind == io_kind::poll) {
                io_uring_prep_poll_add(sqe, r.fd, static_cast<unsigned>(poll_events(what.size)));
            } else {
                io_uring_prep_poll_add(sqe, r.fd, POLLIN | POLLRDHUP);
            }
            io_uring_sqe_set_data64(sqe, user_data(&what, own));
            break;
        }
        case record::write:
            fill_writer(*sqe, r);
            io_uring_sqe_set_data64(sqe, user_data(r.writer, own));
            break;
        case record::take:
            io_uring_prep_accept(sqe, r.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
            io_uring_sqe_set_data64(sqe, user_data(&r, taken));
            break;
        case record::stop_read: stop(*sqe, r, user_data(r.reader, own)); return true;
        case record::stop_write: stop(*sqe, r, user_data(r.writer, own)); return true;
        case record::stop_fill: stop(*sqe, r, user_data(&r, ring_fill)); return true;
        case record::stop_all:
            io_uring_prep_cancel_fd(sqe, r.fd, IORING_ASYNC_CANCEL_ALL);
            io_uring_sqe_set_data64(sqe, user_data(&r, stopped));
            return true;
    }
    r.kernel |= request;
    ++in_kernel_;
    return true;
}

bool uring_backend::issue_fill(record& r) noexcept {
    const bool from_ring = !buffers_.empty() && !(r.bits & record::one_shot);
    const bool from_heap = !from_ring && r.bits & record::data_there;
    if (from_heap && r.filling == nullptr) {
        r.filling = heap_.take();
        if (r.filling == nullptr) {  // told to whoever waits
            r.ended = -ENOMEM;
            table_.enqueue(r);
            return true;
        }
    }
    io_uring_sqe* sqe = ring_.entry();
    if (sqe == nullptr) [[unlikely]]
        return false;
    if (from_ring) {
        io_uring_prep_recv_multishot(sqe, r.fd, nullptr, 0, 0);
        io_uring_sqe_set_flags(sqe, IOSQE_BUFFER_SELECT);
        sqe->buf_group = buffer_ring::group;
        io_uring_sqe_set_data64(sqe, user_data(&r, ring_fill));
        r.bits |= record::from_ring;
    } else if (from_heap) {
        io_uring_prep_recv(sqe, r.fd, r.filling->data, budget_.portion(heap_.size()), 0);
        io_uring_sqe_set_data64(sqe, user_data(&r, heap_fill));
    } else {
        io_uring_prep_poll_add(sqe, r.fd, POLLIN | POLLRDHUP);
        io_uring_sqe_set_data64(sqe, user_data(&r, ready_fill));
    }
    r.bits &= static_cast<std::uint8_t>(~record::data_there);
    r.kernel |= record::fill;
    ++in_kernel_;
    return true;
}

void uring_backend::fill_writer(io_uring_sqe& sqe, record& r) noexcept {
    io_op& what = *r.writer;
    if (r.is_file()) return io_uring_prep_poll_add(&sqe, r.fd, POLLOUT);
    // Not MSG_WAITALL, as with receiving: with it a reset after some bytes is a short write, and the
    // error is gone. The next try would find a broken pipe.
    // The kernel does the work of all requests in one go when they are handed over, so a write spends its
    // bytes here. What a read will find nobody knows: it spends them when it has.
    switch (what.kind) {
        case io_kind::send: {
            const std::uint32_t size = budget_.portion(left_to_move(what));
            budget_.spend(size);
            io_uring_prep_send(&sqe, r.fd, static_cast<const std::byte*>(what.data) + what.moved, size, MSG_NOSIGNAL);
            break;
        }
        case io_kind::send_vector: {
            const span_cursor::filled next =
                r.block->cursor().fill({r.block->window(), r.block->pieces}, budget_.portion(most_moved));
            budget_.spend(next.bytes);
            r.block->message.msg_iov = r.block->window();
            r.block->message.msg_iovlen = next.pieces;
            io_uring_prep_sendmsg(&sqe, r.fd, &r.block->message, MSG_NOSIGNAL);
            break;
        }
        case io_kind::connect: io_uring_prep_connect(&sqe, r.fd, r.block->to.data(), r.block->to.size); break;
        default: io_uring_prep_poll_add(&sqe, r.fd, POLLOUT); break;
    }
}

// It cannot hit a later request with the same user_data: entries are taken in order, and this one is
// ahead of whatever is started after it.
void uring_backend::stop(io_uring_sqe& sqe, record& r, std::uint64_t target) noexcept {
    io_uring_prep_cancel64(&sqe, target, 0);
    io_uring_sqe_set_data64(&sqe, user_data(&r, stopped));
}

/// Asks the multishot receive to end.
void uring_backend::stop_filling(record& r) noexcept {
    r.bits &= static_cast<std::uint8_t>(~record::from_ring);
    r.bits |= record::stopping;
    start(r, record::stop_fill);
}

// A cancel misses a request that the kernel has just taken off its poll to try it once more. So when
// the cancel is over and its target is still there, ask again.
void uring_backend::on_stopped(record& r) noexcept {
    const auto still = [&](io_op* what, std::uint16_t request) {
        return what != nullptr && what->state == op::cancelling && r.kernel & request;
    };
    if (r.bits & record::ending) {
        if (r.kernel != 0) start(r, record::stop_all);
        return;
    }
    if (still(r.reader, record::read)) start(r, record::stop_read);
    if (still(r.writer, record::write)) start(r, record::stop_write);
    if (r.kernel & record::fill && r.bits & record::stopping) start(r, record::stop_fill);
}

/// Starts the request the reader waits for, unless one is under way that will serve it.
void uring_backend::drive(record& r) noexcept {
    if (r.reader == nullptr || r.reader->state != op::armed || r.bits & record::ending) return;
    if (r.is(record::read | record::fill | record::take)) return;
    if (r.is_file()) return start(r, record::read);
    switch (r.reader->kind) {
        case io_kind::borrow: return start(r, r.bits & record::with_rights ? record::read : record::fill);
        case io_kind::accept: return start(r, record::take);
        default: return start(r, record::read);
    }
}

// Edge-like: every write to the eventfd completes once more, though its counter is never read.
void uring_backend::watch_wake() noexcept {
    io_uring_sqe* sqe = ring_.entry();
    if (sqe == nullptr) return;
    io_uring_prep_poll_multishot(sqe, wake_fd_, POLLIN);
    io_uring_sqe_set_data64(sqe, woken);
    wake_watched_ = true;
}

/// False when there is no submission entry.
bool uring_backend::unwatch_wake() noexcept {
    io_uring_sqe* sqe = ring_.entry();
    if (sqe == nullptr) return false;
    io_uring_prep_cancel64(sqe, woken, 0);
    io_uring_sqe_set_data64(sqe, tag_mask);
    ring_.enter(false, nullptr);
    wake_watched_ = false;
    return true;
}

}  // namespace rondo::detail::uring
