// The only door to the outside world. Time, I/O, being woken, randomness: whatever is not
// determined by the program crosses this class, so another one can stand in for the kernel.
//
// An operation is data (`io_op`), and there is one `submit`: adding a system call touches one enum
// and a switch per backend. A backend knows ops, not the loop: it never calls upward, it reports.
//
// There are three: lib/backend/epoll, lib/backend/uring, and lib/backend/sim, a network in memory. The first one to
// read is testing/mock_backend.hpp, which does what a script says and nothing else. A loop may be given another one
// by a backend_factory.
//
// Contract of an io_op
//   submit(op)   true: finished at once, op.result is set, the op never was armed. False: armed;
//                its completion will be reported by `wait`, exactly once.
//   cancel(op)   a request, for an armed op not yet reported. It never fails, not even for lack of
//                a slot. The op is still reported: -ECANCELED, or its real result.
//   wait(...)    the poll phase: reports finished ops as {op, result}. It marks a reported op `done`
//                first, so a cancel that comes between the report and its delivery does nothing.
//   close        is an io_op too: it ends every armed op of the descriptor with -EBADF, waits until
//                the kernel has let go of them, and then closes. `reap` does so when nobody waits for it.
#pragma once

#include <rondo/loop/op.hpp>
#include <rondo/loop/oracle.hpp>
#include <rondo/base/time.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace rondo {

/// A socket address in rondo's own form; backends translate. (endpoint.hpp is the public face.)
struct raw_address {
    enum class family : std::uint8_t { none, v4, v6 };  // no address, IPv4, IPv6

    family kind = family::none;
    std::uint16_t port = 0;    // host order
    std::uint32_t scope = 0;   // IPv6 zone
    std::uint8_t bytes[16] = {};  // network order; the first 4 for v4
};

/// One datagram, as the io_kinds that move them want it: a place for it, or what is in there.
struct raw_datagram {
    void* data = nullptr;
    std::uint32_t capacity = 0;  // how many bytes a receive may write there
    std::uint32_t size = 0;      // how many are to be sent, or have come
    std::uint32_t sent = 0;      // so many of them have gone out; 0 when a send is submitted
    std::uint16_t segment = 0;  // it is several datagrams in a row of this size, the last perhaps less; 0: one
    bool truncated = false;  // what has come was longer than its place
    raw_address address;  // to whom (of no family: to whom the socket is connected), or from whom
};

/// The name of a Unix socket: a path, or a zero byte and an abstract name. Not ended by a zero; no bytes are no name.
struct raw_unix_name {
    static constexpr std::size_t capacity = 108;

    std::uint8_t size = 0;
    char bytes[capacity] = {};
};

/// What a Unix socket moves.
enum class unix_type : std::uint8_t { stream, datagram, packet };  // bytes, messages to names, messages of a connection

/// A place for a descriptor that comes with a message, or the descriptor.
struct raw_descriptor {
    std::uint32_t loop = 0;  // whose it is; backends leave that alone
    int fd = -1;
};

/// A message of a Unix socket, or bytes of a stream, and what goes along with them.
struct raw_message {
    static constexpr std::uint16_t most_descriptors = 253;  // as on Linux

    void* data = nullptr;  // bytes to send, or a place for some
    std::uint32_t size = 0;  // how many there are, or how many have room
    bool of_stream = false;  // they may move in parts
    bool truncated = false;  // what has come was longer than its place
    bool ended = false;  // nothing has come, and nothing will come any more
    std::uint16_t descriptor_count = 0;  // of those to send, or of the places; then of those that have come
    const int* descriptors = nullptr;  // to send: their copies go with the first byte
    raw_descriptor* places = nullptr;  // to receive; without any, what comes is closed
    raw_unix_name* name = nullptr;  // to whom; or where to say from whom. Null: to the peer, or nobody asks
};

