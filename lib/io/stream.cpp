#include <rondo/io/stream.hpp>

#include <algorithm>
#include <cerrno>

namespace rondo {
namespace detail {

struct stream_functions {
    static const scheduler* belongs_to(const op& o) noexcept {
        const socket_handle& socket = static_cast<const stream_awaiter&>(static_cast<const io_op&>(o)).stream_->socket_;
        return socket.open() ? socket.home() : nullptr;
    }
    static std::uint64_t progress(const op& o) noexcept { return static_cast<const io_op&>(o).moved; }
};

const op_vtable stream_vtable = {
    &cancel_io, &wake_owner, &describe_io, &stream_functions::belongs_to, nullptr, &stream_functions::progress};

rondo::failure stream_awaiter::why(const char* operation) const {
    check_cancelled();
    const std::error_code code = errno_code(-result);
    // It was closed under the wait, and then the stream may be gone as well.
    if (result == -EBADF || stream_ == nullptr) return io_failure(code, operation);
    try {
        return io_failure(code, operation, stream_->subject());
    } catch (const std::bad_alloc&) {
        return code;
    }
}

void stream_awaiter::fail(const char* operation) const { why(operation).raise(); }

// --- reading

// A read_exactly that waits may have bytes to give back: the stream knows it until it ends.
bool read_awaiter::submit() noexcept {
    if (current->submit(*this)) return false;
    if ((flags & all) && stream_->told_when_gone_ == nullptr) stream_->told_when_gone_ = &stream_;
    return true;
}

bool read_awaiter::start() noexcept {
    if (!has_stash()) [[likely]]
        return submit();
    // What an earlier read has left behind comes first.
    const std::int32_t taken = stream_->stash_.take(data, size);
    if (taken >= 0) kept_ = static_cast<std::uint32_t>(taken);
    if (taken < 0 || kept_ == size || !(flags & all)) {
        result = std::min(taken, 0);
        return false;
    }
    data = static_cast<std::byte*>(data) + kept_;
    size -= kept_;
    return submit();
}

rondo::result<std::size_t> read_awaiter::finish() {
    if (stream_ != nullptr && stream_->told_when_gone_ == &stream_) stream_->told_when_gone_ = nullptr;
    if (result >= 0) return static_cast<std::size_t>(result) + kept_;
    const std::size_t got = (flags & all) ? kept_ + moved : 0;
    if (got != 0 && result != -EBADF && stream_ != nullptr) {
        // They go back, so that nothing is lost. Those from the stash lie in front of `data`.
        stream_->stash_.keep(static_cast<std::byte*>(data) - kept_, got);
    }
    return why("read");
}

std::size_t read_awaiter::slow_resume() { return *finish(); }

bool borrow_awaiter::start_from_stash() noexcept {
    result = stream_->stash_.take_all(data);
    if (result < 0) return false;
    size = static_cast<std::uint32_t>(result);
    io_op::buffer = rondo::buffer::from_stash;
    return false;
}

// End of stream needs no keeping: the next read finds it again.
void borrow_awaiter::give_back() noexcept {
    if (result == 0 || result == -EBADF || result == -ECANCELED) return;
    if (result < 0) return stream_->stash_.keep_error(result);
    const rondo::buffer bytes = take();
    stream_->stash_.keep(bytes.data(), bytes.size());
}

rondo::result<rondo::buffer> borrow_awaiter::finish() {
    if (result >= 0) return take();
    return why("receive");
}

// --- writing

rondo::result<std::size_t> write_awaiter::finish() {
    if (written_ != nullptr) *written_ = result >= 0 ? static_cast<std::size_t>(result) : moved;
    if (result >= 0) return static_cast<std::size_t>(result);
    return why("write");
}

std::size_t write_awaiter::slow_resume() { return *finish(); }

}  // namespace detail

// --- what does not wait

namespace {

rondo::result<std::size_t> try_move(const detail::socket_handle& socket, sys_op::call how, void* data,
                                    std::size_t size) noexcept {
    sys_op call{.what = how, .data = data, .size = std::min(size, detail::transfer_max)};
    const int moved = socket.control(call);
    if (moved < 0) return errno_code(-moved);
    return static_cast<std::size_t>(moved);
}

}  // namespace

rondo::result<std::size_t> descriptor_stream::try_read_some(writable_bytes into) noexcept {
    if (stash_.empty()) return try_move(socket_, sys_op::call::try_receive, into.data(), into.size());
    const std::int32_t taken = stash_.take(into.data(), into.size());
    if (taken < 0) return errno_code(-taken);
    return static_cast<std::size_t>(taken);
}

rondo::result<std::size_t> descriptor_stream::try_write_some(bytes_view from) noexcept {
    return try_move(socket_, sys_op::call::try_send, const_cast<void*>(from.data()), from.size());
}

rondo::result<void> descriptor_stream::try_shutdown() noexcept {
    sys_op call{.what = sys_op::call::shutdown_write};
    return detail::as_result(socket_.control(call));
}

void descriptor_stream::shutdown() { check(try_shutdown(), "shutdown"); }

rondo::result<void> descriptor_stream::try_shutdown_read() noexcept {
    sys_op call{.what = sys_op::call::shutdown_read};
    return detail::as_result(socket_.control(call));
}

void descriptor_stream::shutdown_read() { check(try_shutdown_read(), "shutdown of reading"); }

void descriptor_stream::check(const rondo::result<void>& answer, const char* operation) const {
    if (!answer) detail::throw_refused(answer.error(), operation, subject());
}

}  // namespace rondo
