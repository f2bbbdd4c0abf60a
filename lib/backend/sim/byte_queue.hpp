// The bytes of one direction of a simulated connection.
#pragma once

#include <rondo/base/detail/assert.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace rondo::simulated {

/// FIFO of bytes that grows as needed; who writes keeps the bound.
class byte_queue {
 public:
    std::uint32_t size() const noexcept { return size_; }
    /// False, and nothing has changed, when there is no memory.
    [[nodiscard]] bool append(const void* from, std::uint32_t count) noexcept;
    void take(void* into, std::uint32_t count) noexcept;
    void truncate(std::uint32_t size) noexcept { size_ = size; }
    void clear() noexcept;

 private:
    bool grow(std::uint32_t wanted) noexcept;

    std::unique_ptr<std::byte[]> data_;
    std::uint32_t capacity_ = 0;  // a power of two
    std::uint32_t head_ = 0;
    std::uint32_t size_ = 0;
};

}  // namespace rondo::simulated
