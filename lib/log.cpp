#include <rondo/log.hpp>

#include <rondo/loop.hpp>

#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <mutex>

namespace rondo {

const char* name_of(log_level level) noexcept {
    switch (level) {
        case log_level::debug: return "debug";
        case log_level::info: return "info";
        case log_level::warning: return "warning";
        case log_level::error: return "error";
    }
    return "?";
}

namespace {

void print_record(const log_record& record, void*) noexcept {
    char place[256] = "";
    if (record.place.line() != 0)
        std::snprintf(place, sizeof place, "  [%s:%u]", record.place.file_name(),
                      static_cast<unsigned>(record.place.line()));
    char task[32] = "";
    if (record.task != 0) std::snprintf(task, sizeof task, " task %u:", static_cast<unsigned>(record.task));
    std::fprintf(stderr, "rondo %s:%s %.*s%s\n", name_of(record.level), task,
                 static_cast<int>(record.message.size()), record.message.data(), place);
}

struct settings {
    std::mutex guard;  // also keeps the counters of gates
    log_sink sink = &print_record;
    void* context = nullptr;
};

settings& current_settings() noexcept {
    static settings all;
    return all;
}

std::atomic<int> threshold{-1};  // -1: not chosen yet

int level_threshold() noexcept {
    const int chosen = threshold.load(std::memory_order_relaxed);
    if (chosen >= 0) return chosen;
    return static_cast<int>(detail::debug_enabled ? log_level::debug : log_level::warning);
}

std::int64_t this_second() noexcept {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace

void set_log_sink(log_sink sink, void* context) noexcept {
    settings& all = current_settings();
    const std::lock_guard lock(all.guard);
    all.sink = sink != nullptr ? sink : &print_record;
    all.context = context;
}

void set_log_level(log_level level) noexcept {
    threshold.store(static_cast<int>(level), std::memory_order_relaxed);
}

namespace detail {

void write_log(log_gate& gate, log_level level, std::source_location place, const char* format,
               ...) noexcept {
    if (static_cast<int>(level) < level_threshold()) return;
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    const int wanted = std::vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (wanted < 0) return;
    std::size_t size = static_cast<std::size_t>(wanted);
    if (size >= sizeof line) size = sizeof line - 1;

    log_record record{level, {line, size}, 0, place};
    if (current != nullptr && current->current_fiber() != nullptr) record.task = current->current_fiber()->id;

    settings& all = current_settings();
    std::uint32_t dropped = 0;
    log_sink sink;
    void* context;
    {
        const std::lock_guard lock(all.guard);
        const std::int64_t second = this_second();
        if (gate.second_ != second) {
            gate.second_ = second;
            gate.used_ = 0;
            dropped = std::exchange(gate.dropped_, 0);
        }
        if (gate.used_ == gate.burst_) {
            ++gate.dropped_;
            return;
        }
        ++gate.used_;
        sink = all.sink;
        context = all.context;
    }
    if (dropped != 0) {
        char note[96];
        const int n = std::snprintf(note, sizeof note, "(%u messages like the next were dropped)", dropped);
        sink({level, {note, static_cast<std::size_t>(n)}, record.task, place}, context);
    }
    sink(record, context);
}

}  // namespace detail
}  // namespace rondo
