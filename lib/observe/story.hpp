// What a recorder has seen, put together again: events become spans, and wake-ups point from step to step.
#pragma once

#include <rondo/observe/recorder.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace rondo::observed {

using index = std::int32_t;
inline constexpr index nothing = -1;

struct span {
    std::uint16_t host;
    time_point begin;
    time_point end;
};

/// A phase in which something happened, or a wait in poll.
struct phase_span : span {
    phase which;
    bool polling;  // `completions` have come
    std::uint32_t completions;
};

struct step_span : span {
    step_kind what;
    index life;      // of a task; else nothing
    std::source_location place;
    index woken_by;  // the step that has; nothing: a phase did, or what did is not in the record any more
    time_point ready;
};

/// A task, from when it could first run.
struct life_span : span {
    enum class fate : std::uint8_t { value, error, cancelled, lives, crashed };
    std::uint32_t task;
    std::source_location spawned;
    const char* name;
    fate how;
    index parent;  // the step in which it was spawned
    std::string error;               // what it says, if it ended with one
    std::source_location failed_at;  // and where it came from
    std::source_location root;       // an await in the function that it runs
};

struct wait_span : span {
    index life;
    std::source_location place;
    const char* for_what;
    life_span::fate how;  // lives: it has not ended, or its task never went on
    std::int32_t result;  // of the operation, if that has a value
    std::string error;
};

struct packet_way {
    std::uint16_t from;
    std::uint16_t to;
    time_point sent;
    time_point until;  // it arrived, or was lost
    bool arrived;
    bool copy;
    recorded_event::packet_kind what;
    std::uint32_t size;
    std::uint16_t source_port;
    std::uint16_t destination_port;
};

struct moment {
    std::uint16_t host;  // recorded_event::no_host: the network
    time_point when;
    std::string text;
    std::uint64_t choice = 0;  // the how many-th one of the world, if it is a decision
};

struct story {
    explicit story(const record& from);

    const record& of;
    time_point begin = never;  // the first moment there is
    time_point end{};          // and the last
    std::vector<phase_span> phases;
    std::vector<step_span> steps;
    std::vector<life_span> lives;
    std::vector<wait_span> waits;
    std::vector<packet_way> packets;
    std::vector<moment> moments;
};

/// "task 7 'reader'", "callback".
std::string label_of(const story& all, const step_span& step);
std::string label_of(const life_span& life);
const char* name_of(life_span::fate how) noexcept;

}  // namespace rondo::observed
