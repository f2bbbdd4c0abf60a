#include <rondo/net/serve.hpp>

#include <rondo/task/suspend.hpp>

#include "loop/signal_notice.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <functional>
#include <limits>
#include <new>
#include <optional>

namespace rondo::detail {

namespace {

/// A scope of the running task for as long as this lives.
class entered {
 public:
    explicit entered(scope& s) noexcept : scope_(s) { s.enter(*s.of.current_fiber()); }
    ~entered() { scope_.leave(); }
    entered(const entered&) = delete;
    entered& operator=(const entered&) = delete;

 private:
    scope& scope_;
};

/// Errors that say no more than that the peer, or the way to it, is gone: what every server meets every day.
bool peer_is_gone(const std::error_code& error) noexcept {
    if (error.category() != std::generic_category() && error.category() != std::system_category()) return false;
    switch (error.value()) {
        case ECONNRESET:
        case ECONNABORTED:
        case EPIPE:
        case ETIMEDOUT:
        case EHOSTUNREACH:
        case EHOSTDOWN:
        case ENETUNREACH:
        case ENETDOWN:
        case ENETRESET:
        case ENONET: return true;
        default: return false;
    }
}

/// The sessions of a server: their failures are logged, and one that ends makes room.
struct sessions : session_scope {
    sessions(loop& l, std::size_t max) noexcept : session_scope(l, &ended, "sessions"), limit(max) {}

    static void ended(scope& base, fiber& f) noexcept {
        auto& self = static_cast<sessions&>(base);
        if (f.flags & fiber::has_error) report(f.vt->error(f), endpoint(self.peer), f.place);
        if (self.waiting_for_room != nullptr && self.count < self.limit)
            self.of.complete(*std::exchange(self.waiting_for_room, nullptr), 0);
    }

    static void report(const std::exception_ptr& error, const endpoint& peer,
                       std::source_location place) noexcept {
        static log_gate gate;
        const bool gone = peer_is_gone(code_of(error));
        try {
            write_log(gate, gone ? log_level::debug : log_level::warning, place, "session with %s ended: %s",
                      peer.to_string().c_str(), message_of(error).c_str());
        } catch (const std::bad_alloc&) {
            write_log(gate, log_level::warning, place, "a session ended, and there is no memory to say why");
        }
    }

    std::size_t limit;
    op* waiting_for_room = nullptr;
};

class room_awaiter : op {
 public:
    explicit room_awaiter(sessions& s) noexcept : op(table), sessions_(s) {}

    bool await_ready() const noexcept { return sessions_.count < sessions_.limit; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) noexcept {
        if (!begin(*this, h.promise(), site)) return suspended(*this);
        state = armed;
        sessions_.waiting_for_room = this;
        return true;
    }
    void await_resume() const {
        if (result < 0) throw_failure(result, "serve");
    }

 private:
    static void cancel(op& o) noexcept {
        static_cast<room_awaiter&>(o).sessions_.waiting_for_room = nullptr;
        current->complete(o, -ECANCELED);
    }
    static void describe(const op& o, char* text, std::size_t size) noexcept {
        const std::size_t count = static_cast<const room_awaiter&>(o).sessions_.count;
        std::snprintf(text, size, "room for a session, %zu %s running", count, count == 1 ? "is" : "are");
    }
    static constexpr op_vtable table = {&cancel, &wake_owner, &describe};
    sessions& sessions_;
};

std::size_t default_limit(loop& l) noexcept {
    constexpr std::size_t without_limit = 100'000;
    const std::size_t all = l.io().descriptor_limit();
    if (all == std::numeric_limits<std::size_t>::max()) return without_limit;
    return all > 5 ? all / 5 * 4 : 1;
}

/// Out of memory is no reason to end: it pauses, as accept() does when descriptors run out.
task<> accept_sessions(tcp_listener& listener, session_starter starter, sessions& all) {
    constexpr duration first_pause = std::chrono::milliseconds(5);
    constexpr duration longest_pause = std::chrono::seconds(1);
    duration pause{};
    for (;;) {
        try {
            if (pause != duration{}) {
                co_await immediate();  // needs no memory: even if the sleep fails, others have their turn
                co_await sleep_for(pause);
            }
            co_await room_awaiter(all);
            tcp_stream stream = co_await listener.accept();
            starter.start(starter.session, all, starter.place, std::move(stream));
            pause = {};
            continue;
        } catch (const std::bad_alloc&) {  // a connection that had been accepted is closed by now
        } catch (const io_error& error) {  // of accept(), which had no memory to pause
            if (error.code() != std::errc::not_enough_memory) throw;
        }
        pause = pause == duration{} ? first_pause : std::min(pause * 2, longest_pause);
        static log_gate gate(1);
        write_log(gate, log_level::warning, starter.place, "serve: out of memory; accepting again in %lld ms",
                  static_cast<long long>(pause.count() / 1'000'000));
    }
}

/// The acceptor is the one child of this scope; its error is the server's.
struct acceptor_scope : scope {
    explicit acceptor_scope(loop& l) noexcept : scope(l, &ended, "acceptor") {}
    static void ended(scope& base, fiber& f) noexcept {
        auto& self = static_cast<acceptor_scope&>(base);
        self.error = f.vt->error(f);
        self.cut_outside = !self.error && !self.cancelled;  // it does not end by itself
    }
    std::exception_ptr error;
    bool cut_outside = false;
};

struct stop_request {
    scope& acceptor;
    scope& all;
    int count = 0;

    static void signalled(void* self, std::uint64_t signals) {
        auto& stop = *static_cast<stop_request*>(self);
        if (stop.count == 0) stop.acceptor.cancel();
        stop.count += std::popcount(signals);
        if (stop.count > 1) stop.all.cancel();
    }
};

}  // namespace

task<> serve(tcp_listener& listener, session_starter starter, serve_options options) {
    loop& l = this_loop();
    sessions all(l, options.max_connections != 0 ? options.max_connections : default_limit(l));
    acceptor_scope acceptor(l);
    stop_request stop{acceptor, all};
    std::optional<signal_notice> signals;
    if (options.stop_on_signals)
        signals.emplace(l, std::initializer_list<int>{SIGINT, SIGTERM}, &stop_request::signalled, &stop);

    bool cut_outside;
    {
        const entered serving(all);
        {
            const entered accepting(acceptor);
            make_child(acceptor, starter.place, &accept_sessions, std::ref(listener), starter,
                       std::ref(all));
            co_await empty_awaiter(acceptor);
        }
        // No connection is accepted any more. A server that was cancelled, or failed, does not wait.
        cut_outside = acceptor.cut_outside || all.cancelled_outside;
        all.was_cancelled_outside = false;  // from here on it is the grace period's
        timer deadline;
        if (stop.count == 0 || cut_outside) {
            all.cancel();
        } else {
            try {
                deadline = l.set_timeout(options.grace, [&all] { all.cancel(); });
            } catch (const std::bad_alloc&) {  // no memory for a timer, no grace: the sessions must end
                all.cancel();
            }
        }
        co_await empty_awaiter(all);
        deadline.cancel();
        cut_outside |= all.was_cancelled_outside;
    }
    if (cut_outside) throw_cancelled();
    if (acceptor.error) std::rethrow_exception(acceptor.error);
}

}  // namespace rondo::detail
