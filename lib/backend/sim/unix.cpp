// Unix sockets of a simulated machine: names, and connections that are made at once.
#include "network.hpp"
#include "socket_state.hpp"

#include <algorithm>
#include <cerrno>
#include <string_view>

namespace rondo::simulated {

namespace {

std::string_view text_of(const raw_unix_name& name) { return {name.bytes, name.size}; }

/// Whoever has the name; null if nobody does.
socket* holder_of(machine& m, const raw_unix_name& name) {
    socket* found = nullptr;
    m.sockets.for_each([&](socket& s) {
        if (s.holds_name && !s.closed() && text_of(s.name) == text_of(name)) found = &s;
    });
    return found;
}

}  // namespace

int network::open_unix(machine& m) noexcept {
    socket* const s = create(m, raw_address::family::none);
    if (s == nullptr) return -ENOMEM;
    s->latency = duration::zero();
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
    if (holder_of(s.home, to.name) != nullptr) return -EADDRINUSE;
    s.name = to.name;
    s.holds_name = true;
    return 0;
}

int network::unlink_unix(socket& s) noexcept {
    s.holds_name = false;
    return 0;
}

// As in the kernel, the connection is there before anybody has accepted it.
int network::connect_unix(socket& s, const raw_unix_name& to) noexcept {
    if (s.family != raw_address::family::none) return -EAFNOSUPPORT;
    if (s.state == phase::connected) return -EISCONN;
    if (s.state != phase::fresh || to.size == 0) return -EINVAL;
    socket* const listener = holder_of(s.home, to);
    // An abstract name that nobody has is refused; a path is not there.
    if (listener == nullptr) return to.bytes[0] == 0 ? -ECONNREFUSED : -ENOENT;
    if (listener->state != phase::listening) return -ECONNREFUSED;
    if (listener->pending.size() > listener->backlog) return -EAGAIN;
    socket* const child = create(s.home, raw_address::family::none);
    if (child == nullptr) return -ENOMEM;
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

}  // namespace rondo::simulated
