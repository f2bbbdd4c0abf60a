#include <rondo/actor/actor.hpp>

#include <cstdio>

namespace rondo {

no_such_actor::no_such_actor(const char* operation, const char* actor)
    : io_error(errno_code(ESRCH), operation, actor) {}
no_such_actor::~no_such_actor() = default;
mailbox_full::mailbox_full(const char* operation, const char* actor)
    : io_error(errno_code(ENOBUFS), operation, actor) {}
mailbox_full::~mailbox_full() = default;
no_reply::no_reply(const char* operation, const char* actor) : io_error(errno_code(ENODATA), operation, actor) {}
no_reply::~no_reply() = default;

namespace detail {

// --- requests ------------------------------------------------------------------------------------------

void request_base::refuse(int error) noexcept {
    question& q = *std::exchange(of_, nullptr);
    current->complete(*q.asker, -error);
}

void request_base::answered() noexcept { refuse(0); }

// --- waits ---------------------------------------------------------------------------------------------

namespace {

const char* shown(const mailbox_core& box) noexcept { return box.name[0] != '\0' ? box.name : "an actor"; }

// In the queue of its mailbox it still has the message; later only the question is left.
void cancel_mail(op& o) noexcept {
    auto& w = static_cast<mail_wait&>(o);
    if (w.asks != nullptr) w.asks->request->unbind();
    if (w.linked()) w.to->senders.remove(w);
    current->complete(w, -ECANCELED);
}

void describe_mail(const op& o, char* text, std::size_t size) noexcept {
    const auto& w = static_cast<const mail_wait&>(o);
    std::snprintf(text, size, w.linked() ? "room in the mailbox of %s" : "the reply of %s", shown(*w.to));
}

void cancel_take(op& o) noexcept {
    static_cast<take_base&>(o).from->taker = nullptr;
    current->complete(o, -ECANCELED);
}

void describe_take(const op& o, char* text, std::size_t size) noexcept {
    std::snprintf(text, size, "a message for %s", shown(*static_cast<const take_base&>(o).from));
}

void cancel_exit(op& o) noexcept {
    static_cast<exit_wait&>(o).unlink();
    current->complete(o, -ECANCELED);
}

void describe_exit(const op& o, char* text, std::size_t size) noexcept {
    std::snprintf(text, size, "the end of %s", shown(static_cast<const exit_wait&>(o).of));
}

}  // namespace

const op_vtable mail_wait::table = {&cancel_mail, &wake_owner, &describe_mail};
const op_vtable take_base::table = {&cancel_take, &wake_owner, &describe_take};
const op_vtable exit_wait::table = {&cancel_exit, &wake_owner, &describe_exit};

void exit_wait::told(watcher& w, const actor_exit& exit) noexcept {
    auto& self = static_cast<exit_wait&>(w);
    self.exit = exit;
    current->complete(self, 0);
}

void throw_mail_failure(std::int32_t result, const char* operation, const mailbox_core& box) {
    switch (-result) {
        case ENOMEM: throw std::bad_alloc();
        case ESRCH: throw no_such_actor(operation, box.name);
        case ENOBUFS: throw mailbox_full(operation, box.name);
        case ENODATA: throw no_reply(operation, box.name);
    }
    throw_failure(result, operation);
}

rondo::result<void> mail_result(std::int32_t result, const char* operation) {
    if (result == -ECANCELED) throw_failure(result, operation);
    if (result < 0) return errno_code(-result);
    return {};
}

// --- mailboxes -----------------------------------------------------------------------------------------

mailbox_core::mailbox_core(const actor_options& options) noexcept
    : limit(options.capacity), when_full(options.when_full), name(options.name) {}

mailbox_core::~mailbox_core() { RONDO_ASSERT(count == 0, "a mailbox was destroyed with messages in it"); }

void mailbox_core::stop() noexcept {
    if (stopping) return;
    stopping = true;
    if (taker != nullptr) current->complete(*std::exchange(taker, nullptr), 0);
}

void mailbox_core::kill() noexcept {
    if (body != nullptr) cancel_fiber(*body);
}

void mailbox_core::tell_watchers(const actor_exit& exit) noexcept {
    while (!watchers.empty()) {
        watcher& w = watchers.pop_front();
        w.tell(w, exit);
    }
}

void mailbox_core::lost(std::string_view type, const char* why) const noexcept {
    current->add_dead_letter({shown(*this), type, why});
}

actor_exit exit_of(outcome<void>& out) noexcept {
    const std::exception_ptr& error = out.error();
    if (!error) return {actor_exit::kind::normal, nullptr};
    if (is_cancellation(error)) return {actor_exit::kind::cancelled, nullptr};
    return {actor_exit::kind::failed, error};
}

}  // namespace detail
}  // namespace rondo
