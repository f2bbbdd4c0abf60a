// Posts from other threads. Run under ThreadSanitizer too.
#include "support/test.hpp"

#include <atomic>
#include <thread>

using namespace rondo;
using namespace std::chrono_literals;

TEST_SUITE_BEGIN("threads");

TEST_CASE("remote: every post of four threads runs, each thread's in order") {
    loop l;
    constexpr int threads = 4;
    constexpr int posts = 20'000;
    int last[threads] = {};
    int run = 0;
    bool in_order = true;
    std::vector<std::thread> all;
    for (int t = 0; t < threads; ++t)
        all.emplace_back([&, t, r = l.remote()]() mutable {
            for (int i = 1; i <= posts; ++i) {
                const bool taken = r.post([&, t, i] {
                    in_order = in_order && last[t] == i - 1;
                    last[t] = i;
                    ++run;
                });
                if (!taken) break;
            }
            r = {};
        });
    l.run();  // ends when the last handle is gone and its posts have run
    for (auto& t : all) t.join();
    CHECK(run == threads * posts);
    CHECK(in_order);
}

TEST_CASE("remote: a handle keeps the loop alive; dropping the last one on another thread ends run") {
    loop l;
    std::thread other([r = l.remote()]() mutable {
        std::this_thread::sleep_for(5ms);
        r = {};
    });
    l.run();
    other.join();
    CHECK(!l.alive());
}

TEST_CASE("remote: while the loop stops, restarts and dies, a post runs or is refused, never lost") {
    std::atomic<int> accepted{0};
    std::atomic<int> refused{0};
    std::atomic<int> made{0};
    std::atomic<int> destroyed{0};
    int run = 0;
    struct tracked {
        std::atomic<int>* counter;
        explicit tracked(std::atomic<int>& c) : counter(&c) {}
        tracked(tracked&& o) noexcept : counter(std::exchange(o.counter, nullptr)) {}
        ~tracked() {
            if (counter) counter->fetch_add(1);
        }
    };
    for (int round = 0; round < 20; ++round) {
        std::vector<std::thread> all;
        std::atomic<bool> stop{false};
        {
            loop l;
            for (int t = 0; t < 4; ++t)
                all.emplace_back([&, r = l.remote()] {
                    while (!stop.load(std::memory_order_relaxed)) {
                        if (made.load() - destroyed.load() > 100) {  // the queue has no bound of its own
                            std::this_thread::yield();
                            continue;
                        }
                        made.fetch_add(1);
                        if (r.post([&run, t = tracked(destroyed)] { ++run; })) {
                            accepted.fetch_add(1);
                        } else {
                            refused.fetch_add(1);
                        }
                    }
                });
            const int before = run;
            for (int i = 0; i < 50 || run == before; ++i) l.run_nowait();
        }  // dies while they post
        while (refused.load() == 0) std::this_thread::yield();
        stop = true;
        for (auto& t : all) t.join();
        refused = 0;
    }
    CHECK(run > 0);
    CHECK(run <= accepted.load());
    CHECK(destroyed.load() == made.load());  // each callable was destroyed, run or not
}

TEST_CASE("remote: a sleeping loop wakes for a post") {
    loop l;
    bool ran = false;
    std::thread other([&, r = l.remote()] {
        for (int i = 0; i < 100; ++i) {
            std::atomic<bool> done{false};
            CHECK(r.post([&] { done = true; }));
            while (!done) std::this_thread::yield();
        }
        CHECK(r.post([&] { ran = true; }));
    });
    l.run();
    other.join();
    CHECK(ran);
}

TEST_SUITE_END();
