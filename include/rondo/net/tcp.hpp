// TCP: listeners and streams.
//
// One task reads and one task writes a stream at a time; a second one gets device_or_resource_busy.
// A stream or listener must outlive the waits on it, may be moved while nobody waits, and belongs to
// the loop that was running when it was made; it may outlive that loop, but is of no use then
// (bad_file_descriptor). Descriptors are CLOEXEC, and no write raises SIGPIPE.
//
// What is awaited does not throw inside attempt(); what does not wait has a spelling with try_, which
// gives a result<T> instead of throwing.
#pragma once

#include <rondo/task/attempt.hpp>
#include <rondo/io/buffer.hpp>
#include <rondo/base/bytes.hpp>
#include <rondo/io/detail/io.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/net/endpoint.hpp>
#include <rondo/task/task.hpp>

#include <memory>
#include <span>

namespace rondo {

class tcp_stream;
class tcp_listener;

namespace detail {

struct stream_functions;
struct accept_functions;
RONDO_API extern const op_vtable accept_vtable;

/// A descriptor and its loop: what stream and listener share. The destructor never waits: it hands
/// the descriptor to the loop, which ends what is in flight and closes it; if the loop is gone, it
/// closes the descriptor itself.
class RONDO_API socket_handle {
 public:
    socket_handle() noexcept = default;
    socket_handle(loop& of, int fd) noexcept : loop_(of.serial()), fd_(fd) {}
    socket_handle(socket_handle&& other) noexcept
        : loop_(other.loop_), fd_(detail::take(other.fd_, -1)) {}
    socket_handle& operator=(socket_handle other) noexcept {
        detail::trade(loop_, other.loop_);
        detail::trade(fd_, other.fd_);
        return *this;
    }
    ~socket_handle();

    bool open() const noexcept { return fd_ >= 0; }
    int fd() const noexcept { return fd_; }
    /// Null when it is gone.
    loop* of() const noexcept { return loop::living(loop_); }
    int release() noexcept { return detail::take(fd_, -1); }

    int control(sys_op& call) const noexcept;
    int set(sys_op::option which, int value) const noexcept;
    rondo::result<endpoint> local() const noexcept;

 private:
    std::uint32_t loop_ = 0;  // its serial number
    int fd_ = -1;
};

/// What a losing arm of select_one() has accepted, until the next accept() has it. Else it ends as what the
/// kernel has in its queue when the listener goes: it is reset.
class RONDO_API unclaimed_connection : public socket_handle {
 public:
    using socket_handle::socket_handle;
    unclaimed_connection(unclaimed_connection&&) noexcept = default;
    unclaimed_connection& operator=(unclaimed_connection&& other) noexcept {
        refuse();
        socket_handle::operator=(std::move(other));
        return *this;
    }
    ~unclaimed_connection() { refuse(); }

 private:
    void refuse() noexcept;
};

/// The kernel transfers a little less than 2 GiB at a time.
inline constexpr std::size_t transfer_max = 0x7fff'f000;

/// What had arrived for a read that does not take it, a read_exactly that was cancelled or a losing arm of
/// select_one(): the next read gets it first.
struct stash;

class RONDO_API stash_pointer {
 public:
    explicit stash_pointer(stash* kept = nullptr) noexcept : kept_(kept) {}
    stash_pointer(stash_pointer&& other) noexcept : kept_(take(other.kept_)) {}
    stash_pointer& operator=(stash_pointer&& other) noexcept {
        reset(take(other.kept_));
        return *this;
    }
    ~stash_pointer() { reset(); }

    explicit operator bool() const noexcept { return kept_ != nullptr; }
    void reset(stash* kept = nullptr) noexcept {
        if (stash* const old = take(kept_, kept)) forget(old);
    }

