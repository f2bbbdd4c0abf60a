#include <rondo/base/error.hpp>

#include "base/error_report.hpp"

#include <new>

namespace rondo {

namespace {
std::string describe(const char* operation, const std::string& subject) {
    return subject.empty() ? operation : std::string(operation) + ' ' + subject;
}
}  // namespace

io_error::io_error(std::error_code code, const char* operation, std::string subject)
    : std::system_error(code, describe(operation, subject)), operation_(operation), subject_(std::move(subject)) {}
io_error::~io_error() = default;

not_simulated::not_simulated(const char* operation)
    : io_error(std::make_error_code(std::errc::function_not_supported), operation, "in a simulated world") {}
not_simulated::~not_simulated() = default;

deadlock_error::deadlock_error(const std::string& report) : std::runtime_error(report) {}
deadlock_error::~deadlock_error() = default;
livelock_error::livelock_error(const std::string& report) : std::runtime_error(report) {}
livelock_error::~livelock_error() = default;

std::string describe(const std::exception_ptr& error) {
    detail::to_string to;
    detail::write_report(to, error);
    return std::move(to.text);
}

std::string failure::message() const {
    if (!error_) return code_.message();
    try {
        std::rethrow_exception(error_);
    } catch (const std::exception& e) {
        return e.what();
    } catch (...) {
        return code_.message();
    }
}

void failure::raise() const {
    if (error_) std::rethrow_exception(error_);
    throw std::system_error(code_);
}

std::exception_ptr failure::error() const {
    return error_ ? error_ : std::make_exception_ptr(std::system_error(code_));
}

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

std::string message_of(const std::exception_ptr& error) noexcept {
    try {
        to_string to;
        write_whole_message(to, error);
        return std::move(to.text);
    } catch (const std::bad_alloc&) {
        return "out of memory";  // short enough to need none
    }
}

std::string traced_message_of(const std::exception_ptr& error, std::source_location known) noexcept {
    try {
        to_string to;
        write_line(to, error, known);
        return std::move(to.text);
    } catch (const std::bad_alloc&) {
        return message_of(error);
    }
}

failure io_failure(std::error_code code, const char* operation, std::string_view subject) noexcept {
    try {
        return {code, std::make_exception_ptr(io_error(code, operation, std::string(subject)))};
    } catch (const std::bad_alloc&) {
        return code;
    }
}

failure with_operation(failure why, const char* operation) noexcept {
    return why.is_just_code() ? io_failure(why.code(), operation) : why;
}

failure failure_of(const std::exception_ptr& error) noexcept { return {code_of(error), error}; }

}  // namespace detail
}  // namespace rondo
