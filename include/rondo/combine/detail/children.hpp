// The children of a combinator: what may be handed in, and the scope they run in.
#pragma once

#include <rondo/task/group.hpp>

#include <iterator>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace rondo::detail {

// --- what is handed in -----------------------------------------------------------------------------------

/// A task that the caller has made, as the function of a child. It may never be called: then it is dropped.
template <class T>
class handed_in {
 public:
    explicit handed_in(task<T>&& made) noexcept : made_(std::move(made)) {}
    handed_in(handed_in&&) noexcept = default;
    handed_in& operator=(handed_in&&) = delete;
    ~handed_in() { made_.drop(); }
    task<T> operator()() noexcept { return std::move(made_); }

 private:
    task<T> made_;
};

template <class C>
auto as_call(C&& child) {
    if constexpr (is_task<std::remove_cvref_t<C>>) {
        static_assert(!std::is_lvalue_reference_v<C>, "a task is handed over: std::move it");
        return handed_in<typename std::remove_cvref_t<C>::value_type>(std::move(child));
    } else {
        return std::decay_t<C>(std::forward<C>(child));
    }
}

template <class C>
concept child_source = is_task<std::remove_cvref_t<C>> ||
                       requires(std::decay_t<C>& call) { requires is_task<std::remove_cvref_t<decltype(call())>>; };

template <class C>
constexpr void assert_safe_child() {
    if constexpr (!is_task<std::remove_cvref_t<C>>) RONDO_ASSERT_SAFE_CALLABLE(C);
}

template <class R>
concept range_of_children = requires(R& range) {
    { *std::begin(range) } -> child_source;
    std::end(range);
};

/// Whether the elements of a range that was given as a `Range&&` are ours: not those of a view.
template <class Range>
inline constexpr bool owns_elements = !std::is_lvalue_reference_v<Range> && !std::ranges::enable_view<Range>;

/// The elements of a range, as calls.
template <class Range>
auto as_calls(Range&& range) {
    using element = decltype(*std::begin(range));
    static_assert(
        !is_task<std::remove_cvref_t<element>> || !std::is_reference_v<element> || !std::is_lvalue_reference_v<Range>,
        "a range of tasks is handed over: std::move it");
    constexpr bool moves = owns_elements<Range> || is_task<std::remove_cvref_t<element>>;
    const auto call_of = [](element&& e) -> decltype(auto) {
        if constexpr (moves && std::is_lvalue_reference_v<element>) {
            return as_call(std::move(e));
        } else {
            return as_call(std::forward<element>(e));
        }
    };
    std::vector<decltype(call_of(*std::begin(range)))> calls;
    if constexpr (requires { std::size(range); }) calls.reserve(std::size(range));
    auto end = std::end(range);
    for (auto at = std::begin(range); at != end; ++at) calls.push_back(call_of(*at));
    return calls;
}

// --- who calls -------------------------------------------------------------------------------------------

/// The task that awaits a combinator, and where it does: the place of the children in reports.
struct called_from {
    fiber* task = nullptr;
    std::source_location place;
};

class who_calls {
 public:
    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> h) noexcept {
        const promise_base& p = h.promise();
        here_.task = p.owner;
        here_.place = p.parent != nullptr ? p.parent->site : p.owner->place;
        return false;
    }
    called_from await_resume() const noexcept { return here_; }

 private:
    called_from here_;
};

// --- the scope -------------------------------------------------------------------------------------------

/// Which of the children is which. Numbers of tasks go up one by one, so a run of children that were
/// started together is known by its first: no memory until another task comes in between.
class RONDO_API start_order {
 public:
    /// Throws bad_alloc, and then the child has no index.
    void add(const fiber& child);
    std::size_t size() const noexcept { return size_; }
    /// O(log runs).
    std::size_t index_of(const fiber& child) const noexcept;

 private:
    struct run {
        std::uint32_t first_id;
        std::uint32_t first_index;
    };
    run first_{};
    std::vector<run> later_;
    std::uint32_t size_ = 0;
};

/// The private scope of a combinator's children. At each end it asks what that means for the others.
class RONDO_API join_scope : public group {
 public:
    /// Whether the children that are left are not wanted any more. May throw: that ends the wait too.
    using question = bool (*)(void* joiner, fiber& child, const join_scope& scope);

    join_scope(const called_from& here, question ask, void* decides) noexcept;

    /// Runs what starts the children. What it throws cancels them, and is thrown at the end.
    template <class F>
    void guard(F&& start_all) noexcept {
        try {
            start_all();
        } catch (...) {
            fail(std::current_exception());
        }
    }
    template <class Call>
    fiber& start(Call&& call, std::source_location place) {
        RONDO_ASSERT(is_open(), "spawn into a group that has ended");
        fiber& child = make_child(core(), place, std::forward<Call>(call));
        note(child);
        return child;
    }
    const start_order& order() const noexcept { return order_; }

    /// The body, if there is one, has ended.
    void body_ended(const std::exception_ptr& error) noexcept;
    /// All children have ended: leaves the scope. Gives what is to be thrown: what failed on the way
    /// together with `error`, the joiner's; `cancelled` if children were cut short from outside; or null.
    std::exception_ptr end(std::exception_ptr error) noexcept;

 private:
    static void ended(detail::scope& base, fiber& f) noexcept;
    void fail(std::exception_ptr error) noexcept;
    void note(const fiber& child);

    question ask_;
    void* joiner_;
    std::exception_ptr failed_;  // of the body, of starting, or of asking
    bool failed_first_ = false;  // before any child did
    bool child_failed_ = false;
    bool cut_short_ = false;     // a child, before anyone said stop
    start_order order_;
};

}  // namespace rondo::detail
