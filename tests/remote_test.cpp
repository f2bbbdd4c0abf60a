// Posts from other threads. Run under ThreadSanitizer too.
#include "support/test.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <set>
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

TEST_CASE("crossing blocks: freed by any thread, in any order, and gone round") {
    constexpr std::size_t sizes[] = {1, 16, 40, 64, 200, 512, 513, 5000};
    struct piece {
        unsigned char* memory;
        std::size_t size;
    };
    void* const first = detail::crossing_allocate(16);
    void* const second = detail::crossing_allocate(16);
    // malloc, which sanitizers have, needs room between them.
    const bool from_chunks = static_cast<char*>(second) - static_cast<char*>(first) == 16;
    detail::crossing_deallocate(first, 16);
    detail::crossing_deallocate(second, 16);
    std::set<std::uintptr_t> pages;
    for (int round = 0; round < 200; ++round) {
        std::vector<piece> pieces;
        std::thread maker([&] {  // ends while all its blocks are out
            for (int i = 0; i < 100; ++i) {
                const std::size_t size = sizes[static_cast<std::size_t>(i + round) % std::size(sizes)];
                auto* memory = static_cast<unsigned char*>(detail::crossing_allocate(size));
                REQUIRE(reinterpret_cast<std::uintptr_t>(memory) % 16 == 0);
                std::memset(memory, i, size);
                pieces.push_back({memory, size});
            }
        });
        maker.join();
        const auto give_back = [](const piece& p) { detail::crossing_deallocate(p.memory, p.size); };
        for (int i = 0; i < 100; ++i) {  // nobody got a part of another's
            const piece& p = pieces[static_cast<std::size_t>(i)];
            REQUIRE(std::all_of(p.memory, p.memory + p.size, [i](unsigned char c) { return c == i; }));
            if (p.size < 500) pages.insert(reinterpret_cast<std::uintptr_t>(p.memory) / 4096);
        }
        std::thread other([&] { std::for_each(pieces.begin(), pieces.begin() + 50, give_back); });
        std::for_each(pieces.rbegin(), pieces.rbegin() + 50, give_back);
        other.join();
    }
    if (from_chunks) CHECK(pages.size() < 200);  // 200 rounds of some six pages
}

TEST_SUITE_END();
