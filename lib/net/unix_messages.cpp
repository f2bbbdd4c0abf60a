#include <rondo/net/detail/unix_messages.hpp>

#include <rondo/base/log.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace rondo::detail {

// --- what a losing arm has left behind

/// With its descriptors behind it, and then its bytes.
struct kept_message {
    raw_unix_name from;
    std::uint32_t size = 0;
    bool truncated = false;
    std::uint16_t count = 0;

    std::span<owned_descriptor> descriptors() noexcept {
        return {reinterpret_cast<owned_descriptor*>(this + 1), count};
    }
    std::byte* bytes() noexcept { return reinterpret_cast<std::byte*>(this + 1) + count * sizeof(owned_descriptor); }
};
static_assert(alignof(kept_message) >= alignof(owned_descriptor));

void free_kept_message::operator()(kept_message* what) const noexcept {
    for (owned_descriptor& each : what->descriptors()) std::destroy_at(&each);
    std::free(what);
}

namespace {

/// Null when there is no memory.
kept_message* keep(const raw_message& what, std::uint32_t size, std::span<owned_descriptor> descriptors) noexcept {
    void* const memory = std::malloc(sizeof(kept_message) + descriptors.size_bytes() + size);
    if (memory == nullptr) return nullptr;
    auto* const made = new (memory) kept_message;
    if (what.name != nullptr) made->from = *what.name;
    made->size = size;
    made->truncated = what.truncated;
    made->count = static_cast<std::uint16_t>(descriptors.size());
    std::uninitialized_move(descriptors.begin(), descriptors.end(), made->descriptors().begin());
    if (size > 0) std::memcpy(made->bytes(), what.data, size);
    return made;
}

const char* fault_of(message_kind kind, bytes_view bytes, std::span<const int> descriptors) noexcept {
    if (const char* const fault = fault_of_descriptors(descriptors); fault != nullptr) return fault;
    return kind == message_kind::packet && bytes.size() == 0 ? "a packet of no bytes, which looks like the end"
                                                             : nullptr;
}

raw_message message_of(bytes_view bytes, std::span<const int> descriptors) noexcept {
    raw_message made;
    made.data = const_cast<void*>(bytes.data());
    made.size = static_cast<std::uint32_t>(bytes.size());
    made.descriptors = descriptors.data();
    made.descriptor_count = static_cast<std::uint16_t>(descriptors.size());
    return made;
}

}  // namespace

struct message_functions {
    static message_send& send_of(op& o) noexcept { return static_cast<message_send&>(static_cast<io_op&>(o)); }
    static const message_send& send_of(const op& o) noexcept {
        return static_cast<const message_send&>(static_cast<const io_op&>(o));
    }
    static const scheduler* home_of(const message_socket& socket) noexcept {
        return socket.socket_.open() ? socket.socket_.home() : nullptr;
    }
    static const scheduler* home_of_receive(const op& o) noexcept {
        return home_of(*static_cast<const message_receive&>(static_cast<const io_op&>(o)).socket_);
    }
    static const scheduler* home_of_send(const op& o) noexcept { return home_of(*send_of(o).socket_); }

    static void cancel(op& o) noexcept {
        if (!send_of(o).pausing_) return cancel_io(o);
        send_of(o).end_pause(-ECANCELED);
    }
    static void done(op& o) noexcept {
        if (settled(o)) wake_owner(o);
    }
    static void describe(const op& o, char* text, std::size_t size) noexcept {
        if (!send_of(o).pausing_) return describe_io(o, text, size);
        std::snprintf(text, size, "send on fd %d, whose receiver is full", send_of(o).fd);
    }
    static bool settled(op& o) noexcept { return send_of(o).settled(); }
};

const op_vtable receive_message_vtable = {&cancel_io, &wake_owner, &describe_io, &message_functions::home_of_receive};
const op_vtable send_message_vtable = {&message_functions::cancel, &message_functions::done,
                                       &message_functions::describe, &message_functions::home_of_send,
                                       &message_functions::settled};

// --- receiving

message_receive::message_receive(message_socket& socket, writable_bytes into,
                                 std::span<owned_descriptor> places) noexcept
    : io_awaiter(io_kind::receive_message, socket.socket_.fd(), receive_message_vtable),
      what_(place_for(into)),
      socket_(&socket),
      places_(places.first(std::min<std::size_t>(places.size(), raw_message::most_descriptors))) {}

bool message_receive::begin(raw_unix_name* from) noexcept {
    what_.places = descriptor_places::prepare(places_);
    what_.name = from;
    if (socket_->kept_ != nullptr || socket_->owed_ != 0) [[unlikely]] {
        result = socket_->give_kept(what_, places_);
        return false;
    }
    what_.descriptor_count = static_cast<std::uint16_t>(places_.size());
    data = &what_;
    return !current->submit(*this);
}

// The end needs no keeping: the next receive finds it again.
void message_receive::give_back() noexcept {
    if (result == -EBADF || result == -ECANCELED || (result >= 0 && what_.ended)) return;
    if (result < 0) {
        socket_->owed_ = result;
        return;
    }
    socket_->kept_.reset(keep(what_, static_cast<std::uint32_t>(result), places_.first(what_.descriptor_count)));
    if (socket_->kept_ != nullptr) return;
    socket_->owed_ = -ENOMEM;  // so that the gap is told
    static log_gate gate;
    write_log(gate, log_level::warning, {}, "Unix socket: no memory to keep a message; it is lost");
}

