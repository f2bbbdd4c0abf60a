// channel<T>: values from some tasks to others, in order. Its capacity is how many values it keeps while
// nobody receives them; with none (the default) every send waits until its value is taken: a rendezvous.
//
// Any number of tasks may send and receive, first come, first served on either side. A value moves once
// from the sender into the channel, or straight into the wait of who receives it, and in that moment the
// send is over: a cancel that comes later changes nothing. So no value is lost, and none comes twice.
//
// One loop only. The channel must outlive all waits on it.
#pragma once

#include <rondo/base/detail/safe_argument.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/task/detail/wait_queue.hpp>
#include <rondo/task/wait.hpp>

#include <cerrno>
#include <concepts>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace rondo {

template <class T>
class channel;
template <class T>
class channel_sender;
template <class T>
class channel_receiver;

namespace detail {

class channel_core;

/// A wait of either side.
struct channel_wait : wait_op {
    channel_wait(channel_core& channel, const op_vtable& table) noexcept : wait_op(table), of(&channel) {}
    /// A losing arm of select_one() was cancelled at once, so there is nothing to give back.
    void give_back() noexcept {}
    channel_core* of;
};

/// What a channel is apart from the type of its values.
class RONDO_API channel_core {
 public:
    channel_core(std::size_t capacity, const char* called) noexcept : limit(capacity), made_on(current), name(called) {}
    channel_core(const channel_core&) = delete;
    channel_core& operator=(const channel_core&) = delete;

    /// Where the next value goes. Only when there is room.
    std::size_t place_to_fill() noexcept {
        const std::size_t i = first + count++;
        return i < limit ? i : i - limit;
    }
    /// Where the oldest value is. Only when there is one.
    std::size_t place_to_empty() noexcept {
        const std::size_t i = first;
        first = i + 1 < limit ? i + 1 : 0;
        --count;
        return i;
    }
    /// With a cause, if it is not null. The first one stays.
    void close(std::exception_ptr why) noexcept;
    /// With what a send ends when it is closed, and a receive when nothing is left.
    std::int32_t closed_result() const noexcept { return cause ? -ESHUTDOWN : -EPIPE; }
    std::int32_t end_result() const noexcept { return cause ? -ESHUTDOWN : 0; }
    [[noreturn]] static void fail(const channel_wait& w, const char* operation);
    /// The cause, for a wait that ends by it. Throws it instead, if it has no code.
    static rondo::failure failure_of_cause(const channel_wait& w);
    static const op_vtable sending;
    static const op_vtable receiving;

    const std::size_t limit;  // of buffered values
    std::size_t first = 0;    // the oldest of them
    std::size_t count = 0;
    wait_queue<channel_wait> senders;    // for room, or for a receiver
    wait_queue<channel_wait> receivers;  // for a value
    std::size_t sender_shares = 0;
    std::size_t receiver_shares = 0;
    std::size_t ended = 0;     // or 1; as wide as what it is looked at together with
    const scheduler* const made_on;  // null: made before any loop ran
    const char* const name;
    std::exception_ptr cause;  // why it was closed; null: it is open, or has just ended

 protected:
    ~channel_core();
};

template <class T>
struct receive_wait : channel_wait {
    explicit receive_wait(channel_core& c) noexcept : channel_wait(c, channel_core::receiving) {}

    std::optional<T> await_resume() {
        if (result < 0) [[unlikely]]
            channel_core::fail(*this, "receive");
        return std::move(value);
    }
    rondo::result<std::optional<T>> finish() {
        if (result == -ESHUTDOWN) [[unlikely]]
            return channel_core::failure_of_cause(*this);
        return await_resume();
    }

    std::optional<T> value;
};

template <class T>
struct send_wait : channel_wait {
    send_wait(channel_core& c, T* from) noexcept : channel_wait(c, channel_core::sending), value(from) {}

    void await_resume() const {
        if (result < 0) [[unlikely]]
            channel_core::fail(*this, "send");
    }
    rondo::result<void> finish() const {
        if (result == -ECANCELED) [[unlikely]]
            channel_core::fail(*this, "send");
        if (result == -ESHUTDOWN) return channel_core::failure_of_cause(*this);
        if (result < 0) return failure_thrown_by(errno_code(-result), [this] { await_resume(); });
        return {};
    }

