#include "datagrams.hpp"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace rondo::detail {
namespace {

constexpr unsigned window_size = 64;  // datagrams per system call

// The kernel cuts into 64 datagrams at most, and takes no more bytes at once than one datagram could have; what
// options and extension headers may need is left free.
constexpr std::uint32_t most_segments = 64;
constexpr std::uint32_t most_at_once = 65'000;

constexpr int multicast_all_v6 = 29;  // IPV6_MULTICAST_ALL of Linux 4.20, which old headers do not have

int or_errno(long result) noexcept { return result < 0 ? -errno : static_cast<int>(result); }

raw_datagram* datagrams_of(const io_op& what) noexcept { return static_cast<raw_datagram*>(what.data); }

/// What the kernel is told of several datagrams. Nothing is initialized that is not used.
class window {
 public:
    window() noexcept {}

    unsigned count() const noexcept { return count_; }
    std::uint32_t bytes() const noexcept { return bytes_; }
    const mmsghdr& message(unsigned i) const noexcept { return messages_[i]; }
    std::uint32_t length(unsigned i) const noexcept { return static_cast<std::uint32_t>(pieces_[i].iov_len); }
    raw_address sender(unsigned i) const noexcept { return raw_address_of(&names_[i]); }

    /// A place to receive into.
    void add_place(const raw_datagram& place, bool segments) noexcept {
        msghdr& header = add(place.data, place.capacity);
        header.msg_name = &names_[count_];
        header.msg_namelen = sizeof names_[count_];
        if (segments) use_control(header);
        ++count_;
    }
    /// `size` bytes, from `begin` on, of a datagram to send; cut by the kernel where they are more than `segment`.
    void add_piece(const raw_datagram& of, std::uint32_t begin, std::uint32_t size) noexcept {
        msghdr& header = add(static_cast<std::byte*>(of.data) + begin, size);
        if (of.address.kind != raw_address::family::none) {
            const socket_address to(of.address);
            names_[count_] = to.v6;
            header.msg_name = &names_[count_];
            header.msg_namelen = to.size;
        }
        if (of.segment != 0 && size > of.segment) [[unlikely]] {
            use_control(header);
            cmsghdr* const cut = CMSG_FIRSTHDR(&header);
            cut->cmsg_level = SOL_UDP;
            cut->cmsg_type = UDP_SEGMENT;
            cut->cmsg_len = CMSG_LEN(sizeof of.segment);
            std::memcpy(CMSG_DATA(cut), &of.segment, sizeof of.segment);
            header.msg_controllen = CMSG_SPACE(sizeof of.segment);
        }
        ++count_;
    }
    bool cuts(unsigned i) const noexcept { return messages_[i].msg_hdr.msg_controllen != 0; }

    // One alone goes by the shorter way.
    int receive(int fd) noexcept {
        if (count_ > 1) return ::recvmmsg(fd, messages_, count_, MSG_DONTWAIT, nullptr);
        const ssize_t n = ::recvmsg(fd, &messages_[0].msg_hdr, MSG_DONTWAIT);
        messages_[0].msg_len = static_cast<unsigned>(n);
        return n < 0 ? -1 : 1;
    }
    int send(int fd) noexcept {
        constexpr int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
        if (count_ > 1) return ::sendmmsg(fd, messages_, count_, flags);
        return ::sendmsg(fd, &messages_[0].msg_hdr, flags) < 0 ? -1 : 1;
    }

 private:
    msghdr& add(void* data, std::uint32_t size) noexcept {
        pieces_[count_] = {data, size};
        bytes_ += size;
        msghdr& header = messages_[count_].msg_hdr;
        header = {};
        header.msg_iov = &pieces_[count_];
        header.msg_iovlen = 1;
        return header;
    }
    void use_control(msghdr& header) noexcept {
        header.msg_control = controls_[count_].bytes;
        header.msg_controllen = sizeof controls_[count_].bytes;
    }

    struct alignas(cmsghdr) control {
        char bytes[CMSG_SPACE(sizeof(int))];
    };