    /// For the next read: bytes, or the error it fails with (a negative errno). If there is no memory for them,
    /// the stream says so for ever: a read that succeeds must not have a gap in front of it.
    void keep(const void* bytes, std::size_t count) noexcept;
    void keep_error(std::int32_t error) noexcept;
    /// What a read of `size` bytes gets of them: how many, or the error.
    std::int32_t take_into(void* into, std::size_t size) noexcept;
    /// All of them, in memory from malloc: how many, or the error.
    std::int32_t take_all(void*& bytes) noexcept;

 private:
    std::int32_t take_error() noexcept;
    static void forget(stash* kept) noexcept;
    stash* kept_;
};

class read_awaiter;

/// A stream's place for them. The read that may yet bring some back learns when the stream has gone.
class stash_place {
 public:
    stash_place() noexcept = default;
    stash_place(stash_place&& other) noexcept : kept(std::move(other.kept)) {}
    stash_place& operator=(stash_place&& other) noexcept {
        forget();
        kept = std::move(other.kept);
        return *this;
    }
    ~stash_place() { forget(); }

    stash_pointer kept;
    read_awaiter* gathering = nullptr;

 private:
    inline void forget() noexcept;
};

class RONDO_API stream_awaiter : public io_awaiter {
 public:
    inline stream_awaiter(io_kind k, tcp_stream& of, void* bytes, std::size_t count) noexcept;

 protected:
    [[noreturn]] void fail(const char* operation) const;
    inline bool has_stash() const noexcept;
    tcp_stream* of_;

 private:
    friend struct stream_functions;
};

class RONDO_API read_awaiter : public stream_awaiter {
 public:
    using stream_awaiter::stream_awaiter;

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) noexcept {
        if (!begin(*this, promise_of(h), site)) return suspended(*this);
        return start();
    }
    rondo::result<std::size_t> finish();
    std::size_t await_resume() {
        if (result < 0 || kept_ != 0 || (flags & all)) [[unlikely]]
            return slow_resume();
        return static_cast<std::size_t>(result);
    }

 private:
    friend class stash_place;
    bool start() noexcept;
    bool submit() noexcept;
    std::size_t slow_resume();
    std::uint32_t kept_ = 0;  // bytes that came from the stash
};

inline void stash_place::forget() noexcept {
    if (gathering != nullptr) detail::take(gathering)->of_ = nullptr;
}

class RONDO_API borrow_awaiter : public stream_awaiter {
 public:
    explicit borrow_awaiter(tcp_stream& of) noexcept : stream_awaiter(io_kind::borrow, of, nullptr, 0) {}

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) noexcept {
        if (!begin(*this, promise_of(h), site)) return suspended(*this);
        return start();
    }
    bool start() noexcept {
        if (has_stash()) [[unlikely]]
            return start_from_stash();
        return !current->submit(*this);
    }
    /// As a losing arm of select_one().
    void give_back() noexcept;
    rondo::result<rondo::buffer> finish();
    rondo::buffer await_resume() {
        if (result < 0) [[unlikely]]
            fail("receive");
        return take();
    }

 private:
    bool start_from_stash() noexcept;
    rondo::buffer take() noexcept {
        if (result == 0) return {};
        return {*current, data, size, io_op::buffer};
    }
};

class RONDO_API write_awaiter : public stream_awaiter {
 public:
    write_awaiter(io_kind k, tcp_stream& of, const void* bytes, std::size_t count,
                  std::size_t* written) noexcept
        : stream_awaiter(k, of, const_cast<void*>(bytes), count), written_(written) {}

    rondo::result<std::size_t> finish();
    std::size_t await_resume() {
        if (result < 0 || written_ != nullptr) [[unlikely]]
            return slow_resume();
        return static_cast<std::size_t>(result);
    }

 private:
    std::size_t slow_resume();
    std::size_t* written_;
};

/// Has taken the socket over from the stream or listener, and drops it if nobody awaits this.
class RONDO_API close_awaiter : public io_awaiter {
 public:
    explicit close_awaiter(socket_handle& socket) noexcept
        : io_awaiter(io_kind::close, -1), socket_(std::move(socket)) {
        if (socket_.of() == nullptr) socket_ = {};  // the loop is gone: nobody could wait for it
    }

