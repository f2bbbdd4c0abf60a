#include <rondo/net/udp.hpp>

#include <rondo/base/log.hpp>
#include <rondo/io/detail/address_text.hpp>

#include "addresses.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

namespace rondo {

static_assert(sizeof(datagram) == sizeof(raw_datagram) && std::is_trivially_copyable_v<datagram>,
              "an array of datagrams is handed to the backend as one of raw_datagrams");
static_assert(std::is_trivially_copyable_v<udp_options>);

namespace detail {

// --- what a losing arm has left behind

struct kept_datagram {
    raw_datagram what;
    std::int32_t error = 0;  // or there is this instead; negative errno

    std::byte* bytes() noexcept { return reinterpret_cast<std::byte*>(this + 1); }

    /// Null when there is no memory.
    static kept_datagram* make(const raw_datagram& received, std::int32_t result) noexcept {
        const std::uint32_t size = result < 0 ? 0 : received.size;
        void* const memory = std::malloc(sizeof(kept_datagram) + size);
        if (memory == nullptr) return nullptr;
        auto* const made = new (memory) kept_datagram{received, std::min(result, 0)};
        if (size > 0) std::memcpy(made->bytes(), received.data, size);
        return made;
    }
    std::int32_t give(raw_datagram& into) noexcept {
        if (error != 0) return error;
        into.size = std::min(what.size, into.capacity);
        into.sent = 0;
        into.segment = what.segment;
        into.truncated = what.truncated || what.size > into.capacity;
        into.address = what.address;
        if (into.size > 0) std::memcpy(into.data, bytes(), into.size);
        return 1;
    }
};

void free_kept::operator()(kept_datagram* what) const noexcept { std::free(what); }

namespace {

/// What a kernel may say about datagrams that were sent: RFC 792 and RFC 4443, as Linux translates them.
bool is_about_a_peer(std::int32_t error) noexcept {
    switch (-error) {
        case ECONNREFUSED:
        case EHOSTUNREACH:
        case ENETUNREACH:
        case EHOSTDOWN:
        case ENONET:
        case ENOPROTOOPT:
        case EOPNOTSUPP:
        case EPROTO:
        case EACCES:
        case EMSGSIZE:
        case ECONNRESET: return true;
        default: return false;
    }
}

/// So often in a row is such an error nobody's concern; then it is reported, for something else must be wrong.
constexpr int patience = 1024;

std::string text_of(const raw_address& address) {
    return address.kind != raw_address::family::none ? std::string(address_text(address).text) : std::string();
}

/// What is to be sent begins at its beginning.
void rewind(raw_datagram* first, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i) first[i].sent = 0;
}

}  // namespace

struct datagram_functions {
    static datagram_receive& receive_of(op& o) noexcept {
        return static_cast<datagram_receive&>(static_cast<io_op&>(o));
    }
    static const scheduler* home_of(const udp_socket& socket) noexcept {
        return socket.socket_.open() ? socket.socket_.home() : nullptr;
    }
    static void done(op& o) noexcept {
        if (receive_of(o).settled()) wake_owner(o);
    }
    static bool settled(op& o) noexcept { return receive_of(o).settled(); }
    static const scheduler* home_of_receive(const op& o) noexcept {
        return home_of(*static_cast<const datagram_receive&>(static_cast<const io_op&>(o)).socket_);
    }
    static const scheduler* home_of_send(const op& o) noexcept {
        return home_of(*static_cast<const datagram_send&>(static_cast<const io_op&>(o)).socket_);
    }
    static std::uint64_t progress(const op& o) noexcept { return static_cast<const io_op&>(o).moved; }
};

const op_vtable receive_datagrams_vtable = {&cancel_io,
                                            &datagram_functions::done,
                                            &describe_io,
                                            &datagram_functions::home_of_receive,
                                            &datagram_functions::settled,
                                            nullptr};
const op_vtable send_datagrams_vtable = {
    &cancel_io, &wake_owner, &describe_io, &datagram_functions::home_of_send, nullptr, &datagram_functions::progress};

// --- receiving

bool datagram_receive::begin(raw_datagram* first, std::size_t count) noexcept {
    data = first;
    size = static_cast<std::uint32_t>(std::min(count, transfer_max));
    if (size == 0) {
        result = 0;
        return !current->finish_at_once(*this);
    }
    if (socket_->kept_ != nullptr) [[unlikely]] {
        result = socket_->kept_->give(*first);
        socket_->kept_ = nullptr;
        return false;
    }
    return !current->submit(*this) || !settled();
}

bool datagram_receive::settled() noexcept {
    while (peer_.kind == raw_address::family::none && is_about_a_peer(result) && ++refusals_ <= patience) {
        if (owner->flags & fiber::cancel_pending) {
            result = -ECANCELED;
            break;
        }
        if (!current->submit(*this)) return false;
    }
    return true;
}

rondo::failure datagram_receive::why() const {
    check_cancelled();
    return io_failure(errno_code(-result), "receive", text_of(peer_));
}

void datagram_receive::fail() const { why().raise(); }

void receive_datagram_awaiter::give_back() noexcept {
    if (result == -EBADF || result == -ECANCELED) return;
    socket_->kept_.reset(kept_datagram::make(one_, result));
    if (socket_->kept_ != nullptr) return;
    static log_gate gate;
    write_log(gate, log_level::warning, {}, "udp: no memory to keep a datagram; it is lost");
}

rondo::result<received_datagram> receive_datagram_awaiter::finish() const {
    if (result >= 0) return taken();
    return why();
}

rondo::result<std::size_t> receive_datagrams_awaiter::finish() const {
    if (result >= 0) return static_cast<std::size_t>(result);
    return why();
}

// --- sending

bool datagram_send::begin(raw_datagram* first, std::size_t count) noexcept {
    data = first;
    size = static_cast<std::uint32_t>(std::min(count, transfer_max));
    if (size == 0) {
        result = 0;
        return !current->finish_at_once(*this);
    }
    rewind(first, size);
    return !current->submit(*this);
}

rondo::failure datagram_send::why(const raw_address& to) const {
    check_cancelled();
    return io_failure(errno_code(-result), "send", text_of(to.kind != raw_address::family::none ? to : peer_));
}

void datagram_send::fail(const raw_address& to) const { why(to).raise(); }

rondo::result<void> send_datagram_awaiter::finish() const {
    if (sent_ != nullptr) *sent_ = one_.sent;
    if (result >= 0) return {};
    return why(one_.address);
}

rondo::result<std::size_t> send_datagrams_awaiter::finish() const {
    if (sent_ != nullptr) *sent_ = moved;
    if (result >= 0) return static_cast<std::size_t>(result);
    return why(refused());
}

}  // namespace detail

