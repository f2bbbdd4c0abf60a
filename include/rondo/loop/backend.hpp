// The only door to the outside world. Time, I/O, being woken, randomness: whatever is not
// determined by the program crosses this class, so `sim` can stand in for the kernel.
//
// An operation is data (`io_op`), and there is one `submit`: adding a system call touches one enum
// and a switch per backend. A backend knows ops, not the loop: it never calls upward, it reports.
//
// Contract of an io_op
//   submit(op)   true: finished at once, op.result is set, the op never was armed. False: armed;
//                its completion will be reported by `wait`, exactly once.
//   cancel(op)   a request, for an armed op not yet reported. It never fails, not even for lack of
//                a slot. The op is still reported: -ECANCELED, or its real result.
//   wait(...)    the poll phase: reports finished ops as {op, result}. It marks a reported op `done`
//                first, so a cancel that comes between the report and its delivery does nothing.
//   close        is an io_op too: it ends every armed op of the descriptor with -EBADF, waits until
//                the kernel has let go of them, and then closes. `reap` is the same for nobody.
#pragma once

#include <rondo/loop/op.hpp>
#include <rondo/loop/oracle.hpp>
#include <rondo/base/time.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace rondo {

/// A socket address in rondo's own form; backends translate. (endpoint.hpp is the public face.)
struct raw_address {
    enum class family : std::uint8_t { none, v4, v6 };

    family kind = family::none;
    std::uint16_t port = 0;    // host order
    std::uint32_t scope = 0;   // IPv6 zone
    std::uint8_t bytes[16] = {};  // network order; the first 4 for v4
};

enum class io_kind : std::uint8_t {
    accept,     // result: a new descriptor (CLOEXEC, non-blocking)
    connect,    // to *address; result 0
    receive,    // into {data, size}; result: bytes, 0 at end of stream
    borrow,     // the same into a buffer of the backend's: {data, size, buffer} are set by it
    send,       // {data, size}; result: bytes
    send_vector,  // `size` spans at `data` (std::span<const std::byte>); result: bytes
    poll_in,    // until the descriptor is readable (or hung up); result 0
    poll_out,
    close,
};

/// One I/O operation. `fd`, buffers and address stay valid until it is reported.
struct io_op : op {
    enum : std::uint8_t {
        all = 1,         // receive: until `size` bytes or the end; send: until all is written
        closing = 2,     // (backend) ended by close: report -EBADF
        foreign = 4,     // poll_*: not a descriptor of rondo's; nothing is cached about it
    };

    io_op(const op_vtable& table, io_kind k, int descriptor) noexcept
        : op(table), fd(descriptor), kind(k) {}

    static constexpr std::uint16_t in_no_ring = 0xffff;

    int fd;
    io_kind kind;
    std::uint8_t flags = 0;
    std::uint16_t buffer = in_no_ring;  // borrow: which buffer of the ring, if there is one
    void* data = nullptr;      // bytes, spans, or a raw_address (connect)
    std::uint32_t size = 0;
    std::uint32_t moved = 0;   // with `all`: bytes already through, also when it ends early
};

/// What never blocks, answered at once: result >= 0, or -errno.
struct sys_op {
    enum class call : std::uint8_t {
        tcp_socket,      // `address->kind` chooses the family; result: a descriptor
        bind,            // to *address
        listen,          // backlog `value`
        local_address,   // into *address
        peer_address,    // into *address
        set_option,      // `option` to `value`
        get_option,      // result in `value`
        shutdown_write,
        reset_on_close,  // SO_LINGER 0: closing sends RST
        stream_pair,     // result 0; two connected descriptors in fds
        try_send,        // {data, size}, or a part, without waiting: bytes or -EAGAIN
        try_receive,
        close,           // of a descriptor no op was ever submitted for
    };
    enum class option : std::uint8_t {
        no_delay, keep_alive, reuse_address, reuse_port, v6_only, receive_buffer, send_buffer, error
    };

    call what;
    int fd = -1;
    option which = option::no_delay;
    int value = 0;
    raw_address* address = nullptr;
    int fds[2] = {-1, -1};
    void* data = nullptr;
    std::size_t size = 0;
};

