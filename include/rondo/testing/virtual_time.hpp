// A test in virtual time, which passes only when the test says so:
//
//     rondo::testing::run_virtual([&](rondo::testing::virtual_clock& clock) -> rondo::task<> {
//         debounce d(100ms, hits);
//         d.kick();
//         co_await clock.advance(99ms);
//         CHECK(hits == 0);
//         co_await clock.advance(1ms);
//         CHECK(hits == 1);
//     });
#pragma once

#include <rondo/sim/world.hpp>

#include <type_traits>
#include <utility>

namespace rondo::testing {

class virtual_clock {
 public:
    explicit virtual_clock(world& w) noexcept : world_(w), frozen_(w.freeze_time()) {}

    /// 0 at the beginning.
    time_point now() const noexcept { return world_.now(); }
    /// Lets so much time pass, and everything that is due by then happen. Cancel: nothing is lost.
    [[nodiscard]] detail::blocked_awaiter advance(delay by) noexcept { return world_.advance(by); }
    /// Lets everything happen that can without time. Cancel: nothing is lost.
    [[nodiscard]] detail::blocked_awaiter settle() noexcept { return world_.wait_all_blocked(); }

 private:
    world& world_;
    frozen_time frozen_;
};

/// Runs `fn(virtual_clock&)`, which gives a task<T>, in a world of its own with one host, and gives its value
/// or throws its error. Throws as world::run does: a task that sleeps while nobody advances is a deadlock_error.
template <class F>
decltype(auto) run_virtual(F&& fn) {
    using value = detail::value_called<F&, virtual_clock&>;
    world w;
    const auto body = [&]() -> task<value> {
        virtual_clock clock(w);
        if constexpr (std::is_void_v<value>) {
            co_await fn(clock);
        } else {
            co_return co_await fn(clock);
        }
    };
    return w.run(body);
}

}  // namespace rondo::testing