enum class io_kind : std::uint8_t {
    accept,  // result: a new descriptor (CLOEXEC, non-blocking)
    connect,  // to *address; result 0
    // The next four move bytes by recv(2) and send(2), or read(2) and write(2) where the descriptor is no socket.
    receive,  // into {data, size}; result: bytes, 0 at end of stream
    borrow,  // into a buffer of the backend's, which sets {data, size, buffer}; result likewise
    send,  // {data, size}; result: bytes
    send_vector,  // `size` spans at `data` (std::span<const std::byte>); result: bytes
    poll_in,  // until the descriptor is readable (or hung up); result 0
    poll_out,  // until it is writable; result 0
    poll,  // until something of `size` (poll_mask) is there; result: what is, of these, and `error`
    close,
    // Datagrams: `size` raw_datagrams at `data`.
    receive_datagrams,  // those that are there, 64 at most; result: how many, at least 1
    send_datagrams,  // all of them; result: how many, and so is `moved`, however it ends
    // Unix sockets: one raw_message at `data`.
    receive_message,  // result: bytes. -EMSGSIZE: more descriptors have come than there is room for, or -EMFILE: than
    // the process may have; they are closed, and `moved` bytes have come all the same
    send_message,  // result: bytes. To a name it does not wait, -EAGAIN: nobody tells when that receiver has room
    // From one descriptor to another without coming into the program's memory, by splice(2) and a
    // pipe that the backend lends: none is held while nothing comes. It goes back by
    // sys_op::call::give_back_pipe, full or empty.
    //
    // At most `size` bytes that have come, into a pipe, which `data` is set to; result: bytes. 0, and no
    // pipe: what is next is not for a pipe, so receive it. It is the end of the stream, or lies behind an
    // urgent byte, or is in the backend already. -EMFILE, -ENFILE, -ENOMEM: there is no pipe to be had.
    splice_in,
    // Of the `size` bytes that are in the pipe `data` at least one; result: bytes.
    splice_out,
};

/// What io_kind::poll waits for.
struct poll_mask {
    enum : std::uint8_t {
        in = 1,
        out = 2,
        urgent = 4,
        error = 8,  // failed, or hung up; always told, and so are then `in` and `out`, if they are asked for
    };
};

/// One I/O operation. `fd`, buffers and address stay valid until it is reported.
struct io_op : op {
    enum : std::uint8_t {
        all = 1,  // receive: until `size` bytes or the end; send: until all is written
        closing = 2,  // (backend) ended by close: report -EBADF
        foreign = 4,  // poll_*: not a descriptor of rondo's; nothing is cached about it
        segments = 8,  // receive_datagrams: several of one sender may come in one place (raw_datagram::segment)
        hand_over = 16,  // close: lets go of it instead. -EBUSY: an op waits; -EAGAIN: something has come from the
        // kernel that nobody has asked for yet
    };

    io_op(const op_vtable& table, io_kind k, int descriptor) noexcept : op(table), fd(descriptor), kind(k) {}

    static constexpr std::uint16_t in_no_ring = 0xffff;  // a `buffer` that belongs to no ring

    int fd;
    io_kind kind;
    std::uint8_t flags = 0;  // `all` and the others
    std::uint16_t buffer = in_no_ring;  // borrow: which buffer of the ring, if there is one
    void* data = nullptr;  // bytes, spans, or a raw_address (connect)
    std::uint32_t size = 0;
    std::uint32_t moved = 0;  // with `all`: bytes (or datagrams) already through, also when it ends early
};

/// What TCP is doing with a connection (RFC 9293), numbered as on Linux.
enum class tcp_state : std::uint8_t {
    established = 1,  // bytes may move, both ways
    syn_sent,  // it was asked for, and the peer has not answered
    syn_received,  // the peer has asked for it
    fin_wait_1,  // the end was sent, and not acknowledged yet
    fin_wait_2,  // the peer has acknowledged the end, and not ended its own side
    time_wait,  // both ends have come; late segments are waited for
    closed,  // over, in peace or by a reset
    close_wait,  // the peer's end has come
    last_ack,  // both ends were sent, and ours was not acknowledged yet
    listening,  // no connection, but a listener
    closing,  // both sides have ended at the same time
};

/// How a TCP connection gets on, as this side's host knows it.
struct connection_info {
    tcp_state state = tcp_state::closed;
    duration rtt{};  // of a segment and its acknowledgement, smoothed
    duration rtt_variation{};
    std::uint32_t retransmits = 0;  // of what is not acknowledged, in a row; 0 when an answer has come
    std::uint32_t total_retransmits = 0;  // segments, since the connection began
    std::uint32_t congestion_window = 0;  // segments; 0 in a simulated world, which has none
    std::uint64_t bytes_acknowledged = 0;  // Linux counts both ends of a stream as a byte
    std::uint64_t bytes_received = 0;  // read or not
    std::uint64_t unacknowledged = 0;  // written, but not acknowledged; the end of the stream is one of these
    std::uint64_t unsent = 0;  // those of them that were not even sent
};

/// A Unix socket that is bound, and the file that its path has become.
struct unix_binding {
    raw_unix_name name;
    std::uint16_t mode = 0600;  // of the file
    bool replace = true;  // the file of a socket that nobody listens at makes room
    std::uint64_t device = 0;  // which file it is; 0 and 0: none
    std::uint64_t inode = 0;  // likewise
};

