#include <rondo/sim/world_recorder.hpp>

#include <algorithm>
#include <new>

namespace rondo {

/// A host keeps its lane when it crashes and is started again. Once its world has ended, another host may stand at
/// its address.
class world_recorder::host_lane final : public record_lane {
 public:
    host_lane(record& into, const host& of) noexcept : record_lane(into), of_(of) {}
    bool is_of(const host& h) const noexcept { return &of_ == &h && !is_gone(); }
    using record_lane::go;
    using record_lane::is_gone;
    using record_lane::number;

 private:
    time_point exact_now() const noexcept override { return of_.now(); }

    const host& of_;
};

world_recorder::world_recorder(const recorder_options& options) : record(options) {}
world_recorder::~world_recorder() = default;

void world_recorder::clear() noexcept {
    record::clear();
    while (!hosts_.empty() && hosts_.back()->is_gone()) hosts_.pop_back();
}

world_recorder::host_lane* world_recorder::lane_of(const host& of) noexcept {
    const auto found = std::find_if(hosts_.rbegin(), hosts_.rend(), [&](const auto& l) { return l->is_of(of); });
    if (found != hosts_.rend()) return found->get();
    try {
        hosts_.push_back(std::make_unique<host_lane>(*this, of));
        enter(*hosts_.back(), of.name());
    } catch (const std::bad_alloc&) {
        // Without memory for one more host, its events go to the latest one's.
    }
    return hosts_.empty() ? nullptr : hosts_.back().get();
}

observer* world_recorder::observer_of(const host& h) noexcept { return lane_of(h); }

void world_recorder::on_packet(packet what, const packet_info& p, time_point when) noexcept {
    host_lane* const from = lane_of(p.from);
    host_lane* const to = lane_of(p.to);
    if (from == nullptr || to == nullptr) return;
    recorded_event& e = what == packet::arrived ? add(to->number(), kind::packet, when)
                                                : add(from->number(), kind::packet, std::max(when, p.from.now()));
    e.host = from->number();
    e.peer = to->number();
    e.detail = static_cast<std::uint8_t>(what);
    e.sort = static_cast<std::uint8_t>(p.what);
    e.number = p.number;
    e.size = p.size;
    e.source_port = p.source.port();
    e.destination_port = p.destination.port();
}

void world_recorder::on_event(event what, const host* of, time_point when) noexcept {
    host_lane* const at = of != nullptr ? lane_of(*of) : nullptr;
    add(at != nullptr ? at->number() : recorded_event::no_host, kind::host, when).detail =
        static_cast<std::uint8_t>(what);
    if (what == event::stopped && at != nullptr) at->go();
}

}  // namespace rondo
