#include "signal_notice.hpp"

#include "backend/signal_list.hpp"

#include <cerrno>
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
        self.come.fetch_or(signal_bit(signal));
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
    std::atomic<std::uint64_t> come{0};
};

signal_notice::signal_notice(loop& l, std::initializer_list<int> signals, reaction react, void* context)
    : of_(l.io()) {
    auto made = std::make_unique<letter>(remote_state::of(l), react, context);
    std::string all;
    bool valid = true;
    for (const int signal : signals) {
        all += (all.empty() ? "" : ", ") + std::to_string(signal);
        valid = valid && is_signal(signal);
        if (valid) made->signals |= signal_bit(signal);
    }
    const int result = valid ? of_.watch_signals(*made) : -EINVAL;
    if (result < 0) throw io_error(errno_code(-result), "watch signals", all);
    letter_ = made.release();
}

signal_notice::~signal_notice() {
    of_.unwatch_signals(*letter_);
    if (letter_->queued.load()) {
        letter_->abandoned = true;  // it is in the inbox: freed when it comes out
    } else {
        delete letter_;
    }
}

}  // namespace rondo::detail
