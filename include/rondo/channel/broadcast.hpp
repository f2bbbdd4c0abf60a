// broadcast<T>: every value to every subscriber. It keeps the latest `capacity` values; what happens when a
// subscriber is further behind than that is the choice of who makes it.
#pragma once

#include <rondo/base/detail/safe_argument.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/task/detail/wait_queue.hpp>
#include <rondo/task/wait.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace rondo {

/// What becomes of a subscriber that does not keep up.
enum class when_slow : std::uint8_t {
    skip,  // it loses the oldest values, and is told how many: missed()
    wait,  // senders wait for it
};

template <class T>
class broadcast;
template <class T>
class subscription;

namespace detail {

class broadcast_core;

struct broadcast_wait : wait_op {
    broadcast_wait(broadcast_core& b, const op_vtable& table) noexcept : wait_op(table), of(&b) {}
    void give_back() noexcept {}  // as a losing arm of select_one() it was cancelled at once
    broadcast_core* of;
};

/// A wait for the next value of a subscription, which it marks until its task has the value: two that are woken
/// for one value would leave the second with nothing, as at the end.
struct subscription_wait : broadcast_wait {
    subscription_wait(broadcast_core& b, const op_vtable& table, const subscription_wait*& mark) noexcept
        : broadcast_wait(b, table), reader(&mark) {}
    void enter() noexcept {
        RONDO_ASSERT(*reader == nullptr, "two tasks receive from one subscription");
        *reader = this;
    }
    void leave() noexcept {
        if (*reader == this) *reader = nullptr;
    }
    void give_back() noexcept { leave(); }  // a value is read only by who gets it
    const subscription_wait** reader;
};

/// Values have numbers. [oldest, next) are kept; value n is at n % limit.
class RONDO_API broadcast_core {
 public:
    broadcast_core(std::size_t capacity, when_slow choice, const char* called) noexcept;
    broadcast_core(const broadcast_core&) = delete;
    broadcast_core& operator=(const broadcast_core&) = delete;

    bool full() const noexcept { return next - oldest == limit; }
    void wake_receivers() noexcept;
    void close() noexcept;
    [[noreturn]] static void fail(std::int32_t result);
    static const op_vtable sending;
    static const op_vtable receiving;

    const std::size_t limit;
    const when_slow slow;
    bool closed = false;
    std::uint64_t oldest = 0;
    std::uint64_t next = 0;
    std::size_t subscribers = 0;
    wait_queue<broadcast_wait> senders;
    wait_queue<broadcast_wait> receivers;
    const char* const name;

 protected:
    ~broadcast_core();
};

template <class T>
class broadcast_send_awaiter : public broadcast_wait, public awaits<broadcast_send_awaiter<T>> {
 public:
    template <class... Args>
    explicit broadcast_send_awaiter(broadcast<T>& b, std::in_place_t, Args&&... args)
        : broadcast_wait(b, broadcast_core::sending), value_(std::forward<Args>(args)...) {}
    bool start() noexcept { return static_cast<broadcast<T>&>(*of).start(*this); }
    void await_resume() const {
        if (result < 0) [[unlikely]]
            broadcast_core::fail(result);
    }
    rondo::result<void> finish() const {
        if (result == -ECANCELED) broadcast_core::fail(result);
        if (result < 0) return failure_thrown_by(errno_code(-result), [this] { await_resume(); });
        return {};
    }

 private:
    friend broadcast<T>;
    T value_;
};

}  // namespace detail

/// T is copied to each subscriber. The subscriptions must not outlive it.
template <class T>
class broadcast : detail::broadcast_core {
    static_assert(std::is_nothrow_move_constructible_v<T> && std::is_copy_constructible_v<T>,
                  "what a broadcast carries is copied to each subscriber, and must move without throwing");

 public:
    /// `capacity` >= 1. Throws bad_alloc; nothing is allocated later. `name` is for reports and must outlive it.
    explicit broadcast(std::size_t capacity, when_slow choice = when_slow::skip, const char* name = "")
        : broadcast_core(capacity, choice, name), slots_(std::make_unique<slot[]>(capacity)) {}

    /// Sends T(args...) to all who subscribe now. With when_slow::wait it waits while a subscriber has
    /// `capacity` values to read; else it never waits. Without subscribers the value goes nowhere.
    /// Throws io_error(broken_pipe) when it is closed. Cancel: the value was not sent. O(receivers that wait).
    template <class... Args>
    [[nodiscard]] detail::broadcast_send_awaiter<T> emplace(Args&&... args) {
        (detail::assert_safe_argument<Args>(), ...);
        return detail::broadcast_send_awaiter<T>(*this, std::in_place, std::forward<Args>(args)...);
    }
    template <class U>
        requires std::is_constructible_v<T, U>
    [[nodiscard]] detail::broadcast_send_awaiter<T> send(U&& value) {
        return emplace(std::forward<U>(value));
    }
    /// False: it is closed, or would have to wait; then the value was not touched.
    bool try_send(T&& value) noexcept;
    bool try_send(const T& value) { return try_send(T(value)); }

    /// The subscription gets what is sent from now on.
    [[nodiscard]] subscription<T> subscribe() noexcept { return subscription<T>(*this); }
    std::size_t subscribers() const noexcept { return broadcast_core::subscribers; }
    const char* name() const noexcept { return broadcast_core::name; }

