// Runs a scenario on a rondo loop and tells which labels it emitted.
#pragma once

#include <rondo/loop/backend.hpp>

#include <string>
#include <vector>

#include "recording.hpp"
#include "scenario.hpp"

namespace replay {

struct outcome {
    std::vector<const label*> labels;  // in the scenario
    std::string error;                 // why it was given up; empty: it came to its end
};

/// Plays `s` on a loop of its own: on `sim` in virtual time, on the others in real time. The
/// outcome points into `s`. Throws io_error when the backend cannot be had.
outcome play(const scenario& s, rondo::backend_kind kind, recording* record = nullptr);

}  // namespace replay
