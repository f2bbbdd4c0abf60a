// Go's "all goroutines are asleep - deadlock!": run() says who waits for whom, and unwinds them.
#include <rondo/rondo.hpp>

#include <cstdio>

rondo::task<> wait_for(rondo::task_handle<>& other) { co_await other; }

rondo::task<> app() {
    rondo::task_handle<> left;
    rondo::task_handle<> right;
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        left = group.spawn(wait_for, std::ref(right));
        right = group.spawn(wait_for, std::ref(left));
        co_return;
    });
}

int main() {
    try {
        rondo::run(app);
    } catch (const rondo::deadlock_error& asleep) {
        std::fprintf(stderr, "fatal error: %s\n", asleep.what());
        return 2;  // as in Go
    }
    return 0;
}
