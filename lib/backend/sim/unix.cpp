// Unix sockets of a simulated machine: names, and connections that are made at once.
#include "network.hpp"
#include "socket_state.hpp"

#include <algorithm>
#include <cerrno>
#include <string_view>

namespace rondo::simulated {

namespace {

std::string_view text_of(const raw_unix_name& name) { return {name.bytes, name.size}; }

}  // namespace

socket* holder_of(machine& m, const raw_unix_name& name, unix_type type) noexcept {
    const bool abstract = name.size > 0 && name.bytes[0] == 0;
    socket* found = nullptr;
    m.sockets.for_each([&](socket& s) {
        if (!s.holds_name || s.closed() || text_of(s.name) != text_of(name)) return;
        if (!abstract || s.type == type) found = &s;
    });
    return found;
}

int network::open_unix(machine& m, unix_type type) noexcept {
    socket* const s = create(m, raw_address::family::none);
    if (s == nullptr) return -ENOMEM;
    s->type = type;
    s->latency = duration::zero();
    if (type != unix_type::stream) s->send_buffer = message_buffer;
    const int fd = lacks(*s, &shortages::memory) ? -ENOMEM : lacks(*s, &shortages::buffers) ? -ENOBUFS : enter(*s);
    if (fd < 0) {
        discard(*s);
    } else {
        update(*s);
    }
    return fd;
}

int network::bind_unix(socket& s, unix_binding& to) noexcept {
    if (s.family != raw_address::family::none) return -EAFNOSUPPORT;
    if (s.state != phase::fresh || s.name.size != 0 || to.name.size == 0) return -EINVAL;
    if (holder_of(s.home, to.name, s.type) != nullptr) return -EADDRINUSE;
    s.name = to.name;
    s.holds_name = true;
    to.inode = 1;
    return 0;
}

int network::unlink_unix(socket& s, const unix_binding& bound) noexcept {
    if (bound.inode != 0) s.holds_name = false;
    return 0;
}

/// An abstract name that nobody has is refused; a path is not there.
static int nobody_has(const raw_unix_name& name) { return name.bytes[0] == 0 ? -ECONNREFUSED : -ENOENT; }

/// Datagrams of `s` go there from now on; to nobody, if there is no name.
static int aim_at(socket& s, const raw_unix_name& to) {
    s.aim_gone = false;
    if (to.size == 0) {
        s.aim = nullptr;
        return 0;
    }
    socket* const there = holder_of(s.home, to, s.type);
    if (there == nullptr) return nobody_has(to);
    if (there->type != s.type) return -EPROTOTYPE;
    if (there->aim != nullptr && there->aim != &s) return -EPERM;
    s.aim = there;
    return 0;
}

// As in the kernel, the connection is there before anybody has accepted it.
int network::connect_unix(socket& s, const raw_unix_name& to) noexcept {
    if (!s.is_unix()) return -EAFNOSUPPORT;
    if (s.type == unix_type::datagram) return aim_at(s, to);
    if (s.state == phase::connected) return -EISCONN;
    if (s.state != phase::fresh || to.size == 0) return -EINVAL;
    socket* const listener = holder_of(s.home, to, s.type);
    if (listener == nullptr) return nobody_has(to);
    if (listener->type != s.type) return -EPROTOTYPE;
    if (listener->state != phase::listening) return -ECONNREFUSED;
    if (listener->pending.size() > listener->backlog) return -EAGAIN;
    socket* const child = create(s.home, raw_address::family::none);
    if (child == nullptr) return -ENOMEM;
    child->type = listener->type;
    child->latency = duration::zero();
    child->name = listener->name;
    child->send_buffer = listener->send_buffer;
    child->receive_buffer = listener->receive_buffer;
    child->peer = &s;
    child->listener = listener;
    child->state = s.state = phase::connected;
    child->established = true;
    s.peer = child;
    listener->pending.push_back(child);  // there is room: see listen
    ++listener->acceptable;
    for (socket* each : {child, &s, listener}) update(*each);
    return 0;
}

int network::unix_credentials(const socket& s, peer_credentials& into) const noexcept {
    if (s.family != raw_address::family::none || s.peer == nullptr) return -ENOTCONN;
    into = {.process = 1, .user = 0, .group = 0};
    return 0;
}

int network::unix_peer_name(const socket& s, raw_unix_name& into) const noexcept {
    const socket* const other = s.type == unix_type::datagram ? s.aim : s.peer;
    if (other == nullptr) return -ENOTCONN;
    into = other->name;
    return 0;
}

int network::adopt(machine& m, int fd, int kind, bool listening) const noexcept {
    const socket* const s = m.find(fd);
    if (s == nullptr) return fd >= first_descriptor ? -EBADF : -ENOSYS;  // the kernel's
    if (s->watches_clock) return -ENOTSOCK;
    if (s->is_unix() != (kind != 0)) return -EAFNOSUPPORT;
    if (s->datagrams || (kind != 0 && static_cast<int>(s->type) != kind - 1)) return -EPROTOTYPE;
    if (s->type == unix_type::datagram) return 0;
    if (s->reader.op != nullptr || s->writer.op != nullptr || s->closer.op != nullptr) return -EBUSY;
    if ((s->state == phase::listening) != listening) return -EINVAL;
    return listening || (s->state == phase::connected && !over(*s)) ? 0 : -ENOTCONN;
}

}  // namespace rondo::simulated