/// Someone who is told of signals: what backend::watch_signals takes, and keeps until unwatch_signals.
struct signal_watch {
    /// Runs on any thread, inside a signal handler: it may only do what is async-signal-safe, as posting to a
    /// loop something that was made beforehand is.
    using notice = void (*)(signal_watch& who, int signal) noexcept;

    explicit signal_watch(notice n) noexcept : notify(n) {}
    signal_watch(const signal_watch&) = delete;
    signal_watch& operator=(const signal_watch&) = delete;

    notice notify;
    std::uint64_t signals = 0;                 // which: bit n - 1 is signal n
    std::atomic<signal_watch*> next{nullptr};  // the backend's
};

/// A finished op, as `backend::wait` reports it.
struct completion {
    io_op* what;
    std::int32_t result;
};

/// The batch that one `wait` may report; what does not fit waits for the next.
class completions {
 public:
    static constexpr std::size_t capacity = 512;

    bool full() const noexcept { return count_ == capacity; }
    std::size_t size() const noexcept { return count_; }

    void report(io_op& what, std::int32_t result) noexcept {
        RONDO_ASSERT(what.state != op::done, "an operation was reported twice");
        report_armed(what, result);
    }
    /// The same of an op that is known to be armed.
    void report_armed(io_op& what, std::int32_t result) noexcept {
        what.state = op::done;
        completion& next = items_[count_++];  // `full` was asked before
        next.what = &what;
        next.result = result;
    }
    const completion* begin() const noexcept { return items_; }
    const completion* end() const noexcept { return items_ + count_; }
    void clear() noexcept { count_ = 0; }

 private:
    completion items_[capacity];
    std::size_t count_ = 0;
};

/// How many bytes I/O may move before timers and everybody else's I/O are looked at again. The loop counts
/// operations; but what takes time is their bytes: a write of 1 GiB to a fast reader never has to wait. So an
/// operation moves at most `at_a_time` in one go, and what is left of it goes on in the next turn. When a turn,
/// which begins with a `wait`, has moved `per_turn`, what would move more than `small` waits for the next, and what
/// has waited moves no more than `when_spent`. What is small always goes at once, uncounted: a quiet connection
/// does not notice, and the loop bounds how many there are.
class byte_budget {
 public:
    static constexpr std::int64_t per_turn = 1 << 20;
    static constexpr std::uint32_t at_a_time = 256 << 10;
    static constexpr std::uint32_t when_spent = 16 << 10;
    static constexpr std::uint32_t small = 4 << 10;

    void renew() noexcept { left_ = per_turn; }
    void spend(std::size_t bytes) noexcept { left_ -= static_cast<std::int64_t>(bytes); }
    bool spent() const noexcept { return left_ <= 0; }
    /// How much of `wanted` may go now.
    std::uint32_t portion(std::size_t wanted) const noexcept {
        return static_cast<std::uint32_t>(std::min<std::size_t>(wanted, spent() ? when_spent : at_a_time));
    }

 private:
    std::int64_t left_ = per_turn;
};

enum class backend_kind : std::uint8_t { automatic, epoll, uring, sim };

/// "epoll", "uring", "sim" or "auto".
[[nodiscard]] RONDO_API const char* name_of(backend_kind kind) noexcept;

class RONDO_API backend {
 public:
    virtual ~backend();

    virtual backend_kind kind() const noexcept = 0;

    /// Monotonic time. Real backends read the clock; `sim` answers its virtual time.
    virtual time_point now() noexcept = 0;
    /// Wall time, in nanoseconds since 1970 (UTC).
    virtual std::int64_t wall_now() noexcept = 0;
    virtual std::uint64_t random() noexcept = 0;
    /// A number in [0, alternatives), for what no program may rely on: random, and on `sim` the oracle's.
    virtual std::uint32_t choose(choice point, std::uint32_t alternatives) noexcept;

    virtual bool submit(io_op& what) noexcept = 0;
    virtual void cancel(io_op& what) noexcept = 0;
    virtual int control(sys_op& what) noexcept = 0;

