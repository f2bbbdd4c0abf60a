// A simulated test that fails in some runs: failing_simulation.py looks at what it says. One program for each test
// framework.
#if defined(RONDO_WITH_GTEST)
#include <rondo/testing/gtest.hpp>
#define SIMULATED(runs) RONDO_SIM_TEST(OneInEight, Fails, runs)
#define CHECK(condition) EXPECT_TRUE(condition)
#elif defined(RONDO_WITH_CATCH2)
#define CATCH_CONFIG_MAIN
#include <rondo/testing/catch2.hpp>
#define SIMULATED(runs) RONDO_SIM_TEST("one in eight, [or so], fails", runs)
#else
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <rondo/testing/doctest.hpp>
#define SIMULATED(runs) RONDO_SIM_TEST("one in eight fails", runs)
#endif
#include <rondo/rondo.hpp>

SIMULATED(rondo::seeds(1000)) {
    w.host("other").run(
        [](rondo::world& its) -> rondo::task<> {
            for (int i = 0; i < 4; ++i) {
                const std::uint32_t drawn = its.choose(8);
                CHECK(drawn != 5);
                co_await rondo::sleep_for(std::chrono::seconds(1));
            }
        },
        std::ref(w));
    co_await rondo::sleep_for(std::chrono::minutes(1));
}
