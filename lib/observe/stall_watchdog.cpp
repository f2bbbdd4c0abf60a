// The loop publishes each step in a sequence lock: an odd number while a step runs, and what belongs to it. Every
// store releases and every load acquires, so who reads the same number before and after has read what belongs
// together, and a number that does not change is a step that does not end. On x86 these are plain moves.
#include <rondo/observe/stall_watchdog.hpp>
#include <rondo/base/log.hpp>

#include "base/fork.hpp"
#include "loop/places.hpp"
#include "base/readable.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>

namespace rondo {

namespace {

using clock = std::chrono::steady_clock;
constexpr std::size_t most_sites = 4;  // of the innermost awaits: some may be the library's

void log_stall(const stall& s, void*) noexcept {
    char who[32] = "a callback";
    if (s.task != 0) std::snprintf(who, sizeof who, "task %u", static_cast<unsigned>(s.task));
    char missed[64] = "";
    if (s.missed != 0)
        std::snprintf(missed, sizeof missed, " (%u stalls before it were not reported)",
                      static_cast<unsigned>(s.missed));
    const detail::readable lasts = detail::readable_duration(s.lasts);
    static detail::log_gate gate(100);  // they are limited already
    if (s.over) {
        detail::write_log(gate, log_level::warning, s.place, "%s went on after at least %s", who, lasts.text);
    } else if (s.task == 0 || s.spawned.line() == 0) {
        detail::write_log(gate, log_level::warning, s.place, "%s has held up its loop for %s%s", who, lasts.text,
                          missed);
    } else {
        detail::write_log(gate, log_level::warning, s.place,
                          "%s, spawned at %s:%u, has held up its loop for %s%s; it went on from", who,
                          s.spawned.file_name(), static_cast<unsigned>(s.spawned.line()), lasts.text, missed);
    }
}

}  // namespace

struct stall_watchdog::state {
    explicit state(const stall_options& o)
        : options(o), limit(std::max<duration>(o.limit.value(), std::chrono::milliseconds(1))) {}

    // Written by the loop, read by the thread. A pointer each: that is lock-free.
    std::atomic<std::uint64_t> step{0};
    std::atomic<std::uint32_t> task{0};
    std::atomic<std::source_location> spawned{};
    std::array<std::atomic<std::source_location>, most_sites> sites{};

    std::atomic<std::uint64_t> stalls{0};  // written by the thread
    const stall_options options;
    const duration limit;
    std::mutex guard;
    std::condition_variable changed;
    bool stopping = false;  // under the guard
    std::thread thread;
    const unsigned forks = detail::forks();

    // Both on the thread of the loop.
    void begin(task_view what, std::source_location place) noexcept {
        std::source_location awaits[most_sites];
        awaits[0] = place;
        if (what.number() != 0) what.sites(awaits, most_sites);
        task.store(what.number(), std::memory_order_release);
        spawned.store(what.spawned(), std::memory_order_release);
        for (std::size_t i = 0; i < most_sites; ++i) sites[i].store(awaits[i], std::memory_order_release);
        end();
    }
    void end() noexcept { step.store(step.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

    /// What runs now, if it is step `number` still.
    bool read(std::uint64_t number, stall& into) const noexcept {
        into.task = task.load(std::memory_order_acquire);
        into.spawned = spawned.load(std::memory_order_acquire);
        into.place = {};
        for (const auto& each : sites) {
            const std::source_location site = each.load(std::memory_order_acquire);
            if (site.line() == 0) break;
            if (into.place.line() == 0) into.place = site;
            if (detail::is_ours(site)) continue;
            into.place = site;
            break;
        }
        return step.load(std::memory_order_acquire) == number;
    }

    void look_out() {
        std::uint64_t seen = 0;
        clock::time_point since{};
        stall now{};
        bool reported = false;
        clock::time_point minute = clock::now();
        std::uint32_t in_minute = 0;
        std::uint32_t missed = 0;
        const auto tell = [&](const stall& s) {
            (options.report != nullptr ? options.report : &log_stall)(s, options.context);
        };

        std::unique_lock lock(guard);
        while (!changed.wait_for(lock, limit / 4, [&] { return stopping; })) {
            lock.unlock();
            const std::uint64_t number = step.load(std::memory_order_acquire);
            const clock::time_point at = clock::now();
            if (number != seen) {
                if (reported) {
                    now.over = true;
                    now.missed = 0;
                    now.lasts = at - since;
                    tell(now);
                }
                reported = false;
                seen = number;
                since = at;
            } else if (number % 2 == 1 && !reported && at - since >= limit && read(number, now)) {
                if (at - minute >= std::chrono::minutes(1)) {
                    minute = at;
                    in_minute = 0;
                }
                if (in_minute < options.per_minute) {
                    ++in_minute;
                    now.lasts = at - since;
                    now.over = false;
                    now.missed = missed;
                    missed = 0;
                    reported = true;
                    tell(now);
                } else {
                    ++missed;
                    since = clock::time_point::max();  // this one is done with
                }
                stalls.fetch_add(1, std::memory_order_release);
            }
            lock.lock();
        }
    }
};

static_assert(std::atomic<std::source_location>::is_always_lock_free);

stall_watchdog::stall_watchdog(const stall_options& options) : state_(std::make_unique<state>(options)) {
    state_->thread = std::thread([s = state_.get()] { s->look_out(); });
}

stall_watchdog::~stall_watchdog() {
    if (detail::forks() != state_->forks) {  // a forked child has no thread to stop, and may find the guard locked
        static_cast<void>(state_.release());
        return;
    }
    {
        const std::lock_guard lock(state_->guard);
        state_->stopping = true;
    }
    state_->changed.notify_one();
    state_->thread.join();
}

std::uint64_t stall_watchdog::stalls() const noexcept { return state_->stalls.load(std::memory_order_acquire); }

void stall_watchdog::on(const loop_event& e) noexcept {
    if (e.kind == loop_event_kind::step) state_->begin(e.task, e.place);
    if (e.kind == loop_event_kind::step_end) state_->end();
}

}  // namespace rondo
