// A borrowed receive buffer: bytes that are already here, in memory of the backend's.
#pragma once

#include <rondo/base/detail/take.hpp>
#include <rondo/loop/detail/scheduler.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace rondo {

namespace detail {
class borrow_awaiter;
}

/// What descriptor_stream::receive() gives: move-only; the destructor gives the buffer back. It must not
/// outlive its loop, and holding many of them keeps that much memory. Empty: end of stream.
class RONDO_API buffer {
 public:
    buffer() noexcept = default;
    buffer(detail::scheduler& home, void* data, std::uint32_t size, std::uint16_t id) noexcept
        : loop_(&home), data_(static_cast<std::byte*>(data)), size_(size), id_(id) {}
    buffer(buffer&& other) noexcept
        : loop_(detail::take(other.loop_)),
          data_(detail::take(other.data_)),
          size_(detail::take(other.size_)),
          id_(other.id_) {}
    buffer& operator=(buffer other) noexcept {
        detail::trade(loop_, other.loop_);
        detail::trade(data_, other.data_);
        detail::trade(size_, other.size_);
        detail::trade(id_, other.id_);
        return *this;
    }
    ~buffer() {
        if (loop_ != nullptr) give_back();
    }

    bool empty() const noexcept { return size_ == 0; }
    std::size_t size() const noexcept { return size_; }
    const std::byte* data() const noexcept { return data_; }
    std::byte* data() noexcept { return data_; }
    const std::byte* begin() const noexcept { return data_; }
    const std::byte* end() const noexcept { return data_ + size_; }

    std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
    std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data_), size_}; }
    operator std::span<const std::byte>() const noexcept { return bytes(); }  // NOLINT(*-explicit-*)

 private:
    friend class detail::borrow_awaiter;
    static constexpr std::uint16_t from_stash = 0xfffe;  // plain malloc, not the backend's

    void give_back() noexcept {
        if (id_ == from_stash) return free_stash();
        loop_->io().give_back(data_, size_, id_);
    }
    void free_stash() noexcept;

    detail::scheduler* loop_ = nullptr;
    std::byte* data_ = nullptr;
    std::uint32_t size_ = 0;
    std::uint16_t id_ = 0;
};

}  // namespace rondo
