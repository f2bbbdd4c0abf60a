#include <rondo/observe/prometheus.hpp>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <stdexcept>

namespace rondo {

namespace {

bool is_letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

void check_name(std::string_view name, bool of_label) {
    const auto fits = [&](char c) { return is_letter(c) || is_digit(c) || (c == ':' && !of_label); };
    if (!name.empty() && !is_digit(name.front()) && std::all_of(name.begin(), name.end(), fits)) return;
    throw std::invalid_argument("rondo::prometheus_writer: no name of a " + std::string(of_label ? "label: '" : "metric: '") +
                                std::string(name) + "'");
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
        throw std::invalid_argument("rondo::prometheus_writer: the series of " + std::string(name) + " do not follow each other");
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

prometheus_writer& prometheus_writer::counter(std::string_view name, std::string_view help, std::uint64_t value, labels with) {
    head(name, help, "counter", with);
    line(name, "", with, {}, std::to_string(value));
    return *this;
}

prometheus_writer& prometheus_writer::gauge(std::string_view name, std::string_view help, std::int64_t value, labels with) {
    head(name, help, "gauge", with);
    line(name, "", with, {}, std::to_string(value));
    return *this;
}

prometheus_writer& prometheus_writer::seconds(std::string_view name, std::string_view help, const histogram& of, labels with) {
    for (const auto& each : with)
        if (each.first == "le") throw std::invalid_argument("rondo::prometheus_writer: the label le is the histogram's own");
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
        .gauge("rondo_loop_posts_waiting", "Posts that the last turn left over.", static_cast<std::int64_t>(s.posts_waiting))
        .gauge("rondo_loop_posts_high_water", "The most posts that a turn found waiting.",
               static_cast<std::int64_t>(s.posts_high_water))
        .gauge("rondo_loop_remotes", "Handles of other threads.", static_cast<std::int64_t>(s.remotes));
    if (metrics == nullptr) return;
    to.seconds("rondo_loop_timer_lateness_seconds", "How late the most overdue timer of a phase was.", metrics->timer_lateness())
        .seconds("rondo_loop_queue_wait_seconds", "How long tasks that are ready wait for their step.", metrics->queue_wait())
        .seconds("rondo_loop_step_seconds", "How long steps of tasks and callbacks take.", metrics->step_time())
        .seconds("rondo_loop_turn_seconds", "How long turns take, without the wait in poll.", metrics->turn_time());
}

std::string prometheus_text(const loop& l, const loop_metrics* metrics) {
    prometheus_writer to;
    write_metrics(to, l, metrics);
    return to.text();
}

}  // namespace rondo
