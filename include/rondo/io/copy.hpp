// copy: what comes out of one stream goes into another, one way.
//
//     const std::uint64_t size = co_await rondo::copy(upload, file, {.limit = content_length});
//
// Between two sockets the bytes do not come into the program's memory when there are many of them (splice(2)).
#pragma once

#include <rondo/io/detail/transfer.hpp>
#include <rondo/io/stream.hpp>
#include <rondo/task/task.hpp>

#include <cstddef>
#include <cstdint>

namespace rondo {

/// How to copy.
struct copy_options {
    /// It ends after so many bytes. By default it goes on to the end of the stream.
    std::uint64_t limit = detail::transfer_state::no_limit;
    /// At most so many bytes are read at once, from streams that lend no buffers, or when there is a limit.
    std::size_t chunk = 16 * 1024;
    /// Between two descriptor_streams, the kernel moves the bytes by itself, when there are many.
    bool splice = true;
};

/// Reads `from` to its end, or up to the limit, and writes all to `to`, which stays open; returns how many bytes.
/// `copied`, if given, is set to how many were written, however it ends. Both streams must outlive it; another task may
/// write `from` and read `to` meanwhile. Throws io_error, as reading and writing do, and bad_alloc.
/// Cancel, and when writing fails: what was read and not written goes back to `from`, if that is a descriptor_stream,
/// and is lost otherwise.
template <byte_reader From, byte_writer To>
[[nodiscard]] task<std::uint64_t> copy(From& from, To& to, copy_options options = {}, std::uint64_t* copied = nullptr) {
    std::uint64_t moved = 0;
    std::uint64_t spliced = 0;
    if (copied == nullptr) copied = &moved;
    *copied = 0;
    detail::transfer_state state{copied, &spliced, options.limit, options.chunk, detail::splice_switch(options.splice)};
    co_await detail::transfer(from, to, state, [] {});
    co_return *copied;
}

}  // namespace rondo
