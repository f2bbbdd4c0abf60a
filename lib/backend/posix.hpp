// What both real backends share: clocks, randomness, the wake-up descriptor, the calls that never
// block, and the translation between raw_address and the kernel's sockaddr.
#pragma once

#include "pipes.hpp"

#include <rondo/loop/backend.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>

namespace rondo::detail {

/// What an attempt answers when the operation has to wait; no result ever has this value.
inline constexpr std::int32_t would_block = std::numeric_limits<std::int32_t>::min();
/// What it answers when it has had its share of the turn, while the descriptor could go on; likewise.
inline constexpr std::int32_t out_of_share = would_block + 1;

/// Readers and writers of a descriptor are served independently: one of each at a time.
inline bool is_reader(io_kind kind) noexcept {
    return kind == io_kind::receive || kind == io_kind::borrow || kind == io_kind::accept || kind == io_kind::poll_in ||
           kind == io_kind::poll || kind == io_kind::receive_datagrams || kind == io_kind::receive_message ||
           kind == io_kind::splice_in;
}

/// A poll_mask as poll(2) has it, and epoll and io_uring likewise; and what was found, as a result.
short poll_events(std::uint32_t mask) noexcept;
std::int32_t poll_result(int found, std::uint32_t mask) noexcept;

/// The result of an op that was asked to end and had not finished. Leaves it fit for another start.
inline std::int32_t ended(io_op& what) noexcept {
    const bool closing = what.flags & io_op::closing;
    what.flags &= static_cast<std::uint8_t>(~io_op::closing);
    return closing ? -EBADF : -ECANCELED;
}

/// accept(2) hands out errors that belong to the one connection, or to the network for a moment.
/// They do not concern whoever accepts: try again.
bool accept_is_transient(int error) noexcept;

/// After this many transient failures in a row, accept reports the latest one, so that whoever accepts may
/// pause: what does not end by itself must not keep the loop busy.
inline constexpr std::uint32_t accept_patience = 1024;

/// A socket address as the kernel wants it.
struct socket_address {
    explicit socket_address(const raw_address& from) noexcept;

    const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(&v6); }

    sockaddr_in6 v6{};   // a sockaddr_in, when that is the family, lies at its beginning
    socklen_t size = 0;  // 0: the address is of no family
};

/// A socket address as the kernel gives it; of no family if it is neither of IPv4 nor of IPv6.
inline raw_address raw_address_of(const void* sockaddr) noexcept {
    raw_address to;
    sa_family_t family;
    std::memcpy(&family, sockaddr, sizeof family);
    if (family == AF_INET) {
        sockaddr_in v4;
        std::memcpy(&v4, sockaddr, sizeof v4);
        to.kind = raw_address::family::v4;
        to.port = ntohs(v4.sin_port);
        std::memcpy(to.bytes, &v4.sin_addr, 4);
    } else if (family == AF_INET6) {
        sockaddr_in6 v6;
        std::memcpy(&v6, sockaddr, sizeof v6);
        to.kind = raw_address::family::v6;
        to.port = ntohs(v6.sin6_port);
        to.scope = v6.sin6_scope_id;
        std::memcpy(to.bytes, &v6.sin6_addr, 16);
    }
    return to;
}

inline socket_address::socket_address(const raw_address& from) noexcept {
    if (from.kind == raw_address::family::v4) {
        sockaddr_in v4{};
        v4.sin_family = AF_INET;
        v4.sin_port = htons(from.port);
        std::memcpy(&v4.sin_addr, from.bytes, 4);
        std::memcpy(&v6, &v4, sizeof v4);
        size = sizeof v4;
    } else if (from.kind == raw_address::family::v6) {
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(from.port);
        v6.sin6_scope_id = from.scope;
        std::memcpy(&v6.sin6_addr, from.bytes, 16);
        size = sizeof v6;
    }
}

/// How much an op may move at most: a result has 31 bits.
inline constexpr std::uint32_t most_moved = std::numeric_limits<std::int32_t>::max();

