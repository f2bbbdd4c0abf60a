// What a loop tells about itself: what it has counted, and what keeps it alive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>

namespace rondo {

/// Integers that are always counted, from the making of the loop on; those marked `now` are how many there are.
struct loop_stats {
    std::uint64_t turns = 0;
    std::uint64_t callbacks = 0;       // run by phases, ticks and microtasks included
    std::uint64_t steps = 0;           // resumptions of tasks
    std::uint64_t completions = 0;     // of I/O, as the backend reported them
    std::uint64_t posts = 0;           // from other threads
    std::uint64_t timers_fired = 0;    // sleeps and deadlines of tasks included
    std::uint64_t drains_cut = 0;      // a drain stopped at its budget of wake-ups
    std::uint64_t storms = 0;          // a drain ran unusually many ticks and microtasks
    std::uint64_t put_off = 0;         // I/O finished at once, put off for fairness
    std::uint64_t dead_letters = 0;    // messages that no actor handled
    std::size_t posts_high_water = 0;  // the most posts that a turn found waiting
    std::size_t posts_waiting = 0;     // now: those that the last turn has left over
    std::size_t tasks = 0;             // now
    std::size_t timers = 0;            // now
    std::size_t operations = 0;        // now: armed I/O
    std::size_t remotes = 0;           // now: live remote handles
};

/// One thing that keeps a loop alive.
struct alive_entry {
    std::string what;            // "timer, due in 120 ms", "task 7: read fd 9", "microtask"
    std::source_location place;  // where it was made; line 0 if unknown
};

/// A message that no actor handled, and whose sender was not told.
struct dead_letter {
    const char* actor;         // its name
    std::string_view message;  // its type
    const char* why;           // "the actor has ended", "the mailbox is full"
};

}  // namespace rondo
