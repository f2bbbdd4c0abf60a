// A wait that is started by hand, as select_one() starts its arms: nobody is resumed when it is finished.
#pragma once

#include "test.hpp"

namespace test {

template <class Wait>
struct arm {
    arm(Wait&& w, rondo::detail::fiber& f) : wait(std::move(w)), quiet(*wait.vt) {
        quiet.done = [](rondo::op&) noexcept {};
        wait.vt = &quiet;
        wait.owner = &f;
        if (!wait.start()) wait.state = rondo::op::done;
    }
    arm(const arm&) = delete;
    bool finished() const { return wait.state == rondo::op::done; }
    void cancel() { quiet.cancel(wait); }

    Wait wait;
    rondo::op_vtable quiet;
};

/// Awaited, it gives an arm<Wait> of the running task.
template <class Wait>
struct started_arm {
    explicit started_arm(Wait&& w) : wait(std::move(w)) {}
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h) noexcept {
        owner = rondo::detail::promise_of(h).owner;
        return false;
    }
    arm<Wait> await_resume() { return arm<Wait>(std::move(wait), *owner); }

    Wait wait;
    rondo::detail::fiber* owner = nullptr;
};

}  // namespace test
