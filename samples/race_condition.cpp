// A thousand tasks read, wait, and write one counter: updates are lost. Three ways to lose none.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <vector>

constexpr int task_count = 1000;

// As if it went out and came back: in between, all others run.
rondo::task<int> fetch(const int& counter) {
    const int seen = counter;
    co_await rondo::yield();
    co_return seen;
}

rondo::task<> unsafe(int& counter) {
    const int seen = co_await fetch(counter);
    counter = seen + 1;  // overwrites what others have written since
}

// 1. Wait first. From one co_await to the next a task runs alone: no lock, no atomic.
rondo::task<> without_a_gap(int& counter) {
    co_await rondo::yield();
    ++counter;
}

// 2. A mutex, held from the read to the write.
rondo::task<> with_a_mutex(int& counter, rondo::mutex& lock) {
    auto guard = co_await lock.lock();
    const int seen = co_await fetch(counter);
    counter = seen + 1;
}

// 3. Share nothing: every task gives its part to the one that adds them up.
rondo::task<int> own_part() {
    co_await rondo::yield();
    co_return 1;
}

template <class... Args>
rondo::task<> run_all(Args... args) {
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        for (int i = 0; i < task_count; ++i) group.spawn(args...).discard();
        co_return;
    });
}

rondo::task<> app() {
    int counter = 0;
    co_await run_all(unsafe, std::ref(counter));
    std::printf("Counter (unsafe): %d\n", counter);

    counter = 0;
    co_await run_all(without_a_gap, std::ref(counter));
    std::printf("Counter (no wait between read and write): %d\n", counter);

    counter = 0;
    rondo::mutex lock;
    co_await run_all(with_a_mutex, std::ref(counter), std::ref(lock));
    std::printf("Counter (mutex): %d\n", counter);

    counter = 0;
    std::vector<rondo::task_handle<int>> parts;
    for (int i = 0; i < task_count; ++i) parts.push_back(rondo::spawn(own_part));
    for (auto& part : parts) counter += co_await part;
    std::printf("Counter (nothing shared): %d\n", counter);
}

int main() { return rondo::run_main(app); }
