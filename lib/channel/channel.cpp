#include <rondo/channel/channel.hpp>

#include <cstdio>

namespace rondo::detail {

namespace {

channel_wait& wait_of(op& o) noexcept { return static_cast<channel_wait&>(o); }

const scheduler* belongs_to(const op& o) noexcept { return static_cast<const channel_wait&>(o).of->made_on; }

void describe_channel(const op& o, const char* what, char* text, std::size_t size) noexcept {
    const channel_core& of = *static_cast<const channel_wait&>(o).of;
    char title[120];
    const char* const kind = of.limit == 0 ? "unbuffered channel" : "channel";
    if (*of.name == '\0') {
        std::snprintf(title, sizeof title, "%s %s", of.limit == 0 ? "an" : "a", kind);
    } else {
        std::snprintf(title, sizeof title, "%s '%s'", kind, of.name);
    }
    if (of.limit == 0) {
        std::snprintf(text, size, "%s %s", what, title);
    } else {
        std::snprintf(text, size, "%s %s with %zu of %zu values", what, title, of.count, of.limit);
    }
}

}  // namespace

const op_vtable channel_core::sending = {
    [](op& o) noexcept { wait_of(o).of->senders.cancel(wait_of(o)); },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept { describe_channel(o, "send to", text, size); },
    &belongs_to,
};

const op_vtable channel_core::receiving = {
    [](op& o) noexcept { wait_of(o).of->receivers.cancel(wait_of(o)); },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept { describe_channel(o, "receive from", text, size); },
    &belongs_to,
};

channel_core::~channel_core() {
    RONDO_ASSERT(senders.empty() && receivers.empty(), "a channel was destroyed while a task waits on it");
}

void channel_core::close(std::exception_ptr why) noexcept {
    if (ended != 0) return;
    ended = 1;
    cause = std::move(why);
    while (!senders.empty()) senders.complete_first(closed_result());
    while (!receivers.empty()) receivers.complete_first(end_result());
}

void channel_core::fail(const channel_wait& w, const char* operation) {
    if (w.result == -ECANCELED) throw_failure(w.result, operation);
    if (w.result == -ESHUTDOWN) std::rethrow_exception(w.of->cause);
    throw io_error(errno_code(-w.result), operation, "a closed channel");
}

failure channel_core::failure_of_cause(const channel_wait& w) {
    failure why = failure_of(w.of->cause);
    if (!why.code()) why.raise();
    return why;
}

}  // namespace rondo::detail
