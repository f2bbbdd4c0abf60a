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
// Foreign descriptors (poll_* for someone else's library) get none of that: we do not see its
// reads, so only the kernel knows the level. Theirs is a one-shot, level-triggered registration,
// renewed by MOD for each wait. Regular files cannot be registered at all (EPERM) and are always
// ready, as poll(2) has it.
//
// A closed descriptor leaves epoll only when nobody else holds its file: a dup or a forked child
// keeps the registration alive, and its events would arrive for whoever got the number next. So
// close says EPOLL_CTL_DEL first, and every registration carries a generation besides.
#include "epoll.hpp"

#include "backend/buffers.hpp"
#include "backend/descriptors.hpp"
#include "backend/posix.hpp"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

namespace rondo::detail {
namespace {

/// One descriptor.
struct record {
    enum : std::uint16_t {
        dry = 1,
        full = 2,
        hung = 4,
        plain = 8,        // TCP without urgent bytes: a short read empties it
        known = 16,       // `plain` has been found out
        registered = 32,  // edge-triggered, for good
        foreign = 64,     // one-shot
        ending = 128,     // closes when no op is left; `closer` waits for that, if anyone does
        asked = 256,      // an op that waits was cancelled
    };

    io_op* reader;
    io_op* writer;
    io_op* closer;
    record* next;
    int fd;  // of a descriptor that closes
    std::uint16_t generation;
    std::uint16_t bits;
    bool queued;
};

/// The outcome of a borrow without a buffer.
std::int32_t lend_nothing(io_op& what, std::int32_t result) noexcept {
    what.data = nullptr;
    what.size = 0;
    return result;
}

/// Asked of a descriptor that was not made here: whether a short read says that it is empty.
bool is_plain_tcp(int fd) noexcept {
    int protocol = 0;
    socklen_t size = sizeof protocol;
    if (::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) < 0 || protocol != IPPROTO_TCP) return false;
    char on_top[16];
    size = sizeof on_top;
    return ::getsockopt(fd, IPPROTO_TCP, TCP_ULP, on_top, &size) == 0 && size == 0;
}

/// What epoll keeps for us: the record, which never moves, and in the upper bits, which no address
/// of what is mapped has (descriptors.hpp), its generation.
constexpr int address_bits = 48;
std::uint64_t mark_of(const record& r) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(&r);
    RONDO_ASSERT(address >> address_bits == 0, "an address of more than 48 bits");
    return std::uint64_t{r.generation} << address_bits | address;
}
record& record_of(std::uint64_t mark) noexcept {
    return *reinterpret_cast<record*>(mark & ((std::uint64_t{1} << address_bits) - 1));
}

constexpr int window_size = 64;      // iovecs per sendmsg
constexpr int accepts_per_event = 16;  // transient failures in a row before others get a turn
// Few enough that the buffers which one wait fills stay in the cache until they are looked at.
constexpr int most_events = 32;
constexpr auto read_events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
constexpr auto write_events = EPOLLOUT | EPOLLHUP | EPOLLERR;

class epoll_backend final : public posix_backend {
 public:
    explicit epoll_backend(const backend_options& options) noexcept
        : buffers_(options.receive_buffer_size, options.receive_buffer_count),
          plain_events_(options.receive_buffer_size <= byte_budget::when_spent ? EPOLLIN | EPOLLOUT : 0) {
        record unknown{};
        unknown.bits = record::ending;  // so that the short ways leave it alone
        table_.set_blank(unknown);
    }
    ~epoll_backend() override {
        if (epoll_ >= 0) ::close(epoll_);
    }

    bool open(std::string& why);

    backend_kind kind() const noexcept override { return backend_kind::epoll; }
    bool submit(io_op& what) noexcept override;
    void cancel(io_op& what) noexcept override;
    int control(sys_op& what) noexcept override;
    void reap(int fd) noexcept override;
    void give_back(void* data, std::uint32_t size, std::uint16_t buffer) noexcept override;
    bool wait(time_point until, completions& done) noexcept override;
    int poll_fd() noexcept override { return epoll_; }
    void flush() noexcept override;
    void left_to_parent() noexcept override { left_ = true; }
    std::string describe() const override;

