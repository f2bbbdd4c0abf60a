// spawn(fn, args...): a task of its own, beside the one that spawns it.
//
// Function and arguments are copied (or moved) into the child's block and outlive it, so a capturing
// lambda is safe here, and a parameter may be a reference: it refers to the copy (std::ref opts out).
// `spawn(&type::function, &object, args...)` calls a member function; the object must outlive the task,
// unless it is given by value.
#pragma once

#include <rondo/loop/detail/scope.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/loop/detail/scheduler.hpp>
#include <rondo/task/task.hpp>
#include <rondo/task/wait.hpp>

#include <string>
#include <string_view>
#include <tuple>
#include <utility>

namespace rondo {
namespace detail {

RONDO_API bool is_cancellation(const std::exception_ptr& error) noexcept;

/// How a child's function is called: with rvalues where it takes them, else with references to
/// the block's copies.
template <class F, class... Args>
decltype(auto) call_child(F& f, Args&... args) {
    if constexpr (is_task<F>) {
        static_assert(!is_task<F>, "give the function, not its task: spawn(child, 1) instead of spawn(child(1))");
        return F(std::move(f));
    } else if constexpr (std::is_member_pointer_v<F>) {
        // (apply calls as std::invoke does, and comes without <functional>)
        static_assert(std::is_invocable_v<F&, Args&&...>,
                      "the member function cannot be called on that object with these arguments: "
                      "spawn(&type::function, &object, args...)");
        return std::apply(f, std::tuple<Args&&...>(std::move(args)...));
    } else if constexpr (std::is_invocable_v<F&, Args&&...>) {
        return f(std::move(args)...);
    } else {
        static_assert(std::is_invocable_v<F&, Args&...>, "the function cannot be called with these arguments");
        return f(args...);
    }
}

/// The T of the task<T> that the call gives.
template <class F, class... Args>
using child_value = typename value_of_task<decltype(call_child(std::declval<F&>(), std::declval<Args&>()...))>::type;

/// What a handle needs of a block whose function and arguments it does not know.
template <class T>
struct spawned_vtable : fiber::vtable {
    outcome<T>& (*result)(fiber&) noexcept;
};

/// The block of a spawned task: the fiber, then the call while it runs, then the outcome. One
/// allocation, and none of the two is kept longer than needed.
template <class T, class F, class... Args>
struct spawned final : fiber {
    using call_type = std::tuple<F, Args...>;
    static_assert(alignof(call_type) <= 16, "arguments are aligned to 16 bytes at most");

    template <class G, class... A>
    explicit spawned(G&& g, A&&... a) : call(std::forward<G>(g), std::forward<A>(a)...) {}
    ~spawned() {}

    union {
        call_type call;
        outcome<T> out;
    };

    static spawned& from(fiber& f) noexcept { return static_cast<spawned&>(f); }

    static void start(fiber& f) noexcept {
        try {
            task<T> body = std::apply([](F& fn, Args&... args) { return call_child(fn, args...); }, from(f).call);
            std::move(body).start_as_root_of(f);
        } catch (...) {
            not_started(f);
        }
    }

    static void finish(fiber& f, promise_base& base) noexcept {
        auto& root = static_cast<promise<T>&>(base);
        if (root.out.has_error()) [[unlikely]] {
            keep_error(f, root);
        } else if constexpr (std::is_void_v<T>) {
            base.self().destroy();
            from(f).end().set_value();
            f.flags |= fiber::has_value;
        } else {
            keep_value(f, root);
        }
    }

    static void discard(fiber& f) noexcept { from(f).end(); }

    static std::exception_ptr error(fiber& f) noexcept {
        return (f.flags & fiber::has_error) ? from(f).out.error() : nullptr;
    }

    static void free(fiber& f) noexcept {
        spawned& self = from(f);
        std::destroy_at(&self.out);
        std::destroy_at(&self);
        frame_deallocate(&self, sizeof(spawned));
    }

