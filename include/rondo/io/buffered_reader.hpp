// buffered_reader: lines, and whatever else has an end that one must look for, from any stream of bytes.
//
//     rondo::buffered_reader in(peer);
//     while (auto line = co_await in.read_line()) co_await handle(*line);
//
// It asks the stream for as much as its buffer holds, and gives it out in the pieces that are asked for. What is in
// the buffer and has not been taken is never lost: not when a read is cancelled, and not when it fails. So the next
// read goes on where the last one has taken something, and a line that a time limit cut in two is still whole.
#pragma once

#include <rondo/base/bytes.hpp>
#include <rondo/io/detail/byte_buffer.hpp>
#include <rondo/io/stream.hpp>
#include <rondo/task/task.hpp>

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace rondo {

namespace detail {
/// Says that there was no end within so many bytes. As an io_error(message_size).
[[noreturn]] RONDO_API void throw_too_long(const char* operation, std::size_t limit);
}  // namespace detail

/// Reads `Stream`, which must outlive it, through a buffer of its own. One task at a time. Whoever reads the stream
/// past it misses what is in the buffer; `buffered()` shows that. It is a byte_reader itself.
/// What is awaited throws what the stream's read_some throws, and bad_alloc; each call has a frame of its own.
template <byte_reader Stream>
class buffered_reader {
 public:
    static constexpr std::size_t default_capacity = 16 * 1024;  // of the buffer, in bytes
    static constexpr std::size_t default_limit = 64 * 1024;     // of a line, in bytes

    /// The buffer is made by the first read, and grows beyond `capacity` only for a read that needs more.
    explicit buffered_reader(Stream& stream, std::size_t capacity = default_capacity) noexcept
        : stream_(&stream), capacity_(capacity != 0 ? capacity : 1) {}

    /// The next line without its end, "\n" or "\r\n"; the last one need not have an end. Empty at the end of the
    /// stream. A line of more than `limit` bytes throws io_error(message_size), and stays in the buffer.
    /// Cancel: nothing is lost.
    [[nodiscard]] task<std::optional<std::string>> read_line(std::size_t limit = default_limit) {
        std::optional<std::string> line;
        line.emplace();
        const bool found = co_await read_line(*line, limit);
        if (!found) line.reset();
        co_return line;
    }
    /// Reads a line into a string that is used again. False at the end of the stream; then it is empty.
    [[nodiscard]] task<bool> read_line(std::string& into, std::size_t limit = default_limit) {
        into.clear();
        constexpr std::size_t most = std::string::npos - 2;
        const std::size_t size = co_await find("\n", less(limit, most) + 2, "read_line");
        std::string_view line = buffer_.text().substr(0, size);
        if (line.ends_with('\n')) line.remove_suffix(1);
        if (size != line.size() && line.ends_with('\r')) line.remove_suffix(1);
        if (line.size() > limit) detail::throw_too_long("read_line", limit);
        into.assign(line);
        buffer_.drop(size);
        co_return size != 0;
    }

    /// All bytes up to and with `delimiter`, which is not empty; without it only at the end of the stream: then it
    /// is the rest, and empty if there is none. More than `limit` bytes throw io_error(message_size), and stay in the
    /// buffer. `delimiter` must stay valid until this ends. Cancel: nothing is lost.
    [[nodiscard]] task<std::string> read_until(std::string_view delimiter, std::size_t limit = default_limit) {
        RONDO_ASSERT(!delimiter.empty(), "read_until needs something to look for");
        const std::size_t size = co_await find(delimiter, limit, "read_until");
        std::string text(buffer_.text().substr(0, size));
        buffer_.drop(size);
        co_return text;
    }

    /// So many bytes; fewer only at the end of the stream. Cancel: nothing is lost.
    [[nodiscard]] task<std::string> read_exactly(std::size_t count) {
        const std::size_t there = co_await fill(count);
        std::string text(buffer_.text().substr(0, there));
        buffer_.drop(there);
        co_return text;
    }
    /// Until `into` is full; how many, less only at the end of the stream. Cancel: nothing is lost; what has arrived
    /// is kept, and the first of the next read.
    [[nodiscard]] task<std::size_t> read_exactly(writable_bytes into) {
        const std::size_t there = co_await fill(into.size());
        co_return take(into, there);
    }
    /// At least one byte, 0 only at the end of the stream or for an empty place. What is larger than the buffer goes
    /// past it when that is empty. Cancel: nothing is lost.
    [[nodiscard]] task<std::size_t> read_some(writable_bytes into) {
        if (into.size() == 0) co_return 0;
        if (buffer_.empty() && into.size() >= capacity_) {
            const std::size_t got = co_await stream_->read_some(into);
            co_return got;
        }
        co_await fill(1);
        co_return take(into, buffer_.size());
    }

    /// Waits until at least `least` bytes are in the buffer, or the stream has ended, and shows what is there without
    /// taking it. Valid until the next read or drop(). Cancel: nothing is lost.
    [[nodiscard]] task<std::span<const std::byte>> peek(std::size_t least = 1) {
        co_await fill(least);
        co_return buffer_.bytes();
    }
    /// What is in the buffer now, likewise.
    std::span<const std::byte> buffered() const noexcept { return buffer_.bytes(); }
    /// Takes so many bytes out of the buffer, at most buffered().size().
    void drop(std::size_t count) noexcept {
        RONDO_ASSERT(count <= buffer_.size(), "there are not so many bytes in the buffer");
        buffer_.drop(count);
    }

    Stream& stream() const noexcept { return *stream_; }

 private:
    /// std::min without <algorithm>, which costs every program that includes this a tenth of its time to compile.
    static constexpr std::size_t less(std::size_t a, std::size_t b) noexcept { return a < b ? a : b; }

    /// Reads until so many bytes are in the buffer; how many of them are, fewer only at the end.
    task<std::size_t> fill(std::size_t wanted) {
        while (buffer_.size() < wanted) {
            const bool more = co_await read_more(wanted - buffer_.size());
            if (!more) break;
        }
        co_return less(wanted, buffer_.size());
    }

    /// How many bytes lie before the end of the first `delimiter`; all there are if the stream ends before.
    task<std::size_t> find(std::string_view delimiter, std::size_t limit, const char* operation) {
        std::size_t looked_at = 0;
        for (;;) {
            const std::string_view text = buffer_.text();
            const std::size_t at = text.find(delimiter, looked_at);
            if (at != text.npos && at + delimiter.size() <= limit) co_return at + delimiter.size();
            if (at != text.npos || text.size() >= limit) detail::throw_too_long(operation, limit);
            looked_at = text.size() - less(text.size(), delimiter.size() - 1);
            const bool more = co_await read_more(1);
            if (!more) co_return buffer_.size();
        }
    }

    /// At least one byte more, `hoped` if they are there at once; false at the end of the stream.
    task<bool> read_more(std::size_t hoped) {
        const std::size_t usual = buffer_.size() < capacity_ ? capacity_ - buffer_.size() : 1;
        const std::size_t most = less(hoped, 16 * capacity_);
        const std::span<std::byte> room = buffer_.room(most < usual ? usual : most);
        const std::size_t got = co_await stream_->read_some(room);
        buffer_.filled(got);
        co_return got != 0;
    }

    std::size_t take(writable_bytes into, std::size_t count) noexcept {
        count = less(count, into.size());
        if (count != 0) std::memcpy(into.data(), buffer_.bytes().data(), count);
        buffer_.drop(count);
        return count;
    }

    Stream* stream_;
    std::size_t capacity_;
    detail::byte_buffer buffer_;
};

}  // namespace rondo
