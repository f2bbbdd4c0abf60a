// Shows Kotlin's supervisorScope: a child that fails harms nobody else.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <exception>
#include <stdexcept>

using namespace std::chrono_literals;

rondo::task<> job1() {
    co_await rondo::sleep_for(100ms);
    throw std::runtime_error("Failed!");
}

rondo::task<> job2() {
    co_await rondo::sleep_for(200ms);
    std::puts("Job2 completed");
}

void print(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        std::printf("a child failed: %s\n", e.what());
    }
}

rondo::task<> app() {
    rondo::supervisor_group_options options;
    options.on_error = [](const std::exception_ptr& error, std::source_location, void*) { print(error); };
    const auto body = [](rondo::supervisor_group& group) -> rondo::task<> {
        group.spawn(job1);
        group.spawn(job2);
        co_return;
    };
    co_await rondo::with_supervisor_group(body, options);

    // The same, when the outcomes are wanted: nobody is harmed, and nothing is thrown.
    auto [one, two] = co_await rondo::all_settled(job1(), job2());
    if (one.error()) print(one.error());
    std::printf("the other one %s\n", two ? "succeeded" : "did not succeed");
}

int main() { return rondo::run_main(app); }