    static outcome<T>& result_of(fiber& f) noexcept { return from(f).out; }

    static constexpr bool plain = std::is_void_v<T> || std::is_trivially_destructible_v<T>;

    static constexpr spawned_vtable<T> table = {
        {&start, &finish, &discard, &error, &free, plain ? granules(sizeof(spawned)) : not_plain}, &result_of};

 private:
    // Errors are handled apart: they would make the usual ways dearer.

    [[gnu::noinline]] static void not_started(fiber& f) noexcept {
        from(f).end().set_error(std::current_exception());  // no frame: the child ends with that
        note_not_started(from(f).out.error(), f);
        f.flags |= fiber::has_error;
    }
    [[gnu::noinline]] static void keep_error(fiber& f, promise<T>& root) noexcept {
        std::exception_ptr error = std::move(root.out.error());
        root.self().destroy();
        outcome<T>& out = from(f).end();
        // The exception that cancelled it need not stay as long as its handle: when memory has run out, there is room
        // for a few hundred exceptions.
        if (is_cancellation(error)) return;
        out.set_error(std::move(error));
        f.flags |= fiber::has_error;
    }
    static void keep_value(fiber& f, promise<T>& root) noexcept {
        const std::coroutine_handle<> frame = root.self();
        bool moved = false;
        try {
            T value = root.out.take();
            frame.destroy();
            moved = true;
            from(f).end().set_value(std::forward<T>(value));
            f.flags |= fiber::has_value;
        } catch (...) {  // T's move constructor threw: that is the outcome
            std::exception_ptr thrown = std::current_exception();
            if (!moved) {
                frame.destroy();
                from(f).end();
            }
            from(f).out.set_error(std::move(thrown));
            f.flags |= fiber::has_error;
        }
    }

    outcome<T>& end() noexcept {
        std::destroy_at(&call);
        return *std::construct_at(&out);
    }
};

RONDO_API void release_unusual(fiber& f) noexcept;

RONDO_API void set_name(fiber& f, std::string name);
RONDO_API std::string_view name_of(const fiber& f) noexcept;

/// Gives up the handle's share of a block; an error nobody has seen goes to the loop's hook.
inline void release_handle(fiber& f) noexcept {
    if (f.flags & (fiber::ended | fiber::checked)) return release_unusual(f);
    f.flags &= static_cast<std::uint8_t>(~fiber::held);
}
[[noreturn]] RONDO_API void throw_child_cancelled(const fiber& f);
[[noreturn]] RONDO_API void rethrow_of(fiber& f);
/// An error that ended a task goes on to the one that runs, which asked for it.
RONDO_API void hand_to_running_task(const std::exception_ptr& error) noexcept;

/// Takes the success of a task<void> that nobody has asked for its result yet: there is no more to take than that.
/// False if it is anything else.
inline bool take_success(fiber& f) noexcept {
    if ((f.flags & (fiber::taken | fiber::has_value)) != fiber::has_value) [[unlikely]]
        return false;
    f.flags |= fiber::taken;
    return true;
}

/// The value of an ended fiber, once; or throws its error.
template <class T>
T take_result(fiber& f) {
    RONDO_ASSERT((f.flags & (fiber::taken | fiber::has_value)) != (fiber::taken | fiber::has_value),
                 "the result of a task is taken once");
    if (!(f.flags & (fiber::has_value | fiber::has_error))) throw_child_cancelled(f);
    f.flags |= fiber::taken;
    if (f.flags & fiber::has_error) [[unlikely]]
        rethrow_of(f);
    return static_cast<const spawned_vtable<T>*>(f.vt)->result(f).take();
}

/// What an ended fiber failed with; its code is none if it did not, or if that is neither a system_error nor a
/// cancellation.
RONDO_API failure failure_of(fiber& f);

/// The wait for a child's end.
class RONDO_API join_op : public op {
 public:
    explicit join_op(fiber& f) noexcept : op(table), target(f) {}
    /// Nothing to wait for, and the awaiting task is not cancelled.
    bool is_over() const noexcept {
        constexpr std::uint8_t unusual = fiber::cancel_pending | fiber::checked;
        return (target.flags & fiber::ended) && !(current->current_fiber()->flags & unusual);
    }
    /// False: it has ended already.
    bool start() noexcept;
    void give_back() noexcept {}  // the outcome is still the task's
    fiber& target;

