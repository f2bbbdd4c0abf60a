#include <rondo/io/detail/stash.hpp>

#include <rondo/io/detail/io.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

namespace rondo::detail {

struct stash::content {
    std::size_t begin = 0;  // of the bytes that are left, which follow this
    std::size_t end = 0;
    std::int32_t error = 0;  // or there is this instead; negative errno

    std::byte* bytes() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
};

constinit stash::content stash::poisoned{0, 0, -ENOMEM};

void stash::release(content* what) noexcept {
    if (what != &poisoned) std::free(what);
}

void stash::poison() noexcept { replace(&poisoned); }

void stash::keep(const void* bytes, std::size_t count) noexcept {
    void* const memory = std::malloc(sizeof(content) + count);
    if (memory == nullptr) return poison();
    content* const made = new (memory) content{0, count, 0};
    std::memcpy(made->bytes(), bytes, count);
    replace(made);
}

void stash::keep_error(std::int32_t error) noexcept {
    void* const memory = std::malloc(sizeof(content));
    if (memory == nullptr) return poison();
    replace(new (memory) content{0, 0, error});
}

std::int32_t stash::take_error() noexcept {
    const std::int32_t error = kept_->error;
    if (error != 0 && kept_ != &poisoned) clear();
    return error;
}

std::int32_t stash::take(void* into, std::size_t size) noexcept {
    if (size == 0) return 0;  // a read of nothing takes no error either
    if (const std::int32_t error = take_error(); error != 0) return error;
    const std::size_t count = std::min({size, kept_->end - kept_->begin, transfer_max});
    std::memcpy(into, kept_->bytes() + kept_->begin, count);
    kept_->begin += count;
    if (kept_->begin == kept_->end) clear();
    return static_cast<std::int32_t>(count);
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
