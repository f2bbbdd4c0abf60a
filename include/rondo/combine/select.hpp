// select_one(waits...): waits for several things at once, and gets exactly one of them.
//
//     auto chosen = co_await select_one(lines.receive(), sleep_for(3s));
//     if (chosen.index() == 0) use(chosen.get<0>());
//
// The others are as if they had never been begun: a channel keeps its value, a stream its bytes, a listener its
// connection, a semaphore its permits. It ends only when they have ended, so nothing is left behind.
//
// If several could be had at once, it is a matter of chance which one it is: the arms are looked at in turn,
// beginning with a random one (backend::choose), so none that is ready can be passed over for ever. On `sim` the
// oracle says where to begin; a plain run begins with the first. select_in_order() always does.
#pragma once

#include <rondo/task/attempt.hpp>
#include <rondo/task/task.hpp>
#include <rondo/task/wait.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <new>
#include <tuple>
#include <type_traits>
#include <utility>

namespace rondo {
namespace detail {

/// How a kind of wait is begun, and undone when it has completed although another was chosen.
struct arm_kind {
    bool (*start)(op&) noexcept;  // null: otherwise()
    void (*give_back)(op&) noexcept;
};

/// One wait of a select.
struct arm {
    op* what;
    const op_vtable* vt;  // the wait's own: meanwhile it has that of arms
    const arm_kind* kind;
};

/// The one op that its task waits on: it fans out, and is done when all arms are.
class RONDO_API select_op : public op {
 public:
    static constexpr std::uint8_t none = 0xff;

 protected:
    explicit select_op(bool in_order) noexcept : op(table), in_order_(in_order) {}
    /// Begins the arms until one completes at once. False: all is over already.
    bool start_arms(arm* arms, std::size_t count) noexcept;
    /// Throws `cancelled` if nothing was chosen.
    void check() const {
        if (chosen_ == none) [[unlikely]]
            throw_failure(-ECANCELED, "select_one");
    }
    std::uint8_t chosen_ = none;

 private:
    static void cancel(op& o) noexcept;
    static void arm_done(op& o) noexcept;
    static void describe(const op& o, char* text, std::size_t size) noexcept;
    static void describe_arm(const op& o, char* text, std::size_t size) noexcept;
    static const op_vtable table;
    static const op_vtable arm_table;

    void start_arm(std::uint8_t index) noexcept;
    void cancel_arms() noexcept;

