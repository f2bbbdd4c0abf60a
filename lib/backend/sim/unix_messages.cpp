// Messages of simulated Unix sockets, and descriptors that go along with them. A descriptor that is passed on is one
// more number for the same socket.
#include "network.hpp"
#include "socket_state.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace rondo::simulated {
namespace {

/// What each counts for in a buffer besides its bytes, as with datagrams.
constexpr std::uint32_t overhead = 256;

}  // namespace

// Under way.

/// A letter with `bytes` of `from`, and its descriptors. 0, or why there can be none.
int network::collect(machine& m, const raw_message& from, std::size_t bytes, letter*& made) noexcept {
    for (std::uint16_t i = 0; i < from.descriptor_count; ++i)
        if (const int fd = from.descriptors[i]; m.find(fd) == nullptr)
            return fd >= 0 && fd < first_descriptor ? -ENOSYS : -EBADF;  // one of the kernel's, or none
    void* const memory = std::malloc(sizeof(letter) + from.descriptor_count * sizeof(socket*) + bytes);
    if (memory == nullptr) return -ENOMEM;
    made = new (memory) letter;
    made->size = static_cast<std::uint32_t>(bytes);
    made->count = from.descriptor_count;
    const int* fd = from.descriptors;
    for (socket*& held : made->rights()) {
        held = m.find(*fd++);
        ++held->held;
    }
    if (bytes > 0) std::memcpy(made->bytes(), from.data, bytes);
    return 0;
}

void network::put_into(socket& s, letter& what) noexcept {
    s.letters.push(what);
    ++s.letter_count;
    s.letters_size += what.size + overhead;
}

letter& network::take_from(socket& s) noexcept {
    letter& oldest = s.letters.pop();
    --s.letter_count;
    s.letters_size -= oldest.size + overhead;
    return oldest;
}

/// Its descriptors go to the places of `into`. 0, or the negative errno for which they had to be closed. The letter is
/// no more.
int network::deliver_to(socket& s, letter& from, raw_message* into) noexcept {
    const std::uint16_t room = into != nullptr && into->places != nullptr ? into->descriptor_count : std::uint16_t{0};
    if (into != nullptr && into->places != nullptr) into->descriptor_count = 0;
    int result = room > 0 && from.count > room ? -EMSGSIZE : 0;
    for (std::uint16_t i = 0; result == 0 && i < std::min(from.count, room); ++i) {
        const int fd = enter(*from.rights()[i]);
        if (fd < 0) {
            result = fd;
        } else {
            into->places[into->descriptor_count++].fd = fd;
        }
    }
    while (result < 0 && into->descriptor_count > 0) {
        raw_descriptor& back = into->places[--into->descriptor_count];
        leave_table(*s.home.find(back.fd), back.fd);
        back.fd = -1;
    }
    drop(from);
    return result;
}

void network::drop(letter& what) noexcept {
    for (socket* held : what.rights()) let_go(*held);
    std::free(&what);
}

void network::drop_letters(socket& s) noexcept {
    while (!s.letters.empty()) drop(take_from(s));
}

/// It was in a letter. If nobody else has it, that was its end.
void network::let_go(socket& held) noexcept {
    if (held.held == 1 && held.fd < 0 && held.listener == nullptr) end(held);
    --held.held;
    if (held.closed()) release(held);
}

/// Who had sent to `gone` is told when it does so again.
void network::forget_aim(socket& gone) noexcept {
    if (gone.type != unix_type::datagram) return;
    gone.aim = nullptr;
    gone.home.sockets.for_each([&](socket& s) {
        if (s.aim != &gone) return;
        s.aim = nullptr;
        s.aim_gone = true;
        update(s);
    });
}

/// There may be room for a letter to `s` again.
void network::update_senders(socket& s) noexcept {
    if (s.type == unix_type::packet) return update(*s.peer);
    s.home.sockets.for_each([&](socket& other) {
        if (other.aim == &s) update(other);
    });
}

// Calls.

int network::send_message(socket& s, const raw_message& what, std::uint32_t begin) noexcept {
    if (!s.is_unix()) return -EOPNOTSUPP;
    if (!s.has_letters()) {
        const auto* const from = static_cast<const std::byte*>(what.data) + begin;
        if (begin > 0 || what.descriptor_count == 0) return send(s, from, what.size - begin);
        letter* with = nullptr;
        if (const int error = collect(s.home, what, 0, with); error != 0) return error;
        if (s.peer != nullptr) with->begin = s.peer->consumed() + s.peer->bytes.size();
        const int sent = send(s, from, what.size);
        if (sent > 0) {  // and arrived; but nobody can have read it yet
            with->size = static_cast<std::uint32_t>(sent);
            put_into(*s.peer, *with);
        } else {
            drop(*with);
        }
        return sent;
    }
    socket* to = s.aim;
    if (s.type == unix_type::packet) {
        if (s.error != 0) return take_error(s, 0);
        if (s.state != phase::connected) return -ENOTCONN;
        if (s.dead || s.peer->ending || s.peer->closed()) return -EPIPE;
        to = s.peer;
    } else if (what.name != nullptr) {
        to = holder_of(s.home, *what.name, s.type);
        if (to == nullptr) return what.name->size == 0 ? -EINVAL : what.name->bytes[0] == 0 ? -ECONNREFUSED : -ENOENT;
        if (to->type != s.type) return -EPROTOTYPE;
    }
    if (to == nullptr) return std::exchange(s.aim_gone, false) ? -ECONNREFUSED : -ENOTCONN;
    if (to->aim != nullptr && to->aim != &s) return -EPERM;
    if (what.size + 32 > s.send_buffer) return -EMSGSIZE;
    if (!has_room(*to, s)) return -EAGAIN;
    letter* made = nullptr;
    if (const int error = collect(s.home, what, what.size, made); error != 0) return error;
    made->source = s.name;
    put_into(*to, *made);
    update(*to);
    update_senders(*to);
    return static_cast<int>(what.size);
}

int network::receive_message(socket& s, raw_message& into, std::uint32_t& moved) noexcept {
    if (!s.is_unix()) return -EOPNOTSUPP;
    into.ended = into.truncated = false;
    if (!s.has_letters()) {
        const std::uint64_t before = s.consumed();
        const letter* const next = s.letters.front();
        const int n = receive(s, into.data, into.size, &into);
        moved = static_cast<std::uint32_t>(s.consumed() - before);
        if (n >= 0 && s.letters.front() == next) into.descriptor_count = 0;
        into.ended = n == 0;
        return n;
    }
    if (s.type == unix_type::packet) {
        if (s.state != phase::connected) return -ENOTCONN;
        if (s.error != 0) return take_error(s, 0);
    }
    if (s.letters.empty()) {
        if (!s.end_arrived && !s.dead && !s.read_ended) return -EAGAIN;
        into.ended = true;
        into.descriptor_count = 0;
        return 0;
    }
    letter& oldest = take_from(s);
    moved = std::min(into.size, oldest.size);
    into.truncated = oldest.size > into.size;
    if (into.name != nullptr) *into.name = oldest.source;
    if (moved > 0) std::memcpy(into.data, oldest.bytes(), moved);
    const int lost = deliver_to(s, oldest, &into);
    update(s);
    update_senders(s);
    return lost < 0 ? lost : static_cast<int>(moved);
}

}  // namespace rondo::simulated
