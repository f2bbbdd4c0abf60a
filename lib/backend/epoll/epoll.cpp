// How this backend uses epoll, and why.
//
// Level-triggered, epoll keeps saying what we know; one-shot, every wait costs an epoll_ctl (0.3 us,
// and 1.2 us for a DEL and an ADD). So a descriptor is registered once, when an op first has to
// wait on it, for both directions and edge-triggered, and from then on the record remembers what
// the edges said:
//
//   `dry`   reading would find nothing. Set when recv answers EAGAIN, or, on `plain` TCP, fewer bytes
//           than asked: then the queue was emptied, and whatever comes later is an edge. It saves
//           the EAGAIN of every request-response exchange (0.2 us). What else makes recv stop short:
//             - An urgent byte: recv stops in front of it, whatever lies behind, and perhaps nothing
//               ever comes again. The second witness is EPOLLPRI. The kernel sets it before it queues
//               the byte, so either the event that made us read has it, or the byte came after
//               that event and is an edge of its own, which has it. A socket that has shown it once
//               is read until EAGAIN from then on.
//             - The end of the stream, and a reset: see `hung`.
//             - Something on top of TCP, or another kind of socket (kTLS hands out records, a Unix
//               socket stops at each message that carries descriptors). The sockets made here are
//               none; of others the kernel is asked when they first wait. They are read until EAGAIN.
//           On `udp`, fewer datagrams than asked for say the same. An error behind them, which the kernel keeps
//           for the next call, is an edge of its own as well (EPOLLERR, hence `hung`).
//           SO_RCVLOWAT, if someone has set it, is no reason: what is below that mark is not
//           readable for poll(2) either, and waits until there is more, or the end.
//   `full`  writing would find no room. Set by EAGAIN or a short write, which also make the kernel
//           announce the room to come. A new send tries all the same: it almost always succeeds.
//   `hung`  the peer is done (RDHUP), or the connection is (HUP, ERR). No edge will ever announce
//           the end of the stream again, so a short read no longer means `dry`.
//
// An op that has had its share of bytes (byte_budget), while the socket could go on, leaves both bits
// alone: its record is queued, and the next wait, which then does not block, goes on with it.
//
// An edge cannot be lost between a recv that emptied the queue and the op that parks behind it:
// the edge is kept in epoll's own list until epoll_wait takes it, and we take none in between.
//
// Pipes, terminals and files (`file`) are read and written until EAGAIN: there a short read says nothing. How, and what
// may be done with those that others share, is in file_bytes.hpp. Files on a disk cannot be registered (EPERM), and
// never say EAGAIN; they only wait for their turn, queued.
//
// Foreign descriptors (poll_* for someone else's library) get none of that: we do not see its
// reads, so only the kernel knows the level. Theirs is a one-shot, level-triggered registration,
// renewed by MOD for each wait. Regular files cannot be registered at all (EPERM) and are always
// ready, as poll(2) has it; which is asked, since a filter may say EPERM, too.
//
// A closed descriptor leaves epoll only when nobody else holds its file: a dup or a forked child
// keeps the registration alive, and its events would arrive for whoever got the number next. So
// close says EPOLL_CTL_DEL first, and every registration carries a generation besides.
#include "epoll.hpp"

#include "backend.hpp"

#include "backend/messages.hpp"

#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

namespace rondo::detail {
namespace epoll {

/// The outcome of a borrow without a buffer.
static std::int32_t lend_nothing(io_op& what, std::int32_t result) noexcept {
    what.data = nullptr;
    what.size = 0;
    return result;
}

constexpr auto read_events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
constexpr auto write_events = EPOLLOUT | EPOLLHUP | EPOLLERR;

bool epoll_backend::open(std::string& why) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) return why = explain("epoll_create1", errno), false;
    if (wake_fd_ < 0) return why = explain("eventfd", errno), false;
    // Edge-triggered: the counter need not be read for the next write to be an event.
    wake_record_ = table_.get(wake_fd_);
    if (wake_record_ == nullptr) return why = explain("mmap", ENOMEM), false;
    epoll_event event{EPOLLIN | EPOLLET, {.u64 = mark_of(*wake_record_)}};
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_fd_, &event) < 0) return why = explain("epoll_ctl", errno), false;
    return true;
}

