// Groups: scopes that tasks are spawned into, and that do not end before all of these have.
//
//     co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
//         auto user = group.spawn(fetch_user, id);
//         auto orders = group.spawn(fetch_orders, id);
//         auto u = co_await user;
//         show(u, co_await orders);
//     });
//
// task_group: the first failure cancels the other children and the body; when all have ended, the
// errors are thrown as one exception_group (Python's TaskGroup, Trio's nursery, Kotlin's coroutineScope).
// supervisor_group: a child's failure is its own affair (Kotlin's supervisorScope).
//
// A group is entered and left by one awaited call. The reference may be handed down, and stored as
// long as the body or a child runs; spawning after that is a bug, and asserts.
#pragma once

#include <rondo/task/detail/failures.hpp>
#include <rondo/loop/detail/scope.hpp>
#include <rondo/base/exception_group.hpp>
#include <rondo/task/spawn.hpp>
#include <rondo/task/start.hpp>
#include <rondo/task/task.hpp>

#include <cstddef>
#include <utility>

namespace rondo {

namespace detail {

class RONDO_API group : scope {
 public:
    /// Cancels the body and all children. Spawning goes on being allowed: such a child never runs.
    void cancel() noexcept { scope::cancel(); }
    bool cancelled() const noexcept { return scope::cancelled; }
    /// Children that have not ended.
    std::size_t size() const noexcept { return count; }
    bool empty() const noexcept { return count == 0; }

    // For the functions below.
    scope& core() noexcept { return *this; }
    void open(fiber& f, std::size_t limit) noexcept;
    /// The body has ended; `error` is null, or why.
    void body_ended(const std::exception_ptr& error) noexcept;
    void close() noexcept;
    /// Whether its body or a child runs: what is spawned later asserts.
    bool is_open() const noexcept { return !closed; }
    /// The group will not wait for this child.
    void to_background(fiber& child) noexcept {
        child.flags |= fiber::background;
        ++background_;
        hear_successes();  // the last of the others ends the background
    }
    /// When it has been left: a child that the group waited for was cancelled, and the whole from further out.
    bool was_cut_short() const noexcept { return incomplete_ && (cut_outside_ || cancelled_outside); }
    /// Whether a `cancelled` of the body may end here: the group was cancelled by then.
    bool absorbs() const noexcept { return absorbs_; }

 protected:
    using scope::ended_hook;
    using scope::hear_successes;
    group(loop& l, ended_hook hook, const char* kind) noexcept : scope(l, hook, kind) { closed = true; }
    ~group();
    static group& of_core(scope& core) noexcept { return static_cast<group&>(core); }

    template <class F, class... Args>
    auto spawn_at(std::source_location place, bool background, F&& f, Args&&... args) {
        fiber& child = make_child(*this, place, std::forward<F>(f), std::forward<Args>(args)...);
        if (background) to_background(child);
        return task_handle<child_value<std::decay_t<F>, std::decay_t<Args>...>>(child);
    }
    /// A child whose end is start()'s business until it is ready.
    template <class F, class... Args>
    fiber& make_starting(std::source_location place, F&& f, Args&&... args) {
        fiber& child = make_child(*this, place, std::forward<F>(f), std::forward<Args>(args)...);
        child.flags |= fiber::held;
        return child;
    }
    template <class, class, class, class...>
    friend class start_wait;

    /// A hook's first line: the child's background bit gets its other meaning.
    void child_ended(fiber& f) noexcept;
    /// Whether what is further out is why a child ended as cancelled. That was decided when its wait ended; a
    /// shield may have gone up since.
    bool was_cut_outside(const fiber& child) const noexcept {
        return cancelled_outside || (was_cancelled_outside && (child.flags & fiber::cancel_asked) == 0);
    }

