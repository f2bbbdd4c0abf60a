#include <rondo/net/unix.hpp>

#include "base/printable.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

namespace rondo {

// --- unix_address -----------------------------------------------------------------------------------------

namespace {

std::string printable(std::string_view text) {
    char line[4 * raw_unix_name::capacity];
    return {line, detail::write_printable(line, sizeof line, text, false)};
}

}  // namespace

result<unix_address> unix_address::try_parse(std::string_view text) noexcept {
    const bool abstract = text.starts_with('@');
    const std::string_view name = text.substr(abstract);
    if (name.empty() || (!abstract && name.find('\0') != std::string_view::npos)) return errno_code(EINVAL);
    if (name.size() > size_max) return errno_code(ENAMETOOLONG);
    raw_unix_name raw;
    raw.size = static_cast<std::uint8_t>(text.size());
    std::memcpy(raw.bytes, text.data(), text.size());
    if (abstract) raw.bytes[0] = 0;
    return unix_address(raw);
}

unix_address::unix_address(std::string_view text) {
    const result<unix_address> parsed = try_parse(text);
    if (parsed) {
        raw_ = parsed->raw_;
        return;
    }
    std::string why = "not a name of a Unix socket";
    if (parsed.error() == std::errc::filename_too_long)
        why +=
            ", since it has " + std::to_string(text.size()) + " bytes and " + std::to_string(size_max) + " is the most";
    why += ": '" + printable(text) + "'";
    throw std::system_error(parsed.error(), why);
}

std::string unix_address::to_string() const {
    if (is_unnamed()) return "(unnamed)";
    return is_path() ? printable(text()) : "@" + printable(text().substr(1));
}

// --- unix_stream ------------------------------------------------------------------------------------------

namespace {

rondo::result<unix_address> address_of(const detail::socket_handle& socket, sys_op::call which) noexcept {
    raw_unix_name name;
    sys_op ask{.what = which, .data = &name};
    if (const int answer = socket.control(ask); answer < 0) return errno_code(-answer);
    return unix_address(name);
}

int make_unix(detail::socket_handle& into) noexcept {
    detail::scheduler& l = detail::running();
    sys_op make{.what = sys_op::call::unix_socket};
    const int fd = l.control(make);
    if (fd >= 0) into = detail::socket_handle(l, fd);
    return fd;
}

int connect_to(const detail::socket_handle& socket, const unix_address& to) noexcept {
    raw_unix_name name = to.name();
    sys_op connect{.what = sys_op::call::unix_connect, .data = &name};
    return socket.control(connect);
}

template <class T>
T value_or_throw(const rondo::result<T>& answer, const char* operation) {
    if (!answer) throw io_error(answer.error(), operation);
    return *answer;
}

}  // namespace

namespace detail {

struct unix_connect_functions {
    static unix_connect_awaiter& from(op& o) noexcept { return static_cast<unix_connect_awaiter&>(o); }

