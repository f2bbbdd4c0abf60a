// Buffers that `borrow` lends out.
#pragma once

#include <rondo/loop/backend.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace rondo::detail {

/// A buffer, and the bytes in it nobody has taken yet.
struct chunk {
    static constexpr std::uint16_t heap = io_op::in_no_ring;  // `id` of a buffer from malloc

    chunk* next = nullptr;
    std::byte* data = nullptr;
    std::uint32_t begin = 0;  // of the untaken bytes
    std::uint32_t end = 0;
    std::uint16_t id = heap;

    std::uint32_t size() const noexcept { return end - begin; }
};

/// Buffers from malloc, recycled last in, first out: the one given back last is still in the
/// cache. The descriptions lie in front of the bytes, so the address is all one needs to give back.
class buffer_pool {
 public:
    buffer_pool(std::uint32_t size, std::uint32_t keep) noexcept
        : size_(size), room_(static_cast<std::int32_t>(std::min(keep, 0x7fff'ffffu))) {}
    buffer_pool(const buffer_pool&) = delete;
    buffer_pool& operator=(const buffer_pool&) = delete;
    ~buffer_pool() {
        while (free_ != nullptr) {
            chunk* last = free_;
            free_ = last->next;
            discard(last);
        }
        RONDO_ASSERT(made_ == 0, "a received buffer outlives its loop");
    }

    std::uint32_t size() const noexcept { return size_; }

    /// Null when out of memory.
    chunk* take() noexcept {
        if (free_ == nullptr) [[unlikely]] {
            void* memory = std::malloc(header + size_);
            if (memory == nullptr) return nullptr;
            ++made_;
            auto* made = new (memory) chunk;
            made->data = static_cast<std::byte*>(memory) + header;
            return made;
        }
        chunk* taken = free_;
        free_ = taken->next;
        ++room_;
        return taken;
    }

    void give_back(chunk& back) noexcept {
        if (--room_ < 0) [[unlikely]] {
            room_ = 0;
            return discard(&back);
        }
        back.next = free_;
        free_ = &back;
    }
    void give_back(void* data) noexcept {
        give_back(*reinterpret_cast<chunk*>(static_cast<std::byte*>(data) - header));
    }

 private:
    void discard(chunk* last) noexcept {
        --made_;
        std::free(last);
    }

    static constexpr std::size_t header = 64;
    static_assert(sizeof(chunk) <= header);

    chunk* free_ = nullptr;
    std::uint32_t size_;
    std::int32_t room_;  // how many more it would keep
    std::size_t made_ = 0;
};

}  // namespace rondo::detail
