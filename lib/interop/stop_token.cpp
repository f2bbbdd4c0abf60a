#include <rondo/interop/stop_token.hpp>

#include <rondo/task/wait.hpp>

#include "loop/remote_state.hpp"

#include <atomic>
#include <cerrno>
#include <optional>

namespace rondo::detail {

/// What a request of another thread pushes into the loop's inbox. Made beforehand, since who asks to stop must not
/// fail; pushed at most once; freed only by the loop's thread, so that a letter still in the inbox is never freed
/// under it.
struct stop_listener::letter : callback {
    explicit letter(cancel_scope& s) noexcept
        : callback(&deliver, {}), cancels(s), loop(*current), target(remote_state::of(current->loop())) {}

    /// Any thread. On the loop's own, a cancel only queues, so it need not take the long way.
    void request() noexcept {
        if (current == &loop) return cancels.cancel(reason);
        if (!queued.exchange(true)) target.post_urgently(*this);
    }

    static void deliver(callback& base, act what) {
        auto& self = static_cast<letter&>(base);
        self.queued.store(false);
        if (self.abandoned) {
            delete &self;
        } else if (what == act::run) {
            self.cancels.cancel(reason);
        }
    }

    static constexpr const char* reason = "a std::stop_token was asked to stop";
    cancel_scope& cancels;
    scheduler& loop;  // compared, by other threads
    remote_state& target;
    bool abandoned = false;
    std::atomic<bool> queued{false};
};

struct stop_listener::parts {
    struct request {
        letter* to;
        void operator()() const noexcept { to->request(); }
    };

    std::unique_ptr<letter> message;
    remote keeps_alive;
    std::optional<std::stop_callback<request>> callback;
};

stop_listener::stop_listener(cancel_scope& cancels, std::stop_token token) {
    if (!token.stop_possible()) return;
    parts_ = std::make_unique<parts>();
    parts_->message = std::make_unique<letter>(cancels);
    parts_->keeps_alive = parts_->message->target.handle();
    parts_->callback.emplace(std::move(token), parts::request{parts_->message.get()});
}

stop_listener::~stop_listener() {
    if (parts_ == nullptr) return;
    parts_->callback.reset();  // from here on no thread asks, nor is just asking
    letter& message = *parts_->message;
    if (!message.queued.load()) return;
    message.abandoned = true;  // it is in the inbox: freed when it comes out
    static_cast<void>(parts_->message.release());
}

namespace {

class cancel_wait : public basic_wait<cancel_wait> {
 public:
    static constexpr const char* name = "a cancel, for a std::stop_source";

    bool start() noexcept { return arm(); }
    void cancel() noexcept { complete(-ECANCELED); }
};

}  // namespace

task<> keep(stop_asker asker) {
    const stop_asker kept(std::move(asker));
    for (;;) co_await cancel_wait();
}

void request_if_cancelled(std::stop_source& source) {
    if (current_deadline() == time_point::min()) source.request_stop();
}

}  // namespace rondo::detail
