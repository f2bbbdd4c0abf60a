// serve(listener, session): a server loop that a session's failure does not end.
#pragma once

#include <rondo/net/detail/sessions.hpp>
#include <rondo/net/serve_options.hpp>
#include <rondo/net/tcp.hpp>
#include <rondo/sync/event.hpp>
#include <rondo/task/spawn.hpp>

#include <array>
#include <concepts>
#include <iterator>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace rondo {

namespace detail {
struct stop_request;
}  // namespace detail

/// Stops a server, tells its sessions of it, and counts. For one serve() at a time, which it must outlive; for the
/// thread of its loop.
class RONDO_API server_control {
 public:
    server_control() noexcept = default;
    ~server_control();
    server_control(const server_control&) = delete;
    server_control& operator=(const server_control&) = delete;

    /// Stop accepting and close the listeners; sessions may go on for serve_options::grace and are then cancelled;
    /// serve() returns when the last has ended. The same as a first signal. Does not wait. Before serve() runs: it will
    /// return at once.
    void stop() noexcept;
    /// Cancels the sessions now, as a second signal does.
    void cancel_sessions() noexcept;

    bool stopping() const noexcept { return stopping_.is_set(); }
    /// For sessions that want to end in their own way: goes on when the server is asked to stop, by stop() or by a
    /// signal. Cancel: nothing is lost.
    [[nodiscard]] event::wait_awaiter wait_stopping() noexcept { return stopping_.wait(); }

    serve_stats stats() const noexcept;

 private:
    friend struct detail::stop_request;

    event stopping_{"server stopping"};
    detail::stop_request* server_ = nullptr;  // the serve() that runs
    serve_stats stats_;
};

/// What serve() takes: `accept()` waits for a connection and gives a stream. If there is a `close()`, serve() calls it
/// when it is asked to stop.
template <class L>
concept stream_listener = requires(L& listener) {
    { detail::awaited(listener.accept()) } -> std::move_constructible;
};

namespace detail {

/// Serves `listeners`; `session` is the user's function, for their `accept`.
RONDO_API task<> serve(std::span<const served_listener> listeners, void* session, serve_options options,
                       std::source_location place);

/// Keeps the function for as long as the server runs.
template <class Listeners, class Session>
task<> serve_with(Listeners listeners, Session session, serve_options options, std::source_location place) {
    const std::span<const served_listener> all(listeners);
    co_await serve(all, &session, options, place);
}

template <class Session, class Range>
std::vector<served_listener> listeners_in(Range& range) {
    std::vector<served_listener> all;
    for (auto& each : range) all.push_back(served_listener::of<Session>(each));
    return all;
}

template <class R>
concept listener_range = !stream_listener<R> && requires(R& range) {
    requires stream_listener<std::remove_reference_t<decltype(*std::begin(range))>>;
    std::end(range);
};

}  // namespace detail

/// Accepts connections from `listener`, of TCP or whatever else gives streams, and runs `session(stream)` for each, as
/// a task of its own that owns the stream (it may take it by reference or by value). A session that throws ends only
/// itself: a peer that went away is logged at debug level, a session that one of the limits ended at info level,
/// anything else as a warning, with the peer and the line that called serve(). A session for which there is no memory
/// costs its connection: that is logged, and accepting pauses (5 ms doubling to 1 s).
///
/// Ends, after a signal or server_control::stop(), when the last session has; the listener is closed at the stop,
/// unless the options keep it. Throws io_error if the listener fails, or (operation_not_supported) if there is an
/// idle_limit or a write_stall_limit and the streams are not those of TCP: of others nobody counts the bytes. That it
/// stops is in the log, at level info: "stopping: 3 sessions, 10 s"; that sessions had to be cancelled is a warning.
/// The listener must outlive this. Cancel: stops accepting, cancels the sessions, and waits for them to unwind; the
/// listener stays open.
template <stream_listener Listener, class Session>
task<> serve(Listener& listener, Session&& session, serve_options options = {},
             std::source_location place = std::source_location::current()) {
    RONDO_ASSERT_SAFE_CALLABLE(Session);
    using function = std::decay_t<Session>;
    const std::array<detail::served_listener, 1> one{detail::served_listener::of<function>(listener)};
    return detail::serve_with(one, function(std::forward<Session>(session)), options, place);
}

/// Serves several listeners as one server: a vector, an array or a span of them, whose elements stay where they are.
/// The limits are for all of them together. If one fails, that is the end. Throws bad_alloc, too.
template <detail::listener_range Listeners, class Session>
task<> serve(Listeners& listeners, Session&& session, serve_options options = {},
             std::source_location place = std::source_location::current()) {
    RONDO_ASSERT_SAFE_CALLABLE(Session);
    using function = std::decay_t<Session>;
    return detail::serve_with(detail::listeners_in<function>(listeners), function(std::forward<Session>(session)),
                              options, place);
}
template <stream_listener Listener, class Session>
task<> serve(std::span<Listener> listeners, Session&& session, serve_options options = {},
             std::source_location place = std::source_location::current()) {
    RONDO_ASSERT_SAFE_CALLABLE(Session);
    using function = std::decay_t<Session>;
    return detail::serve_with(detail::listeners_in<function>(listeners), function(std::forward<Session>(session)),
                              options, place);
}

/// Serves listeners of several kinds as one server: `serve(std::tie(v4, local), session)`. The session is called with
/// the streams of each: it has a parameter that takes them all, as `auto& peer`.
template <stream_listener... Listeners, class Session>
task<> serve(std::tuple<Listeners&...> listeners, Session&& session, serve_options options = {},
             std::source_location place = std::source_location::current()) {
    RONDO_ASSERT_SAFE_CALLABLE(Session);
    using function = std::decay_t<Session>;
    const auto all = std::apply(
        [](Listeners&... each) {
            return std::array<detail::served_listener, sizeof...(Listeners)>{
                detail::served_listener::of<function>(each)...};
        },
        listeners);
    return detail::serve_with(all, function(std::forward<Session>(session)), options, place);
}

}  // namespace rondo
