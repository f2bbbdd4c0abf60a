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

/// Waits until a scope that the task has entered is empty. Shielded by nature: who cancels this task
/// cancels the scope's.
class RONDO_API empty_awaiter : op, public awaits<empty_awaiter, wait_manner::shielded> {
 public:
    explicit empty_awaiter(scope& s) noexcept : op(table), scope_(s) {}
    bool await_ready() const noexcept { return scope_.size() == 0; }
    void await_resume() const noexcept {}

 private:
    friend awaits<empty_awaiter, wait_manner::shielded>;
    bool start() noexcept {
        state = armed;
        scope_.tell_when_empty(*this);
        return true;
    }
    static const op_vtable table;
    scope& scope_;
};

class RONDO_API group : scope {
 public:
    /// Cancels the body and all children. Spawning goes on being allowed: such a child never runs.
    void cancel() noexcept { scope::cancel(); }
    using scope::cancelled;
    /// How many children have not ended.
    using scope::size;
    bool empty() const noexcept { return size() == 0; }

    // The functions below use the rest.
    scope& core() noexcept { return *this; }
    void open(fiber& f, std::size_t limit) noexcept;
    /// The body has ended; `error` is null, or why.
    void body_ended(const std::exception_ptr& error) noexcept;
    void close() noexcept;
    /// Whether its body or a child runs: what is spawned later asserts.
    bool is_open() const noexcept { return !is_closed(); }
    /// The group will not wait for this child.
    void to_background(fiber& child) noexcept {
        child.flags |= fiber::background;
        ++background_;
        hear_of_successes(true);  // the last of the others ends the background
    }
    /// When it has been left: a child that the group waited for was cancelled, and the whole from further out.
    bool was_cut_short() const noexcept { return incomplete_ && (cut_outside_ || cancelled_outside()); }
    /// Whether a `cancelled` of the body may end here: the group was cancelled by then.
    bool absorbs() const noexcept { return absorbs_; }

 protected:
    using scope::ended_hook;
    using scope::hear_of_successes;
    group(scheduler& l, ended_hook hook, const char* kind) noexcept : scope(l, hook, kind) { scope::close(); }
    ~group();
    static group& of_core(scope& core) noexcept { return static_cast<group&>(core); }

    template <class F, class... Args>
    auto spawn_child(std::source_location place, F&& f, Args&&... args) {
        fiber& child = make_child(*this, place, std::forward<F>(f), std::forward<Args>(args)...);
        return task_handle<child_value<std::decay_t<F>, std::decay_t<Args>...>>(child);
    }
    template <class F, class... Args>
    auto spawn_background_child(std::source_location place, F&& f, Args&&... args) {
        auto child = spawn_child(place, std::forward<F>(f), std::forward<Args>(args)...);
        to_background(child.core());
        return child;
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

    /// A hook's first line.
    void child_ended(fiber& f) noexcept;
    /// Whether what is further out is why a child ended as cancelled. That was decided when its wait ended; a
    /// shield may have gone up since.
    bool was_cut_outside(const fiber& child) const noexcept {
        return cancelled_outside() || (was_cancelled_outside() && !child.cancel_asked);
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
    RONDO_WITH_PLACE(spawn, this->spawn_child)

    /// Spawns a child that the group does not wait for: it is cancelled when the body and all other
    /// children have ended. It holds one of the places of max_running as long as it runs.
    RONDO_WITH_PLACE(spawn_background, this->spawn_background_child)

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
        return start_wait<group, reported<function>, function, std::decay_t<Args>...>(*this, std::forward<F>(fn),
                                                                                      std::forward<Args>(args)...);
    }

 protected:
    using group::group;
};

}  // namespace detail

/// What with_task_group() takes behind its body.
struct task_group_options {
    std::size_t max_running =
        ~std::size_t{0};  // children that run at once, background ones too; others wait their turn
    bool unwrap_single = false;                 // a single error is thrown as it is, not as a group of one
};

/// A task group, as the head of this file says. Only with_task_group makes one.
class RONDO_API task_group : public detail::spawner<task_group> {
 public:
    // What with_task_group uses.
    task_group(detail::scheduler& l, const task_group_options& options) noexcept;
    std::size_t limit() const noexcept { return options_.max_running; }
    void body_ended(const std::exception_ptr& error) noexcept;
    std::exception_ptr take_errors(std::exception_ptr body_error) noexcept;

 private:
    static void ended(detail::scope& base, detail::fiber& f) noexcept;
    detail::failures failed_;
    bool body_failed_first_ = false;
    task_group_options options_;
};

/// What with_supervisor_group() takes behind its body.
struct supervisor_group_options {
    std::size_t max_running = ~std::size_t{0};
    /// Called with the error of each child that nobody holds a handle of, and where it was spawned.
    /// The default logs it. Must not throw.
    void (*on_error)(const std::exception_ptr& error, std::source_location spawned, void* context) = nullptr;
    void* context = nullptr;
};

/// A supervisor group, as the head of this file says. Only with_supervisor_group makes one. Only a failure of its body,
/// or cancel(), cancels the children.
class RONDO_API supervisor_group : public detail::spawner<supervisor_group> {
 public:
    // What with_supervisor_group uses.
    supervisor_group(detail::scheduler& l, const supervisor_group_options& options) noexcept;
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
        note_passed(error, h.promise());
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
    Group group(detail::running(), options);
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
    if (!error && group.was_cut_short()) error = std::make_exception_ptr(rondo::cancelled());
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
using group_value = value_called<F&, Group&>;

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

/// Does what with_task_group does, with a supervisor_group: errors of children stay with their handles, or go
/// to options.on_error; what is thrown is the body's error, as it is.
template <class F>
[[nodiscard]] auto with_supervisor_group(F&& fn, supervisor_group_options options = {}) {
    RONDO_ASSERT_SAFE_CALLABLE(F);
    using function = std::decay_t<F>;
    return detail::run_group<supervisor_group, detail::group_value<function, supervisor_group>, function>(
        std::forward<F>(fn), options);
}

}  // namespace rondo
