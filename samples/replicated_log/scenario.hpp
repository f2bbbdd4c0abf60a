// The replicated log in a simulated world that is as bad as the seed wants it: what must hold whatever happens, and
// what must happen when the world is whole again.
#pragma once

#include "node.hpp"

#include <rondo/sim/world.hpp>

namespace replicated {

struct plan {
    bug with = bug::none;
    bool tell = false;  // what happens, line by line
};

constexpr word appends_each = 8;
constexpr word clients = 2;

rondo::task<> scenario(rondo::world& w, plan what);

}  // namespace replicated
