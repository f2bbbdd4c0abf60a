// Actors: state of their own, one message at a time, and an address for everybody else.
//
//     #include <variant>
//
//     struct deposit { int amount; };
//     struct get_balance : rondo::request<int> {};
//
//     struct account {
//         using message = std::variant<deposit, get_balance>;
//         void on(deposit& d) { balance += d.amount; }
//         int on(get_balance&) { return balance; }
//         int balance = 0;
//     };
//
//     auto alice = rondo::spawn_actor<account>();
//     co_await alice.tell<deposit>(100);
//     int now = co_await alice.ask<get_balance>();
//
// An actor is a coroutine that reads a mailbox, or, as here, an object with an `on` for each message. It is
// a task like any other: it lives in a scope, may spawn others, and ends no later than its scope. Nobody
// waits for it, so when the scope's body and other tasks have ended, it is cancelled.
//
// Messages of one sender arrive in order. Whatever is sent is handled, or refused to its sender, or counted
// as a dead letter (loop_stats::dead_letters, loop::on_dead_letter).
#pragma once

#include <rondo/base/detail/move_back.hpp>
#include <rondo/actor/detail/actor.hpp>
#include <rondo/task/group.hpp>
#include <rondo/actor/mailbox.hpp>

#include <source_location>

namespace rondo {

/// What spawn_actor() takes first, if anything has to be said.
struct actor_options {
    const char* name = "";                // for reports; must outlive the actor
    std::uint32_t capacity = 64;          // messages that wait in its mailbox; 0: every sender waits
    overflow when_full = overflow::wait;  // what happens to a message for which there is no room
    detail::group* in = nullptr;          // a task_group or supervisor_group; null: the loop's root scope
    std::source_location place = std::source_location::current();  // where it is spawned
};

namespace detail {

/// Message(T(args...)). A request that is an aggregate begins with the request itself.
template <class Message, class T, class... Args>
Message make_message(Args&&... args) {
    if constexpr (std::is_base_of_v<request_base, T> && std::is_aggregate_v<T>) {
        using base = request<typename T::reply_type>;
        if constexpr (std::is_same_v<Message, T>) {
            return T(base(), std::forward<Args>(args)...);
        } else {
            return Message(std::in_place_type<T>, base(), std::forward<Args>(args)...);
        }
    } else if constexpr (std::is_same_v<Message, T>) {
        return T(std::forward<Args>(args)...);
    } else {
        return Message(std::in_place_type<T>, std::forward<Args>(args)...);
    }
}

/// Nobody took the message: if it was moved here as a whole, it moves back.
template <class T, class... Args, class Message>
void message_back([[maybe_unused]] Message& m, [[maybe_unused]] std::remove_reference_t<Args>&... args) noexcept {
    if constexpr (sizeof...(Args) == 1) {
        if constexpr (std::is_same_v<Message, T>) {
            (move_back<Args>(args, m), ...);
        } else if (T* const made = get_if<T>(&m)) {
            (move_back<Args>(args, *made), ...);
        }
    }
}

template <class F>
struct mailbox_parameter;  // of a function whose first parameter is a mailbox<M>&: M
template <class M, class... Rest>
struct mailbox_parameter<task<>(mailbox<M>&, Rest...)> {
    using type = M;
};
template <class F>
struct mailbox_parameter<F*> : mailbox_parameter<F> {};
template <class F>
    requires requires { &F::operator(); }
struct mailbox_parameter<F> : mailbox_parameter<decltype(&F::operator())> {};
template <class C, class M, class... Rest>
struct mailbox_parameter<task<> (C::*)(mailbox<M>&, Rest...) const> {
    using type = M;
};
/// The first argument of an actor, where options may stand instead.
template <class A>
concept not_options = !std::is_same_v<std::remove_cvref_t<A>, actor_options>;

template <class F>
concept actor_body = requires { typename mailbox_parameter<std::decay_t<F>>::type; };

}  // namespace detail

/// The address of an actor that takes `Message`. Copies are cheap. It stays valid when the actor has ended, and
/// also when a supervisor has restarted it. One that is empty, or was moved from, addresses nobody: using it
/// asserts. For the thread of the actor's loop.
template <class Message>
class actor_ref {
 public:
    actor_ref() noexcept = default;
    explicit actor_ref(mailbox<Message>& box) noexcept : box_(box) {}

    explicit operator bool() const noexcept { return box_.get() != nullptr; }
    bool operator==(const actor_ref& other) const noexcept { return box_.get() == other.box_.get(); }

