// task_local<T>: a value that goes with a task, and with every task it spawns (Swift's TaskLocal, Java's
// ScopedValue).
//
//     rondo::task_local<std::string> request_id("none");
//
//     co_await request_id.with("r-17", handle, request);   // in handle, and in all it spawns
//     log(request_id.get());
#pragma once

#include <rondo/loop/detail/extras.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/loop/detail/scheduler.hpp>
#include <rondo/task/task.hpp>

#include <type_traits>
#include <utility>

namespace rondo {

template <class T>
class task_local;

namespace detail {

template <class T>
struct bound : binding {
    template <class V>
    bound(const void* of, V&& v) : binding{nullptr, of, 1, &destroy_this}, value(std::forward<V>(v)) {}
    static void destroy_this(binding& b) noexcept { delete static_cast<bound*>(&b); }
    static void* operator new(std::size_t size) { return frame_allocate(size); }
    static void operator delete(void* block, std::size_t size) noexcept { frame_deallocate(block, size); }
    T value;
};

/// Awaiting this binds a value, runs `body` on the same task, and takes the binding away.
template <class T>
class [[nodiscard]] with_binding {
 public:
    using value_type = T;

    with_binding(binding* innermost, task<T>&& body) noexcept : binding_(innermost), body_(std::move(body)) {}
    with_binding(const with_binding&) = delete;
    with_binding& operator=(const with_binding&) = delete;
    ~with_binding() {
        if (fiber_ != nullptr) unbind();
        release_bindings(binding_);
    }

    bool await_ready() const noexcept { return false; }
    template <rondo_promise Promise>
    void await_suspend(std::coroutine_handle<Promise> h, std::source_location site = std::source_location::current()) {
        extras& of = extras_of(*h.promise().owner);
        fiber_ = h.promise().owner;
        binding_->outer = of.locals;  // its share moves along
        of.locals = detail::take(binding_);
        body_.await_suspend(h, site);
    }
    T await_resume() {
        unbind();
        return body_.outcome().take();
    }

 private:
    void unbind() noexcept {
        extras& of = *detail::take(fiber_)->more;
        binding* const ours = detail::take(of.locals, of.locals->outer);
        if (of.locals != nullptr) ++of.locals->shares;
        release_bindings(ours);
    }

    binding* binding_;
    fiber* fiber_ = nullptr;
    task<T> body_;
};

}  // namespace detail

/// A key; make it at namespace scope, or let it outlive every task that uses it. `T` is shared by the
/// tasks that inherit it, so it is read-only.
template <class T>
class task_local {
 public:
    /// `outside` is the value where none is bound.
    explicit task_local(T outside = {}) noexcept(std::is_nothrow_move_constructible_v<T>)
        : outside_(std::move(outside)) {}
    task_local(const task_local&) = delete;
    task_local& operator=(const task_local&) = delete;

    /// The value in the running task; also for callbacks, which have none bound. O(bindings in force).
    const T& get() const noexcept {
        const detail::fiber* f = detail::current != nullptr ? detail::current->current_fiber() : nullptr;
        if (f != nullptr && f->more != nullptr)
            for (const detail::binding* b = f->more->locals; b != nullptr; b = b->outer)
                if (b->key == this) return static_cast<const detail::bound<T>*>(b)->value;
        return outside_;
    }
    const T& operator*() const noexcept { return get(); }
    const T* operator->() const noexcept { return &get(); }

    /// Awaits `fn(args...)`, a task, with `value` bound: there, in all it calls, and in every task spawned
    /// meanwhile, for as long as that lives. Throws what fn throws, or bad_alloc.
    template <class V, class F, class... Args>
    [[nodiscard]] auto with(V&& value, F&& fn, Args&&... args) const {
        RONDO_ASSERT_SAFE_CALLABLE(F);
        using given = detail::value_called<F, Args...>;
        detail::binding* const made = new detail::bound<T>(this, std::forward<V>(value));
        try {
            return detail::with_binding<given>(made, std::forward<F>(fn)(std::forward<Args>(args)...));
        } catch (...) {
            detail::release_bindings(made);
            throw;
        }
    }

 private:
    T outside_;
};

}  // namespace rondo
