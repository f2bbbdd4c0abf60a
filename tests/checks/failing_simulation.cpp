// A simulated test that fails in some runs: failing_simulation.py looks at what it says.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <rondo/rondo.hpp>
#include <rondo/testing/doctest.hpp>

RONDO_SIM_TEST("one in eight fails", rondo::seeds(1000)) {
    w.host("other").run([](rondo::world& its) -> rondo::task<> {
        for (int i = 0; i < 4; ++i) {
            const std::uint32_t drawn = its.choose(8);
            CHECK(drawn != 5);
            co_await rondo::sleep_for(std::chrono::seconds(1));
        }
    }, std::ref(w));
    co_await rondo::sleep_for(std::chrono::minutes(1));
}