 private:
    bool body_done_ = false;
    bool incomplete_ = false;
    bool cut_outside_ = false;
    bool absorbs_ = false;
    std::size_t background_ = 0;
};

/// spawn() of the groups: like rondo::spawn, into this group.
template <class Group>
class RONDO_API spawner : public group {
 public:
    /// Starts `fn(args...)`, which gives a task<T>, as a child; gives a task_handle<T>. It takes its
    /// first step when the spawner suspends, or when the limit of the group lets it; in a cancelled
    /// group it ends without a step. Throws bad_alloc. O(1), one allocation.
    template <class F, class... Args>
        requires(sizeof...(Args) > 4)
    auto spawn(F&& f, Args&&... args) {
        return this->spawn_at({}, false, std::forward<F>(f), std::forward<Args>(args)...);
    }
    template <class F>
    auto spawn(F&& f, std::source_location place = std::source_location::current()) {
        return this->spawn_at(place, false, std::forward<F>(f));
    }
    template <class F, class A1>
    auto spawn(F&& f, A1&& a1, std::source_location place = std::source_location::current()) {
        return this->spawn_at(place, false, std::forward<F>(f), std::forward<A1>(a1));
    }
    template <class F, class A1, class A2>
    auto spawn(F&& f, A1&& a1, A2&& a2, std::source_location place = std::source_location::current()) {
        return this->spawn_at(place, false, std::forward<F>(f), std::forward<A1>(a1), std::forward<A2>(a2));
    }
    template <class F, class A1, class A2, class A3>
    auto spawn(F&& f, A1&& a1, A2&& a2, A3&& a3,
               std::source_location place = std::source_location::current()) {
        return this->spawn_at(place, false, std::forward<F>(f), std::forward<A1>(a1), std::forward<A2>(a2),
                              std::forward<A3>(a3));
    }
    template <class F, class A1, class A2, class A3, class A4>
    auto spawn(F&& f, A1&& a1, A2&& a2, A3&& a3, A4&& a4,
               std::source_location place = std::source_location::current()) {
        return this->spawn_at(place, false, std::forward<F>(f), std::forward<A1>(a1), std::forward<A2>(a2),
                              std::forward<A3>(a3), std::forward<A4>(a4));
    }

    /// The same for a child that the group does not wait for: it is cancelled when the body and all
    /// other children have ended. It holds one of the places of max_running as long as it runs.
    template <class F, class... Args>
    auto spawn_background(F&& f, Args&&... args) {
        return this->spawn_at({}, true, std::forward<F>(f), std::forward<Args>(args)...);
    }

    /// Starts `fn(started<T>, args...)` as a child and waits until that calls set(value); gives the value, a T.
    /// If the child ends before, start() throws its error, unchanged, and the group does not hear of it; a
    /// child that just returns is a logic_error, one that was cancelled io_error(operation_canceled).
    /// attempt(group.start(...)) works. In a group with a limit it waits for its turn first.
    /// Function and arguments are copied, and moved into the child. Throws bad_alloc.
    /// Cancel: cancels the child and waits for its end; if it is ready all the same, that value is given.
    /// A child that is ready in a group that was cancelled meanwhile is cancelled, as all its children.
    template <class F, class... Args>
    [[nodiscard]] auto start(F&& fn, Args&&... args) {
        RONDO_ASSERT_SAFE_CALLABLE(F);
        using function = std::decay_t<F>;
        return start_wait<group, reported<function>, function, std::decay_t<Args>...>(
            *this, std::forward<F>(fn), std::forward<Args>(args)...);
    }

 protected:
    using group::group;
};

}  // namespace detail

struct task_group_options {
    std::size_t max_running = ~std::size_t{0};  // children that run at once, background ones too; others wait their turn
    bool unwrap_single = false;                 // a single error is thrown as it is, not as a group of one
};

/// See above; made by with_task_group.
class RONDO_API task_group : public detail::spawner<task_group> {
 public:
    // For with_task_group.
    task_group(loop& l, const task_group_options& options) noexcept;
    std::size_t limit() const noexcept { return options_.max_running; }
    void body_ended(const std::exception_ptr& error) noexcept;
    std::exception_ptr take_errors(std::exception_ptr body_error) noexcept;

 private:
    static void ended(detail::scope& base, detail::fiber& f) noexcept;
    detail::failures failed_;
    bool body_failed_first_ = false;
    task_group_options options_;
};

struct supervisor_group_options {
    std::size_t max_running = ~std::size_t{0};
    /// Called with the error of each child that nobody holds a handle of, and where it was spawned.
    /// The default logs it. Must not throw.
    void (*on_error)(const std::exception_ptr& error, std::source_location spawned, void* context) = nullptr;
    void* context = nullptr;
};

/// See above; made by with_supervisor_group. Only its body's failure, or cancel(), cancels the children.
class RONDO_API supervisor_group : public detail::spawner<supervisor_group> {
 public:
    // For with_supervisor_group.
    supervisor_group(loop& l, const supervisor_group_options& options) noexcept;
    std::exception_ptr take_errors(std::exception_ptr body_error) noexcept { return body_error; }
    std::size_t limit() const noexcept { return options_.max_running; }

