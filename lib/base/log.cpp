#include <rondo/base/log.hpp>

#include <rondo/base/detail/assert.hpp>

#include "fork.hpp"
#include "held_log.hpp"
#include "printable.hpp"
#include "report.hpp"
#include "who_runs.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <iterator>
#include <mutex>
#include <new>
#include <string>
#include <utility>

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

template <class Line>
void write_record(Line& line, const log_record& record) noexcept {
    line.add("rondo ").add(name_of(record.level)).add(':');
    if (record.task != 0) line.add(" task ").add(record.task).add(':');
    line.add(' ').add(record.message);
    if (record.place.line() != 0) {
        const std::string_view file = record.place.file_name();
        line.add("  [").add(file.substr(0, 200)).add(':').add(std::uint32_t{record.place.line()}).add(']');
    }
    line.add('\n');
}

// Any thread, mostly a loop's: in one piece, now or not at all.
void print_record(const log_record& record, void*) noexcept {
    if (detail::held_log* const held = detail::log_held()) return write_record(*held, record);
    detail::report line(std::chrono::milliseconds(0));
    write_record(line, record);
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
std::atomic<bool> clock_is_held{false};       // by tests: only they let a second pass

std::int64_t this_second() noexcept {
    if (clock_is_held.load(std::memory_order_relaxed)) return seconds_passed.load(std::memory_order_relaxed);
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch())
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

void set_log_level(log_level level) noexcept { threshold.store(static_cast<int>(level), std::memory_order_relaxed); }

namespace detail {

namespace {

constinit thread_local held_log* held_here = nullptr;

constexpr std::size_t line_size = 511;

void send(log_sink sink, void* context, log_level level, std::uint32_t task, std::source_location place,
          std::string_view raw, bool cut) noexcept {
    char line[line_size];
    const std::size_t size = write_printable(line, sizeof line, raw, cut);
    sink({level, {line, size}, task, place}, context);
}

std::uint32_t running_task() noexcept {
    const who_runs* const who = asked_who_runs.load(std::memory_order_acquire);
    return who != nullptr ? who->task() : 0;
}

}  // namespace

/// What a gate has not let through, and what it was like.
struct dropped_note {
    std::uint32_t count;
    std::uint32_t limit;  // per second
    log_level level;
    std::source_location place;
    const char* format;

    void send_to(log_sink sink, void* context) const noexcept {
        // The message up to its first value tells which one it was.
        const std::string_view whole = format;
        const std::string_view begins = whole.substr(0, std::min<std::size_t>(whole.find('%'), 80));
        char like[100] = "";
        if (!begins.empty())
            std::snprintf(like, sizeof like, " like \"%.*s...\"", static_cast<int>(begins.size()), begins.data());
        char text[200];
        const int n =
            std::snprintf(text, sizeof text, "%u more %s%s %s not shown (limit: %u per second from one place)",
                          static_cast<unsigned>(count), count == 1 ? "message" : "messages", like,
                          count == 1 ? "was" : "were", static_cast<unsigned>(limit));
        if (n > 0)
            send(sink, context, level, 0, place, {text, std::min(static_cast<std::size_t>(n), sizeof text - 1)}, false);
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
            notes[count++] = {std::exchange(gate.dropped_, 0), gate.burst_, gate.level_, gate.place_, gate.format_};
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

void write_log(log_gate& gate, log_level level, std::source_location place, const char* format, ...) noexcept {
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
    if (passes) send(sink, context, level, running_task(), place, {raw, std::min(size, line_size)}, size > line_size);
}

void hold_log_second(bool held) noexcept { clock_is_held.store(held, std::memory_order_relaxed); }

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

// --- what is held ---------------------------------------------------------------------------------

held_log* log_held() noexcept { return held_here; }

held_log::held_log() noexcept : outer_(std::exchange(held_here, this)) {}
held_log::~held_log() { held_here = outer_; }

held_log& held_log::add(std::string_view text) noexcept {
    const bool line_goes_on = !text_.empty() && text_.back() != '\n';
    if (left_out_ != 0 || (text_.size() >= most && !line_goes_on)) {
        left_out_ += static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
        return *this;
    }
    try {
        text_ += text;
    } catch (const std::bad_alloc&) {  // then it is lost, as what standard error does not take
    }
    return *this;
}

held_log& held_log::add(std::uint32_t number) noexcept {
    char digits[16];
    const int n = std::snprintf(digits, sizeof digits, "%lu", static_cast<unsigned long>(number));
    return add(std::string_view(digits, static_cast<std::size_t>(n)));
}

void held_log::print(std::string_view title) noexcept {
    if (text_.empty()) return;
    report all(last_words);
    all.add(title).add('\n').add(text_);
    if (left_out_ != 0)
        all.add("rondo: ").add(static_cast<std::uint32_t>(left_out_)).add(" more lines were not kept\n");
    text_.clear();
    left_out_ = 0;
}

}  // namespace detail
}  // namespace rondo
