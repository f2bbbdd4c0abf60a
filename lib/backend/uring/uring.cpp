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
// A Unix socket is an exception: with its bytes descriptors may come, which whoever reads these bytes must get, or
// which end there. So nothing is read ahead; a borrow polls, and then reads by a plain call.
//
// Datagrams and messages, and the bytes of pipes, terminals and files, are moved by plain calls, and the ring is asked
// for a poll when these would have to wait (datagrams.hpp, messages.hpp, file_bytes.hpp).
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

#include "backend/datagrams.hpp"
#include "backend/messages.hpp"
#include "backend/splices.hpp"

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
    static_assert(io_kind::receive_datagrams > io_kind::close && io_kind::send_datagrams > io_kind::close &&
                  io_kind::receive_message > io_kind::close && io_kind::send_message > io_kind::close &&
                  io_kind::splice_in > io_kind::close && io_kind::splice_out > io_kind::close &&
                  io_kind::close > io_kind::poll);
    if (what.kind >= io_kind::close)
        return what.kind == io_kind::close ? submit_close(*r, what) : submit_plain(*r, what);
    if (r->is_file() && moves_bytes(what.kind)) return submit_file(*r, what);
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

// Datagrams and messages are moved by plain calls, and so is what is spliced. The ring is asked for nothing but a poll
// when these would have to wait: then no datagram, no descriptor, and no pipe is ever in the hands of a request that is
// cancelled.
bool uring_backend::submit_plain(record& r, io_op& what) noexcept {
    const bool reading = is_reader(what.kind);
    io_op*& slot = reading ? r.reader : r.writer;
    if (slot != nullptr) return finish(what, -EBUSY);
    std::int32_t result = would_block;
    bool in_the_way = false;
    if (what.kind == io_kind::splice_in) {
        result = make_way(r);
        in_the_way = result == would_block && r.is(record::fill);
    }
    const bool hopeless = in_the_way || (reading && r.bits & record::dry);
    if (result == would_block && !hopeless && !must_wait_a_turn(what)) result = attempt(r, what);
    if (result != would_block) return finish(what, result);
    slot = &what;
    park(what);
    if (!in_the_way) start(r, reading ? record::read : record::write);
    return false;
}

bool uring_backend::must_wait_a_turn(const io_op& what) const noexcept {
    if (!budget_.spent()) return false;
    switch (what.kind) {
        case io_kind::splice_in:
        case io_kind::splice_out: return what.size > byte_budget::small;
        case io_kind::receive_message:
        case io_kind::send_message: return !message_is_small(what);
        default: return !moves_little(what);
    }
}

/// A receive of ours must not take what is to be spliced. 0: it has taken something already, which comes first; then
/// the next ones are received until nothing of it is left. would_block: it has not, and if it is still there, its end,
/// which has been asked for or will come when there is data, lets the splice go on.
std::int32_t uring_backend::make_way(record& r) noexcept {
    r.wanted &= static_cast<std::uint16_t>(~record::fill);
    if (r.kernel & record::fill && r.bits & record::from_ring) stop_filling(r);
    return r.first != nullptr || r.ended != 0 ? 0 : would_block;
}

/// One that is out of its share polls, too: it is told at once, in the next turn.
std::int32_t uring_backend::attempt(record& r, io_op& what) noexcept {
    switch (what.kind) {
        case io_kind::receive_datagrams: {
            bool emptied = false;
            const std::int32_t result = receive_datagrams(what, budget_, emptied);
            r.bits &= static_cast<std::uint8_t>(~record::dry);
            if (emptied) r.bits |= record::dry;
            return result;
        }
        case io_kind::splice_in: {
            const std::int64_t most = budget_.portion(what.size);
            const std::int32_t result = splice_in(what, budget_, pipes_);
            // Less than it would have taken: most likely that was all, and the next one asks first.
            r.bits &= static_cast<std::uint8_t>(~record::dry);
            if (result > 0 && result < most) r.bits |= record::dry;
            // Told that there is something, by a poll, and yet there is nothing that can be spliced.
            return result == would_block && what.pending() ? 0 : result;
        }
        case io_kind::splice_out: {
            const std::int32_t result = splice_out(what, budget_);
            return result == -EPIPE ? broken_pipe(r) : result;
        }
        case io_kind::receive_message: return take_message(what);
        case io_kind::send_message: {
            const std::int32_t result = send_message(what, budget_);
            return result == out_of_share ? would_block : result;
        }
        default: {
            const std::int32_t result = send_datagrams(what, budget_);
            return result == out_of_share ? would_block : result;
        }
    }
}