// What a busy server does all day comes first: a read that would find nothing only leaves its name,
// and a write is tried. Both are kept free of what the other cases need.
bool epoll_backend::submit(io_op& what) noexcept {
    record& r = table_.look_up(what.fd);
    if (what.kind == io_kind::borrow) {
        constexpr auto mask = record::dry | record::registered | record::foreign | record::ending;
        if ((r.bits & mask) == (record::dry | record::registered) && r.reader == nullptr) [[likely]] {
            r.reader = &what;
            return park(what);
        }
    } else if (what.kind == io_kind::send) {
        constexpr auto mask = record::foreign | record::ending | record::file;
        // Not empty, and small.
        if (!(r.bits & mask) && r.writer == nullptr && what.size - 1 < byte_budget::small) [[likely]]
            return submit_send(what);
    }
    return submit_any(what);
}

bool epoll_backend::submit_send(io_op& what) noexcept {
    const ssize_t n = ::send(what.fd, what.data, what.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n != static_cast<ssize_t>(what.size)) [[unlikely]]
        return send_the_rest(what, n);
    what.moved = what.size;
    return finish(what, static_cast<std::int32_t>(n));
}

bool epoll_backend::send_the_rest(io_op& what, ssize_t n) noexcept {
    // A second try would find less: the first has used the socket's error up.
    if (n < 0 && errno != EAGAIN && errno != EINTR) return finish(what, -errno);
    what.moved = n > 0 ? static_cast<std::uint32_t>(n) : 0;
    if (n > 0 && !(what.flags & io_op::all)) return finish(what, static_cast<std::int32_t>(n));
    record& r = table_.look_up(what.fd);
    return begin<&epoll_backend::attempt_send>(r, r.writer, what);
}

bool epoll_backend::submit_any(io_op& what) noexcept {
    record* r = table_.get(what.fd);
    if (r == nullptr || r->bits & record::ending) [[unlikely]]
        return finish(what, r != nullptr ? -EBADF : table_.why_none(what.fd));
    what.moved = 0;
    if (r->bits & record::file && moves_bytes(what.kind)) [[unlikely]]
        return submit_file(*r, what);
    switch (what.kind) {
        case io_kind::borrow: return begin<&epoll_backend::attempt>(*r, r->reader, what);
        case io_kind::receive:
            if (what.size == 0) return finish(what, 0);
            return begin<&epoll_backend::attempt_receive>(*r, r->reader, what);
        case io_kind::send:
            if (what.size == 0) return finish(what, 0);
            return begin<&epoll_backend::attempt_send>(*r, r->writer, what);
        default: return submit_rare(*r, what);
    }
}

bool epoll_backend::submit_file(record& r, io_op& what) noexcept {
    if (what.kind != io_kind::borrow && what.size == 0) return finish(what, 0);
    return begin<&epoll_backend::attempt_file>(r, is_reader(what.kind) ? r.reader : r.writer, what);
}

bool epoll_backend::submit_rare(record& r, io_op& what) noexcept {
    switch (what.kind) {
        case io_kind::accept: return begin<&epoll_backend::attempt_accept>(r, r.reader, what);
        case io_kind::connect: return begin<&epoll_backend::attempt_connect>(r, r.writer, what);
        case io_kind::send_vector: return begin<&epoll_backend::attempt_vector>(r, r.writer, what);
        case io_kind::close: return submit_close(r, what);
        case io_kind::receive_datagrams: return begin<&epoll_backend::attempt_datagrams>(r, r.reader, what);
        case io_kind::send_datagrams: return begin<&epoll_backend::attempt_datagrams>(r, r.writer, what);
        case io_kind::receive_message: return begin<&epoll_backend::attempt_message>(r, r.reader, what);
        case io_kind::send_message: return begin<&epoll_backend::attempt_message>(r, r.writer, what);
        case io_kind::splice_in: return begin<&epoll_backend::attempt_splice_in>(r, r.reader, what);
        case io_kind::splice_out: return begin<&epoll_backend::attempt_splice_out>(r, r.writer, what);
        default: return submit_poll(r, what);
    }
}

