// Words for programs that are simulated: unlikely turns, and what must or should be true.
//
// They are nothing unless RONDO_SIM is defined when the program is compiled for its simulated tests, and do
// nothing outside of a simulation.
//
//     const auto batch = RONDO_BUGGIFY() ? 1 : 64;     // legal, and rare in production
//     RONDO_ALWAYS(acked <= sent, "nothing is acknowledged that was not sent");
//     RONDO_SOMETIMES(retries > 3, "a request is retried more than three times");
#pragma once

#include <rondo/base/detail/config.hpp>

#include <source_location>

namespace rondo::detail {

/// A place in the program; its address names it.
struct sim_site {
    const char* message = "";
    bool always = false;
    std::source_location place = std::source_location::current();
};

/// Whether to take the unlikely turn.
RONDO_API bool buggify(const sim_site& site) noexcept;
/// Tells the simulation whether it was true here and now.
RONDO_API void observe(const sim_site& site, bool holds) noexcept;

}  // namespace rondo::detail

#ifdef RONDO_SIM
/// In a simulation, true now and then: a site is switched on in every fourth run, and then every fourth
/// pass through it is true. Else false.
#define RONDO_BUGGIFY()                                \
    ([]() noexcept {                                   \
        static const ::rondo::detail::sim_site site{}; \
        return ::rondo::detail::buggify(site);         \
    }())
/// `condition` must hold whenever the program comes by; if not, the run fails, at the end of the step.
#define RONDO_ALWAYS(condition, message)                                    \
    do {                                                                    \
        static const ::rondo::detail::sim_site rondo_site{message, true};   \
        ::rondo::detail::observe(rondo_site, static_cast<bool>(condition)); \
    } while (false)
/// `condition` must hold at least once in all runs of a simulation in which the program comes by.
#define RONDO_SOMETIMES(condition, message)                                 \
    do {                                                                    \
        static const ::rondo::detail::sim_site rondo_site{message, false};  \
        ::rondo::detail::observe(rondo_site, static_cast<bool>(condition)); \
    } while (false)
#else
#define RONDO_BUGGIFY() false
#define RONDO_ALWAYS(condition, message) static_cast<void>(0)
#define RONDO_SOMETIMES(condition, message) static_cast<void>(0)
#endif
