// A cache with a shared_mutex: readers read together, a writer writes alone, and neither starves the other.
#include <rondo/rondo.hpp>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>

using namespace std::chrono_literals;

class cache {
 public:
    rondo::task<std::string> get(std::string key) {
        auto guard = co_await lock_.lock_shared();
        most_readers_ = std::max(most_readers_, lock_.readers());
        co_await rondo::sleep_for(5ms);  // a slow look-up
        co_return store_[key];
    }
    rondo::task<> set(std::string key, std::string value) {
        auto guard = co_await lock_.lock();
        std::printf("writing %s, with %zu readers\n", value.c_str(), lock_.readers());
        co_await rondo::sleep_for(5ms);
        store_[key] = value;
    }
    std::size_t most_readers() const { return most_readers_; }

 private:
    rondo::shared_mutex lock_{"cache"};
    std::map<std::string, std::string> store_;
    std::size_t most_readers_ = 0;
};

rondo::task<> look_up(cache& from, int number) {
    const std::string value = co_await from.get("key");
    std::printf("reader %d: %s\n", number, value.c_str());
}

rondo::task<> app() {
    cache shared;
    co_await shared.set("key", "old");
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        for (int i = 1; i <= 4; ++i) group.spawn(look_up, std::ref(shared), i).discard();
        group.spawn(&cache::set, &shared, "key", "new").discard();
        for (int i = 5; i <= 8; ++i) group.spawn(look_up, std::ref(shared), i).discard();  // behind the writer
        co_return;
    });
    std::printf("at most %zu readers at once\n", shared.most_readers());
}

int main() { return rondo::run_main(app); }
