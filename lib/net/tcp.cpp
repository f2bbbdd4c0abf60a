#include <rondo/net/tcp.hpp>

#include <rondo/task/suspend.hpp>

#include "loop/places.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace rondo {

namespace {

using detail::transfer_max;

}  // namespace

namespace detail {

// --- io_awaiter ---------------------------------------------------------------------------------------

namespace {
struct io_functions {
    static void cancel(op& o) noexcept { current->cancel(static_cast<io_op&>(o)); }
    static void describe(const op& o, char* text, std::size_t size) noexcept {
        constexpr const char* names[] = {"accept on", "connect", "read", "read", "write", "write",
                                         "readable", "writable", "close"};
        const auto& io = static_cast<const io_op&>(o);
        char peer[80] = "";
        raw_address address;
        sys_op ask{.what = sys_op::call::peer_address, .fd = io.fd, .address = &address};
        if (io.kind != io_kind::accept && current != nullptr && current->control(ask) >= 0)
            std::snprintf(peer, sizeof peer, " %s", endpoint(address).to_string().c_str());
        std::snprintf(text, size, "%s fd %d%s", names[static_cast<std::size_t>(io.kind)], io.fd, peer);
    }
};
}  // namespace

struct stream_functions {
    static const loop* belongs_to(const op& o) noexcept {
        const socket_handle& socket = static_cast<const stream_awaiter&>(static_cast<const io_op&>(o)).of_->socket_;
        return socket.open() ? socket.of() : nullptr;
    }
    static std::uint64_t progress(const op& o) noexcept { return static_cast<const io_op&>(o).moved; }
};

/// An accept that pauses, because descriptors or memory ran out, waits for time instead.
struct accept_functions {
    static accept_awaiter& from(op& o) noexcept { return static_cast<accept_awaiter&>(static_cast<io_op&>(o)); }
    static void cancel(op& o) noexcept {
        if (!from(o).pausing_) return io_functions::cancel(o);
        current->remove_timer(o);
        current->complete(o, -ECANCELED);
    }
    static void done(op& o) noexcept {
        if (from(o).settled()) wake_owner(o);
    }
    static void describe(const op& o, char* text, std::size_t size) noexcept {
        const auto& self = static_cast<const accept_awaiter&>(static_cast<const io_op&>(o));
        if (!self.pausing_) return io_functions::describe(o, text, size);
        std::snprintf(text, size, "accept on fd %d, after a pause", self.fd);
    }
    static const loop* belongs_to(const op& o) noexcept {
        const socket_handle& socket =
            static_cast<const accept_awaiter&>(static_cast<const io_op&>(o)).of_->socket_;
        return socket.open() ? socket.of() : nullptr;
    }
    static bool settled(op& o) noexcept { return from(o).settled(); }
};

const op_vtable accept_vtable = {&accept_functions::cancel, &accept_functions::done, &accept_functions::describe,
                                 &accept_functions::belongs_to, &accept_functions::settled};
const op_vtable io_vtable = {&io_functions::cancel, &wake_owner, &io_functions::describe};
const op_vtable stream_vtable = {&io_functions::cancel, &wake_owner, &io_functions::describe,
                                 &stream_functions::belongs_to, nullptr, &stream_functions::progress};

void io_awaiter::check_cancelled() const {
    if (result == -ECANCELED) throw_cancelled();
}

void throw_io(int negative_errno, const char* operation, std::string subject) {
    if (negative_errno == -ECANCELED) throw_cancelled();
    throw io_error(errno_code(-negative_errno), operation, std::move(subject));
}

// --- socket_handle --------------------------------------------------------------------------------------

socket_handle::~socket_handle() {
    if (fd_ < 0) return;
    if (loop* const l = of(); l != nullptr) {
        l->check_thread("dropping a socket");
        l->reap(fd_);
    } else if (!loop::was_simulated(loop_)) {
        ::close(fd_);
    }
}

static int reset_on_close(const socket_handle& socket) noexcept {
    sys_op call{.what = sys_op::call::reset_on_close};
    return socket.control(call);
}

// Not in a forked child: the connection is the parent's to refuse, or to serve.
void unclaimed_connection::refuse() noexcept {
    if (const loop* const l = open() ? of() : nullptr; l != nullptr && !l->left_behind()) detail::reset_on_close(*this);
}

int socket_handle::control(sys_op& call) const noexcept {
    if (fd_ < 0) return -EBADF;
    loop* const l = of();
    if (l == nullptr) return -EBADF;
    l->check_thread("a call on a socket");
    call.fd = fd_;
    return l->control(call);
}

int socket_handle::set(sys_op::option which, int value) const noexcept {
    sys_op call{.what = sys_op::call::set_option, .which = which, .value = value};
    return control(call);
}

rondo::result<endpoint> socket_handle::local() const noexcept {
    raw_address address;
    sys_op call{.what = sys_op::call::local_address, .address = &address};
    if (const int r = control(call); r < 0) return errno_code(-r);
    return endpoint(address);
}

/// As every stream begins. In a forked child the parent does it, for the same connection.
static void begin_undelayed(const socket_handle& socket) noexcept {
    if (!current->left_behind()) socket.set(sys_op::option::no_delay, 1);
}

// --- awaiters -------------------------------------------------------------------------------------------

void stream_awaiter::fail(const char* operation) const {
    check_cancelled();
    // Closed under the wait, and then the stream may be gone as well.
    if (result == -EBADF || of_ == nullptr) throw_io(result, operation, {});
    throw_io(result, operation, of_->peer().to_string());
}

struct stash {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::int32_t error = 0;  // the next read fails with it; negative errno
    // The bytes follow.
    std::byte* bytes() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
};

namespace {
/// The stash of a stream whose bytes there was no memory to keep: no read of it succeeds any more.
constinit stash lost_bytes{0, 0, -ENOMEM};
}  // namespace

void stash_pointer::forget(stash* kept) noexcept {
    if (kept != &lost_bytes) std::free(kept);
}

void stash_pointer::keep(const void* bytes, std::size_t count) noexcept {
    void* const memory = std::malloc(sizeof(stash) + count);
    if (memory == nullptr) return reset(&lost_bytes);
    stash* const made = new (memory) stash{0, count, 0};
    std::memcpy(made->bytes(), bytes, count);
    reset(made);
}

void stash_pointer::keep_error(std::int32_t error) noexcept {
    void* const memory = std::malloc(sizeof(stash));
    reset(memory != nullptr ? new (memory) stash{0, 0, error} : &lost_bytes);
}

std::int32_t stash_pointer::take_error() noexcept {
    const std::int32_t error = kept_->error;
    if (error != 0 && kept_ != &lost_bytes) reset();
    return error;
}

std::int32_t stash_pointer::take_into(void* into, std::size_t size) noexcept {
    if (size == 0) return 0;  // takes no error either
    if (const std::int32_t error = take_error(); error != 0) return error;
    const std::size_t count = std::min({size, kept_->end - kept_->begin, transfer_max});
    std::memcpy(into, kept_->bytes() + kept_->begin, count);
    kept_->begin += count;
    if (kept_->begin == kept_->end) reset();
    return static_cast<std::int32_t>(count);
}

std::int32_t stash_pointer::take_all(void*& bytes) noexcept {
    if (const std::int32_t error = take_error(); error != 0) return error;
    const std::size_t count = kept_->end - kept_->begin;
    bytes = std::malloc(count);
    if (bytes == nullptr) return -ENOMEM;  // they are kept
    std::memcpy(bytes, kept_->bytes() + kept_->begin, count);
    reset();
    return static_cast<std::int32_t>(count);
}

// A read_exactly that waits may have bytes to give back: the stream knows it until it ends.
bool read_awaiter::submit() noexcept {
    if (current->submit(*this)) return false;
    if ((flags & all) && of_->stash_.gathering == nullptr) of_->stash_.gathering = this;
    return true;
}

bool read_awaiter::start() noexcept {
    if (!has_stash()) [[likely]]
        return submit();
    // First what an earlier read left behind.
    const std::int32_t taken = of_->stash_.kept.take_into(data, size);
    if (taken >= 0) kept_ = static_cast<std::uint32_t>(taken);
    if (taken < 0 || kept_ == size || !(flags & all)) {
        owner->waiting = nullptr;
        result = std::min(taken, 0);
        return false;
    }
    data = static_cast<std::byte*>(data) + kept_;
    size -= kept_;
    return submit();
}

rondo::result<std::size_t> read_awaiter::finish() {
    if (of_ != nullptr && of_->stash_.gathering == this) of_->stash_.gathering = nullptr;
    if (result >= 0) return static_cast<std::size_t>(result) + kept_;
    const std::size_t got = (flags & all) ? kept_ + moved : 0;
    if (got != 0 && result != -EBADF && of_ != nullptr) {
        // Given back, so that nothing is lost: the bytes lie in front of `data`'s start.
        of_->stash_.kept.keep(static_cast<std::byte*>(data) - kept_, got);
    }
    check_cancelled();
    return errno_code(-result);
}

std::size_t read_awaiter::slow_resume() {
    const rondo::result<std::size_t> r = finish();
    if (!r) fail("read");
    return *r;
}

bool borrow_awaiter::start_from_stash() noexcept {
    owner->waiting = nullptr;
    result = of_->stash_.kept.take_all(data);
    if (result < 0) return false;
    size = static_cast<std::uint32_t>(result);
    io_op::buffer = rondo::buffer::from_stash;
    return false;
}

// End of stream needs no keeping: the next read finds it again.
void borrow_awaiter::give_back() noexcept {
    if (result == 0 || result == -EBADF || result == -ECANCELED) return;
    if (result < 0) return of_->stash_.kept.keep_error(result);
    const rondo::buffer bytes = take();
    of_->stash_.kept.keep(bytes.data(), bytes.size());
}

rondo::result<rondo::buffer> borrow_awaiter::finish() {
    if (result >= 0) return take();
    check_cancelled();
    return errno_code(-result);
}

rondo::result<std::size_t> write_awaiter::finish() {
    if (written_ != nullptr) *written_ = result >= 0 ? static_cast<std::size_t>(result) : moved;
    if (result >= 0) return static_cast<std::size_t>(result);
    check_cancelled();
    return errno_code(-result);
}

std::size_t write_awaiter::slow_resume() {
    const rondo::result<std::size_t> r = finish();
    if (!r) fail("write");
    return *r;
}

bool close_awaiter::start() noexcept {
    if (loop* const of = socket_.of(); of != current) [[unlikely]]
        of->assert_here("closing a socket", owner->leaf->site);
    fd = socket_.release();
    return !current->submit(*this);
}

rondo::result<void> close_awaiter::finish() const noexcept {
    if (fd < 0 || result >= 0) return {};
    return errno_code(-result);
}

void close_awaiter::await_resume() const {
    if (fd >= 0 && result < 0) throw_failure(result, "close");
}

bool connect_awaiter::start() noexcept {
    sys_op make{.what = sys_op::call::tcp_socket, .address = &to_};
    fd = current->control(make);
    if (fd < 0) {
        result = fd;
        return !current->finish_at_once(*this);
    }
    data = &to_;
    return !current->submit(*this);
}

rondo::result<tcp_stream> connect_awaiter::finish() {
    if (fd < 0) {  // no socket could be made, or the task was cancelled before
        check_cancelled();
        return errno_code(-result);
    }
    socket_handle socket(*current, std::exchange(fd, -1));
    if (result < 0) {
        check_cancelled();
        return errno_code(-result);
    }
    if (met_itself(socket)) {
        detail::reset_on_close(socket);  // else its port would be kept from who shall listen there
        result = -ECONNREFUSED;
        return errno_code(ECONNREFUSED);
    }
    begin_undelayed(socket);
    return tcp_stream(std::move(socket), to_);
}

// Nobody listens at a port of this machine that has just been given to a client: so that is what it is.
bool connect_awaiter::met_itself(const socket_handle& socket) const noexcept {
    const rondo::result<endpoint> own = socket.local();
    if (!own || own->port() != to_.port) return false;
    raw_address peer;
    sys_op ask{.what = sys_op::call::peer_address, .address = &peer};
    return socket.control(ask) >= 0 && endpoint(peer) == *own;
}

tcp_stream connect_awaiter::await_resume() {
    rondo::result<tcp_stream> connected = finish();
    if (!connected) throw_io(result, "connect", endpoint(to_).to_string());
    return std::move(*connected);
}

// --- accept_awaiter -------------------------------------------------------------------------------------

bool accept_awaiter::start() noexcept {
    if (of_->kept_.open()) [[unlikely]] {
        peer_ = of_->kept_peer_;
        result = of_->kept_.release();
        return false;
    }
    return !submit() || !settled();
}

// What has been accepted waits in the listener for the next accept(). One place is enough: only one task
// accepts at a time, and none asks the kernel while there is one.
void accept_awaiter::give_back() noexcept {
    if (result < 0) return;
    of_->kept_ = unclaimed_connection(*current, result);
    of_->kept_peer_ = peer_;
}

// As loop::submit(), but the task waits on until this has settled.
bool accept_awaiter::submit() noexcept {
    op* const waits = owner->waiting;
    const bool finished = current->submit(*this);
    owner->waiting = waits;
    return finished;
}

// Whether a negative errno of accept says that this listener will never accept: it is closed, or no listener. All
// others come from the network, from a connection, or from what the machine is short of, and kernels have
// more of them than any list. EOPNOTSUPP is one of these: accept(2) hands it out for a connection as well, and a
// tcp_listener cannot be of a kind that does not listen. EBUSY is ours: another task accepts already.
static bool is_listeners_own(std::int32_t error) noexcept {
    return error == -EBADF || error == -EINVAL || error == -ENOTSOCK || error == -EBUSY || error == -ECANCELED;
}

// What is no fault of the listener does not end the wait: it goes on as another accept, or as a timer.
bool accept_awaiter::settled() noexcept {
    if (std::exchange(pausing_, false) && result != -ECANCELED && !submit()) return false;
    while (result >= 0) {
        sys_op ask{.what = sys_op::call::peer_address, .fd = result, .address = &peer_};
        if (current->control(ask) >= 0) return true;
        current->reap(result);  // reset while it was in the queue: nobody is there any more
        if (!submit()) return false;
    }
    return is_listeners_own(result) || !pause();
}

bool accept_awaiter::pause() noexcept {
    constexpr std::uint16_t first_ms = 5;
    constexpr std::uint16_t longest_ms = 1000;
    if (result == -EMFILE || result == -ENFILE || result == -ENOBUFS || result == -ENOMEM) ++of_->exhausted_;
    if (owner->flags & fiber::cancel_pending) {
        result = -ECANCELED;
        return false;
    }
    pause_ms_ = pause_ms_ == 0 ? first_ms : std::min<std::uint16_t>(pause_ms_ * 2, longest_ms);
    static log_gate gate;
    write_log(gate, log_level::warning, shown_place(*owner), "accept: %s; trying again in %d ms",
              std::strerror(-result), static_cast<int>(pause_ms_));
    try {
        current->add_timer(*this, current->now() + std::chrono::milliseconds(pause_ms_));
    } catch (const std::bad_alloc&) {
        result = -ENOMEM;
        return false;
    }
    pausing_ = true;
    return true;
}

rondo::result<tcp_stream> accept_awaiter::finish() {
    if (result < 0) {
        check_cancelled();
        return errno_code(-result);
    }
    socket_handle socket(*current, result);
    begin_undelayed(socket);
    return tcp_stream(std::move(socket), peer_);
}

tcp_stream accept_awaiter::await_resume() {
    rondo::result<tcp_stream> connected = finish();
    if (!connected) throw_io(result, "accept", {});
    return std::move(*connected);
}

}  // namespace detail

