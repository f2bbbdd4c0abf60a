// serve(listener, session): a server loop that a session's failure does not end.
#pragma once

#include <rondo/task/spawn.hpp>
#include <rondo/net/tcp.hpp>

#include <cstdint>
#include <type_traits>
#include <utility>

namespace rondo {

/// Trivially copyable on purpose.
struct serve_options {
    /// Sessions at the same time; further connections wait in the kernel's backlog. 0: four fifths of
    /// the descriptors this process, or simulated host, may have.
    std::uint32_t max_connections = 0;
    /// How long sessions may go on after the server was asked to stop; then they are cancelled.
    delay grace = std::chrono::seconds(10);
    /// SIGINT and SIGTERM ask it to stop; a second one cancels the sessions at once. One that is ignored when
    /// the server begins (nohup, a shell's `&`) stays ignored. In a world they are those of the host.
    bool stop_on_signals = true;
};

namespace detail {

/// Where sessions live: knows whose session is about to end, for the log.
struct session_scope : scope {
    using scope::scope;
    raw_address peer;
};

/// How serve() starts one session: `session` is the user's function, made known as a pointer.
struct session_starter {
    void (*start)(void* session, session_scope& home, std::source_location place, tcp_stream&& stream);
    void* session;
    std::source_location place;  // of the call of serve()
};

/// The block of a session. It tells its scope the peer while it still has the stream.
template <class Block>
struct session_block {
    static void note_peer(fiber& f) noexcept {
        static_cast<session_scope&>(*f.inside).peer = std::get<1>(Block::from(f).call).peer().raw();
    }
    static void start(fiber& f) noexcept {
        note_peer(f);  // the call itself may fail
        Block::start(f);
    }
    static void finish(fiber& f, promise_base& root) noexcept {
        note_peer(f);
        Block::finish(f, root);
    }
    static constexpr auto table = [] {
        auto changed = Block::table;
        changed.start = &start;
        changed.finish = &finish;
        return changed;
    }();
};

RONDO_API task<> serve(tcp_listener& listener, session_starter starter, serve_options options);

/// Keeps the function for as long as the server runs.
template <class Session>
task<> serve_with(tcp_listener& listener, Session session, serve_options options,
                  std::source_location place) {
    const session_starter starter{
        [](void* s, session_scope& home, std::source_location at, tcp_stream&& stream) {
            auto& block = make_child(home, at, *static_cast<Session*>(s), std::move(stream));
            block.vt = &session_block<std::remove_reference_t<decltype(block)>>::table;
        },
        &session, place};
    co_await serve(listener, starter, options);
}

}  // namespace detail

/// Accepts connections from `listener` and runs `session(stream)` for each, as a task of its own that
/// owns the stream (it may take it by reference or by value). A session that throws ends only
/// itself: a peer that went away is logged at debug level, anything else as a warning, with the peer and
/// the line that called serve(). A session for
/// which there is no memory costs its connection: that is logged, and accepting pauses (5 ms doubling
/// to 1 s).
///
/// Ends, after a signal (see serve_options), when the last session has; throws io_error if the
/// listener fails. Cancel: stops accepting, cancels the sessions, and waits for them to unwind.
template <class Session>
task<> serve(tcp_listener& listener, Session&& session, serve_options options = {},
             std::source_location place = std::source_location::current()) {
    RONDO_ASSERT_SAFE_CALLABLE(Session);
    return detail::serve_with(listener, std::decay_t<Session>(std::forward<Session>(session)), options,
                              place);
}

}  // namespace rondo
