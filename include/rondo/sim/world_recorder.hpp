// A flight recorder of a world: what the loops of all its hosts did, their packets, and what became of them.
//
//     rondo::world_recorder seen;
//     rondo::world_options options;
//     options.observer = &seen;
//
// What it keeps, and how, is as of a recorder (rondo/observe/recorder.hpp); timelines and traces show both.
#pragma once

#include <rondo/observe/recorder.hpp>
#include <rondo/sim/world.hpp>

#include <memory>
#include <vector>

namespace rondo {

/// To be given to a world (world_options::observer, simulation::observer), or to one after the other. It allocates for
/// each host that it sees for the first time, and nothing else.
class RONDO_API world_recorder final : public record, public world_observer {
 public:
    explicit world_recorder(const recorder_options& options = {});
    ~world_recorder() override;

    /// Forgets the events, and the hosts of worlds that have ended.
    void clear() noexcept;

    observer* observer_of(const host& h) noexcept override;
    void on_packet(packet what, const packet_info& p, time_point when) noexcept override;
    void on_event(event what, const host* of, time_point when) noexcept override;

 private:
    class host_lane;
    host_lane* lane_of(const host& of) noexcept;

    std::vector<std::unique_ptr<host_lane>> hosts_;  // those of worlds that have ended as well
};

}  // namespace rondo