/// Whom the kernel saw at the other end of a Unix socket when the connection was made.
struct peer_credentials {
    std::int32_t process = 0;  // 0 if it is in another PID namespace
    std::uint32_t user = 0;
    std::uint32_t group = 0;

    friend bool operator==(const peer_credentials&, const peer_credentials&) = default;
};

/// How large the window of a terminal is.
struct window_size {
    std::uint16_t rows = 0;  // 0: unknown
    std::uint16_t columns = 0;
    std::uint16_t width = 0;  // in pixels; most terminals leave this and the height at 0
    std::uint16_t height = 0;

    friend bool operator==(const window_size&, const window_size&) = default;
};

/// What never blocks, answered at once: result >= 0, or -errno.
struct sys_op {
    enum class call : std::uint8_t {
        tcp_socket,  // `address->kind` chooses the family; result: a descriptor
        bind,  // to *address
        listen,  // backlog `value`
        local_address,  // into *address
        peer_address,  // into *address
        set_option,  // `option` to `value`
        get_option,  // result in `value`
        shutdown_write,  // shutdown(2): the peer reads to the end
        reset_on_close,  // SO_LINGER 0: closing sends RST
        stream_pair,  // of Unix sockets of the unix_type `value`; result 0; two connected descriptors in fds
        try_send,  // {data, size}, or a part, without waiting: bytes or -EAGAIN
        try_receive,
        close,  // of a descriptor no op was ever submitted for
        watch_clock,  // fd -1: makes a descriptor that poll_in finds ready when the wall clock was set, or when the
        // machine has slept, after this call. One of these: what was before is forgotten
        udp_socket,  // as tcp_socket
        udp_connect,  // to *address: the one peer from now on; of no family: to nobody any more
        try_send_datagrams,  // `size` raw_datagrams at `data`, or some, without waiting: how many, or -EAGAIN
        try_receive_datagrams,  // `value`: the flags of such an io_op
        join_group,  // the multicast group *address, on the interface of number `value`; 0: the usual one
        leave_group,  // likewise
        shutdown_read,
        tcp_info,  // into the connection_info at `data`; -EOPNOTSUPP of what is no TCP
        set_any_option,  // `level` and `name` to {data, size}
        get_any_option,  // into {data, size}; result: how many bytes
        unwatch,  // every op about `fd` that is `foreign` ends with -EBADF: its owner is about to close it
        adopt,  // `fd` becomes one of rondo's, if it is TCP (`name` 0), or a Unix socket of a unix_type (`name` 1 and
        // more), and listens (`value` 1) or is connected (0); of datagrams, whatever it does
        unix_socket,  // of the unix_type `value`; result: a descriptor
        unix_bind,  // as the unix_binding at `data` says, which learns the file
        unix_unlink,  // removes the file of the unix_binding at `data`, if it still is the same
        unix_connect,  // to the raw_unix_name at `data`; -EAGAIN when the queue of the listener is full. Of
        // datagrams: the one peer from now on; of no bytes: nobody is it any more
        unix_local_name,  // into the raw_unix_name at `data`
        unix_peer_name,  // likewise
        unix_credentials,  // of the peer, into the peer_credentials at `data`; -ENOTCONN if there is none
        pipe_pair,  // whose buffer has `value` bytes, 0: as usual; result 0; who reads, and who writes, in fds
        pipe_capacity,  // result: the size of the buffer of the pipe; it becomes `value` before, if that is not 0
        adopt_pipe,  // `fd` becomes one of rondo's, if it is an end of a pipe: to read (`value` 0), or to write (1)
        fifo_make,  // a file at the path at `data`, which ends with a zero; its mode is `value`
        fifo_open,  // the one at the path at `data`, to read (`value` 0), or to write (1), -ENXIO: nobody reads;
        // result: a descriptor, with which reading waits until somebody has opened it for writing
        standard_stream,  // result: a descriptor of its own for standard input, output or error (`value` 0, 1 or 2)
        terminal_pair,  // raw, if `value` is 1; result 0; the master and the terminal in fds
        terminal_number,  // of a master; result: which terminal is its own
        terminal_window,  // into the window_size at `data`; or set to it, if `value` is 1
        try_send_message,  // the raw_message at `data`, without waiting: bytes, or -EAGAIN
        try_receive_message,  // likewise
        // Of splice_in, `pipe`, with `size` bytes left in it, which go to `data`, or are lost if that is
        // null; result: how many were saved.
        give_back_pipe,
    };
    enum class option : std::uint8_t {
        no_delay,  // TCP_NODELAY
        keep_alive,  // SO_KEEPALIVE
        reuse_address,  // SO_REUSEADDR
        reuse_port,  // SO_REUSEPORT
        v6_only,  // IPV6_V6ONLY
        receive_buffer,  // SO_RCVBUF, in bytes
        send_buffer,  // SO_SNDBUF, in bytes
        error,  // SO_ERROR
        broadcast,  // SO_BROADCAST
        ttl,  // IP_TTL, IPV6_UNICAST_HOPS
        multicast_ttl,
        multicast_loop,
        multicast_interface,  // its number; 0: the usual one. Can only be set
        receive_segments,  // see io_op::segments
        keep_alive_idle,  // seconds
        keep_alive_interval,  // seconds
        keep_alive_count,  // of probes without an answer
        user_timeout,  // milliseconds; 0: the system's limits
        cork,
        late_port,  // bind to port 0 leaves the choice to connect
    };

