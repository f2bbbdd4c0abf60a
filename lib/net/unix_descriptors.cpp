#include <rondo/net/detail/unix_descriptors.hpp>

#include <algorithm>
#include <cerrno>

namespace rondo::detail {

const char* fault_of_descriptors(std::span<const int> descriptors) noexcept {
    static_assert(raw_message::most_descriptors == 253);
    return descriptors.size() > raw_message::most_descriptors ? "more than 253 descriptors at once" : nullptr;
}

const char* lost_descriptors(std::int32_t result) noexcept {
    return result == -EMSGSIZE ? "more descriptors than there are places for"
           : result == -EMFILE ? "descriptors, of which this process may have no more"
                               : "";
}

rondo::failure not_passed_on(std::error_code code) noexcept {
    return failure_thrown_by(code, [&] { throw_refused(code, "send a descriptor that is not simulated", {}); });
}

// --- sending

send_descriptors_awaiter::send_descriptors_awaiter(descriptor_stream& stream, bytes_view bytes,
                                                   std::span<const int> descriptors, std::size_t* written) noexcept
    : stream_awaiter(io_kind::send_message, stream, nullptr, 0), descriptors_(descriptors), written_(written) {
    RONDO_ASSERT(bytes.size() <= transfer_max, "send_with_descriptors takes less than 2 GiB at once");
    what_.data = const_cast<void*>(bytes.data());
    what_.size = static_cast<std::uint32_t>(bytes.size());
    what_.of_stream = true;
}

bool send_descriptors_awaiter::start() noexcept {
    fault_ = fault_of_descriptors(descriptors_);
    if (fault_ == nullptr && what_.size == 0) fault_ = "descriptors go with a byte, and there is none";
    if (fault_ != nullptr) {
        result = -EINVAL;
        return false;
    }
    what_.descriptors = descriptors_.data();
    what_.descriptor_count = static_cast<std::uint16_t>(descriptors_.size());
    data = &what_;
    return stream_awaiter::start();
}

rondo::result<std::size_t> send_descriptors_awaiter::finish() {
    if (written_ != nullptr) *written_ = result >= 0 ? static_cast<std::size_t>(result) : fault_ != nullptr ? 0 : moved;
    if (result >= 0) return static_cast<std::size_t>(result);
    if (fault_ != nullptr) return io_failure(errno_code(EINVAL), "send", fault_);
    if (result == -ENOSYS) return not_passed_on(errno_code(ENOSYS));
    return why("send");
}

// --- receiving

receive_descriptors_awaiter::receive_descriptors_awaiter(descriptor_stream& stream, writable_bytes into,
                                                         std::span<owned_descriptor> places) noexcept
    : stream_awaiter(io_kind::receive_message, stream, nullptr, 0), places_(places) {
    what_.data = into.data();
    what_.size = static_cast<std::uint32_t>(std::min(into.size(), transfer_max));
    what_.of_stream = true;
}

bool receive_descriptors_awaiter::start() noexcept {
    places_ = places_.first(std::min<std::size_t>(places_.size(), raw_message::most_descriptors));
    what_.places = descriptor_places::prepare(places_);
    if (what_.size == 0) return false;
    if (has_stash()) [[unlikely]] {
        result = stash().take(what_.data, what_.size, places_, what_.descriptor_count);
        return false;
    }
    what_.descriptor_count = static_cast<std::uint16_t>(places_.size());
    data = &what_;
    return stream_awaiter::start();
}

// The end of the stream needs no keeping: the next read finds it again.
void receive_descriptors_awaiter::give_back() noexcept {
    if (result > 0)
        return stash().keep(what_.data, static_cast<std::size_t>(result), places_.first(what_.descriptor_count));
    if (result == 0 || result == -EBADF || result == -ECANCELED) return;
    if (moved > 0) return stash().keep(what_.data, moved);
    stash().keep_error(result);
}

rondo::result<received_with_descriptors> receive_descriptors_awaiter::finish() {
    if (result >= 0) return received_with_descriptors{static_cast<std::size_t>(result), what_.descriptor_count};
    const char* const lost = lost_descriptors(result);
    // The bytes of descriptors that had to be closed stay.
    if (moved > 0 && result != -EBADF && result != -ECANCELED && stream_ != nullptr) stash().keep(what_.data, moved);
    if (*lost != 0) return io_failure(errno_code(-result), "receive", lost);
    return why("receive");
}

}  // namespace rondo::detail
