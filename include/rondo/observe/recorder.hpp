// A flight recorder: what a loop did lately, as plain events in a bounded ring.
//
//     rondo::recorder seen;
//     rondo::loop_options options;
//     options.observer = &seen;
//     rondo::run(options, app);
//     rondo::save_timeline(seen, "app.html");          // rondo/observe/timeline.hpp
//     rondo::save_chrome_trace(seen, "app.json");      // rondo/observe/chrome_trace.hpp
//
// When the ring is full the oldest events go; dropped() counts them. Recording allocates nothing, unless a task ends
// with an error, to say which.
// docs/observe.md says what it costs. For a world of several loops there is rondo/sim/world_recorder.hpp.
#pragma once

#include <rondo/loop/observer.hpp>

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
        step,      // detail: step_kind; task, place: the await (or callback) it goes on from; text: its name
                   // number: how the wait before it ended, an int32_t as of task_view::result()
        waits,     // task, place: at which await; root; text: for what
        ended,     // task, detail: task_ending; text: its name
        step_end,
        packet,    // detail: packet_fate; sort: packet_kind; from `host` to `peer`
        host,      // detail: host_fate; `host` is no_host for what concerns the network
        mark,      // text: what recorder::mark() was told
        failed,    // task; just before it ended with an error. place: where; text: what the error says, or, with
                   // detail 1, 2 and so on, how that goes on
        decided,   // number: the how many-th choice of the world; text: what record::decided() was told
    };
    /// What becomes of a packet between the hosts of a simulated world, and of a host. `stopped`: its world ends.
    enum class packet_fate : std::uint8_t { sent, arrived, lost, copied, gave_up };
    /// Of TCP: `syn`, `syn_ack` and `ack` open a connection, or a `refusal` answers; then comes `data`, or a `reset`.
    /// Of UDP: a `datagram`, or that it was `unreachable`.
    enum class packet_kind : std::uint8_t { syn, syn_ack, ack, refusal, data, reset, datagram, unreachable };
    /// `cut` and `healed` are of the network; `signalled`: the host got a signal; `slowed`: it is slow from now on.
    enum class host_fate : std::uint8_t { started, crashed, cut, healed, stopped, signalled, slowed };
    static constexpr std::uint16_t no_host = 0xffff;

    time_point when{};  // of one host never equal to an earlier one, nor less
    std::source_location place;
    std::source_location spawned;  // of step, waits: where the task was spawned
    std::source_location root;  // of waits: the await in the function that the task runs
    std::uint64_t number = 0;  // of packet: which one
    std::uint32_t task = 0;
    std::uint32_t size = 0;  // of packet: bytes of data
    std::uint16_t host = 0;
    std::uint16_t peer = 0;
    std::uint16_t source_port = 0;  // of packet: that of `host`
    std::uint16_t destination_port = 0;  // and that of `peer`
    kind what = kind::mark;
    std::uint8_t detail = 0;
    std::uint8_t sort = 0;
    char text[45] = "";  // cut, with a zero behind
};

/// "syn", "data", ...
[[nodiscard]] RONDO_API const char* name_of(recorded_event::packet_kind what) noexcept;

struct recorder_options {
    std::size_t events = 100'000;  // kept; 104 bytes each, so 10 MB
    bool waits = true;  // write down what is waited for: a third of the instructions
    const char* name = "program";  // of the loop, if it is in no world; must outlive the recorder
};

class record_lane;

/// What recorders have written down: events in a ring, in a lane for each loop. All members are for the thread of the
/// loops that are watched; when these are done, for any.
class RONDO_API record {
 public:
    record(const record&) = delete;
    record& operator=(const record&) = delete;

    /// How many are kept.
    std::size_t size() const noexcept { return events_.size(); }
    /// How many had to go.
    std::uint64_t dropped() const noexcept { return seen_ - events_.size(); }
    /// From the oldest to the latest. Those of one loop are in order of time.
    template <class F>
    void for_each(F&& f) const {
        for (std::size_t i = next_; i < events_.size(); ++i) f(events_[i]);
        for (std::size_t i = 0; i < next_; ++i) f(events_[i]);
    }
    /// The names of the lanes, in the order of recorded_event::host: of a loop, or of the hosts of a world, and of each
    /// world after the other if several were watched.
    const std::vector<std::string>& hosts() const noexcept { return names_; }
    /// Writes down something of the program's own, as of now, in the lane of the loop that was heard of last.
    void mark(std::string_view text) noexcept;
    /// Writes down that an oracle has decided something that is not benign, likewise.
    void decided(std::uint64_t choice, std::string_view text) noexcept;
    /// Whether it is of simulated worlds, whose time stands still in a step.
    bool of_world() const noexcept { return usual_ == nullptr; }
    /// Forgets the events, and the hosts of worlds that have ended.
    void clear() noexcept;

 protected:
    using kind = recorded_event::kind;

    explicit record(const recorder_options& options);
    ~record();

    /// Gives the lane its number, if there is memory; else its events go to the lane that was heard of last.
    void enter(record_lane& l, std::string_view name) noexcept;
    /// As of `when`, or a nanosecond after the latest event of that lane. `to` may be no_host.
    recorded_event& add(std::uint16_t to, kind what, time_point when) noexcept;

    record_lane* usual_ = nullptr;  // who marks are for if no loop was heard of; null of worlds

 private:
    friend class record_lane;
    recorded_event& note(kind what) noexcept;

    std::vector<recorded_event> events_;
    std::size_t most_;
    std::size_t next_ = 0;  // where the next one goes once the ring is full: the oldest
    std::uint64_t seen_ = 0;
    std::vector<record_lane*> lanes_;
    std::uint16_t latest_ = 0;
    std::vector<std::string> names_;
    recorded_event lost_;  // what could not be kept
    const char* name_;
    bool waits_;
};

/// What one loop did: an observer that writes into a record.
class RONDO_API record_lane : public observer {
 public:
    /// The observer of a loop, which tells the time by its clock.
    explicit record_lane(record& into) noexcept : into_(into) {}
    void on(const loop_event& e) noexcept override;

 protected:
    /// What time it is, exactly. A host of a world has another clock.
    virtual time_point exact_now() const noexcept;
    /// Its index in hosts(); it enters the record if it has not yet.
    std::uint16_t number() noexcept;
    bool is_gone() const noexcept { return gone_; }
    /// Its world has ended.
    void go() noexcept { gone_ = true; }

 private:
    friend class record;
    recorded_event& add(recorded_event::kind what) noexcept;
    recorded_event& add(recorded_event::kind what, task_view task) noexcept;
    void add_failure(task_view task) noexcept;
    void enter_phase(phase p) noexcept;
    void polled(std::uint32_t completions) noexcept;

    record& into_;
    std::uint16_t number_ = recorded_event::no_host;  // until it is heard of for the first time
    time_point last_ = time_point::min();
    time_point poll_began_{};
    phase in_ = phase::none;
    bool phase_told_ = false;
    bool no_time_passed_ = false;  // since the latest look at the clock: only the loop was at work
    bool gone_ = false;
};

/// Watches a loop (loop_options::observer).
class RONDO_API recorder final : public record, public record_lane {
 public:
    explicit recorder(const recorder_options& options = {});
    ~recorder() override;
};

}  // namespace rondo
