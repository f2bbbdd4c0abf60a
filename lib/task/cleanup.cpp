#include <rondo/task/cleanup.hpp>

#include <rondo/base/log.hpp>

#include <new>
#include <vector>

namespace rondo::detail {

// Without memory for its timer it runs without a limit: better late than not at all.
task<> limited(cancel_scope& scope, task<> cleanup, delay limit) {
    try {
        scope.set_deadline(limit.after(now()));
    } catch (const std::bad_alloc&) {
    }
    co_await std::move(cleanup);
}

std::exception_ptr both_errors(std::exception_ptr body, std::exception_ptr cleanup) noexcept {
    if (!body || is_cancellation(body)) return cleanup;
    if (is_cancellation(cleanup)) return body;
    try {
        return std::make_exception_ptr(exception_group({body, cleanup}));
    } catch (...) {
        static log_gate gate;
        write_log(gate, log_level::error, {}, "a cleanup failed, and there was no memory to say so otherwise: %s",
                  traced_message_of(cleanup).c_str());
        return body;
    }
}

}  // namespace rondo::detail
