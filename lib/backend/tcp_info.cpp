#include "tcp_info.hpp"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>

namespace rondo::detail {

int look_at_connection(int fd, connection_info& into) noexcept {
    tcp_info info{};  // an older kernel fills in less, and the rest stays 0
    socklen_t size = sizeof info;
    if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0) {
        // Of what is no TCP, a Unix socket says the first of these, UDP the second, and a pipe the third.
        const bool other = errno == EOPNOTSUPP || errno == ENOPROTOOPT || errno == ENOTSOCK;
        return other ? -EOPNOTSUPP : -errno;
    }
    int waiting = 0;
    // A socket that listens has no queue.
    if (::ioctl(fd, SIOCOUTQ, &waiting) < 0 && errno != EINVAL) return -errno;
    into.state = static_cast<tcp_state>(info.tcpi_state);
    into.rtt = std::chrono::microseconds(info.tcpi_rtt);
    into.rtt_variation = std::chrono::microseconds(info.tcpi_rttvar);
    into.retransmits = info.tcpi_retransmits;
    into.total_retransmits = info.tcpi_total_retrans;
    into.congestion_window = info.tcpi_snd_cwnd;
    into.bytes_acknowledged = info.tcpi_bytes_acked;
    into.bytes_received = info.tcpi_bytes_received;
    into.unacknowledged = static_cast<std::uint64_t>(waiting);
    into.unsent = info.tcpi_notsent_bytes;
    return 0;
}

}  // namespace rondo::detail
