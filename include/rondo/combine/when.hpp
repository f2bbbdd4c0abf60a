// Several tasks at once, and their results together.
//
//     auto [user, orders] = co_await rondo::when_all(fetch_user(id), fetch_orders(id));
//     const int first = co_await rondo::race(ask(near), ask(far));
//
// This holds for all of them. What is handed in are tasks that nobody has awaited, or callables that give one (these
// are copied or moved in), or one range of either. They become children, in a scope of their own, and
// begin in this order when the caller suspends; results are in this order too. The call returns when every
// child has ended: one that is not wanted any more is cancelled, and awaited. A child that was cancelled
// before its first step never runs.
//
// Cost: one block for each child beside its own frame, and one frame. Errors are passed on, not thrown
// again at each level.
//
// Cancel: reaches every child. When all have ended `cancelled` goes on, and the results of those that had
// completed are destroyed; unless the outcome was decided before. Throws bad_alloc.
#pragma once

#include <rondo/combine/joiners.hpp>

#include <cstddef>
#include <tuple>
#include <utility>
#include <vector>

namespace rondo {

// --- when_all --------------------------------------------------------------------------------------------

namespace detail {

template <class T>
stored<T> value_of(task_handle<T>& ended) {
    if constexpr (std::is_void_v<T>) {
        take_result<void>(ended.core());
        return {};
    } else {
        return take_result<T>(ended.core());
    }
}

struct all_joiner : joiners::all_succeed {
    template <class... Ts>
    std::tuple<stored<Ts>...> gather(std::tuple<task_handle<Ts>...>& children) {
        return std::apply([](auto&... child) { return std::tuple<stored<Ts>...>{value_of<Ts>(child)...}; }, children);
    }
    template <class T>
    std::vector<T> gather(std::vector<task_handle<T>>& children) {
        static_assert(!std::is_reference_v<T>, "a vector holds no references; let the tasks return pointers");
        std::vector<T> values;
        values.reserve(children.size());
        for (task_handle<T>& child : children) values.push_back(take_result<T>(child.core()));
        return values;
    }
    void gather(std::vector<task_handle<void>>& children) {
        for (task_handle<void>& child : children) take_result<void>(child.core());
    }
};

template <class... C>
concept child_sources = sizeof...(C) > 0 && (child_source<C> && ...);

}  // namespace detail

/// Waits for all. Gives a std::tuple of their values (of a task<void>: `nothing`); of a range, a
/// std::vector<T>, or nothing at all if T is void. The first failure cancels the others, and is thrown: as
/// it is when it is the only one, which is what a caller of one of them would see; as an exception_group,
/// first failure in front, when others failed as well before they had ended. An empty range gives an empty
/// vector at once.
template <class... Children>
    requires detail::child_sources<Children...>
[[nodiscard]] auto when_all(Children&&... children) {
    (detail::assert_safe_child<Children>(), ...);
    return detail::join_each<detail::all_joiner>(detail::all_joiner(),
                                                 detail::as_call(std::forward<Children>(children))...);
}
template <class Range>
    requires detail::range_of_children<Range>
[[nodiscard]] auto when_all(Range&& children) {
    return detail::join_range<detail::all_joiner>(detail::all_joiner(),
                                                  detail::as_calls(std::forward<Range>(children)));
}

// --- when_any --------------------------------------------------------------------------------------------

/// What when_any gives: which child ended first, and how each of them ended. `Outcomes` is a std::tuple or a
/// std::vector of task_outcome<T>, in the order of the children.
template <class Outcomes>
class [[nodiscard]] when_any_result {
 public:
    when_any_result(std::size_t index, Outcomes&& outcomes) : index_(index), outcomes_(std::move(outcomes)) {}

    /// The first that ended: with a value, an error, or as cancelled by itself.
    std::size_t index() const noexcept { return index_; }
    /// One that was still running then has state `cancelled`, or what it completed with all the same.
    Outcomes& outcomes() noexcept { return outcomes_; }
    const Outcomes& outcomes() const noexcept { return outcomes_; }

    /// The value of the first, or throws its error. Of a tuple, all must have one type. It moves out of a result that
    /// has no name: `(co_await when_any(...)).value()`.
    decltype(auto) value() & { return first_in(outcomes_).value(); }
    decltype(auto) value() const& { return first_in(outcomes_).value(); }
    decltype(auto) value() && { return std::move(first_in(outcomes_)).value(); }
    /// If the outcomes are a tuple: gives the value of child I, or throws its error, or io_error(operation_canceled).
    template <std::size_t I>
    decltype(auto) get() & {
        return std::get<I>(outcomes_).value();
    }
    template <std::size_t I>
    decltype(auto) get() const& {
        return std::get<I>(outcomes_).value();
    }
    template <std::size_t I>
    decltype(auto) get() && {
        return std::get<I>(std::move(outcomes_)).value();
    }

