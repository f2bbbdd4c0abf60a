// Pipes of a simulated machine: connections of which one end only reads and the other only writes.
#include "network.hpp"
#include "socket_state.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>

namespace rondo::simulated {

namespace {

constexpr std::uint32_t page_size = 4096;
constexpr std::uint32_t usual_capacity = 65536;
constexpr std::uint32_t most_capacity = 1 << 20;  // without privileges

}  // namespace

int network::pipe(machine& m, int (&fds)[2], int capacity) noexcept {
    if (const int error = pair(m, unix_type::stream, fds); error < 0) return error;
    socket& reader = *m.find(fds[0]);
    socket& writer = *m.find(fds[1]);
    for (socket* end : {&reader, &writer}) {
        end->is_pipe = true;
        end->send_buffer = end->receive_buffer = usual_capacity;
    }
    if (capacity == 0) return 0;
    const int set = pipe_capacity(writer, capacity);
    if (set >= 0) return 0;
    close(writer);
    close(reader);
    return set;
}

// Rounded up as on Linux, where a pipe has a power of two of pages.
int network::pipe_capacity(socket& s, int wanted) noexcept {
    if (!s.is_pipe) return -EBADF;
    if (wanted == 0) return static_cast<int>(s.send_buffer);
    if (wanted < 0) return -EINVAL;
    if (static_cast<std::uint32_t>(wanted) > most_capacity) return -EPERM;
    const std::uint32_t capacity = std::bit_ceil(std::max(static_cast<std::uint32_t>(wanted), page_size));
    if (std::max(s.bytes.size(), s.peer->bytes.size()) > capacity) return -EBUSY;
    for (socket* end : {&s, s.peer}) {
        end->send_buffer = end->receive_buffer = capacity;
        update(*end);
    }
    return static_cast<int>(capacity);
}

}  // namespace rondo::simulated
