// The wait: an `op` is everything a task can wait for, and a `fiber` is a task that can wait.
//
// An op lives in the awaiter, hence in the frame of the coroutine that waits: waiting allocates
// nothing. Its life is  idle -> armed -> done,  or  armed -> cancelling -> done,  and
//
//   * a started op completes exactly once, through scheduler::complete;
//   * completing only queues; the loop's drain is what resumes a coroutine;
//   * cancelling asks: the completion still comes, with -ECANCELED or with the real result if
//     that was faster. Nobody walks away from an armed op, so its frame outlives it. So the result says how the
//     wait has ended, and nothing else does: when the task runs, it may be cancelled no more, or only now.
#pragma once

#include <rondo/base/detail/assert.hpp>
#include <rondo/base/detail/list.hpp>
#include <rondo/base/detail/pool.hpp>
#include <rondo/base/error.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <source_location>

namespace rondo {

struct op;

namespace detail {
struct fiber;
class scheduler;
class scope;
struct extras;
struct promise_base;
}  // namespace detail

/// What differs between kinds of ops.
struct op_vtable {
    /// Asks an armed op to end early. It completes now or later, exactly once. Never fails.
    void (*cancel)(op&) noexcept;
    /// Called by scheduler::complete when `result` is set: wakes the owner, or whoever stands for it.
    void (*done)(op&) noexcept;
    /// One line for dumps ("sleep", "read fd 7"), written to `text` and cut at `size`.
    void (*describe)(const op&, char* text, std::size_t size) noexcept;
    /// The loop that what it waits for belongs to: RONDO_DEBUG asks. Null if it belongs to none.
    const detail::scheduler* (*belongs_to)(const op&) noexcept = nullptr;
    /// Asked when `result` is set, by `done` itself or by a select_one() that stands for it. False: that was
    /// not the end, and it is armed again (an accept that had no descriptor left). Null: it always is.
    bool (*settled)(op&) noexcept = nullptr;
    /// How much of it is done, for who loses patience: it grows as long as it gets on. Null: who knows.
    std::uint64_t (*progress)(const op&) noexcept = nullptr;
};

struct op {
    /// Values of `state`. A sleeping task's op is armed in slot i of the timer heap: armed_at + i.
    enum : std::uint32_t { idle, armed, cancelling, done, armed_at };

    explicit op(const op_vtable& table) noexcept : vt(&table) {}

    bool pending() const noexcept { return state != idle && state != done; }

    detail::fiber* owner = nullptr;  // whom to make ready
    const op_vtable* vt;             // what it can do
    std::int32_t result = 0;  // >= 0 a value, < 0 -errno
    std::uint32_t state = idle;
};

namespace detail {

/// An op that can also stand in a ring (immediates, watchers, closing).
struct linked_op : op, links {
    using op::op;
};

/// A link of the tick and microtask queues: a fiber, or a callback.
struct ready_node {
    /// What the drain does with it. First steps and wake-ups count against the budget of a drain.
    enum class kind : std::uint8_t { wake_up, first_step, asked_for, callback };

    ready_node* next;  // set when it is queued
    kind what = kind::wake_up;
    std::uint8_t flags = 0;  // of a fiber, what is asked often; the next four are asked rarely
    std::uint16_t cancel_asked : 1 = 0;  // the task itself was cancelled, not only a scope it is in
    std::uint16_t kept : 1 = 0;          // it has ended, and its scope still wants the outcome
    // These two are about the cancellation that goes on, and begin anew when the task is cancelled no more.
    std::uint16_t told_cancelled : 1 = 0;  // `cancelled` was thrown into it
    std::uint16_t waits_refused : 13 = 0;  // the waits that put it behind the others
    static constexpr std::uint16_t most_waits_refused = 0x1fff;
    std::uint32_t id = 0;
};

RONDO_API void drop_extras(extras* more) noexcept;

/// One logical task: what `spawn` makes. It suspends on at most one op, so the fiber itself is the
/// cancel hook.
struct fiber : ready_node, links {
    fiber() noexcept : links(set_later{}) { what = kind::first_step; }
    ~fiber() {
        if (more != nullptr) [[unlikely]]
            drop_extras(more);
    }
    fiber(const fiber&) = delete;
    fiber& operator=(const fiber&) = delete;

    enum : std::uint8_t {
        cancel_pending = 1,  // every further wait answers -ECANCELED (level-triggered)
        checked = 2,         // each of its waits is looked at: there is RONDO_DEBUG, or track_waits
        background = 4,      // its group does not wait for it
        held = 8,            // a handle can still ask for the result
        ended = 16,          // outcome decided, frame gone
        has_value = 32,      // the outcome is a value ...
        has_error = 64,      // ... or an exception; neither: cancelled
        taken = 128,         // someone has seen the outcome
    };

    static constexpr std::size_t not_plain = ~std::size_t{0};

    /// Starts the body: creates its first coroutine and sets `leaf`.
    struct vtable {
        void (*start)(fiber&) noexcept;
        /// The root coroutine is done: take its outcome, free frame and arguments.
        void (*finish)(fiber&, promise_base& root) noexcept;
        /// Cancelled before its first step: free the arguments.
        void (*discard)(fiber&) noexcept;
        std::exception_ptr (*error)(fiber&) noexcept;  // the error of an ended fiber, if any
        void (*free)(fiber&) noexcept;
        std::size_t plain_granules;  // of a block that only has to be given back after a success; else not_plain
    };

    promise_base* leaf = nullptr;  // the innermost coroutine: who runs next; null before the first step
    op* waiting = nullptr;         // what it is suspended on; null while running
    scope* inside;                 // the innermost scope it is in, set by scheduler::adopt(); null once it has ended
    const vtable* vt = nullptr;
    std::source_location place;    // where it was spawned
    op* awaited_by = nullptr;      // the op of whoever awaits its handle
    extras* more = nullptr;        // a name and the like, if it has any
};

/// Frees the block of a task that has ended with a value.
inline void free_success(fiber& f) noexcept {
    if (f.more != nullptr || !deallocate_quickly(&f, f.vt->plain_granules)) [[unlikely]]
        f.vt->free(f);
}
/// Frees the block of an ended task.
inline void free_block(fiber& f) noexcept { (f.flags & fiber::has_value) ? free_success(f) : f.vt->free(f); }

/// The part of a coroutine's promise that does not depend on its type. One layout whatever the
/// build options.
struct promise_base {
    promise_base() noexcept {}  // the first two are set before anyone reads them

    promise_base* parent;       // set when awaited: the coroutine that awaits this one; null for a fiber's root
    void* frame;                // set when made
    fiber* owner = nullptr;     // set when awaited (apart from `parent`: g++ would pair the stores, dearer)
    std::source_location site;  // where it waits; until it starts, where it was made

    std::coroutine_handle<> self() const noexcept { return std::coroutine_handle<>::from_address(frame); }
};

template <class Promise>
concept rondo_promise = std::is_base_of_v<promise_base, Promise>;

/// The promise of who awaits; what is awaited by others, whom no loop resumes, does not compile.
template <class Promise>
promise_base& promise_of(std::coroutine_handle<Promise> waiting) noexcept {
    static_assert(rondo_promise<Promise>, "only a coroutine that a rondo loop runs (task<T>) can await this");
    if constexpr (rondo_promise<Promise>) return waiting.promise();
}

/// What a fiber that stands in a ready queue waits on: nothing that could be cancelled.
RONDO_API extern op in_queue;
/// What a fiber waits on whose group has no place for it yet.
RONDO_API extern op in_line;

}  // namespace detail
}  // namespace rondo
