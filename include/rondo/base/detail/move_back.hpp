// A value that was moved to where nobody takes it goes back to where it came from.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace rondo::detail {

/// Whether an argument U&& of which a T was made is as it was before, or can be made so.
template <class U, class T>
inline constexpr bool comes_back = std::is_lvalue_reference_v<U> || std::is_trivially_copyable_v<U> ||
                                   (std::is_same_v<U, T> && std::is_nothrow_move_constructible_v<T>);

/// `value` was made of `from`, an argument U&&: if it was moved, it moves back. A copy has left `from` as it was.
/// Nothing happens where that is not possible: `comes_back` says so.
template <class U, class T>
void move_back([[maybe_unused]] std::remove_reference_t<U>& from, [[maybe_unused]] T& value) noexcept {
    if constexpr (std::is_same_v<U, T> && std::is_nothrow_move_constructible_v<T>) {
        if constexpr (std::is_nothrow_move_assignable_v<T>) {
            from = std::move(value);
        } else {  // a lambda that captures something
            std::destroy_at(&from);
            std::construct_at(&from, std::move(value));
        }
    }
}

}  // namespace rondo::detail
