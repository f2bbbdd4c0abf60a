// The box of posts in every order in which threads can meet in it.
#include "../../lib/loop/post_box.hpp"
#include "support/interleave.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <string>

using namespace rondo::detail;
using test::interleaving;
using test::places;
using test::sanitized;
using test::stepped_atomic;

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

TEST_CASE("post box: in every order, each post runs, one a turn, and a sleeping loop is always woken" *
          doctest::skip(sanitized)) {
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
            const auto at = [&](int value) {
                return std::find(w->seen.begin(), w->seen.end(), value) - w->seen.begin();
            };
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

}  // namespace