    /// Straight into the wait of a task that does nothing but receive: the common case, without suspending.
    bool hand_over(T& what) noexcept {
        scheduler& l = *current;
        if (of->receivers.empty() || (l.current_fiber()->flags & unusual)) return false;
        auto& to = static_cast<receive_wait<T>&>(of->receivers.front());
        if (to.vt != &channel_core::receiving) return false;  // of a select
        to.value.emplace(std::move(what));
        of->receivers.remove(to);
        to.state = op::done;  // as loop::complete() does
        l.make_ready(*to.owner);
        return true;
    }

    T* value;

 private:
    static constexpr auto unusual = fiber::cancel_pending | fiber::checked;
};

template <class T>
class receive_awaiter : public receive_wait<T>, public awaits<receive_awaiter<T>> {
 public:
    explicit receive_awaiter(channel<T>& c) noexcept : receive_wait<T>(c) {}

    bool start() noexcept {
        channel_core& c = *this->of;
        if ((c.count | c.senders.size() | c.ended) != 0) return start_at_once();
        c.receivers.push(*this);
        return true;
    }

 private:
    bool start_at_once() noexcept;
};

/// Sends a value that lies elsewhere, and stays there if the send fails.
template <class T>
class send_awaiter : public send_wait<T>, public awaits<send_awaiter<T>> {
 public:
    send_awaiter(channel<T>& c, T& from) noexcept : send_wait<T>(c, std::addressof(from)) {}
    bool await_ready() noexcept { return this->hand_over(*this->value); }
    bool start() noexcept { return static_cast<channel<T>&>(*this->of).start(*this); }
};

/// Sends a value that the awaiter itself holds.
template <class T>
class emplace_awaiter : public send_wait<T>, public awaits<emplace_awaiter<T>> {
 public:
    template <class... Args>
    explicit emplace_awaiter(channel<T>& c, std::in_place_t, Args&&... args)
        : send_wait<T>(c, nullptr), held_(std::forward<Args>(args)...) {}
    bool await_ready() noexcept { return this->hand_over(held_); }
    bool start() noexcept {
        this->value = std::addressof(held_);
        return static_cast<channel<T>&>(*this->of).start(*this);
    }

 private:
    T held_;
};

}  // namespace detail

/// Values from some tasks to others, as the head of this file says.
template <class T>
class channel : detail::channel_core {
    static_assert(std::is_object_v<T> && !std::is_const_v<T>, "a channel carries values");
    static_assert(std::is_nothrow_move_constructible_v<T> && std::is_nothrow_destructible_v<T>,
                  "what a channel carries must move without throwing, or a value could be lost on its way");
    static_assert(alignof(T) <= 16, "a channel carries what is aligned to 16 bytes at most");

 public:
    using value_type = T;

    /// Throws bad_alloc; nothing is allocated later. `name` is for reports and must outlive it (a literal).
    explicit channel(std::size_t capacity = 0, const char* name = "")
        : channel_core(capacity, name), values_(capacity != 0 ? std::allocator<T>().allocate(capacity) : nullptr) {}
    /// Nobody may wait any more. Buffered values are destroyed.
    ~channel() {
        drop_buffered();
        if (values_ != nullptr) std::allocator<T>().deallocate(values_, limit);
    }

    // --- sending
    //
    // Waits until there is room, or for an unbuffered channel until a receiver takes the value. Throws
    // io_error(broken_pipe), or the cause, when the channel is closed, before or meanwhile. Cancel, and any
    // failure: the value was not sent; where it is then is said of each. O(1).