    call what;
    int fd = -1;
    option which = option::no_delay;
    int value = 0;
    raw_address* address = nullptr;
    int fds[2] = {-1, -1};
    void* data = nullptr;
    std::size_t size = 0;
    int level = 0;
    int name = 0;
    void* pipe = nullptr;
};

/// Someone who is told of signals: what backend::watch_signals takes, and keeps until unwatch_signals.
struct signal_watch {
    /// Runs on any thread, inside a signal handler: it may only do what is async-signal-safe, as posting to a
    /// loop something that was made beforehand is.
    using notice = void (*)(signal_watch& who, int signal) noexcept;

    explicit signal_watch(notice n) noexcept : notify(n) {}
    signal_watch(const signal_watch&) = delete;
    signal_watch& operator=(const signal_watch&) = delete;

    static constexpr int signal_count = 65;  // Linux has 1 to 64
    /// Whether there is a signal of that number.
    static constexpr bool is_signal(int number) noexcept { return number > 0 && number < signal_count; }
    /// How a set of signals, as `signals` is one, holds this one.
    static constexpr std::uint64_t bit(int number) noexcept { return std::uint64_t{1} << (number - 1); }

    notice notify;
    std::uint64_t signals = 0;  // which: bit n - 1 is signal n
    bool last_resort = false;  // told only of a signal that nobody else watches
    signal_watch* next = nullptr;  // the backend's; changed while a signal handler may walk there
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
    /// Reports an op that is known to be armed.
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