 private:
    static const op_vtable table;
};

template <class F, class... Args>
[[gnu::always_inline]] inline auto& make_child(scope& home, std::source_location place, F&& f, Args&&... args) {
    using function = std::decay_t<F>;
    using value = child_value<function, std::decay_t<Args>...>;
    using block = spawned<value, function, std::decay_t<Args>...>;
    void* memory = frame_allocate(sizeof(block));
    block* child;
    try {
        child = new (memory) block(std::forward<F>(f), std::forward<Args>(args)...);
    } catch (...) {
        frame_deallocate(memory, sizeof(block));
        throw;
    }
    child->vt = &block::table;
    child->place = place;
    home.its_loop.adopt(*child, home);
    return *child;
}

}  // namespace detail

/// How a task has ended: with a value, with an error, or because it was cancelled; or that it has not.
enum class task_state : std::uint8_t { pending, succeeded, failed, cancelled };

/// A spawned task, as its spawner sees it. Move-only. Dropping it (or discard()) lets the task run
/// on in its scope: the result is then thrown away, and an error goes to whom the scope says (for
/// the loop's root scope: the unhandled-error hook). A handle dropped because another error is on its
/// way up only logs that its task had failed.
template <class T = void>
class task_handle {
 public:
    task_handle() noexcept = default;
    explicit task_handle(detail::fiber& f) noexcept : fiber_(&f) { f.flags |= detail::fiber::held; }
    task_handle(task_handle&& other) noexcept : fiber_(detail::take(other.fiber_)) {}
    task_handle& operator=(task_handle other) noexcept {
        detail::trade(fiber_, other.fiber_);
        return *this;
    }
    ~task_handle() { discard(); }

    explicit operator bool() const noexcept { return fiber_ != nullptr; }

    /// Asks the task to end: its present wait and all later ones throw `cancelled`; if it has not
    /// taken its first step, its body never runs. A result that was faster than the cancel is not
    /// lost: the task goes on with it to its next wait, or to its end. Does not wait. No effect once it
    /// has ended.
    void cancel() noexcept { detail::cancel_fiber(get()); }
    void discard() noexcept {
        if (fiber_) detail::release_handle(*detail::take(fiber_));
    }

    bool done() const noexcept { return get().flags & detail::fiber::ended; }
    task_state state() const noexcept {
        using detail::fiber;
        const auto flags = get().flags;
        if (!(flags & fiber::ended)) return task_state::pending;
        if (flags & fiber::has_error) return task_state::failed;
        return flags & fiber::has_value ? task_state::succeeded : task_state::cancelled;
    }
    /// The number under which dumps and log lines know it.
    std::uint32_t id() const noexcept { return get().id; }
    /// What they call it besides: "task 7 'reader'". Throws bad_alloc.
    void set_name(std::string name) { detail::set_name(get(), std::move(name)); }
    /// Empty if it has none; valid until it gets another, or the handle is dropped.
    std::string_view name() const noexcept { return detail::name_of(get()); }

