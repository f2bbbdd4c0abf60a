#include "process_signals.hpp"

#include "signal_list.hpp"

#include <pthread.h>

#include <cerrno>
#include <csignal>
#include <mutex>

namespace rondo::detail {

namespace {

constexpr int signal_count = signal_watch::signal_count;

constinit std::mutex guard;  // of everything below, which the handler only reads
constinit signal_list watches;
std::size_t used[signal_count];
bool left_alone[signal_count];
struct sigaction before[signal_count];
std::atomic<int> handlers_running{0};

void on_signal(int signal) {
    const int saved = errno;
    handlers_running.fetch_add(1);
    watches.tell(signal);
    handlers_running.fetch_sub(1);
    errno = saved;
}

/// By these a shell, nohup or a supervisor says that the program is not to be ended so; it is the convention that
/// who finds them ignored leaves them. Any other one is for who asks for it.
bool may_stay_ignored(int signal) noexcept { return signal == SIGINT || signal == SIGTERM || signal == SIGHUP; }

int install(int signal) noexcept {
    if (used[signal] == 0) {
        struct sigaction now{};
        if (sigaction(signal, nullptr, &now) != 0) return -errno;
        left_alone[signal] = may_stay_ignored(signal) && (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == SIG_IGN;
        if (!left_alone[signal]) {
            struct sigaction action{};
            action.sa_handler = &on_signal;
            action.sa_flags = SA_RESTART;
            sigfillset(&action.sa_mask);
            if (sigaction(signal, &action, &before[signal]) != 0) return -errno;
        }
    }
    ++used[signal];
    return 0;
}

void uninstall(std::uint64_t signals) noexcept {
    for (int signal = 1; signal < signal_count; ++signal)
        if ((signals & signal_watch::bit(signal)) != 0 && --used[signal] == 0 && !left_alone[signal])
            sigaction(signal, &before[signal], nullptr);
}

/// In a forked child: nobody it has would be told, and the loops are the parent's.
void forget_all() noexcept {
    for (int signal = 1; signal < signal_count; ++signal) {
        if (used[signal] != 0 && !left_alone[signal]) sigaction(signal, &before[signal], nullptr);
        used[signal] = 0;
    }
    watches.clear();
    handlers_running.store(0);  // they run on threads that are not there
    guard.unlock();
}

void mind_forks() noexcept {
    static const int registered = pthread_atfork([] { guard.lock(); }, [] { guard.unlock(); }, &forget_all);
    static_cast<void>(registered);
}

}  // namespace

int watch_process_signals(signal_watch& who) noexcept {
    mind_forks();
    const std::lock_guard lock(guard);
    std::uint64_t installed = 0;
    for (int signal = 1; signal < signal_count; ++signal) {
        if ((who.signals & signal_watch::bit(signal)) == 0) continue;
        if (const int result = install(signal); result < 0) {
            uninstall(installed);
            return result;
        }
        installed |= signal_watch::bit(signal);
    }
    watches.add(who);
    return 0;
}

void unwatch_process_signals(signal_watch& who) noexcept {
    const std::lock_guard lock(guard);
    if (!watches.remove(who)) return;  // of the parent's
    uninstall(who.signals);
    while (handlers_running.load() != 0) {  // on another thread; never on this one, which is not in it
    }
}

}  // namespace rondo::detail
