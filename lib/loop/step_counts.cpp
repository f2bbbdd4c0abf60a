#include "step_counts.hpp"

#include "places.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <new>

namespace rondo::detail {

void step_counts::on(const loop_event& e) noexcept {
    if (e.kind == loop_event_kind::phase) phase_ = e.phase;
    if (e.kind == loop_event_kind::step) count(e.step, e.task, e.place);
}

void step_counts::count(step_kind what, task_view task, std::source_location place) noexcept {
    const std::uint32_t number = task.number();
    key k{number, "", {}, 0};
    if (number == 0) {
        const bool timer = what == step_kind::callback && phase_ == phase::timers;
        k = {0,
             timer                         ? "timer"
             : what == step_kind::callback ? "callback"
                                           : "microtask or tick",
             place.file_name(), place.line()};
    }
    try {
        const auto [at, added] = counted_.try_emplace(k);
        if (added) {
            at->second.label = number == 0 ? k.what : "task " + std::to_string(number);
            if (const std::string_view name = task.name(); !name.empty())
                at->second.label.append(" '").append(name).append("'");
        }
        at->second.place = place;
        ++at->second.steps;
    } catch (const std::bad_alloc&) {
    }
}

void step_counts::append_to(std::vector<one>& all, std::string_view host) const {
    for (const auto& [_, counted] : counted_) {
        all.push_back(counted);
        all.back().host = host;
    }
}

std::string busiest_of(std::vector<step_counts::one> all) {
    std::uint64_t total = 0;
    for (const step_counts::one& each : all) total += each.steps;
    std::string text = "; the busiest:";
    for (int i = 0; i < 5 && !all.empty(); ++i) {
        const auto most =
            std::max_element(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.steps < b.steps; });
        text += "\n  ";
        if (!most->host.empty()) text.append("host '").append(most->host).append("', ");
        text +=
            most->label + ": " + std::to_string(most->steps * 100 / total) + " % of the steps" + at_place(most->place);
        all.erase(most);
    }
    return text;
}

std::string written_time(time_point t) {
    const std::int64_t ns = t.time_since_epoch().count();
    char text[48];
    std::snprintf(text, sizeof text, "%" PRId64 ".%09" PRId64 " s", ns / 1'000'000'000, ns % 1'000'000'000);
    return text;
}

}  // namespace rondo::detail
