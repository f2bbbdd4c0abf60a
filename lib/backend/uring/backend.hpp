// The io_uring backend as its source files see it. How it works is told in uring.cpp.
#pragma once

#include "backend/buffers.hpp"
#include "backend/descriptors.hpp"
#include "backend/files.hpp"
#include "backend/posix.hpp"
#include "buffer_ring.hpp"
#include "ring.hpp"

#include <rondo/loop/backend.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

namespace rondo::detail::uring {

inline constexpr std::uint32_t most_queued_bytes = 64 * 1024;
inline constexpr std::uint32_t uring_window = 64;  // iovecs per sendmsg
inline constexpr int stream_end = 1;

/// What the kernel reads while a writer is under way.
struct writer_block {
    explicit writer_block(std::uint32_t spans) noexcept : pieces(std::min(spans, uring_window)) {}

    static std::size_t bytes(std::uint32_t spans) noexcept {
        return sizeof(writer_block) + std::min(spans, uring_window) * sizeof(iovec);
    }
    iovec* window() noexcept { return reinterpret_cast<iovec*>(this + 1); }

    std::uint32_t pieces;
    msghdr message{};
    socket_address to{raw_address{}};  // connect
    alignas(span_cursor) std::byte cursor_memory[sizeof(span_cursor)];  // send_vector

    span_cursor& cursor() noexcept { return *reinterpret_cast<span_cursor*>(cursor_memory); }
};

/// One descriptor.
struct record {
    /// Requests: in the kernel (`kernel`), or short of a submission entry (`wanted`).
    enum : std::uint16_t {
        read = 1,    // the reader's own
        write = 2,   // the writer's own
        fill = 4,    // a receive of ours
        take = 8,    // an accept of ours
        stop_read = 16,
        stop_write = 32,
        stop_fill = 64,
        stop_all = 128,
    };
    enum : std::uint8_t {
        data_there = 1,  // the next receive of ours finds data at once
        one_shot = 2,    // multishot was refused
        from_ring = 4,   // the receive of ours is a multishot one
        crowd = 8,       // the latest try to accept found a connection
        dry = 32,        // the latest datagrams received, or bytes spliced, were all there were; most likely
        with_rights = 64,  // a Unix socket: descriptors may come with its bytes, so none are read ahead
        stopping = 128,  // it was one, and has been asked to end
        ending = 16,     // closes when no request and no op is left; `closer` waits for that, if anyone does
    };

    io_op* reader;
    io_op* writer;
    io_op* closer;
    record* next;
    chunk* first;  // received, not taken
    chunk* last;
    chunk* filling;  // the buffer of a `heap` receive
    writer_block* block;
    record* accepted;  // of a connection nobody has asked for yet
    std::uint32_t queued_bytes;
    std::int32_t ended;  // after what is queued: 0 no news, stream_end, or -errno
    int fd;
    std::uint16_t kernel;
    std::uint16_t wanted;
    std::uint8_t bits;
    bool queued;
    enum file_kind kind;  // with any, the kernel is asked for nothing but polls

    bool is_file() const noexcept { return kind != file_kind::none; }
    bool is(std::uint16_t request) const noexcept { return ((kernel | wanted) & request) != 0; }
    bool is_handed_over() const noexcept { return closer != nullptr && closer->flags & io_op::hand_over; }
};

/// The low bits of user_data; the rest is a pointer to the op or the record.
enum tag : std::uint64_t { own, ring_fill, heap_fill, ready_fill, taken, stopped, woken, tag_mask };

inline std::uint64_t user_data(const void* subject, tag what) noexcept {
    return reinterpret_cast<std::uintptr_t>(subject) | what;
}

class uring_backend final : public posix_backend {
 public:
    explicit uring_backend(const backend_options& options) noexcept
        : heap_(std::max(options.receive_buffer_size, 256u), options.receive_buffer_count) {}
    ~uring_backend() override;

    bool open(const backend_options& options, std::string& why);

