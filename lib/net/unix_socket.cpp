#include <rondo/net/detail/unix_socket.hpp>

#include "base/printable.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <new>

namespace rondo::detail {

// --- what does not wait

rondo::result<socket_handle> make_unix(unix_type type) noexcept {
    scheduler& l = running();
    sys_op make{.what = sys_op::call::unix_socket, .value = static_cast<int>(type)};
    const int fd = l.control(make);
    if (fd < 0) return errno_code(-fd);
    return socket_handle(l, fd);
}

rondo::result<std::pair<socket_handle, socket_handle>> make_unix_pair(unix_type type) noexcept {
    scheduler& l = running();
    sys_op make{.what = sys_op::call::stream_pair, .value = static_cast<int>(type)};
    if (const int answer = l.control(make); answer < 0) return errno_code(-answer);
    return std::pair(socket_handle(l, make.fds[0]), socket_handle(l, make.fds[1]));
}

rondo::result<void> connect_unix(const socket_handle& socket, const unix_address& to) noexcept {
    raw_unix_name name = to.name();
    sys_op connect{.what = sys_op::call::unix_connect, .data = &name};
    return as_result(socket.control(connect));
}

rondo::result<socket_handle> make_unix_connected(unix_type type, const unix_address& to) noexcept {
    rondo::result<socket_handle> socket = make_unix(type);
    if (!socket) return socket;
    if (const rondo::result<void> connected = connect_unix(*socket, to); !connected) return connected.error();
    return socket;
}

rondo::result<unix_address> unix_name(const socket_handle& socket, sys_op::call which) noexcept {
    raw_unix_name name;
    sys_op ask{.what = which, .data = &name};
    if (const int answer = socket.control(ask); answer < 0) return errno_code(-answer);
    return unix_address(name);
}

rondo::result<peer_credentials> unix_credentials(const socket_handle& socket) noexcept {
    peer_credentials peer;
    sys_op ask{.what = sys_op::call::unix_credentials, .data = &peer};
    if (const int answer = socket.control(ask); answer < 0) return errno_code(-answer);
    return peer;
}

// One side of a connection has the name, whichever it is.
std::string unix_subject(const socket_handle& socket) {
    for (const sys_op::call which : {sys_op::call::unix_peer_name, sys_op::call::unix_local_name}) {
        const rondo::result<unix_address> name = unix_name(socket, which);
        if (name && !name->is_unnamed()) return name->to_string();
    }
    return "a Unix socket without a name";
}

rondo::result<void> bind_unix(const socket_handle& socket, unix_binding& to) noexcept {
    sys_op bind_to{.what = sys_op::call::unix_bind, .data = &to};
    return as_result(socket.control(bind_to));
}

void remove_unix_file(const socket_handle& socket, unix_binding& bound) noexcept {
    scheduler* const home = socket.open() ? socket.home() : nullptr;
    if (home == nullptr || home->left_behind()) return;
    sys_op remove{.what = sys_op::call::unix_unlink, .data = &bound};
    socket.control(remove);
}

// --- connecting

struct unix_connect_functions {
    static unix_connect& from(op& o) noexcept { return static_cast<unix_connect&>(o); }

    static void cancel(op& o) noexcept {
        current->remove_timer(o);
        current->complete(o, -ECANCELED);
    }
    static void done(op& o) noexcept {
        if (settled(o)) wake_owner(o);
    }
    static void describe(const op& o, char* text, std::size_t size) noexcept {
        const raw_unix_name& name = static_cast<const unix_connect&>(o).to_.name();
        char line[2 * raw_unix_name::capacity];
        const bool abstract = name.bytes[0] == 0;
        const std::string_view shown = std::string_view(name.bytes, name.size).substr(abstract);
        const auto written = static_cast<int>(write_printable(line, sizeof line, shown, false));
        std::snprintf(text, size, "connect %s%.*s, whose queue is full", abstract ? "@" : "", written, line);
    }
    static bool settled(op& o) noexcept { return from(o).settled(); }
};

const op_vtable unix_connect_vtable = {&unix_connect_functions::cancel, &unix_connect_functions::done,
                                       &unix_connect_functions::describe, nullptr, &unix_connect_functions::settled};

std::int32_t unix_connect::connect() noexcept {
    if (!socket_.open()) {
        rondo::result<socket_handle> made = make_unix(type_);
        if (!made) return -made.error().value();
        socket_ = *std::move(made);
    }
    const rondo::result<void> connected = connect_unix(socket_, to_);
    return connected ? 0 : -connected.error().value();
}

bool unix_connect::settled() noexcept {
    constexpr std::uint16_t longest_ms = 64;
    if (result == -ECANCELED) return true;
    result = connect();
    if (result != -EAGAIN) return true;
    if (owner->flags & fiber::cancel_pending) {
        result = -ECANCELED;
        return true;
    }
    pause_ms_ = pause_ms_ == 0 ? std::uint16_t{1} : std::min<std::uint16_t>(pause_ms_ * 2, longest_ms);
    try {
        current->add_timer(*this, current->now() + std::chrono::milliseconds(pause_ms_));
    } catch (const std::bad_alloc&) {
        result = -ENOMEM;
        return true;
    }
    return false;
}

rondo::failure unix_connect::why() {
    socket_ = {};
    if (result == -ECANCELED) throw_cancelled();
    return io_failure(errno_code(-result), "connect", to_.to_string());
}

// --- listening

unix_listener_base& unix_listener_base::operator=(unix_listener_base&& other) noexcept {
    if (this == &other) return *this;
    remove_file();
    descriptor_listener::operator=(std::move(other));
    bound_ = std::exchange(other.bound_, {});
    return *this;
}

rondo::result<void> unix_listener_base::listen_at(const unix_address& at, const unix_listen_options& options) noexcept {
    unix_binding to{.name = at.name(), .mode = options.mode, .replace = options.replace};
    if (const rondo::result<void> bound = bind_unix(socket(), to); !bound) return bound;
    bound_ = to;
    sys_op listen{.what = sys_op::call::listen, .value = options.backlog};
    return as_result(socket().control(listen));
}

void unix_listener_base::learn_name() noexcept {
    if (const rondo::result<unix_address> name = unix_name(socket(), sys_op::call::unix_local_name))
        bound_.name = name->name();
}

}  // namespace rondo::detail
