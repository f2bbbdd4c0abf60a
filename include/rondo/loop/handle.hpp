// Handles of the callbacks that a loop keeps: timers, immediates, watchers.
#pragma once

#include <rondo/base/detail/take.hpp>
#include <rondo/base/time.hpp>

#include <cstdint>

namespace rondo {

class loop;

namespace detail {
class engine;
struct handle_node;
}  // namespace detail

/// A handle of a callback. Copies stand for the same callback; dropping a handle cancels nothing.
/// Harmless, and without effect, once the callback is over or the loop is gone. For the loop's thread.
class RONDO_API handle {
 public:
    handle() noexcept = default;
    handle(const handle& other) noexcept;
    handle(handle&& other) noexcept : node_(detail::take(other.node_)) {}
    handle& operator=(handle other) noexcept {
        detail::trade(node_, other.node_);
        return *this;
    }
    ~handle();

    /// The callback will not run (again), not even if it was due in this very phase.
    void cancel() noexcept;
    /// Whether it may still run.
    bool active() const noexcept;
    /// An unreferenced callback does not keep the loop alive; it runs if the loop turns anyway.
    void unref() noexcept;
    void ref() noexcept;
    bool referenced() const noexcept;  // whether it keeps the loop alive while it is active

 protected:
    friend class loop;
    explicit handle(detail::handle_node& node) noexcept;
    detail::handle_node* node_ = nullptr;
};

/// What set_immediate returns.
class immediate_handle : public handle {
    friend class loop;
    using handle::handle;

 public:
    immediate_handle() noexcept = default;
};

/// What set_timeout and set_interval return.
class RONDO_API timer : public handle {
    friend class loop;

 public:
    timer() noexcept = default;
    /// Does what handle::cancel does, faster. O(log n).
    void cancel() noexcept;
    /// Starts anew: it is due `after` from the loop's cached time, as the youngest of its deadline, even if it
    /// has fired or was cancelled. For an interval this is the new period as well. O(log n).
    void rearm(delay after) noexcept;
    /// Starts anew with the delay it had (Node's refresh()).
    void rearm() noexcept;

 private:
    explicit timer(detail::handle_node& node) noexcept;
    detail::engine* here() const noexcept;
    void rearm_elsewhere(delay after) noexcept;

    std::uint32_t slot_ = 0;  // of the node in the loop's heap
    std::uint32_t loop_ = 0;  // the serial number of the loop
};

/// What on_idle, on_prepare and on_check return.
class RONDO_API watcher : public handle {
    friend class loop;
    using handle::handle;

 public:
    watcher() noexcept = default;
    /// After cancel() it runs once a turn again, behind the watchers that run already.
    void start() noexcept;
};

}  // namespace rondo
