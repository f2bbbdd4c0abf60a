// Shows Go's WaitGroup, errgroup and results as they come: the task group is the counter, and cannot be forgotten.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;

rondo::task<> worker(int id) {
    std::printf("Worker %d starting\n", id);
    co_await rondo::sleep_for(1s);
    std::printf("Worker %d done\n", id);
}

rondo::task<std::string> fetch(std::string url, std::chrono::milliseconds takes) {
    co_await rondo::sleep_for(takes);
    co_return "Fetched: " + url;
}

rondo::task<> check(int id) {
    co_await rondo::sleep_for(10ms * id);
    if (id == 2) throw std::runtime_error("check 2 failed");
    std::printf("check %d passed\n", id);
}

rondo::task<> app() {
    // wg.Add(1); go worker(i, &wg); wg.Wait()
    co_await rondo::with_task_group([](rondo::task_group& group) -> rondo::task<> {
        for (int i = 1; i <= 5; ++i) group.spawn(worker, i);
        co_return;
    });
    std::puts("All workers completed");

    // results <- ..., for result := range results: in the order in which they come
    std::vector<rondo::task<std::string>> fetches;
    fetches.push_back(fetch("https://api.example.com/users", 30ms));
    fetches.push_back(fetch("https://api.example.com/orders", 10ms));
    fetches.push_back(fetch("https://api.example.com/products", 20ms));
    co_await rondo::as_completed(std::move(fetches),
                                 [](rondo::completion_sequence<std::string>& results) -> rondo::task<> {
                                     for (;;) {
                                         auto result = co_await results.next();
                                         if (!result) break;
                                         std::printf("%s\n", result->value().c_str());
                                     }
                                 });

    // errgroup: g.SetLimit(2); the first error cancels the rest, and g.Wait() returns it
    try {
        const std::vector<int> ids = {1, 2, 3, 4};
        co_await rondo::map_concurrent(ids, 2, check);
    } catch (const std::runtime_error& e) {
        std::printf("errgroup: %s\n", e.what());
    }
}

int main() { return rondo::run_main(app); }
