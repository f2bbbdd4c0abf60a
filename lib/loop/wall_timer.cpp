#include <rondo/loop/detail/wall_timer.hpp>

#include "base/readable.hpp"
#include "clock_watch.hpp"

#include <cerrno>
#include <chrono>
#include <cstdio>

namespace rondo::detail {

const op_vtable wall_timer::table = {
    [](op& o) noexcept {
        current->remove_timer(o);
        current->complete(o, -ECANCELED);
    },
    [](op& o) noexcept {
        if (o.vt->settled(o)) wake_owner(o);
    },
    &wall_timer::describe,
    nullptr,
    [](op& o) noexcept {
        auto& self = static_cast<wall_timer&>(o);
        clock_watch& watch = engine::of(*current).wall_clock();
        if (o.result == 0 && !self.is_due()) {  // the clock was set back, and the loop has not heard yet
            watch.put_back(self);
            return false;
        }
        watch.remove(self);
        return true;
    },
};

int wall_timer::begin() { return engine::of(*current).wall_clock().add(*this); }

bool wall_timer::is_due() const noexcept { return current->io().wall_now() >= when; }

void wall_timer::describe(const op& o, char* text, std::size_t size) noexcept {
    namespace chrono = std::chrono;
    const auto& self = static_cast<const wall_timer&>(o);
    const chrono::sys_time<chrono::nanoseconds> at{chrono::nanoseconds(self.when)};
    const auto day = chrono::floor<chrono::days>(at);
    const chrono::year_month_day date(day);
    const chrono::hh_mm_ss time(chrono::floor<chrono::seconds>(at - day));
    std::snprintf(text, size, "sleep until %04d-%02u-%02u %02d:%02d:%02d UTC", static_cast<int>(date.year()),
                  static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                  static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
                  static_cast<int>(time.seconds().count()));
}

}  // namespace rondo::detail