    /// Sends T(args...), which is built at once. When it was not sent it is destroyed.
    template <class... Args>
    [[nodiscard]] detail::emplace_awaiter<T> emplace(Args&&... args) {
        (detail::assert_safe_argument<Args>(), ...);
        return detail::emplace_awaiter<T>(*this, std::in_place, std::forward<Args>(args)...);
    }
    /// Sends a T by moving it from where it is, in the moment it is taken: when it was not sent, it has not
    /// been touched. It must stay valid until this ends.
    template <class U>
        requires(std::same_as<U, T>)
    [[nodiscard]] detail::send_awaiter<T> send(U&& value) noexcept {
        static_assert(
            detail::safe_argument<U>,
            "GCC 12 destroys this value twice if it is a temporary, and cannot tell std::move(name) from one: "
            "say send_from(name), which does the same, or emplace(args...)");
        return {*this, value};
    }
    /// Sends a copy, or what converts: as emplace(value).
    template <class U>
        requires(!std::same_as<U, T> && std::constructible_from<T, U>)
    [[nodiscard]] detail::emplace_awaiter<T> send(U&& value) {
        return emplace(std::forward<U>(value));
    }
    /// send(std::move(value)), in a spelling that every compiler takes for every type.
    [[nodiscard]] detail::send_awaiter<T> send_from(T& value) noexcept { return {*this, value}; }

    /// Sends if that needs no waiting; else gives resource_unavailable_try_again, or broken_pipe of a closed
    /// channel, and has not touched the value.
    rondo::result<void> try_send(T&& value) noexcept;
    rondo::result<void> try_send(const T& value) { return try_send(T(value)); }

    // --- receiving

    /// Waits for a value. Empty when the channel is closed and all its values were received:
    ///
    ///     while (auto item = co_await items.receive()) use(*item);
    ///
    /// If it was closed with a cause, that is thrown then.
    /// Cancel: nothing is lost. A value that was faster than the cancel is received all the same. O(1).
    [[nodiscard]] detail::receive_awaiter<T> receive() noexcept { return detail::receive_awaiter<T>(*this); }

    /// A value that can be received without waiting: a buffered one, or that of a send that waits. Empty if there is
    /// none; finished() tells whether one may still come.
    std::optional<T> try_receive() noexcept;

    // --- ending; from either side, any number of times

    /// Nothing can be sent any more. Sends that wait fail and keep their values, receives that wait end empty;
    /// what is buffered can still be received. O(waits).
    void close() noexcept { channel_core::close(nullptr); }
    /// The same because of an error, which receivers then get instead of the end, when they have had what is buffered,
    /// and senders instead of broken_pipe. Who waits must still find the channel. Once it is closed, nothing changes.
    void close(std::exception_ptr cause) noexcept { channel_core::close(std::move(cause)); }
    /// Closes, and destroys what is buffered, when nobody will receive any more. Gives how many values were sent but
    /// never received.
    std::size_t discard() noexcept {
        close();
        return drop_buffered();
    }

    // --- looking

    std::size_t capacity() const noexcept { return limit; }
    /// How many values are buffered.
    std::size_t size() const noexcept { return count; }
    bool closed() const noexcept { return ended != 0; }
    /// With which error it was closed; null if with none, and while it is open.
    std::exception_ptr cause() const noexcept { return channel_core::cause; }
    /// Whether it is closed and everything has been received.
    bool finished() const noexcept { return ended != 0 && count == 0; }
    /// How many tasks wait to send; waiting_receivers(): to receive.
    std::size_t waiting_senders() const noexcept { return senders.size(); }
    std::size_t waiting_receivers() const noexcept { return receivers.size(); }
    const char* name() const noexcept { return channel_core::name; }

 private:
    friend detail::receive_awaiter<T>;
    friend detail::send_awaiter<T>;
    friend detail::emplace_awaiter<T>;
    friend class channel_sender<T>;
    friend class channel_receiver<T>;

    /// False: neither a receiver nor room for it.
    bool give(T& value, const detail::fiber* from) noexcept;
    /// False: there is none.
    bool take(std::optional<T>& into, const detail::fiber* by) noexcept;
    void keep(T& value) noexcept { std::construct_at(values_ + place_to_fill(), std::move(value)); }
    std::size_t drop_buffered() noexcept;
    bool start(detail::send_wait<T>& w) noexcept;
    bool start(detail::receive_wait<T>& w) noexcept;

    T* values_;  // a ring of `limit`
};

