// A scenario as the JavaScript program it stands for, for people to read.
#pragma once

#include <string>

#include "scenario.hpp"

namespace replay {

/// The text; notes in `s` where each part of the scenario stands in it (`at`, `callback_at`).
std::string print_javascript(scenario& s);

}  // namespace replay
