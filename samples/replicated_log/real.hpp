// The same nodes on real sockets.
#pragma once

#include "node.hpp"

namespace replicated {

/// Three nodes on free ports of 127.0.0.1, on the running loop, and three clients, each of which appends so many
/// requests. Says who is elected, and at the end what all have applied. Gives whether all have the same.
rondo::task<bool> real_run(word requests_each);

}  // namespace replicated
