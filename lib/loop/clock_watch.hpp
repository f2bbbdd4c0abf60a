// Those who sleep by the wall clock of a loop.
//
// Each is a timer like any other, for the moment at which the wall clock will show the time if nobody touches it.
// That holds as long as the two clocks run side by side: a clock that is slewed takes the monotonic one along. They
// part when the wall clock is set, and when the machine is suspended, which the monotonic clock does not count. Then
// the kernel tells, and all these timers are moved. So a step of the clock costs something, and a sleep next to
// nothing; and the timers keep the loop alive, in the real world as in a simulated one.
//
// The loop watches the clock by one descriptor, which it has only while somebody sleeps: else a loop with nothing to do
// would never end, and a program without sleepers would have one descriptor too many.
#pragma once

#include <rondo/base/detail/list.hpp>
#include <rondo/loop/backend.hpp>
#include <rondo/loop/detail/wall_timer.hpp>

#include "engine.hpp"

#include <cstdint>

namespace rondo::detail {

class clock_watch {
 public:
    explicit clock_watch(engine& l) noexcept : loop_(l) {}
    clock_watch(const clock_watch&) = delete;
    clock_watch& operator=(const clock_watch&) = delete;

    /// 0, or -errno. Throws bad_alloc.
    int add(wall_timer& t);
    /// Its timer has fired, too early. Needs no memory: a slot of the heap has just become free.
    void put_back(wall_timer& t) noexcept;
    /// It is over.
    void remove(wall_timer& t) noexcept;

 private:
    static const op_vtable table;
    struct news : io_op {
        explicit news(clock_watch& w) noexcept : io_op(table, io_kind::poll_in, -1), of(w) {}
        clock_watch& of;
    };

    int listen() noexcept;
    void close_if_alone() noexcept;
    void ended() noexcept;
    time_point moment_of(const wall_timer& t) noexcept;

    engine& loop_;
    ring<linked_op> waits_;
    news news_{*this};
    bool listens_ = false;  // news_ is under way: until ended(), which may come later than its report
    bool closes_ = false;  // its descriptor as well
};

}  // namespace rondo::detail
