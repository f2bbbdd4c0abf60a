#include <rondo/base/error.hpp>

#include <rondo/task/attempt.hpp>
#include <rondo/loop/loop.hpp>

#include <cerrno>

namespace rondo {

namespace {
std::string describe(const char* operation, const std::string& subject) {
    return subject.empty() ? operation : std::string(operation) + ' ' + subject;
}
}  // namespace

io_error::io_error(std::error_code code, const char* operation, std::string subject)
    : std::system_error(code, describe(operation, subject)),
      operation_(operation),
      subject_(std::move(subject)) {}
io_error::~io_error() = default;

deadlock_error::deadlock_error(const std::string& report) : std::runtime_error(report) {}
deadlock_error::~deadlock_error() = default;
livelock_error::livelock_error(const std::string& report) : std::runtime_error(report) {}
livelock_error::~livelock_error() = default;

namespace detail {

std::error_code code_of(const std::exception_ptr& error) noexcept {
    try {
        std::rethrow_exception(error);
    } catch (const std::system_error& e) {
        return e.code();
    } catch (...) {
        return {};
    }
}

void throw_cancelled() {
    if (fiber* const f = current != nullptr ? current->current_fiber() : nullptr; f != nullptr)
        f->told_cancelled = (f->flags & fiber::cancel_pending) != 0;
    throw cancelled{};
}

void throw_failure(int negative_errno, const char* operation) {
    if (negative_errno == -ECANCELED) throw_cancelled();
    throw io_error(errno_code(-negative_errno), operation);
}

}  // namespace detail
}  // namespace rondo
