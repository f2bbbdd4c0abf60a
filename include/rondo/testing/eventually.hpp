// Waiting for what will be true some time: on every backend, in virtual time without cost.
#pragma once

#include <rondo/task/suspend.hpp>
#include <rondo/task/task.hpp>

#include <algorithm>

namespace rondo::testing {

/// Waits until `condition()` is true, looking again `every` so often; gives whether that was `within` the
/// time. It is looked at once at once, and once at the end. Cancel: nothing is lost.
template <class Condition>
task<bool> eventually(Condition condition, delay within, delay every = std::chrono::milliseconds(1)) {
    const time_point end = within.after(now());
    for (;;) {
        if (condition()) co_return true;
        if (now() >= end) co_return false;
        const time_point next = std::min(every.after(now()), end);
        co_await sleep_until(next);
    }
}

}  // namespace rondo::testing
