// The poll phase: what the kernel says is done, and what is found out about it.
#include "backend.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace rondo::detail::uring {

// In a forked child
//
// The kernel works for the parent: what is said here about requests in the kernel is so there, and the ring is
// not even mapped.

void uring_backend::left_to_parent() noexcept {
    left_ = true;
    in_kernel_ = 0;
    table_.for_each([&](record& r) {
        r.kernel = r.wanted = 0;
        const auto ending = [](const io_op* what) { return what != nullptr && what->state == op::cancelling; };
        if (r.closer != nullptr || ending(r.reader) || ending(r.writer)) table_.enqueue(r);
    });
}

bool uring_backend::wait_in_child(completions& done) noexcept {
    RONDO_ASSERT(left_, "a loop cannot be used in a forked child; make a new one");
    look_at_queued(done);
    return true;
}

bool uring_backend::wait(time_point until, completions& done) noexcept {
    if (forked()) [[unlikely]]
        return wait_in_child(done);
    woken_ = false;
    if (!wake_watched_) [[unlikely]]
        begin_wait();
    look_at_queued(done);
    for (;;) {
        budget_.renew();
        bool late = until <= last_now_;
        const bool look_only = done.size() > 0 || woken_ || !table_.idle() || ring_.anything_finished();
        if (!wake_watched_ && !hosted_) [[unlikely]] {
            wait_unwatched(done.size() > 0 || late);
        } else if (look_only || late) {
            // Work the kernel has put off for us is done when we enter; skip that only while
            // there are completions to go on with.
            if (ring_.anything_prepared() || !ring_.anything_finished()) ring_.enter(false, nullptr);
        } else if (hosted_) [[unlikely]] {
            wait_hosted(until);
        } else if (until == never) {
            ring_.enter(true, nullptr);
        } else {
            __kernel_timespec limit = left_until(until);
            ring_.enter(limit.tv_sec > 0 || limit.tv_nsec > 0, &limit);
        }
        if (!done.full()) {
            ring_.reap([&](std::uint64_t data, std::int32_t result, unsigned flags) {
                on_completion(data, result, flags, done);  // reports one op at most
                return !done.full();
            });
        }
        look_at_queued(done);
        if (done.size() > 0 || woken_ || late) return true;
        // Completions nobody waits for, or a signal: go on waiting, unless it is time.
        if (until != never && now() >= until) return true;
    }
}

// The kernel measures from later than we do: a timer never finds itself early.
__kernel_timespec uring_backend::left_until(time_point until) noexcept {
    const std::int64_t left = std::max((until - now()).count(), std::int64_t{0});
    return {left / 1'000'000'000, left % 1'000'000'000};
}

// Embedding

int uring_backend::poll_fd() noexcept {
    if (hosted_) return wake_fd_;
    if (wake_watched_ && !unwatch_wake()) return -1;
    if (!ring_.announce_to(wake_fd_)) return -1;
    hosted_ = true;
    flush();
    return wake_fd_;
}

// Enters even with nothing to submit: whatever the kernel has put off, it announced to nobody. Only
// there do requests end that a cancel has met.
void uring_backend::flush() noexcept {
    ring_.announce(true);
    ring_.enter(false, nullptr);
    if (!table_.idle() || ring_.anything_left()) wake();
}

void uring_backend::begin_wait() noexcept {
    if (!hosted_) return watch_wake();
    ring_.announce(false);
    woken_ = take_wakes();
}

bool uring_backend::take_wakes() noexcept {
    std::uint64_t count = 0;
    return ::read(wake_fd_, &count, sizeof count) > 0;
}

// A loop that has been embedded, in a turn that may block.
void uring_backend::wait_hosted(time_point until) noexcept {
    ring_.announce(true);
    ring_.enter(false, nullptr);
    if (!ring_.anything_left()) {
        timespec limit{};
        if (until != never) {
            const __kernel_timespec left = left_until(until);
            limit = {static_cast<time_t>(left.tv_sec), static_cast<long>(left.tv_nsec)};
        }
        pollfd ours{wake_fd_, POLLIN, 0};
        ::ppoll(&ours, 1, until != never ? &limit : nullptr, nullptr);
    }
    ring_.announce(false);
    woken_ |= take_wakes();
    ring_.enter(false, nullptr);
}

// As long as the kernel takes no entries, it cannot be asked to watch the eventfd, and who slept in the ring would not
// hear of a wake. It is so short of memory then that completions may come a little late.
void uring_backend::wait_unwatched(bool look_only) noexcept {
    ring_.enter(false, nullptr);
    watch_wake();
    const bool nothing_to_do = !look_only && !wake_watched_ && !ring_.anything_finished();
    pollfd wakes{wake_fd_, POLLIN, 0};
    if (::poll(&wakes, 1, nothing_to_do ? 1 : 0) > 0) woken_ |= take_wakes();
}

