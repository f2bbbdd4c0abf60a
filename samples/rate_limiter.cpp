// Twenty requests, five at once and one more every 200 ms, each with 3 s of patience: the twentieth is late.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <vector>

using namespace std::chrono_literals;

struct answers {
    std::vector<int> served;
    std::vector<int> late;
};

rondo::task<> request(rondo::rate_limiter& limit, int number, answers& to) {
    auto token = [&]() -> rondo::task<> { co_await limit.acquire(); };
    const bool in_time = co_await rondo::move_on_after(3s, token);
    (in_time ? to.served : to.late).push_back(number);
}

rondo::task<> app() {
    rondo::rate_limiter limit({.tokens = 1, .per = 200ms, .burst = 5});
    answers to;
    auto all = [&](rondo::task_group& group) -> rondo::task<> {
        for (int number = 1; number <= 20; ++number) group.spawn(request, std::ref(limit), number, std::ref(to));
        co_return;
    };
    co_await rondo::with_task_group(all);

    for (const int number : to.served) std::printf("request %d served\n", number);
    // Its token comes 15 x 200 ms after the start: at the very moment of its deadline, which is the older timer.
    for (const int number : to.late) std::printf("request %d gave up after 3 s\n", number);
    std::printf("%u token is left\n", limit.available());
}

int main() {
    rondo::loop_options options;
    options.kind = rondo::backend_kind::sim;  // the 3 s are virtual, and exact
    return rondo::run_main(options, app);
}
