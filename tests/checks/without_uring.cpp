// without_uring EPERM|ENOSYS COMMAND [ARGS]: runs the command behind a seccomp filter that answers
// the three io_uring system calls with that error, as containers and old kernels do.
#include <cstddef>
#include <cstdio>
#include <cstring>

#include <cerrno>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

// The kernel also sees foreign system call tables (32-bit programs); but only ours runs here, and
// these three calls have the same numbers on every architecture.
bool refuse_uring(int error) {
    const auto answer = SECCOMP_RET_ERRNO | (static_cast<unsigned>(error) & SECCOMP_RET_DATA);
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{sizeof program / sizeof program[0], program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace

int main(int argc, char** argv) {
    const int error = argc < 3                              ? 0
                      : std::strcmp(argv[1], "EPERM") == 0  ? EPERM
                      : std::strcmp(argv[1], "ENOSYS") == 0 ? ENOSYS
                                                            : 0;
    if (error == 0) {
        std::fprintf(stderr, "usage: without_uring EPERM|ENOSYS COMMAND [ARGS]\n");
        return 2;
    }
    if (!refuse_uring(error)) {
        std::printf("no seccomp filter can be installed here: %s\n", std::strerror(errno));
        return 77;
    }
    if (syscall(SYS_io_uring_setup, 1, nullptr) != -1 || errno != error) {
        std::fprintf(stderr, "the filter does not refuse io_uring_setup\n");
        return 1;
    }
    execvp(argv[2], argv + 2);
    std::fprintf(stderr, "cannot run %s: %s\n", argv[2], std::strerror(errno));
    return 127;
}