void buffer::free_stash() noexcept { std::free(data_); }

// --- tcp_stream -------------------------------------------------------------------------------------------

namespace {

rondo::result<void> done(int r) noexcept {
    if (r < 0) return errno_code(-r);
    return {};
}

/// The throwing spelling of what a try_ function gave.
template <class T>
void check(const rondo::result<T>& r, const char* operation, const endpoint& subject) {
    if (!r) throw io_error(r.error(), operation, subject.to_string());
}

endpoint own_address(const detail::socket_handle& socket) {
    const rondo::result<endpoint> address = socket.local();
    if (!address) throw io_error(address.error(), "local address");
    return *address;
}

}  // namespace

rondo::result<std::size_t> tcp_stream::try_read_some(writable_bytes into) noexcept {
    if (stash_.kept) {
        const std::int32_t taken = stash_.kept.take_into(into.data(), into.size());
        if (taken < 0) return errno_code(-taken);
        return static_cast<std::size_t>(taken);
    }
    sys_op call{.what = sys_op::call::try_receive,
                .data = into.data(),
                .size = std::min(into.size(), transfer_max)};
    const int r = socket_.control(call);
    if (r < 0) return errno_code(-r);
    return static_cast<std::size_t>(r);
}

rondo::result<std::size_t> tcp_stream::try_write_some(bytes_view from) noexcept {
    sys_op call{.what = sys_op::call::try_send,
                .data = const_cast<void*>(from.data()),
                .size = std::min(from.size(), transfer_max)};
    const int r = socket_.control(call);
    if (r < 0) return errno_code(-r);
    return static_cast<std::size_t>(r);
}