    /// No more values: who waits to send fails, who receives gets what is left and then nothing.
    void close() noexcept { broadcast_core::close(); }

 private:
    friend subscription<T>;
    friend detail::broadcast_send_awaiter<T>;
    struct slot {
        std::optional<T> value;
        std::size_t unread = 0;  // by how many subscribers
    };

    bool start(detail::broadcast_send_awaiter<T>& w) noexcept;
    void keep(T&& value) noexcept;
    /// After a subscriber has read, or left: what all have read goes, and who waits to send may.
    void forget_read() noexcept;
    /// It has left its slot before its destructor may send more.
    std::optional<T> take_oldest() noexcept {
        std::optional<T>& kept = at(oldest++).value;
        std::optional<T> taken;
        if (kept) taken.emplace(std::move(*kept));
        kept.reset();
        return taken;
    }
    slot& at(std::uint64_t number) const noexcept { return slots_[number % limit]; }

    std::unique_ptr<slot[]> slots_;
};

/// What one subscriber has yet to read. One task receives at a time, and it must stay where it is meanwhile; both
/// are asserted. Move-only: one that was moved from can only be destroyed.
template <class T>
class subscription {
 public:
    class receive_awaiter;

    explicit subscription(broadcast<T>& of) noexcept : of_(&of), next_(of.next) { ++of_->broadcast_core::subscribers; }
    subscription(subscription&& from) noexcept : of_(detail::take(from.of_)), next_(from.next_), missed_(from.missed_) {
        RONDO_ASSERT(from.reader_ == nullptr, "a subscription was moved while a task receives from it");
    }
    subscription& operator=(subscription&&) = delete;
    ~subscription();

    /// Waits for the next value, in the order in which they were sent. Empty when it is closed and all is read.
    /// Throws what copying T throws; then it can be read again. Cancel: nothing is lost.
    [[nodiscard]] receive_awaiter receive() noexcept { return receive_awaiter(*this); }
    /// How many values it has lost so far because it was slow; the next receive() is the first after them.
    std::uint64_t missed() const noexcept { return missed_ + (next_ < of().oldest ? of().oldest - next_ : 0); }

 private:
    broadcast<T>& of() const noexcept {
        RONDO_ASSERT(of_ != nullptr, "a subscription is used that was moved from");
        return *of_;
    }
    bool has_next() const noexcept { return next_ != of_->next; }
    std::optional<T> read();

    broadcast<T>* of_;
    std::uint64_t next_;
    std::uint64_t missed_ = 0;
    const detail::subscription_wait* reader_ = nullptr;
};

// implementation

template <class T>
void broadcast<T>::keep(T&& value) noexcept {
    if (broadcast_core::subscribers == 0) return;
    [[maybe_unused]] const std::optional<T> dropped = full() ? take_oldest() : std::nullopt;
    slot& s = at(next++);
    s.value.emplace(std::move(value));
    s.unread = broadcast_core::subscribers;
    wake_receivers();
}

template <class T>
bool broadcast<T>::try_send(T&& value) noexcept {
    if (closed || (slow == when_slow::wait && full())) return false;
    keep(std::move(value));
    return true;
}

template <class T>
bool broadcast<T>::start(detail::broadcast_send_awaiter<T>& w) noexcept {
    if (closed) w.result = -EPIPE;
    if (closed || try_send(std::move(w.value_))) return false;
    senders.push(w);
    return true;
}

template <class T>
void broadcast<T>::forget_read() noexcept {
    for (;;) {
        while (oldest != next && at(oldest).unread == 0) take_oldest();
        if (senders.empty() || full()) return;
        keep(std::move(static_cast<detail::broadcast_send_awaiter<T>&>(senders.front()).value_));
        senders.complete_first();
    }
}

template <class T>
subscription<T>::~subscription() {
    if (of_ == nullptr) return;
    RONDO_ASSERT(reader_ == nullptr, "a subscription was destroyed while a task receives from it");
    --of_->broadcast_core::subscribers;
    for (std::uint64_t n = next_ < of_->oldest ? of_->oldest : next_; n != of_->next; ++n) --of_->at(n).unread;
    of_->forget_read();
}

template <class T>
std::optional<T> subscription<T>::read() {
    if (next_ < of_->oldest) {
        missed_ += of_->oldest - next_;
        next_ = of_->oldest;
    }
    if (!has_next()) return std::nullopt;
    auto& slot = of_->at(next_);
    std::optional<T> value = slot.unread == 1 ? std::move(slot.value) : slot.value;
    ++next_;
    --slot.unread;
    of_->forget_read();
    return value;
}

template <class T>
class subscription<T>::receive_awaiter : public detail::subscription_wait, public awaits<receive_awaiter> {
 public:
    explicit receive_awaiter(subscription& s) noexcept
        : subscription_wait(s.of(), detail::broadcast_core::receiving, s.reader_), by_(&s) {}
    bool start() noexcept {
        enter();
        if (by_->has_next() || of->closed) return false;
        of->receivers.push(*this);
        return true;
    }
    std::optional<T> await_resume() {
        leave();
        if (result < 0) [[unlikely]]
            detail::throw_failure(result, "receive");
        return by_->read();
    }
    rondo::result<std::optional<T>> finish() { return await_resume(); }

 private:
    subscription* by_;
};

}  // namespace rondo
