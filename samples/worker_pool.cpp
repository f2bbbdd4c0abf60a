// Shows Python's worker pool: five workers take fifty items from a queue; join waits until all are done.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <exception>
#include <map>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;

rondo::task<> process(int item) {
    co_await rondo::sleep_for(10ms);
    if (item % 20 == 13) throw std::runtime_error("item " + std::to_string(item) + " is broken");
}

struct report {
    std::map<std::string, int> items_of;  // per worker
    int failed = 0;
};

rondo::task<> worker(std::string name, rondo::queue<int>& queue, report& r) {
    for (;;) {
        const auto item = co_await queue.get();
        if (!item) co_return;  // shut down, and nothing is left
        const auto done = queue.done_at_exit();  // try/finally in Python: done, whatever becomes of the item
        try {
            co_await process(*item);
            ++r.items_of[name];
        } catch (const std::exception& e) {
            ++r.failed;
            std::printf("  %s: %s\n", name.c_str(), e.what());
        }
    }
}

rondo::task<> pool() {
    rondo::queue<int> queue(10, "items");
    report r;
    auto body = [&](rondo::task_group& workers) -> rondo::task<> {
        for (int i = 0; i < 5; ++i)
            workers.spawn(worker, "worker-" + std::to_string(i), std::ref(queue), std::ref(r)).discard();
        for (int item = 0; item < 50; ++item) co_await queue.put(item);  // waits while ten are waiting
        std::printf("all are put, %zu are not done\n", queue.unfinished());
        co_await queue.join();
        std::printf("all are done\n");
        queue.shutdown();  // the workers end; in Python they have to be cancelled
    };
    co_await rondo::with_task_group(body);
    for (const auto& [name, items] : r.items_of) std::printf("%s: %d items\n", name.c_str(), items);
    std::printf("failed: %d\n", r.failed);
}

// The same queue in other orders: the newest first, or the most urgent.
rondo::task<> orders() {
    rondo::lifo_queue<int> newest(3);
    rondo::priority_queue<std::pair<int, std::string>> urgent(3);
    for (const int i : {1, 3, 2}) {
        co_await newest.put(i);
        co_await urgent.emplace(i % 3, "job " + std::to_string(i));
    }
    while (const auto item = newest.try_get()) std::printf("%d ", *item);
    while (const auto item = urgent.try_get()) std::printf(" %s (%d)", item->second.c_str(), item->first);
    std::printf("\n");
}

// Shutting down at once: what nobody has begun is dropped, and counted.
rondo::task<> in_a_hurry() {
    rondo::queue<int> queue(10);
    for (int item = 0; item < 10; ++item) co_await queue.put(item);
    const auto begun = co_await queue.get();
    const std::size_t dropped = queue.shutdown(true);
    std::printf("begun: %d, dropped: %zu, unfinished: %zu\n", *begun, dropped, queue.unfinished());
    queue.task_done();
    co_await queue.join();
}

int main() {
    rondo::run(pool);
    rondo::run(orders);
    rondo::run(in_a_hurry);
}
