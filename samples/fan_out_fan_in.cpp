// Fan-out to four workers, fan-in of their results: the sum of the squares of 1 to 20.
#include <rondo/rondo.hpp>

#include <cstdio>

using namespace std::chrono_literals;

rondo::task<> count(rondo::channel_sender<int> out, int last) {
    for (int i = 1; i <= last; ++i) co_await out->send(i);
}

// All workers receive from one channel and send to one: that is the fan-out, and the fan-in.
rondo::task<> square(rondo::channel<int>& in, rondo::channel_sender<int> out, int worker) {
    int done = 0;
    while (auto number = co_await in.receive()) {
        co_await rondo::sleep_for(worker * 1ms);  // some are slower
        co_await out->send(*number * *number);
        ++done;
    }
    std::fprintf(stderr, "  worker %d did %d of them\n", worker, done);
}

rondo::task<> app() {
    rondo::channel<int> input, results;
    int sum = 0;
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        group.spawn(count, rondo::channel_sender(input), 20).discard();
        for (int worker = 1; worker <= 4; ++worker)
            group.spawn(square, std::ref(input), rondo::channel_sender(results), worker).discard();
        while (auto result = co_await results.receive()) sum += *result;
    });
    std::printf("Sum of squares: %d\n", sum);
}

int main() { return rondo::run_main(app); }