    bool await_ready() const noexcept { return !socket_.open(); }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) noexcept {
        begin_shielded(*this, promise_of(h), site);
        return start();
    }
    rondo::result<void> finish() const noexcept;
    void await_resume() const;

 private:
    bool start() noexcept;
    socket_handle socket_;
};

class RONDO_API connect_awaiter : public io_awaiter {
 public:
    explicit connect_awaiter(const endpoint& to) noexcept : io_awaiter(io_kind::connect, -1), to_(to.raw()) {}

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) noexcept {
        if (!begin(*this, promise_of(h), site)) return suspended(*this);
        return start();
    }
    rondo::result<tcp_stream> finish();
    tcp_stream await_resume();

 private:
    bool start() noexcept;
    /// Linux lets a socket connect to itself, when the port that it is given is the one it wants.
    bool met_itself(const socket_handle& socket) const noexcept;
    raw_address to_;
};

class RONDO_API accept_awaiter : public io_awaiter {
 public:
    explicit inline accept_awaiter(tcp_listener& of) noexcept;

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) noexcept {
        if (!begin(*this, promise_of(h), site)) return suspended(*this);
        if (start()) return true;
        owner->waiting = nullptr;
        return false;
    }
    bool start() noexcept;
    void give_back() noexcept;
    rondo::result<tcp_stream> finish();
    tcp_stream await_resume();

 private:
    friend struct accept_functions;
    bool submit() noexcept;
    /// False: it goes on.
    bool settled() noexcept;
    /// After an error that is not the listener's. False: not in a cancelled task, and not without memory.
    bool pause() noexcept;

    tcp_listener* of_;
    raw_address peer_;
    std::uint16_t pause_ms_ = 0;  // that of the latest pause
    bool pausing_ = false;
};

}  // namespace detail

/// A connected TCP stream. Move-only. Nagle's algorithm is off unless asked for.
class RONDO_API tcp_stream {
 public:
    tcp_stream() noexcept = default;

    /// Connects to `to`. Throws io_error (connection_refused, timed_out, network_unreachable ...) that
    /// names the peer; connection_refused also where the kernel has connected the socket to itself.
    /// Cancel: the attempt is given up and its socket closed.
    [[nodiscard]] static detail::connect_awaiter connect(const endpoint& to) noexcept {
        return detail::connect_awaiter(to);
    }
    /// The same with an address as text; throws system_error(invalid_argument) if it is none.
    [[nodiscard]] static detail::connect_awaiter connect(std::string_view address, std::uint16_t port) {
        return connect(endpoint(address, port));
    }

    // --- reading

    /// Reads at least one byte into `into`; returns how many (<= into.size()), 0 at end of stream or
    /// for an empty place. Throws io_error. `into` must stay valid until this ends.
    /// Cancel: nothing is lost; what had not been read stays for the next read.
    [[nodiscard]] detail::read_awaiter read_some(writable_bytes into) noexcept {
        return {io_kind::receive, *this, into.data(), into.size()};
    }

    /// Reads until `into` is full; returns how many bytes, less than into.size() only at end of
    /// stream. Throws io_error. At most 2 GiB at once.
    /// Cancel: bytes that had arrived go back to the stream and are the first of the next read. If there is
    /// no memory to keep them, every further read fails (not_enough_memory).
    [[nodiscard]] detail::read_awaiter read_exactly(writable_bytes into) noexcept {
        RONDO_ASSERT(into.size() <= detail::transfer_max, "read_exactly takes less than 2 GiB at once");
        detail::read_awaiter a{io_kind::receive, *this, into.data(), into.size()};
        a.flags |= io_op::all;
        return a;
    }

    /// Waits for bytes and borrows them: no buffer is held while nothing arrives. Empty at end of
    /// stream. Throws io_error. Cancel: nothing is lost.
    [[nodiscard]] detail::borrow_awaiter receive() noexcept { return detail::borrow_awaiter(*this); }

