// Which arguments of an awaited call g++ 12 compiles rightly (docs/compilers.md).
#pragma once

#include <rondo/base/detail/config.hpp>

#include <type_traits>

namespace rondo::detail {

/// Of a value that a function takes which is awaited. GCC 12 destroys a temporary twice that braces or captures have
/// made, if it stands in an awaiting statement; and a type does not tell std::move(name) from a temporary.
#if RONDO_GCC12
template <class Value>
inline constexpr bool made_by_captures = requires { &Value::operator(); } && !std::is_default_constructible_v<Value>;
template <class U, class Value = std::remove_reference_t<U>>
inline constexpr bool safe_argument = std::is_lvalue_reference_v<U&&> || std::is_trivially_destructible_v<Value> ||
                                      !(std::is_aggregate_v<Value> || made_by_captures<Value>);
#else
template <class U>
inline constexpr bool safe_argument = true;
#endif

/// For functions that have no other spelling to offer.
template <class U>
constexpr void assert_safe_argument() noexcept {
    static_assert(safe_argument<U>,
                  "GCC 12 destroys this value twice if it is a temporary, and cannot tell std::move(name) from one: "
                  "give it a name, and pass the name as it is, or pass what its constructor takes");
}

}  // namespace rondo::detail
