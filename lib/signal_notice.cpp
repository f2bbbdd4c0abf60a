#include "signal_notice.hpp"

#include "fork.hpp"

#include <cerrno>
#include <csignal>
#include <memory>
#include <mutex>
#include <utility>

namespace rondo::detail {

namespace {

constexpr int signal_count = 65;  // Linux has 1 to 64

constexpr std::uint64_t bit(int signal) noexcept { return std::uint64_t{1} << (signal - 1); }

}  // namespace

/// What the signal handler pushes into the loop's inbox. Made beforehand, since a handler must not
/// allocate; queued at most once at a time; freed only by the loop's thread, so that a letter still in
/// the inbox is never freed under it.
struct signal_notice::letter : callback {
    letter(remote_state& s, void (*f)(void*), void* c) noexcept
        : callback(&deliver, {}), target(&s), react(f), context(c) {}

    static void deliver(callback& base, act what) {
        auto& self = static_cast<letter&>(base);
        self.queued.store(false);
        if (self.abandoned) {
            delete &self;
        } else if (what == act::run) {
            self.react(self.context);
        }
    }

    remote_state* target;
    void (*react)(void*);
    void* context;
    std::uint64_t signals = 0;
    const unsigned forks = detail::forks();
    bool abandoned = false;
    std::atomic<bool> queued{false};
};

namespace {

using letter = signal_notice::letter;

constinit std::mutex guard;  // of everything below but the slots, which the handler reads
std::atomic<letter*> slots[32];
std::size_t used[signal_count];
struct sigaction before[signal_count];
std::atomic<int> handlers_running{0};

void on_signal(int signal) {
    const int saved = errno;
    handlers_running.fetch_add(1);
    for (auto& slot : slots)
        if (letter* l = slot.load(); l != nullptr && (l->signals & bit(signal)) != 0)
            if (!l->queued.exchange(true)) l->target->post(*l);
    handlers_running.fetch_sub(1);
    errno = saved;
}

bool install(int signal) noexcept {
    if (signal < 1 || signal >= signal_count) return false;
    if (used[signal] == 0) {
        struct sigaction action {};
        action.sa_handler = &on_signal;
        action.sa_flags = SA_RESTART;
        sigfillset(&action.sa_mask);
        if (sigaction(signal, &action, &before[signal]) != 0) return false;
    }
    ++used[signal];
    return true;
}

void uninstall(std::uint64_t signals) noexcept {
    for (int signal = 1; signal < signal_count; ++signal)
        if ((signals & bit(signal)) != 0 && --used[signal] == 0) sigaction(signal, &before[signal], nullptr);
}

}  // namespace

namespace {

// A forked child begins as if nobody had asked for signals: they do what they did before. Its parent's loop would
// never hear of them, and nothing could end the child.
void forget_all() noexcept {
    for (int signal = 1; signal < signal_count; ++signal)
        if (std::exchange(used[signal], 0) != 0) sigaction(signal, &before[signal], nullptr);
    for (auto& slot : slots) slot.store(nullptr);
    handlers_running.store(0);
}

void watch_forks() noexcept {
    hold_across_forks<guard>();
    static const int registered = pthread_atfork(nullptr, nullptr, &forget_all);
    static_cast<void>(registered);
}

}  // namespace

signal_notice::signal_notice(loop& l, std::initializer_list<int> signals, void (*react)(void*), void* context) {
    auto made = std::make_unique<letter>(remote_state::of(l), react, context);
    watch_forks();
    const std::lock_guard lock(guard);
    std::atomic<letter*>* free = nullptr;
    for (auto& slot : slots)
        if (free == nullptr && slot.load() == nullptr) free = &slot;
    if (free == nullptr) throw io_error(errno_code(EMFILE), "watch signals");
    for (const int signal : signals) {
        if (!install(signal)) {
            uninstall(made->signals);
            throw io_error(errno_code(EINVAL), "watch signal", std::to_string(signal));
        }
        made->signals |= bit(signal);
    }
    letter_ = made.release();
    free->store(letter_);
}

signal_notice::~signal_notice() {
    const std::lock_guard lock(guard);
    for (auto& slot : slots)
        if (slot.load() == letter_) slot.store(nullptr);
    if (forks() == letter_->forks) uninstall(letter_->signals);  // else the child has forgotten it
    while (handlers_running.load() != 0) {  // on another thread; never on this one, which is not in it
    }
    if (letter_->queued.load()) {
        letter_->abandoned = true;  // it is in the inbox: freed when it comes out
    } else {
        delete letter_;
    }
}

}  // namespace rondo::detail