    bool in_order_;
    bool starting_ = false;
    bool cancelling_ = false;
    std::uint8_t count_ = 0;
    std::uint8_t left_ = 0;           // arms that wait
    std::uint8_t otherwise_ = none;   // the arm for when no other is ready
    arm* arms_ = nullptr;
};

/// What is awaited through another object, as a task is through its handle.
template <class A>
concept awaited_by_handle = requires(A& a) { a.operator co_await(); };

RONDO_API extern const op_vtable otherwise_vtable;

class otherwise_wait : public op {
 public:
    otherwise_wait() noexcept : op(otherwise_vtable) {}
    void await_resume() const noexcept {}
    rondo::result<void> finish() const noexcept { return {}; }
};

template <class W>
inline constexpr arm_kind kind_of = {
    [](op& o) noexcept {
        if constexpr (requires(W& w) { w.start_as_arm(); }) {
            return static_cast<W&>(o).start_as_arm();
        } else {
            return static_cast<W&>(o).start();
        }
    },
    [](op& o) noexcept { static_cast<W&>(o).give_back(); },
};
template <>
inline constexpr arm_kind kind_of<otherwise_wait> = {nullptr, nullptr};

/// The wait that an argument of select_one() stands for.
template <class A>
auto arm_of(A&& given) {
    using wait = std::remove_cvref_t<A>;
    if constexpr (is_task<wait>) {
        static_assert(!is_task<wait>,
                      "select_one cannot put back what a task has done: spawn it and give its handle, or use when_any");
        return otherwise_wait();  // (one message is enough)
    } else if constexpr (awaited_by_handle<wait>) {
        return arm_of(given.operator co_await());
    } else if constexpr (!std::is_move_constructible_v<wait>) {
        static_assert(std::is_move_constructible_v<wait>,
                      "a scope such as with_timeout() is no arm of select_one: give the wait alone, and beside it "
                      "sleep_for(limit), or put with_timeout() around the whole select_one()");
        return otherwise_wait();
    } else if constexpr (!std::is_same_v<wait, otherwise_wait> && !reversible_wait<wait>) {
        static_assert(reversible_wait<wait>,
                      "select_one cannot put back what this wait has done when another is faster: of a stream "
                      "take receive(), of a listener accept(), or use when_any");
        return otherwise_wait();
    } else {
        static_assert(!std::is_lvalue_reference_v<A>, "select_one takes the waits themselves: std::move(it)");
        return std::move(given);
    }
}

template <class F>
struct making {
    F& make;
};

/// What a wait gives, in a form that can be kept.
template <class R>
struct kept {
    template <class F>
    explicit kept(making<F> m) : value(m.make()) {}
    R& get() noexcept { return value; }
    R value;
};
template <class R>
struct kept<R&> {
    template <class F>
    explicit kept(making<F> m) : value(std::addressof(m.make())) {}
    R& get() noexcept { return *value; }
    R* value;
};
template <>
struct kept<void> {
    template <class F>
    explicit kept(making<F> m) {
        m.make();
    }
    void get() noexcept {}
};

template <class... Sizes>
constexpr std::size_t largest(Sizes... sizes) noexcept {
    std::size_t most = 0;
    ((most = sizes > most ? sizes : most), ...);
    return most;
}

template <class... Waits>
class select_awaiter;

}  // namespace detail

/// What select_one() gives: which arm it was, and what that arm gave. `Results` are what awaiting each alone
/// would give. Move-only.
template <class... Results>
class [[nodiscard]] selected {
 public:
    /// Which arm it was, in the order in which they were given, from 0.
    std::size_t index() const noexcept { return index_; }

    /// What arm I gave, to look at or to move from; asserts that it was this arm. Of one that gives nothing: void.
    template <std::size_t I>
    decltype(auto) get() noexcept {
        RONDO_ASSERT(index_ == I, "get<I>() of a select that chose another arm");
        return stored<I>().get();
    }
    template <std::size_t I>
    decltype(auto) get() const noexcept {
        auto& self = const_cast<selected&>(*this);
        if constexpr (std::is_void_v<decltype(self.template get<I>())>) {
            self.template get<I>();
        } else {
            return std::as_const(self.template get<I>());
        }
    }

    selected(selected&& other) noexcept((std::is_nothrow_move_constructible_v<detail::kept<Results>> && ...))
        : index_(other.index_) {
        each([&]<std::size_t I>() { ::new (bytes_) kept_of<I>(std::move(other.template stored<I>())); });
    }
    selected& operator=(selected&&) = delete;
    ~selected() {
        each([&]<std::size_t I>() { std::destroy_at(&stored<I>()); });
    }

 private:
    template <class... Waits>
    friend class detail::select_awaiter;
    template <std::size_t I>
    using kept_of = std::tuple_element_t<I, std::tuple<detail::kept<Results>...>>;

    template <std::size_t I, class Make>
    selected(std::in_place_index_t<I>, Make&& make) : index_(I) {
        ::new (bytes_) kept_of<I>(detail::making<Make>{make});
    }
    /// Calls `f` with the index of the arm that was chosen, as a constant.
    template <class F>
    void each(F&& f) {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            static_cast<void>(((index_ == I && (f.template operator()<I>(), true)) || ...));
        }(std::index_sequence_for<Results...>());
    }
    template <std::size_t I>
    kept_of<I>& stored() noexcept {
        return *std::launder(reinterpret_cast<kept_of<I>*>(bytes_));
    }

