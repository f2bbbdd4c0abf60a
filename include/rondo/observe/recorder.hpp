// A flight recorder: what a loop, or a world of several, did lately, as plain events in a bounded ring.
//
//     rondo::recorder seen;
//     rondo::loop_options options;
//     options.watch = &seen;
//     rondo::run(options, app);
//     rondo::save_timeline(seen, "app.html");          // rondo/observe/timeline.hpp
//     rondo::save_chrome_trace(seen, "app.json");      // rondo/observe/chrome_trace.hpp
//
// When the ring is full the oldest events go; dropped() counts them. Recording allocates nothing, but once for
// each host that is seen for the first time. docs/observe.md says what it costs.
#pragma once

#include <rondo/loop/loop.hpp>
#include <rondo/sim/world.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace rondo {

/// One event. What a member means depends on `what`; unused ones are zero.
struct recorded_event {
    enum class kind : std::uint8_t {
        phase,     // detail: rondo::phase; only if something happens in it
        polled,    // number: the nanoseconds it has waited; size: completions; only if either is more than 0
        spawned,   // task, place: where; by the step that runs
        ready,     // task: woken by the step that runs, or by the phase
        step,      // detail: observer::step; task, place: the await (or callback) it goes on from; text: its name
        waits,     // task, place: at which await; text: for what
        ended,     // task, detail: observer::ending; text: its name
        step_end,
        packet,    // detail: world_observer::packet; sort: packet_info::kind; from `host` to `peer`
        host,      // detail: world_observer::event; `host` is no_host for what concerns the network
        mark,      // text: what recorder::mark() was told
    };
    static constexpr std::uint16_t no_host = 0xffff;

    time_point when{};           // of one host never equal to an earlier one, nor less
    std::source_location place;
    std::source_location spawned;  // of step, waits: where the task was spawned
    std::uint64_t number = 0;      // of packet: packet_info::number
    std::uint32_t task = 0;
    std::uint32_t size = 0;        // of packet: bytes of data
    std::uint16_t host = 0;
    std::uint16_t peer = 0;
    std::uint16_t source_port = 0;
    std::uint16_t destination_port = 0;
    kind what = kind::mark;
    std::uint8_t detail = 0;
    std::uint8_t sort = 0;
    char text[45] = "";            // cut, with a zero behind
};

struct recorder_options {
    std::size_t events = 100'000;  // kept; 96 bytes each, so 10 MB
    bool waits = true;             // write down what is waited for: a third of the instructions
    const char* name = "program";  // of a loop that is in no world; must outlive the recorder
};

/// To be given to a loop (loop_options::watch), or to a world (world_options::watch, simulation::watch).
/// All its members are for the thread of that loop or world; when that is done, for any.
class RONDO_API recorder final : public observer, public world_observer {
 public:
    explicit recorder(const recorder_options& options = {});
    ~recorder() override;
    recorder(const recorder&) = delete;
    recorder& operator=(const recorder&) = delete;

    /// Those kept.
    std::size_t size() const noexcept { return events_.size(); }
    /// Those that had to go.
    std::uint64_t dropped() const noexcept { return seen_ - events_.size(); }
    /// From the oldest to the latest. Those of one host are in order of time.
    template <class F>
    void for_each(F&& f) const {
        for (std::size_t i = next_; i < events_.size(); ++i) f(events_[i]);
        for (std::size_t i = 0; i < next_; ++i) f(events_[i]);
    }
    /// Names of hosts, in the order of recorded_event::host. Of each world after the other, if it sees several.
    const std::vector<std::string>& hosts() const noexcept { return names_; }
    /// Writes down something of the program's own, as of now.
    void mark(std::string_view text) noexcept;
    /// Forgets the events, and the hosts of worlds that have ended.
    void clear() noexcept;

    // of a loop
    void on_phase(phase p, time_point when) noexcept override;
    void on_polled(std::size_t completions, time_point now) noexcept override;
    void on_spawn(task_view task) noexcept override;
    void on_ready(task_view task) noexcept override;
    void on_step(observer::step what, task_view task, std::source_location place) noexcept override;
    void on_wait(task_view task) noexcept override;
    void on_end(task_view task, ending how) noexcept override;
    void on_step_end() noexcept override;

    // of a world
    void on_phase(const host& of, phase p, time_point when) noexcept override;
    void on_polled(const host& of, std::size_t completions, time_point now) noexcept override;
    void on_spawn(const host& of, task_view task) noexcept override;
    void on_ready(const host& of, task_view task) noexcept override;
    void on_step(const host& of, observer::step what, task_view task, std::source_location place) noexcept override;
    void on_wait(const host& of, task_view task) noexcept override;
    void on_end(const host& of, task_view task, ending how) noexcept override;
    void on_step_end(const host& of) noexcept override;
    void on_packet(packet what, const packet_info& p, time_point when) noexcept override;
    void on_event(event what, const host* of, time_point when) noexcept override;

 private:
    struct lane {
        const host* of;  // null: a loop in no world
        time_point last = time_point::min();
        time_point poll_began{};
        phase in = phase::none;
        bool phase_told = false;
        bool no_time_passed = false;  // since the latest look at the clock: only the loop was at work
        bool gone = false;  // its world has ended: another host may stand at that address
    };
    using kind = recorded_event::kind;

    std::uint16_t lane_of(const host* of) noexcept;
    recorded_event& add(const host* of, kind what) noexcept;
    recorded_event& add(std::uint16_t to, kind what, time_point when) noexcept;
    void add_phase(const host* of, phase p) noexcept;
    void add_poll(const host* of, std::size_t completions) noexcept;
    void add_spawn(const host* of, task_view task) noexcept;
    void add_step(const host* of, observer::step what, task_view task, std::source_location place) noexcept;
    void add_wait(const host* of, task_view task) noexcept;
    void add_end(const host* of, task_view task, ending how) noexcept;

    std::vector<recorded_event> events_;
    std::size_t most_;
    std::size_t next_ = 0;  // where the next one goes once the ring is full: the oldest
    std::uint64_t seen_ = 0;
    std::vector<lane> lanes_;
    std::uint16_t latest_ = 0;
    std::vector<std::string> names_;
    recorded_event lost_;  // what could not be kept
    bool waits_;
    const char* name_;
};

}  // namespace rondo
