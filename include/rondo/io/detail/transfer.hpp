// One direction of bytes: what copy() is made of, and each half of a relay.
#pragma once

#include <rondo/io/detail/splice.hpp>
#include <rondo/io/stream.hpp>
#include <rondo/task/task.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>

namespace rondo::detail {

template <class S>
concept lends_buffers = requires(S& stream) {
    { stream.receive() } -> awaits_as<buffer>;
};

/// How far one direction is, and how it goes on.
struct transfer_state {
    static constexpr std::uint64_t no_limit = std::numeric_limits<std::uint64_t>::max();

    std::uint64_t* moved;    // bytes that were written
    std::uint64_t* spliced;  // how many of these went through a pipe
    std::uint64_t left;      // how many more may be moved
    std::size_t chunk;       // so many are read at once, from streams that lend no buffers
    splice_switch splicing;
    bool reading = true;  // what it does, or what has failed; else it writes
};

/// Counts what one write has taken, also when it is cancelled or fails.
class counted_write {
 public:
    explicit counted_write(transfer_state& state) noexcept : state_(state) {}
    counted_write(const counted_write&) = delete;
    counted_write& operator=(const counted_write&) = delete;
    ~counted_write() {
        *state_.moved += written;
        state_.left -= written;
    }

    std::size_t written = 0;

 private:
    transfer_state& state_;
};

/// One write of bytes that have come out of a stream. What it has not taken goes back, if that is a descriptor_stream.
template <class From>
class reversible_write : public counted_write {
 public:
    reversible_write(transfer_state& state, From&, bytes_view) noexcept : counted_write(state) {}
};
template <bare_descriptor_stream From>
class reversible_write<From> : public counted_write {
 public:
    reversible_write(transfer_state& state, From& from, bytes_view to_write) noexcept
        : counted_write(state), from_(from), bytes_(to_write) {}
    ~reversible_write() {
        const auto* const all = static_cast<const std::byte*>(bytes_.data());
        if (written < bytes_.size()) from_.put_back({all + written, bytes_.size() - written});
    }

 private:
    bytes_origin from_;
    bytes_view bytes_;
};

/// Moves what comes until the source has ended, or the limit is reached, and calls `progress` when bytes have moved. A
/// source that lends buffers holds none while nothing comes, and no pipe either.
template <class From, class To, class Progress>
task<> transfer(From& from, To& to, transfer_state& state, Progress progress) {
    constexpr bool may_splice = bare_descriptor_stream<From> && bare_descriptor_stream<To>;
    const bool limited = state.left != transfer_state::no_limit;
    std::unique_ptr<std::byte[]> own;
    if (limited || !lends_buffers<From>) own.reset(new std::byte[state.chunk]);
    while (state.left != 0) {
        state.reading = true;
        if constexpr (may_splice) {
            if (state.splicing.on()) {
                const std::size_t most = static_cast<std::size_t>(std::min<std::uint64_t>(state.left, transfer_max));
                piped_bytes piped = co_await splice_in_awaiter(from, most, state.splicing);
                const bool came = piped.size() != 0;
                if (came) progress();
                state.reading = !came;
                while (piped.size() != 0) {
                    const std::size_t gone = co_await splice_out_awaiter(to, piped, state.splicing);
                    if (gone == 0) break;  // what is left goes back, and is received again
                    *state.moved += gone;
                    *state.spliced += gone;
                    state.left -= gone;
                    progress();
                }
                if (came) continue;
            }
        }
        buffer lent;
        bytes_view bytes;
        bool borrows = false;
        if constexpr (lends_buffers<From>) {
            if (!limited) {
                borrows = true;
                lent = co_await from.receive();
                bytes = lent;
            }
        }
        if (!borrows) {
            const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(state.left, state.chunk));
            const std::size_t size = co_await from.read_some(writable_bytes(own.get(), most));
            bytes = bytes_view(own.get(), size);
        }
        if (bytes.size() == 0) co_return;
        progress();
        state.splicing.came(bytes.size());
        state.reading = false;
        reversible_write<From> write(state, from, bytes);
        co_await to.write_all(bytes, &write.written);
        progress();
    }
}

}  // namespace rondo::detail
