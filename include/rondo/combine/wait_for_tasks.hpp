// wait_for_tasks: which of some spawned tasks have ended (Python's asyncio.wait; `wait` is POSIX's).
//
//     auto [done, pending] = co_await rondo::wait_for_tasks(rondo::return_when::first_completed, 2s, handles);
#pragma once

#include <rondo/base/detail/take.hpp>
#include <rondo/task/spawn.hpp>
#include <rondo/task/wait.hpp>
#include <rondo/base/time.hpp>

#include <concepts>
#include <cstddef>
#include <iterator>
#include <vector>

namespace rondo {

enum class return_when : std::uint8_t {
    first_completed,  // one has ended, however
    first_exception,  // one has failed, or all have ended
    all_completed,
};

/// What wait_for_tasks gives: the indices of the tasks, in ascending order.
struct done_and_pending {
    std::vector<std::size_t> done;
    std::vector<std::size_t> pending;
};

namespace detail {

class tasks_awaiter;

/// Is told of the end of a task, as whoever awaits its handle is.
struct RONDO_API task_watch : op {
    explicit task_watch(fiber& watched) noexcept;
    fiber& target;
    tasks_awaiter* of = nullptr;
};

/// Room for a watch of each task.
class RONDO_API task_watches {
 public:
    /// Throws bad_alloc.
    explicit task_watches(std::size_t room);
    task_watches(task_watches&& other) noexcept : items_(take(other.items_)), count_(take(other.count_)) {}
    ~task_watches();
    void add(fiber& watched) noexcept;
    std::size_t size() const noexcept { return count_; }
    task_watch* begin() const noexcept { return items_; }
    task_watch* end() const noexcept { return items_ + count_; }

 private:
    task_watch* items_;
    std::size_t count_ = 0;
};

/// The wait for some of several tasks: one op for the waiter, one for each task, one for the timeout.
class RONDO_API tasks_awaiter : op, public awaits<tasks_awaiter, wait_manner::prompt> {
 public:
    tasks_awaiter(return_when until, time_point deadline, task_watches watches) noexcept;
    tasks_awaiter(const tasks_awaiter&) = delete;
    tasks_awaiter& operator=(const tasks_awaiter&) = delete;

    done_and_pending await_resume() const;

 private:
    struct RONDO_API timeout : op {
        explicit timeout(tasks_awaiter& awaiter) noexcept;
        tasks_awaiter& of;
    };
    friend task_watch;
    friend awaits<tasks_awaiter, wait_manner::prompt>;
    static const op_vtable table, watch_table, timeout_table;
    bool start();
    void count(const fiber& ended) noexcept;
    bool enough() const noexcept;
    void finish(std::int32_t with) noexcept;

    return_when until_;
    bool one_failed_ = false;
    std::size_t pending_;
    time_point deadline_;
    timeout timeout_;
    task_watches watches_;
};

template <class Handles>
task_watches watches_of(Handles& handles) {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& handle : handles) ++count;
    task_watches watches(count);
    for (const auto& handle : handles) watches.add(handle.core());
    return watches;
}
template <class... Ts>
task_watches watches_of_these(task_handle<Ts>&... handles) {
    task_watches watches(sizeof...(handles));
    (watches.add(handles.core()), ...);
    return watches;
}

template <class Handles>
concept handle_range = requires(Handles& handles) {
    { std::begin(handles)->core() } -> std::same_as<fiber&>;
};

}  // namespace detail

/// Waits until enough of the tasks have ended, or `timeout` has passed, which is no error. Gives which have
/// ended and which have not. Cancels nothing and takes no result: await the handles for that. The handles,
/// a range or several arguments, must outlive this and not be awaited by another task meanwhile. For no
/// handles it gives two empty lists, at once.
/// Cancel: only this wait ends; the tasks go on. Throws bad_alloc. O(tasks), one allocation for all.
template <class Handles>
    requires detail::handle_range<Handles>
[[nodiscard]] auto wait_for_tasks(return_when until, delay timeout, Handles& handles) {
    return detail::tasks_awaiter(until, timeout.after(now()), detail::watches_of(handles));
}
template <class... Ts>
[[nodiscard]] auto wait_for_tasks(return_when until, delay timeout, task_handle<Ts>&... handles) {
    return detail::tasks_awaiter(until, timeout.after(now()), detail::watches_of_these(handles...));
}
/// Waits without a limit of time.
template <class Handles>
    requires detail::handle_range<Handles>
[[nodiscard]] auto wait_for_tasks(return_when until, Handles& handles) {
    return detail::tasks_awaiter(until, never, detail::watches_of(handles));
}
template <class... Ts>
[[nodiscard]] auto wait_for_tasks(return_when until, task_handle<Ts>&... handles) {
    return detail::tasks_awaiter(until, never, detail::watches_of_these(handles...));
}

}  // namespace rondo
