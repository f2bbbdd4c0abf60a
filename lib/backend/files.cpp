#include "files.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <initializer_list>

namespace rondo::detail {
namespace {

constexpr int our_flags = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

int or_errno(int result) noexcept { return result < 0 ? -errno : result; }

/// Gives up what was made on the way to a failure, which errno tells.
int failed(std::initializer_list<int> made) noexcept {
    const int error = errno;
    for (const int fd : made)
        if (fd >= 0) ::close(fd);
    return -error;
}

bool is_pipe(int fd) noexcept {
    struct stat what{};
    return ::fstat(fd, &what) == 0 && S_ISFIFO(what.st_mode);
}

/// Whether it was opened in a way that allows it; an error is none.
bool may(int fd, bool write) noexcept {
    const int flags = ::fcntl(fd, F_GETFL);
    const int mode = flags & O_ACCMODE;
    return flags >= 0 && !(flags & O_PATH) && (mode == O_RDWR || mode == (write ? O_WRONLY : O_RDONLY));
}

int make_pipe(sys_op& what) noexcept {
    if (::pipe2(what.fds, O_NONBLOCK | O_CLOEXEC) < 0) return -errno;
    if (what.value != 0 && ::fcntl(what.fds[1], F_SETPIPE_SZ, what.value) < 0)
        return failed({what.fds[0], what.fds[1]});
    return 0;
}

int pipe_capacity(const sys_op& what) noexcept {
    if (what.value == 0) return or_errno(::fcntl(what.fd, F_GETPIPE_SZ));
    return or_errno(::fcntl(what.fd, F_SETPIPE_SZ, what.value));
}

int adopt_pipe(const sys_op& what) noexcept {
    const int of_number = ::fcntl(what.fd, F_GETFD);
    const int of_file = ::fcntl(what.fd, F_GETFL);
    if (of_number < 0 || of_file < 0) return -errno;
    if (!is_pipe(what.fd) || !may(what.fd, what.value != 0)) return -EINVAL;
    if (::fcntl(what.fd, F_SETFD, of_number | FD_CLOEXEC) < 0) return -errno;
    if (::fcntl(what.fd, F_SETFL, of_file | O_NONBLOCK) == 0) return 0;
    const int error = errno;
    ::fcntl(what.fd, F_SETFD, of_number);
    return -error;
}

int open_fifo(const sys_op& what) noexcept {
    const char* const path = static_cast<const char*>(what.data);
    // What is no FIFO is not opened: that may do something, and a socket answers ENXIO, as a FIFO without a reader.
    struct stat found{};
    if (::stat(path, &found) < 0) return -errno;
    if (!S_ISFIFO(found.st_mode)) return -EINVAL;
    const int fd = ::open(path, (what.value != 0 ? O_WRONLY : O_RDONLY) | our_flags);
    if (fd < 0) return -errno;
    if (is_pipe(fd)) return fd;
    ::close(fd);
    return -EINVAL;
}

// O_NONBLOCK belongs to the open file, which the shell and its other children share: it is never set on what the
// program was started with. A pipe and a terminal can be opened once more, with flags of our own. A file cannot, since
// it would have a position of its own; nor a socket; nor a device that is no terminal, or a master, where opening makes
// a new one. These, and what a program under another user may not open, are used as they are, by another number.
int open_standard(int fd) noexcept {
    const int flags = ::fcntl(fd, F_GETFD);
    // Nobody is started with what closes on exec. It was made here, when the number was free.
    if (flags < 0 || flags & FD_CLOEXEC || !may(fd, fd != 0)) return -EBADF;
    struct stat what{};
    if (::fstat(fd, &what) < 0) return -errno;
    int master = 0;
    const bool terminal = S_ISCHR(what.st_mode) && ::isatty(fd) == 1 && ::ioctl(fd, TIOCGPTN, &master) < 0;
    if (S_ISFIFO(what.st_mode) || terminal) {
        char path[32];
        std::snprintf(path, sizeof path, "/proc/thread-self/fd/%d", fd);
        const int own = ::open(path, (fd == 0 ? O_RDONLY : O_WRONLY) | our_flags);
        if (own >= 0) return own;
    }
    constexpr int behind_the_standard_ones = 3;
    return or_errno(::fcntl(fd, F_DUPFD_CLOEXEC, behind_the_standard_ones));
}

int make_raw(int fd) noexcept {
    termios settings{};
    if (::tcgetattr(fd, &settings) < 0) return -errno;
    ::cfmakeraw(&settings);
    return or_errno(::tcsetattr(fd, TCSANOW, &settings));
}

int make_terminal(sys_op& what) noexcept {
    const int master = ::posix_openpt(O_RDWR | our_flags);
    if (master < 0) return -errno;
    if (::grantpt(master) < 0 || ::unlockpt(master) < 0) return failed({master});
    // By the master and not by its name, which may be another's where a container has devices of its own.
    const int terminal = ::ioctl(master, TIOCGPTPEER, O_RDWR | our_flags);
    if (terminal < 0) return failed({master});
    if (what.value != 0 && make_raw(terminal) < 0) return failed({master, terminal});
    what.fds[0] = master;
    what.fds[1] = terminal;
    return 0;
}

int terminal_number(int fd) noexcept {
    int number = 0;
    return ::ioctl(fd, TIOCGPTN, &number) < 0 ? -errno : number;
}

int terminal_window(const sys_op& what) noexcept {
    auto& size = *static_cast<window_size*>(what.data);
    winsize as_kernel{size.rows, size.columns, size.width, size.height};
    if (what.value != 0) return or_errno(::ioctl(what.fd, TIOCSWINSZ, &as_kernel));
    if (::ioctl(what.fd, TIOCGWINSZ, &as_kernel) < 0) return -errno;
    size = {as_kernel.ws_row, as_kernel.ws_col, as_kernel.ws_xpixel, as_kernel.ws_ypixel};
    return 0;
}

}  // namespace

int call_for_files(sys_op& what) noexcept {
    switch (what.what) {
        case sys_op::call::pipe_pair: return make_pipe(what);
        case sys_op::call::pipe_capacity: return pipe_capacity(what);
        case sys_op::call::adopt_pipe: return adopt_pipe(what);
        case sys_op::call::fifo_make:
            return or_errno(::mkfifo(static_cast<const char*>(what.data), static_cast<mode_t>(what.value)));
        case sys_op::call::fifo_open: return open_fifo(what);
        case sys_op::call::standard_stream: return open_standard(what.value);
        case sys_op::call::terminal_pair: return make_terminal(what);
        case sys_op::call::terminal_number: return terminal_number(what.fd);
        case sys_op::call::terminal_window: return terminal_window(what);
        default: return -EINVAL;
    }
}

bool makes_files(sys_op::call what) noexcept {
    return what == sys_op::call::pipe_pair || what == sys_op::call::adopt_pipe || what == sys_op::call::fifo_open ||
           what == sys_op::call::standard_stream || what == sys_op::call::terminal_pair;
}

file_kind kind_of_made(const sys_op& made, int fd) noexcept {
    const bool reads_fifo = made.what == sys_op::call::fifo_open && made.value == 0;
    return reads_fifo ? file_kind::fifo : look_at_file(fd);
}

int refuse_files(const sys_op& made, int result) noexcept {
    if (made.what == sys_op::call::adopt_pipe) return -ENOMEM;
    const bool two = made.what == sys_op::call::pipe_pair || made.what == sys_op::call::terminal_pair;
    if (!two) {
        ::close(result);
        return -ENOMEM;
    }
    for (const int fd : made.fds) ::close(fd);
    return -ENOMEM;
}

}  // namespace rondo::detail
