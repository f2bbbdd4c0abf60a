// relay: what comes out of one stream goes into another, and back.
//
//     tcp_stream there = co_await tcp_stream::connect(target);
//     const relay_result moved = co_await rondo::relay(here, there, {.idle = 5min});
//
// It is transparent: when one side ends its writing, so does the other, and the way back goes on (half-close). When a
// connection is reset, or cannot be written to any more, the other one is reset as well once it is closed, so that
// nobody takes a torn message for a whole one.
#pragma once

#include <rondo/io/stream.hpp>
#include <rondo/task/group.hpp>
#include <rondo/task/scope.hpp>
#include <rondo/task/suspend.hpp>
#include <rondo/task/task.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <system_error>

namespace rondo {

/// How to relay.
struct relay_options {
    /// The relay ends when for so long no byte has moved, either way. By default it never does.
    delay idle = duration::max();
    /// At most so many bytes are read at once, from streams that lend no buffers.
    std::size_t chunk = 16 * 1024;
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
concept lends_buffers = requires(S& stream) {
    { stream.receive() } -> awaits_as<buffer>;
};

template <class S>
void reset_if_possible(S& stream) noexcept {
    if constexpr (requires { stream.try_reset_on_close(); }) static_cast<void>(stream.try_reset_on_close());
}

/// Counts what one write has taken, also when it is cancelled.
struct counted_write {
    explicit counted_write(std::uint64_t& total) noexcept : all(total) {}
    ~counted_write() { all += now; }
    counted_write(const counted_write&) = delete;
    counted_write& operator=(const counted_write&) = delete;

    std::uint64_t& all;
    std::size_t now = 0;
};

/// Moves what comes until the source has ended, and tells the target. A source that lends buffers holds none while
/// nothing comes.
template <class From, class To>
task<> relay_one_way(From& from, To& to, bool from_is_first, std::uint64_t& count, relay_state& state,
                     std::size_t chunk) {
    enum { reading, writing, ending } doing = reading;
    std::unique_ptr<std::byte[]> own;
    if constexpr (!lends_buffers<From>) own.reset(new std::byte[chunk]);
    try {
        for (;;) {
            doing = reading;
            buffer lent;
            bytes_view bytes;
            if constexpr (lends_buffers<From>) {
                lent = co_await from.receive();
                bytes = lent;
            } else {
                const std::size_t size = co_await from.read_some(writable_bytes(own.get(), chunk));
                bytes = bytes_view(own.get(), size);
            }
            if (bytes.size() == 0) break;
            state.moved();
            doing = writing;
            counted_write went_out(count);
            co_await to.write_all(bytes, &went_out.now);
            state.moved();
        }
        // The kernel tells of a reset once, to who asks first. If that was a write of the other direction, this end is
        // none: when its task has run, this one is cancelled.
        co_await immediate();
        doing = ending;
        to.shutdown();
    } catch (const std::system_error& e) {
        const bool has_ended_itself = doing == ending && e.code() == std::errc::not_connected;
        if (!has_ended_itself) state.failed(e.code(), from_is_first == (doing == reading));
    }
}

}  // namespace detail

/// Moves bytes both ways between two streams until each has ended its writing and the other was told, a stream fails,
/// or nothing has moved for too long. The streams stay open and stay the caller's; after a failure those that can
/// (try_reset_on_close) will reset their connections when they are closed. What the streams throw is in the result; it
/// throws bad_alloc, and what is no system_error.
/// Cancel: both directions end; bytes that were read from one stream and not written to the other are lost, which
/// nobody can tell from outside: so close or reset both.
template <byte_stream First, byte_stream Second>
[[nodiscard]] task<relay_result> relay(First& first, Second& second, relay_options options = {}) {
    relay_result result;
    auto both = [&](cancel_scope& scope) -> task<> {
        detail::relay_state state(scope, options.idle, result);
        auto goes_forth = [&]() -> task<> {
            return detail::relay_one_way(first, second, true, result.first_to_second, state, options.chunk);
        };
        auto two = [&](task_group& group) -> task<> {
            group.spawn(goes_forth, state.called_at()).discard();
            co_await detail::relay_one_way(second, first, false, result.second_to_first, state, options.chunk);
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
