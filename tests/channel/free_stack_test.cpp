// The stack of free places in every order in which threads can meet in it.
#include "../../lib/channel/free_stack.hpp"
#include "support/interleave.hpp"

#include <doctest/doctest.h>

#include <optional>

using namespace rondo::detail;
using test::interleaving;
using test::places;
using test::sanitized;
using test::stepped_atomic;

namespace {

TEST_CASE("free stack: in every order, nobody gets a place that another has, and none is lost" *
          doctest::skip(sanitized)) {
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

TEST_CASE("free stack: closed in the middle, what is out and what is free are all there are" *
          doctest::skip(sanitized)) {
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