    unsigned count_ = 0;
    std::uint32_t bytes_ = 0;
    mmsghdr messages_[window_size];
    iovec pieces_[window_size];
    control controls_[window_size];
    sockaddr_in6 names_[window_size];  // or sockaddr_in
};

/// In how many bytes each the kernel was given them together; 0: it is one datagram.
std::uint16_t segment_of(const msghdr& received) noexcept {
    auto& header = const_cast<msghdr&>(received);
    for (cmsghdr* at = CMSG_FIRSTHDR(&header); at != nullptr; at = CMSG_NXTHDR(&header, at)) {
        if (at->cmsg_level != SOL_UDP || at->cmsg_type != UDP_GRO) continue;
        int size = 0;
        std::memcpy(&size, CMSG_DATA(at), sizeof size);
        return static_cast<std::uint16_t>(size);
    }
    return 0;
}

/// Kernels that do not know it ignore the wish and would send one large datagram: so they are asked before.
bool kernel_cuts(int fd) noexcept {
    int size = 0;
    socklen_t length = sizeof size;
    return ::getsockopt(fd, SOL_UDP, UDP_SEGMENT, &size, &length) == 0;
}

/// The kernel will not cut these: segments larger than a packet of this route, a device that cannot, ...
bool is_about_cutting(int error) noexcept {
    return error == EINVAL || error == EIO || error == EOPNOTSUPP || error == EMSGSIZE;
}

std::uint32_t piece_size(const raw_datagram& of, std::uint32_t begin, bool may_cut) noexcept {
    const std::uint32_t left = of.size - begin;
    if (of.segment == 0 || left <= of.segment) return left;
    const std::uint32_t fit = may_cut ? std::min(most_at_once / of.segment, most_segments) : 1;
    return std::min(left, std::max(fit, 1u) * of.segment);
}

}  // namespace

bool moves_little(const io_op& what) noexcept {
    std::uint64_t bytes = 0;
    const bool receives = what.kind == io_kind::receive_datagrams;
    for (std::uint32_t i = 0; i < what.size && bytes <= byte_budget::small; ++i)
        bytes += receives ? datagrams_of(what)[i].capacity : datagrams_of(what)[i].size;
    return bytes <= byte_budget::small && what.size <= window_size;
}

// One call only: an error that comes behind some datagrams is kept by the kernel for the next one.
std::int32_t receive_datagrams(io_op& what, byte_budget& budget, bool& emptied) noexcept {
    raw_datagram* const all = datagrams_of(what);
    const std::uint32_t most = budget.portion(most_moved);
    const bool segments = what.flags & io_op::segments;
    window asked;
    do {
        asked.add_place(all[asked.count()], segments);
    } while (asked.count() < std::min(what.size, window_size) && asked.bytes() < most);
    int n;
    do {
        n = asked.receive(what.fd);
    } while (n < 0 && errno == EINTR);
    emptied = n < 0 ? errno == EAGAIN : static_cast<unsigned>(n) < asked.count();
    if (n < 0) return emptied ? would_block : -errno;
    for (unsigned i = 0; i < static_cast<unsigned>(n); ++i) {
        const mmsghdr& got = asked.message(i);
        all[i].size = got.msg_len;
        all[i].sent = 0;
        all[i].segment = segments ? segment_of(got.msg_hdr) : 0;
        all[i].truncated = got.msg_hdr.msg_flags & MSG_TRUNC;
        all[i].address = asked.sender(i);
        budget.spend(got.msg_len);
    }
    what.moved = static_cast<std::uint32_t>(n);
    return n;
}

std::int32_t send_datagrams(io_op& what, byte_budget& budget) noexcept {
    raw_datagram* const all = datagrams_of(what);
    turn_share share(budget);
    bool may_cut = true;
    bool asked = false;
    while (what.moved < what.size) {
        if (share.used_up()) return out_of_share;
        const std::uint32_t most = share.portion(most_moved);
        window next;
        for (std::uint32_t i = what.moved, sent = all[i].sent;
             i < what.size && next.count() < window_size && (next.count() == 0 || next.bytes() < most);) {
            const raw_datagram& at = all[i];
            if (at.segment != 0 && !asked) [[unlikely]] {
                asked = true;
                may_cut = kernel_cuts(what.fd);
            }
            const std::uint32_t size = piece_size(at, sent, may_cut);
            next.add_piece(at, sent, size);
            sent += size;
            if (sent == at.size) ++i, sent = 0;
        }
        const int n = next.send(what.fd);
        if (n < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) return would_block;
            if (!next.cuts(0) || !is_about_cutting(errno)) return -errno;
            may_cut = false;
            continue;
        }
        std::size_t bytes = 0;
        for (unsigned i = 0; i < static_cast<unsigned>(n); ++i) {
            raw_datagram& through = all[what.moved];
            through.sent += next.length(i);
            bytes += next.length(i);
            if (through.sent == through.size) ++what.moved;
        }
        // The last of them may be larger than the share.
        share.spend(std::min<std::size_t>(bytes, most));
        budget.spend(bytes - std::min<std::size_t>(bytes, most));
    }
    return static_cast<std::int32_t>(what.moved);
}

// --- calls

