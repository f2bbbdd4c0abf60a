// rondo's log records through spdlog, and rondo's task and phase in every pattern. Optional: include it
// where you link spdlog; nothing else of rondo does.
//
//     rondo::log_to(spdlog::default_logger());
//     spdlog::set_formatter(rondo::spdlog_formatter("%H:%M:%S.%e %^%l%$ [task %J, %K] %v"));
//
// %J is the number of the running task ("-" outside of tasks), %K the loop's phase.
#pragma once

#include <rondo/base/log.hpp>
#include <rondo/loop/loop.hpp>

#include <spdlog/pattern_formatter.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <string>
#include <utility>

namespace rondo {
namespace detail {

class task_flag final : public spdlog::custom_flag_formatter {
 public:
    void format(const spdlog::details::log_msg&, const std::tm&, spdlog::memory_buf_t& into) override {
        const std::string text = current != nullptr && current->current_fiber() != nullptr
                                     ? std::to_string(current->current_fiber()->id)
                                     : "-";
        into.append(text.data(), text.data() + text.size());
    }
    std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<task_flag>(); }
};

class phase_flag final : public spdlog::custom_flag_formatter {
 public:
    void format(const spdlog::details::log_msg&, const std::tm&, spdlog::memory_buf_t& into) override {
        const std::string text = current != nullptr ? name_of(current->loop().current_phase()) : "-";
        into.append(text.data(), text.data() + text.size());
    }
    std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<phase_flag>(); }
};

inline void write_to_spdlog(const log_record& record, void* logger) noexcept {
    constexpr spdlog::level::level_enum levels[] = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                                    spdlog::level::err};
    const spdlog::source_loc place{record.place.file_name(), static_cast<int>(record.place.line()),
                                   record.place.function_name()};
    static_cast<spdlog::logger*>(logger)->log(place, levels[static_cast<std::size_t>(record.level)],
                                              spdlog::string_view_t(record.message.data(), record.message.size()));
}

}  // namespace detail

/// Sends the library's records to `logger`, which it keeps alive for the rest of the program (or until
/// the next call). spdlog's level filters after rondo's (set_log_level).
inline void log_to(std::shared_ptr<spdlog::logger> logger) {
    static std::shared_ptr<spdlog::logger> kept;
    kept = std::move(logger);
    set_log_sink(kept ? &detail::write_to_spdlog : nullptr, kept.get());
}

/// A formatter for `pattern` in which %J (task) and %K (phase) work.
inline std::unique_ptr<spdlog::pattern_formatter> spdlog_formatter(std::string pattern) {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<detail::task_flag>('J').add_flag<detail::phase_flag>('K');
    formatter->set_pattern(std::move(pattern));
    return formatter;
}

}  // namespace rondo
