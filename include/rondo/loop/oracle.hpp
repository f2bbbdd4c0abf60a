// Who decides what the documentation leaves open, when the world is simulated.
#pragma once

#include <rondo/base/detail/config.hpp>

#include <cstdint>

namespace rondo {

/// A class of choices. Each has a random stream of its own, so a new draw in one does not shift
/// the others.
enum class choice : std::uint8_t {
    completion_order,  // which of the finished ops is reported next
    receive_size,      // how many of the available bytes a read gets (0: all)
    send_size,         // how many bytes a write accepts (0: all that fit)
    network_delay,     // extra latency of a segment
    accept_order,      // which pending connection is accepted next
    cancel_race,       // a cancel meets an op that could finish: which one wins
    resource_error,    // a call fails for lack of something (only where enabled)
    user,              // rondo::random_u64() in simulated programs
    select_order,      // which arm of a select_one() is looked at first
    host_order,        // of the hosts that can run at this moment, which one is next
    packet_loss,       // a packet between hosts is lost (only where a link may lose some)
    packet_copy,       // ... arrives twice
    packet_order,      // ... is held up, so that later ones overtake it
    scenario,          // world::choose(): what a test leaves open
    buggify,           // RONDO_BUGGIFY(): an unlikely but legal turn of the program
    ready_order,       // which ready task runs next (order::chaos only; else first in, first out)
    slow_host,         // whether a host is slow, and how much (only in worlds with world_options::slow_hosts)
    slow_step,         // a slow host takes time before a call of its program
};
inline constexpr int choice_count = 18;  // values of `choice`

/// Answers every unspecified choice; 0 is always the benign one.
class RONDO_API oracle {
 public:
    virtual ~oracle();

    /// A number in [0, alternatives); `alternatives` >= 1, and with 1 nothing is drawn.
    virtual std::uint32_t choose(choice point, std::uint32_t alternatives) noexcept = 0;

    /// Whether something happens that does so `per_million` times in a million: a choice of two, with
    /// 0 for no. Nothing is drawn for 0.
    virtual bool happens(choice point, std::uint32_t per_million) noexcept;

    /// Raw randomness for the program.
    virtual std::uint64_t bits(choice point) noexcept = 0;
};

/// Always 0: the plain run. bits() is a fixed sequence.
class RONDO_API benign_oracle final : public oracle {
 public:
    std::uint32_t choose(choice point, std::uint32_t alternatives) noexcept override;
    std::uint64_t bits(choice point) noexcept override;

 private:
    std::uint64_t next_ = 0;
};

/// Exploration: the same seed gives the same decisions, on every compiler and machine.
class RONDO_API seeded_oracle final : public oracle {
 public:
    explicit seeded_oracle(std::uint64_t seed) noexcept;
    std::uint32_t choose(choice point, std::uint32_t alternatives) noexcept override;
    std::uint64_t bits(choice point) noexcept override;

 private:
    static constexpr int streams = choice_count;
    std::uint64_t state_[streams];
};

}  // namespace rondo