    class awaiter : public detail::join_op, public awaits<awaiter, wait_manner::prompt> {
     public:
        using join_op::join_op;
        bool await_ready() const noexcept { return is_over(); }
        T await_resume() {
            if (result < 0) [[unlikely]]
                detail::throw_failure(result, "await task");
            if constexpr (std::is_void_v<T>) {
                if (detail::take_success(target)) return;
            }
            return detail::take_result<T>(target);
        }
        /// For attempt(): system_errors, and the task's having been cancelled, as a result.
        rondo::result<T> finish() {
            if (result < 0) [[unlikely]]
                detail::throw_failure(result, "await task");
            if (rondo::failure failed = detail::failure_of(target); failed.code()) {
                target.flags |= detail::fiber::taken;
                return failed;
            }
            if constexpr (std::is_void_v<T>) {
                detail::take_result<T>(target);
                return {};
            } else {
                return detail::take_result<T>(target);
            }
        }
    };

    /// Waits until the task has ended; gives its value or throws its error, unchanged. Once. Throws
    /// io_error(operation_canceled) when the task itself was cancelled. The handle must stay alive.
    /// Cancel: only this wait ends; the task goes on.
    [[nodiscard]] awaiter operator co_await() const noexcept { return awaiter(get()); }

    /// This is for the rooms above.
    detail::fiber& core() const noexcept { return get(); }