    /// Sends T(args...), which is one of the alternatives when Message is a std::variant. Waits only when the
    /// mailbox is full and its policy is to wait. To an actor that has ended it is a dead letter. Throws
    /// mailbox_full if that is the policy, bad_alloc, and what the constructor of T throws.
    /// Cancel: while it waits, nothing was sent. O(1).
    template <class T = Message, class... Args>
    [[nodiscard]] auto tell(Args&&... args) const {
        (detail::assert_safe_argument<Args>(), ...);
        return detail::tell_awaiter<Message>(share(), detail::make_message<Message, T>(std::forward<Args>(args)...));
    }
    /// Does what tell() does if that needs no waiting. False: nothing was sent, since the mailbox is full or the actor
    /// has ended. A message that was given whole, as a T, is untouched then.
    template <class T = Message, class... Args>
    bool try_tell(Args&&... args) const {
        Message m = detail::make_message<Message, T>(std::forward<Args>(args)...);
        if (box().try_accept(m)) return true;
        detail::message_back<T, Args...>(m, args...);
        return false;
    }
    /// Sends the request T(args...), and gives the reply. A deadline is that of a scope around it. Throws
    /// no_such_actor (at once when the actor has ended; also when it ends before it takes the request),
    /// no_reply, mailbox_full, bad_alloc.
    /// Cancel: the request may have been sent, and may be handled; the reply is dropped.
    template <class T = Message, class... Args>
    [[nodiscard]] auto ask(Args&&... args) const {
        (detail::assert_safe_argument<Args>(), ...);
        static_assert(std::is_base_of_v<detail::request_base, T>, "what is asked derives from rondo::request<reply>");
        return detail::ask_awaiter<Message, T>(share(), detail::make_message<Message, T>(std::forward<Args>(args)...));
    }

    /// Asks the actor to end when it has handled what was sent until now, senders that wait included; what is
    /// sent later is refused. Does not wait.
    void stop() const noexcept { box().core().stop(); }
    /// Cancels the actor's task; what is left in its mailbox is refused. Does not wait.
    void kill() const noexcept { box().core().kill(); }
    /// Waits until the actor has ended for good, and tells how; `no_such_actor`, at once, when it had before.
    /// Cancel: nothing is lost.
    [[nodiscard]] auto ended() const noexcept { return detail::exit_awaiter<Message>(share()); }

    bool alive() const noexcept { return !box().core().ended; }
    /// Messages in its mailbox.
    std::size_t size() const noexcept { return box().size(); }
    const char* name() const noexcept { return box().name(); }
    mailbox<Message>& box() const noexcept { return *share().get(); }  // for supervisors

 private:
    const detail::mailbox_share<Message>& share() const noexcept {
        RONDO_ASSERT(box_.get() != nullptr, "an empty actor_ref is used");
        return box_;
    }
    detail::mailbox_share<Message> box_;
};

/// Puts T(exit) into `to` when `of` has ended for good: once, whatever the mailbox's bound. If it has ended
/// already, at once, with `no_such_actor`. While it lives: afterwards no such message comes, and one that
/// waits in the mailbox is gone. Belongs to the actor that `to` belongs to.
template <class T, class Message>
class actor_watch : detail::watcher, detail::signal_mail<Message> {
 public:
    template <class Other>
    actor_watch(mailbox<Message>& to, const actor_ref<Other>& of) noexcept : watcher(&told), to_(to) {
        detail::mailbox_core& watched = of.box().core();
        if (watched.ended) {
            told(*this, {});
        } else {
            watched.watchers.push_back(*this);
        }
    }
    actor_watch(const actor_watch&) = delete;
    actor_watch& operator=(const actor_watch&) = delete;
    ~actor_watch() {
        if (watcher::linked()) watcher::unlink();
        if (detail::signal_mail<Message>::linked()) detail::signal_mail<Message>::unlink();
    }

