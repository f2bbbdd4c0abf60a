// How this backend uses io_uring, and why.
//
// Two kinds of requests are in the kernel. Some belong to an op: a send, a connect, a poll, a
// receive into the caller's buffer. Their user_data is the op, and the op is reported no earlier
// than their last completion: until then the kernel may write into the buffer. Cancelling one only
// *submits* a cancel; the request's own completion decides what happened (a cancelled receive may
// well come back with 40 bytes).
//
// The others belong to the descriptor's record: one accept, or one receive at a time into buffers of
// ours. They outlive the ops they were started for. What they bring is queued in the record and
// whoever asks next is served from there, so such an op is cancelled on the spot and nothing is lost
// by it. The queue of bytes is bounded: past the bound the request is cancelled, and started again
// when the queue has been drained. What the kernel brings meanwhile is kept all the same; after that
// TCP pushes back.
//
// Accepting is never multishot: that takes a whole backlog in one go, however long, and a server at
// its limit would hold descriptors of clients it does not serve. One connection is the most that is
// ever held. A burst costs little more: after a success the next accept is a plain accept4(2).
//
// A receive of ours is, in this order of preference,
//   ring     a multishot receive: the kernel takes a buffer from a ring when data arrives. When the
//            ring is empty it ends with ENOBUFS.
//   heap     one receive into a buffer from malloc: used when data is known to be there and the
//            ring is empty, so no connection ever waits for another's buffer.
//   ready    one poll: used to find out about the data, so that a connection that merely waits does
//            not occupy a buffer from malloc.
// Never two: their bytes could arrive in either order. That is also why a plain receive, on a
// descriptor that has such a request, waits for it and copies.
//
// Inside another loop: with DEFER_TASKRUN the ring's descriptor does not wake a poll(2) that is
// blocked already, since what happened becomes a completion only when we enter. A registered eventfd
// hears of such work at once. It is the one that `wake` writes to, so one descriptor tells the host of
// both; the ring must then not poll it itself, or each completion would cause the next. The kernel is
// kept silent (by a flag in the ring) from when `wait` begins until `flush`: what comes in between is
// seen anyway.
//
// close(2) does not end requests: the kernel keeps the file alive for them, the peer sees no FIN,
// and later bytes are still written. So closing cancels by descriptor, waits for every last
// completion, and then closes. Until then the record, and the number, stay in use.
//
// Every action that needs a submission entry may be short of one. It is then noted in the record
// (`wanted`) and done by the next `wait`; a cancel therefore cannot fail.
#include "uring.hpp"

#include "backend.hpp"

