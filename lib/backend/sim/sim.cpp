// The simulated backend. The network (network.hpp) is its kernel: this file lets ops wait at
// sockets, moves the clock, and reports. Nothing here looks at real time, at the order of pointers
// or at a standard library's distribution, so that one seed is one run.

#include "sim.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <limits>
#include <new>
#include <span>

#include "backend/buffers.hpp"
#include "backend/process_signals.hpp"
#include "backend/signal_list.hpp"
#include "network.hpp"

namespace rondo {
namespace {

using simulated::half;
using simulated::machine;
using simulated::network;
using simulated::socket;

/// What an operation gives on a machine that has crashed. A listener is no more: a network that is down would come
/// back, and accept() waits for that.
int after_crash(io_kind kind) noexcept {
    return kind == io_kind::close ? 0 : kind == io_kind::accept ? -EBADF : -ENETDOWN;
}

class sim final : public backend {
 public:
    sim(const backend_options& options, sim_parts&& parts)
        : own_oracle_(std::move(parts.own_decisions)),
          oracle_(parts.decisions != nullptr ? *parts.decisions
                  : own_oracle_ != nullptr   ? *own_oracle_
                                             : plain_),
          own_(parts.machine != nullptr ? nullptr : std::make_unique<network>(oracle_)),
          machine_(parts.machine != nullptr ? *parts.machine : own_->add_machine()),
          network_(machine_.of),
          buffers_(std::max(options.receive_buffer_size, 1u), options.receive_buffer_count) {}
    ~sim() override { RONDO_ASSERT(armed_ == 0 || left_, "an op outlives its backend"); }

    backend_kind kind() const noexcept override { return backend_kind::sim; }

    time_point now() noexcept override { return crashed_ ? afterlife_ : machine_.local_time(); }
    std::int64_t wall_now() noexcept override;
    std::uint64_t random() noexcept override { return oracle_.bits(choice::user); }
    std::uint32_t choose(choice point, std::uint32_t alternatives) noexcept override {
        return oracle_.choose(point, alternatives);
    }

    bool submit(io_op& op) noexcept override;
    void cancel(io_op& op) noexcept override;
    int control(sys_op& call) noexcept override;
    void reap(int fd) noexcept override;
    void give_back(void* data, std::uint32_t size, std::uint16_t buffer) noexcept override;
    int watch_signals(signal_watch& who) noexcept override;
    void unwatch_signals(signal_watch& who) noexcept override;
    std::size_t descriptor_limit() noexcept override { return machine_.descriptor_limit; }

    bool wait(time_point until, completions& done) noexcept override;
    void wake() noexcept override;

    int poll_fd() noexcept override { return -1; }
    void flush() noexcept override {}
    void left_to_parent() noexcept override { left_ = true; }

    std::size_t armed() const noexcept override { return armed_; }
    std::string describe() const override;
    std::size_t open_descriptors() noexcept override { return machine_.open; }

    bool is_closed_world() const noexcept override { return true; }
    void spin(duration by) noexcept override;
    void expect_wakes(std::size_t handles, duration patience) noexcept override {
        wakers_ = handles;
        patience_ = patience;
    }

    std::uint64_t hash() const noexcept { return network_.hash(); }
    void crash(bool silently);
    bool signal(int number) noexcept;

 private:
    bool wait_after_crash(time_point until, completions& done) noexcept;
    bool wait_for_outside() noexcept;
    void report_ended(completions& done) noexcept;
    bool arm(half& place, io_op& op) noexcept;
    bool finish_now(io_op& op, int result) noexcept;
    bool begin_close(socket& s) noexcept;
    void report_due(completions& done) noexcept;
    int settle(half& place) noexcept;
    int attempt(socket& s, io_op& op) noexcept;
    int receive(socket& s, io_op& op) noexcept;
    int borrow(socket& s, io_op& op) noexcept;
    int send(socket& s, io_op& op) noexcept;
    int send_vector(socket& s, io_op& op) noexcept;
    int receive_datagrams(socket& s, io_op& op) noexcept;
    int send_datagrams(socket& s, io_op& op) noexcept;
    int splice_in(socket& s, io_op& op) noexcept;
    int splice_out(socket& s, io_op& op) noexcept;
    int give_back_pipe(const sys_op& what) noexcept;
    int try_datagrams(socket& s, const sys_op& what) noexcept;
    int receive_message(socket& s, io_op& op) noexcept;
    int send_message(socket& s, io_op& op) noexcept;
    int try_message(socket& s, const sys_op& what) noexcept;
    void close_number(socket& s, int fd) noexcept;
    int call(sys_op& what) noexcept;

