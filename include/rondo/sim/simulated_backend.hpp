// A loop in a simulated world of its own, whose open questions you decide.
//
//     rondo::seeded_oracle decisions(seed);
//     rondo::simulated_backend simulated(decisions);
//     rondo::loop_options options;
//     options.factory = &simulated;
//
// Without an oracle of your own, backend_kind::sim or RONDO_BACKEND=sim:SEED is all it takes; for several loops that
// talk to each other there is world.hpp.
#pragma once

#include <rondo/loop/backend.hpp>
#include <rondo/loop/oracle.hpp>

#include <memory>
#include <string>

namespace rondo {

/// Makes the backend `sim`. The oracle must outlive the loop; this need not.
class RONDO_API simulated_backend final : public backend_factory {
 public:
    explicit simulated_backend(oracle& decisions) noexcept : decisions_(decisions) {}
    std::unique_ptr<backend> make(const backend_options& options, std::string& why) override;

 private:
    oracle& decisions_;
};

}  // namespace rondo
