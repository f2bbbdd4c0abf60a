#include <rondo/os/pipe.hpp>

#include <cerrno>
#include <limits>

namespace rondo {

namespace {

constexpr const char* adopting = "adopt an end of a pipe, descriptor";

rondo::result<detail::socket_handle> adopt(int fd, bool to_write) noexcept {
    detail::scheduler& l = detail::running();
    l.check_thread("adopting a pipe");
    sys_op adopt{.what = sys_op::call::adopt_pipe, .fd = fd, .value = to_write};
    if (const int answer = l.control(adopt); answer < 0) return errno_code(-answer);
    return detail::socket_handle(l, fd);
}

rondo::result<std::size_t> capacity_of(const detail::socket_handle& end) noexcept {
    sys_op ask{.what = sys_op::call::pipe_capacity};
    const int answer = end.control(ask);
    if (answer < 0) return errno_code(-answer);
    return static_cast<std::size_t>(answer);
}

template <class T>
T value_or_throw(rondo::result<T>&& answer, const char* operation, std::string subject = {}) {
    if (!answer) detail::throw_refused(answer.error(), operation, std::move(subject));
    return *std::move(answer);
}

}  // namespace

std::string pipe_reader::name_of(const rondo::descriptor_stream&) { return "a pipe"; }
std::string pipe_writer::name_of(const rondo::descriptor_stream&) { return "a pipe"; }

rondo::result<pipe_reader> pipe_reader::try_from_fd(int fd) noexcept {
    rondo::result<detail::socket_handle> end = adopt(fd, false);
    if (!end) return end.error();
    return pipe_reader(*std::move(end));
}
pipe_reader pipe_reader::from_fd(int fd) { return value_or_throw(try_from_fd(fd), adopting, std::to_string(fd)); }

rondo::result<pipe_writer> pipe_writer::try_from_fd(int fd) noexcept {
    rondo::result<detail::socket_handle> end = adopt(fd, true);
    if (!end) return end.error();
    return pipe_writer(*std::move(end));
}
pipe_writer pipe_writer::from_fd(int fd) { return value_or_throw(try_from_fd(fd), adopting, std::to_string(fd)); }

rondo::result<std::size_t> pipe_reader::try_capacity() const noexcept { return capacity_of(socket()); }
rondo::result<std::size_t> pipe_writer::try_capacity() const noexcept { return capacity_of(socket()); }
std::size_t pipe_reader::capacity() const { return value_or_throw(try_capacity(), "capacity of a pipe"); }
std::size_t pipe_writer::capacity() const { return value_or_throw(try_capacity(), "capacity of a pipe"); }

rondo::result<pipe_ends> try_make_pipe(const pipe_options& options) noexcept {
    if (options.capacity > static_cast<std::size_t>(std::numeric_limits<int>::max())) return errno_code(EINVAL);
    detail::scheduler& l = detail::running();
    l.check_thread("making a pipe");
    sys_op make{.what = sys_op::call::pipe_pair, .value = static_cast<int>(options.capacity)};
    if (const int answer = l.control(make); answer < 0) return errno_code(-answer);
    return pipe_ends{pipe_reader(detail::socket_handle(l, make.fds[0])),
                     pipe_writer(detail::socket_handle(l, make.fds[1]))};
}

pipe_ends make_pipe(const pipe_options& options) { return value_or_throw(try_make_pipe(options), "make a pipe"); }

}  // namespace rondo
