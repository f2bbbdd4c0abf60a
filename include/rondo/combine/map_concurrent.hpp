// map_concurrent: a function for each element of a range, a few at once.
//
//     const auto pages = co_await rondo::map_concurrent(urls, 3, fetch);
#pragma once

#include <rondo/combine/joiners.hpp>

#include <cstddef>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

namespace rondo {
namespace detail {

[[noreturn]] RONDO_API void throw_limit_of_zero();

template <class F, bool Owned, class Element>
decltype(auto) call_for(F& fn, std::remove_reference_t<Element>& element) {
    if constexpr (Owned) {
        return call_child(fn, element);  // moves, if fn takes that
    } else {
        return fn(static_cast<Element&&>(element));
    }
}

/// What the children of a map_concurrent share. Each is a worker that takes one element after the other,
/// so there are never more children than the limit.
template <class Range, class F>
class mapping {
    static constexpr bool owned = owns_elements<Range>;
    static constexpr bool sized = requires(std::remove_reference_t<Range>& items) { std::size(items); };
    using element = decltype(*std::begin(std::declval<std::remove_reference_t<Range>&>()));

 public:
    using value = typename value_of_task<decltype(call_for<F, owned, element>(
        std::declval<F&>(), std::declval<std::remove_reference_t<element>&>()))>::type;

    mapping(std::remove_reference_t<Range>& items, std::size_t limit, F& fn, const called_from& here)
        : at_(std::begin(items)),
          end_(std::end(items)),
          may_start_(limit),
          fn_(fn),
          here_(here),
          scope_(here, &ask<joiners::all_succeed>, &failed_) {}

    join_scope& scope() noexcept { return scope_; }
    std::exception_ptr end() noexcept { return scope_.end(failed_.error()); }

    /// Starts as many workers as have something to do. A range that does not know its size has one to begin
    /// with, and each starts the next.
    void start(std::remove_reference_t<Range>& items) {
        if constexpr (sized) {
            const std::size_t size = std::size(items);  // (which may be wrong: the end is where it is)
            if (may_start_ > size) may_start_ = size != 0 ? size : 1;
            while (may_start_ != 0 && at_ != end_) start_worker();
        } else {
            start_worker();
        }
    }

    auto results() {
        if constexpr (std::is_void_v<value>) {
            for (auto& one : results_) check(one);
        } else {
            std::vector<value> all;
            all.reserve(results_.size());
            for (auto& one : results_) all.push_back(std::move(*check(one)));
            return all;
        }
    }

 private:
    static task<> work(mapping& m) {
        while (m.at_ != m.end_ && !m.scope_.cancelled()) {  // (a call that throws has not gone on to the next)
            auto&& item = *m.at_;
            task<value> call = call_for<F, owned, element>(m.fn_, item);
            ++m.at_;
            const std::size_t index = m.results_.size();
            m.results_.emplace_back();
            if (!sized) m.start_worker();
            co_await settled<value>{call};
            if (call.outcome().has_error()) co_await end_with(std::move(call.outcome().error()));
            if constexpr (std::is_void_v<value>) {
                m.results_[index].emplace();
            } else {
                m.results_[index].emplace(call.outcome().take());
            }
        }
    }
    void start_worker() {
        if (may_start_ == 0 || at_ == end_) return;
        --may_start_;
        scope_.start([this] { return work(*this); }, here_.place);
    }
    using result_slot = std::optional<stored<value>>;
    static result_slot& check(result_slot& slot) {
        if (!slot) throw_outcome(task_state::cancelled, nullptr);
        return slot;
    }

    decltype(std::begin(std::declval<std::remove_reference_t<Range>&>())) at_;
    decltype(std::end(std::declval<std::remove_reference_t<Range>&>())) end_;
    std::size_t may_start_;
    F& fn_;
    called_from here_;
    std::vector<result_slot> results_;
    joiners::all_succeed failed_;
    join_scope scope_;
};

template <class Range, class F>
auto run_mapping(Range items, std::size_t limit, F fn) -> task<decltype(std::declval<mapping<Range, F>&>().results())> {
    const called_from here = co_await who_calls{};
    mapping<Range, F> m(items, limit, fn, here);
    m.scope().guard([&] { m.start(items); });
    co_await empty_awaiter(m.scope().core());
    std::exception_ptr error = m.end();
    if (error) co_await end_with(std::move(error));
    co_return m.results();
}

}  // namespace detail

/// Awaits `fn(element)`, which gives a task<T>, for each element, at most `limit` of them at once, in the
/// order of the range. Gives a std::vector<T> in that order, or nothing if T is void. The first failure
/// cancels the others and is thrown, as by when_all; elements that are left are not looked at. An empty
/// range gives an empty vector at once. `limit` 0: throws invalid_argument.
/// A range given as an lvalue must outlive this; of one that is moved in, fn may take the elements.
/// Cancel: reaches all that run; when they have ended `cancelled` goes on, and results are destroyed.
/// Throws bad_alloc. One child for each of the `limit`, not for each element.
template <class Range, class F>
[[nodiscard]] auto map_concurrent(Range&& range, std::size_t limit, F&& fn) {
    RONDO_ASSERT_SAFE_CALLABLE(F);
    if (limit == 0) detail::throw_limit_of_zero();
    return detail::run_mapping<Range, std::decay_t<F>>(std::forward<Range>(range), limit, std::forward<F>(fn));
}

}  // namespace rondo
