#include <rondo/io/detail/io.hpp>

#include <rondo/io/detail/address_text.hpp>

#include <cerrno>
#include <cstdio>

namespace rondo::detail {

static const char* verb_of(io_kind kind) noexcept {
    switch (kind) {
        case io_kind::accept: return "accept on";
        case io_kind::connect: return "connect";
        case io_kind::receive:
        case io_kind::borrow:
        case io_kind::splice_in: return "read";
        case io_kind::send:
        case io_kind::send_vector:
        case io_kind::splice_out: return "write";
        case io_kind::poll_in: return "readable";
        case io_kind::poll_out: return "writable";
        case io_kind::close: return "close";
        case io_kind::receive_datagrams:
        case io_kind::receive_message: return "receive on";
        case io_kind::send_datagrams:
        case io_kind::send_message: return "send on";
        case io_kind::poll: return "ready";
    }
    return "?";
}

void cancel_io(op& o) noexcept { current->cancel(static_cast<io_op&>(o)); }

void describe_io(const op& o, char* text, std::size_t size) noexcept {
    const auto& io = static_cast<const io_op&>(o);
    char peer[sizeof(address_text) + 1] = "";
    raw_address address;
    sys_op ask{.what = sys_op::call::peer_address, .fd = io.fd, .address = &address};
    if (io.kind != io_kind::accept && current != nullptr && current->control(ask) >= 0)
        std::snprintf(peer, sizeof peer, " %s", address_text(address).text);
    const bool releases = io.kind == io_kind::close && io.flags & io_op::hand_over;
    std::snprintf(text, size, "%s fd %d%s", releases ? "release" : verb_of(io.kind), io.fd, peer);
}

const op_vtable io_vtable = {&cancel_io, &wake_owner, &describe_io};

void io_awaiter::check_cancelled() const {
    if (result == -ECANCELED) throw_cancelled();
}

void throw_refused(std::error_code why, const char* operation, std::string subject) {
    if (why == std::errc::function_not_supported && current != nullptr && current->io().is_closed_world())
        throw not_simulated(operation);
    throw io_error(why, operation, std::move(subject));
}

void throw_io(int negative_errno, const char* operation, std::string subject) {
    if (negative_errno == -ECANCELED) throw_cancelled();
    throw_refused(errno_code(-negative_errno), operation, std::move(subject));
}

}  // namespace rondo::detail