 private:
    template <class O>
    auto& first_in(O& outcomes) const {
        if constexpr (requires { outcomes.begin(); }) {
            return outcomes[index_];
        } else {
            return first_of_these(outcomes, std::make_index_sequence<std::tuple_size_v<Outcomes>>());
        }
    }
    template <class O, std::size_t... I>
    auto& first_of_these(O& outcomes, std::index_sequence<I...>) const {
        using first = std::tuple_element_t<0, Outcomes>;
        constexpr bool alike = (std::is_same_v<first, std::tuple_element_t<I, Outcomes>> && ...);
        static_assert(alike, "the children give different types: use get<I>()");
        if constexpr (alike) {
            std::remove_reference_t<decltype(std::get<0>(outcomes))>* const all[] = {&std::get<I>(outcomes)...};
            return *all[index_];
        } else {
            return std::get<0>(outcomes);
        }
    }

    std::size_t index_;
    Outcomes outcomes_;
};

namespace detail {

template <class... Ts>
auto outcomes_of(std::tuple<task_handle<Ts>...>& children) {
    return std::apply(
        [](auto&... child) { return std::tuple<task_outcome<Ts>...>{task_outcome<Ts>(std::move(child))...}; },
        children);
}
template <class T>
auto outcomes_of(std::vector<task_handle<T>>& children) {
    std::vector<task_outcome<T>> outcomes;
    outcomes.reserve(children.size());
    for (task_handle<T>& child : children) outcomes.emplace_back(std::move(child));
    return outcomes;
}

/// The first end stops the others.
class any_joiner {
 public:
    bool on_complete(ended_child& child) noexcept {
        if (!found_) index_ = child.index();
        found_ = true;
        return true;
    }
    template <class Children>
    auto gather(Children& children) {
        if (!found_) throw_no_children("when_any");
        using outcomes = decltype(outcomes_of(children));
        return when_any_result<outcomes>(index_, outcomes_of(children));
    }

 private:
    std::size_t index_ = 0;
    bool found_ = false;
};

/// Lets every child run to its end, whatever happens to the others.
class settled_joiner {
 public:
    bool on_complete(ended_child&) noexcept { return false; }
    template <class Children>
    auto gather(Children& children) {
        return outcomes_of(children);
    }
};

}  // namespace detail

/// Waits until one ends, with a value or an error; then the others are cancelled. Gives a when_any_result:
/// which one it was, and the outcome of every child. So nothing is lost that completed at the same time, or
/// in spite of the cancel. Failures are not thrown here, but by value() and get<I>(), or found in
/// outcomes(). If the first one never waits, those behind it never start. An empty range: invalid_argument.
template <class... Children>
    requires detail::child_sources<Children...>
[[nodiscard]] auto when_any(Children&&... children) {
    (detail::assert_safe_child<Children>(), ...);
    return detail::join_each<detail::any_joiner>(detail::any_joiner(),
                                                 detail::as_call(std::forward<Children>(children))...);
}
template <class Range>
    requires detail::range_of_children<Range>
[[nodiscard]] auto when_any(Range&& children) {
    return detail::join_range<detail::any_joiner>(detail::any_joiner(),
                                                  detail::as_calls(std::forward<Range>(children)));
}

// --- race ------------------------------------------------------------------------------------------------

/// Waits until one succeeds, and gives its value; then the others are cancelled, and what they still
/// complete with is destroyed: take when_any if that matters. A child that fails only leaves the race. When all
/// have failed, it throws an exception_group of all errors, in that order, also of a single one. An empty range is
/// refused: invalid_argument.
/// All children give the same T.
template <class First, class... Children>
    requires detail::child_sources<First, Children...>
[[nodiscard]] auto race(First&& first, Children&&... children) {
    (detail::assert_safe_child<First>(), ..., detail::assert_safe_child<Children>());
    using value = detail::child_value<decltype(detail::as_call(std::forward<First>(first)))>;
    return join(joiners::first_value<value>("race"), std::forward<First>(first), std::forward<Children>(children)...);
}
template <class Range>
    requires detail::range_of_children<Range>
[[nodiscard]] auto race(Range&& children) {
    auto calls = detail::as_calls(std::forward<Range>(children));
    using value = detail::child_value<typename decltype(calls)::value_type>;
    return detail::join_range<joiners::first_value<value>>(joiners::first_value<value>("race"), std::move(calls));
}

// --- all_settled -----------------------------------------------------------------------------------------

/// Waits for all, whatever happens to them. Gives a std::tuple of task_outcome<T>; of a range, a vector. It
/// does not throw what children throw. An empty range gives an empty vector at once.
template <class... Children>
    requires detail::child_sources<Children...>
[[nodiscard]] auto all_settled(Children&&... children) {
    (detail::assert_safe_child<Children>(), ...);
    return detail::join_each<detail::settled_joiner>(detail::settled_joiner(),
                                                     detail::as_call(std::forward<Children>(children))...);
}
template <class Range>
    requires detail::range_of_children<Range>
[[nodiscard]] auto all_settled(Range&& children) {
    return detail::join_range<detail::settled_joiner>(detail::settled_joiner(),
                                                      detail::as_calls(std::forward<Range>(children)));
}

}  // namespace rondo
