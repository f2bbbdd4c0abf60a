#include <rondo/observe/prometheus.hpp>

#include <rondo/net/serve.hpp>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <stdexcept>
#include <utility>
#include <vector>

namespace rondo {

namespace {

bool is_letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

void check_name(std::string_view name, bool of_label) {
    const auto fits = [&](char c) { return is_letter(c) || is_digit(c) || (c == ':' && !of_label); };
    if (!name.empty() && !is_digit(name.front()) && std::all_of(name.begin(), name.end(), fits)) return;
    throw std::invalid_argument("rondo::prometheus_writer: no name of a " +
                                std::string(of_label ? "label: '" : "metric: '") + std::string(name) + "'");
}

void add_escaped(std::string& to, std::string_view text, bool quoted) {
    for (const char c : text) {
        if (c == '\n') {
            to += "\\n";
        } else if (c == '\\' || (quoted && c == '"')) {
            to += {'\\', c};
        } else {
            to += c;
        }
    }
}

/// Exactly, without a floating point number in between.
std::string in_seconds(std::int64_t ns) {
    char text[48];
    const int size = std::snprintf(text, sizeof text, "%" PRId64 ".%09" PRId64, ns / 1'000'000'000, ns % 1'000'000'000);
    std::string_view shown(text, static_cast<std::size_t>(size));
    while (shown.back() == '0') shown.remove_suffix(1);
    if (shown.back() == '.') shown.remove_suffix(1);
    return std::string(shown);
}

}  // namespace

void prometheus_writer::head(std::string_view name, std::string_view help, const char* type, labels with) {
    check_name(name, false);
    for (const auto& each : with) check_name(each.first, true);
    if (name == latest_) return;
    const std::string known = " " + std::string(name) + " ";
    if (names_.find(known) != std::string::npos)
        throw std::invalid_argument("rondo::prometheus_writer: the series of " + std::string(name) +
                                    " do not follow each other");
    names_ += known;
    latest_ = name;
    text_ += "# HELP " + latest_ + " ";
    add_escaped(text_, help, false);
    text_ += "\n# TYPE " + latest_ + " " + type + "\n";
}

void prometheus_writer::line(std::string_view name, std::string_view suffix, labels with, std::string_view bound,
                             std::string_view value) {
    text_ += name;
    text_ += suffix;
    char before = '{';
    const auto label = [&](std::string_view key, std::string_view is) {
        text_ += before;
        before = ',';
        text_ += key;
        text_ += "=\"";
        add_escaped(text_, is, true);
        text_ += '"';
    };
    for (const auto& [key, is] : with) label(key, is);
    if (!bound.empty()) label("le", bound);
    if (before == ',') text_ += '}';
    text_ += ' ';
    text_ += value;
    text_ += '\n';
}

prometheus_writer& prometheus_writer::counter(std::string_view name, std::string_view help, std::uint64_t value,
                                              labels with) {
    head(name, help, "counter", with);
    line(name, "", with, {}, std::to_string(value));
    return *this;
}

prometheus_writer& prometheus_writer::gauge(std::string_view name, std::string_view help, std::int64_t value,
                                            labels with) {
    head(name, help, "gauge", with);
    line(name, "", with, {}, std::to_string(value));
    return *this;
}

prometheus_writer& prometheus_writer::counter(std::string_view name, std::string_view help, duration value,
                                              labels with) {
    head(name, help, "counter", with);
    line(name, "", with, {}, in_seconds(value.count()));
    return *this;
}

prometheus_writer& prometheus_writer::gauge(std::string_view name, std::string_view help, duration value, labels with) {
    head(name, help, "gauge", with);
    line(name, "", with, {}, in_seconds(value.count()));
    return *this;
}

prometheus_writer& prometheus_writer::seconds(std::string_view name, std::string_view help, const histogram& of,
                                              labels with) {
    for (const auto& each : with)
        if (each.first == "le")
            throw std::invalid_argument("rondo::prometheus_writer: the label le is the histogram's own");
    head(name, help, "histogram", with);
    for (unsigned power = 10; power <= 36; power += 2)
        line(name, "_bucket", with, in_seconds(std::int64_t{1} << power), std::to_string(of.up_to_power(power)));
    line(name, "_bucket", with, "+Inf", std::to_string(of.count()));
    line(name, "_sum", with, {}, in_seconds(of.sum().count()));
    line(name, "_count", with, {}, std::to_string(of.count()));
    return *this;
}

// --- of a loop ----------------------------------------------------------------------------------------

void write_metrics(prometheus_writer& to, const loop& l, const loop_metrics* metrics) {
    const loop_stats s = l.stats();
    to.counter("rondo_loop_turns_total", "Turns of the loop.", s.turns)
        .counter("rondo_loop_steps_total", "Resumptions of tasks.", s.steps)
        .counter("rondo_loop_callbacks_total", "Callbacks that ran, ticks and microtasks included.", s.callbacks)
        .counter("rondo_loop_completions_total", "Completions of I/O.", s.completions)
        .counter("rondo_loop_posts_total", "Posts from other threads.", s.posts)
        .counter("rondo_loop_timers_fired_total", "Timers that fired.", s.timers_fired)
        .counter("rondo_loop_drains_cut_total", "Drains that stopped at their budget of wake-ups.", s.drains_cut)
        .counter("rondo_loop_storms_total", "Drains with unusually many ticks and microtasks.", s.storms)
        .counter("rondo_loop_put_off_total", "I/O that finished at once and was put off for fairness.", s.put_off)
        .counter("rondo_loop_dead_letters_total", "Messages that no actor handled.", s.dead_letters)
        .gauge("rondo_loop_tasks", "Tasks that live.", static_cast<std::int64_t>(s.tasks))
        .gauge("rondo_loop_timers", "Timers that are armed.", static_cast<std::int64_t>(s.timers))
        .gauge("rondo_loop_operations", "I/O under way.", static_cast<std::int64_t>(s.operations))
        .gauge("rondo_loop_posts_waiting", "Posts that the last turn left over.",
               static_cast<std::int64_t>(s.posts_waiting))
        .gauge("rondo_loop_posts_high_water", "The most posts that a turn found waiting.",
               static_cast<std::int64_t>(s.posts_high_water))
        .gauge("rondo_loop_remotes", "Handles of other threads.", static_cast<std::int64_t>(s.remotes));
    if (metrics == nullptr) return;
    to.seconds("rondo_loop_timer_lateness_seconds", "How late the most overdue timer of a phase was.",
               metrics->timer_lateness())
        .seconds("rondo_loop_queue_wait_seconds", "How long tasks that are ready wait for their step.",
                 metrics->queue_wait())
        .seconds("rondo_loop_step_seconds", "How long steps of tasks and callbacks take.", metrics->step_time())
        .seconds("rondo_loop_turn_seconds", "How long turns take, without the wait in poll.", metrics->turn_time());
}

std::string prometheus_text(const loop& l, const loop_metrics* metrics) {
    prometheus_writer to;
    write_metrics(to, l, metrics);
    return to.text();
}

void write_metrics(prometheus_writer& to, const task_times& times, std::size_t most) {
    using row = task_times::row;
    std::vector<std::pair<std::string, row>> lines;  // a label must not come twice
    for (const row& r : times.by_place()) {
        const std::string_view path = r.spawned.file_name();
        std::string label = std::string(path.substr(path.rfind('/') + 1)) + ":" + std::to_string(r.spawned.line());
        const auto same = std::find_if(lines.begin(), lines.end(), [&](const auto& l) { return l.first == label; });
        if (same != lines.end()) {
            same->second.merge(r);
        } else if (lines.size() < most) {
            lines.emplace_back(std::move(label), r);
        }
    }
    const auto for_each = [&](const auto& write) {
        for (const auto& [label, r] : lines) write(r, prometheus_writer::labels{{"spawned", label}});
    };
    for_each([&](const row& r, prometheus_writer::labels with) {
        to.counter("rondo_task_cpu_seconds_total", "CPU time of tasks.", r.time.cpu, with);
    });
    for_each([&](const row& r, prometheus_writer::labels with) {
        to.counter("rondo_task_steps_total", "Steps of tasks.", r.time.steps, with);
    });
    for_each([&](const row& r, prometheus_writer::labels with) {
        to.counter("rondo_tasks_total", "Tasks that have taken a step.", r.tasks, with);
    });
    for_each([&](const row& r, prometheus_writer::labels with) {
        to.gauge("rondo_task_longest_step_seconds", "The longest step of a task.", r.time.longest, with);
    });
}

void write_metrics(prometheus_writer& to, const server_control& of) { write_metrics(to, {{{}, &of}}); }

void write_metrics(prometheus_writer& to,
                   std::initializer_list<std::pair<std::string_view, const server_control*>> servers) {
    const auto counter = [&](std::string_view name, std::string_view help, std::uint64_t serve_stats::* which) {
        for (const auto& [server, control] : servers) {
            const std::uint64_t value = control->stats().*which;
            server.empty() ? to.counter(name, help, value) : to.counter(name, help, value, {{"server", server}});
        }
    };
    struct part {
        std::string_view value;
        std::uint64_t serve_stats::* which;
    };
    const auto parts = [&](std::string_view name, std::string_view help, std::string_view label,
                           std::initializer_list<part> all) {
        for (const auto& [server, control] : servers) {
            const serve_stats now = control->stats();
            for (const part& each : all) {
                if (server.empty()) {
                    to.counter(name, help, now.*each.which, {{label, each.value}});
                } else {
                    to.counter(name, help, now.*each.which, {{"server", server}, {label, each.value}});
                }
            }
        }
    };
    for (const auto& [server, control] : servers) {
        const auto running = static_cast<std::int64_t>(control->stats().running);
        constexpr std::string_view name = "rondo_serve_sessions", help = "Sessions that run.";
        server.empty() ? to.gauge(name, help, running) : to.gauge(name, help, running, {{"server", server}});
    }
    counter("rondo_serve_accepted_total", "Connections for which a session was started.", &serve_stats::accepted);
    counter("rondo_serve_ended_total", "Sessions that have ended.", &serve_stats::ended);
    counter("rondo_serve_failed_total", "Sessions that have ended with an error.", &serve_stats::failed);
    counter("rondo_serve_no_memory_total", "Connections for which there was no memory.", &serve_stats::no_memory);
    parts("rondo_serve_refused_total", "Connections that were refused, by what was exceeded.", "limit",
          {{"connections", &serve_stats::refused},
           {"peer", &serve_stats::refused_peers},
           {"rate", &serve_stats::refused_bursts}});
    parts("rondo_serve_timed_out_total", "Sessions that were ended, by which limit.", "limit",
          {{"idle", &serve_stats::timed_out_idle},
           {"write_stall", &serve_stats::timed_out_writing},
           {"session", &serve_stats::timed_out_session}});
    counter("rondo_serve_dead_total", "Connections that were reset before they were accepted.", &serve_stats::dead);
    counter("rondo_serve_exhausted_total", "Pauses because descriptors or memory ran out.", &serve_stats::exhausted);
}

}  // namespace rondo
