#include "unix_names.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace rondo::detail {

unix_socket_address::unix_socket_address(const raw_unix_name& name) noexcept {
    un.sun_family = AF_UNIX;
    std::memcpy(un.sun_path, name.bytes, name.size);
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size);
    // The zero that ends a path counts, if there is room for it.
    if (name.size > 0 && name.bytes[0] != 0 && name.size < sizeof un.sun_path) ++size;
}

raw_unix_name unix_name_of(const sockaddr_un& un, socklen_t size) noexcept {
    raw_unix_name name;
    constexpr socklen_t before = offsetof(sockaddr_un, sun_path);
    if (size <= before) return name;  // it has none
    std::size_t count = std::min<std::size_t>(size - before, sizeof un.sun_path);
    if (un.sun_path[0] != 0) count = ::strnlen(un.sun_path, count);
    name.size = static_cast<std::uint8_t>(count);
    std::memcpy(name.bytes, un.sun_path, count);
    return name;
}

int unix_socket_type(unix_type type) noexcept {
    return type == unix_type::stream ? SOCK_STREAM : type == unix_type::datagram ? SOCK_DGRAM : SOCK_SEQPACKET;
}

namespace {

/// A path for the calls about files; empty of an abstract name.
struct path_text {
    explicit path_text(const raw_unix_name& name) noexcept {
        if (name.size == 0 || name.bytes[0] == 0) return;
        std::memcpy(text, name.bytes, name.size);
    }
    bool empty() const noexcept { return text[0] == 0; }

    char text[raw_unix_name::capacity + 1] = "";
};

template <class Call>
int name_of(int fd, raw_unix_name& into, Call call) noexcept {
    sockaddr_un un{};
    socklen_t size = sizeof un;
    if (call(fd, reinterpret_cast<sockaddr*>(&un), &size) < 0) return -errno;
    into = {};
    if (un.sun_family != AF_UNIX) return -EAFNOSUPPORT;
    into = unix_name_of(un, size);
    return 0;
}

bool is_same(const struct stat& a, const struct stat& b) noexcept {
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// Only a refusal says that nobody is there: a full queue, or a socket of another type, is somebody. A file without a
// socket refuses those of every type. Of what is no socket, and of one that may not be connected to, we keep our hands
// off. Whether the file is still the one that was tried is looked at once more at the end: between two servers that
// start over the same file, what is left is the moment between this look and unlink(2), for which there is no call.
bool remove_if_stale(int fd, const unix_socket_address& at, const char* path) noexcept {
    struct stat before, after;
    if (::lstat(path, &before) < 0 || !S_ISSOCK(before.st_mode)) return false;
    int type = SOCK_STREAM;
    socklen_t size = sizeof type;
    ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    const int probe = ::socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe < 0) return false;
    const bool refused = ::connect(probe, at.data(), at.size) < 0 && errno == ECONNREFUSED;
    ::close(probe);
    return refused && ::lstat(path, &after) == 0 && is_same(before, after) && ::unlink(path) == 0;
}

}  // namespace

// The mode is set on the socket before, so that the file never has a wider one; afterwards for the bits that the umask
// has taken away.
int bind_to_unix_name(int fd, unix_binding& to) noexcept {
    const unix_socket_address at(to.name);
    const path_text path(to.name);
    to.device = to.inode = 0;
    if (path.empty()) return ::bind(fd, at.data(), at.size) < 0 ? -errno : 0;
    ::fchmod(fd, to.mode);
    int error = ::bind(fd, at.data(), at.size) < 0 ? errno : 0;
    if (error == EADDRINUSE && to.replace && remove_if_stale(fd, at, path.text))
        error = ::bind(fd, at.data(), at.size) < 0 ? errno : 0;
    if (error != 0) return -error;
    struct stat made;
    if (::lstat(path.text, &made) < 0) return -errno;
    to.device = made.st_dev;
    to.inode = made.st_ino;
    if ((made.st_mode & 07777) == to.mode || ::chmod(path.text, to.mode) == 0) return 0;
    error = errno;
    unlink_unix(to);
    return -error;
}

int unlink_unix(const unix_binding& bound) noexcept {
    if (bound.device == 0 && bound.inode == 0) return 0;
    const path_text path(bound.name);
    struct stat now;
    if (::lstat(path.text, &now) < 0) return errno == ENOENT ? 0 : -errno;
    if (now.st_dev != bound.device || now.st_ino != bound.inode) return 0;
    return ::unlink(path.text) < 0 ? -errno : 0;
}

int connect_to_unix_name(int fd, const raw_unix_name& to) noexcept {
    if (to.size == 0) {
        const sockaddr nobody{AF_UNSPEC, {}};
        return ::connect(fd, &nobody, sizeof nobody) < 0 ? -errno : 0;
    }
    const unix_socket_address at(to);
    return ::connect(fd, at.data(), at.size) < 0 ? -errno : 0;
}

int unix_local_name(int fd, raw_unix_name& into) noexcept { return name_of(fd, into, ::getsockname); }
int unix_peer_name(int fd, raw_unix_name& into) noexcept { return name_of(fd, into, ::getpeername); }

int look_at_peer(int fd, peer_credentials& into) noexcept {
    ucred who{};
    socklen_t size = sizeof who;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0) return -errno;
    if (who.uid == static_cast<uid_t>(-1)) return -ENOTCONN;
    into = {.process = who.pid, .user = who.uid, .group = who.gid};
    return 0;
}

}  // namespace rondo::detail
