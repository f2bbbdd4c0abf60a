#include "stop_signals.hpp"

#include <cerrno>
#include <csignal>
#include <mutex>

namespace rondo::detail {

/// What the signal handler pushes into the loop's inbox. Made beforehand, since a handler must not
/// allocate; queued at most once at a time; freed only by the loop's thread, so that a notice still in
/// the inbox is never freed under it.
struct stop_signals::notice : callback {
    notice(remote_state& s, void (*f)(void*), void* c) noexcept
        : callback(&deliver, {}), target(&s), react(f), context(c) {}

    static void deliver(callback& base, act what) {
        auto& self = static_cast<notice&>(base);
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
    bool abandoned = false;
    std::atomic<bool> queued{false};
};

namespace {

constexpr int signals[] = {SIGINT, SIGTERM};

std::mutex guard;  // of everything below but the slots, which the handler reads
std::atomic<stop_signals::notice*> slots[32];
std::size_t used = 0;
struct sigaction before[std::size(signals)];
std::atomic<int> handlers_running{0};

void on_signal(int) {
    const int saved = errno;
    handlers_running.fetch_add(1);
    for (auto& slot : slots)
        if (stop_signals::notice* n = slot.load())
            if (!n->queued.exchange(true)) n->target->post(*n);
    handlers_running.fetch_sub(1);
    errno = saved;
}

}  // namespace

stop_signals::stop_signals(loop& l, void (*react)(void*), void* context) : notice_(nullptr) {
    const std::lock_guard lock(guard);
    for (auto& slot : slots) {
        if (slot.load() != nullptr) continue;
        notice_ = new notice(remote_state::of(l), react, context);
        slot.store(notice_);
        break;
    }
    if (notice_ == nullptr) throw io_error(errno_code(EMFILE), "watch SIGINT and SIGTERM");
    if (used++ == 0) {
        struct sigaction action {};
        action.sa_handler = &on_signal;
        action.sa_flags = SA_RESTART;
        sigfillset(&action.sa_mask);
        for (std::size_t i = 0; i < std::size(signals); ++i) sigaction(signals[i], &action, &before[i]);
    }
}

stop_signals::~stop_signals() {
    const std::lock_guard lock(guard);
    for (auto& slot : slots)
        if (slot.load() == notice_) slot.store(nullptr);
    if (--used == 0)
        for (std::size_t i = 0; i < std::size(signals); ++i) sigaction(signals[i], &before[i], nullptr);
    while (handlers_running.load() != 0) {  // on another thread; never on this one, which is not in it
    }
    if (notice_->queued.load()) {
        notice_->abandoned = true;  // it is in the inbox: freed when it comes out
    } else {
        delete notice_;
    }
}

}  // namespace rondo::detail
