// What the interpreter and its promises share: the loop, the limits, and who watches.
#pragma once

#include <rondo/loop/loop.hpp>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "recording.hpp"

namespace replay {

/// What JavaScript calls a TypeError: `undefined.then(...)` and its like. In an async function it
/// can be caught; in a callback it ends the program.
struct type_error : std::runtime_error {
    using runtime_error::runtime_error;
};

class stage {
 public:
    stage(rondo::loop& on, recording* recorder) noexcept : loop(on), record(recorder) {}

    rondo::loop& loop;
    recording* const record;  // null: nobody watches

    /// Whether the scenario was given up. What is still queued then does nothing.
    bool given_up() const noexcept { return !error_.empty(); }
    const std::string& error() const noexcept { return error_; }
    void give_up(std::string why) {
        if (given_up()) return;
        error_ = std::move(why);
        loop.stop();
    }

    /// Counts one step, so that an interval nobody ends is not for ever.
    void step() {
        if (++steps_ == steps_max) give_up("it has not come to an end after " + std::to_string(steps_max) + " steps");
    }

    /// Runs `f` as what the queue calls `item`.
    template <class F>
    void perform(std::uint32_t item, F&& f) {
        if (given_up()) return;
        step();
        if (record != nullptr) record->begin(item, loop.now());
        try {
            f();
        } catch (const type_error& e) {
            give_up(std::string("an error that nothing catches: ") + e.what());
        }
        if (record != nullptr) record->end();
    }

 private:
    static constexpr std::uint32_t steps_max = 1'000'000;

    std::uint32_t steps_ = 0;
    std::string error_;
};

}  // namespace replay
