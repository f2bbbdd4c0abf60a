// The timer heap against a model: an ordered set of (deadline, number, slot).
#include "support/test.hpp"

#include "../../lib/loop/heap.hpp"

#include <random>
#include <set>
#include <tuple>

namespace {

using namespace rondo;
using detail::timer_heap;

const op_vtable no_vtable = {};

struct model {
    explicit model(std::uint32_t first_sequence) : heap(first_sequence) {}

    struct node : op {
        node() : op(no_vtable) {}
        std::uint32_t slot = 0;
        bool armed = false;
        time_point deadline;
        std::uint64_t number = 0;
    };
    using key = std::tuple<time_point, std::uint64_t, node*>;

    void arm(node& n, time_point deadline) {
        heap.arm(n.slot, deadline);
        n.armed = true;
        n.deadline = deadline;
        n.number = next++;
        order.insert({deadline, n.number, &n});
    }
    void disarm(node& n) {
        heap.disarm(n.slot);
        n.armed = false;
        order.erase({n.deadline, n.number, &n});
    }
    /// Fires what is due; some of it disarms or arms others.
    void turn(time_point now, std::mt19937& random, std::vector<node>& nodes) {
        heap.collect(now);
        std::vector<node*> due;
        for (const key& k : order)
            if (std::get<0>(k) <= now) due.push_back(std::get<2>(k));
        std::size_t next_due = 0;
        const auto skip = [&] {
            while (next_due < due.size() && due[next_due] == nullptr) ++next_due;
        };
        for (auto slot = heap.take_due(); slot != timer_heap::none; slot = heap.take_due()) {
            skip();
            REQUIRE(next_due < due.size());
            node& fired = *due[next_due++];
            REQUIRE(&heap.owner(slot) == &fired);
            CHECK(!heap.armed(slot));
            fired.armed = false;
            order.erase({fired.deadline, fired.number, &fired});
            node& other = nodes[random() % nodes.size()];
            if (other.armed && random() % 2 == 0) {
                disarm(other);
                for (std::size_t i = next_due; i < due.size(); ++i)
                    if (due[i] == &other) due[i] = nullptr;
            } else if (!other.armed) {
                arm(other, now - std::chrono::nanoseconds(random() % 3));  // due, but not in this round
            }
        }
        skip();
        CHECK(next_due == due.size());
    }

    timer_heap heap;
    std::set<key> order;
    std::uint64_t next = 0;
};

void compare(std::uint32_t first_sequence, unsigned seed) {
    std::mt19937 random(seed);
    model m(first_sequence);
    std::vector<model::node> nodes(300);
    for (auto& n : nodes) n.slot = m.heap.acquire(n);
    time_point now{};
    for (int step = 0; step < 20'000; ++step) {
        model::node& n = nodes[random() % nodes.size()];
        // few deadlines, so that many are equal
        const time_point deadline = now + std::chrono::nanoseconds(random() % 40);
        switch (random() % 8) {
            case 0:
                if (!n.armed) {
                    m.heap.release(n.slot);
                    n.slot = m.heap.acquire(n);
                }
                break;
            case 1:
                now += std::chrono::nanoseconds(random() % 10);
                m.turn(now, random, nodes);
                break;
            case 2:
            case 3:
                if (n.armed) m.disarm(n);
                break;
            default:
                if (n.armed) m.disarm(n);
                m.arm(n, deadline);
        }
        REQUIRE(m.heap.size() == m.order.size());
        REQUIRE(m.heap.empty() == m.order.empty());
        if (!m.order.empty()) REQUIRE(m.heap.next() == std::get<0>(*m.order.begin()));
        REQUIRE(m.heap.armed(n.slot) == n.armed);
    }
}

TEST_CASE("timer heap: fires in order of deadline, then of arming, whatever is cancelled") {
    for (unsigned seed = 0; seed < 10; ++seed) compare(0, seed);
}

TEST_CASE("timer heap: equal deadlines keep their order when 2^32 timers have been armed") {
    for (unsigned seed = 0; seed < 5; ++seed) compare(~std::uint32_t{0} - 1000, seed);
}

// A scope cancels its sleepers: few or many of all that sleep, by way of their ops.
TEST_CASE("timer heap: after a clearing the others fire in the order they had") {
    for (unsigned seed = 0; seed < 40; ++seed) {
        std::mt19937 random(seed);
        timer_heap heap;
        std::vector<model::node> nodes(500);
        const auto deadline = [&] { return time_point{} + std::chrono::nanoseconds(random() % 50); };
        std::set<model::key> order;
        std::uint64_t number = 0;
        const auto add = [&](model::node& n) {
            n.deadline = deadline();
            n.number = number++;
            heap.add(n, n.deadline);
            n.armed = true;
            order.insert({n.deadline, n.number, &n});
        };
        for (auto& n : nodes) add(n);
        const unsigned share = 1 + seed % 20;  // in twentieths
        {
            const timer_heap::clearing clearing(heap);
            for (auto& n : nodes) {
                if (random() % 20 >= share) continue;
                const timer_heap::clearing inner(heap);  // a composite wait cancels a scope of its own
                heap.remove(n);
                n.armed = false;
                order.erase({n.deadline, n.number, &n});
            }
        }
        REQUIRE(heap.size() == order.size());
        for (auto& n : nodes)
            if (!n.armed) add(n);  // the slots are free again
        REQUIRE(heap.size() == nodes.size());
        heap.collect(time_point::max());
        for (const auto& expected : order) {
            const auto slot = heap.take_due();
            REQUIRE(slot != timer_heap::none);
            REQUIRE(&heap.owner(slot) == std::get<2>(expected));
        }
        CHECK(heap.take_due() == timer_heap::none);
    }
}

TEST_CASE("timer heap: a held slot counts as armed and has no deadline") {
    timer_heap heap;
    model::node n;
    n.slot = heap.acquire(n);
    heap.hold(n.slot);
    CHECK(heap.armed(n.slot));
    CHECK(heap.is_held(n.slot));
    CHECK(heap.size() == 1);
    CHECK(heap.empty());
    heap.disarm(n.slot);
    CHECK(!heap.armed(n.slot));
    CHECK(heap.size() == 0);
}

}  // namespace