// A send is always tried; a read when there may be something.
template <auto Attempt>
bool epoll_backend::begin(record& r, io_op*& slot, io_op& what) noexcept {
    if (slot != nullptr) [[unlikely]]
        return finish(what, -EBUSY);
    if (r.bits & record::foreign) [[unlikely]]  // what was seen in that mode says nothing now
        r.bits &= static_cast<std::uint16_t>(~(record::foreign | record::dry | record::full));
    if (&slot == &r.writer || !(r.bits & record::dry)) {
        const std::int32_t result = (this->*Attempt)(r, what);
        if (result != would_block) return finish(what, result);
    }
    if (!(r.bits & record::registered)) [[unlikely]] {
        const int error = enroll(r, what.fd);
        // What epoll refuses, as files on a disk, is ready always: it waits only for its turn.
        if (error != 0 && !(error == -EPERM && r.queued && r.bits & record::file)) return finish(what, error);
    }
    slot = &what;
    return park(what);
}

bool epoll_backend::submit_poll(record& r, io_op& what) noexcept {
    io_op*& slot = what.kind == io_kind::poll_out ? r.writer : r.reader;
    if (slot != nullptr) return finish(what, -EBUSY);
    slot = &what;
    int error;
    if (what.flags & io_op::foreign && !(r.bits & record::registered)) {
        r.bits |= what.kind == io_kind::poll_out ? record::full : record::dry;
        error = enroll_foreign(r, what.fd);
    } else {
        // The remembered level may be old news; ask.
        const std::int32_t now = attempt(r, what);
        if (now != would_block) return slot = nullptr, finish(what, now);
        error = what.kind == io_kind::poll_out ? watch_room(r, what.fd) : 0;
        if (error == 0 && !(r.bits & record::registered)) error = enroll(r, what.fd);
    }
    // What waits for both directions looks at every event, whichever it is.
    if (what.kind == io_kind::poll) r.bits &= static_cast<std::uint16_t>(~record::dry);
    if (error == 0) return park(what);
    slot = nullptr;
    if (error != -EPERM) return finish(what, error);
    // A regular file, which is always ready. Or a filter says so, about a descriptor that may not be.
    const std::int32_t now = attempt(r, what);
    return finish(what, now != would_block ? now : error);
}

// The ops that wait are reported by the next `wait`, and the number is not free before.
bool epoll_backend::submit_close(record& r, io_op& what) noexcept {
    if (what.flags & io_op::hand_over) {
        if (r.reader != nullptr || r.writer != nullptr) return finish(what, -EBUSY);
        unregister(r, what.fd);
        return finish(what, 0);
    }
    if (r.reader == nullptr && r.writer == nullptr) return finish(what, release(r, what.fd));
    begin_close(r, what.fd);
    r.closer = &what;
    return park(what);
}

void epoll_backend::begin_close(record& r, int fd) noexcept {
    for (io_op* each : {r.reader, r.writer}) {
        if (each == nullptr || each->state != op::armed) continue;
        each->flags |= io_op::closing;
        each->state = op::cancelling;
    }
    r.fd = fd;
    r.bits |= record::ending;
    table_.enqueue(r);
}

