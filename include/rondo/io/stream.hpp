// Byte streams: what every one of them can do, and the core of those that are a descriptor of the kernel's.
//
// Bytes go in at one end and come out at the other in the same order, without borders between them; a stream ends,
// which is no error. Code that takes any stream asks for the concepts byte_reader, byte_writer or byte_stream; code
// that only meets sockets and terminals may take a descriptor_stream&, and is then no template.
//
// One task reads and one task writes a stream at a time; a second one gets device_or_resource_busy.
// A stream must outlive the waits on it, may be moved while nobody waits, and belongs to the loop that was running
// when it was made; it may outlive that loop, but is of no use then (bad_file_descriptor). Descriptors are CLOEXEC, and
// no write raises SIGPIPE.
//
// What is awaited does not throw inside attempt(); what does not wait has a spelling with try_, which
// gives a result<T> instead of throwing.
//
// To add a kind of stream, derive from descriptor_stream, give it what makes one and what is special about it, and
// have the backends learn the calls that make its descriptor. If it has all the verbs, derive publicly; if only
// some, as one end of a pipe, derive privately and name them: `using descriptor_stream::read_some;`. Verbs, awaiters
// and what happens on a cancel are all here. Reading and writing are io_kinds; whether a backend has to use read(2)
// or recv(2) for them is a property of the descriptor, which it knows from the call that made it.
#pragma once

#include <rondo/base/bytes.hpp>
#include <rondo/io/buffer.hpp>
#include <rondo/io/detail/io.hpp>
#include <rondo/io/detail/socket.hpp>
#include <rondo/io/detail/stash.hpp>
#include <rondo/task/attempt.hpp>
#include <rondo/task/task.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace rondo {

class descriptor_stream;

namespace detail {

RONDO_API extern const op_vtable stream_vtable;
struct stream_functions;
class bytes_origin;

class RONDO_API stream_awaiter : public io_awaiter {
 public:
    inline stream_awaiter(io_kind k, descriptor_stream& stream, void* bytes, std::size_t count) noexcept;

 protected:
    /// Of an operation that has failed; throws `cancelled` if it was that.
    rondo::failure why(const char* operation) const;
    [[noreturn]] void fail(const char* operation) const;
    inline bool has_stash() const noexcept;
    inline detail::stash& stash() const noexcept;
    descriptor_stream* stream_;

 private:
    friend struct stream_functions;
};

class RONDO_API read_awaiter : public stream_awaiter, public awaits_io<read_awaiter> {
 public:
    using stream_awaiter::stream_awaiter;

    bool start() noexcept;
    rondo::result<std::size_t> finish();
    std::size_t await_resume() {
        if (result < 0 || kept_ != 0 || (flags & all)) [[unlikely]]
            return slow_resume();
        return static_cast<std::size_t>(result);
    }

 private:
    friend class rondo::descriptor_stream;
    bool submit() noexcept;
    std::size_t slow_resume();
    std::uint32_t kept_ = 0;  // bytes that came from the stash
};

class RONDO_API borrow_awaiter : public stream_awaiter, public awaits_io<borrow_awaiter> {
 public:
    explicit borrow_awaiter(descriptor_stream& stream) noexcept : stream_awaiter(io_kind::borrow, stream, nullptr, 0) {}

    bool start() noexcept {
        if (has_stash()) [[unlikely]]
            return start_from_stash();
        return stream_awaiter::start();
    }
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

class RONDO_API write_awaiter : public stream_awaiter, public awaits_io<write_awaiter> {
 public:
    write_awaiter(io_kind k, descriptor_stream& stream, const void* bytes, std::size_t count,
                  std::size_t* written) noexcept
        : stream_awaiter(k, stream, const_cast<void*>(bytes), count), written_(written) {}

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

}  // namespace detail

/// A stream that is a descriptor: the base of tcp_stream. Move-only, and made by what derives from it.
class RONDO_API descriptor_stream {
 public:
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
    /// Cancel: nothing has gone out.
    [[nodiscard]] detail::write_awaiter write_some(bytes_view from) noexcept {
        return {io_kind::send, *this, from.data(), from.size(), nullptr};
    }

