#include <rondo/backend.hpp>

#include "epoll/epoll.hpp"
#ifdef RONDO_HAVE_LIBURING
#include "uring/uring.hpp"
#endif
#if __has_include("sim/sim.hpp")
#include "sim/sim.hpp"
#define RONDO_HAVE_SIM 1
#endif

namespace rondo {

backend::~backend() = default;

bool backend::advance(duration) noexcept { return false; }

void backend::set_outside(std::size_t) noexcept {}

const char* name_of(backend_kind kind) noexcept {
    switch (kind) {
        case backend_kind::automatic: return "auto";
        case backend_kind::epoll: return "epoll";
        case backend_kind::uring: return "uring";
        case backend_kind::sim: return "sim";
    }
    return "?";
}

std::unique_ptr<backend> make_backend(backend_kind kind, const backend_options& options,
                                      std::string& why) {
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
