#include <rondo/base/log.hpp>

#include <rondo/loop/loop.hpp>

#include "fork.hpp"
#include "printable.hpp"
#include "report.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <iterator>
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

// Any thread, mostly a loop's: in one piece, now or not at all.
void print_record(const log_record& record, void*) noexcept {
    detail::report line(std::chrono::milliseconds(0));
    line.add("rondo ").add(name_of(record.level)).add(':');
    if (record.task != 0) line.add(" task ").add(record.task).add(':');
    line.add(' ').add(record.message);
    if (record.place.line() != 0) {
        const std::string_view file = record.place.file_name();
        line.add("  [").add(file.substr(0, 200)).add(':').add(record.place.line()).add(']');
    }
    line.add('\n');
}

constinit std::mutex guard;  // of the settings, and of the counters of gates

struct settings {
    log_sink sink = &print_record;
    void* context = nullptr;
};

settings& current_settings() noexcept {
    static settings all;
    detail::hold_across_forks<guard>();
    return all;
}

std::atomic<int> threshold{-1};  // -1: not chosen yet

int level_threshold() noexcept {
    const int chosen = threshold.load(std::memory_order_relaxed);
    if (chosen >= 0) return chosen;
    return static_cast<int>(detail::debug_enabled ? log_level::debug : log_level::warning);
}

std::atomic<std::int64_t> seconds_passed{0};  // by tests, beyond those of the clock

std::int64_t this_second() noexcept {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::steady_clock::now().time_since_epoch())
               .count() +
           seconds_passed.load(std::memory_order_relaxed);
}

}  // namespace

std::uint64_t lost_log_records() noexcept { return detail::reports_lost(); }

void set_log_sink(log_sink sink, void* context) noexcept {
    settings& all = current_settings();
    const std::lock_guard lock(guard);
    all.sink = sink != nullptr ? sink : &print_record;
    all.context = context;
}

void set_log_level(log_level level) noexcept {
    threshold.store(static_cast<int>(level), std::memory_order_relaxed);
}

namespace detail {

namespace {

constexpr std::size_t line_size = 511;

void send(log_sink sink, void* context, log_level level, std::uint32_t task, std::source_location place,
          std::string_view raw, bool cut) noexcept {
    char line[line_size];
    const std::size_t size = write_printable(line, sizeof line, raw, cut);
    sink({level, {line, size}, task, place}, context);
}

std::uint32_t running_task() noexcept {
    return current != nullptr && current->current_fiber() != nullptr ? current->current_fiber()->id : 0;
}

}  // namespace

/// What a gate has dropped, and what it was like.
struct dropped_note {
    std::uint32_t count;
    log_level level;
    std::source_location place;
    const char* format;

    void send_to(log_sink sink, void* context) const noexcept {
        // The message up to its first value tells which one it was.
        const std::string_view whole = format;
        const std::string_view begins = whole.substr(0, whole.find('%'));
        char text[200];
        int n;
        if (begins.empty()) {
            n = std::snprintf(text, sizeof text, "(%u more %s dropped)", static_cast<unsigned>(count),
                              count == 1 ? "message like this was" : "messages like this were");
        } else {
            n = std::snprintf(text, sizeof text, "(%u more %s dropped: \"%.*s...\")",
                              static_cast<unsigned>(count), count == 1 ? "message was" : "messages were",
                              static_cast<int>(begins.size() < 80 ? begins.size() : 80), begins.data());
        }
        if (n > 0)
            send(sink, context, level, 0, place,
                 {text, std::min(static_cast<std::size_t>(n), sizeof text - 1)}, false);
    }
};

/// The gates that owe a count, linked under the settings' guard; each is a static object.
struct log_gates {
    static inline log_gate* owing = nullptr;

    static void drop(log_gate& gate, log_level level, std::source_location place, const char* format) noexcept {
        if (gate.dropped_++ == 0) gate.next_ = std::exchange(owing, &gate);
        gate.level_ = level;
        gate.place_ = place;
        gate.format_ = format;
    }

    /// Gives up to `room` counts of gates whose second is over, or of all.
    static std::size_t take(dropped_note* notes, std::size_t room, std::int64_t second, bool all) noexcept {
        std::size_t count = 0;
        for (log_gate** at = &owing; *at != nullptr && count < room;) {
            log_gate& gate = **at;
            if (!all && gate.second_ == second) {
                at = &gate.next_;
                continue;
            }
            *at = std::exchange(gate.next_, nullptr);
            notes[count++] = {std::exchange(gate.dropped_, 0), gate.level_, gate.place_, gate.format_};
        }
        return count;
    }

    /// Whether one more may go out; and what is owed by now.
    static bool pass(log_gate& gate, log_level level, std::source_location place, const char* format,
                     dropped_note (&notes)[8], std::size_t& note_count) noexcept {
        const std::int64_t second = this_second();
        note_count = take(notes, std::size(notes), second, false);
        if (gate.second_ != second) {
            gate.second_ = second;
            gate.used_ = 0;
        }
        if (gate.used_ < gate.burst_) {
            ++gate.used_;
            return true;
        }
        drop(gate, level, place, format);
        return false;
    }
};

void write_log(log_gate& gate, log_level level, std::source_location place, const char* format,
               ...) noexcept {
    if (static_cast<int>(level) < level_threshold()) return;
    char raw[line_size + 1];
    va_list arguments;
    va_start(arguments, format);
    const int wanted = std::vsnprintf(raw, sizeof raw, format, arguments);
    va_end(arguments);
    if (wanted < 0) return;
    const auto size = static_cast<std::size_t>(wanted);

    settings& all = current_settings();
    dropped_note notes[8];
    std::size_t note_count;
    bool passes;
    log_sink sink;
    void* context;
    {
        const std::lock_guard lock(guard);
        passes = log_gates::pass(gate, level, place, format, notes, note_count);
        sink = all.sink;
        context = all.context;
    }
    for (std::size_t i = 0; i < note_count; ++i) notes[i].send_to(sink, context);
    if (passes)
        send(sink, context, level, running_task(), place, {raw, std::min(size, line_size)}, size > line_size);
}

void pass_log_second() noexcept { seconds_passed.fetch_add(1, std::memory_order_relaxed); }

void flush_log() noexcept {
    settings& all = current_settings();
    dropped_note notes[8];
    for (;;) {
        std::size_t count;
        log_sink sink;
        void* context;
        {
            const std::lock_guard lock(guard);
            count = log_gates::take(notes, std::size(notes), 0, true);
            sink = all.sink;
            context = all.context;
        }
        for (std::size_t i = 0; i < count; ++i) notes[i].send_to(sink, context);
        if (count < std::size(notes)) return;
    }
}

}  // namespace detail
}  // namespace rondo
