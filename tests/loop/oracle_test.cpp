#include <doctest/doctest.h>
#include <rondo/loop/oracle.hpp>

#include <set>
#include <vector>

using rondo::choice;

TEST_CASE("oracle: the benign one always answers 0, and its bits are a fixed sequence") {
    rondo::benign_oracle one;
    rondo::benign_oracle two;
    std::set<std::uint64_t> seen;
    for (int i = 0; i < 100; ++i) {
        CHECK(one.choose(choice::completion_order, 7) == 0);
        const std::uint64_t bits = one.bits(choice::user);
        CHECK(bits == two.bits(choice::user));
        seen.insert(bits);
    }
    CHECK(seen.size() == 100);
}

TEST_CASE("oracle: a seed decides the same on every compiler and machine") {
    rondo::seeded_oracle decide(42);
    CHECK(decide.bits(choice::user) == 0xac565cb70decb9c4);
    CHECK(decide.bits(choice::user) == 0x5476d10d5c698ae8);
    CHECK(decide.bits(choice::network_delay) == 0x0bf1a6b74ff19f83);
    std::vector<std::uint32_t> drawn;
    for (int i = 0; i < 8; ++i) drawn.push_back(decide.choose(choice::receive_size, 1000));
    CHECK(drawn == std::vector<std::uint32_t>{249, 611, 302, 177, 797, 661, 764, 709});
}

TEST_CASE("oracle: a choice stays in its range and reaches all of it") {
    rondo::seeded_oracle decide(7);
    for (std::uint32_t alternatives : {2u, 3u, 10u, 100u}) {
        std::vector<int> hits(alternatives);
        for (std::uint32_t i = 0; i < alternatives * 1000; ++i) {
            const std::uint32_t drawn = decide.choose(choice::completion_order, alternatives);
            REQUIRE(drawn < alternatives);
            ++hits[drawn];
        }
        for (const int hit : hits) {
            CHECK(hit > 800);
            CHECK(hit < 1200);
        }
    }
    for (int i = 0; i < 1000; ++i) REQUIRE(decide.choose(choice::completion_order, ~0u) < ~0u);
}

TEST_CASE("oracle: each class of choices has a stream of its own") {
    rondo::seeded_oracle alone(3);
    rondo::seeded_oracle busy(3);
    for (int i = 0; i < 100; ++i) {
        busy.choose(choice::network_delay, 5);
        busy.bits(choice::user);
        busy.choose(choice::completion_order, 1);  // no alternative: nothing is drawn
        CHECK(alone.choose(choice::completion_order, 50) == busy.choose(choice::completion_order, 50));
    }
}

TEST_CASE("oracle: neighbouring seeds and classes have nothing in common") {
    std::set<std::uint64_t> seen;
    int drawn = 0;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        rondo::seeded_oracle decide(seed);
        for (const choice point : {choice::completion_order, choice::receive_size, choice::user}) {
            for (int i = 0; i < 20; ++i, ++drawn) seen.insert(decide.bits(point));
        }
    }
    CHECK(seen.size() == static_cast<std::size_t>(drawn));
}