 private:
    template <auto Attempt>
    bool begin(record& r, io_op*& slot, io_op& what) noexcept;
    [[gnu::noinline]] bool submit_send(io_op& what) noexcept;
    [[gnu::noinline]] bool send_the_rest(io_op& what, ssize_t n) noexcept;
    [[gnu::noinline]] bool submit_any(io_op& what) noexcept;
    [[gnu::noinline]] bool submit_rare(record& r, io_op& what) noexcept;
    bool submit_poll(record& r, io_op& what) noexcept;
    bool submit_close(record& r, io_op& what) noexcept;
    void begin_close(record& r, int fd) noexcept;

    [[gnu::noinline]] std::int32_t attempt(record& r, io_op& what) noexcept;
    std::int32_t attempt_receive(record& r, io_op& what) noexcept;
    std::int32_t attempt_borrow(record& r, io_op& what) noexcept;
    bool take_buffer(io_op& what) noexcept;
    static ssize_t receive_into(io_op& what, std::uint32_t most) noexcept;
    static std::uint16_t bits_after(unsigned bits, ssize_t n, std::uint32_t most) noexcept;
    [[gnu::noinline]] std::int32_t borrowed(record& r, io_op& what, ssize_t n, std::uint32_t most) noexcept;
    std::int32_t attempt_send(record& r, io_op& what) noexcept;
    std::int32_t attempt_vector(record& r, io_op& what) noexcept;
    std::int32_t attempt_accept(record& r, io_op& what) noexcept;
    std::int32_t attempt_connect(record& r, io_op& what) noexcept;
    std::int32_t attempt_poll(record& r, io_op& what) noexcept;

    std::int32_t go_on_later(record& r) noexcept;
    bool must_wait_a_turn(const io_op& what, std::uint32_t size) const noexcept;

    [[gnu::noinline]] int enroll(record& r, int fd) noexcept;
    int enroll_foreign(record& r, int fd) noexcept;
    int change(int first, record& r, int fd, std::uint32_t events) noexcept;
    record* forget(int fd, std::uint16_t bits) noexcept;
    int release(record& r, int fd) noexcept;

    void look_at_queued(completions& done) noexcept;
    void look(record& r, completions& done) noexcept;
    void settle(io_op*& slot, record& r, std::uint16_t blocked, completions& done) noexcept;
    void on_event(const epoll_event& event, completions& done) noexcept;
    [[gnu::noinline]] void on_other_event(record& r, std::uint32_t events, completions& done) noexcept;
    void renew_foreign(record& r) noexcept;
    int wait_for_events(time_point until) noexcept;
    bool wait_in_child(completions& done) noexcept;

    int epoll_ = -1;
    bool has_pwait2_ = true;
    bool woken_ = false;
    record* wake_record_ = nullptr;  // that of wake_fd_
    descriptor_table<record> table_;
    buffer_pool buffers_;
    const std::uint32_t plain_events_;  // those of the short way
    io_op* stranded_ = nullptr;  // polls whose descriptor was closed by its owner; linked by `data`
    epoll_event events_[most_events];
};

bool epoll_backend::open(std::string& why) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) return why = explain("epoll_create1", errno), false;
    if (wake_fd_ < 0) return why = explain("eventfd", errno), false;
    // Edge-triggered: the counter need not be read for the next write to be an event.
    wake_record_ = table_.get(wake_fd_);
    if (wake_record_ == nullptr) return why = explain("mmap", ENOMEM), false;
    epoll_event event{EPOLLIN | EPOLLET, {.u64 = mark_of(*wake_record_)}};
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_fd_, &event) < 0)
        return why = explain("epoll_ctl", errno), false;
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
        constexpr auto mask = record::foreign | record::ending;
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