    void renew() noexcept { left_ = per_turn; }  // a turn begins
    /// So many bytes have moved.
    void spend(std::size_t bytes) noexcept { left_ -= static_cast<std::int64_t>(bytes); }
    bool spent() const noexcept { return left_ <= 0; }  // the turn has moved what it may
    /// How much of `wanted` may go now.
    std::uint32_t portion(std::size_t wanted) const noexcept {
        const std::uint32_t most = spent() ? when_spent : at_a_time;
        return wanted < most ? static_cast<std::uint32_t>(wanted) : most;
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
    /// A sentence about it: what it is, and with which sizes.
    virtual std::string describe() const = 0;

    // --- time and chance

    /// Monotonic time.
    virtual time_point now() noexcept = 0;
    /// Wall time, in nanoseconds since 1970 (UTC).
    virtual std::int64_t wall_now() noexcept = 0;
    virtual std::uint64_t random() noexcept = 0;
    /// A number in [0, alternatives), for what no program may rely on. The usual one is random.
    virtual std::uint32_t choose(choice point, std::uint32_t alternatives) noexcept;
    /// Lets `by` pass as if the program computed: the clock runs on, and nothing else happens. The usual one looks at
    /// it until it is time.
    virtual void spin(duration by) noexcept;

    // --- operations, as the contract above says

    virtual bool submit(io_op& what) noexcept = 0;
    virtual void cancel(io_op& what) noexcept = 0;
    virtual int control(sys_op& what) noexcept = 0;
    /// Closes `fd` as io_kind::close does, but nobody waits for it. It needs no memory and cannot fail: what
    /// is dropped when memory has run out is closed, too.
    virtual void reap(int fd) noexcept = 0;
    /// How many of those are not closed yet, because armed ops have to end first. When the last one is, `wait`
    /// returns.
    std::size_t reaping() const noexcept { return reaping_; }
    /// Gives a borrowed buffer back. `data` and `size` are as `borrow` set them.
    virtual void give_back(void* data, std::uint32_t size, std::uint16_t buffer) noexcept = 0;
    /// How many ops are armed.
    virtual std::size_t armed() const noexcept = 0;

    // --- waiting

    /// Blocks until an op finishes, `wake` is called, or `until` has come (`never`: no limit; a time
    /// that has passed: just look). Reports into `done`. False when nothing can ever happen: no
    /// limit, nothing armed that could finish, and nobody outside who could wake it. Only a closed world knows.
    virtual bool wait(time_point until, completions& done) noexcept = 0;
    /// Makes a `wait` in progress, or the next one, return. The only function any thread may
    /// call; async-signal-safe.
    virtual void wake() noexcept = 0;

    /// For embedding: a descriptor that is readable when `wait` would report something; -1: none.
    virtual int poll_fd() noexcept = 0;
    /// For embedding: hands to the kernel what `submit` and `cancel` have only prepared.
    virtual void flush() noexcept = 0;

    // --- what belongs to the process, or to whatever stands for it

    /// From now on `who` is told when one of its signals comes, and that does not do what it would. SIGINT,
    /// SIGTERM and SIGHUP stay ignored if they are. 0, or -errno: -EINVAL for one that cannot be caught. Any number
    /// may watch a signal; they are told in the order in which they came.
    virtual int watch_signals(signal_watch& who) noexcept = 0;
    /// Afterwards `who` is not told, nor being told, any more. What the signals did before they do again with the
    /// last one.
    virtual void unwatch_signals(signal_watch& who) noexcept = 0;
    /// How many descriptors the program may have open; the largest number if there is no limit.
    virtual std::size_t descriptor_limit() noexcept = 0;
    /// How many it has open, be they rondo's or not; 0 where that cannot be told. O(n), for reports and tests.
    virtual std::size_t open_descriptors() noexcept = 0;
    /// In a forked child, at most once: what this stands for is the parent's. From now on `submit` gets nothing
    /// but closes, which only close the child's copy of a descriptor; `wait` never waits, and reports what is
    /// closed or cancelled, also before; nothing has an effect on the parent.
    virtual void left_to_parent() noexcept;

    // --- closed worlds

    /// Whether nothing happens but what the program itself does: the clock is the backend's and moves on to the next
    /// moment when all wait, and the descriptors are none of the kernel's. Then `wait` knows when nothing can ever
    /// happen, and a program can be told that it is stuck.
    virtual bool is_closed_world() const noexcept { return false; }
    /// Before each wait that may block: so many handles may still call `wake`, from other threads. A wait that only
    /// they could end lasts `patience` at most, of real time; then it gives false. Who waits for a kernel in any case
    /// need not know.
    virtual void expect_wakes(std::size_t handles, duration patience = duration::max()) noexcept;

 protected:
    byte_budget budget_;
    std::size_t reaping_ = 0;
};

/// How a backend is made; part of loop_options. Every backend refuses what lies outside the ranges,
/// also of options it has no use for.
struct backend_options {
    /// uring: submission queue; halved on ENOMEM. A power of two from 8 to 4096.
    std::uint32_t ring_entries = 256;
    /// Size of a borrowed buffer, in bytes. From 256 to 16 MiB.
    std::uint32_t receive_buffer_size = 16384;
    /// Buffers kept ready; uring: in its ring. A power of two up to 32768.
    std::uint32_t receive_buffer_count = 128;
};

/// What is wrong with `options`, beginning with the name of the option; null if nothing is.
[[nodiscard]] RONDO_API const char* fault_of(const backend_options& options) noexcept;

/// Makes the backend `kind`, which is not `automatic`. Null, with the reason in `why`, when the machine refuses it, or
/// the options make no sense.
[[nodiscard]] RONDO_API std::unique_ptr<backend> make_backend(backend_kind kind, const backend_options& options,
                                                              std::string& why);

/// Makes the backend that a loop with these options has: `kind`, or for `automatic` what RONDO_BACKEND asks for, or
/// else the best that this machine has. Sets `why` it is this one. Throws io_error when it cannot be had.
[[nodiscard]] RONDO_API std::unique_ptr<backend> choose_backend(backend_kind kind, const backend_options& options,
                                                                std::string& why);

namespace detail {
/// Whether RONDO_BACKEND asks for order::chaos, too. Throws io_error when it asks for nothing that there is.
RONDO_API bool asks_for_any_order();
}  // namespace detail

/// Makes the backend of a loop in another way: a world gives each of its hosts a machine of the simulated network, a
/// test scripts one (testing/mock_backend.hpp), and who wants to watch or to write down what the outside says puts one
/// round that of choose_backend() (forwarding_backend.hpp).
class RONDO_API backend_factory {
 public:
    virtual ~backend_factory();
    /// Called once, while the loop is made. Null, with the reason in `why`, if there is none to be had; else `why`
    /// says why it is this one. What it throws, the constructor of the loop throws.
    virtual std::unique_ptr<backend> make(const backend_options& options, std::string& why) = 0;
};

}  // namespace rondo