// --- making one

rondo::result<udp_socket> udp_socket::make(const raw_address& of, const udp_options& options) noexcept {
    detail::scheduler& l = detail::running();
    raw_address address = of;
    sys_op call{.what = sys_op::call::udp_socket, .address = &address};
    const int fd = l.control(call);
    if (fd < 0) return errno_code(-fd);
    udp_socket made{detail::socket_handle(l, fd)};
    const detail::socket_handle& socket = made.socket_;
    using enum sys_op::option;
    int r = 0;
    if (options.reuse_address) r = socket.set(reuse_address, 1);
    if (r >= 0 && options.reuse_port) r = socket.set(reuse_port, 1);
    if (r >= 0 && address.kind == raw_address::family::v6) r = socket.set(v6_only, options.v6_only);
    if (r >= 0 && options.broadcast) r = socket.set(sys_op::option::broadcast, 1);
    if (r >= 0 && options.receive_buffer_size != 0) r = socket.set(receive_buffer, options.receive_buffer_size);
    if (r >= 0 && options.send_buffer_size != 0) r = socket.set(send_buffer, options.send_buffer_size);
    if (r < 0) return errno_code(-r);
    made.receives_segments_ = options.receive_segments && socket.set(receive_segments, 1) >= 0;
    return made;
}

rondo::result<udp_socket> udp_socket::try_bind(const endpoint& at, const udp_options& options) noexcept {
    rondo::result<udp_socket> made = make(at.raw(), options);
    if (!made) return made;
    raw_address address = at.raw();
    sys_op bind_to{.what = sys_op::call::bind, .address = &address};
    if (const int r = made->socket_.control(bind_to); r < 0) return errno_code(-r);
    made->bound_ = true;
    return made;
}

