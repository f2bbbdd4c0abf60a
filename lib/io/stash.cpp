#include <rondo/io/detail/stash.hpp>

#include <rondo/io/detail/io.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace rondo::detail {

struct stash::content {
    std::size_t begin = 0;  // of the bytes that are left, which follow this
    std::size_t end = 0;
    std::int32_t error = 0;  // or there is this instead; negative errno
    std::uint32_t descriptor_room = 0;  // of those that came with the bytes, which lie between this and them
    std::uint32_t descriptor_count = 0;  // so many are still there

    std::span<owned_descriptor> descriptors() noexcept {
        return {reinterpret_cast<owned_descriptor*>(this + 1), descriptor_count};
    }
    std::byte* bytes() noexcept {
        return reinterpret_cast<std::byte*>(this + 1) + descriptor_room * sizeof(owned_descriptor);
    }
    void drop_descriptors() noexcept {
        for (owned_descriptor& each : descriptors()) std::destroy_at(&each);
        descriptor_count = 0;
    }
};

constinit stash::content stash::poisoned{.error = -ENOMEM};

void stash::release(content* what) noexcept {
    if (what == &poisoned) return;
    what->drop_descriptors();
    std::free(what);
}

void stash::poison() noexcept { replace(&poisoned); }

void stash::keep(const void* bytes, std::size_t count, std::span<owned_descriptor> with) noexcept {
    void* const memory = std::malloc(sizeof(content) + with.size_bytes() + count);
    if (memory == nullptr) return poison();
    content* const made = new (memory) content{.end = count};
    made->descriptor_room = made->descriptor_count = static_cast<std::uint32_t>(with.size());
    std::uninitialized_move(with.begin(), with.end(), made->descriptors().begin());
    std::memcpy(made->bytes(), bytes, count);
    replace(made);
}

void* stash::put_back(std::size_t count) noexcept {
    const std::size_t behind = kept_ != nullptr ? kept_->end - kept_->begin : 0;
    const bool hopeless = kept_ != nullptr && kept_->error != 0;  // poisoned, or an error that would come too late
    void* const memory = hopeless ? nullptr : std::malloc(sizeof(content) + count + behind);
    if (memory == nullptr) return poison(), nullptr;
    content* const made = new (memory) content{.end = count + behind};
    if (behind != 0) std::memcpy(made->bytes() + count, kept_->bytes() + kept_->begin, behind);
    replace(made);
    return made->bytes();
}

void stash::keep_error(std::int32_t error) noexcept {
    void* const memory = std::malloc(sizeof(content));
    if (memory == nullptr) return poison();
    replace(new (memory) content{.error = error});
}

std::int32_t stash::take_error() noexcept {
    const std::int32_t error = kept_->error;
    if (error != 0 && kept_ != &poisoned) clear();
    return error;
}

std::int32_t stash::take(void* into, std::size_t size) noexcept {
    if (size == 0) return 0;  // a read of nothing takes no error either
    if (const std::int32_t error = take_error(); error != 0) return error;
    kept_->drop_descriptors();
    const std::size_t count = std::min({size, kept_->end - kept_->begin, transfer_max});
    std::memcpy(into, kept_->bytes() + kept_->begin, count);
    kept_->begin += count;
    if (kept_->begin == kept_->end) clear();
    return static_cast<std::int32_t>(count);
}

std::int32_t stash::take(void* into, std::size_t size, std::span<owned_descriptor> places,
                         std::uint16_t& count) noexcept {
    count = 0;
    if (size == 0) return 0;
    const std::span<owned_descriptor> came = kept_->descriptors();
    if (came.size() > places.size() && !places.empty()) {
        kept_->drop_descriptors();
        return -EMSGSIZE;
    }
    if (!places.empty()) {
        std::move(came.begin(), came.end(), places.begin());
        count = static_cast<std::uint16_t>(came.size());
    }
    return take(into, size);
}

std::int32_t stash::take_all(void*& bytes) noexcept {
    if (const std::int32_t error = take_error(); error != 0) return error;
    const std::size_t count = kept_->end - kept_->begin;
    bytes = std::malloc(count);
    if (bytes == nullptr) return -ENOMEM;  // they stay here
    std::memcpy(bytes, kept_->bytes() + kept_->begin, count);
    clear();
    return static_cast<std::int32_t>(count);
}

}  // namespace rondo::detail
