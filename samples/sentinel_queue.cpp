// The end of a queue as a value in it, which each consumer passes on; and the same by closing the channel.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <optional>
#include <string>

using entry = std::optional<std::string>;  // nothing: the sentinel

rondo::task<> produce(rondo::channel<entry>& queue, int count) {
    for (int i = 0; i < count; ++i) {
        co_await rondo::yield();  // as if it took a while
        co_await queue.send("item-" + std::to_string(i));
        std::printf("  Produced: item-%d\n", i);
    }
    co_await queue.send(std::nullopt);
}

rondo::task<> consume(rondo::channel<entry>& queue, const char* name) {
    for (;;) {
        const auto item = co_await queue.receive();
        if (!*item) break;
        for (int i = 0; i < 3; ++i) co_await rondo::yield();
        std::printf("  %s consumed: %s\n", name, (*item)->c_str());
    }
    co_await queue.send(std::nullopt);  // for the other consumers
}

rondo::task<> consume_until_closed(rondo::channel<std::string>& queue, const char* name) {
    while (auto item = co_await queue.receive()) {
        for (int i = 0; i < 3; ++i) co_await rondo::yield();
        std::printf("  %s consumed: %s\n", name, item->c_str());
    }
}

rondo::task<> app() {
    std::puts("--- with a sentinel");
    rondo::channel<entry> queue(5);
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        group.spawn(produce, std::ref(queue), 10).discard();
        group.spawn(consume, std::ref(queue), "Consumer-1").discard();
        group.spawn(consume, std::ref(queue), "Consumer-2").discard();
        co_return;
    });
    std::printf("left in the queue: %zu sentinel\n", queue.discard());

    std::puts("--- by closing");
    rondo::channel<std::string> closed(5);
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        group.spawn(consume_until_closed, std::ref(closed), "Consumer-1").discard();
        group.spawn(consume_until_closed, std::ref(closed), "Consumer-2").discard();
        for (int i = 0; i < 4; ++i) co_await closed.send("item-" + std::to_string(i));
        closed.close();
    });
}

int main() { return rondo::run_main(app); }
