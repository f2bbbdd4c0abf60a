// One disturbed run of a program under test, and the two searches through its runs.
#include <rondo/testing/every_step.hpp>

#include <rondo/base/detail/pool.hpp>
#include <rondo/sync/semaphore.hpp>
#include <rondo/task/task.hpp>

#include "loop/engine.hpp"
#include "loop/places.hpp"

#include <dirent.h>

#include <algorithm>
#include <new>
#include <system_error>

namespace rondo::testing {
namespace {

using detail::fiber;

constexpr std::size_t most_failures = 10;

/// What is done to a run.
enum class disturbance { none, cancel_at_once, cancel_after_a_look, fail_allocation };

/// How many descriptors this process has open.
std::size_t open_descriptors() noexcept {
    std::size_t count = 0;
    DIR* all = ::opendir("/proc/self/fd");
    if (all == nullptr) return 0;
    while (::readdir(all) != nullptr) ++count;
    ::closedir(all);
    return count;
}

/// Counts the steps of a run for as long as its main task lives, and strikes after one of them.
class step_counter final : public observer {
 public:
    step_counter(disturbance what, std::size_t after) noexcept : what_(what), target_(after) {}

    void begin(loop& l, fiber& main) noexcept {
        loop_ = &l;
        main_ = &main;
        if (target_ == 0) strike();
    }
    void forget() noexcept { main_ = nullptr; }

    std::size_t steps() const noexcept { return steps_; }
    /// Whether the main task lived long enough, and where it waited then.
    bool struck() const noexcept { return struck_; }
    /// Whether the rest of the program has reason to miss it.
    bool main_is_leaving() const noexcept { return struck_ || main_ == nullptr || (main_->flags & fiber::ended); }
    const std::source_location& place() const noexcept { return place_; }

    void on(const loop_event& e) noexcept override {
        if (e.kind != loop_event_kind::step_end) return;
        if (main_ == nullptr || (main_->flags & fiber::ended)) return;
        if (++steps_ == target_) strike();
    }

 private:
    // Like a last line of the step.
    void strike() noexcept {
        if (what_ != disturbance::cancel_at_once && what_ != disturbance::cancel_after_a_look) return;
        struck_ = true;
        place_ = detail::shown_place(*main_);
        if (what_ == disturbance::cancel_at_once) {
            detail::cancel_fiber(*main_);
        } else {
            loop_->stop();
        }
    }

    disturbance what_;
    std::size_t target_;
    std::size_t steps_ = 0;
    loop* loop_ = nullptr;
    fiber* main_ = nullptr;
    bool struck_ = false;
    std::source_location place_;
};

bool has_ended(void* main) { return (static_cast<fiber*>(main)->flags & fiber::ended) != 0; }

class run {
 public:
    run(const every_step::subject& program, const every_step_options& options, disturbance what, std::size_t point)
        : program_(program), options_(options), what_(what), point_(point), counter_(what, point) {
        const std::size_t frames = detail::frames_live();
        const std::size_t descriptors = open_descriptors();
        const std::size_t permits = detail::permits_lost().count;
        on_its_loop();
        expect(detail::frames_live(), frames, "frames, tasks or callbacks");
        expect(open_descriptors(), descriptors, "descriptors");
        const std::string lost = detail::permits_lost().since(permits);
        if (!lost.empty()) wrong(lost);
        try {
            program_.check(program_.after_run);
        } catch (...) {
            wrong("the check after it threw " + detail::message_of(std::current_exception()));
        }
    }

    /// Whether it lived long enough to be disturbed.
    bool was_disturbed() const noexcept { return counter_.struck() || allocation_failed_; }
    std::size_t steps() const noexcept { return counter_.steps(); }

    /// Adds what was wrong.
    void report(every_step_report& to) const {
        ++to.runs;
        for (const std::string& what : wrong_) to.failures.push_back(name() + ": " + what);
    }

 private:
    std::string name() const {
        const std::string n = std::to_string(point_);
        switch (what_) {
            case disturbance::none: break;
            case disturbance::cancel_at_once: return "cancelled after step " + n + detail::at_place(counter_.place());
            case disturbance::cancel_after_a_look:
                return "cancelled one look after step " + n + detail::at_place(counter_.place());
            case disturbance::fail_allocation: return "without allocation " + n;
        }
        return "left alone";
    }

    void on_its_loop() {
        loop_options made_with = options_.loop;
        made_with.observer = &counter_;
        loop l(made_with);
        l.on_unhandled(&unhandled, this);
        timer watchdog = l.set_timeout(options_.time_limit, [this, &l] {
            hangs_ = true;
            l.stop();
        });
        watchdog.unref();

        if (what_ == disturbance::fail_allocation) detail::fail_allocation(point_);
        fiber* const main = start(l);
        if (main != nullptr) to_its_end(l, *main);
        detail::engine::of(l).drain_root();
        allocation_failed_ = what_ == disturbance::fail_allocation && detail::allocations_to_failure() == 0;
        detail::fail_allocation(0);
        if (main != nullptr) judge(*main);

        const loop_stats left = l.stats();
        expect(left.tasks, 0, "tasks");
        expect(left.operations, 0, "operations");
        expect(left.timers, hangs_ ? 0 : 1, "timers (one watches the time limit)");
        backend& io = detail::scheduler::of(l).io();
        if (io.is_closed_world()) expect(io.open_descriptors(), 0, "simulated descriptors");
        watchdog.cancel();
    }

