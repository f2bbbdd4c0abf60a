// What moving a plain value means: std::exchange and std::swap without the traits behind their noexcept, which
// the compiler would work out anew for each of some two dozen types.
#pragma once

namespace rondo::detail {

/// What `from` held; it holds nothing afterwards.
template <class T>
constexpr T take(T& from, T nothing = T{}) noexcept {
    const T held = from;
    from = nothing;
    return held;
}

template <class T>
constexpr void trade(T& a, T& b) noexcept {
    const T held = a;
    a = b;
    b = held;
}

}  // namespace rondo::detail
