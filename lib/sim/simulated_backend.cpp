#include <rondo/sim/simulated_backend.hpp>

#include "backend/sim/sim.hpp"

namespace rondo {

std::unique_ptr<backend> simulated_backend::make(const backend_options& options, std::string& why) {
    why = "asked for";
    return make_sim(options, {.decisions = &decisions_});
}

}  // namespace rondo
