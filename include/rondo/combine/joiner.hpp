// Joiners: the one place where it is decided what the end of a child means for the others.
//
//     co_await rondo::join(rondo::joiners::quorum<int>(2), ask(a), ask(b), ask(c));
//
// A joiner is an object that is told of each child's start and end, says when the rest is no longer
// wanted, and gives the result. Every combinator is a joiner; <rondo/combine/joiners.hpp> has the usual ones, and
//
//     struct first_answer {
//         using value_type = int;                      // what the children give; without it they may differ
//         bool on_complete(rondo::ended<int>& child);  // true: stop, cancel the others
//         int result();                                // when all have ended; may throw
//     };
//
// is one of your own. Two members are optional: `void on_start(std::size_t index)`, and
// `std::exception_ptr error()`, which is asked before result(): an error that need not be thrown to be
// passed on.
//
// Children run in a scope of their own, which ends when all of them have: the ones that are cancelled are
// waited for. A child is a task<T> that nobody has awaited, or something that gives one when it is called.
// Such a callable is copied or moved into the child and lives as long as it does.
#pragma once

#include <rondo/combine/detail/children.hpp>
#include <rondo/task/group.hpp>
#include <rondo/task/outcome.hpp>

#include <concepts>
#include <utility>

namespace rondo {

/// How a child has ended, as its joiner sees it, during on_complete.
class RONDO_API ended_child {
 public:
    ended_child(detail::fiber& child, const detail::join_scope& scope) noexcept : fiber_(child), scope_(scope) {}
    ended_child(const ended_child&) = delete;
    ended_child& operator=(const ended_child&) = delete;

    /// 0 for the child that was started first. O(log n) at worst.
    std::size_t index() const noexcept { return scope_.order().index_of(fiber_); }
    /// Its number in reports and logs.
    std::uint32_t id() const noexcept { return fiber_.id; }
    /// succeeded, failed, or cancelled if it ended so by itself.
    task_state state() const noexcept;
    bool succeeded() const noexcept { return fiber_.flags & detail::fiber::has_value; }
    bool failed() const noexcept { return fiber_.flags & detail::fiber::has_error; }
    /// Null unless it failed.
    std::exception_ptr error() const { return fiber_.vt->error(fiber_); }
    detail::fiber& core() const noexcept { return fiber_; }

 private:
    detail::fiber& fiber_;
    const detail::join_scope& scope_;
};

/// A child that has ended, and that gives a T.
template <class T>
class ended : public ended_child {
 public:
    using ended_child::ended_child;
    /// Its value. Asserts that it succeeded.
    std::add_lvalue_reference_t<T> value() noexcept { return out().value(); }
    /// Moves the value out: whoever holds the child's handle cannot have it any more.
    T take() { return detail::take_result<T>(core()); }
    /// Moves out how it ended, be that a value, an error or a cancellation.
    task_outcome<T> take_outcome() noexcept { return task_outcome<T>(core()); }

 private:
    detail::outcome<T>& out() noexcept {
        RONDO_ASSERT(succeeded(), "the value of a child that has none");
        return static_cast<const detail::spawned_vtable<T>*>(core().vt)->result(core());
    }
};

namespace detail {

template <class J>
struct child_seen_by {
    using type = ended_child;
};
template <class J>
    requires requires { typename J::value_type; }
struct child_seen_by<J> {
    using type = ended<typename J::value_type>;
};

/// What on_complete of J takes.
template <class J>
using seen_by = typename child_seen_by<std::remove_reference_t<J>>::type;

/// Whether J takes children that give a T.
template <class J, class T>
inline constexpr bool takes = [] {
    if constexpr (requires { typename std::remove_reference_t<J>::value_type; }) {
        return std::is_same_v<typename std::remove_reference_t<J>::value_type, T>;
    } else {
        return true;
    }
}();

}  // namespace detail

/// What decides about children, as the head of this file says.
template <class J>
concept joiner = requires(std::remove_reference_t<J>& j, detail::seen_by<J>& child) {
    { j.on_complete(child) } -> std::convertible_to<bool>;
    j.result();
};

namespace detail {

/// A joiner given as an lvalue is used in place; it must outlive the wait. GCC 12: see safe_callable.
#if RONDO_GCC12
template <class J>
inline constexpr bool safe_joiner =
    std::is_lvalue_reference_v<J> || std::is_trivially_destructible_v<J> || !std::is_aggregate_v<J>;
#else
template <class J>
inline constexpr bool safe_joiner = true;
#endif

template <class J>
bool ask(void* joiner, fiber& child, const join_scope& scope) {
    seen_by<J> seen(child, scope);
    return static_cast<std::remove_reference_t<J>*>(joiner)->on_complete(seen);
}

/// Starts a child for `joiner`.
template <class J, class Call>
auto start_child(join_scope& scope, J& joiner, Call&& call, std::source_location place) {
    using value = child_value<std::decay_t<Call>>;
    static_assert(takes<J, value>, "this joiner's value_type is not what the child gives");
    if constexpr (requires { joiner.on_start(std::size_t{}); }) joiner.on_start(scope.order().size());
    return task_handle<value>(scope.start(std::forward<Call>(call), place));
}

/// The error that a joiner passes on without throwing it.
template <class J>
std::exception_ptr error_of(J& joiner) noexcept {
    if constexpr (requires { joiner.error(); }) {
        try {
            return joiner.error();
        } catch (...) {
            return std::current_exception();
        }
    } else {
        return nullptr;
    }
}

/// What a joiner makes of its children. The library's own may take it from their handles, which are in the
/// order of their start.
template <class J, class Children>
decltype(auto) result_of(J& joiner, [[maybe_unused]] Children& children) {
    if constexpr (requires { joiner.gather(children); }) {
        return joiner.gather(children);
    } else {
        return joiner.result();
    }
}
template <class J, class Children>
using joined_value = decltype(result_of(std::declval<std::remove_reference_t<J>&>(), std::declval<Children&>()));

template <class J, class... Calls>
auto join_each(J joiner, Calls... calls) -> task<joined_value<J, std::tuple<task_handle<child_value<Calls>>...>>> {
    const called_from here = co_await who_calls{};
    join_scope scope(here, &ask<J>, &joiner);
    std::tuple<task_handle<child_value<Calls>>...> children;
    scope.guard([&] {
        std::apply([&](auto&... child) { ((child = start_child(scope, joiner, std::move(calls), here.place)), ...); },
                   children);
    });
    co_await empty_awaiter(scope.core());
    std::exception_ptr error = scope.end(error_of(joiner));
    if (error) co_await end_with(std::move(error));
    co_return result_of(joiner, children);
}

template <class J, class Call>
auto join_range(J joiner, std::vector<Call> calls)
    -> task<joined_value<J, std::vector<task_handle<child_value<Call>>>>> {
    const called_from here = co_await who_calls{};
    join_scope scope(here, &ask<J>, &joiner);
    std::vector<task_handle<child_value<Call>>> children;
    scope.guard([&] {
        children.reserve(calls.size());
        for (Call& call : calls) children.push_back(start_child(scope, joiner, std::move(call), here.place));
        calls = std::vector<Call>();
    });
    co_await empty_awaiter(scope.core());
    std::exception_ptr error = scope.end(error_of(joiner));
    if (error) co_await end_with(std::move(error));
    co_return result_of(joiner, children);
}

}  // namespace detail

/// The scope of with_joiner's children.
template <class J>
class joined_group : detail::join_scope {
 public:
    joined_group(const detail::called_from& here, J& decides) noexcept
        : join_scope(here, &detail::ask<J>, &decides), joiner_(decides) {}

