#include <rondo/task/run.hpp>

#include <rondo/task/await_tree.hpp>

#include "loop/engine.hpp"
#include "loop/places.hpp"
#include "loop/signal_notice.hpp"

#include <cerrno>
#include <csignal>
#include <new>
#include <string>

namespace rondo::detail {

namespace {

std::string deadlock_report(const loop& l) noexcept {
    try {
        std::string text = "deadlock: nothing is left that could wake these tasks\n" + await_tree(l).text();
        text.pop_back();  // the last end of line
        return text;
    } catch (const std::bad_alloc&) {
        return "deadlock";  // short enough to need no memory
    }
}

/// What the main task threw when it was cancelled because of a deadlock. Often that is the reason of it: a child had
/// failed, and its group waited for another one.
void add_failure(std::string& report, fiber& main) noexcept {
    if (!(main.flags & fiber::has_error)) return;
    try {
        report += "\nWhen it was cancelled, the main task failed: " + describe(main.vt->error(main));
        main.flags |= fiber::taken;
    } catch (const std::bad_alloc&) {
    }
}

}  // namespace

void run_to_end(scheduler& on, fiber& main) {
    engine& l = engine::of(on);
    bool ended = false;
    l.limit_run();
    try {
        ended = l.run_until([](void* f) { return (static_cast<fiber*>(f)->flags & fiber::ended) != 0; }, &main);
    } catch (const livelock_error&) {
        l.drain_root();
        throw;
    }
    std::string report;
    const bool stopped = !ended && l.stopped();
    const bool stuck = !ended && !stopped;
    if (stuck) report = deadlock_report(l.loop());
    if (ended) log_leftovers(l.root(), "when the main task ended");
    l.drain_root();
    if (stuck) {
        add_failure(report, main);
        throw deadlock_error(report);
    }
    // Unless it made something of its cancellation.
    if (stopped && !(main.flags & (fiber::has_value | fiber::has_error)))
        throw io_error(errno_code(ECANCELED), "run", "was ended by loop::stop()");
}

// --- signals

struct main_signals::state {
    state(scheduler& on, fiber& m)
        : main(m), notice(signal_notice::of_last_resort(on.loop(), {SIGINT, SIGTERM}, &heard, this)) {}

    static void heard(void* self, std::uint64_t signals) {
        auto& to = *static_cast<state*>(self);
        to.number = (signals & signal_watch::bit(SIGINT)) != 0 ? SIGINT : SIGTERM;
        cancel_fiber(to.main);
    }

    fiber& main;
    int number = 0;
    signal_notice notice;
};

main_signals::main_signals(scheduler& on, fiber& main, bool wanted) : state_(wanted ? new state(on, main) : nullptr) {}
main_signals::~main_signals() { delete state_; }

int main_signals::ended_by() const noexcept {
    if (state_ == nullptr || (state_->main.flags & (fiber::has_value | fiber::has_error))) return 0;
    return state_->number;
}

int end_by_signal(int signal) noexcept {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
    return 128 + signal;
}

}  // namespace rondo::detail
