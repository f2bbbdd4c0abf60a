#include <rondo/os/inherited_listeners.hpp>

#include <rondo/base/error.hpp>
#include <rondo/loop/detail/scheduler.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <string_view>

namespace rondo {
namespace {

constexpr const char* pid_variable = "LISTEN_PID";
constexpr const char* count_variable = "LISTEN_FDS";
constexpr const char* names_variable = "LISTEN_FDNAMES";
constexpr int first = 3;  // behind the standard ones
constexpr int most = 1 << 20;

[[noreturn]] void refuse(int error, std::string subject) {
    throw io_error(errno_code(error), "inherited listeners", std::move(subject));
}

/// A number that a variable has; throws if it is none.
int number_in(const char* variable, const char* text) {
    const std::string_view all(text);
    int number = -1;
    const auto [end, error] = std::from_chars(all.data(), all.data() + all.size(), number);
    if (error != std::errc() || end != all.data() + all.size() || number < 0)
        refuse(EINVAL, std::string(variable) + "=" + text);
    return number;
}

/// Takes what lies before the next colon off the front.
std::string take_name(std::string_view& names) {
    const std::size_t size = names.find(':');
    const std::string name(names.substr(0, size));
    names = size == names.npos ? std::string_view() : names.substr(size + 1);
    return name;
}

void close_on_exec(int fd) {
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags < 0 || ::fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0) refuse(errno, "descriptor " + std::to_string(fd));
}

}  // namespace

std::vector<inherited_listener> inherited_listeners() {
    if (detail::current != nullptr && detail::current->io().is_closed_world())
        throw not_simulated("inherited listeners");
    std::vector<inherited_listener> all;
    const char* const for_whom = std::getenv(pid_variable);
    const char* const how_many = std::getenv(count_variable);
    if (for_whom == nullptr || how_many == nullptr) return all;
    if (number_in(pid_variable, for_whom) != ::getpid()) return all;
    const int count = number_in(count_variable, how_many);
    if (count > most) refuse(EINVAL, std::string(count_variable) + "=" + how_many);
    const char* const text = std::getenv(names_variable);
    std::string_view names = text != nullptr ? text : "";
    for (int fd = first; fd < first + count; ++fd) {
        close_on_exec(fd);
        inherited_listener& made = all.emplace_back(fd, take_name(names));
        if (made.name.empty()) made.name = "unknown";
    }
    for (const char* variable : {pid_variable, count_variable, names_variable}) ::unsetenv(variable);
    return all;
}

}  // namespace rondo