// Pipes, terminals and files likewise: see file_bytes.hpp.
bool uring_backend::submit_file(record& r, io_op& what) noexcept {
    const bool reading = is_reader(what.kind);
    io_op*& slot = reading ? r.reader : r.writer;
    if (what.kind != io_kind::borrow && what.size == 0) return finish(what, 0);
    if (slot != nullptr) return finish(what, -EBUSY);
    const std::int32_t result = attempt_file(r, what);
    if (result != would_block) return finish(what, result);
    slot = &what;
    park(what);
    start(r, reading ? record::read : record::write);
    return false;
}

std::int32_t uring_backend::attempt_file(record& r, io_op& what) noexcept {
    const std::int32_t result = move_file_bytes(what, r.kind, budget_, heap_);
    return result == out_of_share ? would_block : result;
}

std::int32_t uring_backend::take_message(io_op& what) noexcept {
    return receive_message(what, budget_, [this](int fd) { return forget(fd) != nullptr; });
}

/// Reads into a buffer from malloc, after a poll.
std::int32_t uring_backend::borrow_now(io_op& what) noexcept {
    what.data = nullptr;
    what.size = 0;
    chunk* const taken = heap_.take();
    if (taken == nullptr) return -ENOMEM;
    ssize_t n;
    do {
        n = ::recv(what.fd, taken->data, budget_.portion(heap_.size()), MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        what.data = taken->data;
        what.size = static_cast<std::uint32_t>(n);
        what.buffer = chunk::heap;
        budget_.spend(what.size);
        return static_cast<std::int32_t>(n);
    }
    const int error = n < 0 ? errno : 0;
    heap_.give_back(*taken);
    return error == EAGAIN ? would_block : -error;
}

bool uring_backend::submit_close(record& r, io_op& what) noexcept {
    const bool in_use = r.reader != nullptr || r.writer != nullptr;
    if (what.flags & io_op::hand_over && in_use) return finish(what, -EBUSY);
    r.wanted = 0;
    if (r.kernel == 0 && !in_use) return finish(what, what.flags & io_op::hand_over ? hand_over(r) : release(r));
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
            if (r != nullptr && r->is_file()) return try_file_bytes(what, r->kind, budget_);
            if (const int result = call(what); result != -EPIPE || r == nullptr) return result;
            return broken_pipe(*r);
        case sys_op::call::try_receive: {
            if (r == nullptr) return call(what);
            if (r->reader != nullptr) return -EAGAIN;
            if (r->is_file()) return try_file_bytes(what, r->kind, budget_);
            static constexpr op_vtable none{nullptr, nullptr, nullptr};
            io_op receive(none, io_kind::receive, what.fd);
            receive.data = what.data;
            receive.size = static_cast<std::uint32_t>(std::min<std::size_t>(what.size, INT32_MAX));
            const std::int32_t result = receive.size > 0 ? serve(*r, receive) : 0;
            if (result != would_block) return result;
            // Bytes a request of ours has taken, and not told us of, come before any others.
            return r->is(record::fill) ? -EAGAIN : call(what);
        }
        case sys_op::call::try_send_datagrams:
            if (r != nullptr && r->writer != nullptr) return -EAGAIN;
            return call(what);
        case sys_op::call::try_receive_datagrams:
            if (r != nullptr && r->reader != nullptr) return -EAGAIN;
            return call(what);
        case sys_op::call::try_send_message: {
            if (r != nullptr && r->writer != nullptr) return -EAGAIN;
            io_op op = message_op(what);
            return message_answer(send_message(op, budget_), op);
        }
        case sys_op::call::try_receive_message: {
            if (r != nullptr && r->reader != nullptr) return -EAGAIN;
            io_op op = message_op(what);
            return message_answer(take_message(op), op);
        }
        case sys_op::call::udp_socket:
        case sys_op::call::tcp_socket: {
            const int fd = call(what);
            if (fd >= 0) forget(fd);
            return fd;
        }
        case sys_op::call::unix_socket: {
            const int fd = call(what);
            if (fd >= 0) forget(fd, record::with_rights);
            return fd;
        }
        case sys_op::call::stream_pair: {
            const int result = call(what);
            if (result == 0)
                for (const int fd : what.fds) forget(fd, record::with_rights);
            return result;
        }
        case sys_op::call::watch_clock: {
            const int result = call(what);
            if (result >= 0 && what.fd < 0) forget(result);
            return result;
        }
        case sys_op::call::unwatch:
            if (r != nullptr && !(r->bits & record::ending)) unwatch(*r);
            return 0;
        case sys_op::call::adopt: {
            const auto in_use = [](const record& of) {
                return of.reader || of.writer || of.kernel != 0 || of.wanted != 0 || of.bits & record::ending;
            };
            if (r != nullptr && in_use(*r)) return -EBUSY;
            if (table_.get(what.fd) == nullptr) return table_.why_none(what.fd);
            const int result = call(what);
            if (result >= 0) forget(what.fd, what.name != 0 ? record::with_rights : 0);  // there is a record of it
            return result;
        }
        default: return makes_files(what.what) ? make_files(what) : call(what);
    }
}

