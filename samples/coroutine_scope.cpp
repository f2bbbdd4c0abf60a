// Shows Kotlin's coroutineScope: ten children of a task group, and a failure that cancels the siblings.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;

rondo::task<std::string> fetch_data(int id) {
    co_await rondo::sleep_for(1000ms);
    co_return "Result-" + std::to_string(id);
}

rondo::task<std::string> fetch_user(int id) {
    co_await rondo::sleep_for(300ms);
    co_return "User " + std::to_string(id);
}

rondo::task<int> fetch_orders(int id, bool broken) {
    co_await rondo::sleep_for(200ms);
    if (broken) throw std::runtime_error("no orders for " + std::to_string(id));
    co_return 7;
}

rondo::task<> show_user(int id, bool broken) {
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        auto user = group.spawn(fetch_user, id);
        auto orders = group.spawn(fetch_orders, id, broken);
        const std::string name = co_await user;  // never comes if the orders fail: this is cancelled then
        const int count = co_await orders;
        std::printf("User: %s, %d orders\n", name.c_str(), count);
    });  // waits for all children
}

rondo::task<> app() {
    const rondo::time_point start = rondo::now();
    std::vector<rondo::task<std::string>> requests;
    for (int id = 1; id <= 10; ++id) requests.push_back(fetch_data(id));
    const auto results = co_await rondo::when_all(std::move(requests));
    for (const std::string& result : results) std::printf("%s\n", result.c_str());
    std::printf("Completed in %.1f s\n", static_cast<double>((rondo::now() - start) / 100ms) / 10);

    co_await show_user(1, false);
    try {
        co_await show_user(2, true);
    } catch (const rondo::exception_group& failed) {
        std::printf("%s\n", failed.what());
    }
}

int main() { return rondo::run_main(app); }
