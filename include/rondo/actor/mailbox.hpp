// mailbox<Message>: where the messages of an actor wait until it takes them, in order and one at a time.
//
//     rondo::task<> counter(rondo::mailbox<message>& box, int count) {
//         for (;;) {
//             auto got = co_await box.receive();
//             if (!got) co_return;   // stopped, and nothing is left
//             ...
//
// Bounded: `overflow` says what happens to what does not fit. A message for an actor that waits goes straight
// into its hands, so a mailbox needs memory only while messages pile up, and then one block, which it keeps.
#pragma once

#include <rondo/actor/detail/mailbox_waits.hpp>
#include <rondo/base/detail/safe_argument.hpp>
#include <rondo/task/scope.hpp>

#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

namespace rondo {

template <class Message>
class actor_ref;

/// The actor's own side. Made by spawn_actor(); lives as long as the actor or an address of it.
template <class Message>
class mailbox : detail::mailbox_core {
    static_assert(std::is_nothrow_move_constructible_v<Message> && std::is_nothrow_destructible_v<Message>,
                  "a message must move without throwing, or it could be lost on its way");
    static_assert(alignof(Message) <= 16, "messages are aligned to 16 bytes at most");

 public:
    /// Waits for the next message. Empty when the actor was asked to stop and has taken all there was: then
    /// it should end. Cancel: nothing is lost. A message that came before the cancel is received all the
    /// same. O(1).
    [[nodiscard]] auto receive() noexcept { return detail::any_awaiter<Message>(*this); }
    /// Waits for the first message for which `wanted(message)` holds. Those in front of it stay, in order. Empty
    /// when none can come any more: the actor is asked to stop. What `wanted` throws is thrown here, and the message
    /// stays. O(messages in front of it).
    template <class Wanted>
    [[nodiscard]] auto receive_if(Wanted wanted) {
        RONDO_ASSERT_SAFE_CALLABLE(Wanted);
        return detail::choosing_awaiter<Message, Wanted>(*this, std::move(wanted));
    }
    /// Receives the first message that is a T, if Message is a std::variant.
    template <class T>
    [[nodiscard]] auto receive() noexcept {
        return detail::typed_awaiter<Message, T>(*this);
    }
    /// receive(), but for `at_most` (Erlang's `after`): empty also when that has passed, and stopping()
    /// tells which.
    [[nodiscard]] task<std::optional<Message>> receive_for(delay at_most);
    /// The message that is there; empty if there is none.
    std::optional<Message> try_receive() noexcept {
        std::optional<Message> got;
        take(got, [](const Message&) { return true; });
        return got;
    }

    /// The actor was asked to stop: what is in the mailbox is the last.
    bool stopping() const noexcept { return mailbox_core::stopping; }
    std::size_t size() const noexcept { return count; }
    std::size_t capacity() const noexcept { return limit; }
    /// Senders that wait for room.
    std::size_t waiting() const noexcept { return senders.size(); }
    const char* name() const noexcept { return mailbox_core::name; }
    /// The address, to give to others.
    actor_ref<Message> self() noexcept;

    // What actors' addresses, watches and supervisors use.
    explicit mailbox(const detail::mailbox_options& options) noexcept : mailbox_core(options) {}
    mailbox_core& core() noexcept { return *this; }
    /// Takes the message of a sender. False: the sender waits, for room or for the reply; else s.result says how it
    /// went.
    bool accept(detail::mail<Message>& s) noexcept;
    void accept_signal(detail::signal_mail<Message>& s) noexcept;
    /// The actor is gone: nobody will take what is left.
    void end(const actor_exit& exit) noexcept;
    bool try_accept(Message& m) noexcept;
    static void* operator new(std::size_t size) { return detail::frame_allocate(size); }
    static void operator delete(void* box, std::size_t size) noexcept { detail::frame_deallocate(box, size); }

 private:
    friend class detail::mailbox_share<Message>;
    friend struct detail::take_wait<Message>;
    ~mailbox() { give_back_slots(); }

    Message& at(std::uint32_t i) noexcept { return slots_[(first + i) & (slot_count - 1)]; }
    bool hand_over(Message& m) noexcept;
    bool put(Message& m) noexcept;
    bool grow() noexcept;
    void erase(std::uint32_t i) noexcept;
    void refill() noexcept;
    template <class Wants>
    bool take(std::optional<Message>& into, Wants wants) noexcept;
    void lose(Message& m, int error, const char* why) noexcept;
    static bool sent(detail::mail<Message>& s) noexcept;
    bool refuse(detail::mail<Message>& s, int error, const char* why) noexcept;
    void give_back_slots() noexcept {
        if (slot_count != 0) detail::frame_deallocate(slots_, slot_count * sizeof(Message));
        slot_count = 0;
    }

