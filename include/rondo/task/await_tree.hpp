// The await tree of a live loop: its tasks, the scopes they are in, what each waits for, where, and for
// how long.
//
//     std::puts(rondo::await_tree().text().c_str());
//
//     rondo: 3 tasks on epoll, next timer in 830 ms
//     task 1                            the main task
//     └─ main.cpp:31  app               task group; waits: 2 tasks      9.8 s
//        ├─ task 2 'accept'             spawned at main.cpp:32
//        │  └─ main.cpp:12  acceptor    waits: accept on fd 5           3.1 s
//        └─ task 3 'user=42'            spawned at main.cpp:33
//           └─ main.cpp:20  session     cancel scope, deadline in 2.0 s
//              └─ db.cpp:57  query      waits: sleep, 830 ms left       9.8 s
//
// It is a snapshot, taken when it is made, and data first: text() and json() are written from `nodes`.
// Taking it changes nothing, needs memory only for what it keeps, and is bounded: tree_options says by
// what. docs/await_tree.md explains the columns, and the other ways to get one.
#pragma once

#include <rondo/loop/loop.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

namespace rondo {

struct tree_options {
    std::size_t max_tasks = 100;       // shown; of those that are alike, the first three
    std::size_t max_depth = 40;        // levels below a task of the loop's own
    std::size_t max_visits = 100'000;  // tasks looked at: what is beyond is only counted
};

/// What a task does.
enum class task_activity : std::uint8_t {
    waiting,
    ready,        // in a queue: it goes on soon
    running,      // it asked for this tree
    not_started,  // ready for its first step
    held_back,    // its group lets no more run at once
};

/// One line of a tree.
struct tree_node {
    enum class kind : std::uint8_t {
        task,
        await,  // a coroutine of the task above, and where it waits
        gap,    // the outer awaits of the task above are left out
        more,   // `count` more tasks of this scope are left out
    };

    kind what = kind::task;
    std::size_t depth = 0;
    /// Where a task was spawned, or where an await stands. The line is 0 if that is not known, and of an await that
    /// is the library's own, which is shown only for a scope.
    std::source_location place;

    // of a task
    std::uint32_t task = 0;  // its number; of `more`: the first of those that are like these, or 0
    bool main = false;  // it is what run() was given, whose line is not known
    std::string name;  // cut at 100 bytes
    task_activity activity = task_activity::waiting;
    std::string waits_for;  // "read fd 7 127.0.0.1:5432"; empty if it does not wait
    /// For how long; negative where loop_options::track_waits was off.
    duration waited{-1};
    std::optional<task_time> time;  // where an observer of the loop knows it (observe/task_times.hpp)
    bool cancelled = false;  // it was cancelled itself, or the scope was
    bool background = false;  // its group does not wait for it

    // of an await
    bool innermost = false;  // here is what the task waits for
    const char* scope = nullptr;  // the kind of scope that it has entered, if it has
    std::size_t count = 0;  // tasks in that scope; of `more`: those left out
    time_point deadline = never;
    bool shielded = false;
    std::string reason;  // why the scope was cancelled, if anyone said
};

class RONDO_API await_tree {
 public:
    /// Takes the tree of `l`, as it is now. From a task or a callback, on the loop's thread. Throws bad_alloc.
    explicit await_tree(const loop& l = this_loop(), const tree_options& options = {});

    /// Lines as above, each with its '\n'. What others named (tasks, peers) is printable, and cut.
    std::string text() const;
    /// One JSON object on one line: the nodes nested, durations in milliseconds. docs/await_tree.md has the keys.
    std::string json() const;

    std::vector<tree_node> nodes;  // each after its parent, whose depth is one less
    std::size_t tasks = 0;  // of the loop
    std::size_t shown = 0;  // of these, in `nodes`
    std::size_t visits = 0;  // tasks, awaits and scopes that were looked at
    time_point taken{};  // by the loop's clock
    time_point next_timer = never;
    backend_kind backend{};
};

}  // namespace rondo
