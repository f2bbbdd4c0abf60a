// Metrics as Prometheus scrapes them: its text format, version 0.0.4 ("text/plain; version=0.0.4").
#pragma once

#include <rondo/loop/loop.hpp>
#include <rondo/observe/histogram.hpp>
#include <rondo/observe/loop_metrics.hpp>
#include <rondo/observe/task_times.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace rondo {

class server_control;

/// Writes metrics one after the other. The series of one name follow each other, each with labels of its own.
/// Throws invalid_argument for a name or a label that Prometheus would refuse, and for a name that comes again
/// after another one; bad_alloc.
class RONDO_API prometheus_writer {
 public:
    using labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

    /// Only grows; by convention its name ends in _total.
    prometheus_writer& counter(std::string_view name, std::string_view help, std::uint64_t value, labels with = {});
    /// Goes up and down.
    prometheus_writer& gauge(std::string_view name, std::string_view help, std::int64_t value, labels with = {});
    /// In seconds; by convention the name ends in _seconds_total, or in _seconds.
    prometheus_writer& counter(std::string_view name, std::string_view help, duration value, labels with = {});
    prometheus_writer& gauge(std::string_view name, std::string_view help, duration value, labels with = {});
    /// In seconds; by convention the name ends so. Buckets end at powers of four, from 1 us to 69 s.
    prometheus_writer& seconds(std::string_view name, std::string_view help, const histogram& of, labels with = {});

    const std::string& text() const noexcept { return text_; }

 private:
    void head(std::string_view name, std::string_view help, const char* type, labels with);
    void line(std::string_view name, std::string_view suffix, labels with, std::string_view bound,
              std::string_view value);

    std::string text_;
    std::string latest_;   // the name that was written last
    std::string names_;    // all of them, each behind a space
};

/// What loop::stats() counts, and the histograms of `metrics` if there are any. On the loop's thread; of a process
/// with several loops each has a page of its own.
[[nodiscard]] RONDO_API std::string prometheus_text(const loop& l, const loop_metrics* metrics = nullptr);
/// Writes the text of prometheus_text() into a writer that has, or will have, metrics of the program's own.
RONDO_API void write_metrics(prometheus_writer& to, const loop& l, const loop_metrics* metrics = nullptr);
/// CPU time, steps and the longest step of tasks, a series for each line that spawns some: the `most` lines that have
/// had most CPU time.
RONDO_API void write_metrics(prometheus_writer& to, const task_times& times, std::size_t most = 100);

/// Writes what a server counts (serve_stats).
RONDO_API void write_metrics(prometheus_writer& to, const server_control& of);
/// The same of several servers, whose series have a label `server` with these names.
RONDO_API void write_metrics(prometheus_writer& to,
                             std::initializer_list<std::pair<std::string_view, const server_control*>> servers);

}  // namespace rondo
