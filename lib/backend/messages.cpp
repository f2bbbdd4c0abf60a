#include "messages.hpp"

#include "datagrams.hpp"
#include "unix_names.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace rondo::detail {
namespace {

/// Room for the descriptors of one message, and for what a socket of the program may have been told to add.
struct alignas(cmsghdr) control_room {
    static constexpr std::size_t descriptors = CMSG_SPACE(raw_message::most_descriptors * sizeof(int));
    char bytes[descriptors + 256];
};

raw_message& message_of(const io_op& what) noexcept { return *static_cast<raw_message*>(what.data); }

/// What recvmsg has brought of descriptors goes to their places. 0, or the negative errno when they had to be closed.
/// The room of the call is for all that the kernel lets one message have, so that it cuts only when the process has no
/// number left for one.
std::int32_t take_descriptors(msghdr& header, raw_message& into, std::uint16_t most) noexcept {
    std::int32_t error = header.msg_flags & MSG_CTRUNC ? -EMFILE : 0;
    for (cmsghdr* at = CMSG_FIRSTHDR(&header); at != nullptr; at = CMSG_NXTHDR(&header, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd;
            std::memcpy(&fd, CMSG_DATA(at) + i * sizeof fd, sizeof fd);
            if (into.descriptor_count < most) {
                into.places[into.descriptor_count++].fd = fd;
            } else {
                ::close(fd);
                error = -EMSGSIZE;
            }
        }
    }
    if (error != 0) close_descriptors(into);
    return error;
}

/// After a receive that brought nothing. A packet without bytes looks like the end, and only who has sent the end has
/// hung up; behind a packet there may be others. (The last packets before the end, if they are empty, pass for the
/// end.)
bool has_ended(int fd) noexcept {
    pollfd peer{fd, POLLRDHUP, 0};
    if (::poll(&peer, 1, 0) <= 0) return false;
    char next;
    return ::recv(fd, &next, sizeof next, MSG_PEEK | MSG_DONTWAIT) == 0;
}

}  // namespace

bool message_is_small(const io_op& what) noexcept { return message_of(what).size <= byte_budget::small; }

void close_descriptors(raw_message& message) noexcept {
    for (std::uint16_t i = 0; i < message.descriptor_count; ++i) {
        ::close(message.places[i].fd);
        message.places[i].fd = -1;
    }
    message.descriptor_count = 0;
}

std::int32_t receive_message(io_op& what, byte_budget& budget) noexcept {
    raw_message& into = message_of(what);
    const std::uint16_t most = into.places != nullptr ? into.descriptor_count : std::uint16_t{0};
    control_room room;
    sockaddr_un from;
    iovec place{into.data, into.of_stream ? budget.portion(into.size) : std::min(into.size, most_moved)};
    msghdr header{};
    header.msg_iov = &place;
    header.msg_iovlen = 1;
    if (most > 0) {
        header.msg_control = room.bytes;
        header.msg_controllen = sizeof room.bytes;
    }
    if (into.name != nullptr) {
        header.msg_name = &from;
        header.msg_namelen = sizeof from;
    }
    ssize_t n;
    do {
        n = ::recvmsg(what.fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) return errno == EAGAIN ? would_block : -errno;
    budget.spend(static_cast<std::size_t>(n));
    what.moved = static_cast<std::uint32_t>(n);
    into.truncated = header.msg_flags & MSG_TRUNC;
    if (into.name != nullptr) *into.name = unix_name_of(from, header.msg_namelen);
    if (into.places != nullptr) into.descriptor_count = 0;
    if (most > 0)
        if (const std::int32_t error = take_descriptors(header, into, most); error != 0) return error;
    const bool nothing = n == 0 && !into.truncated && into.descriptor_count == 0;
    into.ended = nothing && (into.of_stream || (into.name == nullptr && has_ended(what.fd)));
    return static_cast<std::int32_t>(n);
}

// Once some bytes of a stream are through, the descriptors are, too.
std::int32_t send_message(io_op& what, byte_budget& budget) noexcept {
    const raw_message& from = message_of(what);
    control_room room;
    turn_share share(budget);
    for (;;) {
        const std::uint32_t left = std::min(from.size, most_moved) - what.moved;
        iovec piece{static_cast<std::byte*>(from.data) + what.moved, from.of_stream ? share.portion(left) : left};
        msghdr header{};
        header.msg_iov = &piece;
        header.msg_iovlen = 1;
        if (from.descriptor_count > 0 && what.moved == 0) {
            header.msg_control = room.bytes;
            header.msg_controllen = CMSG_SPACE(from.descriptor_count * sizeof(int));
            cmsghdr* const rights = CMSG_FIRSTHDR(&header);
            rights->cmsg_level = SOL_SOCKET;
            rights->cmsg_type = SCM_RIGHTS;
            rights->cmsg_len = CMSG_LEN(from.descriptor_count * sizeof(int));
            std::memcpy(CMSG_DATA(rights), from.descriptors, from.descriptor_count * sizeof(int));
        }
        const unix_socket_address to(from.name != nullptr ? *from.name : raw_unix_name());
        if (from.name != nullptr) {
            header.msg_name = const_cast<sockaddr*>(to.data());
            header.msg_namelen = to.size;
        }
        const ssize_t n = ::sendmsg(what.fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EINTR) continue;
            return errno != EAGAIN ? -errno : from.name != nullptr ? -EAGAIN : would_block;
        }
        what.moved += static_cast<std::uint32_t>(n);
        if (!from.of_stream || static_cast<std::uint32_t>(n) == left) {
            budget.spend(static_cast<std::size_t>(n));
            return static_cast<std::int32_t>(what.moved);
        }
        share.spend(static_cast<std::size_t>(n));
        if (share.used_up()) return out_of_share;
    }
}

io_op message_op(const sys_op& call) noexcept {
    static constexpr op_vtable none{nullptr, nullptr, nullptr};
    const bool receiving = call.what == sys_op::call::try_receive_message;
    io_op made(none, receiving ? io_kind::receive_message : io_kind::send_message, call.fd);
    made.data = call.data;
    return made;
}

int message_answer(std::int32_t result, const io_op& what) noexcept {
    if (result < 0 && what.kind == io_kind::send_message && what.moved > 0) return static_cast<int>(what.moved);
    return result == would_block || result == out_of_share ? -EAGAIN : result;
}

}  // namespace rondo::detail