#include <rondo/base/detail/pool.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace rondo::detail {
namespace uring {

bool uring_backend::open(const backend_options& options, std::string& why) {
    if (wake_fd_ < 0) return why = explain("eventfd", errno), false;
    if (!ring_.open(options.ring_entries, why)) return false;
    buffers_.open(ring_.handle(), options.receive_buffer_count, heap_.size());
    return true;
}

// Nothing may be freed that the kernel could still write to: every request is cancelled and its
// end awaited. If the kernel does not let go in a second, its memory is leaked on purpose.
uring_backend::~uring_backend() {
    if (forked()) {  // the requests are the parent's
        drop_all();
        return;
    }
    if (in_kernel_ > 0) {
        if (io_uring_sqe* sqe = ring_.entry()) {
            io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
            io_uring_sqe_set_data64(sqe, tag_mask);
        }
        const time_point limit = now() + std::chrono::seconds(1);
        while (in_kernel_ > 0 && now() < limit) {
            __kernel_timespec pause{0, 10'000'000};
            ring_.enter(true, &pause);
            ring_.reap([&](std::uint64_t data, std::int32_t result, unsigned flags) {
                const auto what = static_cast<tag>(data & tag_mask);
                if (what == taken && result >= 0) ::close(result);
                if (what <= taken && !(flags & IORING_CQE_F_MORE)) --in_kernel_;
                return true;
            });
        }
    }
    RONDO_ASSERT(lent_ == 0, "a received buffer outlives its loop");
    if (in_kernel_ > 0) {
        buffers_.abandon();
        return;
    }
    drop_all();
}

void uring_backend::drop_all() noexcept {
    table_.for_each([&](record& r) {
        drop_content(r);
        drop_block(r);
    });
}

bool uring_backend::submit(io_op& what) noexcept {
    record* r = table_.get(what.fd);
    if (r == nullptr) [[unlikely]]
        return finish(what, table_.why_none(what.fd));
    if (r->bits & record::ending) [[unlikely]]
        return finish(what, -EBADF);
    r->fd = what.fd;
    what.moved = 0;
    if (what.kind == io_kind::close) return submit_close(*r, what);
    return is_reader(what.kind) ? submit_read(*r, what) : submit_write(*r, what);
}

bool uring_backend::submit_read(record& r, io_op& what) noexcept {
    if (what.kind == io_kind::receive && what.size == 0) return finish(what, 0);
    if (r.reader != nullptr) return finish(what, -EBUSY);
    std::int32_t result = serve(r, what);
    if (result == would_block && what.kind == io_kind::accept) result = try_accept(r);
    if (result != would_block) return finish(what, result);
    r.reader = &what;
    park(what);
    drive(r);
    return false;
}

bool uring_backend::submit_write(record& r, io_op& what) noexcept {
    const bool vector = what.kind == io_kind::send_vector;
    if ((what.kind == io_kind::send || vector) && what.size == 0) return finish(what, 0);
    if (r.writer != nullptr) return finish(what, -EBUSY);
    if (vector || what.kind == io_kind::connect) {
        const std::uint32_t spans = vector ? what.size : 0;
        try {
            r.block = new (frame_allocate(writer_block::bytes(spans))) writer_block(spans);
        } catch (const std::bad_alloc&) {
            return finish(what, -ENOMEM);
        }
        if (vector) {
            new (r.block->cursor_memory) span_cursor(what);
            if (r.block->cursor().at_end()) return drop_block(r), finish(what, 0);
        } else {
            r.block->to = socket_address(*static_cast<const raw_address*>(what.data));
        }
    }
    r.writer = &what;
    park(what);
    start(r, record::write);
    return false;
}

bool uring_backend::submit_close(record& r, io_op& what) noexcept {
    r.wanted = 0;
    if (r.kernel == 0 && r.reader == nullptr && r.writer == nullptr)
        return finish(what, release(r));
    begin_close(r);
    r.closer = &what;
    return park(what);
}

void uring_backend::begin_close(record& r) noexcept {
    for (io_op* each : {r.reader, r.writer}) {
        if (each == nullptr || each->state != op::armed) continue;
        each->flags |= io_op::closing;
        each->state = op::cancelling;
    }
    r.bits |= record::ending;
    if (r.kernel != 0) start(r, record::stop_all);
    table_.enqueue(r);  // ops that have nothing in the kernel
}

void uring_backend::reap(int fd) noexcept {
    record* const r = table_.find(fd);
    if (r == nullptr) {  // no op was ever submitted for it
        ::close(fd);
        return;
    }
    if (r->bits & record::ending) return;
    r->fd = fd;
    r->wanted = 0;
    if (r->kernel == 0 && r->reader == nullptr && r->writer == nullptr) {
        release(*r);
    } else {
        begin_close(*r);
        ++reaping_;
    }
}

void uring_backend::cancel(io_op& what) noexcept {
    if (what.state != op::armed || what.kind == io_kind::close) return;
    what.state = op::cancelling;
    record& r = *table_.find(what.fd);
    const bool reading = is_reader(what.kind);
    const std::uint16_t request = reading ? record::read : record::write;
    r.wanted &= static_cast<std::uint16_t>(~request);
    if (r.kernel & request) {
        start(r, reading ? record::stop_read : record::stop_write);
    } else {
        table_.enqueue(r);
    }
}

int uring_backend::control(sys_op& what) noexcept {
    record* r = table_.find(what.fd);
    switch (what.what) {
        case sys_op::call::close:
            if (r == nullptr) return call(what);
            RONDO_ASSERT(r->kernel == 0, "closed under a waiting operation");
            r->fd = what.fd;
            return release(*r);
        case sys_op::call::try_send:
            if (r != nullptr && r->writer != nullptr) return -EAGAIN;  // bytes must not interleave
            if (const int result = call(what); result != -EPIPE || r == nullptr) return result;
            return broken_pipe(*r);
        case sys_op::call::try_receive: {
            if (r == nullptr) return call(what);
            if (r->reader != nullptr) return -EAGAIN;
            static constexpr op_vtable none{nullptr, nullptr, nullptr};
            io_op receive(none, io_kind::receive, what.fd);
            receive.data = what.data;
            receive.size = static_cast<std::uint32_t>(std::min<std::size_t>(what.size, INT32_MAX));
            const std::int32_t result = receive.size > 0 ? serve(*r, receive) : 0;
            if (result != would_block) return result;
            // Bytes a request of ours has taken, and not told us of, come before any others.
            return r->is(record::fill) ? -EAGAIN : call(what);
        }
        case sys_op::call::tcp_socket: {
            const int fd = call(what);
            if (fd >= 0) forget(fd);
            return fd;
        }
        case sys_op::call::stream_pair: {
            const int result = call(what);
            if (result == 0)
                for (const int fd : what.fds) forget(fd);
            return result;
        }
        default: return call(what);
    }
}

void uring_backend::give_back(void* data, std::uint32_t, std::uint16_t buffer) noexcept {
    if (data == nullptr) return;
    if (buffer == chunk::heap) {
        heap_.give_back(data);
    } else {
        --lent_;
        buffers_.give_back(buffers_.at(buffer));
    }
}

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
        const bool look_only =
            done.size() > 0 || woken_ || !table_.idle() || ring_.anything_finished();
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

std::string uring_backend::describe() const {
    std::string text = "io_uring, " + std::to_string(ring_.entries()) + " entries";
    if (buffers_.count() > 0) {
        text += ", " + std::to_string(buffers_.count()) + " receive buffers of " +
                std::to_string(heap_.size()) + " bytes";
    } else {
        text += ", no buffer ring";
    }
    return text + ", " + std::to_string(ring_.overflows()) + " overflows";
}

// What a descriptor has in store

std::int32_t uring_backend::serve(record& r, io_op& what) noexcept {
    switch (what.kind) {
        case io_kind::borrow: return serve_borrow(r, what);
        case io_kind::receive: return serve_receive(r, what);
        case io_kind::accept: return r.accepted ? serve_accept(r) : would_block;
        default: return r.first || r.ended || r.accepted ? 0 : would_block;
    }
}

std::int32_t uring_backend::serve_receive(record& r, io_op& what) noexcept {
    while (r.first != nullptr && left_to_move(what) > 0) {
        chunk& from = *r.first;
        const std::uint32_t n = std::min(from.size(), left_to_move(what));
        std::memcpy(static_cast<std::byte*>(what.data) + what.moved, from.data + from.begin, n);
        what.moved += n;
        if (n == from.size()) {
            recycle(unstore(r));
        } else {
            from.begin += n;
            r.queued_bytes -= n;
        }
    }
    const auto moved = static_cast<std::int32_t>(what.moved);
    if (left_to_move(what) == 0 || (moved > 0 && !(what.flags & io_op::all))) return moved;
    if (r.ended == 0) return would_block;
    const std::int32_t result = std::exchange(r.ended, 0);
    return result == stream_end ? moved : result;
}

std::int32_t uring_backend::serve_borrow(record& r, io_op& what) noexcept {
    what.data = nullptr;
    what.size = 0;
    if (r.first != nullptr) {
        chunk& from = unstore(r);
        // A buffer from malloc is known by its address when it is given back.
        if (from.id == chunk::heap && from.begin > 0)
            std::memmove(from.data, from.data + from.begin, from.size());
        what.data = from.id == chunk::heap ? from.data : from.data + from.begin;
        what.size = from.size();
        what.buffer = from.id;
        lent_ += from.id != chunk::heap;
        return static_cast<std::int32_t>(what.size);
    }
    if (r.ended == 0) return would_block;
    const std::int32_t result = std::exchange(r.ended, 0);
    return result == stream_end ? 0 : result;
}

std::int32_t uring_backend::serve_accept(record& r) noexcept {
    return std::exchange(r.accepted, nullptr)->fd;
}

// A client seldom comes alone: those right behind it need no trip through the ring. Whatever the
// error is, the request for the next one meets it as well.
std::int32_t uring_backend::try_accept(record& r) noexcept {
    if (!(r.bits & record::crowd) || r.is(record::take)) return would_block;
    const int fd = ::accept4(r.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0 && forget(fd) != nullptr) return fd;
    r.bits &= static_cast<std::uint8_t>(~record::crowd);
    if (fd < 0) return would_block;
    refuse_connection(fd);
    return -ENOMEM;
}

void uring_backend::store(record& r, chunk& received) noexcept {
    received.next = nullptr;
    (r.first != nullptr ? r.last->next : r.first) = &received;
    r.last = &received;
    r.queued_bytes += received.size();
}

chunk& uring_backend::unstore(record& r) noexcept {
    chunk& oldest = *r.first;
    r.first = oldest.next;
    r.queued_bytes -= oldest.size();
    return oldest;
}

void uring_backend::recycle(chunk& back) noexcept {
    if (back.id == chunk::heap) {
        heap_.give_back(back);
    } else {
        buffers_.give_back(back);
    }
}

// A number fresh from the kernel. An op on record is a poll on a foreign descriptor that was closed
// under it; it ends when its request, which keeps the old file, does.
record* uring_backend::forget(int fd) noexcept {
    record* r = table_.get(fd);
    if (r == nullptr) return nullptr;
    for (io_op** slot : {&r->reader, &r->writer}) {
        io_op* left = std::exchange(*slot, nullptr);
        if (left == nullptr) continue;
        left->flags |= io_op::closing;
        left->state = op::cancelling;
        if (io_uring_sqe* sqe = ring_.entry()) stop(*sqe, *r, user_data(left, own));
    }
    RONDO_ASSERT(!r->is(record::fill | record::take), "a descriptor was closed behind its owner");
    r->kernel = r->wanted = 0;
    r->bits = 0;
    r->ended = 0;
    r->fd = fd;
    return r;
}

// A connection that nobody has asked for is refused; by a forked child only closed, for it is the parent's to serve.
void uring_backend::drop_content(record& r) noexcept {
    while (r.first != nullptr) recycle(unstore(r));
    if (r.accepted != nullptr) forked() ? static_cast<void>(::close(serve_accept(r))) : refuse_connection(serve_accept(r));
    if (r.filling != nullptr) heap_.give_back(*std::exchange(r.filling, nullptr));
}

int uring_backend::release(record& r) noexcept {
    drop_content(r);
    r.bits = 0;
    r.ended = 0;
    r.wanted = 0;
    // Linux frees the number before anything can interrupt: EINTR is no reason to try again.
    return ::close(r.fd) < 0 && errno != EINTR ? -errno : 0;
}

void uring_backend::drop_block(record& r) noexcept {
    if (r.block == nullptr) return;
    frame_deallocate(r.block, writer_block::bytes(r.block->pieces));
    r.block = nullptr;
}

// Completions

void uring_backend::on_completion(std::uint64_t data, std::int32_t result, unsigned flags,
                                  completions& done) noexcept {
    const auto what = static_cast<tag>(data & tag_mask);
    void* subject = reinterpret_cast<void*>(data & ~std::uint64_t{tag_mask});
    switch (what) {
        case own: return on_own(*static_cast<io_op*>(subject), result, done);
        case ring_fill:
        case heap_fill:
        case ready_fill:
            return on_fill(*static_cast<record*>(subject), what, result, flags, done);
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
    if (slot != &what) [[unlikely]]  // a foreign poll whose number has a new owner
        return report(what, result >= 0 ? 0 : ended(what), done);
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
            if (!(what.flags & io_op::all) || r.block->cursor().at_end())
                return static_cast<std::int32_t>(what.moved);
            return cancelled ? ended(what) : would_block;
        }
        default: return 0;  // connect; a poll's result is its events
    }
}