int uring_backend::make_files(sys_op& what) noexcept {
    if (what.what == sys_op::call::adopt_pipe) {
        const record* const r = table_.get(what.fd);
        if (r == nullptr) return table_.why_none(what.fd);
        if (r->reader || r->writer || r->kernel != 0 || r->wanted != 0 || r->bits & record::ending) return -EBUSY;
    }
    return keep_files(what, call(what), [this](int fd, file_kind kind) { return forget(fd, 0, kind) != nullptr; });
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

std::string uring_backend::describe() const {
    std::string text = "io_uring, " + std::to_string(ring_.entries()) + " entries";
    if (buffers_.count() > 0) {
        text +=
            ", " + std::to_string(buffers_.count()) + " receive buffers of " + std::to_string(heap_.size()) + " bytes";
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
        case io_kind::poll: {
            const bool here = r.first || r.ended || r.accepted;
            return here && what.size & poll_mask::in ? std::int32_t{poll_mask::in} : would_block;
        }
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
        if (from.id == chunk::heap && from.begin > 0) std::memmove(from.data, from.data + from.begin, from.size());
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

std::int32_t uring_backend::serve_accept(record& r) noexcept { return std::exchange(r.accepted, nullptr)->fd; }

// A client seldom comes alone: those right behind it need no trip through the ring. Whatever the
// error is, the request for the next one meets it as well.
std::int32_t uring_backend::try_accept(record& r) noexcept {
    if (!(r.bits & record::crowd) || r.is(record::take)) return would_block;
    const int fd = ::accept4(r.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0 && forget(fd, r.bits & record::with_rights) != nullptr) return fd;
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
record* uring_backend::forget(int fd, std::uint8_t bits, file_kind kind) noexcept {
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
    r->bits = bits;
    r->kind = kind;
    r->ended = 0;
    r->fd = fd;
    return r;
}

// As in forget(), the op leaves its place, which a new owner of the number may want, before its request has ended.
void uring_backend::unwatch(record& r) noexcept {
    for (io_op** slot : {&r.reader, &r.writer}) {
        io_op* const left = *slot;
        if (left == nullptr || !(left->flags & io_op::foreign) || left->state == op::idle) continue;
        const std::uint16_t request = slot == &r.reader ? record::read : record::write;
        left->flags |= io_op::closing;
        io_uring_sqe* const sqe = r.kernel & request && !left_ ? ring_.entry() : nullptr;
        if (sqe == nullptr) {  // there is no request, or for the moment no way to reach it
            cancel(*left);
            continue;
        }
        left->state = op::cancelling;
        stop(*sqe, r, user_data(left, own));
        r.kernel &= static_cast<std::uint16_t>(~request);
        r.wanted &= static_cast<std::uint16_t>(~(request == record::read ? record::stop_read : record::stop_write));
        *slot = nullptr;
    }
}

// A connection that nobody has asked for is refused; by a forked child only closed, for it is the parent's to serve.
void uring_backend::drop_content(record& r) noexcept {
    while (r.first != nullptr) recycle(unstore(r));
    if (r.accepted != nullptr) {
        const int fd = serve_accept(r);
        forked() ? static_cast<void>(::close(fd)) : refuse_connection(fd);
    }
    if (r.filling != nullptr) heap_.give_back(*std::exchange(r.filling, nullptr));
}

/// Lets go of a descriptor without closing it, if nothing that came from it is here.
int uring_backend::hand_over(record& r) noexcept {
    r.bits &= static_cast<std::uint8_t>(~record::ending);
    if (r.first != nullptr || r.accepted != nullptr || r.ended < 0) return -EAGAIN;
    drop_content(r);
    r.bits = 0;
    r.kind = file_kind::none;
    r.ended = 0;  // the kernel says it again
    r.wanted = 0;
    return 0;
}

int uring_backend::release(record& r) noexcept {
    drop_content(r);
    r.bits = 0;
    r.kind = file_kind::none;
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

}  // namespace uring

std::unique_ptr<backend> make_uring(const backend_options& options, std::string& why) {
    auto made = std::make_unique<uring::uring_backend>(options);
    if (!made->open(options, why)) return nullptr;
    return made;
}

}  // namespace rondo::detail