    /// Starts a child, a task<T> or a callable that gives one; gives its task_handle<T>. It takes its first
    /// step when the caller suspends, or none if the group is cancelled. Throws bad_alloc, and what
    /// on_start throws.
    template <class C>
    auto spawn(C&& child, std::source_location place = std::source_location::current()) {
        return detail::start_child(*this, joiner_, detail::as_call(std::forward<C>(child)), place);
    }
    /// Cancels the body and all children, as on_complete's answer does.
    void cancel() noexcept { join_scope::cancel(); }
    bool cancelled() const noexcept { return join_scope::cancelled(); }
    /// Children that have not ended.
    std::size_t size() const noexcept { return join_scope::size(); }

    detail::join_scope& core() noexcept { return *this; }

 private:
    J& joiner_;
};

namespace detail {

template <class J, class F>
auto run_joined(J joiner, F fn) -> task<decltype(joiner.result())> {
    using policy = std::remove_reference_t<J>;
    const called_from here = co_await who_calls{};
    joined_group<policy> group(here, joiner);
    task<> body = task<>::none();
    group.core().guard([&] { body = fn(group); });
    if (!body.is_none()) {
        co_await settled<void>{body};
        group.core().body_ended(body.outcome().error());
    }
    co_await empty_awaiter(group.core().core());
    std::exception_ptr error = group.core().end(error_of(joiner));
    if (error) co_await end_with(std::move(error));
    co_return joiner.result();
}

}  // namespace detail

/// Awaits `body(group)`, a task<>, and then every child that was spawned into the group; gives what the
/// joiner makes of them. When on_complete says so, the body and the other children are cancelled. A
/// failure of the body cancels the children as well; it is thrown, together with the joiner's error() if
/// there is one. `joiner` moves in; one given as an lvalue is used in place.
/// Cancel: reaches the body and every child. When they have ended, `cancelled` goes on, unless error()
/// gives an error, or the joiner had said stop before: then nothing was cut short. Children that were cut
/// short are not shown to on_complete. Throws bad_alloc.
template <class J, class F>
    requires joiner<J>
[[nodiscard]] auto with_joiner(J&& joiner, F&& body) {
    static_assert(detail::safe_joiner<J>, "GCC 12 destroys this joiner twice: give it a constructor, or a name");
    RONDO_ASSERT_SAFE_CALLABLE(F);
    static_assert(std::is_void_v<detail::value_called<std::decay_t<F>&, joined_group<std::remove_reference_t<J>>&>>,
                  "the body of with_joiner gives a task<>: the value is what the joiner makes of the children");
    return detail::run_joined<J, std::decay_t<F>>(std::forward<J>(joiner), std::forward<F>(body));
}

/// Does what with_joiner does, for children that are there from the start, and begin in this order: `children`
/// are tasks, or callables that give one.
template <class J, class... Children>
    requires(joiner<J> && sizeof...(Children) > 0 && (detail::child_source<Children> && ...))
[[nodiscard]] auto join(J&& joiner, Children&&... children) {
    static_assert(detail::safe_joiner<J>, "GCC 12 destroys this joiner twice: give it a constructor, or a name");
    (detail::assert_safe_child<Children>(), ...);
    return detail::join_each<J>(std::forward<J>(joiner), detail::as_call(std::forward<Children>(children))...);
}

/// This one takes the children from a range, which may be empty. It is read at once: tasks move out of it,
/// callables are copied, or moved if the range is an rvalue.
template <class J, class Range>
    requires(joiner<J> && detail::range_of_children<Range>)
[[nodiscard]] auto join(J&& joiner, Range&& children) {
    static_assert(detail::safe_joiner<J>, "GCC 12 destroys this joiner twice: give it a constructor, or a name");
    return detail::join_range<J>(std::forward<J>(joiner), detail::as_calls(std::forward<Range>(children)));
}

}  // namespace rondo