// A socket tells its error once, and a receive of ours that nobody waits for may have been told.
std::int32_t uring_backend::broken_pipe(record& r) noexcept {
    if (r.ended >= 0 || r.ended == -ENOMEM) return -EPIPE;
    return std::exchange(r.ended, stream_end);
}

void uring_backend::on_fill(record& r, tag how, std::int32_t result, unsigned flags,
                            completions& done) noexcept {
    if (!(flags & IORING_CQE_F_MORE)) {
        --in_kernel_;
        r.kernel &= static_cast<std::uint16_t>(~record::fill);
        r.wanted &= static_cast<std::uint16_t>(~record::stop_fill);
        r.bits &= static_cast<std::uint8_t>(~(record::from_ring));
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
        r.bits &= static_cast<std::uint8_t>(~record::from_ring);  // asked for
        start(r, record::stop_fill);
    }
}

void uring_backend::on_take(record& r, std::int32_t result, completions& done) noexcept {
    --in_kernel_;
    r.kernel &= static_cast<std::uint16_t>(~record::take);
    if (result >= 0) {
        r.bits |= record::crowd;
        r.accepted = r.bits & record::ending ? nullptr : forget(result);
        if (r.accepted == nullptr) refuse_connection(result);  // too late, or no memory to remember it
    } else if (result != -ECANCELED && result != -EAGAIN && r.reader != nullptr &&
               r.reader->state == op::armed) {
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

// The poll phase

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
            if (!(r.kernel & (slot == &r.reader ? record::read : record::write)))
                result = ended(*what);
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
    const int result = release(r);
    if (io_op* const closer = std::exchange(r.closer, nullptr)) {
        report(*closer, result, done);
    } else {
        --reaping_;
        woken_ = true;
    }
}

}  // namespace uring

std::unique_ptr<backend> make_uring(const backend_options& options, std::string& why) {
    auto made = std::make_unique<uring::uring_backend>(options);
    if (!made->open(options, why)) return nullptr;
    return made;
}

}  // namespace rondo::detail
