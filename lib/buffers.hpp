// Buffers that `borrow` lends out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace rondo::detail {

/// A buffer, and the bytes in it nobody has taken yet.
struct chunk {
    static constexpr std::uint16_t heap = 0xffff;  // `id` of a buffer that is in no ring

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
    buffer_pool(std::uint32_t size, std::uint32_t keep) noexcept : size_(size), keep_(keep) {}
    buffer_pool(const buffer_pool&) = delete;
    buffer_pool& operator=(const buffer_pool&) = delete;
    ~buffer_pool() {
        while (free_ != nullptr) {
            chunk* last = free_;
            free_ = last->next;
            std::free(last);
        }
    }

    std::uint32_t size() const noexcept { return size_; }

    /// Null when out of memory.
    chunk* take() noexcept {
        if (free_ == nullptr) [[unlikely]] {
            void* memory = std::malloc(header + size_);
            if (memory == nullptr) return nullptr;
            auto* made = new (memory) chunk;
            made->data = static_cast<std::byte*>(memory) + header;
            return made;
        }
        chunk* taken = free_;
        free_ = taken->next;
        --kept_;
        return taken;
    }

    void give_back(chunk& back) noexcept {
        if (kept_ == keep_) [[unlikely]]
            return std::free(&back);
        back.next = free_;
        free_ = &back;
        ++kept_;
    }
    void give_back(void* data) noexcept {
        give_back(*reinterpret_cast<chunk*>(static_cast<std::byte*>(data) - header));
    }

 private:
    static constexpr std::size_t header = 64;
    static_assert(sizeof(chunk) <= header);

    chunk* free_ = nullptr;
    std::uint32_t size_;
    std::uint32_t keep_;
    std::uint32_t kept_ = 0;
};

}  // namespace rondo::detail
