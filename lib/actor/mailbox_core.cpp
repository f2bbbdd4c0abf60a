#include <rondo/actor/detail/mailbox_core.hpp>

#include <rondo/loop/stats.hpp>
#include <rondo/task/wait.hpp>

#include <cerrno>
#include <cstdio>
#include <new>

namespace rondo::detail {

// --- waits ---------------------------------------------------------------------------------------------

namespace {

// In the queue of its mailbox it still has the message; later only the question is left.
void cancel_mail(op& o) noexcept {
    auto& w = static_cast<mail_wait&>(o);
    if (w.asks != nullptr) w.asks->request->unbind();
    if (w.linked()) w.to->senders.remove(w);
    current->complete(w, -ECANCELED);
}

void describe_mail(const op& o, char* text, std::size_t size) noexcept {
    const auto& w = static_cast<const mail_wait&>(o);
    std::snprintf(text, size, w.linked() ? "room in the mailbox of %s" : "the reply of %s", w.to->shown_name());
}

void cancel_take(op& o) noexcept {
    static_cast<take_base&>(o).from->taker = nullptr;
    current->complete(o, -ECANCELED);
}

void describe_take(const op& o, char* text, std::size_t size) noexcept {
    std::snprintf(text, size, "a message for %s", static_cast<const take_base&>(o).from->shown_name());
}

}  // namespace

const op_vtable mail_wait::table = {&cancel_mail, &wake_owner, &describe_mail};
const op_vtable take_base::table = {&cancel_take, &wake_owner, &describe_take};

void throw_mail_failure(std::int32_t result, const char* operation, const mailbox_core& box) {
    switch (-result) {
        case ENOMEM: throw std::bad_alloc();
        case ESRCH: throw no_such_actor(operation, box.name);
        case ENOBUFS: throw mailbox_full(operation, box.name);
        case ENODATA: throw no_reply(operation, box.name);
    }
    throw_failure(result, operation);
}

rondo::result<void> mail_result(std::int32_t result, const char* operation, const mailbox_core& box) {
    if (result == -ECANCELED) throw_failure(result, operation);
    if (result >= 0) return {};
    return failure_thrown_by(errno_code(-result), [&] { throw_mail_failure(result, operation, box); });
}

// --- mailboxes -----------------------------------------------------------------------------------------

mailbox_core::mailbox_core(const mailbox_options& options) noexcept
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

bool mailbox_core::resumes_after(const std::exception_ptr& error) const noexcept {
    return keeper != nullptr && keeper->resumes_after(*keeper, error);
}

void mailbox_core::lost(std::string_view type, const char* why) const noexcept {
    current->add_dead_letter({shown_name(), type, why});
}

}  // namespace rondo::detail