// Looking at a descriptor

void uring_backend::look_at_queued(completions& done) noexcept {
    for (record* last = table_.last(); last != nullptr && !done.full();) {
        record& r = table_.dequeue();
        look(r, done);
        if (&r == last) break;
    }
}

void uring_backend::look(record& r, completions& done) noexcept {
    for (std::uint16_t left = std::exchange(r.wanted, 0); left != 0; left &= left - 1)
        start(r, static_cast<std::uint16_t>(left & -left));
    for (io_op** slot : {&r.reader, &r.writer}) {
        io_op* what = *slot;
        if (what == nullptr) continue;
        if (done.full()) return table_.enqueue(r);
        std::int32_t result = would_block;
        if (what->state == op::cancelling) {
            if (!(r.kernel & (slot == &r.reader ? record::read : record::write))) result = ended(*what);
        } else if (slot == &r.reader && !(r.kernel & record::read) && !left_) {
            result = serve(r, *what);
        }
        if (result == would_block) continue;
        *slot = nullptr;
        if (slot == &r.writer) drop_block(r);
        report(*what, result, done);
    }
    if (!(r.bits & record::ending) || r.kernel != 0 || r.reader != nullptr || r.writer != nullptr) return;
    if (done.full()) return table_.enqueue(r);
    const int result = r.is_handed_over() ? hand_over(r) : release(r);
    if (io_op* const closer = std::exchange(r.closer, nullptr)) {
        report(*closer, result, done);
    } else {
        --reaping_;
        woken_ = true;
    }
}

// Completions

void uring_backend::on_completion(std::uint64_t data, std::int32_t result, unsigned flags, completions& done) noexcept {
    const auto what = static_cast<tag>(data & tag_mask);
    void* subject = reinterpret_cast<void*>(data & ~std::uint64_t{tag_mask});
    switch (what) {
        case own: return on_own(*static_cast<io_op*>(subject), result, done);
        case ring_fill:
        case heap_fill:
        case ready_fill: return on_fill(*static_cast<record*>(subject), what, result, flags, done);
        case taken: return on_take(*static_cast<record*>(subject), result, done);
        case stopped: return on_stopped(*static_cast<record*>(subject));
        case woken:
            woken_ = true;
            if (flags & IORING_CQE_F_MORE) return;
            wake_watched_ = false;
            if (!hosted_) watch_wake();
            return;
        default: return;
    }
}

void uring_backend::on_own(io_op& what, std::int32_t result, completions& done) noexcept {
    --in_kernel_;
    record& r = *table_.find(what.fd);
    const bool reading = is_reader(what.kind);
    io_op*& slot = reading ? r.reader : r.writer;
    if (slot != &what) [[unlikely]]  // a foreign poll whose number has a new owner, or soon will
        return report(what, result >= 0 && what.kind != io_kind::poll ? 0 : ended(what), done);
    const std::uint16_t request = reading ? record::read : record::write;
    r.kernel &= static_cast<std::uint16_t>(~request);
    // A cancel that never found an entry must not meet the next op.
    r.wanted &= static_cast<std::uint16_t>(~(reading ? record::stop_read : record::stop_write));
    const std::int32_t conclusion = conclude(r, what, result);
    if (conclusion == would_block) return start(r, request);
    slot = nullptr;
    if (!reading) drop_block(r);
    report(what, conclusion, done);
    if (r.bits & record::ending) table_.enqueue(r);
}

