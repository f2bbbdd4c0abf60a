// The epoll backend as its source files see it. How it works is told in epoll.cpp.
#pragma once

#include "backend/buffers.hpp"
#include "backend/descriptors.hpp"
#include "backend/files.hpp"
#include "backend/posix.hpp"

#include <rondo/loop/backend.hpp>

#include <sys/epoll.h>
#include <unistd.h>

#include <cstdint>
#include <string>

namespace rondo::detail::epoll {

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
        udp = 512,        // datagrams: fewer than asked for empty it
        room = 1024,      // of these: it is watched for writing, too
        file = 2048,      // it is no socket of ours: `kind` says what; read and written until EAGAIN
    };

    io_op* reader;
    io_op* writer;
    io_op* closer;
    record* next;
    int fd;  // of a descriptor that closes
    std::uint16_t generation;
    std::uint16_t bits;
    bool queued;
    enum file_kind kind;  // with `file`
};

/// What epoll keeps for us: the record, which never moves, and in the upper bits, which no address
/// of what is mapped has (descriptors.hpp), its generation.
inline constexpr int address_bits = 48;
inline std::uint64_t mark_of(const record& r) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(&r);
    RONDO_ASSERT(address >> address_bits == 0, "an address of more than 48 bits");
    return std::uint64_t{r.generation} << address_bits | address;
}
inline record& record_of(std::uint64_t mark) noexcept {
    return *reinterpret_cast<record*>(mark & ((std::uint64_t{1} << address_bits) - 1));
}

// Few enough that the buffers which one wait fills stay in the cache until they are looked at.
inline constexpr int most_events = 32;

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
    bool submit_file(record& r, io_op& what) noexcept;
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
    std::int32_t attempt_datagrams(record& r, io_op& what) noexcept;
    std::int32_t attempt_watch(const io_op& what) noexcept;
    std::int32_t attempt_file(record& r, io_op& what) noexcept;
    std::int32_t attempt_message(record& r, io_op& what) noexcept;
    std::int32_t take_message(io_op& what) noexcept;
    std::int32_t attempt_splice_in(record& r, io_op& what) noexcept;
    std::int32_t attempt_splice_out(record& r, io_op& what) noexcept;

    std::int32_t go_on_later(record& r) noexcept;
    bool must_wait_a_turn(const io_op& what, std::uint32_t size) const noexcept;

    [[gnu::noinline]] int enroll(record& r, int fd) noexcept;
    int enroll_foreign(record& r, int fd) noexcept;
    int watch_room(record& r, int fd) noexcept;
    int change(int first, record& r, int fd, std::uint32_t events) noexcept;
    record* forget(int fd, std::uint16_t bits) noexcept;
    int make_files(sys_op& what) noexcept;
    void strand(io_op*& slot) noexcept;
    void unwatch(record& r, int fd) noexcept;
    void unregister(record& r, int fd) noexcept;
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

}  // namespace rondo::detail::epoll
