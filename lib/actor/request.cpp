#include <rondo/actor/request.hpp>

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

void request_base::refuse(int error) noexcept {
    question& q = *std::exchange(of_, nullptr);
    current->complete(*q.asker, -error);
}

void request_base::answered() noexcept { refuse(0); }

}  // namespace detail
}  // namespace rondo
