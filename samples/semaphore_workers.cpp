// Ten workers under a semaphore of three permits: first come, first served, never more than three at once.
#include <rondo/rondo.hpp>

#include <algorithm>
#include <cstdio>

using namespace std::chrono_literals;

struct workshop {
    rondo::semaphore permits{3, "workers"};
    int at_work = 0;
    int most = 0;
};

rondo::task<> worker(workshop& shop, int number) {
    auto permit = co_await shop.permits.acquire();
    shop.most = std::max(shop.most, ++shop.at_work);
    std::printf("Worker-%d acquired semaphore\n", number);
    co_await rondo::sleep_for(20ms);
    std::printf("Worker-%d released semaphore\n", number);
    --shop.at_work;
}

rondo::task<> app() {
    workshop shop;
    co_await rondo::with_task_group([&](rondo::task_group& group) -> rondo::task<> {
        for (int i = 0; i < 10; ++i) group.spawn(worker, std::ref(shop), i).discard();
        co_return;
    });
    std::printf("never more than %d at once\n", shop.most);
}

int main() { return rondo::run_main(app); }