    /// From now on `who` is told when one of its signals comes, and that does not do what it would. SIGINT,
    /// SIGTERM and SIGHUP stay ignored if they are. 0, or -errno: -EINVAL for one that cannot be caught. Any number
    /// may watch a signal; they are told in the order in which they came. A host of a world has signals of its own
    /// (host::signal); a loop of its own on `sim` has the process's, as all others.
    virtual int watch_signals(signal_watch& who) noexcept = 0;
    /// Afterwards `who` is not told, nor being told, any more. What the signals did before they do again with the
    /// last one.
    virtual void unwatch_signals(signal_watch& who) noexcept = 0;
    /// How many descriptors the program may have open; the largest number if there is no limit.
    virtual std::size_t descriptor_limit() noexcept = 0;
    /// Closes `fd` as io_kind::close does, but nobody waits for it. It needs no memory and cannot fail: what
    /// is dropped when memory has run out is closed, too.
    virtual void reap(int fd) noexcept = 0;
    /// How many of those are not closed yet, because armed ops have to end first. When the last one is, `wait`
    /// returns.
    std::size_t reaping() const noexcept { return reaping_; }

    /// Gives a borrowed buffer back. `data` and `size` are as `borrow` set them.
    virtual void give_back(void* data, std::uint32_t size, std::uint16_t buffer) noexcept = 0;

    /// Blocks until an op finishes, `wake` is called, or `until` has come (`never`: no limit; a time
    /// that has passed: just look). Reports into `done`. False when nothing can ever happen: no
    /// limit, nothing armed that could finish, and nobody outside who could wake it (`sim` only).
    virtual bool wait(time_point until, completions& done) noexcept = 0;

    /// Makes a `wait` in progress, or the next one, return. The only function any thread may
    /// call; async-signal-safe.
    virtual void wake() noexcept = 0;

    /// For embedding: a descriptor that is readable when `wait` would report something; -1: none.
    virtual int poll_fd() noexcept = 0;
    /// For embedding: hands to the kernel what `submit` and `cancel` have only prepared.
    virtual void flush() noexcept = 0;

    /// How many ops are armed, and a sentence about the backend (ring size, why it was chosen).
    virtual std::size_t armed() const noexcept = 0;
    virtual std::string describe() const = 0;

    /// In a forked child, at most once: what this stands for is the parent's. From now on `submit` gets nothing
    /// but closes, which only close the child's copy of a descriptor; `wait` never waits, and reports what is
    /// closed or cancelled, also before; nothing has an effect on the parent.
    virtual void left_to_parent() noexcept;

    /// `sim` only: moves the virtual clock (a step of computing time). Elsewhere false.
    virtual bool advance(duration by) noexcept;
    /// `sim` only: how many descriptors are open in its world. Elsewhere 0: the process has them.
    virtual std::size_t descriptors() const noexcept;
    /// `sim` only: while > 0, someone outside the world may still call `wake`. A wait that only they could end
    /// lasts so long at most, in real time: then it gives false.
    virtual void set_outside(std::size_t handles, duration patience = duration::max()) noexcept;

 protected:
    byte_budget budget_;
    std::size_t reaping_ = 0;
};

namespace simulated {
struct machine;
}

/// How a backend is made; part of loop_options. Every backend refuses what lies outside the ranges,
/// also of options it has no use for.
struct backend_options {
    /// uring: submission queue; halved on ENOMEM. A power of two from 8 to 4096.
    std::uint32_t ring_entries = 256;
    /// Size of a borrowed buffer, in bytes. From 256 to 16 MiB.
    std::uint32_t receive_buffer_size = 16384;
    /// Buffers kept ready; uring: in its ring. A power of two up to 32768.
    std::uint32_t receive_buffer_count = 128;
    oracle* decisions = nullptr;                 // sim: who decides; null is the all-benign oracle
    simulated::machine* machine = nullptr;       // sim: one of a world's (world.hpp); null: a world of its own
};

/// What is wrong with `options`, beginning with the name of the option; null if nothing is.
[[nodiscard]] RONDO_API const char* fault_of(const backend_options& options) noexcept;

/// Makes the backend `kind`. Null, with the reason in `why`, when the machine refuses it, or the
/// options make no sense.
[[nodiscard]] RONDO_API std::unique_ptr<backend> make_backend(backend_kind kind,
                                                              const backend_options& options,
                                                              std::string& why);

}  // namespace rondo
