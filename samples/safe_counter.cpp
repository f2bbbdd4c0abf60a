// A counter behind a mutex: a thousand increments by a thousand tasks are exactly a thousand.
#include <rondo/rondo.hpp>

#include <cstdio>
#include <map>
#include <string>

class safe_counter {
 public:
    rondo::task<> increment(std::string key) {
        auto guard = co_await lock_.lock();
        const int seen = values_[key];
        co_await rondo::yield();  // as if it had to be fetched: others run meanwhile
        values_[key] = seen + 1;
    }
    rondo::task<int> value(std::string key) {
        auto guard = co_await lock_.lock();
        co_return values_[key];
    }

 private:
    rondo::mutex lock_{"counter"};
    std::map<std::string, int> values_;
};

rondo::task<> app() {
    safe_counter counter;
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        for (int i = 0; i < 1000; ++i) group.spawn(&safe_counter::increment, &counter, "key").discard();
        co_return;
    });
    const int count = co_await counter.value("key");
    std::printf("Final count: %d\n", count);
}

int main() { return rondo::run_main(app); }