void epoll_backend::reap(int fd) noexcept {
    record* const r = table_.find(fd);
    if (r == nullptr) {  // no op was ever submitted for it
        ::close(fd);
    } else if (r->reader == nullptr && r->writer == nullptr) {
        release(*r, fd);
    } else if (!(r->bits & record::ending)) {
        begin_close(*r, fd);
        ++reaping_;
    }
}

// Nothing was taken from the kernel for an op that waits, so nothing can be lost.
void epoll_backend::cancel(io_op& what) noexcept {
    if (what.state != op::armed || what.kind == io_kind::close) return;
    what.state = op::cancelling;
    record& r = table_.look_up(what.fd);
    r.bits |= record::asked;
    table_.enqueue(r);
}

int epoll_backend::control(sys_op& what) noexcept {
    record* r = table_.find(what.fd);
    switch (what.what) {
        case sys_op::call::close:
            if (r == nullptr) return call(what);
            RONDO_ASSERT(!r->reader && !r->writer, "closed under a waiting operation");
            return release(*r, what.fd);
        case sys_op::call::try_send:
        case sys_op::call::try_send_datagrams:
            if (r != nullptr && r->writer != nullptr) return -EAGAIN;  // bytes must not interleave
            if (r != nullptr && r->bits & record::file) return try_file_bytes(what, r->kind, budget_);
            return call(what);
        case sys_op::call::try_receive:
        case sys_op::call::try_receive_datagrams:
            if (r != nullptr && r->reader != nullptr) return -EAGAIN;
            if (r != nullptr && r->bits & record::file) return try_file_bytes(what, r->kind, budget_);
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
        case sys_op::call::tcp_socket: {
            const int fd = call(what);
            if (fd >= 0) forget(fd, record::known | record::plain);
            return fd;
        }
        case sys_op::call::udp_socket: {
            const int fd = call(what);
            if (fd >= 0) forget(fd, record::known | record::udp);
            return fd;
        }
        case sys_op::call::unix_socket: {
            const int fd = call(what);
            if (fd >= 0) forget(fd, record::known);
            return fd;
        }
        case sys_op::call::stream_pair: {
            const int result = call(what);
            if (result == 0)
                for (const int fd : what.fds) forget(fd, record::known);
            return result;
        }
        case sys_op::call::watch_clock: {
            const int result = call(what);
            if (result >= 0 && what.fd < 0) forget(result, record::known);
            return result;
        }
        case sys_op::call::unwatch:
            if (r != nullptr && !(r->bits & record::ending)) unwatch(*r, what.fd);
            return 0;
        case sys_op::call::adopt: {
            if (r != nullptr && (r->reader != nullptr || r->writer != nullptr || r->bits & record::ending))
                return -EBUSY;
            if (table_.get(what.fd) == nullptr) return table_.why_none(what.fd);
            const int result = call(what);
            if (result >= 0) forget(what.fd, 0);  // there is a record of it
            return result;
        }
        case sys_op::call::set_any_option:  // perhaps one that puts something on top of TCP
            if (r != nullptr) r->bits &= static_cast<std::uint16_t>(~record::plain);
            return call(what);
        default: return makes_files(what.what) ? make_files(what) : call(what);
    }
}

int epoll_backend::make_files(sys_op& what) noexcept {
    if (what.what == sys_op::call::adopt_pipe) {
        const record* const r = table_.get(what.fd);
        if (r == nullptr) return table_.why_none(what.fd);
        if (r->reader != nullptr || r->writer != nullptr || r->bits & record::ending) return -EBUSY;
    }
    return keep_files(what, call(what), [this](int fd, file_kind kind) {
        record* const r = forget(fd, record::known | record::file);
        if (r != nullptr) r->kind = kind;
        return r != nullptr;
    });
}

void epoll_backend::give_back(void* data, std::uint32_t, std::uint16_t) noexcept { buffers_.give_back(data); }

