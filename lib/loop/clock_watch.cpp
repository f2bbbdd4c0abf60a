#include "clock_watch.hpp"

#include <cstdio>
#include <utility>

namespace rondo::detail {

const op_vtable clock_watch::table = {
    [](op& o) noexcept { current->cancel(static_cast<io_op&>(o)); },
    [](op& o) noexcept { static_cast<news&>(o).of.ended(); },
    [](const op&, char* text, std::size_t size) noexcept { std::snprintf(text, size, "a clock that is set"); },
};

int clock_watch::add(wall_timer& t) {
    // Before the clocks are read: what happens to them afterwards is told.
    if (!listens_)
        if (const int error = listen(); error < 0) return error;
    try {
        loop_.add_timer(t, moment_of(t));
    } catch (...) {
        close_if_alone();
        throw;
    }
    waits_.push_back(t);
    return 0;
}

void clock_watch::put_back(wall_timer& t) noexcept { loop_.add_timer(t, moment_of(t)); }

void clock_watch::remove(wall_timer& t) noexcept {
    t.unlink();
    close_if_alone();
}

void clock_watch::close_if_alone() noexcept {
    if (!waits_.empty() || !listens_ || closes_) return;
    closes_ = true;
    loop_.reap(news_.fd);
}

int clock_watch::listen() noexcept {
    for (;;) {
        sys_op watch{sys_op::call::watch_clock, news_.fd};
        const int result = loop_.control(watch);
        if (result < 0) return result;
        if (news_.fd < 0) news_.fd = result;
        listens_ = !loop_.submit_own(news_);
        if (listens_) return 0;
        if (news_.result < 0) {
            loop_.reap(std::exchange(news_.fd, -1));
            return news_.result;
        }
    }
}

/// The clock was set; or the descriptor is closed, and somebody may have come since.
void clock_watch::ended() noexcept {
    listens_ = false;
    if (std::exchange(closes_, false)) news_.fd = -1;
    if (waits_.empty()) return;
    if (const int error = listen(); error < 0) {  // whoever waits on would never hear of a step
        while (!waits_.empty()) {
            linked_op& each = waits_.front();
            loop_.remove_timer(each);
            loop_.complete(each, error);
        }
        return;
    }
    waits_.for_each([&](linked_op& each) { loop_.move_timer(each, moment_of(static_cast<wall_timer&>(each))); });
}

/// Never early: the clock that is compared is read first.
time_point clock_watch::moment_of(const wall_timer& t) noexcept {
    constexpr std::int64_t most = duration::max().count();
    if (t.when == most) return never;
    const std::int64_t wall = loop_.io().wall_now();
    const time_point now = loop_.io().now();
    std::int64_t left;
    if (__builtin_sub_overflow(t.when, wall, &left)) left = t.when < wall ? 0 : most;
    return delay(duration(left)).after(now);
}

}  // namespace rondo::detail