    Message* slots_ = nullptr;
    detail::ring<detail::signal_mail<Message>> signals_;
};

// implementation

namespace detail {

template <class T>
constexpr std::string_view type_name() noexcept {
    std::string_view text = __PRETTY_FUNCTION__;
    text.remove_prefix(text.find("T = ") + 4);
    return text.substr(0, text.find_first_of(";]"));
}

template <class Message>
request_base* request_in(Message& m) noexcept {
    if constexpr (std::is_base_of_v<request_base, Message>) {
        return &m;
    } else if constexpr (is_variant<Message>) {
        return visit([](auto& each) { return request_in(each); }, m);
    } else {
        return nullptr;
    }
}

template <class Message>
std::string_view type_in(const Message& m) noexcept {
    if constexpr (is_variant<Message>) {
        return visit([](const auto& each) { return type_in(each); }, m);
    } else {
        return type_name<Message>();
    }
}

template <class Message>
bool take_wait<Message>::start() noexcept {
    auto& box = static_cast<mailbox<Message>&>(*from);
    RONDO_ASSERT(box.taker == nullptr, "two tasks receive from one mailbox");
    const bool found = wants == nullptr ? box.take(got, [](const Message&) { return true; })
                                        : box.take(got, [this](const Message& m) { return wants(*this, m); });
    if (found || box.mailbox_core::stopping || gave_up()) return false;
    box.taker = this;
    state = op::armed;
    return true;
}

}  // namespace detail

// --- sending -------------------------------------------------------------------------------------------

template <class Message>
bool mailbox<Message>::accept(detail::mail<Message>& s) noexcept {
    if (mailbox_core::stopping) [[unlikely]]
        return refuse(s, ESRCH, "the actor has ended");
    if (hand_over(s.message)) return sent(s);
    if (count < limit && senders.empty()) {
        if (put(s.message)) [[likely]]
            return sent(s);
        return refuse(s, ENOMEM, nullptr);
    }
    switch (when_full) {
        case overflow::wait: senders.push(s); return false;
        case overflow::reject: return refuse(s, ENOBUFS, nullptr);
        case overflow::drop_newest: break;
        case overflow::drop_oldest:
            if (count == 0) break;
            lose(at(0), ENOBUFS, "the mailbox is full");
            erase(0);
            put(s.message);
            return sent(s);
    }
    return refuse(s, ENOBUFS, "the mailbox is full");
}

/// The message has left its sender, who may go on; or waits for the reply.
template <class Message>
bool mailbox<Message>::sent(detail::mail<Message>& s) noexcept {
    if (s.asks == nullptr) return true;
    s.state = op::armed;
    return false;
}

/// `why` makes a dead letter of what is told; without one its sender is told.
template <class Message>
bool mailbox<Message>::refuse(detail::mail<Message>& s, int error, const char* why) noexcept {
    s.result = -error;
    if (s.asks != nullptr) {
        s.asks->request->unbind();
    } else if (why != nullptr) {
        lost(detail::type_in(s.message), why);
        s.result = 0;
    }
    return true;
}

template <class Message>
bool mailbox<Message>::try_accept(Message& m) noexcept {
    if (mailbox_core::stopping) return false;
    if (hand_over(m)) return true;
    return count < limit && senders.empty() && put(m);
}

/// Into the hands of the actor, if it waits for this.
template <class Message>
bool mailbox<Message>::hand_over(Message& m) noexcept {
    auto* const t = static_cast<detail::take_wait<Message>*>(taker);
    if (t == nullptr) return false;
    if (t->wants != nullptr && !t->wants(*t, m)) {
        if (t->gave_up()) detail::current->complete(*std::exchange(taker, nullptr), 0);
        return false;
    }
    taker = nullptr;
    t->got.emplace(std::move(m));
    detail::current->complete(*t, 0);
    return true;
}

template <class Message>
bool mailbox<Message>::put(Message& m) noexcept {
    if (count == slot_count && !grow()) [[unlikely]]
        return false;
    std::construct_at(&at(count), std::move(m));
    ++count;
    return true;
}

/// Twice as many slots; false without memory.
template <class Message>
bool mailbox<Message>::grow() noexcept {
    const std::uint32_t more = slot_count == 0 ? 4 : slot_count * 2;
    Message* bigger;
    try {
        bigger = static_cast<Message*>(detail::frame_allocate(more * sizeof(Message)));
    } catch (const std::bad_alloc&) {
        return false;
    }
    for (std::uint32_t i = 0; i < count; ++i) {
        std::construct_at(bigger + i, std::move(at(i)));
        std::destroy_at(&at(i));
    }
    give_back_slots();
    slots_ = bigger;
    slot_count = more;
    first = 0;
    return true;
}

template <class Message>
void mailbox<Message>::accept_signal(detail::signal_mail<Message>& s) noexcept {
    if (ended || hand_over(*s.message)) return s.message.reset();
    s.before = gone + count;
    signals_.push_back(s);
}

// --- taking --------------------------------------------------------------------------------------------

/// The messages in the order in which they came: those in the slots, with the signals between them, then
/// those of the senders that wait.
template <class Message>
template <class Wants>
bool mailbox<Message>::take(std::optional<Message>& into, Wants wants) noexcept {
    std::uint32_t i = 0;
    while (i < count && !wants(at(i))) ++i;
    if (!signals_.empty()) [[unlikely]] {
        // In order: the first one behind message i tells that the others are, too.
        detail::signal_mail<Message>* const s = signals_.find(
            [&](detail::signal_mail<Message>& each) { return each.before > gone + i || wants(*each.message); });
        if (s != nullptr && s->before <= gone + i) {
            s->unlink();
            into.emplace(std::move(*s->message));
            s->message.reset();
            return true;
        }
    }
    if (i < count) {
        into.emplace(std::move(at(i)));
        erase(i);
        refill();
        return true;
    }
    auto* const found = static_cast<detail::mail<Message>*>(
        senders.find([&](detail::mail_wait& w) { return wants(static_cast<detail::mail<Message>&>(w).message); }));
    if (found == nullptr) return false;
    into.emplace(std::move(found->message));
    senders.remove(*found);
    if (sent(*found)) detail::current->complete(*found, 0);
    return true;
}

template <class Message>
void mailbox<Message>::erase(std::uint32_t i) noexcept {
    // Those in front of it get the next number, and so do the signals between them.
    if (i != 0 && !signals_.empty()) [[unlikely]]
        signals_.find([this, i](detail::signal_mail<Message>& s) {
            const bool is_behind = s.before > gone + i;
            if (!is_behind) ++s.before;
            return is_behind;
        });
    for (; i > 0; --i) {
        std::destroy_at(&at(i));
        std::construct_at(&at(i), std::move(at(i - 1)));
    }
    std::destroy_at(&at(0));
    first = (first + 1) & (slot_count - 1);
    --count;
    ++gone;
}

/// There is room: for those who waited longest.
template <class Message>
void mailbox<Message>::refill() noexcept {
    while (!senders.empty() && count < limit) {
        auto& s = static_cast<detail::mail<Message>&>(senders.front());
        if (!put(s.message)) return;  // taken from its sender when all else is taken
        senders.remove(s);
        if (sent(s)) detail::current->complete(s, 0);
    }
}

template <class Message>
task<std::optional<Message>> mailbox<Message>::receive_for(delay at_most) {
    struct local {
        static task<std::optional<Message>> take_one(mailbox& box) { co_return co_await box.receive(); }
    };
    auto got = co_await move_on_after(at_most, local::take_one, *this);
    if (!got) co_return std::nullopt;
    co_return std::move(*got);
}

// --- the end -------------------------------------------------------------------------------------------

/// Tells who asked; a message that was told is a dead letter.
template <class Message>
void mailbox<Message>::lose(Message& m, int error, const char* why) noexcept {
    detail::request_base* const asked = detail::request_in(m);
    if (asked != nullptr && asked->wanted()) return asked->refuse(error);
    lost(detail::type_in(m), why);
}

template <class Message>
void mailbox<Message>::end(const actor_exit& exit) noexcept {
    if (ended) return;
    ended = mailbox_core::stopping = true;
    body = nullptr;
    while (count != 0) {
        lose(at(0), ESRCH, "the actor has ended");
        erase(0);
    }
    give_back_slots();
    while (!senders.empty()) {
        auto& s = static_cast<detail::mail<Message>&>(senders.front());
        senders.remove(s);
        refuse(s, ESRCH, "the actor has ended");
        detail::current->complete(s, s.result);
    }
    while (!signals_.empty()) signals_.pop_front();
    tell_watchers(exit);
}

}  // namespace rondo