rondo::result<udp_socket> udp_socket::try_bind(std::string_view address, std::uint16_t port,
                                               const udp_options& options) noexcept {
    const rondo::result<ip_address> at = ip_address::try_parse(address);
    if (!at) return at.error();
    return try_bind(endpoint(*at, port), options);
}

udp_socket udp_socket::bind(const endpoint& at, const udp_options& options) {
    rondo::result<udp_socket> made = try_bind(at, options);
    if (!made) throw io_error(made.error(), "bind to", at.to_string());
    return std::move(*made);
}

rondo::result<udp_socket> udp_socket::try_unbound_v4(const udp_options& options) noexcept {
    return make(endpoint(ip_address::any_v4(), 0).raw(), options);
}
rondo::result<udp_socket> udp_socket::try_unbound_v6(const udp_options& options) noexcept {
    return make(endpoint(ip_address::any_v6(), 0).raw(), options);
}

udp_socket udp_socket::unbound_v4(const udp_options& options) {
    rondo::result<udp_socket> made = try_unbound_v4(options);
    if (!made) throw io_error(made.error(), "make a socket");
    return std::move(*made);
}
udp_socket udp_socket::unbound_v6(const udp_options& options) {
    rondo::result<udp_socket> made = try_unbound_v6(options);
    if (!made) throw io_error(made.error(), "make a socket");
    return std::move(*made);
}

// --- one peer

rondo::result<void> udp_socket::try_connect(const endpoint& to) noexcept {
    raw_address address = to.raw();
    sys_op call{.what = sys_op::call::udp_connect, .address = &address};
    if (const int r = socket_.control(call); r < 0) return errno_code(-r);
    peer_ = address;
    // What the host of the peer before has said is not about this one.
    sys_op forget{.what = sys_op::call::get_option, .which = sys_op::option::error};
    socket_.control(forget);
    return {};
}

// Linux takes a port away that it had chosen itself, also from who had asked for one by binding to port 0.
rondo::result<void> udp_socket::try_disconnect() noexcept {
    const rondo::result<endpoint> before = try_local();
    const rondo::result<void> done = try_connect(endpoint());
    if (!done || !before || !bound_) return done;
    const rondo::result<endpoint> after = try_local();
    if (!after || after->port() == before->port()) return done;
    raw_address address = endpoint(after->address(), before->port()).raw();
    sys_op bind_to{.what = sys_op::call::bind, .address = &address};
    return detail::as_result(socket_.control(bind_to));
}
void udp_socket::connect(const endpoint& to) { check(try_connect(to), "connect", to); }
void udp_socket::disconnect() { check(try_disconnect(), "disconnect"); }

// --- what does not wait

rondo::result<received_datagram> udp_socket::try_receive_from(writable_bytes into) noexcept {
    datagram one = datagram::place(into);
    const rondo::result<std::size_t> got = try_receive_many({&one, 1});
    if (!got) return got.error();
    return received_datagram{one.size(), one.peer(), one.truncated(), one.segment_size()};
}

rondo::result<std::size_t> udp_socket::try_receive_many(std::span<datagram> places) noexcept {
    if (places.empty()) return std::size_t{0};
    raw_datagram* const first = places.data();
    std::int32_t got = -EAGAIN;
    if (kept_ != nullptr) {
        got = kept_->give(*first);
        kept_ = nullptr;
    } else {
        sys_op call{.what = sys_op::call::try_receive_datagrams,
                    .value = receives_segments_ ? int{io_op::segments} : 0,
                    .data = first,
                    .size = places.size()};
        for (int refusals = 0; refusals < detail::patience; ++refusals) {
            got = socket_.control(call);
            if (is_connected() || !detail::is_about_a_peer(got)) break;
        }
    }
    if (got < 0) return errno_code(-got);
    return static_cast<std::size_t>(got);
}

rondo::result<void> udp_socket::try_send_to(bytes_view bytes, const endpoint& to) noexcept {
    datagram one(bytes, to);
    const rondo::result<std::size_t> sent = try_send_many({&one, 1});
    if (!sent) return sent.error();
    return {};
}

