// Posts from other threads. Run under ThreadSanitizer too.
#include "support/eventful.hpp"
#include "support/net.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
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

// --- a budget for each turn ---------------------------------------------------------------------------------

// A thread that posted fast held off a timer of 1 ms for half a minute: a turn ran all that had come, and meanwhile
// twenty times as much came.
TEST_CASE("remote: a turn runs only so many posts; timers, immediates and other tasks have their turn between") {
    loop l;
    constexpr int many = 10 * static_cast<int>(loop::posts_per_turn) + 7;
    std::vector<int> ran;
    int at_timer = 0;
    int at_immediate = 0;
    rondo::remote r = l.remote();
    CHECK(r.post([&] {
        l.set_timeout(0ms, [&] { at_timer = static_cast<int>(ran.size()); });
        l.set_immediate([&] { at_immediate = static_cast<int>(ran.size()); });
    }));
    for (int i = 0; i < many; ++i) CHECK(r.post([&ran, i] { ran.push_back(i); }));
    r = {};
    const auto turns = l.stats().turns;
    l.run();
    CHECK(at_timer == static_cast<int>(loop::posts_per_turn) - 1);
    CHECK(at_immediate == static_cast<int>(loop::posts_per_turn) - 1);
    CHECK(l.stats().turns - turns >= 10);
    CHECK(l.stats().turns - turns <= 13);
    REQUIRE(ran.size() == static_cast<std::size_t>(many));
    for (int i = 0; i < many; ++i) REQUIRE(ran[static_cast<std::size_t>(i)] == i);  // in order, also across turns
}

TEST_CASE("remote: the steps of the tasks that posts wake count too") {
    loop l;
    int ran = 0;
    int at_timer = 0;
    struct local {
        static task<> twice() { co_await yield(); }
    };
    const rondo::remote r = l.remote();
    for (int i = 0; i < 1000; ++i)
        CHECK(r.post([&] {
            if (ran++ == 0) l.set_timeout(0ms, [&] { at_timer = ran; });
            spawn(local::twice).discard();
        }));
    l.run_once();
    CHECK(at_timer > 0);
    CHECK(at_timer <= static_cast<int>(loop::posts_per_turn) / 3 + 1);  // each is a post and two steps
    while (ran < 1000) l.run_nowait();
}

TEST_CASE("remote: posts that are left over are known: the next turn is due now, and why_alive() lists them") {
    loop l;
    constexpr std::size_t many = loop::posts_per_turn + 5;
    rondo::remote r = l.remote();
    for (std::size_t i = 0; i < many; ++i) CHECK(r.post([] {}));
    r = {};
    CHECK(l.run_once());
    loop_stats s = l.stats();
    CHECK(s.posts == loop::posts_per_turn);
    CHECK(s.posts_waiting == 5);
    CHECK(s.posts_high_water == many);
    CHECK(l.alive());
    CHECK(l.next_deadline() <= l.now());
    CHECK(l.why_alive().size() == 5);
    CHECK_FALSE(l.run_once());
    s = l.stats();
    CHECK(s.posts == many);
    CHECK(s.posts_waiting == 0);
    CHECK(s.posts_high_water == many);
}

TEST_CASE("remote: stop() is heard within the turn; what is left over waits for the next run") {
    loop l;
    constexpr int many = 5 * static_cast<int>(loop::posts_per_turn);
    int ran = 0;
    rondo::remote r = l.remote();
    for (int i = 0; i < many; ++i)
        CHECK(r.post([&, i] {
            CHECK(ran == i);
            if (++ran == 10) l.stop();
        }));
    r = {};
    l.run();
    CHECK(l.stopped());
    CHECK(ran == static_cast<int>(loop::posts_per_turn));
    l.run();
    CHECK(ran == many);
}

TEST_CASE("remote: posts that never ran are destroyed with the loop, in order, and only once") {
    constexpr int many = 3 * static_cast<int>(loop::posts_per_turn);
    std::vector<int> gone;
    int ran = 0;
    struct mark {
        std::vector<int>* into;
        int number;
        mark(std::vector<int>& v, int n) : into(&v), number(n) {}
        mark(mark&& o) noexcept : into(std::exchange(o.into, nullptr)), number(o.number) {}
        ~mark() {
            if (into != nullptr) into->push_back(number);
        }
    };
    {
        loop l;
        const rondo::remote r = l.remote();
        for (int i = 0; i < many; ++i) CHECK(r.post([&ran, m = mark(gone, i)] { ++ran; }));
        l.run_nowait();
        CHECK(r.post([&ran, m = mark(gone, many)] { ++ran; }));  // not taken in yet
    }
    CHECK(ran == static_cast<int>(loop::posts_per_turn));
    REQUIRE(gone.size() == many + 1u);
    CHECK(std::is_sorted(gone.begin(), gone.end()));
}

