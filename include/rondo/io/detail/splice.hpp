// Bytes that go from one descriptor to another without coming into the program's memory.
#pragma once

#include <rondo/io/stream.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace rondo::detail {

/// A stream whose reads and writes are those of its descriptor, and nothing lies between: a class may derive from
/// descriptor_stream and have verbs of its own, which splicing would pass by.
template <class S>
concept bare_descriptor_stream = std::derived_from<S, descriptor_stream> && requires(S& stream, bytes_view bytes) {
    { stream.receive() } -> std::same_as<borrow_awaiter>;
    { stream.read_some(writable_bytes()) } -> std::same_as<read_awaiter>;
    { stream.write_all(bytes) } -> std::same_as<write_awaiter>;
};

/// Whether what comes next is to be spliced. A splice costs two system calls more than small bytes cost to be copied,
/// so it begins when many bytes have come at once, and ends when few have.
class RONDO_API splice_switch {
 public:
    explicit splice_switch(bool allowed) noexcept : allowed_(allowed) {}

    bool on() const noexcept { return on_; }
    /// So many bytes have come at once.
    void came(std::size_t bytes) noexcept { on_ = allowed_ && bytes >= least; }
    /// A splice has ended with this negative errno. True: copying may do. That is when there is no pipe to be had, for
    /// this time; or when the descriptor, or the kernel, does not splice: then it is not tried again.
    bool refused(std::int32_t error) noexcept;

    static constexpr std::size_t least = 8 * 1024;

 private:
    bool allowed_;
    bool on_ = false;
};

/// The stream that some bytes have come out of, for who may have to give them back to it; it may be gone by then.
class RONDO_API bytes_origin {
 public:
    bytes_origin() noexcept = default;
    explicit bytes_origin(descriptor_stream& from) noexcept;
    bytes_origin(bytes_origin&& other) noexcept;
    bytes_origin& operator=(bytes_origin&&) = delete;
    ~bytes_origin();

    /// Where bytes go that come back, and are the first of the next read. Null if the stream is gone, or closed.
    stash* place() const noexcept;
    /// Copies them there, if it can.
    void put_back(bytes_view bytes) const noexcept;

 private:
    descriptor_stream* stream_ = nullptr;
};

/// Bytes that have come out of a stream and are in a pipe. What has not gone on when this is destroyed goes back.
class RONDO_API piped_bytes {
 public:
    piped_bytes() noexcept = default;
    piped_bytes(bytes_origin&& from, void* pipe, std::uint32_t size) noexcept
        : from_(std::move(from)), loop_(current), pipe_(pipe), size_(size) {}
    piped_bytes(piped_bytes&& other) noexcept
        : from_(std::move(other.from_)), loop_(other.loop_), pipe_(take(other.pipe_)), size_(take(other.size_)) {}
    piped_bytes& operator=(piped_bytes&&) = delete;
    ~piped_bytes() {
        if (pipe_ != nullptr) give_back();
    }

    std::size_t size() const noexcept { return size_; }

 private:
    friend class splice_out_awaiter;
    void give_back() noexcept;

    bytes_origin from_;
    scheduler* loop_ = nullptr;
    void* pipe_ = nullptr;
    std::uint32_t size_ = 0;
};

/// Waits for bytes and takes at most `most` of them into a pipe; none while nothing comes. No bytes: what comes next
/// has to be received, be it the end of the stream. Throws io_error. Cancel: nothing is lost.
class RONDO_API splice_in_awaiter : public stream_awaiter, public awaits_io<splice_in_awaiter> {
 public:
    splice_in_awaiter(descriptor_stream& from, std::size_t most, splice_switch& decides) noexcept
        : stream_awaiter(io_kind::splice_in, from, nullptr, most), from_(from), decides_(&decides) {}

    bool start() noexcept;
    piped_bytes await_resume();

 private:
    bytes_origin from_;  // from now on: the stream may be gone between the end of this and the next step of its task
    splice_switch* decides_;
};

/// Writes some of `bytes`, which knows what is left, and returns how many; 0: the stream does not splice. Throws
/// io_error. Cancel: nothing has gone out.
class RONDO_API splice_out_awaiter : public stream_awaiter, public awaits_io<splice_out_awaiter> {
 public:
    splice_out_awaiter(descriptor_stream& to, piped_bytes& bytes, splice_switch& decides) noexcept
        : stream_awaiter(io_kind::splice_out, to, bytes.pipe_, bytes.size_), bytes_(&bytes), decides_(&decides) {}

    std::size_t await_resume();

 private:
    piped_bytes* bytes_;
    splice_switch* decides_;
};

}  // namespace rondo::detail
