// A bounded buffer out of a mutex and two conditions: a producer waits while it is full, consumers while it is empty.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <deque>

class bounded_buffer {
 public:
    explicit bounded_buffer(std::size_t capacity) : capacity_(capacity) {}

    rondo::task<> produce(int item) {
        auto guard = co_await lock_.lock();
        co_await not_full_.wait(guard, [this] { return items_.size() < capacity_; });
        items_.push_back(item);
        not_empty_.notify_one();
    }
    rondo::task<int> consume() {
        auto guard = co_await lock_.lock();
        co_await not_empty_.wait(guard, [this] { return !items_.empty(); });
        const int item = items_.front();
        items_.pop_front();
        not_full_.notify_one();
        co_return item;
    }

 private:
    std::size_t capacity_;
    std::deque<int> items_;
    rondo::mutex lock_{"buffer"};
    rondo::condition not_full_{"not full"};
    rondo::condition not_empty_{"not empty"};
};

// Others run so often before it goes on: the consumers are slower than the producer.
rondo::task<> work(int turns) {
    for (int i = 0; i < turns; ++i) co_await rondo::yield();
}

rondo::task<> producer(bounded_buffer& buffer) {
    for (int i = 0; i < 20; ++i) {
        co_await buffer.produce(i);
        std::printf("Produced: %d\n", i);
        co_await work(1);
    }
}

rondo::task<> consumer(bounded_buffer& buffer, const char* name, int pace) {
    for (int i = 0; i < 10; ++i) {
        const int item = co_await buffer.consume();
        std::printf("%s consumed: %d\n", name, item);
        co_await work(pace);
    }
}

rondo::task<> app() {
    bounded_buffer buffer(5);
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        group.spawn(consumer, std::ref(buffer), "C1", 5).discard();
        group.spawn(consumer, std::ref(buffer), "C2", 7).discard();
        group.spawn(producer, std::ref(buffer)).discard();
        co_return;
    });
}

int main() { return rondo::run_main(app); }
