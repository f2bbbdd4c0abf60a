// What reads and writes take: bytes in a row, whatever holds them and whatever it calls them.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>

namespace rondo {
namespace detail {

template <class T>
concept byte_like = std::is_same_v<T, std::byte> || std::is_same_v<T, char> || std::is_same_v<T, unsigned char> ||
                    std::is_same_v<T, signed char>;

/// std::string, std::vector<char>, std::array<std::uint8_t, 4>, std::span<std::byte>, buffer ...
template <class R>
concept byte_range = requires(R& r) {
    std::size(r);
    requires byte_like<std::remove_cv_t<std::remove_pointer_t<decltype(std::data(r))>>>;
};

/// A constant one may be a literal, whose last character is the zero that ends it.
template <class R>
concept char_array = std::is_array_v<R> && std::is_same_v<std::remove_cv_t<std::remove_extent_t<R>>, char>;
template <class P>
concept c_string = std::is_same_v<P, const char*> || std::is_same_v<P, char*>;

}  // namespace detail

/// Bytes that are only read, as a parameter: any contiguous range of std::byte, char, signed or
/// unsigned char, or a C string. It refers to them; a value.
///
/// What is a text in C++ is one here: of a literal, and of any const char array that ends with a zero, all but
/// that zero, also behind another one; of a const char* what lies before the first zero. A char array that can be
/// written is a buffer, all of which counts: nothing is left out because a zero is in it. For the text in
/// one say std::string_view(buffer).
class bytes_view {
 public:
    bytes_view() noexcept = default;
    template <detail::byte_range R>
        requires(!detail::char_array<R>)
    bytes_view(const R& range) noexcept : data_(std::data(range)), size_(std::size(range)) {}  // NOLINT(*-explicit-*)
    template <detail::char_array R>
    bytes_view(R& array) noexcept : data_(array), size_(std::size(array)) {  // NOLINT(*-explicit-*)
        if (std::is_const_v<std::remove_reference_t<decltype(array[0])>> && array[size_ - 1] == '\0') --size_;
    }
    template <detail::c_string P>
    bytes_view(const P& text) noexcept : bytes_view(std::string_view(text)) {}  // NOLINT(*-explicit-*)
    template <detail::byte_like T>
    bytes_view(const T* data, std::size_t size) noexcept : data_(data), size_(size) {}

    const void* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

 private:
    const void* data_ = nullptr;
    std::size_t size_ = 0;
};

/// A place for bytes, as a parameter: the same ranges, unless they are const or about to die.
class writable_bytes {
 public:
    writable_bytes() noexcept = default;
    template <detail::byte_range R>
    writable_bytes(R& range) noexcept  // NOLINT(*-explicit-*)
        requires(!std::is_const_v<std::remove_pointer_t<decltype(std::data(range))>>)
        : data_(std::data(range)), size_(std::size(range)) {}
    template <detail::byte_like T, std::size_t Extent>
    writable_bytes(std::span<T, Extent>&& range) noexcept  // NOLINT(*-explicit-*)
        : data_(range.data()), size_(range.size()) {}
    template <detail::byte_like T>
    writable_bytes(T* data, std::size_t size) noexcept : data_(data), size_(size) {}

    void* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

 private:
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace rondo