bool epoll_backend::wait(time_point until, completions& done) noexcept {
    if (forked()) [[unlikely]]
        return wait_in_child(done);
    woken_ = false;
    budget_.renew();
    look_at_queued(done);
    for (;;) {
        const bool block = done.size() == 0 && table_.idle();
        if (done.size() > completions::capacity - most_events * 2) return true;  // no room for all of them
        const int count = wait_for_events(block ? until : time_point::min());
        for (int i = 0; i < count; ++i) on_event(events_[i], done);
        if (!block || woken_ || done.size() > 0) return true;
        // Events nobody waits for, or a signal: go on waiting, unless it is time.
        if (until <= last_now_ || (until != never && now() >= until)) return true;
    }
}

bool epoll_backend::wait_in_child(completions& done) noexcept {
    RONDO_ASSERT(left_, "a loop cannot be used in a forked child; make a new one");
    look_at_queued(done);
    return true;
}

void epoll_backend::flush() noexcept {
    if (!table_.idle() || stranded_ != nullptr) wake();
}

std::string epoll_backend::describe() const {
    return has_pwait2_ ? "epoll" : "epoll (no epoll_pwait2: timers are rounded up to milliseconds)";
}

// One try

std::int32_t epoll_backend::attempt(record& r, io_op& what) noexcept {
    if (r.bits & record::file && moves_bytes(what.kind)) return attempt_file(r, what);
    switch (what.kind) {
        case io_kind::borrow: return attempt_borrow(r, what);
        case io_kind::receive: return attempt_receive(r, what);
        case io_kind::send: return attempt_send(r, what);
        case io_kind::send_vector: return attempt_vector(r, what);
        case io_kind::accept: return attempt_accept(r, what);
        case io_kind::connect: return attempt_connect(r, what);
        case io_kind::receive_datagrams:
        case io_kind::send_datagrams: return attempt_datagrams(r, what);
        case io_kind::receive_message:
        case io_kind::send_message: return attempt_message(r, what);
        case io_kind::poll: return attempt_watch(what);
        case io_kind::splice_in: return attempt_splice_in(r, what);
        case io_kind::splice_out: return attempt_splice_out(r, what);
        default: return attempt_poll(r, what);
    }
}