    /// Reads what is there without waiting: a count, 0 at end of stream, or
    /// resource_unavailable_try_again.
    rondo::result<std::size_t> try_read_some(writable_bytes into) noexcept;

    // --- writing

    /// Writes at least one byte of `from`, as much as the kernel takes at once; returns how many. Throws
    /// io_error (broken_pipe, connection_reset ...). `from` must stay valid until this ends.
    [[nodiscard]] detail::write_awaiter write_some(bytes_view from) noexcept {
        return {io_kind::send, *this, from.data(), from.size(), nullptr};
    }

    /// Writes all of `from`; returns from.size(). At most 2 GiB at once. `written`, if given, is set to
    /// how many bytes went out, however this ends. Cancel: it stops between two bytes; ask `written`.
    [[nodiscard]] detail::write_awaiter write_all(bytes_view from,
                                                  std::size_t* written = nullptr) noexcept {
        RONDO_ASSERT(from.size() <= detail::transfer_max, "write_all takes less than 2 GiB at once");
        detail::write_awaiter a{io_kind::send, *this, from.data(), from.size(), written};
        a.flags |= io_op::all;
        return a;
    }

    /// Gathers: writes all bytes of all `parts`, in order, with as few system calls as it takes.
    /// Array and bytes must stay valid until this ends. Otherwise as write_all.
    [[nodiscard]] detail::write_awaiter write_all(std::span<const std::span<const std::byte>> parts,
                                                  std::size_t* written = nullptr) noexcept {
        detail::write_awaiter a{io_kind::send_vector, *this, parts.data(), parts.size(), written};
        a.flags |= io_op::all;
        return a;
    }

    /// Writes what fits without waiting: a count, or resource_unavailable_try_again.
    rondo::result<std::size_t> try_write_some(bytes_view from) noexcept;

    // --- ending

    /// Half-close: no more writing from this side; the peer reads end of stream after all that was
    /// written. Reading goes on. Throws io_error.
    void shutdown();
    rondo::result<void> try_shutdown() noexcept;

    /// Ends what other tasks do on this stream (bad_file_descriptor), waits until the kernel has let go of
    /// it, and closes. The stream is closed from the call on, also if nobody awaits it. Shielded: it works in a cancelled
    /// task and cannot be cancelled. Unread input makes the kernel reset the connection; to be sure
    /// that the peer reads your last words, shutdown() first and read to the end.
    [[nodiscard]] detail::close_awaiter close() noexcept {
        stash_.kept.reset();
        return detail::close_awaiter(socket_);
    }
    /// Closing will reset the connection (SO_LINGER 0). Throws io_error.
    void reset_on_close();
    rondo::result<void> try_reset_on_close() noexcept;

    // --- looking

    bool is_open() const noexcept { return socket_.open(); }
    explicit operator bool() const noexcept { return is_open(); }
    /// The address of the other side, as it was when the connection was made.
    endpoint peer() const noexcept { return endpoint(peer_); }
    /// Throws io_error.
    endpoint local() const;
    rondo::result<endpoint> try_local() const noexcept { return socket_.local(); }

    // --- options; each throws io_error, but for those that begin with try_

    void no_delay(bool on);
    void keep_alive(bool on);
    void receive_buffer_size(int bytes);
    void send_buffer_size(int bytes);
    rondo::result<void> try_no_delay(bool on) noexcept;
    rondo::result<void> try_keep_alive(bool on) noexcept;
    rondo::result<void> try_receive_buffer_size(int bytes) noexcept;
    rondo::result<void> try_send_buffer_size(int bytes) noexcept;

    /// The descriptor, still owned by the stream; -1 when closed. For looking, not for I/O.
    int native_handle() const noexcept { return socket_.fd(); }

