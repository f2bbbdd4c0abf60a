// The waits of a sender and of the actor, which hold a message meanwhile.
#pragma once

#include <rondo/actor/detail/mailbox_core.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/task/wait.hpp>

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

namespace rondo {

template <class Message>
class mailbox;

namespace detail {

template <class Message>
struct mail : mail_wait {
    template <class... Args>
    explicit mail(mailbox_core& box, Args&&... args) : mail_wait(box), message(std::forward<Args>(args)...) {}
    Message message;
};

template <class Message>
struct take_wait : take_base {
    explicit take_wait(mailbox<Message>& box, bool (*chooses)(take_wait&, const Message&) noexcept = nullptr) noexcept
        : take_base(box), wants(chooses) {}
    bool start() noexcept;
    std::optional<Message> await_resume() {
        check();
        return std::move(got);
    }
    rondo::result<std::optional<Message>> finish() { return await_resume(); }
    void check() const {
        if (result < 0) [[unlikely]]
            throw_failure(result, "receive");
    }

    void give_up() noexcept { wants = &nothing; }
    bool gave_up() const noexcept { return wants == &nothing; }
    static bool nothing(take_wait&, const Message&) noexcept { return false; }

    bool (*wants)(take_wait&, const Message&) noexcept;  // null: any
    std::optional<Message> got;
};

/// A message that needs no room: it lies in the watch that sent it.
template <class Message>
struct signal_mail : links {
    std::optional<Message> message;
    std::uint64_t before = 0;  // it comes before the message of this number (mailbox_core::gone)
};

template <class Message>
concept is_variant = requires(const Message& m) { m.valueless_by_exception(); };

/// A share in a mailbox.
template <class Message>
class mailbox_share {
 public:
    mailbox_share() noexcept = default;
    explicit mailbox_share(mailbox<Message>& box) noexcept : box_(&box) { ++box_->shares; }
    mailbox_share(const mailbox_share& other) noexcept : box_(other.box_) {
        if (box_ != nullptr) ++box_->shares;
    }
    mailbox_share(mailbox_share&& other) noexcept : box_(take(other.box_)) {}
    mailbox_share& operator=(mailbox_share other) noexcept {
        trade(box_, other.box_);
        return *this;
    }
    ~mailbox_share() {
        if (box_ != nullptr && --box_->shares == 0) delete box_;
    }
    mailbox<Message>* get() const noexcept { return box_; }
    mailbox<Message>* operator->() const noexcept { return box_; }
    operator mailbox<Message>&() const noexcept { return *box_; }  // NOLINT(*-explicit-*)

 private:
    mailbox<Message>* box_ = nullptr;
};

template <class Message>
struct any_awaiter : take_wait<Message>, awaits<any_awaiter<Message>> {
    explicit any_awaiter(mailbox<Message>& box) noexcept : take_wait<Message>(box) {}
};

template <class Message, class Chooses>
struct choosing_awaiter : take_wait<Message>, awaits<choosing_awaiter<Message, Chooses>> {
    choosing_awaiter(mailbox<Message>& box, Chooses f) : take_wait<Message>(box, &wanted), chooses(std::move(f)) {}
    std::optional<Message> await_resume() {
        this->check();
        if (error) std::rethrow_exception(error);
        return std::move(this->got);
    }
    rondo::result<std::optional<Message>> finish() { return await_resume(); }

    /// It may be the sender of a message who asks: what is thrown is for who receives.
    static bool wanted(take_wait<Message>& w, const Message& m) noexcept {
        auto& self = static_cast<choosing_awaiter&>(w);
        try {
            return self.chooses(m);
        } catch (...) {
            self.error = std::current_exception();
            self.give_up();
            return false;
        }
    }
    Chooses chooses;
    std::exception_ptr error;
};

template <class Message, class T>
struct typed_awaiter : take_wait<Message>, awaits<typed_awaiter<Message, T>> {
    explicit typed_awaiter(mailbox<Message>& box) noexcept : take_wait<Message>(box, &wanted) {}
    static bool wanted(take_wait<Message>&, const Message& m) noexcept { return get_if<T>(&m) != nullptr; }
    std::optional<T> await_resume() {
        std::optional<Message> any = take_wait<Message>::await_resume();
        if (!any) return std::nullopt;
        return std::move(*get_if<T>(&*any));
    }
    rondo::result<std::optional<T>> finish() { return await_resume(); }
};

}  // namespace detail
}  // namespace rondo