inline std::uint32_t left_to_move(const io_op& what) noexcept { return std::min(what.size, most_moved) - what.moved; }

/// Ends a connection that nobody will accept as the kernel ends those in a listener's queue: with a reset.
void refuse_connection(int fd) noexcept;

/// Walks the spans of a send_vector; the kernel is given windows of them.
class span_cursor {
 public:
    /// Stands behind the `moved` bytes that are through.
    explicit span_cursor(const io_op& what) noexcept
        : span_cursor({static_cast<const std::span<const std::byte>*>(what.data), what.size}, what.moved) {}
    span_cursor(std::span<const std::span<const std::byte>> spans, std::size_t moved) noexcept;

    bool at_end() const noexcept { return at_ == end_ || left_ == 0; }
    /// What a window describes: so many pieces, and their bytes.
    struct filled {
        std::size_t pieces;
        std::size_t bytes;
    };
    /// Describes what comes next in at most `window.size()` pieces of at most `most` bytes together.
    filled fill(std::span<iovec> window, std::size_t most) const noexcept;
    void advance(std::size_t bytes) noexcept;

 private:
    void skip_empty() noexcept {
        while (at_ != end_ && offset_ == at_->size()) ++at_, offset_ = 0;
    }

    const std::span<const std::byte>* at_;
    const std::span<const std::byte>* end_;
    std::size_t offset_ = 0;
    std::size_t left_ = most_moved;
};

/// What one attempt at an op may take before everybody else has a turn: one portion of the budget, and not
/// too many system calls for it, since a peer may hand out its bytes one by one.
class turn_share {
 public:
    explicit turn_share(byte_budget& of) noexcept : of_(of), left_(of.portion(most_moved)) {}

    std::uint32_t portion(std::uint32_t wanted) const noexcept { return std::min(wanted, left_); }
    void spend(std::size_t bytes) noexcept {
        of_.spend(bytes);
        left_ -= static_cast<std::uint32_t>(bytes);
        --calls_;
    }
    bool used_up() const noexcept { return left_ == 0 || calls_ == 0; }

 private:
    byte_budget& of_;
    std::uint32_t left_;
    int calls_ = 16;
};

/// The half of a real backend that does not depend on how completions arrive.
class posix_backend : public backend {
 public:
    time_point now() noexcept final;
    std::int64_t wall_now() noexcept final;
    std::uint64_t random() noexcept final;
    void wake() noexcept final;
    std::size_t armed() const noexcept final { return armed_; }
    int watch_signals(signal_watch& who) noexcept final;
    void unwatch_signals(signal_watch& who) noexcept final;
    std::size_t descriptor_limit() noexcept final;
    std::size_t open_descriptors() noexcept final;

 protected:
    posix_backend() noexcept;
    ~posix_backend() override;
    posix_backend(const posix_backend&) = delete;
    posix_backend& operator=(const posix_backend&) = delete;

    /// The system calls behind control(), without any knowledge about the descriptors.
    int call(sys_op& what) noexcept;

    static bool finish(io_op& what, std::int32_t result) noexcept {
        what.result = result;
        return true;
    }
    bool park(io_op& what) noexcept {
        what.state = op::armed;
        ++armed_;
        return false;
    }

    /// In a forked child: what we hold is shared with the parent, and not ours to use.
    bool forked() const noexcept;

    pipe_pool pipes_;
    bool left_ = false;  // left_to_parent()
    int wake_fd_ = -1;  // an eventfd; -1 when there was none to be had
    std::size_t armed_ = 0;
    time_point last_now_ = time_point::min();  // spares `wait` a look at the clock

 private:
    unsigned forks_;
    std::uint64_t random_[4];
};

/// strerror, with a hint where the error is known to have one cause.
std::string explain(const char* call, int error, const char* hint = nullptr);

/// Asserts that `call`, without which a loop cannot go on, has failed: with which error, and what that may mean.
[[noreturn]] void refused_by_kernel(const char* call, int error, const char* hint = nullptr) noexcept;

}  // namespace rondo::detail
