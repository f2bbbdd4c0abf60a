// What is asked of the kernel, and why not less.
//
// SINGLE_ISSUER | DEFER_TASKRUN (Linux 6.1): completions are worked off when *we* enter the kernel
// to wait, not by interrupting whatever runs. It is where io_uring overtakes epoll, and it makes
// the order of things reproducible. SUBMIT_ALL: a bad entry does not hold up those behind it.
// Kernels without these get the epoll backend, not a third code path.
//
// NODROP: completions that do not fit are kept in a list; they come when we enter with GETEVENTS,
// which every turn does. EXT_ARG: a wait takes its timeout along, so no timerfd. FAST_POLL: a socket
// that is not ready is polled, not handed to a thread.
//
// Flags of single operations (multishot, provided buffers) cannot be probed. They are tried, and a
// refusal (EINVAL) is remembered where it was met.
#include "ring.hpp"

#include "base/fork.hpp"
#include "backend/posix.hpp"

#include <rondo/base/detail/assert.hpp>
#include <rondo/base/log.hpp>

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>

namespace rondo::detail {
namespace {

constexpr std::uint32_t fewest_entries = 8;

// Multishot requests finish more than once per entry, and one whose completion finds no room ends:
// the completion queue is much longer than the submission queue.
constexpr std::uint32_t completions_per_entry = 16;

constexpr int needed_operations[] = {
    IORING_OP_NOP,     IORING_OP_POLL_ADD,     IORING_OP_SENDMSG, IORING_OP_ACCEPT,
    IORING_OP_CONNECT, IORING_OP_ASYNC_CANCEL, IORING_OP_SEND,    IORING_OP_RECV,
};

const char* hint_for(int error) noexcept {
    switch (error) {
        case EPERM: return "seccomp filter or kernel.io_uring_disabled";
        case ENOSYS: return "an old or a restricted kernel";
        case EINVAL: return "is the kernel older than 6.1?";
        case ENOMEM: return "RLIMIT_MEMLOCK may be too low";
        default: return nullptr;
    }
}

// When this process has closed a ring last, by the monotonic clock; 0: never.
std::atomic<std::int64_t> last_closed{0};

std::int64_t now_ns() noexcept {
    return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Whether it is worth trying again. Waits a little.
bool waited_for_closed_rings() noexcept {
    constexpr std::int64_t long_enough = 200'000'000;
    const std::int64_t closed = last_closed.load(std::memory_order_relaxed);
    if (closed == 0 || now_ns() - closed > long_enough) return false;
    const timespec pause{0, 5'000'000};
    nanosleep(&pause, nullptr);
    return true;
}

}  // namespace

// A forked child has nothing of its parent's ring but the descriptor; other memory may lie where it is mapped there.
kernel_ring::~kernel_ring() {
    if (!open_) return;
    if (forks() != forks_) {
        ::close(ring_.ring_fd);
    } else {
        io_uring_queue_exit(&ring_);
        last_closed.store(now_ns(), std::memory_order_relaxed);
    }
}

bool kernel_ring::open(std::uint32_t entries, std::string& why) {
    if (!start(entries, why)) return false;
    open_ = true;
    forks_ = forks();
    // A forked child would share the queues. What it does there by mistake, even as a copy that was made without
    // fork(), should be its own end and not the parent's. (Linux keeps shared mappings across a fork unless it is told
    // so.)
    io_uring_ring_dontfork(&ring_);
    // Saves looking up the descriptor at each entry; not worth failing for.
    io_uring_register_ring_fd(&ring_);
    return check(why);
}

// ENOMEM is the memlock limit. The kernel takes a closed ring off it some time later, so if we have closed one
// just now, it is worth waiting for; if that was not it, a smaller ring may fit.
bool kernel_ring::start(std::uint32_t entries, std::string& why) {
    const std::uint32_t wanted = entries;
    for (;; entries /= 2) {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                       IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
        params.cq_entries = entries * completions_per_entry;
        const int error = -io_uring_queue_init_params(entries, &ring_, &params);
        if (error == 0) {
            if (entries < wanted) {
                static log_gate gate(1);
                write_log(gate, log_level::info, {}, "io_uring: a ring of %u entries instead of %u: %s",
                          static_cast<unsigned>(entries), static_cast<unsigned>(wanted), hint_for(ENOMEM));
            }
            return true;
        }
        if (error == ENOMEM && waited_for_closed_rings()) {
            entries *= 2;  // once more
            continue;
        }
        if (error == ENOMEM && entries > fewest_entries) continue;
        why = explain("io_uring_setup", error, hint_for(error));
        if (error == ENOMEM) {
            static log_gate gate(1);
            write_log(gate, log_level::info, {}, "no ring: %s", why.c_str());
        }
        return false;
    }
}

bool kernel_ring::check(std::string& why) {
    constexpr unsigned features =
        IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_FAST_POLL | IORING_FEAT_CQE_SKIP;
    if ((ring_.features & features) != features) return why = "io_uring: the kernel lacks needed features", false;
    // As io_uring_get_probe_ring() does it, which keeps the error to itself.
    constexpr unsigned most_operations = 256;
    alignas(io_uring_probe) std::byte memory[sizeof(io_uring_probe) + most_operations * sizeof(io_uring_probe_op)] = {};
    auto* const probe = reinterpret_cast<io_uring_probe*>(memory);
    if (const int error = io_uring_register_probe(&ring_, probe, most_operations); error < 0)
        return why = explain("io_uring_register", -error, hint_for(-error)), false;
    const bool complete = std::all_of(std::begin(needed_operations), std::end(needed_operations),
                                      [&](int operation) { return io_uring_opcode_supported(probe, operation) != 0; });
    if (!complete) return why = "io_uring: the kernel lacks needed operations", false;

    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_nop(sqe);
    int submitted;
    do {
        submitted = io_uring_submit_and_wait(&ring_, 1);
    } while (submitted == -EINTR);  // by a signal, which says nothing about the ring
    int result = submitted < 0 ? submitted : -EIO;
    reap([&](std::uint64_t, int res, unsigned) { return result = res, true; });
    if (result < 0) return why = explain("io_uring self-test", -result), false;
    return true;
}

io_uring_sqe* kernel_ring::entry() noexcept {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe != nullptr) [[likely]]
        return sqe;
    submit();
    return io_uring_get_sqe(&ring_);
}

void kernel_ring::submit() noexcept { judge(io_uring_submit(&ring_)); }

void kernel_ring::enter(bool wait, __kernel_timespec* limit) noexcept {
    if (IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_CQ_OVERFLOW) [[unlikely]]
        ++overflows_;
    if (!wait) return judge(io_uring_submit_and_get_events(&ring_));
    if (limit == nullptr) return judge(io_uring_submit_and_wait(&ring_, 1));
    io_uring_cqe* first;
    judge(io_uring_submit_and_wait_timeout(&ring_, &first, 1, limit, nullptr));
}

bool kernel_ring::announce_to(int eventfd) noexcept { return io_uring_register_eventfd(&ring_, eventfd) == 0; }

void kernel_ring::announce(bool on) noexcept {
    io_uring_cq_eventfd_toggle(&ring_, on);
    // Whoever adds work from here on must see it, or we his work.
    std::atomic_thread_fence(std::memory_order_seq_cst);
}

bool kernel_ring::anything_left() const noexcept {
    if (anything_finished()) return true;
    pollfd ring{ring_.ring_fd, POLLIN, 0};
    return ::poll(&ring, 1, 0) > 0;
}

// Interrupted, out of time, out of memory for the moment, or an overflow list that does not fit
// yet: what could not be submitted is still in the queue. Anything else is the end.
void kernel_ring::judge(int result) noexcept {
    if (result >= 0 || result == -EINTR || result == -ETIME || result == -EAGAIN || result == -EBUSY ||
        result == -ENOMEM) [[likely]]
        return;
    const char* hint = nullptr;  // what holds for this call only
    switch (-result) {
        case EEXIST: hint = "a loop is for the thread that made it, and this is another one"; break;
        case EBADR: hint = "it was out of memory and lost completions: what waits for them would wait for ever"; break;
        case EOPNOTSUPP:
        case EINVAL: hint = "did the program put another file in place of the ring's descriptor?"; break;
        default: break;
    }
    refused_by_kernel("io_uring_enter", -result, hint);
}

}  // namespace rondo::detail