namespace {

// A callback that posts itself until it is told to stop; each time it computes for a microsecond.
struct echo_post {
    loop* of;
    const rondo::remote* through;
    const bool* over;
    void operator()() const {
        of->spin(1us);
        if (!*over) static_cast<void>(through->post(*this));
    }
};

task<> quiet_client(std::uint64_t& turns, bool& over) {
    test::connection c = co_await test::connected();
    const std::uint64_t first = this_loop().stats().turns;
    std::array<std::byte, 16> bytes{};
    for (int i = 0; i < 10; ++i) {
        co_await c.client.write_all(bytes);
        co_await c.server.read_exactly(bytes);
        co_await c.server.write_all(bytes);
        co_await c.client.read_exactly(bytes);
    }
    co_await sleep_for(1ms);
    turns = this_loop().stats().turns - first;
    over = true;
}

}  // namespace

// In turns, so that it holds however fast the machine is: a round trip takes a few, and on `sim`, where posts let
// the clock stand, a few times that many.
TEST_CASE("remote: callbacks that post themselves for ever hold off neither clients nor timers") {
    loop l;
    bool over = false;
    std::uint64_t turns = 0;
    const rondo::remote r = l.remote();
    for (std::uint32_t i = 0; i < 3 * loop::posts_per_turn; ++i) CHECK(r.post(echo_post{&l, &r, &over}));
    run_on(l, quiet_client, std::ref(turns), std::ref(over));
    CHECK(over);
    CHECK(turns > 0);
    CHECK(turns < 4000);
    CHECK(l.stats().posts_high_water <= 3 * loop::posts_per_turn + 1);
}

TEST_CASE("remote: a thread that posts as fast as it can holds off neither timers nor stop()") {
    loop l;
    std::atomic<bool> over{false};
    std::atomic<long> made{0};
    long ran = 0;
    long most_between = 0;  // two turns
    long last = 0;
    l.on_check([&] {
         most_between = std::max(most_between, ran - last);
         last = ran;
     }).unref();
    std::thread noisy([&, r = l.remote()] {
        while (!over) {
            if (made.load() - std::atomic_ref(ran).load() > 1'000'000) continue;  // for the sake of the machine
            if (!r.post([&] { std::atomic_ref(ran).fetch_add(1); })) return;
            made.fetch_add(1);
        }
    });
    struct local {
        static task<> body(std::atomic<bool>& over) {
            for (int i = 0; i < 20; ++i) co_await sleep_for(1ms);
            over = true;
        }
    };
    run_on(l, local::body, std::ref(over));
    noisy.join();
    CHECK(most_between <= static_cast<long>(loop::posts_per_turn));
}

// On `sim`, time passes when nothing is to be done: with posts that never end it never did.
TEST_CASE("remote: on sim, posts that keep coming let the clock stand only for so many turns") {
    loop l({.kind = backend_kind::sim});
    bool over = false;
    const rondo::remote r = l.remote();
    struct again {
        const rondo::remote* through;
        const bool* over;
        void operator()() const {
            if (!*over) static_cast<void>(through->post(*this));
        }
    };
    CHECK(r.post(again{&r, &over}));
    for (int i = 1; i <= 10; ++i) l.set_timeout(std::chrono::hours(i), [&, i] { over = i == 10; });
    const auto turns = l.stats().turns;
    while (!over) l.run_once();
    CHECK(l.stats().turns - turns <= 10 * loop::turns_of_posts);
    while (l.stats().posts_waiting != 0) l.run_nowait();
}

// --- with a bound ----------------------------------------------------------------------------------------------

