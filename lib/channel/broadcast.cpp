#include <rondo/channel/broadcast.hpp>

#include <cstdio>

namespace rondo::detail {

namespace {
broadcast_wait& wait_of(op& o) noexcept { return static_cast<broadcast_wait&>(o); }

void describe_broadcast(const op& o, const char* what, char* text, std::size_t size) noexcept {
    const broadcast_core& of = *static_cast<const broadcast_wait&>(o).of;
    if (*of.name == '\0') {
        std::snprintf(text, size, "%s a broadcast", what);
    } else {
        std::snprintf(text, size, "%s broadcast '%s'", what, of.name);
    }
}
}  // namespace

const op_vtable broadcast_core::sending = {
    [](op& o) noexcept { wait_of(o).of->senders.cancel(wait_of(o)); },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept { describe_broadcast(o, "send to", text, size); },
};
const op_vtable broadcast_core::receiving = {
    [](op& o) noexcept {
        static_cast<subscription_wait&>(o).leave();
        wait_of(o).of->receivers.cancel(wait_of(o));
    },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept { describe_broadcast(o, "receive from", text, size); },
};

broadcast_core::broadcast_core(std::size_t capacity, when_slow choice, const char* called) noexcept
    : limit(capacity), slow(choice), name(called) {
    RONDO_ASSERT(capacity > 0, "a broadcast keeps at least one value");
}

broadcast_core::~broadcast_core() {
    RONDO_ASSERT(subscribers == 0, "a broadcast was destroyed before its subscriptions");
    RONDO_ASSERT(senders.empty(), "a broadcast was destroyed while a task waits to send");
}

void broadcast_core::wake_receivers() noexcept {
    while (!receivers.empty()) receivers.complete_first();
}

void broadcast_core::close() noexcept {
    closed = true;
    while (!senders.empty()) senders.complete_first(-EPIPE);
    wake_receivers();
}

void broadcast_core::fail(std::int32_t result) {
    if (result == -ECANCELED) throw_failure(result, "send");
    throw io_error(errno_code(-result), "send", "a closed broadcast");
}

}  // namespace rondo::detail