/// The result of the op, or would_block when it goes on.
std::int32_t uring_backend::conclude(record& r, io_op& what, std::int32_t result) noexcept {
    const bool cancelled = what.state == op::cancelling;
    if (result == -ECANCELED) return cancelled ? ended(what) : -EINTR;  // by whom, if not by us?
    if (result == -EINTR || result == -EAGAIN) return cancelled ? ended(what) : would_block;
    if (result == -EPIPE && !is_reader(what.kind)) return broken_pipe(r);
    if (result < 0) return result;
    if (r.is_file() && moves_bytes(what.kind)) return cancelled ? ended(what) : attempt_file(r, what);
    switch (what.kind) {
        case io_kind::receive: budget_.spend(static_cast<std::size_t>(result)); [[fallthrough]];
        case io_kind::send: {
            what.moved += static_cast<std::uint32_t>(result);
            const auto moved = static_cast<std::int32_t>(what.moved);
            if (!(what.flags & io_op::all) || left_to_move(what) == 0) return moved;
            if (result == 0 && what.kind == io_kind::receive) return moved;  // end of stream
            return cancelled ? ended(what) : would_block;
        }
        case io_kind::send_vector: {
            what.moved += static_cast<std::uint32_t>(result);
            r.block->cursor().advance(static_cast<std::size_t>(result));
            if (!(what.flags & io_op::all) || r.block->cursor().at_end()) return static_cast<std::int32_t>(what.moved);
            return cancelled ? ended(what) : would_block;
        }
        case io_kind::receive_datagrams:
        case io_kind::send_datagrams:
        case io_kind::receive_message:
        case io_kind::send_message:
        case io_kind::splice_in:
        case io_kind::splice_out: return cancelled ? ended(what) : attempt(r, what);
        case io_kind::borrow: return cancelled ? ended(what) : borrow_now(what);
        case io_kind::poll: {
            // Unlike poll(2), the kernel tells here unasked that the peer has ended its side.
            const std::int32_t there = poll_result(result, what.size);
            return there != 0 ? there : std::int32_t{poll_mask::error};
        }
        default: return 0;  // connect; a poll's result is its events
    }
}

// A socket tells its error once, and a receive of ours that nobody waits for may have been told.
std::int32_t uring_backend::broken_pipe(record& r) noexcept {
    if (r.ended >= 0 || r.ended == -ENOMEM) return -EPIPE;
    return std::exchange(r.ended, stream_end);
}

void uring_backend::on_fill(record& r, tag how, std::int32_t result, unsigned flags, completions& done) noexcept {
    if (!(flags & IORING_CQE_F_MORE)) {
        --in_kernel_;
        r.kernel &= static_cast<std::uint16_t>(~record::fill);
        r.wanted &= static_cast<std::uint16_t>(~record::stop_fill);
        r.bits &= static_cast<std::uint8_t>(~(record::from_ring | record::stopping));
    }
    chunk* buffer = nullptr;
    if (flags & IORING_CQE_F_BUFFER) {
        buffer = &buffers_.taken(static_cast<std::uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT));
    } else if (how == heap_fill) {
        buffer = std::exchange(r.filling, nullptr);
    }
    if (how == ready_fill) {
        if (result >= 0) r.bits |= record::data_there;
    } else if (result > 0 && buffer != nullptr) {
        buffer->begin = 0;
        buffer->end = static_cast<std::uint32_t>(result);
        store(r, *std::exchange(buffer, nullptr));
    } else if (result == 0) {
        r.ended = stream_end;
    } else if (result == -ENOBUFS && how == ring_fill) {
        r.bits |= record::data_there;
    } else if (result == -EINVAL && how == ring_fill && !(r.bits & record::one_shot)) {
        r.bits |= record::one_shot;
    } else if (result != -ECANCELED && result != -EINTR && result != -EAGAIN) {
        r.ended = result;
    }
    if (buffer != nullptr) recycle(*buffer);
    after(r, done);
    if (r.queued_bytes > most_queued_bytes && r.bits & record::from_ring && !(r.bits & record::ending)) {
        stop_filling(r);
    }
}

void uring_backend::on_take(record& r, std::int32_t result, completions& done) noexcept {
    --in_kernel_;
    r.kernel &= static_cast<std::uint16_t>(~record::take);
    if (result >= 0) {
        r.bits |= record::crowd;
        const bool too_late = r.bits & record::ending && !r.is_handed_over();
        r.accepted = too_late ? nullptr : forget(result, r.bits & record::with_rights);
        if (r.accepted == nullptr) refuse_connection(result);  // too late, or no memory to remember it
    } else if (result != -ECANCELED && result != -EAGAIN && r.reader != nullptr && r.reader->state == op::armed) {
        io_op& what = *r.reader;
        if (!accept_is_transient(-result) || ++what.moved == accept_patience) {
            r.reader = nullptr;
            report(what, result, done);
        }
    }
    after(r, done);
}

/// A request of ours has brought something, or ended.
void uring_backend::after(record& r, completions& done) noexcept {
    if (r.bits & record::ending) return table_.enqueue(r);
    if (r.reader == nullptr || r.reader->state != op::armed) return;
    const std::int32_t result = serve(r, *r.reader);
    if (result == would_block) return drive(r);
    report(*std::exchange(r.reader, nullptr), result, done);
}

void uring_backend::report(io_op& what, std::int32_t result, completions& done) noexcept {
    --armed_;
    done.report(what, result);
}

}  // namespace rondo::detail::uring
