// Callbacks the loop keeps: one block each, the callable inside it.
#pragma once

#include <rondo/base/detail/crossing.hpp>
#include <rondo/base/detail/pool.hpp>
#include <rondo/loop/op.hpp>
#include <rondo/base/time.hpp>

#include <new>
#include <type_traits>
#include <utility>

namespace rondo::detail {

class engine;

/// A callable that runs once: ticks, microtasks, posts, close callbacks.
struct callback : ready_node {
    enum class act : std::uint8_t { run, drop };  // both free the block

    explicit callback(void (*f)(callback&, act), std::source_location made) noexcept : invoke(f), place(made) {
        what = kind::callback;
    }

    void (*invoke)(callback&, act);
    std::source_location place;
};

template <class F, bool Pooled>
struct callback_of final : callback {
    template <class G>
    callback_of(G&& g, std::source_location made) : callback(&call, made), fn(std::forward<G>(g)) {}

    template <class G>
    static callback_of& make(G&& g, std::source_location made) {
        void* block = Pooled ? frame_allocate(sizeof(callback_of)) : crossing_allocate(sizeof(callback_of));
        try {
            return *new (block) callback_of(std::forward<G>(g), made);
        } catch (...) {
            release(block);
            throw;
        }
    }
    /// It never runs: frees the block.
    void discard() noexcept { const cleanup guard{this}; }

    F fn;

 private:
    struct cleanup {
        callback_of* self;
        ~cleanup() {
            self->~callback_of();
            release(self);
        }
    };

    static void release(void* block) noexcept {
        if constexpr (Pooled) {
            frame_deallocate(block, sizeof(callback_of));
        } else {
            crossing_deallocate(block, sizeof(callback_of));
        }
    }

    static void call(callback& base, act what) {
        const cleanup guard{static_cast<callback_of*>(&base)};  // the block goes even when the callable throws
        if (what == act::run) guard.self->fn();
    }
};

/// `f` as a block; F is copied or moved into it. `Pooled` only if it is freed on this thread.
template <bool Pooled = true, class F>
auto& make_callback(F&& f, std::source_location made) {
    using stored = std::decay_t<F>;
    static_assert(std::is_invocable_v<stored&>, "a callback is called without arguments");
    static_assert(alignof(stored) <= 16, "callables are aligned to 16 bytes at most");
    return callback_of<stored, Pooled>::make(std::forward<F>(f), made);
}

/// A callback with a handle: timers, intervals, immediates, watchers. It lives while it has handles or
/// is active: a timer in the loop's heap, where its slot says so, the others in one of the loop's
/// rings, where `active` does. It is never in the hands of a backend.
struct handle_node : linked_op {
    enum class act : std::uint8_t { run, drop };
    enum class sort : std::uint8_t { timer, interval, immediate, idle, prepare, check, close };

    RONDO_API handle_node(void (*f)(handle_node&, act), std::source_location made) noexcept;

    bool is_timer() const noexcept { return what <= sort::interval; }

    engine* of = nullptr;  // null once the loop is gone, or nothing can start it again
    std::uint32_t count = 0;  // handles, plus one while its callback runs
    std::uint32_t slot = 0;   // of a timer, as long as it lives
    sort what = sort::timer;
    bool active = false;      // of the others
    bool referenced = true;   // an active, referenced node keeps the loop alive
    void (*invoke)(handle_node&, act);
    std::source_location place;
};

template <class F>
struct handle_node_of final : handle_node {
    template <class G>
    handle_node_of(G&& g, std::source_location made) : handle_node(&call, made), fn(std::forward<G>(g)) {}

    static void call(handle_node& base, act what) {
        auto& self = static_cast<handle_node_of&>(base);
        if (what == act::run) {
            self.fn();
        } else {
            self.~handle_node_of();
            frame_deallocate(&self, sizeof(handle_node_of));
        }
    }

    F fn;
};

template <class F>
handle_node& make_handle_node(F&& f, std::source_location made) {
    using stored = std::decay_t<F>;
    static_assert(std::is_invocable_v<stored&>, "a callback is called without arguments");
    static_assert(alignof(stored) <= 16, "callables are aligned to 16 bytes at most");
    using node = handle_node_of<stored>;
    void* block = frame_allocate(sizeof(node));
    try {
        return *new (block) node(std::forward<F>(f), made);
    } catch (...) {
        frame_deallocate(block, sizeof(node));
        throw;
    }
}

}  // namespace rondo::detail
