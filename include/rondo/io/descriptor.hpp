// Waiting for a descriptor that is not rondo's: the hook for other libraries.
#pragma once

#include <rondo/io/detail/io.hpp>

namespace rondo {
namespace detail {

class ready_awaiter : public io_awaiter, public awaits_io<ready_awaiter> {
 public:
    ready_awaiter(io_kind k, int descriptor) noexcept : io_awaiter(k, descriptor) { flags = foreign; }

    void give_back() noexcept {}  // what is ready stays ready
    rondo::result<void> finish() const {
        if (result >= 0) return {};
        check_cancelled();
        return io_failure(errno_code(-result), name());
    }
    void await_resume() const {
        if (result < 0) [[unlikely]]
            throw_failure(result, name());
    }

 private:
    const char* name() const noexcept { return kind == io_kind::poll_in ? "wait_readable" : "wait_writable"; }
};

}  // namespace detail

/// Waits until reading from `fd` would not block: data, end of file, hang-up or an error is there.
/// Level-triggered and one-shot: what is ready stays ready until someone reads. The descriptor is
/// the caller's, stays as blocking as it was, and must stay open while this waits. One task per
/// descriptor and direction; a second gets device_or_resource_busy. Regular files are always ready.
/// Cancel: nothing is lost.
[[nodiscard]] inline detail::ready_awaiter wait_readable(int fd) noexcept { return {io_kind::poll_in, fd}; }

/// Waits until writing to `fd` would not block, or has an error to tell. Otherwise as wait_readable().
[[nodiscard]] inline detail::ready_awaiter wait_writable(int fd) noexcept { return {io_kind::poll_out, fd}; }

}  // namespace rondo