    static void cancel(op& o) noexcept {
        current->remove_timer(o);
        current->complete(o, -ECANCELED);
    }
    static void done(op& o) noexcept {
        if (settled(o)) wake_owner(o);
    }
    static void describe(const op& o, char* text, std::size_t size) noexcept {
        const raw_unix_name& name = static_cast<const unix_connect_awaiter&>(o).to_.name();
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

std::int32_t unix_connect_awaiter::connect() noexcept {
    if (!socket_.open())
        if (const int made = make_unix(socket_); made < 0) return made;
    return connect_to(socket_, to_);
}

bool unix_connect_awaiter::settled() noexcept {
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

rondo::result<unix_stream> unix_connect_awaiter::finish() {
    if (result >= 0) return unix_stream(std::move(socket_));
    socket_ = {};
    if (result == -ECANCELED) throw_cancelled();
    return io_failure(errno_code(-result), "connect", to_.to_string());
}

unix_stream unix_connect_awaiter::await_resume() {
    rondo::result<unix_stream> connected = finish();
    return *std::move(connected);
}

}  // namespace detail

rondo::result<unix_stream> unix_stream::try_connect(const unix_address& to) noexcept {
    detail::socket_handle socket;
    int r = make_unix(socket);
    if (r >= 0) r = connect_to(socket, to);
    if (r < 0) return errno_code(-r);
    return unix_stream(std::move(socket));
}

rondo::result<std::pair<unix_stream, unix_stream>> unix_stream::try_pair() noexcept {
    detail::scheduler& l = detail::running();
    sys_op make{.what = sys_op::call::stream_pair};
    if (const int answer = l.control(make); answer < 0) return errno_code(-answer);
    return std::pair(unix_stream(detail::socket_handle(l, make.fds[0])),
                     unix_stream(detail::socket_handle(l, make.fds[1])));
}

std::pair<unix_stream, unix_stream> unix_stream::pair() {
    rondo::result<std::pair<unix_stream, unix_stream>> made = try_pair();
    if (!made) throw io_error(made.error(), "make a pair of Unix sockets");
    return *std::move(made);
}

rondo::result<peer_credentials> unix_stream::try_credentials() const noexcept {
    peer_credentials peer;
    sys_op ask{.what = sys_op::call::unix_credentials, .data = &peer};
    if (const int answer = socket().control(ask); answer < 0) return errno_code(-answer);
    return peer;
}
peer_credentials unix_stream::credentials() const { return value_or_throw(try_credentials(), "peer credentials"); }

rondo::result<unix_address> unix_stream::try_peer() const noexcept {
    return address_of(socket(), sys_op::call::unix_peer_name);
}
rondo::result<unix_address> unix_stream::try_local() const noexcept {
    return address_of(socket(), sys_op::call::unix_local_name);
}
unix_address unix_stream::peer() const { return value_or_throw(try_peer(), "peer address"); }
unix_address unix_stream::local() const { return value_or_throw(try_local(), "local address"); }

// One side of a connection has the name, whichever it is.
std::string unix_stream::name_of(const descriptor_stream& stream) {
    const auto& self = static_cast<const unix_stream&>(stream);
    for (const rondo::result<unix_address>& name : {self.try_peer(), self.try_local()})
        if (name && !name.value().is_unnamed()) return name.value().to_string();
    return "a Unix socket without a name";
}

// --- unix_listener ----------------------------------------------------------------------------------------

unix_listener& unix_listener::operator=(unix_listener&& other) noexcept {
    if (this == &other) return *this;
    remove_file();
    descriptor_listener::operator=(std::move(other));
    bound_ = std::exchange(other.bound_, {});
    return *this;
}

rondo::result<unix_listener> unix_listener::try_bind(const unix_address& at,
                                                     const unix_listen_options& options) noexcept {
    detail::socket_handle socket;
    if (const int made = make_unix(socket); made < 0) return errno_code(-made);
    unix_binding to{.name = at.name(), .mode = options.mode, .replace = options.replace};
    sys_op bind_to{.what = sys_op::call::unix_bind, .data = &to};
    if (const int answer = socket.control(bind_to); answer < 0) return errno_code(-answer);
    unix_listener listener(std::move(socket));
    listener.bound_ = to;
    sys_op listen{.what = sys_op::call::listen, .value = options.backlog};
    if (const int answer = listener.socket().control(listen); answer < 0) return errno_code(-answer);
    return listener;
}

unix_listener unix_listener::bind(const unix_address& at, const unix_listen_options& options) {
    rondo::result<unix_listener> made = try_bind(at, options);
    if (!made) throw io_error(made.error(), "listen at", at.to_string());
    return std::move(*made);
}

// While the socket is open, so that who connects meanwhile finds either a listener or no file. Not in a forked child,
// where the file is the parent's; and not when the loop is gone: then the next listener replaces it.
void unix_listener::remove_file() noexcept {
    detail::scheduler* const home = socket().open() ? socket().home() : nullptr;
    if (home == nullptr || home->left_behind()) return;
    sys_op remove{.what = sys_op::call::unix_unlink, .data = &bound_};
    socket().control(remove);
}

}  // namespace rondo
