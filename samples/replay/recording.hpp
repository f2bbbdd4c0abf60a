// What happened in a run, in order, for the timeline: who was queued where, what ran, what it did.
#pragma once

#include <rondo/loop/loop.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "scenario.hpp"

namespace replay {

enum class queue_name : std::uint8_t { main, ticks, microtasks, immediates, timers, io, closing };

/// One event. `number` and `text` depend on the kind.
struct event {
    enum class kind : std::uint8_t {
        phase,        // number: the rondo::phase, time
        queued,       // item, number: the queue, text, at; time: when a timer is due
        removed,      // item
        referenced,   // item, number: 1 or 0
        begun,        // item, time
        statement,    // at
        logged,       // text
        time_passed,  // time
        ended,
    };

    kind what;
    std::uint32_t item = 0;
    std::uint32_t number = 0;
    std::string text;
    span at;
    double time = 0;  // in ms
};

class recording final : public rondo::observer {
 public:
    /// The item that stands for the scenario's program.
    static constexpr std::uint32_t program = 1;

    std::uint32_t queued(queue_name where, std::string text, span at, double due = 0);
    void queued_again(std::uint32_t item, double due);
    void removed(std::uint32_t item);
    void referenced(std::uint32_t item, bool is);
    void begin(std::uint32_t item, rondo::time_point now);
    void statement(span at);
    void logged(std::string_view text);
    void time_passed(rondo::time_point now);
    void end();

    bool was_removed(std::uint32_t item) const noexcept { return items_[item].removed; }
    const std::vector<event>& events() const noexcept { return events_; }

    /// Since the run began.
    void start(rondo::time_point now) noexcept { start_ = now; }
    double milliseconds(rondo::time_point t) const noexcept { return static_cast<double>((t - start_).count()) / 1e6; }

 private:
    void on(const rondo::loop_event& e) noexcept override;

    struct record_of_item {
        event as_queued;
        bool removed = false;
    };
    std::vector<record_of_item> items_{1};  // item 0 is none
    std::vector<event> events_;
    rondo::time_point start_{};
};

}  // namespace replay
