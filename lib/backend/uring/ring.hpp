// A ring: set-up and detection, submission entries, one kernel entry per turn.
#pragma once

#include <rondo/base/time.hpp>

#include <liburing.h>

#include <cstdint>
#include <string>

namespace rondo::detail {

class kernel_ring {
 public:
    kernel_ring() noexcept = default;
    kernel_ring(const kernel_ring&) = delete;
    kernel_ring& operator=(const kernel_ring&) = delete;
    ~kernel_ring();

    /// False, with the reason in `why`, when the kernel refuses or lacks something.
    bool open(std::uint32_t entries, std::string& why);

    /// A free submission entry. Hands the full queue to the kernel when there is none; null only
    /// when the kernel cannot take it either (out of memory).
    io_uring_sqe* entry() noexcept;

    /// Hands over what is prepared and lets the kernel post what is finished; with `wait`, until
    /// there is a completion or `limit` (null: none) has passed.
    void enter(bool wait, __kernel_timespec* limit) noexcept;

    /// `eventfd` is written to when something happens, from now on; false when the kernel refuses.
    bool announce_to(int eventfd) noexcept;
    /// Switches that off and on.
    void announce(bool on) noexcept;

    bool anything_prepared() const noexcept { return io_uring_sq_ready(&ring_) > 0; }
    bool anything_finished() const noexcept { return io_uring_cq_ready(&ring_) > 0; }
    /// Whether anything is finished, or put off by the kernel until we enter (this asks it).
    bool anything_left() const noexcept;

    /// Calls f(user_data, result, flags) for finished requests until it returns false.
    template <class F>
    void reap(F&& f) noexcept {
        unsigned head, seen = 0;
        io_uring_cqe* cqe;
        io_uring_for_each_cqe(&ring_, head, cqe) {
            ++seen;
            if (!f(cqe->user_data, cqe->res, cqe->flags)) break;
        }
        io_uring_cq_advance(&ring_, seen);
    }

    io_uring* handle() noexcept { return &ring_; }
    std::uint32_t entries() const noexcept { return ring_.sq.ring_entries; }
    std::uint64_t overflows() const noexcept { return overflows_; }

 private:
    bool start(std::uint32_t entries, std::string& why);
    bool check(std::string& why);
    void submit() noexcept;
    void judge(int result) noexcept;

    io_uring ring_{};
    std::uint64_t overflows_ = 0;  // turns that found more completions than the queue holds
    unsigned forks_ = 0;
    bool open_ = false;
};

}  // namespace rondo::detail
