// Which arguments of an awaited call g++ 12 compiles rightly (docs/compilers.md).
#pragma once

#include <rondo/base/detail/config.hpp>

#include <type_traits>

namespace rondo::detail {

/// For functions that take values and are awaited. GCC 12 destroys a temporary twice that braces or
/// captures have made, if it stands in an awaiting statement.
template <class U>
constexpr void assert_safe_argument() noexcept {
#if RONDO_GCC12
    using value = std::remove_reference_t<U>;
    constexpr bool made_by_captures =
        requires { &value::operator(); } && !std::is_default_constructible_v<value>;
    static_assert(std::is_lvalue_reference_v<U&&> || std::is_trivially_destructible_v<value> ||
                      !(std::is_aggregate_v<value> || made_by_captures),
                  "GCC 12 destroys this temporary twice: give the value a name first; channels also build it "
                  "in place by emplace(args...), and move it from its place by send_from(name)");
#endif
}

}  // namespace rondo::detail
