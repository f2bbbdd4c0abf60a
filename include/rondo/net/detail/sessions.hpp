// The sessions of a server: who may begin one, how the acceptors go round, and what becomes of them all. What programs
// see is in serve.hpp.
#pragma once

#include <rondo/io/stream.hpp>
#include <rondo/net/serve_options.hpp>
#include <rondo/task/attempt.hpp>
#include <rondo/task/detail/wait_queue.hpp>
#include <rondo/task/spawn.hpp>
#include <rondo/task/suspend.hpp>
#include <rondo/task/wait.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <new>
#include <source_location>
#include <span>
#include <type_traits>
#include <utility>

namespace rondo::detail {

struct session_limits;

/// Where sessions live. Their failures are logged, and one that ends makes room.
class RONDO_API sessions : public scope {
 public:
    sessions(scheduler& l, const serve_options& options, serve_stats& counts, std::source_location place);
    ~sessions();

    // --- what an acceptor asks

    bool waits_for_room() const noexcept { return !refuses_ && !has_room(); }
    /// So many were accepted in this turn that the others have theirs first.
    bool turn_is_spent() const noexcept { return accepted_in_turn_ >= accepts_per_turn_ && is_same_turn(); }
    /// Of a connection that was accepted. False: it is refused. Throws bad_alloc, and what check_descriptor() throws.
    bool admits(const raw_address& peer, int descriptor);
    /// What became of one that was admitted.
    void begun(fiber& session) noexcept;
    void not_begun() noexcept;
    /// Memory has run out: how long to pause. It is logged.
    duration pause_after(duration latest, bool had_accepted) noexcept;

    // --- what the server asks

    /// Throws io_error when the options have limits that cannot be kept for what this listener, or stream, is.
    void check_descriptor(int descriptor) const;
    std::source_location place() const noexcept { return place_; }

    raw_address peer;  // whose session is about to end, for the log

 private:
    friend class room_wait;
    static void ended(scope& base, fiber& f) noexcept;
    bool has_room() const noexcept { return size() < limit_; }
    bool is_same_turn() const noexcept;

    serve_stats& counts_;
    std::size_t limit_;
    session_limits* const limits_;  // its own; null: there are none but that one
    wait_queue<> waiting_;  // acceptors, for room
    std::uint64_t turn_ = 0;  // of the loop, in which the latest was accepted
    std::uint32_t accepted_in_turn_ = 0;
    std::uint32_t accepts_per_turn_;
    bool refuses_;
    std::source_location place_;  // of the call of serve()
};

/// An acceptor waits until a session has ended. All that wait go on then: who finds a client first has the room.
class RONDO_API room_wait : public wait_op, public awaits<room_wait, wait_manner::prompt> {
 public:
    explicit room_wait(sessions& all) noexcept : wait_op(table), all_(all) {}

    bool start() noexcept {
        all_.waiting_.push(*this);
        return true;
    }
    void await_resume() const {
        if (result < 0) [[unlikely]]
            throw_failure(result, "serve");
    }

 private:
    static void cancel(op& o) noexcept;
    static void describe(const op& o, char* text, std::size_t size) noexcept;
    static const op_vtable table;
    sessions& all_;
};

// --- a listener, whatever its kind

template <class Listener>
using served_stream = std::remove_cvref_t<decltype(detail::awaited(std::declval<Listener&>().accept()))>;

template <class Stream>
concept has_peer = requires(const Stream& stream) {
    { stream.peer().raw() } -> std::convertible_to<raw_address>;
};

template <class Stream>
raw_address peer_of(const Stream& stream) noexcept {
    if constexpr (has_peer<Stream>) {
        return stream.peer().raw();
    } else {
        return {};
    }
}

template <class Descriptor>
int descriptor_of(const Descriptor& open) noexcept {
    if constexpr (requires {
                      { open.native_handle() } -> std::convertible_to<int>;
                  }) {
        return open.native_handle();
    } else {
        return -1;
    }
}

/// The block of a session. It tells the sessions its peer while it still has the stream.
template <class Block>
struct session_block {
    static void note_peer(fiber& f) noexcept {
        static_cast<sessions&>(*f.inside).peer = peer_of(std::get<1>(Block::from(f).call));
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

template <class Session, class Stream>
void start_session(sessions& all, Session& session, Stream&& stream) {
    try {
        auto& block = make_child(all, all.place(), session, std::forward<Stream>(stream));
        block.vt = &session_block<std::remove_reference_t<decltype(block)>>::table;
        all.begun(block);
    } catch (...) {
        all.not_begun();
        throw;
    }
}

/// Accepts until it is cancelled, or the listener fails. Out of memory is no reason to end: it pauses, as accept() does
/// when descriptors run out.
template <class Listener, class Session>
task<> accept_from(void* from, void* function, sessions& all) {
    auto& listener = *static_cast<Listener*>(from);
    auto& session = *static_cast<Session*>(function);
    duration pause{};
    for (;;) {
        bool accepted = false;
        try {
            if (pause != duration{}) {
                co_await immediate();  // needs no memory: even if the sleep fails, others have their turn
                co_await sleep_for(pause);
            }
            while (all.turn_is_spent()) co_await immediate();
            while (all.waits_for_room()) co_await room_wait(all);
            served_stream<Listener> stream = co_await listener.accept();
            accepted = true;
            while (all.waits_for_room()) co_await room_wait(all);  // another listener was faster
            if (all.admits(peer_of(stream), descriptor_of(stream))) {
                start_session(all, session, std::move(stream));
            } else if constexpr (requires { stream.try_reset_on_close(); }) {
                static_cast<void>(stream.try_reset_on_close());
            }
            pause = {};
            continue;
        } catch (const std::bad_alloc&) {  // a connection that had been accepted is closed by now
        } catch (const io_error& error) {  // of accept(), which had no memory to pause
            if (error.code() != std::errc::not_enough_memory) throw;
        }
        pause = all.pause_after(pause, accepted);
    }
}

template <class Listener>
task<> close_listener(void* which) {
    auto& listener = *static_cast<Listener*>(which);
    if constexpr (requires { listener.close(); }) static_cast<void>(co_await attempt(listener.close()));
    co_return;
}
/// Without memory: what closes from the call on need not be awaited.
template <class Listener>
void drop_listener(void* which) {
    auto& listener = *static_cast<Listener*>(which);
    if constexpr (requires { listener.close(); }) static_cast<void>(listener.close());
}

/// What went wrong at a listener, and did not end it.
struct accept_troubles {
    std::uint64_t exhausted = 0;
    std::uint64_t dead = 0;
};

/// A listener of any kind, with the function that runs a session for each connection of it.
struct served_listener {
    template <class Session, class Listener>
    static served_listener of(Listener& l) noexcept {
        return {&l,
                &accept_from<Listener, Session>,
                &close_listener<Listener>,
                &drop_listener<Listener>,
                &troubles_of<Listener>,
                descriptor_of(l)};
    }

    template <class Listener>
    static accept_troubles troubles_of(const void* listener) noexcept {
        const auto& l = *static_cast<const Listener*>(listener);
        accept_troubles all;
        if constexpr (requires { l.exhausted(); }) all.exhausted = l.exhausted();
        if constexpr (requires { l.died_in_queue(); }) all.dead = l.died_in_queue();
        return all;
    }

    void* listener;
    task<> (*accept)(void* listener, void* session, sessions& all);
    task<> (*close)(void* listener);
    void (*drop)(void* listener);
    accept_troubles (*troubles)(const void* listener) noexcept;
    int descriptor;  // -1: it has none
};

}  // namespace rondo::detail
