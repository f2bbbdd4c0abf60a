// An array of plain data in memory from realloc: a million entries grow in place (mremap) where a
// vector would copy them and leave holes behind.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <type_traits>

namespace rondo::detail {

template <class T>
class plain_array {
    static_assert(std::is_trivially_copyable_v<T>);

 public:
    plain_array() noexcept = default;
    plain_array(const plain_array&) = delete;
    plain_array& operator=(const plain_array&) = delete;
    ~plain_array() { std::free(items_); }

    T& operator[](std::size_t i) const noexcept { return items_[i]; }
    std::size_t capacity() const noexcept { return capacity_; }

    /// What is added is not initialised. False: no memory, and nothing has changed.
    bool resize(std::size_t wanted) noexcept {
        void* memory = std::realloc(static_cast<void*>(items_), wanted * sizeof(T));
        if (memory == nullptr) return false;
        items_ = static_cast<T*>(memory);
        capacity_ = wanted;
        return true;
    }
    void clear() noexcept {
        std::free(items_);
        items_ = nullptr;
        capacity_ = 0;
    }
    bool grow() noexcept { return resize(capacity_ == 0 ? 64 : capacity_ * 2); }

 private:
    T* items_ = nullptr;
    std::size_t capacity_ = 0;
};

}  // namespace rondo::detail