rondo::failure message_receive::why() const {
    check_cancelled();
    const char* const lost = lost_descriptors(result);
    const std::error_code code = errno_code(-result);
    if (*lost != 0) return io_failure(code, "receive", lost);
    if (result == -EBADF) return io_failure(code, "receive");
    try {
        return io_failure(code, "receive", unix_subject(socket_->socket_));
    } catch (const std::bad_alloc&) {
        return code;
    }
}

std::int32_t message_socket::give_kept(raw_message& into, std::span<owned_descriptor> places) noexcept {
    into.descriptor_count = 0;
    if (owed_ != 0) return std::exchange(owed_, 0);
    const auto what = std::exchange(kept_, nullptr);
    if (into.name != nullptr) *into.name = what->from;
    const std::uint32_t size = std::min(what->size, into.size);
    into.truncated = what->truncated || what->size > into.size;
    into.ended = false;
    if (size > 0) std::memcpy(into.data, what->bytes(), size);
    if (places.empty()) return static_cast<std::int32_t>(size);
    if (what->count > places.size()) return -EMSGSIZE;
    std::ranges::move(what->descriptors(), places.begin());
    into.descriptor_count = what->count;
    return static_cast<std::int32_t>(size);
}

std::int32_t message_socket::receive_now(raw_message& into, std::span<owned_descriptor> places) noexcept {
    if (!socket_.open() || socket_.home() == nullptr) return -EBADF;
    places = places.first(std::min<std::size_t>(places.size(), raw_message::most_descriptors));
    into.places = descriptor_places::prepare(places);
    if (kept_ != nullptr || owed_ != 0) return give_kept(into, places);
    into.descriptor_count = static_cast<std::uint16_t>(places.size());
    sys_op call{.what = sys_op::call::try_receive_message, .data = &into};
    return socket_.control(call);
}

// --- sending

message_send::message_send(message_socket& socket, message_kind of, bytes_view bytes, const unix_address& to,
                           std::span<const int> descriptors) noexcept
    : io_awaiter(io_kind::send_message, socket.socket_.fd(), send_message_vtable),
      what_(message_of(bytes, descriptors)),
      to_(to.name()),
      socket_(&socket),
      descriptors_(descriptors),
      fault_(fault_of(of, bytes, descriptors)) {
    if (bytes.size() > transfer_max) result = -EMSGSIZE;
}

bool message_send::start() noexcept {
    if (fault_ != nullptr) result = -EINVAL;
    if (result == 0 && socket_->pausing_ != nullptr) result = -EBUSY;
    if (result < 0) return false;
    if (to_.size != 0) what_.name = &to_;
    data = &what_;
    return !current->submit(*this) || !settled();
}

// The kernel tells who is connected when its peer has room, and nobody else: a pause, then.
bool message_send::settled() noexcept {
    constexpr std::uint16_t longest_ms = 64;
    if (pausing_) {
        pausing_ = false;
        socket_->pausing_ = nullptr;
        if (result < 0) return true;  // cancelled, or closed
        if (!current->submit(*this)) return false;
    }
    if (result != -EAGAIN || what_.name == nullptr) return true;
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
    pausing_ = true;
    socket_->pausing_ = this;
    return false;
}

void message_send::end_pause(std::int32_t with) noexcept {
    current->remove_timer(*this);
    current->complete(*this, with);
}

rondo::result<void> message_send::finish() const {
    if (result >= 0) return {};
    check_cancelled();
    const std::error_code code = errno_code(-result);
    if (fault_ != nullptr) return io_failure(code, "send", fault_);
    if (result == -ENOSYS) return not_passed_on(code);
    if (result == -EBADF && descriptors_.empty()) return io_failure(code, "send");
    try {
        return io_failure(code, "send", to_.size != 0 ? unix_address(to_).to_string() : unix_subject(socket_->socket_));
    } catch (const std::bad_alloc&) {
        return code;
    }
}

std::int32_t message_socket::send_now(message_kind kind, bytes_view bytes, const unix_address& to,
                                      std::span<const int> descriptors) noexcept {
    if (fault_of(kind, bytes, descriptors) != nullptr) return -EINVAL;
    if (bytes.size() > transfer_max) return -EMSGSIZE;
    if (pausing_ != nullptr) return -EAGAIN;
    raw_unix_name name = to.name();
    raw_message what = message_of(bytes, descriptors);
    if (name.size != 0) what.name = &name;
    sys_op call{.what = sys_op::call::try_send_message, .data = &what};
    return socket_.control(call);
}

// --- the socket

close_awaiter message_socket::close() noexcept {
    kept_ = nullptr;
    owed_ = 0;
    if (pausing_ != nullptr) pausing_->end_pause(-EBADF);
    return close_awaiter(socket_);
}

void message_socket::send_buffer_size(int bytes) {
    const rondo::result<void> done = try_send_buffer_size(bytes);
    if (!done) throw_refused(done.error(), "set send buffer", {});
}

}  // namespace rondo::detail
