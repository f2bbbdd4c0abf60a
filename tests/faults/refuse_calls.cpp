// refuse_calls ERROR NAME[,NAME]... COMMAND [ARGS]: runs the command behind a seccomp filter that answers these system
// calls with that number of an error, as a container does. Exits with 77 if no filter can be installed.
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

struct named {
    std::string_view name;
    long number;
};

constexpr named calls[] = {
    {"accept4", SYS_accept4},
    {"bind", SYS_bind},
    {"connect", SYS_connect},
    {"epoll_create1", SYS_epoll_create1},
    {"epoll_ctl", SYS_epoll_ctl},
    {"epoll_pwait", SYS_epoll_pwait},
    {"epoll_pwait2", SYS_epoll_pwait2},
#ifdef SYS_epoll_wait
    {"epoll_wait", SYS_epoll_wait},
#endif
    {"eventfd2", SYS_eventfd2},
    {"getpeername", SYS_getpeername},
    {"getrandom", SYS_getrandom},
    {"getsockname", SYS_getsockname},
    {"getsockopt", SYS_getsockopt},
    {"io_uring_enter", SYS_io_uring_enter},
    {"io_uring_register", SYS_io_uring_register},
    {"io_uring_setup", SYS_io_uring_setup},
    {"listen", SYS_listen},
    {"recvfrom", SYS_recvfrom},
    {"recvmmsg", SYS_recvmmsg},
    {"recvmsg", SYS_recvmsg},
    {"sendmmsg", SYS_sendmmsg},
    {"sendmsg", SYS_sendmsg},
    {"sendto", SYS_sendto},
    {"setsockopt", SYS_setsockopt},
    {"shutdown", SYS_shutdown},
    {"socket", SYS_socket},
    {"splice", SYS_splice},
    {"timerfd_create", SYS_timerfd_create},
};

bool refuse(const std::vector<long>& numbers, unsigned error) {
    std::vector<sock_filter> program{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (std::size_t i = 0; i < numbers.size(); ++i)
        program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(numbers[i]),
                                   static_cast<unsigned char>(numbers.size() - i), 0));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error & SECCOMP_RET_DATA)));
    const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) return (std::fprintf(stderr, "usage: %s ERROR NAME[,NAME]... COMMAND [ARGS]\n", argv[0]), 2);
    std::vector<long> numbers;
    for (std::string_view names = argv[2]; !names.empty();) {
        const std::string_view name = names.substr(0, names.find(','));
        names.remove_prefix(std::min(name.size() + 1, names.size()));
        const auto* const found =
            std::find_if(std::begin(calls), std::end(calls), [&](const named& each) { return each.name == name; });
        if (found == std::end(calls)) return (std::fprintf(stderr, "no call of that name is known\n"), 2);
        numbers.push_back(found->number);
    }
    if (!refuse(numbers, static_cast<unsigned>(std::atoi(argv[1])))) return 77;
    ::execvp(argv[3], argv + 3);
    std::perror(argv[3]);
    return 127;
}