rondo::result<std::size_t> udp_socket::try_send_many(std::span<datagram> all) noexcept {
    if (all.empty()) return std::size_t{0};
    raw_datagram* const first = all.data();
    detail::rewind(first, all.size());
    sys_op call{.what = sys_op::call::try_send_datagrams, .data = first, .size = all.size()};
    const int sent = socket_.control(call);
    if (sent < 0) return errno_code(-sent);
    return static_cast<std::size_t>(sent);
}

// --- options

rondo::result<void> udp_socket::set(sys_op::option which, int value) noexcept {
    return detail::as_result(socket_.set(which, value));
}

rondo::result<void> udp_socket::change_group(sys_op::call how, const ip_address& group, unsigned interface) noexcept {
    raw_address address = endpoint(group, 0).raw();
    if (interface == 0) interface = address.scope;
    sys_op call{.what = how, .value = static_cast<int>(interface), .address = &address};
    return detail::as_result(socket_.control(call));
}

rondo::result<void> udp_socket::try_broadcast(bool on) noexcept { return set(sys_op::option::broadcast, on); }
rondo::result<void> udp_socket::try_ttl(int hops) noexcept {
    if (hops < 1) return errno_code(EINVAL);  // -1, to some kernels, is "the usual one"
    return set(sys_op::option::ttl, hops);
}
rondo::result<void> udp_socket::try_receive_buffer_size(int bytes) noexcept {
    return set(sys_op::option::receive_buffer, bytes);
}
rondo::result<void> udp_socket::try_send_buffer_size(int bytes) noexcept {
    return set(sys_op::option::send_buffer, bytes);
}
rondo::result<void> udp_socket::try_join_group(const ip_address& group, unsigned interface) noexcept {
    return change_group(sys_op::call::join_group, group, interface);
}
rondo::result<void> udp_socket::try_leave_group(const ip_address& group, unsigned interface) noexcept {
    return change_group(sys_op::call::leave_group, group, interface);
}
rondo::result<void> udp_socket::try_multicast_ttl(int hops) noexcept {
    if (hops < 0) return errno_code(EINVAL);
    return set(sys_op::option::multicast_ttl, hops);
}
rondo::result<void> udp_socket::try_multicast_loop(bool on) noexcept { return set(sys_op::option::multicast_loop, on); }
rondo::result<void> udp_socket::try_multicast_interface(unsigned interface) noexcept {
    return set(sys_op::option::multicast_interface, static_cast<int>(interface));
}

void udp_socket::broadcast(bool on) { check(try_broadcast(on), "set broadcast"); }
void udp_socket::ttl(int hops) { check(try_ttl(hops), "set ttl"); }
void udp_socket::receive_buffer_size(int bytes) { check(try_receive_buffer_size(bytes), "set receive buffer"); }
void udp_socket::send_buffer_size(int bytes) { check(try_send_buffer_size(bytes), "set send buffer"); }
void udp_socket::join_group(const ip_address& group, unsigned interface) {
    check(try_join_group(group, interface), "join", endpoint(group, 0));
}
void udp_socket::leave_group(const ip_address& group, unsigned interface) {
    check(try_leave_group(group, interface), "leave", endpoint(group, 0));
}
void udp_socket::multicast_ttl(int hops) { check(try_multicast_ttl(hops), "set multicast ttl"); }
void udp_socket::multicast_loop(bool on) { check(try_multicast_loop(on), "set multicast loop"); }
void udp_socket::multicast_interface(unsigned interface) {
    check(try_multicast_interface(interface), "set multicast interface");
}

void udp_socket::check(const rondo::result<void>& answer, const char* operation, const endpoint& about) const {
    if (answer) return;
    std::string subject;
    if (about.raw().kind != raw_address::family::none)
        subject = about.port() != 0 ? about.to_string() : about.address().to_string();
    throw io_error(answer.error(), operation, std::move(subject));
}

rondo::result<endpoint> udp_socket::try_local() const noexcept { return detail::local_address(socket_); }
endpoint udp_socket::local() const { return detail::own_address(socket_); }

}  // namespace rondo
