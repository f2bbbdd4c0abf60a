// hook<R(Args...)>: a callable that an option struct can keep, which must stay trivially copyable (docs/compilers.md).
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace rondo::detail {

template <class Signature>
class hook;

/// A function, or a lambda that captures at most two references or pointers; or nothing. What it refers to must live
/// as long as it is called. It must not throw.
template <class R, class... Args>
class hook<R(Args...)> {
    static constexpr std::size_t size = 2 * sizeof(void*);

 public:
    constexpr hook() noexcept = default;
    constexpr hook(std::nullptr_t) noexcept {}  // NOLINT(*-explicit-*)
    template <class F>
        requires(!std::is_same_v<std::remove_cvref_t<F>, hook> &&
                 std::is_invocable_r_v<R, const std::decay_t<F>&, Args...>)
    hook(F&& f) noexcept {  // NOLINT(*-explicit-*)
        using kept = std::decay_t<F>;
        static_assert(
            sizeof(kept) <= size && std::is_trivially_copyable_v<kept>,
            "a hook is a function, or a lambda that captures at most two references or pointers: give what it "
            "needs a name, and capture that by reference");
        if constexpr (std::is_pointer_v<std::remove_reference_t<F>>) {
            if (f == nullptr) return;
        }
        ::new (static_cast<void*>(kept_)) kept(std::forward<F>(f));
        call_ = [](const void* f_kept, Args... args) noexcept -> R {
            return (*static_cast<const kept*>(f_kept))(std::forward<Args>(args)...);
        };
    }

    explicit operator bool() const noexcept { return call_ != nullptr; }
    R operator()(Args... args) const noexcept { return call_(kept_, std::forward<Args>(args)...); }

 private:
    alignas(void*) unsigned char kept_[size] = {};
    R (*call_)(const void*, Args...) noexcept = nullptr;
};

}  // namespace rondo::detail