 private:
    static void ended(detail::scope& base, detail::fiber& f) noexcept;
    supervisor_group_options options_;
};

namespace detail {

/// Awaits a task and throws nothing: its outcome stays in it.
template <class T>
struct settled {
    task<T>& body;
    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    void await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) noexcept {
        body.await_suspend(h, site);
    }
    void await_resume() const noexcept {}
};

/// The end of a coroutine with an error that is passed on, not thrown again.
class end_with {
 public:
    explicit end_with(std::exception_ptr e) noexcept : error(std::move(e)) {}
    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    void await_suspend(std::coroutine_handle<Promise> h) noexcept {
        h.promise().out.set_error(std::move(error));
        h.promise().owner->leaf = h.promise().parent;
    }
    [[noreturn]] void await_resume() const noexcept { __builtin_unreachable(); }

 private:
    std::exception_ptr error;
};

/// What a group that was cancelled from inside throws when its body should have given a value.
RONDO_API std::exception_ptr no_value_error();

/// The running task, for a coroutine that needs it.
struct this_fiber {
    fiber* found = nullptr;
    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> h) noexcept {
        found = h.promise().owner;
        return false;
    }
    fiber& await_resume() const noexcept { return *found; }
};

template <class Group, class T, class F, class Options>
task<T> run_group(F fn, Options options) {
    Group group(this_loop(), options);
    fiber& self = co_await this_fiber{};
    group.open(self, group.limit());
    std::exception_ptr error;
    task<T> body = task<T>::none();
    try {
        body = fn(group);
    } catch (...) {
        error = std::current_exception();
    }
    if (!body.is_none()) {
        co_await settled<T>{body};
        if (body.outcome().has_error()) error = std::move(body.outcome().error());
    }
    group.body_ended(error);
    co_await empty_awaiter(group.core());
    group.close();
    error = group.take_errors(std::move(error));
    // The body had ended, but a cancel from further out cut children short: then the whole was.
    if (!error && group.was_cut_short())
        error = std::make_exception_ptr(rondo::cancelled());
    if (error && group.absorbs() && !(self.flags & fiber::cancel_pending) && is_cancellation(error)) {
        if constexpr (std::is_void_v<T>) {
            co_return;
        } else {
            error = no_value_error();
        }
    }
    if (error) co_await end_with(std::move(error));
    co_return body.outcome().take();
}

template <class F, class Group>
using group_value = typename std::invoke_result_t<F&, Group&>::value_type;

}  // namespace detail

/// Awaits `fn(group)`, which gives a task<T>, and then every child of the group. Gives what fn gave;
/// throws an exception_group of what failed, the first failure in front: a child's or the body's.
/// Cancel: reaches the body and every child; when they have ended, `cancelled` goes on, unless there
/// are errors. A group that cancel() ended is over without an error, unless fn should have given a
/// value: then io_error(operation_canceled). Throws bad_alloc.
template <class F>
[[nodiscard]] auto with_task_group(F&& fn, task_group_options options = {}) {
    RONDO_ASSERT_SAFE_CALLABLE(F);
    using function = std::decay_t<F>;
    return detail::run_group<task_group, detail::group_value<function, task_group>, function>(std::forward<F>(fn),
                                                                                             options);
}

/// The same with a supervisor_group: errors of children stay with their handles, or go to
/// options.on_error; what is thrown is the body's error, as it is.
template <class F>
[[nodiscard]] auto with_supervisor_group(F&& fn, supervisor_group_options options = {}) {
    RONDO_ASSERT_SAFE_CALLABLE(F);
    using function = std::decay_t<F>;
    return detail::run_group<supervisor_group, detail::group_value<function, supervisor_group>, function>(
        std::forward<F>(fn), options);
}

}  // namespace rondo
