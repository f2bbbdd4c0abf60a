#include "splices.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <time.h>

#include <cerrno>

namespace rondo::detail {
namespace {

constexpr unsigned at_once = SPLICE_F_NONBLOCK | SPLICE_F_MOVE;

/// Keeps SIGPIPE from this thread. send(2) has MSG_NOSIGNAL for that, splice(2) has nothing. A signal that a call has
/// raised is taken back; one that was there before, and was blocked, stays.
class no_sigpipe {
 public:
    no_sigpipe() noexcept {
        sigset_t pipe;
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        ::pthread_sigmask(SIG_BLOCK, &pipe, &before_);
        if (!sigismember(&before_, SIGPIPE)) return;
        sigset_t pending;
        was_pending_ = ::sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE);
    }
    no_sigpipe(const no_sigpipe&) = delete;
    no_sigpipe& operator=(const no_sigpipe&) = delete;
    ~no_sigpipe() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

    /// A call has said EPIPE.
    void take_back() const noexcept {
        if (was_pending_) return;
        sigset_t pipe;
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        const timespec now{};
        while (::sigtimedwait(&pipe, nullptr, &now) < 0 && errno == EINTR) {
        }
    }

 private:
    sigset_t before_;
    bool was_pending_ = false;
};

/// splice(2), or a negative errno.
std::int32_t moved(int from, int to, std::uint32_t most) noexcept {
    for (;;) {
        const ssize_t n = ::splice(from, nullptr, to, nullptr, most, at_once);
        if (n >= 0) return static_cast<std::int32_t>(n);
        if (errno != EINTR) return -errno;
    }
}

}  // namespace

// One call: the next one could not tell an empty socket from a full pipe.
std::int32_t splice_in(io_op& what, byte_budget& budget, pipe_pool& pipes) noexcept {
    std::int32_t result = 0;
    splice_pipe* const pipe = pipes.take(result);
    what.data = pipe;
    if (pipe == nullptr) return result;
    result = moved(what.fd, pipe->in, budget.portion(what.size));
    if (result > 0) {
        budget.spend(static_cast<std::uint32_t>(result));
        return result;
    }
    pipes.give_back(*pipe, nullptr, 0);
    what.data = nullptr;
    return result == -EAGAIN ? would_block : result;
}

bool has_input(int fd) noexcept {
    pollfd ready{fd, POLLIN | POLLRDHUP, 0};
    int n;
    do {
        n = ::poll(&ready, 1, 0);
    } while (n < 0 && errno == EINTR);
    return n != 0;  // an error is found by whoever receives
}

std::int32_t splice_out(io_op& what, byte_budget& budget) noexcept {
    const no_sigpipe quiet;
    const int pipe = static_cast<const splice_pipe*>(what.data)->out;
    const std::int32_t result = moved(pipe, what.fd, budget.portion(what.size));
    if (result == -EPIPE) quiet.take_back();
    if (result > 0) {
        budget.spend(static_cast<std::uint32_t>(result));
        what.moved = static_cast<std::uint32_t>(result);
    }
    return result == -EAGAIN ? would_block : result;
}

}  // namespace rondo::detail