    /// Writes all of `from`; returns from.size(). At most 2 GiB at once. `written`, if given, is set to
    /// how many bytes went out, however this ends. Cancel: it stops between two bytes; ask `written`.
    [[nodiscard]] detail::write_awaiter write_all(bytes_view from, std::size_t* written = nullptr) noexcept {
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

    /// No more reading: what has arrived can still be read, then reads find the end, also one that waits. The peer is
    /// not told. What it goes on sending is accepted until the buffers are full, and Linux lets that be read, too.
    /// Throws io_error.
    void shutdown_read();
    rondo::result<void> try_shutdown_read() noexcept;

    /// Ends what other tasks do on this stream (bad_file_descriptor), waits until the kernel has let go of
    /// it, and closes. The stream is closed from the call on, also if nobody awaits it. Shielded: it works in a
    /// cancelled task and cannot be cancelled. Unread input makes the kernel reset a connection; to be sure
    /// that the peer reads your last words, shutdown() first and read to the end.
    [[nodiscard]] detail::close_awaiter close() noexcept {
        stash_.clear();
        return detail::close_awaiter(socket_);
    }

    /// Gives the descriptor back, which the loop then knows nothing of any more: waits until the kernel has let go of
    /// it, and returns it, still non-blocking and close-on-exec. Throws io_error: device_or_resource_busy while a task
    /// waits on the stream, resource_unavailable_try_again when bytes have been read that nobody has asked for yet:
    /// read them, and try again. The stream is what it was then. not_simulated in a simulated world. Shielded, as
    /// close().
    [[nodiscard]] detail::release_awaiter release() noexcept {
        return detail::release_awaiter(socket_, !stash_.empty());
    }

    // --- looking

    /// Until it is closed; of one that was moved from, no longer.
    bool is_open() const noexcept { return socket_.open(); }
    explicit operator bool() const noexcept { return is_open(); }
    /// The descriptor, still owned by the stream; -1 when closed. For looking, not for I/O.
    int native_handle() const noexcept { return socket_.fd(); }

 protected:
    /// Whom the errors of a stream are about, in words that io_error shows: "127.0.0.1:80". Throws bad_alloc.
    using subject_of = std::string(const descriptor_stream& stream);

    descriptor_stream() noexcept = default;
    /// Owns the descriptor from now on, for the loop that runs. `subject` is asked when an operation fails, with the
    /// whole object still there.
    descriptor_stream(int descriptor, subject_of& subject) noexcept
        : descriptor_stream(detail::socket_handle(detail::running(), descriptor), subject) {}
    descriptor_stream(detail::socket_handle&& socket, subject_of& subject) noexcept
        : socket_(std::move(socket)), subject_(&subject) {}
    descriptor_stream(descriptor_stream&& other) noexcept
        : socket_(std::move(other.socket_)), subject_(other.subject_), stash_(std::move(other.stash_)) {}
    descriptor_stream& operator=(descriptor_stream&& other) noexcept {
        forget_reader();
        socket_ = std::move(other.socket_);
        subject_ = other.subject_;
        stash_ = std::move(other.stash_);
        return *this;
    }
    ~descriptor_stream() { forget_reader(); }

    const detail::socket_handle& socket() const noexcept { return socket_; }
    /// Throws the error as an io_error about this stream, if `answer` is one.
    void check(const rondo::result<void>& answer, const char* operation) const;

 private:
    friend class detail::stream_awaiter;
    friend struct detail::stream_functions;
    friend class detail::read_awaiter;
    friend class detail::borrow_awaiter;
    friend class detail::bytes_origin;

    std::string subject() const { return subject_ != nullptr ? subject_(*this) : std::string(); }
    inline void forget_reader() noexcept;

    detail::socket_handle socket_;
    subject_of* subject_ = nullptr;
    detail::stash stash_;
    // Of whoever waits with bytes that may come back (a read_exactly, a relay): where it keeps the address of this.
    descriptor_stream** told_when_gone_ = nullptr;
};

// --- any stream

namespace detail {

template <class Awaitable>
concept has_awaiter = requires(Awaitable&& what) { std::forward<Awaitable>(what).operator co_await(); };

/// What `co_await` gives: of a wait, and of a task, which has an awaiter. Only for its type.
template <class Awaitable>
decltype(auto) awaited(Awaitable&& what) {
    if constexpr (has_awaiter<Awaitable>) {
        return std::forward<Awaitable>(what).operator co_await().await_resume();
    } else {
        return what.await_resume();
    }
}
template <class Awaitable, class Result>
concept awaits_as = requires(Awaitable&& what) {
    { detail::awaited(std::forward<Awaitable>(what)) } -> std::convertible_to<Result>;
};

}  // namespace detail

/// One can read from it. `read_some` gives at least one byte, and 0 only at the end of the stream or for an empty
/// place; `read_exactly` fills the place, unless the stream ends before. Both lose nothing when they are cancelled.
template <class S>
concept byte_reader = requires(S& stream, writable_bytes into) {
    { stream.read_some(into) } -> detail::awaits_as<std::size_t>;
    { stream.read_exactly(into) } -> detail::awaits_as<std::size_t>;
};

/// One can write to it. `write_some` takes at least one byte, `write_all` all, and says in `written` how many went
/// out, however it ends.
template <class S>
concept byte_writer = requires(S& stream, bytes_view from, std::size_t* written) {
    { stream.write_some(from) } -> detail::awaits_as<std::size_t>;
    { stream.write_all(from) } -> detail::awaits_as<std::size_t>;
    { stream.write_all(from, written) } -> detail::awaits_as<std::size_t>;
};

/// Both ways at a time, and it can be ended: `shutdown` ends the writing, after which the other side reads the end
/// of the stream; `close` ends all, and waits until that has happened.
template <class S>
concept byte_stream = byte_reader<S> && byte_writer<S> && requires(S& stream) {
    stream.shutdown();
    stream.close();
};

static_assert(byte_stream<descriptor_stream>);

// --- implementation

namespace detail {

inline stream_awaiter::stream_awaiter(io_kind k, descriptor_stream& stream, void* bytes, std::size_t count) noexcept
    : io_awaiter(k, stream.socket_.fd(), stream_vtable), stream_(&stream) {
    data = bytes;
    size = static_cast<std::uint32_t>(count < transfer_max ? count : transfer_max);
}

inline bool stream_awaiter::has_stash() const noexcept { return !stream_->stash_.empty(); }
inline detail::stash& stream_awaiter::stash() const noexcept { return stream_->stash_; }

}  // namespace detail

// It learns that there is nobody any more to whom it could give bytes back.
inline void descriptor_stream::forget_reader() noexcept {
    if (told_when_gone_ != nullptr) *detail::take(told_when_gone_) = nullptr;
}

}  // namespace rondo