/// A share in the sending side of a channel, which `->` reaches: when the last of them is gone, the channel
/// is closed. So several producers need not know which of them is the last. Copying it is one more share; one
/// that was moved from has none, and using it asserts.
template <class T>
class channel_sender {
 public:
    channel_sender() noexcept = default;
    explicit channel_sender(channel<T>& of) noexcept : of_(&of) { ++of_->sender_shares; }
    channel_sender(const channel_sender& other) noexcept : of_(other.of_) {
        if (of_ != nullptr) ++of_->sender_shares;
    }
    channel_sender(channel_sender&& other) noexcept : of_(detail::take(other.of_)) {}
    channel_sender& operator=(channel_sender other) noexcept {
        detail::trade(of_, other.of_);
        return *this;
    }
    ~channel_sender() {
        if (of_ != nullptr && --of_->sender_shares == 0) of_->close();
    }
    channel<T>* operator->() const noexcept { return &**this; }
    channel<T>& operator*() const noexcept {
        RONDO_ASSERT(of_ != nullptr, "an empty channel_sender is used");
        return *of_;
    }

 private:
    channel<T>* of_ = nullptr;
};

/// A share of the receiving side: when the last is gone, the channel is discarded.
template <class T>
class channel_receiver {
 public:
    channel_receiver() noexcept = default;
    explicit channel_receiver(channel<T>& of) noexcept : of_(&of) { ++of_->receiver_shares; }
    channel_receiver(const channel_receiver& other) noexcept : of_(other.of_) {
        if (of_ != nullptr) ++of_->receiver_shares;
    }
    channel_receiver(channel_receiver&& other) noexcept : of_(detail::take(other.of_)) {}
    channel_receiver& operator=(channel_receiver other) noexcept {
        detail::trade(of_, other.of_);
        return *this;
    }
    ~channel_receiver() {
        if (of_ != nullptr && --of_->receiver_shares == 0) of_->discard();
    }
    channel<T>* operator->() const noexcept { return &**this; }
    channel<T>& operator*() const noexcept {
        RONDO_ASSERT(of_ != nullptr, "an empty channel_receiver is used");
        return *of_;
    }

 private:
    channel<T>* of_ = nullptr;
};

// implementation

template <class T>
rondo::result<void> channel<T>::try_send(T&& value) noexcept {
    if (ended) return std::errc::broken_pipe;
    if (!give(value, nullptr)) return std::errc::resource_unavailable_try_again;
    return {};
}

template <class T>
std::optional<T> channel<T>::try_receive() noexcept {
    std::optional<T> value;
    take(value, nullptr);
    return value;
}

template <class T>
bool channel<T>::give(T& value, const detail::fiber* from) noexcept {
    if (detail::channel_wait* const w = receivers.first_of_others(from)) {
        static_cast<detail::receive_wait<T>*>(w)->value.emplace(std::move(value));
        receivers.complete(*w);
        return true;
    }
    if (count == limit) return false;
    keep(value);
    return true;
}

template <class T>
bool channel<T>::take(std::optional<T>& into, const detail::fiber* by) noexcept {
    auto* const w = static_cast<detail::send_wait<T>*>(senders.first_of_others(by));
    if (count != 0) {
        T& oldest = values_[place_to_empty()];
        into.emplace(std::move(oldest));
        std::destroy_at(&oldest);
        if (w == nullptr) return true;
        keep(*w->value);
    } else {
        if (w == nullptr) return false;
        into.emplace(std::move(*w->value));
    }
    senders.complete(*w);
    return true;
}

template <class T>
std::size_t channel<T>::drop_buffered() noexcept {
    const std::size_t dropped = count;
    while (count != 0) std::destroy_at(values_ + place_to_empty());
    return dropped;
}

template <class T>
[[gnu::noinline]] bool channel<T>::start(detail::send_wait<T>& w) noexcept {
    if (ended) {
        w.result = closed_result();
        return false;
    }
    if (give(*w.value, w.owner)) return false;
    senders.push(w);
    return true;
}

template <class T>
bool channel<T>::start(detail::receive_wait<T>& w) noexcept {
    if (take(w.value, w.owner)) return false;
    if (ended) {
        w.result = end_result();
        return false;
    }
    receivers.push(w);
    return true;
}

template <class T>
[[gnu::noinline]] bool detail::receive_awaiter<T>::start_at_once() noexcept {
    return static_cast<channel<T>&>(*this->of).start(*this);
}

}  // namespace rondo
