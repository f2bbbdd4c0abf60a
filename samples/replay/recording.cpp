#include "recording.hpp"

namespace replay {

std::uint32_t recording::queued(queue_name where, std::string text, span at, double due) {
    const auto item = static_cast<std::uint32_t>(items_.size());
    event e{event::kind::queued, item, static_cast<std::uint32_t>(where), std::move(text), at, due};
    events_.push_back(e);
    items_.push_back({std::move(e)});
    return item;
}

void recording::queued_again(std::uint32_t item, double due) {
    event e = items_[item].as_queued;
    e.time = due;
    events_.push_back(std::move(e));
}

void recording::removed(std::uint32_t item) {
    items_[item].removed = true;
    events_.push_back({event::kind::removed, item, 0, {}, {}, 0});
}

void recording::referenced(std::uint32_t item, bool is) {
    events_.push_back({event::kind::referenced, item, is ? 1u : 0u, {}, {}, 0});
}

void recording::begin(std::uint32_t item, rondo::time_point now) {
    events_.push_back({event::kind::begun, item, 0, {}, {}, milliseconds(now)});
}

void recording::statement(span at) { events_.push_back({event::kind::statement, 0, 0, {}, at, 0}); }

void recording::logged(std::string_view text) {
    events_.push_back({event::kind::logged, 0, 0, std::string(text), {}, 0});
}

void recording::time_passed(rondo::time_point now) {
    events_.push_back({event::kind::time_passed, 0, 0, {}, {}, milliseconds(now)});
}

void recording::end() { events_.push_back({event::kind::ended, 0, 0, {}, {}, 0}); }

void recording::on(const rondo::loop_event& e) noexcept {
    if (e.kind != rondo::loop_event_kind::phase) return;
    events_.push_back({event::kind::phase, 0, static_cast<std::uint32_t>(e.phase), {}, {}, milliseconds(e.when)});
}

}  // namespace replay
