// The waits of who has an actor's address, and the task of an actor.
#pragma once

#include <rondo/actor/mailbox.hpp>
#include <rondo/task/spawn.hpp>
#include <rondo/task/wait.hpp>

namespace rondo::detail {

// --- waits ---------------------------------------------------------------------------------------------

template <class Message>
class tell_awaiter : mail<Message>, public awaits<tell_awaiter<Message>> {
    using mail<Message>::result;

 public:
    tell_awaiter(const mailbox_share<Message>& box, Message&& m) noexcept
        : mail<Message>(box->core(), std::move(m)), box_(box) {}
    void await_resume() const {
        if (result < 0) [[unlikely]]
            throw_mail_failure(result, "tell", *this->to);
    }
    rondo::result<void> finish() const { return mail_result(result, "tell", *this->to); }

 private:
    friend awaits<tell_awaiter>;
    bool start() noexcept { return !box_->accept(*this); }
    mailbox_share<Message> box_;
};

template <class Message, class T>
class ask_awaiter : mail<Message>, public awaits<ask_awaiter<Message, T>> {
    using mail<Message>::result;
    using reply_type = typename T::reply_type;

 public:
    ask_awaiter(const mailbox_share<Message>& box, Message&& m) noexcept
        : mail<Message>(box->core(), std::move(m)), box_(box) {}
    reply_type await_resume() {
        if (result < 0) [[unlikely]]
            throw_mail_failure(result, "ask", *this->to);
        if constexpr (!std::is_void_v<reply_type>) return std::move(*question_.reply);
    }
    rondo::result<reply_type> finish() {
        if (result < 0) return mail_result(result, "ask", *this->to).failure();
        if constexpr (std::is_void_v<reply_type>) {
            return {};
        } else {
            return std::move(*question_.reply);
        }
    }

 private:
    friend awaits<ask_awaiter>;
    bool start() noexcept {
        this->asks = &question_;  // (attempt() has moved it until now)
        question_.asker = this;
        request_in(this->message)->bind(question_);
        return !box_->accept(*this);
    }
    mailbox_share<Message> box_;
    question_for<reply_type> question_;
};

struct exit_wait : op, watcher {
    explicit exit_wait(mailbox_core& box) noexcept : op(table), watcher(&told), of(box) {}
    RONDO_API static const op_vtable table;
    RONDO_API static void told(watcher& w, const actor_exit& exit) noexcept;
    bool start() noexcept {
        if (of.ended) return false;
        state = op::armed;
        of.watchers.push_back(*this);
        return true;
    }
    mailbox_core& of;
    actor_exit exit;
};

template <class Message>
class exit_awaiter : exit_wait, public awaits<exit_awaiter<Message>> {
 public:
    explicit exit_awaiter(const mailbox_share<Message>& box) noexcept : exit_wait(box->core()), box_(box) {}
    actor_exit await_resume() {
        if (result < 0) [[unlikely]]
            throw_failure(result, "await the end of an actor");
        return std::move(exit);
    }
    rondo::result<actor_exit> finish() { return await_resume(); }

 private:
    friend awaits<exit_awaiter>;
    using exit_wait::start;
    mailbox_share<Message> box_;
};

// --- the task of an actor ------------------------------------------------------------------------------

RONDO_API actor_exit exit_of(outcome<void>& out) noexcept;

/// What a spawned block does, and at its end `Over::over(share, exit)`, when the frame is gone: `share` is
/// its first argument.
template <class Block, class Over>
struct ending {
    static auto& share(fiber& f) noexcept { return std::get<1>(Block::from(f).call); }

    static void start(fiber& f) noexcept {
        auto kept = share(f);
        Block::start(f);
        if (f.leaf == nullptr) Over::over(kept, {actor_exit::kind::failed, Block::error(f)});
    }
    static void finish(fiber& f, promise_base& root) noexcept {
        auto kept = share(f);
        const actor_exit exit = exit_of(static_cast<promise<void>&>(root).out);
        Block::finish(f, root);
        Over::over(kept, exit);
    }
    static void discard(fiber& f) noexcept {
        auto kept = share(f);
        Block::discard(f);
        Over::over(kept, {actor_exit::kind::cancelled, nullptr});
    }
    static constexpr spawned_vtable<void> table = {
        {&start, &finish, &discard, &Block::error, &Block::free, Block::table.plain_granules}, &Block::result_of};
};

template <class Over, class F, class First, class... Args>
fiber& make_ending_child(scope& home, std::source_location place, F&& f, First&& first, Args&&... args) {
    auto& child = make_child(home, place, std::forward<F>(f), std::forward<First>(first), std::forward<Args>(args)...);
    child.vt = &ending<std::remove_reference_t<decltype(child)>, Over>::table;
    return child;
}

}  // namespace rondo::detail
