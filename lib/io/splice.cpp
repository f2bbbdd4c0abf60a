#include <rondo/io/detail/splice.hpp>

#include <cerrno>
#include <cstring>

namespace rondo::detail {

bool splice_switch::refused(std::int32_t error) noexcept {
    switch (-error) {
        case EMFILE:
        case ENFILE:
        case ENOMEM: break;
        case EINVAL:  // a descriptor of a kind that does not
        case EOPNOTSUPP:
        case ENOSYS:  // a kernel, or a filter
        case EPERM:
        case EACCES: allowed_ = false; break;
        default: return false;
    }
    on_ = false;
    return true;
}

bytes_origin::bytes_origin(descriptor_stream& from) noexcept {
    if (from.told_when_gone_ != nullptr) return;  // another task reads, which is refused soon enough
    stream_ = &from;
    from.told_when_gone_ = &stream_;
}

bytes_origin::bytes_origin(bytes_origin&& other) noexcept : stream_(take(other.stream_)) {
    if (stream_ != nullptr) stream_->told_when_gone_ = &stream_;
}

bytes_origin::~bytes_origin() {
    if (stream_ != nullptr) stream_->told_when_gone_ = nullptr;
}

stash* bytes_origin::place() const noexcept {
    return stream_ != nullptr && stream_->is_open() ? &stream_->stash_ : nullptr;
}

void bytes_origin::put_back(bytes_view bytes) const noexcept {
    stash* const to = bytes.size() != 0 ? place() : nullptr;
    if (to == nullptr) return;
    if (void* const room = to->put_back(bytes.size())) std::memcpy(room, bytes.data(), bytes.size());
}

void piped_bytes::give_back() noexcept {
    sys_op call{.what = sys_op::call::give_back_pipe, .size = size_, .pipe = pipe_};
    stash* const to = size_ != 0 ? from_.place() : nullptr;
    if (to != nullptr) call.data = to->put_back(size_);
    const int saved = loop_->control(call);
    // In a forked child they are the parent's.
    if (to != nullptr && saved != static_cast<int>(size_)) to->poison();
}

bool splice_in_awaiter::start() noexcept {
    if (!has_stash()) return stream_awaiter::start();
    result = 0;
    return false;
}

piped_bytes splice_in_awaiter::await_resume() {
    if (result < 0 && !decides_->refused(result)) fail("receive");
    if (result < 0) return {};
    decides_->came(static_cast<std::size_t>(result));
    if (result == 0) return {};
    return {std::move(from_), data, static_cast<std::uint32_t>(result)};
}

std::size_t splice_out_awaiter::await_resume() {
    if (result < 0 && !decides_->refused(result)) fail("write");
    const std::uint32_t gone = result > 0 ? static_cast<std::uint32_t>(result) : 0;
    bytes_->size_ -= gone;
    return gone;
}

}  // namespace rondo::detail