 private:
    detail::fiber& get() const noexcept {
        RONDO_ASSERT(fiber_ != nullptr, "an empty task handle");
        return *fiber_;
    }
    detail::fiber* fiber_ = nullptr;
};

namespace detail {
/// That of a loop, and where the loop was named: how a function with any number of arguments learns its caller's line.
struct loop_at {
    loop_at(rondo::loop& l, std::source_location at = std::source_location::current()) noexcept  // NOLINT(*-explicit-*)
        : on(scheduler::of(l)), place(at) {}
    scheduler& on;
    std::source_location place;
};

template <class F, class... Args>
auto spawn_at(scheduler& on, std::source_location place, F&& f, Args&&... args) {
    fiber& child = make_child(on.root(), place, std::forward<F>(f), std::forward<Args>(args)...);
    return task_handle<child_value<std::decay_t<F>, std::decay_t<Args>...>>(child);
}
template <class F, class... Args>
auto spawn_here(std::source_location place, F&& f, Args&&... args) {
    return spawn_at(running(), place, std::forward<F>(f), std::forward<Args>(args)...);
}
/// Where the running task waited the last time: near to where it is, if nobody says so.
RONDO_API std::source_location latest_await() noexcept;
}  // namespace detail

// The place of a call is the last argument of who makes it, by default, and behind a pack there can be none. So what
// spawns has one function for each number of arguments, up to eight; with more, it takes the place of the spawner's
// latest await. NAME(f, args...) is what is called, TO(place, f, args...) does it.
#define RONDO_WITH_PLACE(NAME, TO)                                                                              \
    template <class F>                                                                                          \
    auto NAME(F&& f, std::source_location place = std::source_location::current()) {                            \
        return TO(place, std::forward<F>(f));                                                                   \
    }                                                                                                           \
    template <class F, class A1>                                                                                \
    auto NAME(F&& f, A1&& a1, std::source_location place = std::source_location::current()) {                   \
        return TO(place, std::forward<F>(f), std::forward<A1>(a1));                                             \
    }                                                                                                           \
    template <class F, class A1, class A2>                                                                      \
    auto NAME(F&& f, A1&& a1, A2&& a2, std::source_location place = std::source_location::current()) {          \
        return TO(place, std::forward<F>(f), std::forward<A1>(a1), std::forward<A2>(a2));                       \
    }                                                                                                           \
    template <class F, class A1, class A2, class A3>                                                            \
    auto NAME(F&& f, A1&& a1, A2&& a2, A3&& a3, std::source_location place = std::source_location::current()) { \
        return TO(place, std::forward<F>(f), std::forward<A1>(a1), std::forward<A2>(a2), std::forward<A3>(a3)); \
    }                                                                                                           \
    template <class F, class A1, class A2, class A3, class A4>                                                  \
    auto NAME(F&& f, A1&& a1, A2&& a2, A3&& a3, A4&& a4,                                                        \
              std::source_location place = std::source_location::current()) {                                   \
        return TO(place, std::forward<F>(f), std::forward<A1>(a1), std::forward<A2>(a2), std::forward<A3>(a3),  \
                  std::forward<A4>(a4));                                                                        \
    }                                                                                                           \
    template <class F, class A1, class A2, class A3, class A4, class A5>                                        \
    auto NAME(F&& f, A1&& a1, A2&& a2, A3&& a3, A4&& a4, A5&& a5,                                               \
              std::source_location place = std::source_location::current()) {                                   \
        return TO(place, std::forward<F>(f), std::forward<A1>(a1), std::forward<A2>(a2), std::forward<A3>(a3),  \
                  std::forward<A4>(a4), std::forward<A5>(a5));                                                  \
    }                                                                                                           \
    template <class F, class A1, class A2, class A3, class A4, class A5, class A6>                              \
    auto NAME(F&& f, A1&& a1, A2&& a2, A3&& a3, A4&& a4, A5&& a5, A6&& a6,                                      \
              std::source_location place = std::source_location::current()) {                                   \
        return TO(place, std::forward<F>(f), std::forward<A1>(a1), std::forward<A2>(a2), std::forward<A3>(a3),  \
                  std::forward<A4>(a4), std::forward<A5>(a5), std::forward<A6>(a6));                            \
    }                                                                                                           \
    template <class F, class A1, class A2, class A3, class A4, class A5, class A6, class A7>                    \
    auto NAME(F&& f, A1&& a1, A2&& a2, A3&& a3, A4&& a4, A5&& a5, A6&& a6, A7&& a7,                             \
              std::source_location place = std::source_location::current()) {                                   \
        return TO(place, std::forward<F>(f), std::forward<A1>(a1), std::forward<A2>(a2), std::forward<A3>(a3),  \
                  std::forward<A4>(a4), std::forward<A5>(a5), std::forward<A6>(a6), std::forward<A7>(a7));      \
    }                                                                                                           \
    template <class F, class A1, class A2, class A3, class A4, class A5, class A6, class A7, class A8>          \
    auto NAME(F&& f, A1&& a1, A2&& a2, A3&& a3, A4&& a4, A5&& a5, A6&& a6, A7&& a7, A8&& a8,                    \
              std::source_location place = std::source_location::current()) {                                   \
        return TO(place, std::forward<F>(f), std::forward<A1>(a1), std::forward<A2>(a2), std::forward<A3>(a3),  \
                  std::forward<A4>(a4), std::forward<A5>(a5), std::forward<A6>(a6), std::forward<A7>(a7),       \
                  std::forward<A8>(a8));                                                                        \
    }                                                                                                           \
    template <class F, class... Args>                                                                           \
        requires(sizeof...(Args) > 8)                                                                           \
    auto NAME(F&& f, Args&&... args) {                                                                          \
        return TO(::rondo::detail::latest_await(), std::forward<F>(f), std::forward<Args>(args)...);            \
    }

/// Starts `fn(args...)`, which gives a task<T>, as a task of the running loop's root scope; gives a
/// task_handle<T>. It takes its first step when the spawner suspends (it is queued as a microtask).
/// When the main task of run() ends, tasks left in the root scope are cancelled and awaited.
/// Throws bad_alloc. O(1), one allocation.
RONDO_WITH_PLACE(spawn, detail::spawn_here)

/// Does what spawn() does, on a loop that need not be running yet.
template <class F, class... Args>
auto spawn_on(detail::loop_at l, F&& f, Args&&... args) {
    l.on.check_thread("spawn_on", l.place);
    return detail::spawn_at(l.on, l.place, std::forward<F>(f), std::forward<Args>(args)...);
}

/// Names the running task, as handle.set_name() does. Throws bad_alloc.
RONDO_API void name_task(std::string name);

}  // namespace rondo