 private:
    static void told(detail::watcher& w, const actor_exit& exit) noexcept {
        auto& self = static_cast<actor_watch&>(w);
        self.message.emplace(detail::make_message<Message, T>(exit));
        self.to_.accept_signal(self);
    }
    mailbox<Message>& to_;
};

/// A class whose objects handle messages. `on(T&)`, for each T of its message, gives nothing or task<>; for a
/// request, the reply R or task<R>, or nothing if it replies itself, perhaps later.
template <class B>
concept behaviour = requires { typename B::message; };

/// Starts an actor: `fn(mailbox<Message>&, args...)`, which gives a task<>. Gives its address. It takes its
/// first step when the spawner suspends; messages may be sent before. Throws bad_alloc. O(1).
template <detail::actor_body F, class... Args>
auto spawn_actor(const actor_options& options, F&& fn, Args&&... args);
template <detail::actor_body F, class... Args>
    requires(sizeof...(Args) > 3)
auto spawn_actor(F&& fn, Args&&... args);
template <detail::actor_body F>
auto spawn_actor(F&& fn, std::source_location place = std::source_location::current());
template <detail::actor_body F, class A1>
auto spawn_actor(F&& fn, A1&& a1, std::source_location place = std::source_location::current());
template <detail::actor_body F, class A1, class A2>
auto spawn_actor(F&& fn, A1&& a1, A2&& a2, std::source_location place = std::source_location::current());
template <detail::actor_body F, class A1, class A2, class A3>
auto spawn_actor(F&& fn, A1&& a1, A2&& a2, A3&& a3, std::source_location place = std::source_location::current());

/// Starts an actor that is a behaviour: `B(args...)`, or `B(mailbox, args...)` if it has such a constructor. That is
/// made in the actor's first step, and gone when the actor ends. An error in it ends the actor.
template <behaviour B, class... Args>
auto spawn_actor(const actor_options& options, Args&&... args);
template <behaviour B, class... Args>
    requires(sizeof...(Args) > 3 && !(std::is_same_v<std::remove_cvref_t<Args>, actor_options> || ...))
auto spawn_actor(Args&&... args);
template <behaviour B>
auto spawn_actor(std::source_location place = std::source_location::current());
template <behaviour B, detail::not_options A1>
auto spawn_actor(A1&& a1, std::source_location place = std::source_location::current());
template <behaviour B, detail::not_options A1, class A2>
auto spawn_actor(A1&& a1, A2&& a2, std::source_location place = std::source_location::current());
template <behaviour B, detail::not_options A1, class A2, class A3>
auto spawn_actor(A1&& a1, A2&& a2, A3&& a3, std::source_location place = std::source_location::current());

// implementation

namespace detail {

struct actor_over {
    template <class Message>
    static void over(mailbox_share<Message>& box, const actor_exit& exit) noexcept {
        box->end(exit);
    }
};

template <class Message, class F, class... Args>
actor_ref<Message> start_actor(const actor_options& options, F&& f, Args&&... args) {
    const mailbox_options box = {options.name, options.capacity, options.when_full};
    const actor_ref<Message> address(*new mailbox<Message>(box));
    scope& home = options.in != nullptr ? options.in->core() : detail::running().root();
    RONDO_ASSERT(options.in == nullptr || options.in->is_open(), "spawn into a group that has ended");
    fiber& child = make_ending_child<actor_over>(home, options.place, std::forward<F>(f),
                                                 mailbox_share<Message>(address.box()), std::forward<Args>(args)...);
    address.box().core().body = &child;
    if (options.in != nullptr) options.in->to_background(child);
    return address;
}

// --- behaviours ----------------------------------------------------------------------------------------

template <class T>
task<> answer(T& request, task<typename T::reply_type> handler) {
    if constexpr (std::is_void_v<typename T::reply_type>) {
        co_await std::move(handler);
        request.reply();
    } else {
        request.reply(co_await std::move(handler));
    }
}

/// Calls `on`; gives what is left to await, if anything.
template <class B, class T>
task<> dispatch(B& state, T& m) {
    if constexpr (is_variant<T>) {
        return visit([&state](auto& each) { return dispatch(state, each); }, m);
    } else if constexpr (!requires { state.on(m); }) {
        static_assert(requires { state.on(m); }, "the actor has no on(T&) for this T, which is one of its messages");
        return task<>::none();
    } else if constexpr (std::is_base_of_v<request_base, T>) {
        using reply = typename T::reply_type;
        using given = decltype(state.on(m));
        if constexpr (std::is_same_v<given, task<reply>>) {
            return answer(m, state.on(m));
        } else if constexpr (is_task<given>) {
            static_assert(std::is_same_v<given, task<>>, "on(T&) of a request gives its reply, or replies itself");
            return state.on(m);
        } else if constexpr (!std::is_void_v<given>) {
            m.reply(state.on(m));
        } else {
            state.on(m);
            if constexpr (std::is_void_v<reply>) m.reply();
        }
        return task<>::none();
    } else if constexpr (is_task<decltype(state.on(m))>) {
        return state.on(m);
    } else {
        static_assert(std::is_void_v<decltype(state.on(m))>, "on(T&) of what is no request gives nothing, or task<>");
        state.on(m);
        return task<>::none();
    }
}

template <class B, class Message, class... Args>
B make_behaviour(mailbox<Message>& box, Args&&... args) {
    if constexpr (std::is_constructible_v<B, mailbox<Message>&, Args...>) {
        return B(box, std::forward<Args>(args)...);
    } else {
        return B(std::forward<Args>(args)...);
    }
}

/// A wait for one message after the other, which stay in it: a frame that lives long is smaller so.
template <class Message>
struct next_mail : take_wait<Message>, awaits<next_mail<Message>> {
    explicit next_mail(mailbox<Message>& box) noexcept : take_wait<Message>(box) {}
    void await_resume() const { this->check(); }
};

template <class B, class... Args>
struct behaves {
    using message = typename B::message;