    benign_oracle plain_;
    std::unique_ptr<oracle> own_oracle_;
    oracle& oracle_;
    std::unique_ptr<network> own_;  // null in a world of several machines, which then moves the clock
    machine& machine_;
    network& network_;
    detail::buffer_pool buffers_;
    std::size_t armed_ = 0;
    // What waits in the place of a close that nobody waits for.
    static constexpr op_vtable told_to_nobody{nullptr, nullptr, nullptr};
    io_op nobody_{told_to_nobody, io_kind::close, -1};
    bool reaped_ = false;  // in this wait
    std::size_t wakers_ = 0;  // outside of the world
    duration patience_ = duration::max();
    // A program whose machine has crashed still unwinds: nothing it does has an effect, and its time is
    // no longer that of the world.
    bool crashed_ = false;
    bool left_ = false;  // this is a forked child's copy of the world, in which nothing happens any more
    time_point afterlife_{};
    std::vector<io_op*> aborted_;  // not reported yet
    detail::signal_list watches_;  // of a machine of several; a single one is this process
    std::atomic<int> woken_{0};  // any thread sets it; an int, so that waiting is a futex
};

/// A result can hold no more.
constexpr std::uint32_t most = std::numeric_limits<std::int32_t>::max();

bool finished(int result) { return result != -EAGAIN; }

/// A message to a name: nobody tells when that receiver has room.
bool never_waits(const io_op& op) {
    return op.kind == io_kind::send_message && static_cast<const raw_message*>(op.data)->name != nullptr;
}

/// Waits for bytes to pass, and not only for the moment at which they could.
bool transfers(const io_op* op) {
    return op != nullptr && op->kind != io_kind::poll_in && op->kind != io_kind::poll_out;
}

half& place_of(socket& s, io_kind kind) {
    switch (kind) {
        case io_kind::accept:
        case io_kind::receive:
        case io_kind::borrow:
        case io_kind::receive_datagrams:
        case io_kind::receive_message:
        case io_kind::splice_in:
        case io_kind::poll:
        case io_kind::poll_in: return s.reader;
        case io_kind::connect:
        case io_kind::send:
        case io_kind::send_vector:
        case io_kind::send_datagrams:
        case io_kind::send_message:
        case io_kind::splice_out:
        case io_kind::poll_out: return s.writer;
        case io_kind::close: break;
    }
    return s.closer;
}

// Submitting and cancelling.

bool sim::submit(io_op& op) noexcept {
    RONDO_ASSERT(!op.pending(), "an op is submitted twice");
    op.moved = 0;
    op.flags &= static_cast<std::uint8_t>(~io_op::closing);
    if (op.kind == io_kind::close && (op.flags & io_op::hand_over) != 0) return finish_now(op, -ENOSYS);
    if (op.kind == io_kind::poll) return finish_now(op, -ENOSYS);
    if (crashed_) return finish_now(op, after_crash(op.kind));
    network_.take_time(machine_);
    socket* s = machine_.find(op.fd);
    if (s == nullptr || s->closer.op != nullptr) return finish_now(op, -EBADF);
    if (op.kind == io_kind::close && !s->is_alone()) {
        if (!left_) close_number(*s, op.fd);
        return finish_now(op, 0);
    }
    if (op.kind == io_kind::close) {
        if (!begin_close(*s)) return arm(s->closer, op);
        if (!left_) network_.close(*s);
        return finish_now(op, 0);
    }

    half& place = place_of(*s, op.kind);
    if (place.op != nullptr) return finish_now(op, -EBUSY);
    // Always reported by wait, so that several of them come in the order of becoming ready.
    if (op.kind == io_kind::poll_in || op.kind == io_kind::poll_out) return arm(place, op);

    int result = 0;
    if (op.kind == io_kind::connect) {
        result = network_.connect(*s, *static_cast<const raw_address*>(op.data));
        if (result == -EINPROGRESS) result = -EAGAIN;
    } else {
        result = attempt(*s, op);
    }
    return finished(result) || never_waits(op) ? finish_now(op, result) : arm(place, op);
}

bool sim::arm(half& place, io_op& op) noexcept {
    place.op = &op;
    op.state = op::armed;
    ++armed_;
    if (place.since != 0) network_.make_due(place);
    return false;
}

bool sim::finish_now(io_op& op, int result) noexcept {
    op.result = result;
    if (!crashed_) network_.record(static_cast<std::uint32_t>(op.kind), op.fd, result);
    return true;
}

/// The ops that wait at `s` end first, and then the close, which waits behind them. True: there are none.
bool sim::begin_close(socket& s) noexcept {
    bool alone = true;
    for (half* place : {&s.reader, &s.writer}) {
        if (place->op == nullptr) continue;
        alone = false;
        if (place->op->state == op::armed) {
            place->op->flags |= io_op::closing;
            place->op->state = op::cancelling;
        }
        network_.make_due(*place);
    }
    return alone;
}

/// What waits by this number ends; the socket is somebody else's, too, and stays.
void sim::close_number(socket& s, int fd) noexcept {
    for (half* place : {&s.reader, &s.writer}) {
        if (place->op == nullptr || place->op->fd != fd) continue;
        if (place->op->state == op::armed) {
            place->op->flags |= io_op::closing;
            place->op->state = op::cancelling;
        }
        network_.make_due(*place);
    }
    network_.close_number(s, fd);
}

void sim::reap(int fd) noexcept {
    socket* const s = crashed_ ? nullptr : machine_.find(fd);
    if (s == nullptr || s->closer.op != nullptr) return;
    if (!s->is_alone()) {
        if (!left_) close_number(*s, fd);
        network_.record(static_cast<std::uint32_t>(io_kind::close), fd, 0);
    } else if (begin_close(*s)) {
        if (!left_) network_.close(*s);
        network_.record(static_cast<std::uint32_t>(io_kind::close), fd, 0);
    } else {
        s->closer.op = &nobody_;
        ++armed_;
        ++reaping_;
    }
}

void sim::cancel(io_op& op) noexcept {
    if (op.state != op::armed || op.kind == io_kind::close) return;
    if (crashed_) {
        op.state = op::cancelling;
        return;
    }
    socket* s = machine_.find(op.fd);
    RONDO_ASSERT(s != nullptr && place_of(*s, op.kind).op == &op, "an op of another backend");
    op.state = op::cancelling;
    network_.make_due(place_of(*s, op.kind));
}

// Waiting.

bool sim::wait(time_point until, completions& done) noexcept {
    if (left_) [[unlikely]]
        return report_ended(done), true;
    if (crashed_) [[unlikely]]
        return wait_after_crash(until, done);
    const std::size_t before = done.size();
    reaped_ = false;
    if (own_ == nullptr) {  // whoever steps this loop has delivered, and lets it block never
        network_.take_time(machine_);
        report_due(done);
        woken_.exchange(0);
        return true;
    }
    for (;;) {
        network_.deliver();
        report_due(done);
        const bool woken = woken_.exchange(0) != 0;
        if (woken || reaped_ || done.size() > before || done.full() || network_.now() >= until) return true;
        const time_point next = std::min(until, network_.next_arrival());
        if (next != never) {
            network_.move_to(next);
        } else if (wakers_ == 0 || !wait_for_outside()) {
            return false;
        }
    }
}

/// The store has to be seen before libstdc++ looks for waiters, hence the strongest order.
void sim::wake() noexcept {
    woken_.store(1, std::memory_order_seq_cst);
    woken_.notify_one();
}

bool sim::wait_after_crash(time_point until, completions& done) noexcept {
    while (!aborted_.empty() && !done.full()) {
        io_op& op = *aborted_.back();
        aborted_.pop_back();
        --armed_;
        done.report(op, op.kind != io_kind::close && op.state == op::cancelling ? -ECANCELED : after_crash(op.kind));
    }
    const bool woken = woken_.exchange(0) != 0;
    if (done.size() > 0 || woken || afterlife_ >= until) return true;
    if (until == never) return false;
    afterlife_ = until;
    return true;
}

/// False: nobody came in time. An atomic knows no timed wait, hence the small steps; it is a rare one.
bool sim::wait_for_outside() noexcept {
    if (patience_ == duration::max()) {
        woken_.wait(0);
        return true;
    }
    constexpr duration step = std::chrono::milliseconds(1);
    const timespec pause{0, step.count()};
    for (duration waited{}; woken_.load() == 0; waited += step) {
        if (waited >= patience_) return false;
        nanosleep(&pause, nullptr);
    }
    return true;
}

/// In a forked child: what was cancelled or closed ends. The world stands still: it is the parent's that goes on.
void sim::report_ended(completions& done) noexcept {
    const auto report = [&](half& place, int result) {
        if (place.linked()) {
            place.unlink();
            --machine_.due_count;
        }
        --armed_;
        io_op& what = *std::exchange(place.op, nullptr);
        if (&what != &nobody_) return done.report(what, result);
        --reaping_;
    };
    for (socket* s : machine_.table) {
        if (s == nullptr) continue;
        for (half* place : {&s->reader, &s->writer})
            if (place->op != nullptr && place->op->state == op::cancelling && !done.full())
                report(*place, (place->op->flags & io_op::closing) != 0 ? -EBADF : -ECANCELED);
        if (s->closer.op != nullptr && s->reader.op == nullptr && s->writer.op == nullptr && !done.full())
            report(s->closer, 0);
    }
}

/// Throws bad_alloc, and then nothing has happened.
void sim::crash(bool silently) {
    RONDO_ASSERT(own_ == nullptr && !crashed_, "one machine of a world crashes, once");
    aborted_.reserve(armed_);
    for (socket* s : machine_.table) {
        if (s == nullptr) continue;
        for (half* place : {&s->reader, &s->writer, &s->closer}) {
            if (place->linked()) {
                place->unlink();
                --machine_.due_count;
            }
            io_op* const op = std::exchange(place->op, nullptr);
            if (op == &nobody_) {
                --armed_;
                --reaping_;
            } else if (op != nullptr) {
                aborted_.push_back(op);
            }
        }
    }
    std::reverse(aborted_.begin(), aborted_.end());
    afterlife_ = machine_.local_time();
    crashed_ = true;
    network_.crash(machine_, silently);
}

/// Reports what is ready, in the order of becoming ready unless the oracle wants another one.
void sim::report_due(completions& done) noexcept {
    constexpr std::size_t reach = 64;  // how far ahead the oracle may pick: keeps a pick cheap
    while (machine_.due_count > 0 && !done.full()) {
        const auto alternatives = static_cast<std::uint32_t>(std::min(machine_.due_count, reach));
        half& place = machine_.take_due(oracle_.choose(choice::completion_order, alternatives));
        io_op& op = *place.op;
        const int fd = place.of.fd;
        const int result = settle(place);
        if (!finished(result)) continue;
        network_.record(static_cast<std::uint32_t>(op.kind), fd, result);
        --armed_;
        if (&op != &nobody_) {
            done.report(op, result);
        } else {
            --reaping_;
            reaped_ = true;
        }
    }
}

/// The result of the op that waits at `place`, which is free then; -EAGAIN: it waits on.
int sim::settle(half& place) noexcept {
    socket& s = place.of;
    io_op& op = *place.op;
    if (op.kind == io_kind::close) {
        place.op = nullptr;
        network_.close(s);
        return 0;
    }
    int result = -EAGAIN;
    if ((op.flags & io_op::closing) != 0) {
        result = -EBADF;
    } else if (op.state == op::cancelling) {
        const bool wins = oracle_.choose(choice::cancel_race, place.since != 0 ? 2 : 1) != 0;
        if (wins) result = attempt(s, op);
        if (!finished(result)) result = -ECANCELED;
    } else {
        result = attempt(s, op);
    }
    if (finished(result)) {
        place.op = nullptr;
        if (s.closer.op != nullptr && s.reader.op == nullptr && s.writer.op == nullptr) network_.make_due(s.closer);
    }
    return result;
}

// The operations: a result, or -EAGAIN.

int sim::attempt(socket& s, io_op& op) noexcept {
    switch (op.kind) {
        case io_kind::accept: return network_.accept(s);
        case io_kind::connect: {
            const int result = network_.connect(s, *static_cast<const raw_address*>(op.data));
            return result == -EALREADY ? -EAGAIN : result;
        }
        case io_kind::receive: return receive(s, op);
        case io_kind::borrow: return borrow(s, op);
        case io_kind::send: return send(s, op);
        case io_kind::send_vector: return send_vector(s, op);
        case io_kind::receive_datagrams: return receive_datagrams(s, op);
        case io_kind::send_datagrams: return send_datagrams(s, op);
        case io_kind::receive_message: return receive_message(s, op);
        case io_kind::send_message: return send_message(s, op);
        case io_kind::splice_in: return splice_in(s, op);
        case io_kind::splice_out: return splice_out(s, op);
        case io_kind::poll_in: return s.reader.since != 0 ? 0 : -EAGAIN;
        case io_kind::poll_out: return s.writer.since != 0 ? 0 : -EAGAIN;
        case io_kind::poll:
        case io_kind::close: break;
    }
    return -EINVAL;
}

int sim::receive(socket& s, io_op& op) noexcept {
    const std::uint32_t wanted = std::min(op.size, most);
    while (op.moved < wanted) {
        const int n = network_.receive(s, static_cast<std::byte*>(op.data) + op.moved, wanted - op.moved);
        if (n < 0) return n;
        op.moved += static_cast<std::uint32_t>(n);
        if (n == 0 || (op.flags & io_op::all) == 0) break;
    }
    return static_cast<int>(op.moved);
}

int sim::borrow(socket& s, io_op& op) noexcept {
    op.data = nullptr;
    op.size = 0;
    if (s.state != socket::phase::connected || s.arrived == 0) {
        std::byte none;
        return network_.receive(s, &none, 1);  // the end, an error, or not yet
    }
    if (oracle_.happens(choice::resource_error, machine_.lacks.memory)) return -ENOMEM;
    detail::chunk* buffer = buffers_.take();
    if (buffer == nullptr) return -ENOMEM;
    const int n = network_.receive(s, buffer->data, std::min(buffers_.size(), most));
    if (n < 0) {
        buffers_.give_back(*buffer);
        return n;
    }
    op.data = buffer->data;
    op.size = static_cast<std::uint32_t>(n);
    return n;
}

void sim::give_back(void* data, std::uint32_t size, std::uint16_t) noexcept {
    std::memset(data, 0xdd, size);  // who looks at it once more shall notice
    buffers_.give_back(data);
}

int sim::send(socket& s, io_op& op) noexcept {
    const std::uint32_t wanted = std::min(op.size, most);
    while (op.moved < wanted) {
        const int n = network_.send(s, static_cast<const std::byte*>(op.data) + op.moved, wanted - op.moved);
        if (n < 0) return n;
        op.moved += static_cast<std::uint32_t>(n);
        if ((op.flags & io_op::all) == 0) break;
    }
    return static_cast<int>(op.moved);
}

/// A buffer stands in for the pipe.
int sim::splice_in(socket& s, io_op& op) noexcept {
    op.data = nullptr;
    if (s.state != socket::phase::connected || s.arrived == 0) {
        std::byte none;
        return network_.receive(s, &none, 1);  // the end, an error, or not yet
    }
    if (oracle_.happens(choice::resource_error, machine_.lacks.descriptors)) return -EMFILE;
    detail::chunk* const pipe = buffers_.take();
    if (pipe == nullptr) return -ENOMEM;
    const int n = network_.receive(s, pipe->data, std::min({op.size, buffers_.size(), most}));
    if (n <= 0) {
        buffers_.give_back(*pipe);
        return n;
    }
    pipe->begin = 0;
    pipe->end = static_cast<std::uint32_t>(n);
    op.data = pipe;
    return n;
}

int sim::splice_out(socket& s, io_op& op) noexcept {
    auto& pipe = *static_cast<detail::chunk*>(op.data);
    const int n = network_.send(s, pipe.data + pipe.begin, op.size);
    if (n > 0) {
        op.moved = static_cast<std::uint32_t>(n);
        pipe.begin += op.moved;
    }
    return n;
}

int sim::give_back_pipe(const sys_op& what) noexcept {
    auto& pipe = *static_cast<detail::chunk*>(what.pipe);
    const int saved = what.data != nullptr ? static_cast<int>(what.size) : 0;
    if (saved > 0) std::memcpy(what.data, pipe.data + pipe.begin, what.size);
    std::memset(pipe.data, 0xdd, pipe.end);
    buffers_.give_back(pipe);
    return saved;
}

/// Like writev: without `all` it stops at the first span that does not go through whole.
int sim::send_vector(socket& s, io_op& op) noexcept {
    const std::span spans(static_cast<const std::span<const std::byte>*>(op.data), op.size);
    std::size_t skip = op.moved;
    for (std::span<const std::byte> span : spans) {
        const std::size_t skipped = std::min(skip, span.size());
        skip -= skipped;
        span = span.subspan(skipped);
        while (!span.empty() && op.moved < most) {
            const int n = network_.send(s, span.data(), std::min<std::size_t>(span.size(), most - op.moved));
            if (n < 0) {
                const bool partly = op.moved > 0 && (op.flags & io_op::all) == 0;
                return partly ? static_cast<int>(op.moved) : n;
            }
            op.moved += static_cast<std::uint32_t>(n);
            span = span.subspan(static_cast<std::size_t>(n));
            if (!span.empty() && (op.flags & io_op::all) == 0) return static_cast<int>(op.moved);
        }
    }
    return static_cast<int>(op.moved);
}

/// As recvmmsg: what is there, and an error only if nothing has come before it.
int sim::receive_datagrams(socket& s, io_op& op) noexcept {
    constexpr std::uint32_t at_once = 64;
    auto* const all = static_cast<raw_datagram*>(op.data);
    if (s.error != 0 || s.inbox_count == 0) return network_.receive_datagram(s, *all);
    std::uint32_t count = std::min({op.size, s.inbox_count, at_once});
    if (const auto fewer = oracle_.choose(choice::receive_size, count); fewer != 0) count = fewer;
    for (op.moved = 0; op.moved < count; ++op.moved) network_.receive_datagram(s, all[op.moved]);
    return static_cast<int>(count);
}

int sim::send_datagrams(socket& s, io_op& op) noexcept {
    auto* const all = static_cast<raw_datagram*>(op.data);
    for (; op.moved < op.size; ++op.moved) {
        raw_datagram& at = all[op.moved];
        do {
            const std::uint32_t left = at.size - at.sent;
            const std::uint32_t size = at.segment != 0 ? std::min<std::uint32_t>(left, at.segment) : left;
            const void* const from = static_cast<const std::byte*>(at.data) + at.sent;
            if (const int error = network_.send_datagram(s, from, size, at.address); error < 0) return error;
            at.sent += size;
        } while (at.sent < at.size);
    }
    return static_cast<int>(op.moved);
}

int sim::try_datagrams(socket& s, const sys_op& what) noexcept {
    const bool receives = what.what == sys_op::call::try_receive_datagrams;
    if (transfers(receives ? s.reader.op : s.writer.op)) return -EAGAIN;
    io_op op(told_to_nobody, receives ? io_kind::receive_datagrams : io_kind::send_datagrams, what.fd);
    op.data = what.data;
    op.size = static_cast<std::uint32_t>(std::min<std::size_t>(what.size, most));
    const int result = receives ? receive_datagrams(s, op) : send_datagrams(s, op);
    return result < 0 && op.moved > 0 ? static_cast<int>(op.moved) : result;
}

int sim::receive_message(socket& s, io_op& op) noexcept {
    return network_.receive_message(s, *static_cast<raw_message*>(op.data), op.moved);
}

int sim::send_message(socket& s, io_op& op) noexcept {
    const auto& message = *static_cast<const raw_message*>(op.data);
    do {
        const int n = network_.send_message(s, message, op.moved);
        if (n < 0) return n;
        op.moved += static_cast<std::uint32_t>(n);
    } while (message.of_stream && op.moved < message.size);
    return static_cast<int>(op.moved);
}

int sim::try_message(socket& s, const sys_op& what) noexcept {
    const bool receives = what.what == sys_op::call::try_receive_message;
    if (transfers(receives ? s.reader.op : s.writer.op)) return -EAGAIN;
    io_op op(told_to_nobody, receives ? io_kind::receive_message : io_kind::send_message, what.fd);
    op.data = what.data;
    const int result = receives ? receive_message(s, op) : send_message(s, op);
    return result < 0 && !receives && op.moved > 0 ? static_cast<int>(op.moved) : result;
}

// What never blocks.

int sim::control(sys_op& what) noexcept {
    if (what.what == sys_op::call::give_back_pipe) return give_back_pipe(what);  // memory of the program's
    if (crashed_) return what.what == sys_op::call::close ? 0 : -ENETDOWN;
    if (left_) return what.what == sys_op::call::close ? 0 : call(what);
    // Who asks for an address changes nothing; and who watches a world does, to describe what is waited for.
    using enum sys_op::call;
    const bool only_looks = what.what == local_address || what.what == peer_address || what.what == tcp_info ||
                            what.what == unix_local_name || what.what == unix_peer_name ||
                            what.what == unix_credentials;
    if (only_looks) return call(what);
    network_.take_time(machine_);
    const int result = call(what);
    network_.record(200 + static_cast<std::uint32_t>(what.what), what.fd, result);
    return result;
}

int sim::call(sys_op& what) noexcept {
    using enum sys_op::call;
    if (what.what == tcp_socket) return network_.open(machine_, what.address->kind);
    if (what.what == stream_pair) return network_.pair(machine_, static_cast<unix_type>(what.value), what.fds);
    if (what.what == unix_socket) return network_.open_unix(machine_, static_cast<unix_type>(what.value));
    if (what.what == watch_clock && what.fd < 0) return network_.watch_clock(machine_);
    if (what.what == udp_socket) return network_.open(machine_, what.address->kind, true);
    if (what.what == pipe_pair) return network_.pipe(machine_, what.fds, what.value);
    if (what.what == adopt_pipe || what.what == fifo_make || what.what == fifo_open || what.what == standard_stream ||
        what.what == terminal_pair)
        return -ENOSYS;
    if (what.what == adopt) return network_.adopt(machine_, what.fd, what.name, what.value != 0);
    if (what.what == unwatch) return 0;

    socket* s = machine_.find(what.fd);
    if (s == nullptr || s->closer.op != nullptr) return -EBADF;
    switch (what.what) {
        case bind: return network_.bind(*s, *what.address);
        case listen: return network_.listen(*s, what.value);
        case local_address: return network_.local_address(*s, *what.address);
        case peer_address: return network_.peer_address(*s, *what.address);
        case set_option: return network_.set_option(*s, what.which, what.value);
        case get_option: return network_.get_option(*s, what.which, what.value);
        case shutdown_write: return network_.shutdown_write(*s);
        case reset_on_close: s->reset_on_close = true; return 0;
        case try_send:
            if (transfers(s->writer.op)) return -EAGAIN;  // bytes must not interleave
            return network_.send(*s, what.data, std::min<std::size_t>(what.size, most));
        case try_receive:
            if (transfers(s->reader.op)) return -EAGAIN;
            return network_.receive(*s, what.data, std::min<std::size_t>(what.size, most));
        case close: s->is_alone() ? network_.close(*s) : network_.close_number(*s, what.fd); return 0;
        case watch_clock: return network_.watch_clock_anew(*s);
        case udp_connect: return network_.connect_datagrams(*s, *what.address);
        case try_send_datagrams:
        case try_receive_datagrams: return try_datagrams(*s, what);
        case join_group: return network_.join_group(*s, *what.address, what.value);
        case leave_group: return network_.leave_group(*s, *what.address, what.value);
        case shutdown_read: return network_.shutdown_read(*s);
        case tcp_info: return network_.info(*s, *static_cast<connection_info*>(what.data));
        case set_any_option:
        case get_any_option:
        case unwatch:
        case adopt: return -ENOSYS;
        case unix_bind: return network_.bind_unix(*s, *static_cast<unix_binding*>(what.data));
        case unix_unlink: return network_.unlink_unix(*s, *static_cast<const unix_binding*>(what.data));
        case unix_connect: return network_.connect_unix(*s, *static_cast<const raw_unix_name*>(what.data));
        case unix_local_name: *static_cast<raw_unix_name*>(what.data) = s->name; return 0;
        case unix_peer_name: return network_.unix_peer_name(*s, *static_cast<raw_unix_name*>(what.data));
        case unix_credentials: return network_.unix_credentials(*s, *static_cast<peer_credentials*>(what.data));
        case pipe_capacity: return network_.pipe_capacity(*s, what.value);
        case terminal_number:
        case terminal_window: return -ENOTTY;
        case pipe_pair:
        case adopt_pipe:
        case fifo_make:
        case fifo_open:
        case standard_stream:
        case terminal_pair: break;
        case try_send_message:
        case try_receive_message: return try_message(*s, what);
        case udp_socket:
        case tcp_socket:
        case unix_socket:
        case give_back_pipe:
        case stream_pair: break;
    }
    return -EINVAL;
}

// Signals.

int sim::watch_signals(signal_watch& who) noexcept {
    if (own_ != nullptr) return detail::watch_process_signals(who);
    constexpr std::uint64_t never_caught = signal_watch::bit(SIGKILL) | signal_watch::bit(SIGSTOP);
    if ((who.signals & never_caught) != 0) return -EINVAL;
    watches_.add(who);
    return 0;
}

void sim::unwatch_signals(signal_watch& who) noexcept {
    if (own_ != nullptr) return detail::unwatch_process_signals(who);
    watches_.remove(who);
}

/// False: the program does not watch it.
bool sim::signal(int number) noexcept {
    const bool told = watches_.tell(number);
    network_.record(300 + static_cast<std::uint32_t>(number), -1, told);
    return told;
}

// The rest.

std::int64_t sim::wall_now() noexcept {
    constexpr std::int64_t year_2000 = 946'684'800'000'000'000;  // in ns since 1970
    using limits = std::numeric_limits<std::int64_t>;
    std::int64_t wall = year_2000;
    for (const duration more : {machine_.wall_offset, now().time_since_epoch()})
        if (__builtin_add_overflow(wall, more.count(), &wall))
            wall = more < duration::zero() ? limits::min() : limits::max();
    return wall;
}

void sim::spin(duration by) noexcept {
    if (by <= duration::zero()) return;
    const time_point from = std::max(network_.now(), machine_.busy_until);
    const time_point to = from + std::min(by, simulated::last_moment - from);
    if (crashed_) {
        afterlife_ += std::min(by, simulated::last_moment - afterlife_);
    } else if (own_ == nullptr) {
        machine_.busy_until = to;  // the others go on meanwhile
    } else {
        network_.move_to(to);
    }
}

std::string sim::describe() const {
    const std::int64_t ns = network_.now().time_since_epoch().count();
    char text[160];
    std::snprintf(text, sizeof text,
                  "simulated world at %" PRId64 ".%09" PRId64
                  " s: %zu descriptors, %zu ops armed, "
                  "%" PRIu64 " events, hash %016" PRIx64,
                  ns / 1'000'000'000, ns % 1'000'000'000, machine_.open, armed_, network_.events(), network_.hash());
    return text;
}

}  // namespace

std::unique_ptr<backend> make_sim(const backend_options& options, sim_parts parts) noexcept {
    try {
        return std::make_unique<sim>(options, std::move(parts));
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void crash_machine(backend& simulated, bool silently) {
    auto* const machine = dynamic_cast<sim*>(&simulated);
    RONDO_ASSERT(machine != nullptr, "a simulated world cannot go on in a forked child");
    machine->crash(silently);
}
bool signal_machine(backend& simulated, int number) noexcept {
    auto* const machine = dynamic_cast<sim*>(&simulated);
    RONDO_ASSERT(machine != nullptr, "a simulated world cannot go on in a forked child");
    return machine->signal(number);
}

std::uint64_t event_hash(const backend& simulated) noexcept {
    const auto* const world = dynamic_cast<const sim*>(&simulated);
    RONDO_ASSERT(world != nullptr, "only a simulated world has a hash, and not in a forked child");
    return world->hash();
}

}  // namespace rondo