    /// Null: there was no memory for the task itself.
    fiber* start(loop& l) {
        try {
            fiber& main = program_.start(detail::scheduler::of(l), program_.function);
            main.flags |= fiber::held;
            return &main;
        } catch (const std::bad_alloc&) {
            if (what_ != disturbance::fail_allocation) throw;
            return nullptr;
        }
    }

    void to_its_end(loop& l, fiber& main) {
        counter_.begin(l, main);
        detail::engine::of(l).limit_run();  // time that stands still never comes to the limit
        bool over = false;
        try {
            over = detail::engine::of(l).run_until(&has_ended, &main);
        } catch (const livelock_error& e) {
            counter_.forget();
            hangs_ = true;
            wrong(e.what());
            return break_down(l);
        }
        if (!over && !hangs_ && what_ == disturbance::cancel_after_a_look && counter_.struck()) {
            l.run_nowait();  // hands its operations to the kernel: now they are really under way
            detail::cancel_fiber(main);
            over = detail::engine::of(l).run_until(&has_ended, &main);
        }
        counter_.forget();
        if (over) return;
        std::string text = "the main task does not end; what is left:";
        for (const alive_entry& e : l.why_alive()) text += "\n    " + e.what + detail::at_place(e.place);
        wrong(std::move(text));
        break_down(l);
    }

    // What hangs behind a shield would keep the loop from ending, and the search from going on.
    static void break_down(loop& l) noexcept {
        detail::engine::of(l).for_each_task([](fiber& f) {
            for (detail::scope* s = f.inside; s != nullptr; s = s->parent()) s->shield(false);
        });
        detail::engine::of(l).for_each_task([](fiber& f) { detail::cancel_fiber(f); });
    }

    void judge(fiber& main) {
        if ((main.flags & fiber::has_error) && !allocation_failed_)
            wrong("the main task ended with " + detail::message_of(main.vt->error(main)));
        main.flags |= fiber::taken;
        detail::release_handle(main);
    }

    // A task that nobody holds: a helper may lose its peer when the program goes.
    static void unhandled(std::exception_ptr error, std::source_location place, void* self) {
        run& r = *static_cast<run*>(self);
        try {
            std::rethrow_exception(error);
        } catch (const std::system_error&) {
            if (r.what_ == disturbance::fail_allocation || r.counter_.main_is_leaving()) return;
        } catch (const std::bad_alloc&) {
            if (r.what_ == disturbance::fail_allocation) return;
        } catch (...) {
            // judged like every other error
        }
        r.wrong("a task that nobody holds ended with " + detail::message_of(error) + detail::at_place(place));
    }

    void expect(std::size_t found, std::size_t wanted, const char* what) {
        if (found != wanted) wrong(std::to_string(found) + " " + what + ", not " + std::to_string(wanted));
    }
    void wrong(std::string what) { wrong_.push_back(std::move(what)); }

    const every_step::subject& program_;
    const every_step_options& options_;
    const disturbance what_;
    const std::size_t point_;
    step_counter counter_;
    bool hangs_ = false;
    bool allocation_failed_ = false;
    std::vector<std::string> wrong_;
};

/// The runs of one search.
class search {
 public:
    search(const every_step::subject& program, const every_step_options& options)
        : program_(program), options_(options) {
        RONDO_ASSERT(options.loop.observer == nullptr,
                     "the steps are counted by the observer of the loop; there is one");
    }

    /// False: the run was over before its point came.
    bool try_point(disturbance what, std::size_t point) {
        const run one(program_, options_, what, point);
        one.report(report_);
        const std::size_t count = what == disturbance::fail_allocation ? point : point + 1;  // steps begin at 0
        if (one.was_disturbed()) report_.points = std::max(report_.points, count);
        if (report_.runs >= options_.most_runs)
            report_.failures.push_back("the search was given up after " + std::to_string(report_.runs) + " runs");
        return one.was_disturbed();
    }
    bool goes_on() const noexcept {
        return report_.failures.size() < most_failures && report_.runs < options_.most_runs;
    }
    every_step_report take() { return std::move(report_); }

 private:
    const every_step::subject& program_;
    const every_step_options& options_;
    every_step_report report_;
};

}  // namespace

std::string every_step_report::text() const {
    std::string all = std::to_string(runs) + " runs, " + std::to_string(points) + " points";
    for (const std::string& failure : failures) all += "\n  " + failure;
    return all;
}

namespace every_step {

every_step_report cancel_at_every_step(const subject& program, const every_step_options& options) {
    search through(program, options);
    std::size_t step = 0;
    while (through.goes_on() && through.try_point(disturbance::cancel_at_once, step)) ++step;
    step = 1;
    while (through.goes_on() && through.try_point(disturbance::cancel_after_a_look, step)) ++step;
    return through.take();
}

every_step_report fail_each_allocation(const subject& program, const every_step_options& options) {
    search through(program, options);
    std::size_t n = 1;
    while (through.goes_on() && through.try_point(disturbance::fail_allocation, n)) {
        through.try_point(disturbance::none, 0);
        ++n;
    }
    return through.take();
}

}  // namespace every_step
}  // namespace rondo::testing
