#include <rondo/net/serve.hpp>

#include <rondo/task/group.hpp>
#include <rondo/base/log.hpp>
#include <rondo/loop/loop.hpp>

#include "base/trace.hpp"
#include "loop/signal_notice.hpp"

#include <bit>
#include <csignal>
#include <functional>
#include <new>
#include <optional>

namespace rondo {
namespace detail {
namespace {

/// A scope of the running task for as long as this lives.
class entered {
 public:
    explicit entered(scope& s) noexcept : scope_(s) { s.enter(*s.its_loop.current_fiber()); }
    ~entered() { scope_.leave(); }
    entered(const entered&) = delete;
    entered& operator=(const entered&) = delete;

 private:
    scope& scope_;
};

/// The acceptors are the children of this scope; the first error of one is the server's, and ends the others.
struct acceptor_scope : scope {
    explicit acceptor_scope(scheduler& l) noexcept : scope(l, &ended, "acceptor") {}
    static void ended(scope& base, fiber& f) noexcept { static_cast<acceptor_scope&>(base).ends(f.vt->error(f)); }
    void ends(std::exception_ptr with) noexcept {
        if (with == nullptr) {
            cut_outside |= !cancelled();  // it does not end by itself
        } else if (!error) {
            error = std::move(with);
            cancel();
        }
    }
    std::exception_ptr error;
    bool cut_outside = false;
};

}  // namespace

/// How a running server is asked to stop.
struct stop_request {
    stop_request(std::span<const served_listener> l, scope& a, sessions& s, const serve_options& o)
        : listeners(l), acceptors(a), all(s), options(o), before(troubles()) {
        if (options.control == nullptr) return;
        RONDO_ASSERT(options.control->server_ == nullptr, "a server_control is for one serve() at a time");
        options.control->server_ = this;
    }
    ~stop_request() {
        if (options.control == nullptr) return;
        options.control->server_ = nullptr;
        add_troubles(options.control->stats_);
    }
    stop_request(const stop_request&) = delete;
    stop_request& operator=(const stop_request&) = delete;

    static serve_stats& counts_of(const serve_options& options, serve_stats& otherwise) noexcept {
        return options.control != nullptr ? options.control->stats_ : otherwise;
    }

    accept_troubles troubles() const noexcept {
        accept_troubles sum;
        for (const served_listener& each : listeners) {
            const accept_troubles its = each.troubles(each.listener);
            sum.exhausted += its.exhausted;
            sum.dead += its.dead;
        }
        return sum;
    }
    /// Those since it was begun.
    void add_troubles(serve_stats& to) const noexcept {
        const accept_troubles now = troubles();
        to.exhausted += now.exhausted - before.exhausted;
        to.dead += now.dead - before.dead;
    }

    static void signalled(void* self, std::uint64_t signals) {
        static_cast<stop_request*>(self)->ask(std::popcount(signals));
    }
    /// The first time it stops accepting, the second time it cancels the sessions.
    void ask(int times) noexcept {
        if (count == 0) stop();
        count += times;
        if (count > 1) all.cancel();
    }
    void stop() noexcept {
        acceptors.cancel();
        static log_gate gate;
        write_log(gate, log_level::info, all.place(), "stopping: %zu session%s, %g s", all.size(),
                  all.size() == 1 ? "" : "s", std::chrono::duration<double>(options.grace.value()).count());
        if (options.control != nullptr) options.control->stopping_.set();
    }
    /// The grace period is over.
    void out_of_patience() noexcept {
        static log_gate gate;
        write_log(gate, log_level::warning, all.place(), "stopping: %zu session%s cancelled after %g s", all.size(),
                  all.size() == 1 ? " is" : "s are", std::chrono::duration<double>(options.grace.value()).count());
        all.cancel();
    }

    std::span<const served_listener> listeners;
    scope& acceptors;
    sessions& all;
    const serve_options& options;
    accept_troubles before;
    int count = 0;
};

task<> serve(std::span<const served_listener> listeners, void* session, serve_options options,
             std::source_location place) {
    RONDO_ASSERT(!listeners.empty(), "serve without a listener");
    scheduler& l = running();
    serve_stats uncounted;
    sessions all(l, options, stop_request::counts_of(options, uncounted), place);
    for (const served_listener& each : listeners) all.check_descriptor(each.descriptor);
    acceptor_scope acceptors(l);
    stop_request stop(listeners, acceptors, all, options);
    std::optional<signal_notice> signals;
    if (options.stop_on_signals)
        signals.emplace(l.loop(), std::initializer_list<int>{SIGINT, SIGTERM}, &stop_request::signalled, &stop);

    bool cut_outside;
    {
        const entered serving(all);
        {
            const entered accepting(acceptors);
            try {
                for (const served_listener& each : listeners)
                    make_child(acceptors, place, each.accept, each.listener, session, std::ref(all));
            } catch (...) {
                acceptors.ends(std::current_exception());
            }
            if (options.control != nullptr && options.control->stopping()) stop.ask(1);
            co_await empty_awaiter(acceptors);
        }
        if (stop.count != 0 && !options.keep_listening) {
            for (const served_listener& each : listeners) {
                try {
                    co_await each.close(each.listener);
                } catch (const std::bad_alloc&) {
                    each.drop(each.listener);
                } catch (...) {  // how it went is its own business: the sessions are waited for
                }
            }
        }
        // No connection is accepted any more. A server that was cancelled, or failed, does not wait.
        cut_outside = acceptors.cut_outside || all.cancelled_outside();
        all.forget_cancelled_outside();  // from here on it is the grace period's
        timer deadline;
        if (stop.count == 0 || cut_outside) {
            all.cancel();
        } else {
            try {
                deadline = l.loop().set_timeout(options.grace, [&stop] { stop.out_of_patience(); });
            } catch (const std::bad_alloc&) {  // no memory for a timer, no grace: the sessions must end
                all.cancel();
            }
        }
        co_await empty_awaiter(all);
        deadline.cancel();
        cut_outside |= all.was_cancelled_outside();
    }
    if (cut_outside) throw_cancelled();
    if (acceptors.error) {
        hand_to_running_task(acceptors.error);
        std::rethrow_exception(acceptors.error);
    }
}

}  // namespace detail

server_control::~server_control() {
    RONDO_ASSERT(server_ == nullptr, "a server_control was destroyed before its serve()");
}

void server_control::stop() noexcept {
    if (server_ != nullptr) {
        if (server_->count == 0) server_->ask(1);
    } else {
        stopping_.set();
    }
}

void server_control::cancel_sessions() noexcept {
    stop();
    if (server_ != nullptr && server_->count == 1) server_->ask(1);
}

serve_stats server_control::stats() const noexcept {
    serve_stats now = stats_;
    if (server_ != nullptr) server_->add_troubles(now);
    now.running = static_cast<std::size_t>(stats_.accepted - stats_.ended);
    return now;
}

}  // namespace rondo
