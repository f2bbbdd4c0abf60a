// The base of every echo row: plain epoll, written by hand. Level-triggered, or --edge. On TCP, or --unix.
#include <fcntl.h>
#include <sys/epoll.h>

#include "support.hpp"

namespace {

constexpr std::size_t buffer_size = 16 * 1024;
char buffer[buffer_size];

/// Sends everything; blocks the whole server while a peer does not read, which the load never does.
bool send_all(int fd, const char* data, std::size_t size) {
    while (size > 0) {
        auto n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            pollfd writable{fd, POLLOUT, 0};
            poll(&writable, 1, -1);
            continue;
        }
        if (n <= 0) return false;
        data += n;
        size -= static_cast<std::size_t>(n);
    }
    return true;
}

/// Echoes what is there. Edge-triggered, goes on until a short read says that nothing is left.
void echo(int fd, bool edge) {
    for (;;) {
        auto n = recv(fd, buffer, buffer_size, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0 || !send_all(fd, buffer, static_cast<std::size_t>(n))) {
            close(fd);
            return;
        }
        if (!edge || static_cast<std::size_t>(n) < buffer_size) return;
    }
}

}  // namespace

int main(int argc, char** argv) {
    bench::prepare_server();
    bool edge = bench::flag(argc, argv, "--edge");
    auto port = static_cast<int>(bench::option(argc, argv, "--port", 0));
    const bool local = bench::flag(argc, argv, "--unix");
    int listener = local ? bench::listen_on_unix(SOCK_NONBLOCK | SOCK_CLOEXEC)
                         : bench::listen_on(port, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int epoll = static_cast<int>(bench::must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
    epoll_event event{EPOLLIN, {.fd = listener}};
    bench::must(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");
    epoll_event events[512];
    for (;;) {
        int n = epoll_wait(epoll, events, 512, -1);
        for (int i = 0; i < n; ++i) {
            if (events[i].data.fd != listener) {
                echo(events[i].data.fd, edge);
                continue;
            }
            int fd;
            while ((fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                if (!local) bench::set_nodelay(fd);
                event = {EPOLLIN | (edge ? unsigned{EPOLLET | EPOLLRDHUP} : 0u), {.fd = fd}};
                bench::must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
            }
        }
    }
}
