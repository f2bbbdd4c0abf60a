// serve(listener, session): a server loop that a session's failure does not end.
#pragma once

#include <rondo/spawn.hpp>
#include <rondo/tcp.hpp>

#include <cstdint>
#include <type_traits>
#include <utility>

namespace rondo {

/// Trivially copyable on purpose.
struct serve_options {
    /// Sessions at the same time; further connections wait in the kernel's backlog. 0: four fifths of
    /// the descriptors this process may have.
    std::uint32_t max_connections = 0;
    /// How long sessions may go on after the server was asked to stop; then they are cancelled.
    delay grace = std::chrono::seconds(10);
    /// SIGINT and SIGTERM ask it to stop; a second one cancels the sessions at once.
    bool stop_on_signals = true;
};

namespace detail {

/// How serve() starts one session: `session` is the user's function, made known as a pointer.
struct session_starter {
    void (*start)(void* session, scope& home, tcp_stream&& stream);
    void* session;
};

RONDO_API task<> serve(tcp_listener& listener, session_starter starter, serve_options options);

/// Keeps the function for as long as the server runs.
template <class Session>
task<> serve_with(tcp_listener& listener, Session session, serve_options options) {
    const session_starter starter{
        [](void* s, scope& home, tcp_stream&& stream) {
            make_child(home, {}, *static_cast<Session*>(s), std::move(stream));
        },
        &session};
    co_await serve(listener, starter, options);
}

}  // namespace detail

/// Accepts connections from `listener` and runs `session(stream)` for each, as a task of its own that
/// owns the stream (it may take it by reference or by value). A session that throws ends only
/// itself: a peer that went away is logged at debug level, anything else as a warning. A session for
/// which there is no memory costs its connection: that is logged, and accepting pauses (5 ms doubling
/// to 1 s).
///
/// Ends, after a signal (see serve_options), when the last session has; throws io_error if the
/// listener fails. Cancel: stops accepting, cancels the sessions, and waits for them to unwind.
template <class Session>
task<> serve(tcp_listener& listener, Session&& session, serve_options options = {}) {
    RONDO_ASSERT_SAFE_CALLABLE(Session);
    return detail::serve_with(listener, std::decay_t<Session>(std::forward<Session>(session)), options);
}

}  // namespace rondo