TEST_CASE("try_post: refuses while as many wait as the loop's options say, and what it refuses is untouched") {
    loop l({.post_limit = 3});
    rondo::remote r = l.remote();
    std::string ran;
    for (const char* name : {"a", "b", "c"}) CHECK(r.try_post([&ran, name] { ran += name; }) == post_status::posted);
    auto kept = [&ran, name = std::make_unique<std::string>("d")] { ran += *name; };
    CHECK(r.try_post(std::move(kept)) == post_status::full);
    l.run_nowait();
    CHECK(ran == "abc");
    CHECK(r.try_post(std::move(kept)) == post_status::posted);
    l.run_nowait();
    CHECK(ran == "abcd");
    CHECK(l.stats().posts_high_water == 3);
}

TEST_CASE("try_post: the place is free when the callable runs: it may post the next one") {
    loop l({.post_limit = 1});
    rondo::remote r = l.remote();
    int left = 100;
    struct next {
        rondo::remote* through;
        int* left;
        void operator()() const {
            if (--*left > 0) CHECK(through->try_post(*this) == post_status::posted);
        }
    };
    CHECK(r.try_post(next{&r, &left}) == post_status::posted);
    while (left > 0) l.run_nowait();
    CHECK(r.try_post([] {}) == post_status::posted);
}

TEST_CASE("try_post: posts of post() that a turn has left over count as well") {
    loop l({.post_limit = 100});
    rondo::remote r = l.remote();
    for (std::uint32_t i = 0; i < loop::posts_per_turn + 100; ++i) CHECK(r.post([] {}));
    CHECK(r.try_post([] {}) == post_status::posted);
    l.run_nowait();
    CHECK(r.try_post([] {}) == post_status::full);
    l.run_nowait();
    CHECK(r.try_post([] {}) == post_status::posted);
}

TEST_CASE("try_post: a callable that cannot be copied, or no memory, costs no place") {
    loop l({.post_limit = 1});
    const rondo::remote r = l.remote();
    struct picky {
        picky() = default;
        picky(const picky&) { throw std::runtime_error("not me"); }
        void operator()() const {}
    };
    const picky one;
    for (int i = 0; i < 3; ++i) CHECK_THROWS_AS(static_cast<void>(r.try_post(one)), std::runtime_error);
    CHECK(r.try_post([] {}) == post_status::posted);
}

TEST_CASE("try_post: many threads that respect the bound never have more waiting, and every post runs") {
    constexpr std::size_t limit = 50;
    constexpr int threads = 3;
    constexpr int each = 2000;
    loop l({.post_limit = limit});
    int last[threads] = {};
    bool in_order = true;
    std::vector<std::thread> all;
    for (int t = 0; t < threads; ++t)
        all.emplace_back([&, t, r = l.remote()] {
            for (int i = 1; i <= each; ++i) {
                auto call = [&, t, i] {
                    in_order = in_order && last[t] == i - 1;
                    last[t] = i;
                };
                while (r.try_post(call) == post_status::full) std::this_thread::yield();
            }
        });
    l.run();
    for (auto& t : all) t.join();
    CHECK(in_order);
    CHECK(std::all_of(last, last + threads, [](int n) { return n == each; }));
    CHECK(l.stats().posts_high_water <= limit);
}

// --- what is refused goes back -----------------------------------------------------------------------------------

TEST_CASE("remote: a callable that a loop that is gone does not take is untouched") {
    rondo::remote r;
    int ran = 0;
    auto moved = [&ran, one = std::make_unique<int>(1)] { ran += *one; };
    CHECK_FALSE(r.post(std::move(moved)));  // an empty handle
    CHECK(r.try_post(std::move(moved)) == post_status::closed);
    {
        loop l;
        r = l.remote();
    }
    CHECK_FALSE(r.post(std::move(moved)));
    CHECK(r.try_post(std::move(moved)) == post_status::closed);
    std::function<void()> assigned = [&ran] { ran += 10; };
    CHECK_FALSE(r.post(std::move(assigned)));
    moved();
    REQUIRE(assigned);
    assigned();
    CHECK(ran == 11);
}

namespace {

using test::eventful;

}  // namespace

TEST_CASE("remote: the loop goes while the callable is on its way: it goes back to its owner") {
    for (const bool bounded : {false, true}) {
        auto l = std::make_unique<loop>();
        const rondo::remote r = l->remote();
        std::function<void()> end;
        eventful call(end);
        end = [&] { l.reset(); };
        if (bounded) {
            CHECK(r.try_post(std::move(call)) == post_status::closed);
        } else {
            CHECK_FALSE(r.post(std::move(call)));
        }
        CHECK(l == nullptr);
        REQUIRE(call.value != nullptr);
        CHECK(*call.value == 7);
    }
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
