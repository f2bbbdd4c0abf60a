// Three producers, ten numbers each, two consumers: the channel closes when the last producer has ended.
#include <rondo/rondo.hpp>

#include <cstdio>

rondo::task<> producer(rondo::channel_sender<int> out, int id) {
    for (int j = 0; j < 10; ++j) co_await out->send(id * 100 + j);
}

rondo::task<int> consumer(rondo::channel<int>& in, int id) {
    int count = 0;
    while (auto item = co_await in.receive()) {
        std::printf("Consumer %d: %d\n", id, *item);
        ++count;
        co_await rondo::yield();  // as if it took a while
    }
    co_return count;
}

rondo::task<> app() {
    rondo::channel<int> numbers(4);
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        for (int i = 0; i < 3; ++i) group.spawn(producer, rondo::channel_sender(numbers), i).discard();
        auto one = group.spawn(consumer, std::ref(numbers), 0);
        auto other = group.spawn(consumer, std::ref(numbers), 1);
        const int total = co_await one + co_await other;
        std::printf("%d numbers consumed\n", total);
    });
}

int main() { return rondo::run_main(app); }