std::int32_t epoll_backend::attempt_receive(record& r, io_op& what) noexcept {
    if (must_wait_a_turn(what, left_to_move(what))) return go_on_later(r);
    turn_share share(budget_);
    for (;;) {
        const std::uint32_t wanted = share.portion(left_to_move(what));
        const ssize_t n = ::recv(what.fd, static_cast<std::byte*>(what.data) + what.moved, wanted, MSG_DONTWAIT);
        if (n > 0) {
            what.moved += static_cast<std::uint32_t>(n);
            share.spend(static_cast<std::size_t>(n));
            const bool emptied =
                static_cast<std::size_t>(n) < wanted && (r.bits & (record::plain | record::hung)) == record::plain;
            if (emptied) r.bits |= record::dry;
            if (!(what.flags & io_op::all) || left_to_move(what) == 0) return static_cast<std::int32_t>(what.moved);
            if (emptied) return would_block;
            if (share.used_up()) return go_on_later(r);
        } else if (n == 0) {
            return static_cast<std::int32_t>(what.moved);
        } else if (errno == EAGAIN) {
            r.bits |= record::dry;
            return would_block;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
}

// The buffer is taken when there may be data, and goes back when there was none: a connection that
// waits holds no buffer.
std::int32_t epoll_backend::attempt_borrow(record& r, io_op& what) noexcept {
    if (must_wait_a_turn(what, buffers_.size())) return go_on_later(r);
    if (!take_buffer(what)) return lend_nothing(what, -ENOMEM);
    const std::uint32_t most = budget_.portion(buffers_.size());
    return borrowed(r, what, receive_into(what, most), most);
}

inline bool epoll_backend::take_buffer(io_op& what) noexcept {
    chunk* const taken = buffers_.take();
    if (taken == nullptr) [[unlikely]]
        return false;
    what.data = taken->data;
    return true;
}

inline ssize_t epoll_backend::receive_into(io_op& what, std::uint32_t most) noexcept {
    return ::recv(what.fd, what.data, most, MSG_DONTWAIT);
}

// What `r` knows after `n` > 0 of at most `most` bytes have come into a buffer.
inline std::uint16_t epoll_backend::bits_after(unsigned bits, ssize_t n, std::uint32_t most) noexcept {
    static_assert(record::dry == 1);
    const bool emptied = static_cast<std::size_t>(n) < most && (bits & (record::plain | record::hung)) == record::plain;
    return static_cast<std::uint16_t>(bits | unsigned{emptied});
}

std::int32_t epoll_backend::borrowed(record& r, io_op& what, ssize_t n, std::uint32_t most) noexcept {
    while (n < 0 && errno == EINTR) n = receive_into(what, most);
    if (n > 0) {
        r.bits = bits_after(r.bits, n, most);
        what.size = static_cast<std::uint32_t>(n);
        budget_.spend(what.size);
        return static_cast<std::int32_t>(n);
    }
    const int error = n < 0 ? errno : 0;
    buffers_.give_back(what.data);
    if (error == EAGAIN) {
        r.bits |= record::dry;
        return would_block;
    }
    return lend_nothing(what, -error);
}

[[gnu::always_inline]] inline std::int32_t epoll_backend::attempt_send(record& r, io_op& what) noexcept {
    if (must_wait_a_turn(what, left_to_move(what))) return go_on_later(r);
    turn_share share(budget_);
    for (;;) {
        const std::uint32_t left = left_to_move(what);
        const ssize_t n = ::send(what.fd, static_cast<const std::byte*>(what.data) + what.moved, share.portion(left),
                                 MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            what.moved += static_cast<std::uint32_t>(n);
            share.spend(static_cast<std::size_t>(n));
            if (static_cast<std::size_t>(n) == left || !(what.flags & io_op::all))
                return static_cast<std::int32_t>(what.moved);
            if (share.used_up()) return go_on_later(r);
        } else if (errno == EAGAIN) {
            r.bits |= record::full;
            return would_block;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
}

/// When it is submitted after the bytes of the turn are spent. (The next wait lets everyone move something.)
bool epoll_backend::must_wait_a_turn(const io_op& what, std::uint32_t size) const noexcept {
    return budget_.spent() && size > byte_budget::small && what.state != op::armed;
}

/// Its share of this turn is used up; the socket is ready for more.
std::int32_t epoll_backend::go_on_later(record& r) noexcept {
    table_.enqueue(r);
    return would_block;
}

// The poll phase

void epoll_backend::look_at_queued(completions& done) noexcept {
    while (stranded_ != nullptr && !done.full()) {
        io_op& what = *stranded_;
        stranded_ = static_cast<io_op*>(what.data);
        --armed_;
        done.report(what, ended(what));
    }
    for (record* last = table_.last(); last != nullptr && !done.full();) {
        record& r = table_.dequeue();
        look(r, done);
        if (&r == last) break;
    }
}

void epoll_backend::look(record& r, completions& done) noexcept {
    r.bits &= static_cast<std::uint16_t>(~record::asked);
    if (r.reader != nullptr) settle(r.reader, r, record::dry, done);
    if (r.writer != nullptr) settle(r.writer, r, record::full, done);
    if (!(r.bits & record::ending) || r.reader != nullptr || r.writer != nullptr) return;
    if (done.full()) return table_.enqueue(r);
    const int result = release(r, r.fd);
    if (io_op* const closer = std::exchange(r.closer, nullptr)) {
        --armed_;
        done.report(*closer, result);
    } else {
        --reaping_;
        woken_ = true;
    }
}

void epoll_backend::settle(io_op*& slot, record& r, std::uint16_t blocked, completions& done) noexcept {
    io_op& what = *slot;
    const bool cancelled = what.state == op::cancelling;
    if (!cancelled && (r.bits & blocked || left_)) return;
    if (done.full()) {
        r.bits |= record::asked;
        return table_.enqueue(r);
    }
    const std::int32_t result = cancelled ? ended(what) : attempt(r, what);
    if (result == would_block) return;
    slot = nullptr;
    --armed_;
    done.report(what, result);
}

// The short way is for a borrowing reader that waits alone on a socket with room to write, and for buffers
// that are no larger than what anyone may move in a turn. There is room in `done`, which `wait` has seen to.
[[gnu::always_inline]] inline void epoll_backend::on_event(const epoll_event& event, completions& done) noexcept {
    record& r = record_of(event.data.u64);
    if (r.generation != event.data.u64 >> address_bits) [[unlikely]]
        return;
    constexpr auto mask = record::registered | record::ending | record::asked | record::file;
    if (event.events != plain_events_ || (r.bits & mask) != record::registered || r.reader == nullptr ||
        r.reader->kind != io_kind::borrow || r.writer != nullptr || !take_buffer(*r.reader))
        return on_other_event(r, event.events, done);
    std::int32_t result;
    const std::uint32_t most = buffers_.size();
    const ssize_t n = receive_into(*r.reader, most);
    const unsigned bits = r.bits & ~unsigned{record::dry | record::full};
    if (n > 0) [[likely]] {
        r.bits = bits_after(bits, n, most);
        r.reader->size = static_cast<std::uint32_t>(n);
        result = static_cast<std::int32_t>(n);
    } else {
        r.bits = static_cast<std::uint16_t>(bits);
        result = borrowed(r, *r.reader, n, most);
        if (result == would_block) return;
    }
    --armed_;
    done.report_armed(*std::exchange(r.reader, nullptr), result);
}

void epoll_backend::on_other_event(record& r, std::uint32_t events, completions& done) noexcept {
    if (&r == wake_record_) {
        woken_ = true;
        return;
    }
    if (events & read_events) r.bits &= static_cast<std::uint16_t>(~record::dry);
    if (events & write_events) r.bits &= static_cast<std::uint16_t>(~record::full);
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) r.bits |= record::hung;
    if (events & EPOLLPRI) r.bits &= static_cast<std::uint16_t>(~record::plain);
    look(r, done);
    if (!(r.bits & record::registered)) [[unlikely]]
        renew_foreign(r);
}

// The kernel rounds up, and so do we: a timer never finds itself early.
int epoll_backend::wait_for_events(time_point until) noexcept {
    for (;;) {
        duration left = duration::zero();
        if (until == never) {
            left = duration::max();
        } else if (until > last_now_) {
            left = std::max(until - now(), duration::zero());
        }
        int count;
        if (has_pwait2_) [[likely]] {
            const timespec timeout{left.count() / 1'000'000'000, left.count() % 1'000'000'000};
            count = epoll_pwait2(epoll_, events_, most_events, until == never ? nullptr : &timeout, nullptr);
        } else {
            const std::int64_t ms = (left.count() - 1) / 1'000'000 + 1;
            count = epoll_wait(epoll_, events_, most_events,
                               until == never     ? -1
                               : left.count() > 0 ? static_cast<int>(std::min<std::int64_t>(ms, INT_MAX))
                                                  : 0);
        }
        if (count >= 0) return count;
        if (errno == EINTR) continue;
        if (!has_pwait2_) refused_by_kernel("epoll_wait", errno);
        // Linux before 5.11, or a filter that has not heard of the call, whatever it answers. If it is something
        // else, epoll_wait will say so.
        has_pwait2_ = false;
    }
}

}  // namespace epoll

std::unique_ptr<backend> make_epoll(const backend_options& options, std::string& why) {
    auto made = std::make_unique<epoll::epoll_backend>(options);
    if (!made->open(why)) return nullptr;
    return made;
}

}  // namespace rondo::detail