bool epoll_backend::submit_rare(record& r, io_op& what) noexcept {
    switch (what.kind) {
        case io_kind::accept: return begin<&epoll_backend::attempt_accept>(r, r.reader, what);
        case io_kind::connect: return begin<&epoll_backend::attempt_connect>(r, r.writer, what);
        case io_kind::send_vector: return begin<&epoll_backend::attempt_vector>(r, r.writer, what);
        case io_kind::close: return submit_close(r, what);
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
        if (const int error = enroll(r, what.fd)) return finish(what, error);
    }
    slot = &what;
    return park(what);
}

bool epoll_backend::submit_poll(record& r, io_op& what) noexcept {
    io_op*& slot = what.kind == io_kind::poll_in ? r.reader : r.writer;
    if (slot != nullptr) return finish(what, -EBUSY);
    slot = &what;
    int error;
    if (what.flags & io_op::foreign && !(r.bits & record::registered)) {
        r.bits |= what.kind == io_kind::poll_in ? record::dry : record::full;
        error = enroll_foreign(r, what.fd);
    } else {
        // The remembered level may be old news; ask.
        const std::int32_t now = attempt_poll(r, what);
        if (now != would_block) return slot = nullptr, finish(what, now);
        error = r.bits & record::registered ? 0 : enroll(r, what.fd);
    }
    if (error == 0) return park(what);
    slot = nullptr;
    return finish(what, error == -EPERM ? 0 : error);  // EPERM: a regular file
}

// The ops that wait are reported by the next `wait`, and the number is not free before.
bool epoll_backend::submit_close(record& r, io_op& what) noexcept {
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
            if (r != nullptr && r->writer != nullptr) return -EAGAIN;  // bytes must not interleave
            return call(what);
        case sys_op::call::try_receive:
            if (r != nullptr && r->reader != nullptr) return -EAGAIN;
            return call(what);
        case sys_op::call::tcp_socket: {
            const int fd = call(what);
            if (fd >= 0) forget(fd, record::known | record::plain);
            return fd;
        }
        case sys_op::call::stream_pair: {
            const int result = call(what);
            if (result == 0)
                for (const int fd : what.fds) forget(fd, record::known);
            return result;
        }
        default: return call(what);
    }
}

void epoll_backend::give_back(void* data, std::uint32_t, std::uint16_t) noexcept {
    buffers_.give_back(data);
}

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
    switch (what.kind) {
        case io_kind::borrow: return attempt_borrow(r, what);
        case io_kind::receive: return attempt_receive(r, what);
        case io_kind::send: return attempt_send(r, what);
        case io_kind::send_vector: return attempt_vector(r, what);
        case io_kind::accept: return attempt_accept(r, what);
        case io_kind::connect: return attempt_connect(r, what);
        default: return attempt_poll(r, what);
    }
}

