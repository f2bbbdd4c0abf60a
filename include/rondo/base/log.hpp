// What the library says: one hook, standard error until something better is attached.
#pragma once

#include <rondo/base/detail/config.hpp>

#include <cstdint>
#include <source_location>
#include <string_view>

namespace rondo {

enum class log_level : std::uint8_t { debug, info, warning, error };

[[nodiscard]] RONDO_API const char* name_of(log_level level) noexcept;

struct log_record {
    log_level level;
    std::string_view message;    // one line; control characters as \n or \x1b, cut (...) at 511 bytes
    std::uint32_t task;          // number of the running task; 0 outside of tasks
    std::source_location place;  // line 0 if there is none
};

/// Receives every record that passes the level and the rate limit. May be called on any thread, mostly on a loop's:
/// must not throw, and should not block, as that holds up everything on the loop.
using log_sink = void (*)(const log_record& record, void* context) noexcept;

/// Attaches `sink` for the whole process; null goes back to standard error. That one never blocks and never ends the
/// process: a record that does not go at once, since the pipe is full or its reader gone, is lost. The next one
/// that goes says how many were.
RONDO_API void set_log_sink(log_sink sink, void* context = nullptr) noexcept;

/// How many messages standard error did not take, or not whole, in this process.
[[nodiscard]] RONDO_API std::uint64_t lost_log_records() noexcept;

/// Records below `level` are dropped. Initially `warning`, or `debug` under RONDO_DEBUG=1.
RONDO_API void set_log_level(log_level level) noexcept;

namespace detail {
/// Counts one kind of message so that a flood costs one line: at most `burst` in a second, and then a
/// line that says how many were not shown: before the next message of any kind, or when a loop ends. One
/// static object per place that logs.
class RONDO_API log_gate {
 public:
    explicit constexpr log_gate(std::uint32_t burst = 5) noexcept : burst_(burst) {}

 private:
    friend struct log_gates;
    std::uint32_t burst_;
    std::uint32_t used_ = 0;
    std::uint32_t dropped_ = 0;
    std::int64_t second_ = -1;
    log_gate* next_ = nullptr;  // of those that have dropped something; and the last such message
    const char* format_ = nullptr;
    log_level level_ = log_level::debug;
    std::source_location place_;
};

/// Says how many messages were not shown, if any were.
RONDO_API void flush_log() noexcept;
/// For tests: the second in which gates count lasts until pass_log_second().
RONDO_API void hold_log_second(bool held) noexcept;
/// For tests: the second in which gates count is over.
RONDO_API void pass_log_second() noexcept;

/// printf-like, into a bounded line. `format` is a literal.
__attribute__((format(printf, 4, 5))) RONDO_API void write_log(log_gate& gate, log_level level,
                                                               std::source_location place, const char* format,
                                                               ...) noexcept;
}  // namespace detail
}  // namespace rondo
