#include <rondo/loop/backend.hpp>

#include <rondo/base/log.hpp>

#include "backend/epoll/epoll.hpp"
#ifdef RONDO_HAVE_LIBURING
#include "backend/uring/uring.hpp"
#endif
#if __has_include("backend/sim/sim.hpp")
#include "backend/sim/sim.hpp"
#define RONDO_HAVE_SIM 1
#endif
#include "base/report.hpp"

#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace rondo {

backend::~backend() = default;

std::uint32_t backend::choose(choice, std::uint32_t alternatives) noexcept {
    return static_cast<std::uint32_t>((random() >> 32) * alternatives >> 32);
}

void backend::left_to_parent() noexcept {}

void backend::spin(duration by) noexcept {
    const time_point until = delay(by).after(now());
    while (now() < until) {
    }
}

void backend::expect_wakes(std::size_t, duration) noexcept {}

backend_factory::~backend_factory() = default;

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
    if (!power_of_two(options.ring_entries, 8, 4096)) return "ring_entries must be a power of two from 8 to 4096";
    if (options.receive_buffer_size < 256 || options.receive_buffer_size > 1u << 24)
        return "receive_buffer_size must be from 256 bytes to 16 MiB";
    if (!power_of_two(options.receive_buffer_count, 1, 32768))
        return "receive_buffer_count must be a power of two up to 32768";
    return nullptr;
}

std::unique_ptr<backend> make_backend(backend_kind kind, const backend_options& options, std::string& why) {
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
            why = "out of memory";
            return make_sim(options, {});
#else
            why = "built without the simulator";
            return nullptr;
#endif
        case backend_kind::automatic: break;
    }
    why = "no backend named";
    return nullptr;
}

// --- choosing ---------------------------------------------------------------------------------------------

namespace {

/// What RONDO_BACKEND asks for.
struct asked_for {
    backend_kind kind = backend_kind::automatic;
    bool seeded = false;     // sim:SEED
    bool any_order = false;  // sim:SEED:chaos
    std::uint64_t seed = 0;
};

asked_for from_environment() {
    const char* name = std::getenv("RONDO_BACKEND");
    asked_for what;
    if (name == nullptr || *name == '\0' || std::strcmp(name, "auto") == 0) return what;
    for (const backend_kind kind : {backend_kind::epoll, backend_kind::uring, backend_kind::sim}) {
        what.kind = kind;
        if (std::strcmp(name, name_of(kind)) == 0) return what;
    }
    if (std::strncmp(name, "sim:", 4) == 0 && name[4] >= '0' && name[4] <= '9') {
        char* end = nullptr;
        errno = 0;
        what.seed = std::strtoull(name + 4, &end, 0);
        what.seeded = true;
        what.any_order = std::strcmp(end, ":chaos") == 0;
        if (errno == 0 && (what.any_order || *end == '\0')) return what;
    }
    throw io_error(errno_code(EINVAL), "RONDO_BACKEND must be auto, epoll, uring, sim, sim:SEED or sim:SEED:chaos, not",
                   name);
}

std::unique_ptr<backend> make_seeded_sim([[maybe_unused]] std::uint64_t seed, const backend_options& options,
                                         std::string& why) {
#ifdef RONDO_HAVE_SIM
    why = "out of memory";
    return make_sim(options, {.own_decisions = std::make_unique<seeded_oracle>(seed)});
#else
    return make_backend(backend_kind::sim, options, why);
#endif
}

std::unique_ptr<backend> best_backend(const backend_options& options, std::string& why) {
    if (std::unique_ptr<backend> ring = make_backend(backend_kind::uring, options, why)) {
        why = "the best this machine has";
        return ring;
    }
    std::string why_not_epoll;
    std::unique_ptr<backend> epoll = make_backend(backend_kind::epoll, options, why_not_epoll);
    if (!epoll) throw io_error(errno_code(EMFILE), "no backend:", why + "; " + why_not_epoll);
    static detail::log_gate gate(1);
    detail::write_log(gate, log_level::debug, {}, "epoll instead of io_uring: %s", why.c_str());
    return epoll;
}

}  // namespace

bool detail::asks_for_any_order() { return from_environment().any_order; }

std::unique_ptr<backend> choose_backend(backend_kind kind, const backend_options& options, std::string& why) {
    if (const char* fault = fault_of(options)) throw io_error(errno_code(EINVAL), "backend_options:", fault);
    asked_for asked;
    asked.kind = kind;
    if (kind == backend_kind::automatic) asked = from_environment();
    if (asked.kind == backend_kind::automatic) return best_backend(options, why);
    std::unique_ptr<backend> made =
        asked.seeded ? make_seeded_sim(asked.seed, options, why) : make_backend(asked.kind, options, why);
    if (!made) throw io_error(errno_code(ENOTSUP), name_of(asked.kind), "is not to be had: " + why);
    why = "asked for";
    return made;
}

}  // namespace rondo
