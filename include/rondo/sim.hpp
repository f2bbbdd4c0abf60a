// Simulated worlds, and how their runs are replayed.
#pragma once

#include <rondo/sim/buggify.hpp>
#include <rondo/sim/replay.hpp>
#include <rondo/sim/simulate.hpp>
#include <rondo/sim/simulated_backend.hpp>
#include <rondo/sim/world.hpp>
#include <rondo/sim/world_recorder.hpp>
