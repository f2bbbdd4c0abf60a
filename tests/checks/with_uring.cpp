// with_uring COMMAND [ARGS]: runs the command, or reports "skipped" where the kernel, or the
// container around us, refuses io_uring.
#include <cstdio>
#include <cstring>

#include <cerrno>
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: with_uring COMMAND [ARGS]\n");
        return 2;
    }
    io_uring_params params{};
    const long ring = syscall(SYS_io_uring_setup, 4, &params);
    if (ring < 0) {
        std::printf("io_uring is not available here: %s\n", std::strerror(errno));
        return 77;
    }
    close(static_cast<int>(ring));
    execvp(argv[1], argv + 1);
    std::fprintf(stderr, "cannot run %s: %s\n", argv[1], std::strerror(errno));
    return 127;
}
