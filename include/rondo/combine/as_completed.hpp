// as_completed: what several tasks end with, in the order in which they do.
//
//     co_await as_completed(std::move(downloads), [&](completion_sequence<page>& pages) -> task<> {
//         for (;;) {
//             auto page = co_await pages.next();
//             if (!page) break;
//             show(page->value());
//         }
//     });
//
// It is entered by one awaited call because a sequence that is abandoned half-way has to wait for the
// tasks it cancels, and destructors cannot.
#pragma once

#include <rondo/combine/detail/children.hpp>
#include <rondo/task/outcome.hpp>
#include <rondo/task/wait.hpp>

#include <optional>
#include <utility>

namespace rondo {

/// The outcome of a child, and which one it was.
template <class T>
class [[nodiscard]] completed : public task_outcome<T> {
 public:
    completed(std::size_t index, task_handle<T> ended) noexcept : task_outcome<T>(std::move(ended)), index_(index) {}
    /// Its place in what was handed in.
    std::size_t index() const noexcept { return index_; }

 private:
    std::size_t index_;
};

namespace detail {

class next_op;

/// The scope of children whose ends are queued until someone asks for them.
class RONDO_API completion_scope : public group {
 public:
    explicit completion_scope(const called_from& here) noexcept;

    template <class Call>
    void start(Call&& call, std::source_location place) {
        order_.add(make_child(core(), place, std::forward<Call>(call)));
    }
    const start_order& order() const noexcept { return order_; }
    /// All children have ended: leaves the scope. Errors that nobody has asked for are logged.
    void end() noexcept;

 private:
    friend next_op;
    static void ended(detail::scope& base, fiber& f) noexcept;
    fiber& take_oldest() noexcept;

    ring<fiber> ended_;  // their blocks are kept
    next_op* waiting_ = nullptr;
    start_order order_;
};

/// The wait for the next end.
class RONDO_API next_op : public op, public awaits<next_op, wait_manner::prompt> {
 public:
    explicit next_op(completion_scope& scope) noexcept;

 protected:
    /// Null: there is no other.
    fiber* finish_wait() const;
    completion_scope& scope_;

 private:
    friend completion_scope;
    friend awaits<next_op, wait_manner::prompt>;
    static const op_vtable table;
    bool start() noexcept;
    fiber* got_ = nullptr;  // who wakes the waiter gives it the child
};

}  // namespace detail

/// The sequence; made by as_completed, for its body.
template <class T>
class completion_sequence {
 public:
    explicit completion_sequence(detail::completion_scope& scope) noexcept : scope_(scope) {}
    completion_sequence(const completion_sequence&) = delete;
    completion_sequence& operator=(const completion_sequence&) = delete;

    class awaiter : detail::next_op {
     public:
        using next_op::await_ready;
        using next_op::await_suspend;
        using next_op::next_op;
        std::optional<completed<T>> await_resume() {
            detail::fiber* const child = finish_wait();
            if (child == nullptr) return std::nullopt;
            return completed<T>(scope_.order().index_of(*child), task_handle<T>(*child));
        }
    };

    /// Waits until one more child has ended: its outcome, as an optional; empty when there are no more. Those
    /// that end in one turn come in the order in which they were started. For one task at a time.
    /// Cancel: nothing is lost; the next call gives it.
    [[nodiscard]] awaiter next() noexcept { return awaiter(scope_); }

 private:
    detail::completion_scope& scope_;
};

namespace detail {

template <class T, class R, class Call, class F>
task<R> run_as_completed(std::vector<Call> calls, F fn) {
    const called_from here = co_await who_calls{};
    completion_scope scope(here);
    completion_sequence<T> sequence(scope);
    std::exception_ptr error;
    std::optional<task<R>> body;
    try {
        for (Call& call : calls) scope.start(std::move(call), here.place);
        calls = std::vector<Call>();
        body.emplace(fn(sequence));
    } catch (...) {
        error = std::current_exception();
    }
    if (body) {
        co_await settled<R>{*body};
        if (body->outcome().has_error()) error = std::move(body->outcome().error());
    }
    scope.cancel();  // what the body did not wait for
    co_await empty_awaiter(scope.core());
    scope.end();
    if (error) co_await end_with(std::move(error));
    co_return body->outcome().take();
}

}  // namespace detail

/// Starts the tasks, or callables that give one, of a range, and awaits `body(sequence)`, which gives a
/// task<R>; gives its R or throws its error. The children are read at once, begin in this order when the
/// body first waits, and fail each for itself. When the body ends, those that are left are cancelled and
/// awaited; errors that the body did not ask for are logged. An empty range is an empty sequence.
/// Cancel: reaches the body and every child. Throws bad_alloc.
template <class Range, class F>
    requires detail::range_of_children<Range>
[[nodiscard]] auto as_completed(Range&& children, F&& body) {
    RONDO_ASSERT_SAFE_CALLABLE(F);
    auto calls = detail::as_calls(std::forward<Range>(children));
    using call = typename decltype(calls)::value_type;
    using value = detail::child_value<call>;
    using result = detail::value_called<std::decay_t<F>&, completion_sequence<value>&>;
    return detail::run_as_completed<value, result, call, std::decay_t<F>>(std::move(calls), std::forward<F>(body));
}

}  // namespace rondo
