// Bytes that have been read and not yet been taken.
#pragma once

#include <rondo/base/detail/config.hpp>

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

namespace rondo::detail {

/// A queue of bytes in a row: what comes is put behind, what is taken goes in front. It grows only when it is told to.
class RONDO_API byte_buffer {
 public:
    std::size_t size() const noexcept { return end_ - begin_; }
    bool empty() const noexcept { return begin_ == end_; }
    std::string_view text() const noexcept { return {reinterpret_cast<const char*>(memory_.get()) + begin_, size()}; }
    std::span<const std::byte> bytes() const noexcept { return {memory_.get() + begin_, size()}; }

    /// A place for at least `least` more bytes behind those that are there, and for all that is free anyway. Throws
    /// bad_alloc, and then nothing has changed. O(size()) when it has to move them.
    std::span<std::byte> room(std::size_t least);
    /// So many bytes have been put there.
    void filled(std::size_t count) noexcept { end_ += count; }
    void drop(std::size_t count) noexcept {
        begin_ += count;
        if (begin_ == end_) begin_ = end_ = 0;
    }

 private:
    std::unique_ptr<std::byte[]> memory_;
    std::size_t capacity_ = 0;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
};

}  // namespace rondo::detail
