// oneshot: one value from one task to another, once; a reply, a result, a signal that it is over.
//
//     oneshot<int> answer;
//     spawn(asks_around, std::move(answer.sender)).discard();
//     const auto number = co_await answer.receiver.receive();  // empty: the sender went without sending
//
// Either end may be moved, and each learns when the other has gone. One task waits on an end at a time, and the end
// stays where it is meanwhile; both are asserted. Nothing is allocated: the ends know where the other is.
#pragma once

#include <rondo/task/detail/wait_queue.hpp>
#include <rondo/task/wait.hpp>

#include <optional>
#include <type_traits>
#include <utility>

namespace rondo {
namespace detail {

class oneshot_end;

/// The wait on an end, for the other to do something or to go.
struct RONDO_API oneshot_wait : wait_op {
    oneshot_wait(oneshot_end& end, const op_vtable& table) noexcept : wait_op(table), on(&end) {}
    void give_back() noexcept { leave(); }  // a value stays with the receiver until the task has it
    /// Its task goes on: another may wait.
    void leave() noexcept;
    oneshot_end* on;
    static const op_vtable for_value;
    static const op_vtable for_leaving;
};

class RONDO_API oneshot_end {
 public:
    oneshot_end() noexcept = default;
    explicit oneshot_end(const char* called) noexcept : name(called) {}
    oneshot_end(oneshot_end&& from) noexcept;
    oneshot_end& operator=(oneshot_end&&) = delete;
    ~oneshot_end();

    void pair_with(oneshot_end& end) noexcept {
        other = &end;
        end.other = this;
    }
    /// The other end learns that this one has gone.
    void part() noexcept;
    /// False: it need not wait, because it is `over` already or the other has gone.
    bool wait(oneshot_wait& w, bool over) noexcept;
    void wake() noexcept;

    oneshot_end* other = nullptr;
    oneshot_wait* waiting = nullptr;  // also when it has been woken, until its task goes on
    const char* name = "";
};

inline void oneshot_wait::leave() noexcept {
    if (on->waiting == this) on->waiting = nullptr;
}

}  // namespace detail

/// The end that gets the value. Move-only.
template <class T>
class oneshot_receiver : detail::oneshot_end {
    static_assert(std::is_nothrow_move_constructible_v<T>, "what a oneshot carries must move without throwing");

 public:
    class receive_awaiter;

    oneshot_receiver() noexcept = default;
    oneshot_receiver(oneshot_receiver&&) noexcept = default;

    /// Waits for the value. Empty if the sender has gone without sending, or the value was received before.
    /// Cancel: nothing is lost; the value waits here for the next receive().
    [[nodiscard]] receive_awaiter receive() noexcept { return receive_awaiter(*this); }
    /// The value if it is there, and then it is received; else empty, and ready() tells nothing more: the sender may
    /// still be there, or have gone.
    std::optional<T> try_receive() noexcept { return std::exchange(value_, std::nullopt); }
    /// Whether there is a value.
    bool ready() const noexcept { return value_.has_value(); }

 private:
    template <class>
    friend class oneshot_sender;
    template <class>
    friend class oneshot;
    explicit oneshot_receiver(const char* called) noexcept : oneshot_end(called) {}
    std::optional<T> value_;
};

/// The end that sends the value. Move-only.
template <class T>
class oneshot_sender : detail::oneshot_end {
 public:
    class gone_awaiter;

    oneshot_sender() noexcept = default;
    oneshot_sender(oneshot_sender&&) noexcept = default;

    /// Sends, once, without waiting. False: the receiver has gone, or this was moved from, and the value was not
    /// touched. Asserts that it is the first time.
    bool send(T&& value) noexcept {
        RONDO_ASSERT(!spent_, "a oneshot sends one value");
        if (other == nullptr) return false;
        spent_ = true;
        auto& to = static_cast<oneshot_receiver<T>&>(*other);
        to.value_.emplace(std::move(value));
        part();
        wake();
        return true;
    }
    bool send(const T& value) { return send(T(value)); }

    /// Whether someone can still receive.
    bool wanted() const noexcept { return other != nullptr; }
    /// Waits until the receiver has gone, or has the value: there is no need to work on.
    [[nodiscard]] gone_awaiter unwanted() noexcept { return gone_awaiter(*this); }

 private:
    template <class>
    friend class oneshot;
    explicit oneshot_sender(const char* called) noexcept : oneshot_end(called) {}
    bool spent_ = false;
};

/// The two ends, to be moved from.
template <class T>
class oneshot {
 public:
    /// `name` is for reports and must outlive both (a literal).
    explicit oneshot(const char* name = "") noexcept : sender(name), receiver(name) {
        static_cast<detail::oneshot_end&>(sender).pair_with(receiver);
    }
    oneshot_sender<T> sender;
    oneshot_receiver<T> receiver;
};

// implementation

template <class T>
class oneshot_receiver<T>::receive_awaiter : public detail::oneshot_wait, public awaits<receive_awaiter> {
 public:
    explicit receive_awaiter(oneshot_receiver& of) noexcept : oneshot_wait(of, for_value), of_(&of) {}
    bool start() noexcept { return of_->wait(*this, of_->value_.has_value()); }
    std::optional<T> await_resume() {
        leave();
        if (result < 0) [[unlikely]]
            detail::throw_failure(result, "receive");
        return of_->try_receive();
    }
    rondo::result<std::optional<T>> finish() { return await_resume(); }

 private:
    oneshot_receiver* of_;
};

template <class T>
class oneshot_sender<T>::gone_awaiter : public detail::oneshot_wait, public awaits<gone_awaiter> {
 public:
    explicit gone_awaiter(oneshot_sender& of) noexcept : oneshot_wait(of, for_leaving) {}
    bool start() noexcept { return on->wait(*this, false); }
    void await_resume() {
        leave();
        if (result < 0) [[unlikely]]
            detail::throw_failure(result, "oneshot");
    }
    rondo::result<void> finish() { return await_resume(), rondo::result<void>(); }
};

}  // namespace rondo
