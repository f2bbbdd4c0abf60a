#include "signal_notice.hpp"

#include <cerrno>
#include <csignal>
#include <memory>
#include <string>

namespace rondo::detail {

/// What a signal pushes into the loop's inbox. Made beforehand, since a handler must not allocate; queued at
/// most once at a time; freed only by the loop's thread, so that a letter still in the inbox is never freed
/// under it.
struct signal_notice::letter : callback, signal_watch {
    letter(remote_state& s, reaction r, void* c) noexcept
        : callback(&deliver, {}), signal_watch(&send), target(&s), react(r), context(c) {}

    /// Any thread, and inside a signal handler.
    static void send(signal_watch& base, int signal) noexcept {
        auto& self = static_cast<letter&>(base);
        if (self.last_resort && self.heard.exchange(true)) {
            std::signal(signal, SIG_DFL);
            std::raise(signal);  // when this handler is left
            return;
        }
        self.come.fetch_or(bit(signal));
        if (!self.queued.exchange(true)) self.target->post_urgently(self);
    }

    static void deliver(callback& base, act what) {
        auto& self = static_cast<letter&>(base);
        self.queued.store(false);
        if (self.abandoned) {
            delete &self;
        } else if (what == act::run) {
            self.react(self.context, self.come.exchange(0));
        }
    }

    remote_state* target;
    reaction react;
    void* context;
    bool abandoned = false;
    std::atomic<bool> queued{false};
    std::atomic<bool> heard{false};
    std::atomic<std::uint64_t> come{0};
};

signal_notice::signal_notice(loop& l, std::span<const int> signals, reaction react, void* context, bool last_resort)
    : backend_(scheduler::of(l).io()) {
    auto made = std::make_unique<letter>(remote_state::of(l), react, context);
    made->last_resort = last_resort;
    std::string all;
    bool valid = true;
    for (const int signal : signals) {
        all += (all.empty() ? "" : ", ") + std::to_string(signal);
        valid = valid && signal_watch::is_signal(signal);
        if (valid) made->signals |= signal_watch::bit(signal);
    }
    const int result = valid ? backend_.watch_signals(*made) : -EINVAL;
    if (result < 0) throw io_error(errno_code(-result), "watch signals", all);
    letter_ = made.release();
}

signal_notice::~signal_notice() {
    backend_.unwatch_signals(*letter_);
    if (letter_->queued.load()) {
        letter_->abandoned = true;  // it is in the inbox: freed when it comes out
    } else {
        delete letter_;
    }
}

}  // namespace rondo::detail