    backend_kind kind() const noexcept override { return backend_kind::uring; }
    bool submit(io_op& what) noexcept override;
    void cancel(io_op& what) noexcept override;
    int control(sys_op& what) noexcept override;
    void reap(int fd) noexcept override;
    void give_back(void* data, std::uint32_t size, std::uint16_t buffer) noexcept override;
    bool wait(time_point until, completions& done) noexcept override;
    int poll_fd() noexcept override;
    void flush() noexcept override;
    void left_to_parent() noexcept override;
    std::string describe() const override;

 private:
    bool submit_read(record& r, io_op& what) noexcept;
    bool submit_write(record& r, io_op& what) noexcept;
    bool submit_plain(record& r, io_op& what) noexcept;
    bool submit_file(record& r, io_op& what) noexcept;
    bool must_wait_a_turn(const io_op& what) const noexcept;
    std::int32_t make_way(record& r) noexcept;
    std::int32_t attempt(record& r, io_op& what) noexcept;
    std::int32_t attempt_file(record& r, io_op& what) noexcept;
    std::int32_t take_message(io_op& what) noexcept;
    std::int32_t borrow_now(io_op& what) noexcept;
    bool submit_close(record& r, io_op& what) noexcept;
    void begin_close(record& r) noexcept;

    // requests
    void start(record& r, std::uint16_t request) noexcept;
    bool issue(record& r, std::uint16_t request) noexcept;
    bool issue_fill(record& r) noexcept;
    void fill_writer(io_uring_sqe& sqe, record& r) noexcept;
    void stop(io_uring_sqe& sqe, record& r, std::uint64_t target) noexcept;
    void stop_filling(record& r) noexcept;
    void on_stopped(record& r) noexcept;
    void drive(record& r) noexcept;
    void watch_wake() noexcept;
    bool unwatch_wake() noexcept;

    // what a descriptor has in store
    std::int32_t serve(record& r, io_op& what) noexcept;
    std::int32_t serve_receive(record& r, io_op& what) noexcept;
    std::int32_t serve_borrow(record& r, io_op& what) noexcept;
    std::int32_t serve_accept(record& r) noexcept;
    std::int32_t try_accept(record& r) noexcept;
    void store(record& r, chunk& received) noexcept;
    chunk& unstore(record& r) noexcept;
    void recycle(chunk& back) noexcept;
    record* forget(int fd, std::uint8_t bits = 0, file_kind kind = file_kind::none) noexcept;
    int make_files(sys_op& what) noexcept;
    void unwatch(record& r) noexcept;
    int hand_over(record& r) noexcept;
    int release(record& r) noexcept;
    void drop_content(record& r) noexcept;
    void drop_block(record& r) noexcept;
    void drop_all() noexcept;

    // completions
    void on_completion(std::uint64_t data, std::int32_t result, unsigned flags, completions& done) noexcept;
    void on_own(io_op& what, std::int32_t result, completions& done) noexcept;
    std::int32_t conclude(record& r, io_op& what, std::int32_t result) noexcept;
    std::int32_t broken_pipe(record& r) noexcept;
    void on_fill(record& r, tag how, std::int32_t result, unsigned flags, completions& done) noexcept;
    void on_take(record& r, std::int32_t result, completions& done) noexcept;
    void after(record& r, completions& done) noexcept;
    void report(io_op& what, std::int32_t result, completions& done) noexcept;

    // the poll phase
    void begin_wait() noexcept;
    void wait_hosted(time_point until) noexcept;
    __kernel_timespec left_until(time_point until) noexcept;
    void wait_unwatched(bool look_only) noexcept;
    bool take_wakes() noexcept;
    bool wait_in_child(completions& done) noexcept;
    void look_at_queued(completions& done) noexcept;
    void look(record& r, completions& done) noexcept;

    kernel_ring ring_;
    buffer_ring buffers_;
    descriptor_table<record> table_;
    buffer_pool heap_;
    std::size_t lent_ = 0;  // buffers of the ring in the hands of programs
    std::size_t in_kernel_ = 0;  // requests that point at memory of ours or of an op
    bool wake_watched_ = false;
    bool woken_ = false;
    bool hosted_ = false;  // inside another loop, which waits for wake_fd_
};

}  // namespace rondo::detail::uring
