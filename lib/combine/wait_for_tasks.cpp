#include <rondo/combine/wait_for_tasks.hpp>

#include <rondo/loop/loop.hpp>
#include <rondo/task/suspend.hpp>

#include <cerrno>
#include <cstdio>

namespace rondo::detail {

namespace {

// Nobody is suspended on the ops of the tasks and of the timeout, so nobody cancels them.
void ignore_cancel(op&) noexcept {}

void describe_part(const op&, char* text, std::size_t size) noexcept {
    std::snprintf(text, size, "a part of wait_for_tasks");
}

}  // namespace

task_watch::task_watch(fiber& watched) noexcept : op(tasks_awaiter::watch_table), target(watched) {}

// Raw room, so that an array of what knows its task from the start can grow one by one.
task_watches::task_watches(std::size_t room)
    : items_(static_cast<task_watch*>(::operator new(room * sizeof(task_watch)))) {}
task_watches::~task_watches() { ::operator delete(items_); }
void task_watches::add(fiber& watched) noexcept { ::new (&items_[count_++]) task_watch(watched); }

tasks_awaiter::timeout::timeout(tasks_awaiter& awaiter) noexcept : op(tasks_awaiter::timeout_table), of(awaiter) {}

tasks_awaiter::tasks_awaiter(return_when until, time_point deadline, task_watches watches) noexcept
    : op(table),
      until_(until),
      pending_(watches.size()),
      deadline_(deadline),
      timeout_(*this),
      watches_(std::move(watches)) {}

const op_vtable tasks_awaiter::watch_table = {
    &ignore_cancel,
    [](op& o) noexcept {
        const auto& watch = static_cast<task_watch&>(o);
        watch.of->count(watch.target);
        if (watch.of->enough()) watch.of->finish(0);
    },
    &describe_part,
};

const op_vtable tasks_awaiter::timeout_table = {
    &ignore_cancel,
    [](op& o) noexcept { static_cast<timeout&>(o).of.finish(0); },
    &describe_part,
};

const op_vtable tasks_awaiter::table = {
    [](op& o) noexcept { static_cast<tasks_awaiter&>(o).finish(-ECANCELED); },
    &wake_owner,
    [](const op& o, char* text, std::size_t size) noexcept {
        const auto& self = static_cast<const tasks_awaiter&>(o);
        std::snprintf(text, size, "%zu of %zu tasks", self.pending_, self.watches_.size());
    },
};

// What may throw comes first: then nothing has been started.
bool tasks_awaiter::start() {
    for (const task_watch& watch : watches_)
        if (watch.target.flags & fiber::ended) count(watch.target);
    if (enough()) return false;
    timeout_.owner = owner;
    if (deadline_ != never) start_sleep(timeout_, deadline_);
    for (task_watch& watch : watches_) {
        fiber& task = watch.target;
        if (task.flags & fiber::ended) continue;
        RONDO_ASSERT(task.awaited_by == nullptr, "two tasks await one task handle");
        RONDO_ASSERT(&task != owner, "a task awaits itself");
        if (debug_enabled) [[unlikely]]
            task.inside->its_loop.assert_here("awaiting a task", owner->leaf->site);
        watch.of = this;
        watch.owner = owner;
        watch.state = armed;
        task.awaited_by = &watch;
    }
    state = armed;
    return true;
}

void tasks_awaiter::count(const fiber& ended) noexcept {
    --pending_;
    one_failed_ |= (ended.flags & fiber::has_error) != 0;
}

bool tasks_awaiter::enough() const noexcept {
    if (pending_ == 0) return true;
    return (until_ == return_when::first_completed && pending_ < watches_.size()) ||
           (until_ == return_when::first_exception && one_failed_);
}

void tasks_awaiter::finish(std::int32_t with) noexcept {
    for (task_watch& watch : watches_)
        if (watch.state == armed) watch.target.awaited_by = nullptr;
    if (timeout_.pending()) current->remove_timer(timeout_);
    timeout_.state = idle;
    current->complete(*this, with);
}

done_and_pending tasks_awaiter::await_resume() const {
    if (result < 0) throw_failure(result, "wait_for_tasks");
    done_and_pending which;
    for (std::size_t i = 0; i < watches_.size(); ++i)
        (watches_.begin()[i].target.flags & fiber::ended ? which.done : which.pending).push_back(i);
    return which;
}

}  // namespace rondo::detail
