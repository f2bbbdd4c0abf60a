// Shows Python's TaskGroup: three children, then one that fails, and except* for the group of errors.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;

rondo::task<std::string> fetch(std::string name, std::chrono::milliseconds takes) {
    try {
        co_await rondo::sleep_for(takes);
    } catch (const rondo::cancelled&) {
        std::printf("%s: cancelled\n", name.c_str());
        throw;
    }
    if (name == "failing") throw std::invalid_argument(name + " failed!");
    co_return name + ": done";
}

rondo::task<> fetch_three(std::string second) {
    const auto body = [second](rondo::task_group& group) -> rondo::task<> {
        auto task1 = group.spawn(fetch, "api-1", 500ms);
        auto task2 = group.spawn(fetch, second, 600ms);
        auto task3 = group.spawn(fetch, "api-3", 800ms);
        const std::string one = co_await task1;
        const std::string two = co_await task2;
        const std::string three = co_await task3;
        std::printf("%s %s %s\n", one.c_str(), two.c_str(), three.c_str());
    };
    try {
        co_await rondo::with_task_group(body);
    } catch (const rondo::exception_group& group) {
        // except* ValueError: what is of another type goes on
        for (const std::exception_ptr& error : group.subgroup<std::invalid_argument>()) {
            try {
                std::rethrow_exception(error);
            } catch (const std::exception& e) {
                std::printf("Error: %s\n", e.what());
            }
        }
        group.rethrow_except<std::invalid_argument>();
    }
}

rondo::task<> app() {
    co_await fetch_three("api-2");
    co_await fetch_three("failing");
}

int main() { return rondo::run_main(app); }