    task<> operator()(mailbox<message>& box, Args... args) const {
        B state = make_behaviour<B>(box, std::move(args)...);
        next_mail<message> next(box);
        for (;;) {
            co_await next;
            if (!next.got) co_return;
            try {
                task<> rest = dispatch(state, *next.got);
                if (!rest.is_none()) co_await std::move(rest);
            } catch (const cancelled&) {
                throw;
            } catch (...) {
                if (!box.core().resumes_after(std::current_exception())) throw;
            }
            next.got.reset();
        }
    }
};

}  // namespace detail

template <class Message>
actor_ref<Message> mailbox<Message>::self() noexcept {
    return actor_ref<Message>(*this);
}

template <detail::actor_body F, class... Args>
auto spawn_actor(const actor_options& options, F&& fn, Args&&... args) {
    using message = typename detail::mailbox_parameter<std::decay_t<F>>::type;
    return detail::start_actor<message>(options, std::forward<F>(fn), std::forward<Args>(args)...);
}
template <detail::actor_body F, class... Args>
    requires(sizeof...(Args) > 3)
auto spawn_actor(F&& fn, Args&&... args) {
    return spawn_actor(actor_options{.place = {}}, std::forward<F>(fn), std::forward<Args>(args)...);
}
// With few arguments there is room for a last one, the place of the call, which dumps name.
template <detail::actor_body F>
auto spawn_actor(F&& fn, std::source_location place) {
    return spawn_actor(actor_options{.place = place}, std::forward<F>(fn));
}
template <detail::actor_body F, class A1>
auto spawn_actor(F&& fn, A1&& a1, std::source_location place) {
    return spawn_actor(actor_options{.place = place}, std::forward<F>(fn), std::forward<A1>(a1));
}
template <detail::actor_body F, class A1, class A2>
auto spawn_actor(F&& fn, A1&& a1, A2&& a2, std::source_location place) {
    return spawn_actor(actor_options{.place = place}, std::forward<F>(fn), std::forward<A1>(a1), std::forward<A2>(a2));
}
template <detail::actor_body F, class A1, class A2, class A3>
auto spawn_actor(F&& fn, A1&& a1, A2&& a2, A3&& a3, std::source_location place) {
    return spawn_actor(actor_options{.place = place}, std::forward<F>(fn), std::forward<A1>(a1), std::forward<A2>(a2),
                       std::forward<A3>(a3));
}

template <behaviour B, class... Args>
auto spawn_actor(const actor_options& options, Args&&... args) {
    return detail::start_actor<typename B::message>(options, detail::behaves<B, std::decay_t<Args>...>(),
                                                    std::forward<Args>(args)...);
}
template <behaviour B, class... Args>
    requires(sizeof...(Args) > 3 && !(std::is_same_v<std::remove_cvref_t<Args>, actor_options> || ...))
auto spawn_actor(Args&&... args) {
    return spawn_actor<B>(actor_options{.place = {}}, std::forward<Args>(args)...);
}
template <behaviour B>
auto spawn_actor(std::source_location place) {
    return spawn_actor<B>(actor_options{.place = place});
}
template <behaviour B, detail::not_options A1>
auto spawn_actor(A1&& a1, std::source_location place) {
    return spawn_actor<B>(actor_options{.place = place}, std::forward<A1>(a1));
}
template <behaviour B, detail::not_options A1, class A2>
auto spawn_actor(A1&& a1, A2&& a2, std::source_location place) {
    return spawn_actor<B>(actor_options{.place = place}, std::forward<A1>(a1), std::forward<A2>(a2));
}
template <behaviour B, detail::not_options A1, class A2, class A3>
auto spawn_actor(A1&& a1, A2&& a2, A3&& a3, std::source_location place) {
    return spawn_actor<B>(actor_options{.place = place}, std::forward<A1>(a1), std::forward<A2>(a2),
                          std::forward<A3>(a3));
}

}  // namespace rondo
