// once: the first who comes does it; the others wait until it is done.
//
//     co_await loaded.run([&]() -> rondo::task<> { co_await load(config); });
#pragma once

#include <rondo/sync/mutex.hpp>
#include <rondo/task/task.hpp>

#include <utility>

namespace rondo {

class once {
 public:
    /// `name` is for reports, and must outlive it.
    explicit once(const char* name = "") noexcept : lock_("once", name) {}

    /// Awaits `fn()`, which gives a task<>, unless that has been done; waits if it is being done. If it fails
    /// or is cancelled, its caller gets that, and the next who waits tries. `fn` that calls run() itself gets
    /// io_error(resource_deadlock_would_occur).
    /// Cancel: while it waits, this caller is out; nothing is lost.
    template <class F>
    [[nodiscard]] task<> run(F fn) {
        RONDO_ASSERT_SAFE_CALLABLE(F);
        return run_in_turn(*this, std::move(fn));
    }
    bool done() const noexcept { return done_; }

 private:
    template <class F>
    static task<> run_in_turn(once& self, F fn) {
        if (self.done_) co_return;
        const mutex::guard turn = co_await self.lock_.lock();
        if (self.done_) co_return;
        co_await fn();
        self.done_ = true;
    }

    mutex lock_;
    bool done_ = false;
};

}  // namespace rondo
