// request<R>: a message that wants a reply, and how it can go without one.
#pragma once

#include <rondo/base/detail/take.hpp>
#include <rondo/task/detail/wait_queue.hpp>

#include <optional>
#include <utility>

namespace rondo {

/// The actor that was asked has ended, or ended before it took the request. ESRCH.
class RONDO_API no_such_actor : public io_error {
 public:
    explicit no_such_actor(const char* operation, const char* actor);
    ~no_such_actor() override;
};
/// A message was refused. ENOBUFS.
class RONDO_API mailbox_full : public io_error {
 public:
    explicit mailbox_full(const char* operation, const char* actor);
    ~mailbox_full() override;
};
/// The actor has taken the request and let go of it without an answer: mostly, it failed. ENODATA.
class RONDO_API no_reply : public io_error {
 public:
    explicit no_reply(const char* operation, const char* actor);
    ~no_reply() override;
};

namespace detail {

class request_base;

/// The two ends of a question: who asks, and the request, wherever it is by now.
struct question {
    wait_op* asker;
    request_base* request;
};

/// Part of a message that wants a reply. It goes along when the message moves.
class RONDO_API request_base {
 public:
    request_base() noexcept = default;
    request_base(request_base&& other) noexcept { take(other); }
    request_base& operator=(request_base&& other) noexcept {
        if (this == &other) return *this;
        if (of_ != nullptr) refuse(ENODATA);
        take(other);
        return *this;
    }
    ~request_base() {
        if (of_ != nullptr) [[unlikely]]
            refuse(ENODATA);
    }

    /// Whether somebody waits for the reply; no longer when that wait was cancelled, or is answered.
    bool wanted() const noexcept { return of_ != nullptr; }

    // What the mailbox uses.
    void bind(question& q) noexcept {
        of_ = &q;
        q.request = this;
    }
    void unbind() noexcept { of_ = nullptr; }
    void refuse(int error) noexcept;

 protected:
    void answered() noexcept;
    question* of_ = nullptr;

 private:
    void take(request_base& other) noexcept {
        of_ = detail::take(other.of_);
        if (of_ != nullptr) of_->request = this;
    }
};

template <class R>
struct question_for : question {
    std::optional<R> reply;
};
template <>
struct question_for<void> : question {};

}  // namespace detail

/// What a message that is asked derives from: `struct get_balance : rondo::request<int> {};`. Such a message
/// may be told, too: then nobody waits for the reply.
template <class R = void>
class request : public detail::request_base {
 public:
    using reply_type = R;  // what ask() gives
    /// Answers, now or later: the message may be kept. At most once; no effect when nobody waits. A request
    /// that is destroyed without a reply gives no_reply to who asked.
    template <class U = R>
    void reply(U&& value) {
        if (of_ == nullptr) return;
        static_cast<detail::question_for<R>*>(of_)->reply.emplace(std::forward<U>(value));
        answered();
    }
};
template <>
class request<void> : public detail::request_base {
 public:
    using reply_type = void;
    void reply() noexcept {
        if (of_ != nullptr) answered();
    }
};

}  // namespace rondo