    alignas(detail::kept<Results>...) std::byte bytes_[detail::largest(sizeof(detail::kept<Results>)...)];
    std::size_t index_;
};

/// An arm of select_one() that is had if no other can be had at once.
[[nodiscard]] inline detail::otherwise_wait otherwise() noexcept { return {}; }

namespace detail {

template <class... Waits>
class select_awaiter : public select_op, public awaits<select_awaiter<Waits...>> {
    static_assert(sizeof...(Waits) > 0 && sizeof...(Waits) <= 32, "select_one takes 1 to 32 waits");

 public:
    using value_type = selected<decltype(std::declval<Waits&>().await_resume())...>;

    explicit select_awaiter(bool in_order, Waits&&... waits) : select_op(in_order), waits_(std::move(waits)...) {}

    bool start() noexcept {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            ((arms_[I] = {&std::get<I>(waits_), std::get<I>(waits_).vt, &kind_of<Waits>}), ...);
        }(std::index_sequence_for<Waits...>());
        return start_arms(arms_, sizeof...(Waits));
    }
    value_type await_resume() { return check(), take<0>(); }
    rondo::result<value_type> finish()
        requires(attemptable<Waits> && ...)
    {
        return check(), attempt_take<0>();
    }

 private:
    template <std::size_t I>
    value_type take() {
        if constexpr (I + 1 < sizeof...(Waits))
            if (chosen_ != I) return take<I + 1>();
        return value_type(std::in_place_index<I>,
                          [this]() -> decltype(auto) { return std::get<I>(waits_).await_resume(); });
    }
    template <std::size_t I>
    rondo::result<value_type> attempt_take() {
        if constexpr (I + 1 < sizeof...(Waits))
            if (chosen_ != I) return attempt_take<I + 1>();
        auto& wait = std::get<I>(waits_);
        using alone = decltype(wait.await_resume());
        if constexpr (std::is_same_v<alone,
                                     decltype(wait.finish())>) {  // an attempt() itself: its failure is its value
            return value_type(std::in_place_index<I>, [&]() -> alone { return wait.await_resume(); });
        } else {
            auto got = wait.finish();
            if (!got) return got.failure();
            return value_type(std::in_place_index<I>, [&]() -> decltype(auto) {
                if constexpr (requires { *got; }) return *std::move(got);
            });
        }
    }

    std::tuple<Waits...> waits_;
    arm arms_[sizeof...(Waits)];
};

template <class... Waits>
select_awaiter<Waits...> make_select(bool in_order, Waits&&... waits) {
    return select_awaiter<Waits...>(in_order, std::move(waits)...);
}

}  // namespace detail

/// Waits until one of `waits` can be had, and has it: gives a selected<...> with its index and its value, or
/// throws its error. A wait is what would be awaited alone: channels of all kinds and queues, both ways, sleeps
/// and immediate(), a stream's receive(), a listener's accept(), wait_readable and wait_writable, task handles,
/// semaphores, locks, conditions without a predicate (one per guard), events, latches, barriers, rate limiters,
/// attempt() of any of these; a sleep whose time has come counts as ready. What cannot be put back (read_some,
/// write_all, connect, a mailbox, a task) does not compile. Streams, channels and so on must outlive it.
/// Cancel: all waits are cancelled; if one had completed all the same, it is the one. O(waits), no allocation.
template <class... Waits>
[[nodiscard]] auto select_one(Waits&&... waits) {
    return detail::make_select(false, detail::arm_of(std::forward<Waits>(waits))...);
}

/// Does what select_one does, but if several arms are ready, the first one given is chosen. It may starve the others.
template <class... Waits>
[[nodiscard]] auto select_in_order(Waits&&... waits) {
    return detail::make_select(true, detail::arm_of(std::forward<Waits>(waits))...);
}

}  // namespace rondo
