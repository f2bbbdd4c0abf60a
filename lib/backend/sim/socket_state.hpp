// What is asked of a simulated socket in several places.
#pragma once

#include "network.hpp"

#include <algorithm>
#include <cerrno>
#include <new>
#include <vector>

namespace rondo::simulated {

using phase = socket::phase;

/// The error that the socket has to tell, once, as a negative errno; else `otherwise`.
inline int take_error(socket& s, int otherwise) {
    if (s.error == 0) return otherwise;
    const int error = s.error;
    s.error = 0;
    return -error;
}

/// How many bytes more it may be given to send.
inline std::uint32_t space(const socket& s) {
    if (s.is_pipe) return s.send_buffer - std::min(s.send_buffer, s.peer->bytes.size());
    const std::uint32_t used = s.peer->bytes.size() - s.peer->arrived + s.peer->unacknowledged;
    return s.send_buffer > used ? s.send_buffer - used : 0;
}

/// Both directions have ended, or there was a reset: as good as not connected.
inline bool over(const socket& s) { return s.dead || (s.end_arrived && s.peer->end_arrived); }

constexpr std::uint32_t message_buffer = 212'992;  // of a Unix socket, as on Linux

/// Whoever on `m` has the name of a Unix socket; null if nobody does. The abstract ones of each type are their own.
socket* holder_of(machine& m, const raw_unix_name& name, unix_type type) noexcept;

/// Whether a Unix socket's messages from `from` find room at `to`. As on Linux, one may be a little more than the
/// buffer has, and an unconnected receiver has a queue of so many besides.
inline bool has_room(const socket& to, const socket& from) {
    constexpr std::uint32_t longest_queue = 10;
    if (from.type == unix_type::datagram && &to != &from && to.aim != &from && to.letter_count > longest_queue)
        return false;
    return to.letters_size < from.send_buffer;
}

/// A host has one interface, and 0 means the usual one.
constexpr bool is_interface(int number) { return number == 0 || number == 1; }

/// Makes room for so many, in large steps. False: there is no memory.
template <class T>
bool reserve(std::vector<T>& items, std::size_t count) noexcept {
    if (count <= items.capacity()) return true;
    try {
        items.reserve(std::max(count, 2 * items.capacity()));
    } catch (const std::bad_alloc&) {
        return false;
    }
    return true;
}

}  // namespace rondo::simulated
