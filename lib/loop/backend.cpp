#include <rondo/loop/backend.hpp>

#include "backend/epoll/epoll.hpp"
#ifdef RONDO_HAVE_LIBURING
#include "backend/uring/uring.hpp"
#endif
#if __has_include("backend/sim/sim.hpp")
#include "backend/sim/sim.hpp"
#define RONDO_HAVE_SIM 1
#endif

#include <bit>

namespace rondo {

backend::~backend() = default;

std::uint32_t backend::choose(choice, std::uint32_t alternatives) noexcept {
    return static_cast<std::uint32_t>((random() >> 32) * alternatives >> 32);
}

void backend::left_to_parent() noexcept {}

bool backend::advance(duration) noexcept { return false; }

std::size_t backend::descriptors() const noexcept { return 0; }

void backend::set_outside(std::size_t, duration) noexcept {}

const char* name_of(backend_kind kind) noexcept {
    switch (kind) {
        case backend_kind::automatic: return "auto";
        case backend_kind::epoll: return "epoll";
        case backend_kind::uring: return "uring";
        case backend_kind::sim: return "sim";
    }
    return "?";
}

const char* fault_of(const backend_options& options) noexcept {
    const auto power_of_two = [](std::uint32_t value, std::uint32_t least, std::uint32_t most) {
        return std::has_single_bit(value) && value >= least && value <= most;
    };
    if (!power_of_two(options.ring_entries, 8, 4096))
        return "ring_entries must be a power of two from 8 to 4096";
    if (options.receive_buffer_size < 256 || options.receive_buffer_size > 1u << 24)
        return "receive_buffer_size must be from 256 bytes to 16 MiB";
    if (!power_of_two(options.receive_buffer_count, 1, 32768))
        return "receive_buffer_count must be a power of two up to 32768";
    return nullptr;
}

std::unique_ptr<backend> make_backend(backend_kind kind, const backend_options& options,
                                      std::string& why) {
    if (const char* fault = fault_of(options)) return why = fault, nullptr;
    switch (kind) {
        case backend_kind::epoll: return detail::make_epoll(options, why);
        case backend_kind::uring:
#ifdef RONDO_HAVE_LIBURING
            return detail::make_uring(options, why);
#else
            why = "built without liburing";
            return nullptr;
#endif
        case backend_kind::sim:
#ifdef RONDO_HAVE_SIM
            return make_sim(options);
#else
            why = "built without the simulator";
            return nullptr;
#endif
        case backend_kind::automatic: break;
    }
    // The loop decides: it knows the environment, and keeps the reason for what it settled on.
    why = "no backend named";
    return nullptr;
}

}  // namespace rondo