namespace {

int try_now(const sys_op& what, byte_budget& budget) noexcept {
    static constexpr op_vtable none{nullptr, nullptr, nullptr};
    const bool receiving = what.what == sys_op::call::try_receive_datagrams;
    io_op op(none, receiving ? io_kind::receive_datagrams : io_kind::send_datagrams, what.fd);
    op.data = what.data;
    op.size = static_cast<std::uint32_t>(std::min<std::size_t>(what.size, most_moved));
    if (what.value & io_op::segments) op.flags |= io_op::segments;
    bool emptied;
    const std::int32_t result = receiving ? receive_datagrams(op, budget, emptied) : send_datagrams(op, budget);
    if (result < 0 && op.moved > 0) return static_cast<int>(op.moved);
    return result == would_block || result == out_of_share ? -EAGAIN : result;
}

// Linux hands a datagram for a group to every socket of its port, also to those that have never joined that group,
// unless it is told not to.
int make_socket(bool v6) noexcept {
    const int fd = ::socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    const int no = 0;
    ::setsockopt(fd, IPPROTO_IP, IP_MULTICAST_ALL, &no, sizeof no);
    if (v6) ::setsockopt(fd, IPPROTO_IPV6, multicast_all_v6, &no, sizeof no);
    return fd;
}

int connect_to(const sys_op& what) noexcept {
    if (what.address->kind == raw_address::family::none) {
        const sockaddr nobody{AF_UNSPEC, {}};
        return or_errno(::connect(what.fd, &nobody, sizeof nobody));
    }
    const socket_address to(*what.address);
    return or_errno(::connect(what.fd, to.data(), to.size));
}

int change_group(const sys_op& what) noexcept {
    const bool joins = what.what == sys_op::call::join_group;
    if (what.address->kind == raw_address::family::v6) {
        ipv6_mreq group{};
        std::memcpy(&group.ipv6mr_multiaddr, what.address->bytes, 16);
        group.ipv6mr_interface = static_cast<unsigned>(what.value);
        return or_errno(
            ::setsockopt(what.fd, IPPROTO_IPV6, joins ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &group, sizeof group));
    }
    ip_mreqn group{};
    std::memcpy(&group.imr_multiaddr, what.address->bytes, 4);
    group.imr_ifindex = what.value;
    return or_errno(
        ::setsockopt(what.fd, IPPROTO_IP, joins ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &group, sizeof group));
}

bool is_v6(int fd) noexcept {
    int family = 0;
    socklen_t size = sizeof family;
    return ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) == 0 && family == AF_INET6;
}

struct name {
    int level, option;
};

name name_of(sys_op::option which, bool v6) noexcept {
    const int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    switch (which) {
        case sys_op::option::ttl: return {level, v6 ? IPV6_UNICAST_HOPS : IP_TTL};
        case sys_op::option::multicast_ttl: return {level, v6 ? IPV6_MULTICAST_HOPS : IP_MULTICAST_TTL};
        case sys_op::option::multicast_loop: return {level, v6 ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP};
        case sys_op::option::multicast_interface: return {level, v6 ? IPV6_MULTICAST_IF : IP_MULTICAST_IF};
        default: return {SOL_UDP, UDP_GRO};
    }
}

}  // namespace

int call_for_datagrams(sys_op& what, byte_budget& budget) noexcept {
    switch (what.what) {
        case sys_op::call::udp_socket:
            return make_socket(what.address != nullptr && what.address->kind == raw_address::family::v6);
        case sys_op::call::udp_connect: return connect_to(what);
        case sys_op::call::join_group:
        case sys_op::call::leave_group: return change_group(what);
        default: return try_now(what, budget);
    }
}

bool is_datagram_option(sys_op::option which) noexcept {
    switch (which) {
        case sys_op::option::ttl:
        case sys_op::option::multicast_ttl:
        case sys_op::option::multicast_loop:
        case sys_op::option::multicast_interface:
        case sys_op::option::receive_segments: return true;
        default: return false;
    }
}

int set_datagram_option(const sys_op& what) noexcept {
    const bool v6 = is_v6(what.fd);
    const auto [level, option] = name_of(what.which, v6);
    if (what.which != sys_op::option::multicast_interface || v6)
        return or_errno(::setsockopt(what.fd, level, option, &what.value, sizeof what.value));
    ip_mreqn interface{};
    interface.imr_ifindex = what.value;
    return or_errno(::setsockopt(what.fd, level, option, &interface, sizeof interface));
}

int get_datagram_option(sys_op& what) noexcept {
    if (what.which == sys_op::option::multicast_interface) return -ENOPROTOOPT;
    const auto [level, option] = name_of(what.which, is_v6(what.fd));
    socklen_t size = sizeof what.value;
    return or_errno(::getsockopt(what.fd, level, option, &what.value, &size));
}

}  // namespace rondo::detail
