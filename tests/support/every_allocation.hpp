// "Fail the n-th allocation": runs a program again and again, and lets the n-th block that it asks the
// frame pool for be refused, until a run needs fewer. After each run nothing may be left.
#pragma once

#include "net.hpp"

#include <new>

namespace test {
namespace detail {

/// Whether all that `error` stands for is want of memory.
inline bool is_want_of_memory(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::bad_alloc&) {
        return true;
    } catch (const rondo::exception_group& group) {
        for (const std::exception_ptr& each : group.errors())
            if (!is_want_of_memory(each)) return false;
        return true;
    } catch (...) {
        return false;
    }
}

}  // namespace detail

/// The whole harness. Gives how many allocations the program makes.
template <class Program>
std::size_t fail_every_allocation(Program program) {
    const std::size_t frames = rondo::detail::frames_live();
    const std::size_t descriptors = open_descriptors();
    for (std::size_t n = 1;; ++n) {
        CAPTURE(n);
        REQUIRE(n < 5000);
        bool failed = false;
        {
            rondo::loop l;
            // One whose handle was dropped while it failed for want of memory, too.
            l.on_unhandled([](std::exception_ptr error, std::source_location, void*) {
                CHECK(detail::is_want_of_memory(error));
            });
            rondo::detail::fail_allocation(n);
            try {
                rondo::run_on(l, program);
            } catch (...) {
                failed = true;
                CHECK(detail::is_want_of_memory(std::current_exception()));
            }
            rondo::detail::fail_allocation(0);
            CHECK(l.stats().tasks == 0);
            CHECK(l.stats().operations == 0);
            CHECK(l.stats().timers == 0);
        }
        CHECK(rondo::detail::frames_live() == frames);
        CHECK(open_descriptors() == descriptors);
        if (!failed) return n - 1;
        rondo::run(program);
        CHECK(rondo::detail::frames_live() == frames);
    }
}

}  // namespace test