std::int32_t epoll_backend::attempt_receive(record& r, io_op& what) noexcept {
    if (must_wait_a_turn(what, left_to_move(what))) return go_on_later(r);
    turn_share share(budget_);
    for (;;) {
        const std::uint32_t wanted = share.portion(left_to_move(what));
        const ssize_t n = ::recv(what.fd, static_cast<std::byte*>(what.data) + what.moved, wanted,
                                 MSG_DONTWAIT);
        if (n > 0) {
            what.moved += static_cast<std::uint32_t>(n);
            share.spend(static_cast<std::size_t>(n));
            const bool emptied = static_cast<std::size_t>(n) < wanted &&
                                 (r.bits & (record::plain | record::hung)) == record::plain;
            if (emptied) r.bits |= record::dry;
            if (!(what.flags & io_op::all) || left_to_move(what) == 0)
                return static_cast<std::int32_t>(what.moved);
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
    const bool emptied = static_cast<std::size_t>(n) < most &&
                         (bits & (record::plain | record::hung)) == record::plain;
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

[[gnu::always_inline]] inline std::int32_t epoll_backend::attempt_send(record& r,
                                                                      io_op& what) noexcept {
    if (must_wait_a_turn(what, left_to_move(what))) return go_on_later(r);
    turn_share share(budget_);
    for (;;) {
        const std::uint32_t left = left_to_move(what);
        const ssize_t n = ::send(what.fd, static_cast<const std::byte*>(what.data) + what.moved,
                                 share.portion(left), MSG_NOSIGNAL | MSG_DONTWAIT);
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

// sendmsg and not writev: only it takes MSG_NOSIGNAL.
std::int32_t epoll_backend::attempt_vector(record& r, io_op& what) noexcept {
    span_cursor cursor(what);
    iovec window[window_size];
    if (budget_.spent()) {
        const std::size_t size = cursor.fill(window, byte_budget::small + 1).bytes;
        if (must_wait_a_turn(what, static_cast<std::uint32_t>(size))) return go_on_later(r);
    }
    turn_share share(budget_);
    while (!cursor.at_end()) {
        if (share.used_up()) return go_on_later(r);
        msghdr message{};
        message.msg_iov = window;
        message.msg_iovlen = cursor.fill(window, share.portion(most_moved)).pieces;
        const ssize_t n = ::sendmsg(what.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            what.moved += static_cast<std::uint32_t>(n);
            cursor.advance(static_cast<std::size_t>(n));
            share.spend(static_cast<std::size_t>(n));
            if (!(what.flags & io_op::all)) break;
        } else if (errno == EAGAIN) {
            r.bits |= record::full;
            return would_block;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return static_cast<std::int32_t>(what.moved);
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

std::int32_t epoll_backend::attempt_accept(record& r, io_op& what) noexcept {
    for (int i = 0; i < accepts_per_event; ++i) {
        const int fd = ::accept4(what.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            if (forget(fd, r.bits & (record::known | record::plain)) == nullptr) {
                refuse_connection(fd);
                return -ENOMEM;
            }
            return fd;
        }
        if (errno == EAGAIN) {
            r.bits |= record::dry;
            return would_block;
        }
        if (!accept_is_transient(errno) || ++what.moved == accept_patience) return -errno;
    }
    return go_on_later(r);
}

std::int32_t epoll_backend::attempt_connect(record& r, io_op& what) noexcept {
    if (what.state == op::armed) {  // announced: how did it end?
        int error = 0;
        socklen_t size = sizeof error;
        if (::getsockopt(what.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) error = errno;
        return -error;
    }
    const socket_address to(*static_cast<const raw_address*>(what.data));
    if (::connect(what.fd, to.data(), to.size) == 0) return 0;
    // Interrupted, it goes on in the background just the same.
    if (errno != EINPROGRESS && errno != EINTR) return -errno;
    r.bits |= record::full;
    return would_block;
}

std::int32_t epoll_backend::attempt_poll(record& r, io_op& what) noexcept {
    if (r.bits & record::foreign && what.state == op::armed) return 0;  // the event says so
    const bool in = what.kind == io_kind::poll_in;
    pollfd ready{what.fd, static_cast<short>(in ? POLLIN | POLLRDHUP : POLLOUT), 0};
    int n;
    do {
        n = ::poll(&ready, 1, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    if (ready.revents & POLLNVAL) return -EBADF;
    if (n > 0) return 0;
    r.bits |= in ? record::dry : record::full;
    return would_block;
}

// Registration

int epoll_backend::enroll(record& r, int fd) noexcept {
    if (!(r.bits & record::known)) {
        r.bits |= is_plain_tcp(fd) ? record::known | record::plain : record::known;
    }
    const int error = change(EPOLL_CTL_ADD, r, fd, EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET);
    if (error == 0) {
        r.bits |= record::registered;
        r.bits &= static_cast<std::uint16_t>(~record::foreign);
    }
    return error;
}

int epoll_backend::enroll_foreign(record& r, int fd) noexcept {
    const bool before = r.bits & record::foreign;
    std::uint32_t events = EPOLLONESHOT;
    if (r.reader != nullptr) events |= EPOLLIN | EPOLLRDHUP;
    if (r.writer != nullptr) events |= EPOLLOUT;
    r.bits |= record::foreign;
    return change(before ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, r, fd, events);
}

// The number may have been closed and reused without our knowing: then ADD and MOD swap roles.
int epoll_backend::change(int first, record& r, int fd, std::uint32_t events) noexcept {
    epoll_event event{events, {.u64 = mark_of(r)}};
    if (epoll_ctl(epoll_, first, fd, &event) == 0) return 0;
    if (errno != (first == EPOLL_CTL_ADD ? EEXIST : ENOENT)) return -errno;
    const int other = first == EPOLL_CTL_ADD ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    return epoll_ctl(epoll_, other, fd, &event) == 0 ? 0 : -errno;
}

// A number fresh from the kernel: whatever is on record is about a former owner. An op still there
// is a poll on a foreign descriptor that was closed under it.
record* epoll_backend::forget(int fd, std::uint16_t bits) noexcept {
    record* r = table_.get(fd);
    if (r == nullptr) return nullptr;
    for (io_op** slot : {&r->reader, &r->writer}) {
        io_op* left = *slot;
        if (left == nullptr) continue;
        left->flags |= io_op::closing;
        left->state = op::cancelling;
        left->data = stranded_;
        stranded_ = left;
        *slot = nullptr;
    }
    r->bits = bits;
    ++r->generation;
    return r;
}

int epoll_backend::release(record& r, int fd) noexcept {
    // Not in a forked child: its copy of the epoll instance is the parent's.
    if (r.bits & (record::registered | record::foreign) && !forked())
        epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
    r.bits = 0;
    ++r.generation;
    // Linux frees the number before anything can interrupt: EINTR is no reason to try again.
    return ::close(fd) < 0 && errno != EINTR ? -errno : 0;
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

void epoll_backend::settle(io_op*& slot, record& r, std::uint16_t blocked,
                           completions& done) noexcept {
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
inline void epoll_backend::on_event(const epoll_event& event, completions& done) noexcept {
    record& r = record_of(event.data.u64);
    if (r.generation != event.data.u64 >> address_bits) [[unlikely]]
        return;
    constexpr auto mask = record::registered | record::ending | record::asked;
    if (event.events != plain_events_ || (r.bits & mask) != record::registered ||
        r.reader == nullptr || r.reader->kind != io_kind::borrow || r.writer != nullptr ||
        !take_buffer(*r.reader))
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

// One-shot: the other direction may still be waiting, or this one if it was not the news.
void epoll_backend::renew_foreign(record& r) noexcept {
    const io_op* const left = r.reader != nullptr ? r.reader : r.writer;
    if (left == nullptr) return;
    if (r.reader != nullptr) r.bits |= record::dry;
    if (r.writer != nullptr) r.bits |= record::full;
    if (enroll_foreign(r, left->fd) == 0) return;
    for (io_op* each : {r.reader, r.writer}) {  // closed by its owner meanwhile
        if (each == nullptr) continue;
        each->flags |= io_op::closing;
        each->state = op::cancelling;
    }
    r.bits |= record::asked;
    table_.enqueue(r);
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
            count = epoll_pwait2(epoll_, events_, most_events, until == never ? nullptr : &timeout,
                                 nullptr);
        } else {
            const std::int64_t ms = (left.count() - 1) / 1'000'000 + 1;
            count = epoll_wait(epoll_, events_, most_events,
                               until == never     ? -1
                               : left.count() > 0 ? static_cast<int>(std::min<std::int64_t>(
                                                        ms, INT_MAX))
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

}  // namespace

std::unique_ptr<backend> make_epoll(const backend_options& options, std::string& why) {
    auto made = std::make_unique<epoll_backend>(options);
    if (!made->open(why)) return nullptr;
    return made;
}

}  // namespace rondo::detail