rondo::result<void> tcp_stream::try_shutdown() noexcept {
    sys_op call{.what = sys_op::call::shutdown_write};
    return done(socket_.control(call));
}

rondo::result<void> tcp_stream::try_reset_on_close() noexcept {
    return done(detail::reset_on_close(socket_));
}

rondo::result<void> tcp_stream::try_no_delay(bool on) noexcept {
    return done(socket_.set(sys_op::option::no_delay, on));
}

rondo::result<void> tcp_stream::try_keep_alive(bool on) noexcept {
    return done(socket_.set(sys_op::option::keep_alive, on));
}

rondo::result<void> tcp_stream::try_receive_buffer_size(int bytes) noexcept {
    return done(socket_.set(sys_op::option::receive_buffer, bytes));
}

rondo::result<void> tcp_stream::try_send_buffer_size(int bytes) noexcept {
    return done(socket_.set(sys_op::option::send_buffer, bytes));
}

void tcp_stream::shutdown() { check(try_shutdown(), "shutdown", peer()); }
void tcp_stream::reset_on_close() { check(try_reset_on_close(), "set linger", peer()); }
void tcp_stream::no_delay(bool on) { check(try_no_delay(on), "set no_delay", peer()); }
void tcp_stream::keep_alive(bool on) { check(try_keep_alive(on), "set keep_alive", peer()); }
void tcp_stream::receive_buffer_size(int bytes) {
    check(try_receive_buffer_size(bytes), "set receive buffer", peer());
}
void tcp_stream::send_buffer_size(int bytes) {
    check(try_send_buffer_size(bytes), "set send buffer", peer());
}

