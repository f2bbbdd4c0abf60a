#include "byte_queue.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace rondo::simulated {

bool byte_queue::grow(std::uint32_t wanted) noexcept {
    std::uint32_t capacity = std::max(capacity_, 1024u);
    while (capacity < wanted) capacity *= 2;
    std::unique_ptr<std::byte[]> data(new (std::nothrow) std::byte[capacity]);
    if (data == nullptr) return false;
    const std::uint32_t size = size_;
    take(data.get(), size);
    data_ = std::move(data);
    capacity_ = capacity;
    head_ = 0;
    size_ = size;
    return true;
}

bool byte_queue::append(const void* from, std::uint32_t count) noexcept {
    if (size_ + count > capacity_ && !grow(size_ + count)) return false;
    const auto* bytes = static_cast<const std::byte*>(from);
    const std::uint32_t tail = (head_ + size_) & (capacity_ - 1);
    const std::uint32_t first = std::min(count, capacity_ - tail);
    std::memcpy(data_.get() + tail, bytes, first);
    std::memcpy(data_.get(), bytes + first, count - first);
    size_ += count;
    return true;
}

void byte_queue::take(void* into, std::uint32_t count) noexcept {
    RONDO_ASSERT(count <= size_, "more than there is");
    if (count == 0) return;
    auto* bytes = static_cast<std::byte*>(into);
    const std::uint32_t first = std::min(count, capacity_ - head_);
    std::memcpy(bytes, data_.get() + head_, first);
    std::memcpy(bytes + first, data_.get(), count - first);
    head_ = (head_ + count) & (capacity_ - 1);
    size_ -= count;
}

void byte_queue::clear() noexcept {
    data_.reset();
    capacity_ = head_ = size_ = 0;
}

}  // namespace rondo::simulated
