#include <rondo/observe/task_times.hpp>

#include "clock.hpp"

#include <algorithm>
#include <new>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

#include <time.h>

namespace rondo {

namespace {

/// Where a task was spawned. Another unit may have another copy of the name of the same file: see by_place().
struct line_of {
    const char* file;
    std::uint32_t line;
    std::uint32_t column;

    explicit line_of(const std::source_location& at) noexcept
        : file(at.file_name()), line(at.line()), column(at.column()) {}
    bool operator==(const line_of&) const noexcept = default;
};
struct hash_of_line {
    std::size_t operator()(const line_of& at) const noexcept {
        const std::uint64_t mixed =
            reinterpret_cast<std::uintptr_t>(at.file) ^ (std::uint64_t{at.line} << 16 | at.column);
        return static_cast<std::size_t>(mixed * 0x9e3779b97f4a7c15 >> 16);
    }
};

struct moment {
    time_point exact;
    duration cpu;
};

// In a closed world the processor's time would be another one in each run.
moment look() noexcept {
    const time_point exact = observed::exact_now();
    if (detail::current == nullptr || detail::current->io().is_closed_world()) return {exact, exact.time_since_epoch()};
    timespec cpu{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    return {exact, std::chrono::seconds(cpu.tv_sec) + duration(cpu.tv_nsec)};
}

}  // namespace

struct task_times::state {
    using table = std::unordered_map<std::uint32_t, row>;

    row& find_or_add(std::uint32_t task, const std::source_location& spawned);
    void end_step(task_view of) noexcept;
    void end_task(std::uint32_t task) noexcept;

    table tasks;
    std::vector<table::node_type> spare;  // of tasks that have ended: the next ones need no memory
    std::unordered_map<line_of, row, hash_of_line> ended;
    std::uint64_t not_counted = 0;

    std::uint32_t running = 0;  // whose step it is; 0: a callback's, or nobody's
    std::source_location from;
    moment began{};
};

task_times::task_times() : state_(std::make_unique<state>()) {}
task_times::~task_times() = default;

void task_times::clear() noexcept {
    state_->tasks.clear();
    state_->ended.clear();
    state_->not_counted = 0;
}

std::uint64_t task_times::not_counted() const noexcept { return state_->not_counted; }

task_times::row& task_times::state::find_or_add(std::uint32_t task, const std::source_location& spawned) {
    if (const auto found = tasks.find(task); found != tasks.end()) return found->second;
    if (spare.empty()) {
        if (spare.capacity() <= tasks.size()) spare.reserve(2 * tasks.size() + 2);  // end_task() needs no memory
        return tasks.emplace(task, row{spawned, 1, {}}).first->second;
    }
    table::node_type node = std::move(spare.back());
    spare.pop_back();
    node.key() = task;
    node.mapped() = {spawned, 1, {}};
    return tasks.insert(std::move(node)).position->second;
}

void task_times::state::end_step(task_view of) noexcept {
    const std::uint32_t task = std::exchange(running, 0);
    if (task == 0) return;
    const moment now = look();
    try {
        row& its = find_or_add(task, of.spawned());
        its.merge({its.spawned, 0, {now.cpu - began.cpu, now.exact - began.exact, from, 1}});
    } catch (const std::bad_alloc&) {
        ++not_counted;
    }
}

void task_times::state::end_task(std::uint32_t task) noexcept {
    const auto found = tasks.find(task);
    if (found == tasks.end()) return;
    const row& it = found->second;
    try {
        ended.try_emplace(line_of(it.spawned), row{it.spawned, 0, {}}).first->second.merge(it);
    } catch (const std::bad_alloc&) {
        not_counted += it.time.steps;
    }
    if (spare.size() < spare.capacity()) {
        spare.push_back(tasks.extract(found));
    } else {
        tasks.erase(found);
    }
}

void task_times::on(const loop_event& e) noexcept {
    state& s = *state_;
    switch (e.kind) {
        case loop_event_kind::step:
            s.running = e.task.number();
            if (s.running == 0) return;
            s.from = e.place;
            s.began = look();
            return;
        case loop_event_kind::waits: return s.end_step(e.task);
        case loop_event_kind::ended: s.end_step(e.task); return s.end_task(e.task.number());
        default: return;
    }
}

bool task_times::time_of(std::uint32_t task, task_time& into) const noexcept {
    const auto found = state_->tasks.find(task);
    if (found == state_->tasks.end()) return false;
    into = found->second.time;
    return true;
}

std::vector<task_times::row> task_times::by_place() const {
    std::vector<row> rows;
    rows.reserve(state_->ended.size() + state_->tasks.size());
    for (const auto& [line, of] : state_->ended) rows.push_back(of);
    for (const auto& [task, of] : state_->tasks) rows.push_back(of);

    const auto place = [](const row& r) {
        return std::make_tuple(std::string_view(r.spawned.file_name()), r.spawned.line(), r.spawned.column());
    };
    std::sort(rows.begin(), rows.end(), [&](const row& a, const row& b) { return place(a) < place(b); });
    std::size_t kept = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (kept != 0 && place(rows[kept - 1]) == place(rows[i])) {
            rows[kept - 1].merge(rows[i]);
        } else {
            rows[kept++] = rows[i];
        }
    }
    rows.resize(kept);
    std::sort(rows.begin(), rows.end(), [&](const row& a, const row& b) {
        return a.time.cpu != b.time.cpu ? a.time.cpu > b.time.cpu : place(a) < place(b);
    });
    return rows;
}

}  // namespace rondo
