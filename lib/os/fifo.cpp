#include <rondo/os/fifo.hpp>

#include <rondo/task/suspend.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>

namespace rondo {

namespace detail {

struct fifo_opener {
    /// A descriptor, or a negative errno.
    static int open(scheduler& l, const std::string& path, bool to_write) noexcept {
        l.check_thread("opening a FIFO");
        if (path.find('\0') != path.npos) return -EINVAL;
        sys_op open{.what = sys_op::call::fifo_open, .value = to_write, .data = const_cast<char*>(path.c_str())};
        return l.control(open);
    }

    template <class End>
    static rondo::result<End> make(const std::string& path, bool to_write) noexcept {
        scheduler& l = running();
        const int fd = open(l, path, to_write);
        if (fd < 0) return errno_code(-fd);
        return End(socket_handle(l, fd));
    }
};

}  // namespace detail

rondo::result<void> try_make_fifo(const std::string& path, std::uint16_t mode) noexcept {
    if (path.find('\0') != path.npos) return errno_code(EINVAL);
    sys_op make{.what = sys_op::call::fifo_make, .value = mode, .data = const_cast<char*>(path.c_str())};
    return detail::as_result(detail::running().control(make));
}

void make_fifo(const std::string& path, std::uint16_t mode) {
    const rondo::result<void> made = try_make_fifo(path, mode);
    if (!made) detail::throw_refused(made.error(), "make a FIFO", path);
}

rondo::result<pipe_reader> try_open_fifo_reader(const std::string& path) noexcept {
    return detail::fifo_opener::make<pipe_reader>(path, false);
}

pipe_reader open_fifo_reader(const std::string& path) {
    rondo::result<pipe_reader> opened = try_open_fifo_reader(path);
    if (!opened) detail::throw_refused(opened.error(), "open a FIFO to read", path);
    return *std::move(opened);
}

rondo::result<pipe_writer> try_open_fifo_writer(const std::string& path) noexcept {
    return detail::fifo_opener::make<pipe_writer>(path, true);
}

task<pipe_writer> open_fifo_writer(std::string path) {
    constexpr auto longest = std::chrono::milliseconds(64);
    for (auto pause = std::chrono::milliseconds(1);; pause = std::min(2 * pause, longest)) {
        rondo::result<pipe_writer> opened = try_open_fifo_writer(path);
        if (opened) co_return *std::move(opened);
        if (opened.error() != std::errc::no_such_device_or_address)
            detail::throw_refused(opened.error(), "open a FIFO to write", path);
        co_await sleep_for(pause);
    }
}

}  // namespace rondo
