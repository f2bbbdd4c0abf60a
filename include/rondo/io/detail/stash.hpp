// A stash keeps what had arrived for a read that did not take it.
#pragma once

#include <rondo/base/detail/config.hpp>
#include <rondo/base/detail/take.hpp>

#include <rondo/io/owned_descriptor.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace rondo::detail {

/// Bytes, or an error, that a cancelled read_exactly or a losing arm of select_one() has left behind: the next read
/// of the stream gets them first. Descriptors that came with them belong to the first byte: whoever reads that gets
/// them, or closes them, if it has not asked for any. An empty one is a null pointer.
///
/// A read that succeeds must not have a gap in front of it. So a stash that has no memory for what it must keep is
/// poisoned: every read fails from then on.
class RONDO_API stash {
 public:
    stash() noexcept = default;
    stash(stash&& other) noexcept : kept_(detail::take(other.kept_)) {}
    stash& operator=(stash&& other) noexcept {
        replace(detail::take(other.kept_));
        return *this;
    }
    ~stash() { clear(); }

    bool empty() const noexcept { return kept_ == nullptr; }
    void clear() noexcept { replace(nullptr); }

    /// Keeps a copy of the bytes, and takes the descriptors over. The stash is empty before.
    void keep(const void* bytes, std::size_t count, std::span<owned_descriptor> with = {}) noexcept;
    /// A place for so many bytes, which come before those that are kept already. Null when there is no memory for them:
    /// then it is poisoned.
    void* put_back(std::size_t count) noexcept;
    /// The next read, and only that one, fails with this negative errno. The stash is empty before.
    void keep_error(std::int32_t error) noexcept;
    /// Every read fails with -ENOMEM, for ever.
    void poison() noexcept;

    /// What a read of `size` bytes gets: how many were copied to `into`, or the negative errno. It is not empty.
    std::int32_t take(void* into, std::size_t size) noexcept;
    /// The same of a read that asks for descriptors, and how many there were. -EMSGSIZE: there is no place for them,
    /// and they are closed; the bytes stay.
    std::int32_t take(void* into, std::size_t size, std::span<owned_descriptor> places, std::uint16_t& count) noexcept;
    /// All bytes, in memory from malloc: how many, or the negative errno. It is not empty.
    std::int32_t take_all(void*& bytes) noexcept;

 private:
    struct content;
    static content poisoned;

    void replace(content* with) noexcept {
        if (content* const old = detail::take(kept_, with)) release(old);
    }
    std::int32_t take_error() noexcept;
    static void release(content* what) noexcept;

    content* kept_ = nullptr;
};

}  // namespace rondo::detail
