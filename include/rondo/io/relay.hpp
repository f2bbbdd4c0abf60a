// relay: what comes out of one stream goes into another, and back.
//
//     tcp_stream there = co_await tcp_stream::connect(target);
//     const relay_result moved = co_await rondo::relay(here, there, {.idle = 5min});
//
// It is transparent: when one side ends its writing, so does the other, and the way back goes on (half-close). When a
// connection is reset, or cannot be written to any more, the other one is reset as well once it is closed, so that
// nobody takes a torn message for a whole one.
//
// Between two sockets the bytes do not come into the program's memory when there are many of them (splice(2)); a
// connection that is quiet, or moves little, holds no pipe for that.
#pragma once

#include <rondo/io/detail/transfer.hpp>
#include <rondo/io/stream.hpp>
#include <rondo/task/group.hpp>
#include <rondo/task/scope.hpp>
#include <rondo/task/suspend.hpp>
#include <rondo/task/task.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <system_error>

namespace rondo {

/// How to relay.
struct relay_options {
    /// The relay ends when for so long no byte has moved, either way. By default it never does.
    delay idle = duration::max();
    /// At most so many bytes are read at once, from streams that lend no buffers.
    std::size_t chunk = 16 * 1024;
    /// Between two descriptor_streams, the kernel moves the bytes by itself, when there are many.
    bool splice = true;
};

/// Why a relay has ended.
enum class relay_end : std::uint8_t {
    both_ended,  // each side has ended its writing, and the other was told
    failed,      // a stream has failed: see relay_result::error
    idle,        // nothing moved for too long
};

/// What a relay has done.
struct relay_result {
    relay_end how = relay_end::both_ended;
    std::uint64_t first_to_second = 0;  // bytes that were written to the second stream,
    std::uint64_t second_to_first = 0;  // and to the first
    std::uint64_t spliced = 0;          // how many of all these did not come into the program's memory
    std::error_code error;              // the code of the first failure,
    bool failed_on_first = false;       // and whether it was met on the first of the two streams
};

namespace detail {

/// What the two directions of a relay share.
class RONDO_API relay_state {
 public:
    relay_state(cancel_scope& scope, delay idle, relay_result& result) : scope_(scope), idle_(idle), result_(result) {
        moved();
    }

    /// A byte has moved: the idle limit begins anew. Throws bad_alloc.
    void moved();
    /// Notes a failure, unless it is not the first, and ends the relay.
    void failed(std::error_code why, bool on_first) noexcept;
    /// The line of the program that waits for the relay.
    static std::source_location called_at() noexcept;

 private:
    cancel_scope& scope_;
    delay idle_;
    relay_result& result_;
};

template <class S>
void reset_if_possible(S& stream) noexcept {
    if constexpr (requires { stream.try_reset_on_close(); }) static_cast<void>(stream.try_reset_on_close());
}

/// Moves what comes until the source has ended, and tells the target.
template <class From, class To>
task<> relay_one_way(From& from, To& to, bool from_is_first, transfer_state moves, relay_state& state) {
    bool ending = false;
    try {
        co_await transfer(from, to, moves, [&state] { state.moved(); });
        // The kernel tells of a reset once, to who asks first. If that was a write of the other direction, this end is
        // none: when its task has run, this one is cancelled.
        co_await immediate();
        ending = true;
        moves.reading = false;
        to.shutdown();
    } catch (const std::system_error& e) {
        const bool has_ended_itself = ending && e.code() == std::errc::not_connected;
        if (!has_ended_itself) state.failed(e.code(), from_is_first == moves.reading);
    }
}

}  // namespace detail

/// Moves bytes both ways between two streams until each has ended its writing and the other was told, a stream fails,
/// or nothing has moved for too long. The streams stay open and stay the caller's; after a failure those that can
/// (try_reset_on_close) will reset their connections when they are closed. What the streams throw is in the result; it
/// throws bad_alloc, and what is no system_error.
/// Cancel: both directions end. Bytes that were read from one stream and not written to the other go back to the first,
/// if it is a descriptor_stream, so another relay could go on; otherwise they are lost, which nobody can tell from
/// outside: so close or reset both. At the idle limit it is the same.
template <byte_stream First, byte_stream Second>
[[nodiscard]] task<relay_result> relay(First& first, Second& second, relay_options options = {}) {
    relay_result result;
    auto both = [&](cancel_scope& scope) -> task<> {
        detail::relay_state state(scope, options.idle, result);
        const auto moves = [&](std::uint64_t& counted) {
            return detail::transfer_state{&counted, &result.spliced, detail::transfer_state::no_limit, options.chunk,
                                          detail::splice_switch(options.splice)};
        };
        auto goes_forth = [&]() -> task<> {
            return detail::relay_one_way(first, second, true, moves(result.first_to_second), state);
        };
        auto two = [&](task_group& group) -> task<> {
            group.spawn(goes_forth, state.called_at()).discard();
            co_await detail::relay_one_way(second, first, false, moves(result.second_to_first), state);
        };
        co_await with_task_group(two);
    };
    const bool ran_to_its_end = co_await with_cancel_scope(both);
    if (result.error) {
        detail::reset_if_possible(first);
        detail::reset_if_possible(second);
    } else if (!ran_to_its_end) {
        result.how = relay_end::idle;
    }
    co_return result;
}

}  // namespace rondo