 private:
    friend class tcp_listener;
    friend class detail::stream_awaiter;
    friend struct detail::stream_functions;
    friend class detail::read_awaiter;
    friend class detail::borrow_awaiter;
    friend class detail::connect_awaiter;
    friend class detail::accept_awaiter;
    tcp_stream(detail::socket_handle&& socket, const raw_address& peer) noexcept
        : socket_(std::move(socket)), peer_(peer) {}

    detail::socket_handle socket_;
    raw_address peer_;
    detail::stash_place stash_;
};

/// How to listen. Trivially copyable on purpose.
struct listen_options {
    int backlog = 1024;         // the kernel caps it at net.core.somaxconn
    bool reuse_address = true;  // a restarted server need not wait for TIME_WAIT
    bool reuse_port = false;    // several listeners share the port
    bool v6_only = true;        // an IPv6 listener does not take IPv4 connections
};

/// A listening TCP socket. Move-only.
class RONDO_API tcp_listener {
 public:
    tcp_listener() noexcept = default;

    /// Listens at `at`; port 0 lets the kernel choose (see local()). Needs a running loop. Throws
    /// io_error (address_in_use, permission_denied ...) that names the address.
    static tcp_listener bind(const endpoint& at, const listen_options& options = {});
    /// The same with an address as text; throws system_error(invalid_argument) if it is none.
    static tcp_listener bind(std::string_view address, std::uint16_t port,
                             const listen_options& options = {}) {
        return bind(endpoint(address, port), options);
    }
    /// bind() without a throw; a text that is no address gives invalid_argument.
    static rondo::result<tcp_listener> try_bind(const endpoint& at,
                                                const listen_options& options = {}) noexcept;
    static rondo::result<tcp_listener> try_bind(std::string_view address, std::uint16_t port,
                                                const listen_options& options = {}) noexcept;

    /// Waits for a connection. What is no fault of the listener is not an error: connections that died in
    /// the queue are skipped, and when descriptors or memory run out, or the kernel refuses for another
    /// reason, it logs, waits (5 ms doubling to 1 s), and tries again. Throws io_error when the listener
    /// itself is bad or closed.
    /// Cancel: no connection is lost; one that was accepted is returned all the same.
    [[nodiscard]] detail::accept_awaiter accept() noexcept { return detail::accept_awaiter(*this); }

    /// Throws io_error.
    endpoint local() const;
    rondo::result<endpoint> try_local() const noexcept { return socket_.local(); }
    bool is_open() const noexcept { return socket_.open(); }
    int native_handle() const noexcept { return socket_.fd(); }
    /// How often accept() had to wait because descriptors or memory ran out.
    std::uint64_t exhausted() const noexcept { return exhausted_; }

    /// As tcp_stream::close(). Connections that nobody has accepted are refused.
    [[nodiscard]] detail::close_awaiter close() noexcept {
        kept_ = {};
        return detail::close_awaiter(socket_);
    }

 private:
    friend class detail::accept_awaiter;
    friend struct detail::accept_functions;
    explicit tcp_listener(detail::socket_handle&& socket) noexcept : socket_(std::move(socket)) {}
    detail::socket_handle socket_;
    detail::unclaimed_connection kept_;
    raw_address kept_peer_;
    std::uint64_t exhausted_ = 0;
};

// implementation

namespace detail {

inline stream_awaiter::stream_awaiter(io_kind k, tcp_stream& of, void* bytes, std::size_t count) noexcept
    : io_awaiter(k, of.socket_.fd(), stream_vtable), of_(&of) {
    data = bytes;
    size = static_cast<std::uint32_t>(count < transfer_max ? count : transfer_max);
}

inline accept_awaiter::accept_awaiter(tcp_listener& of) noexcept
    : io_awaiter(io_kind::accept, of.socket_.fd(), accept_vtable), of_(&of) {}

inline bool stream_awaiter::has_stash() const noexcept { return static_cast<bool>(of_->stash_.kept); }

}  // namespace detail
}  // namespace rondo
