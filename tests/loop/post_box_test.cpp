// The lock-free parts, in every order in which threads may take their steps.
#include "support/interleave.hpp"

#include "../../lib/channel/free_stack.hpp"
#include "../../lib/loop/post_box.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <optional>
#include <string>

using namespace rondo::detail;
using test::interleaving;
using test::stepped_atomic;

// The sanitizers do not follow contexts that are swapped by hand; nothing here depends on them.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
constexpr bool sanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool sanitized = false;
#endif

namespace {

// A loop that sleeps until it is woken.
struct bell {
    void wake() { rung = true; }
    bool rung = false;
};

struct number : ready_node {
    explicit number(int v) : value(v) {}
    int value;
};

TEST_CASE("post box: in every order, each post runs, one a turn, and a sleeping loop is always woken" * doctest::skip(sanitized)) {
    constexpr int posts_each = 2;
    struct world {
        bell target;
        post_box<bell, stepped_atomic> box{target, 1};
        std::vector<number> nodes{number(10), number(11), number(20), number(21)};
        std::vector<int> seen;
    };
    std::optional<world> w;
    interleaving all(3);
    const long runs = all.explore(
        [&](interleaving& threads) {
            w.emplace();
            for (int producer = 0; producer < 2; ++producer)
                threads.start([&, producer] {
                    for (int i = 0; i < posts_each; ++i)
                        w->box.post(w->nodes[static_cast<std::size_t>(producer * posts_each + i)]);
                });
            threads.start([&] {
                while (w->seen.size() < 2 * posts_each) {
                    if (w->box.sleep()) {
                        interleaving::wait_until([&] { return w->target.rung; });
                        w->target.rung = false;
                    }
                    w->box.awake();
                    if (w->box.collect() != 0) w->seen.push_back(static_cast<number&>(w->box.next()).value);
                }
            });
        },
        [&] {
            const auto at = [&](int value) { return std::find(w->seen.begin(), w->seen.end(), value) - w->seen.begin(); };
            REQUIRE(w->seen.size() == 4);
            REQUIRE(at(10) < at(11));
            REQUIRE(at(20) < at(21));
        });
    CHECK(runs > 1000);
    MESSAGE(runs << " orders");
}

// The bug that the protocol is there to prevent: looking before saying that one sleeps.
TEST_CASE("post box: the explorer finds a lost wake-up when there is one" * doctest::skip(sanitized)) {
    struct world {
        bell target;
        stepped_atomic<bool> sleeping{false};
        stepped_atomic<bool> posted{false};
    };
    std::optional<world> w;
    interleaving all(2);
    const long runs = all.explore(
        [&](interleaving& threads) {
            w.emplace();
            threads.start([&] {
                w->posted.store(true);
                if (w->sleeping.load()) w->target.wake();
            });
            threads.start([&] {
                if (w->posted.load()) return;
                w->sleeping.store(true);
                interleaving::wait_until([&] { return w->target.rung; });
            });
        },
        [] {});
    CHECK(runs == -1);
}

TEST_CASE("post box: closed in the middle, a post is refused or given back, and its target is not touched later" *
          doctest::skip(sanitized)) {
    struct world {
        bell target;
        post_box<bell, stepped_atomic> box{target, 1};
        number nodes[2] = {number(0), number(1)};
        bool taken[2] = {};
        std::vector<int> seen;
        bool gone = false;
        bool touched_late = false;
    };
    std::optional<world> w;
    interleaving all(3);
    const long runs = all.explore(
        [&](interleaving& threads) {
            w.emplace();
            for (std::size_t i = 0; i < 2; ++i)
                threads.start([&, i] {
                    w->taken[i] = i == 0 ? w->box.post(w->nodes[i]) : w->box.post_urgently(w->nodes[i]);
                    if (w->gone && w->target.rung) w->touched_late = true;
                });
            threads.start([&] {
                static_cast<void>(w->box.sleep());
                queue<ready_node> rest = w->box.close();
                while (!rest.empty()) w->seen.push_back(static_cast<number&>(rest.pop()).value);
                interleaving::wait_until([&] { return !w->box.visited(); });
                w->target.rung = false;
                w->gone = true;
            });
        },
        [&] {
            for (int i = 0; i < 2; ++i)
                REQUIRE(w->taken[i] == (std::find(w->seen.begin(), w->seen.end(), i) != w->seen.end()));
            REQUIRE_FALSE(w->touched_late);
            REQUIRE_FALSE(w->target.rung);
        });
    CHECK(runs > 500);
    MESSAGE(runs << " orders");
}

// A signal would not be heard in a flood if it stood at the end of the queue.
TEST_CASE("post box: what is urgent goes before all that wait, and wakes a sleeping loop") {
    bell target;
    post_box<bell> box(target, 1);
    number nodes[6] = {number(0), number(1), number(2), number(3), number(4), number(5)};
    for (int i : {0, 1}) box.post(nodes[i]);
    CHECK(box.collect() == 2);
    box.post(nodes[2]);
    CHECK_FALSE(box.sleep());
    box.awake();
    CHECK_FALSE(target.rung);
    for (int i : {3, 4}) box.post_urgently(nodes[i]);
    CHECK(box.collect() == 5);
    std::string order;
    for (int i = 0; i < 5; ++i) order += std::to_string(static_cast<number&>(box.next()).value);
    CHECK(order == "34012");
    CHECK(box.waiting() == 0);
    CHECK(box.sleep());
    box.post_urgently(nodes[5]);
    CHECK(target.rung);
    CHECK_FALSE(box.sleep());
    CHECK(static_cast<number*>(box.close().front())->value == 5);
    CHECK_FALSE(box.post_urgently(nodes[0]));
}

TEST_CASE("post box: in every order, no more posts have a place than the limit, and each place comes back" *
          doctest::skip(sanitized)) {
    struct world {
        bell target;
        post_box<bell, stepped_atomic> box{target, 1};
        number nodes[4] = {number(0), number(1), number(2), number(3)};
        int places = 0;
        int most = 0;
        int refused = 0;
        int ran = 0;
    };
    std::optional<world> w;
    interleaving all(3);
    const long runs = all.explore(
        [&](interleaving& threads) {
            w.emplace();
            for (std::size_t producer = 0; producer < 2; ++producer)
                threads.start([&, producer] {
                    for (std::size_t i = 0; i < 2; ++i) {
                        if (!w->box.reserve()) {
                            ++w->refused;
                            continue;
                        }
                        w->most = std::max(w->most, ++w->places);
                        w->box.post(w->nodes[producer * 2 + i]);
                    }
                });
            threads.start([&] {
                while (w->ran + w->refused < 4) {
                    interleaving::wait_until([&] { return w->box.has_posts() || w->ran + w->refused == 4; });
                    if (w->box.collect() == 0) continue;
                    w->box.next();
                    --w->places;
                    w->box.unreserve();
                    ++w->ran;
                }
                w->box.tell_left_over();
            });
        },
        [&] {
            REQUIRE(w->most == 1);
            REQUIRE(w->places == 0);
            REQUIRE(w->box.reserve());
            REQUIRE_FALSE(w->box.reserve());
        });
    CHECK(runs > 500);
    MESSAGE(runs << " orders");
}

// --- the stack of free places --------------------------------------------------------------------------

struct places {
    stepped_atomic<std::uint32_t> all[4];
    stepped_atomic<std::uint32_t>& below(std::uint32_t n) { return all[n]; }
};

TEST_CASE("free stack: in every order, nobody gets a place that another has, and none is lost" * doctest::skip(sanitized)) {
    using stack = free_stack<places, stepped_atomic>;
    struct world {
        places at;
        stack free{at};
        int owner[3] = {-1, -1, -1};
        std::vector<std::uint32_t> home;  // places on their way back to the only thread that may push
        bool doubled = false;
        void got(std::uint32_t index, int who) {
            if (index >= 3) return;
            if (owner[index] != -1) doubled = true;
            owner[index] = who;
        }
    };
    std::optional<world> w;
    interleaving all(3);
    const long runs = all.explore(
        [&](interleaving& threads) {
            w.emplace();
            for (std::uint32_t i = 0; i < 3; ++i) w->free.push(i);
            for (int who = 0; who < 2; ++who)
                threads.start([&, who] {
                    for (int i = 0; i < 2; ++i) {
                        const std::uint32_t index = w->free.pop();
                        w->got(index, who);
                        if (index < 3) w->home.push_back(index);
                    }
                });
            threads.start([&] {  // the first that comes home goes back on top: ABA
                for (int i = 0; i < 2; ++i) {
                    interleaving::wait_until([&] { return !w->home.empty(); });
                    const std::uint32_t index = w->home.front();
                    w->home.erase(w->home.begin());
                    w->owner[index] = -1;
                    w->free.push(index);
                }
            });
        },
        [&] {
            REQUIRE_FALSE(w->doubled);
            std::size_t found = w->home.size();
            while (w->free.pop() != stack::none) ++found;
            REQUIRE(found == 3);
        });
    CHECK(runs > 1000);
    MESSAGE(runs << " orders");
}

TEST_CASE("free stack: without the counter, the explorer finds the ABA problem" * doctest::skip(sanitized)) {
    struct world {
        places at;
        stepped_atomic<std::uint32_t> top{9};
        int owners[3] = {};
        bool doubled = false;
        std::uint32_t pop() {
            std::uint32_t t = top.load();
            while (t != 9 && !top.compare_exchange_weak(t, at.below(t).load())) {
            }
            if (t != 9 && ++owners[t] > 1) doubled = true;
            return t;
        }
        void push(std::uint32_t index) {
            --owners[index];
            std::uint32_t t = top.load();
            do at.below(index).store(t);
            while (!top.compare_exchange_weak(t, index));
        }
    };
    std::optional<world> w;
    bool found = false;
    interleaving all(3);
    all.explore(
        [&](interleaving& threads) {
            w.emplace();
            for (int& o : w->owners) o = 1;
            for (std::uint32_t i = 0; i < 3; ++i) w->push(i);
            threads.start([&] {
                w->pop();
                w->pop();
            });
            threads.start([&] {
                const std::uint32_t a = w->pop();
                w->pop();
                if (a != 9) w->push(a);
            });
        },
        [&] { found = found || w->doubled; });
    CHECK(found);
}

TEST_CASE("free stack: closed in the middle, what is out and what is free are all there are" * doctest::skip(sanitized)) {
    using stack = free_stack<places, stepped_atomic>;
    struct world {
        places at;
        stack free{at};
        int out = 0;
        std::size_t counted = 0;
    };
    std::optional<world> w;
    interleaving all(4);
    const long runs = all.explore(
        [&](interleaving& threads) {
            w.emplace();
            for (std::uint32_t i = 0; i < 3; ++i) w->free.push(i);
            for (int who = 0; who < 2; ++who)
                threads.start([&] {
                    for (int i = 0; i < 2; ++i)
                        if (w->free.pop() < stack::none) ++w->out;
                });
            threads.start([&] {
                REQUIRE(w->free.close());
                w->counted = w->free.count();
            });
        },
        [&] {
            REQUIRE(w->counted + static_cast<std::size_t>(w->out) == 3);
            REQUIRE(w->free.pop() == stack::is_closed);
        });
    CHECK(runs > 500);
    MESSAGE(runs << " orders");
}

}  // namespace