endpoint tcp_stream::local() const { return own_address(socket_); }

// --- tcp_listener -----------------------------------------------------------------------------------------

rondo::result<tcp_listener> tcp_listener::try_bind(const endpoint& at,
                                                   const listen_options& options) noexcept {
    loop& l = this_loop();
    raw_address address = at.raw();
    sys_op make{.what = sys_op::call::tcp_socket, .address = &address};
    const int fd = l.control(make);
    if (fd < 0) return errno_code(-fd);
    detail::socket_handle socket(l, fd);
    const bool v6 = address.kind == raw_address::family::v6;
    int r = 0;
    if (options.reuse_address) r = socket.set(sys_op::option::reuse_address, 1);
    if (r >= 0 && options.reuse_port) r = socket.set(sys_op::option::reuse_port, 1);
    if (r >= 0 && v6) r = socket.set(sys_op::option::v6_only, options.v6_only);
    sys_op bind_to{.what = sys_op::call::bind, .address = &address};
    if (r >= 0) r = socket.control(bind_to);
    sys_op listen{.what = sys_op::call::listen, .value = options.backlog};
    if (r >= 0) r = socket.control(listen);
    if (r < 0) return errno_code(-r);
    return tcp_listener(std::move(socket));
}

rondo::result<tcp_listener> tcp_listener::try_bind(std::string_view address, std::uint16_t port,
                                                   const listen_options& options) noexcept {
    const rondo::result<ip_address> at = ip_address::try_parse(address);
    if (!at) return at.error();
    return try_bind(endpoint(*at, port), options);
}

tcp_listener tcp_listener::bind(const endpoint& at, const listen_options& options) {
    rondo::result<tcp_listener> made = try_bind(at, options);
    check(made, "listen at", at);
    return std::move(*made);
}

endpoint tcp_listener::local() const { return own_address(socket_); }

}  // namespace rondo
