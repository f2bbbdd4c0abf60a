// The base of the UDP row: recvmmsg and sendmmsg, written by hand. It sleeps in the former, which nothing with more
// than one descriptor can do; or, --epoll, in epoll_wait.
#include <sys/epoll.h>

#include "support.hpp"

#include <array>

namespace {

constexpr unsigned batch_size = 32;
constexpr std::size_t largest = 2048;

std::array<std::array<char, largest>, batch_size> memory;
std::array<sockaddr_in, batch_size> peers;
std::array<iovec, batch_size> places;
std::array<mmsghdr, batch_size> batch;

}  // namespace

int main(int argc, char** argv) {
    bench::prepare_server();
    const int fd = static_cast<int>(bench::must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
    auto address = bench::loopback(static_cast<int>(bench::option(argc, argv, "--port", 0)));
    socklen_t length = sizeof address;
    bench::must(bind(fd, reinterpret_cast<sockaddr*>(&address), length), "bind");
    bench::must(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), "getsockname");
    bench::announce_port(ntohs(address.sin_port));
    const bool by_epoll = bench::flag(argc, argv, "--epoll");
    const int epoll = static_cast<int>(bench::must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
    epoll_event event{EPOLLIN, {.fd = fd}};
    if (by_epoll) bench::must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    bool emptied = true;
    for (;;) {
        if (by_epoll && emptied) epoll_wait(epoll, &event, 1, -1);
        for (unsigned i = 0; i < batch_size; ++i) {
            places[i] = {memory[i].data(), largest};
            batch[i].msg_hdr = {};
            batch[i].msg_hdr.msg_name = &peers[i];
            batch[i].msg_hdr.msg_namelen = sizeof peers[i];
            batch[i].msg_hdr.msg_iov = &places[i];
            batch[i].msg_hdr.msg_iovlen = 1;
        }
        const int got = recvmmsg(fd, batch.data(), batch_size, by_epoll ? MSG_DONTWAIT : MSG_WAITFORONE, nullptr);
        emptied = got < static_cast<int>(batch_size);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        const auto count = static_cast<unsigned>(bench::must(got, "recvmmsg"));
        for (unsigned i = 0; i < count; ++i) places[i].iov_len = batch[i].msg_len;
        for (unsigned sent = 0; sent < count;)
            sent += static_cast<unsigned>(bench::must(sendmmsg(fd, &batch[sent], count - sent, 0), "sendmmsg"));
    }
}
