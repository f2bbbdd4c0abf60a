// group.start(fn, args...): a child that says when it is ready, before the caller goes on.
//
//     task<> serve_http(started<int> ready, std::string host) {
//         auto listener = tcp_listener::bind(host, 0);
//         ready.set(listener.local().port());          // start() returns the port; the child goes on
//         co_await serve(listener, session);
//     }
//     const int port = co_await group.start(serve_http, "127.0.0.1");
//
// Until it is ready, the child belongs to whoever waits in start(): its error is thrown there, and a
// cancel of the caller is a cancel of the child. From then on it is a child of the group like others.
// (Trio's nursery.start, AnyIO's task_status.)
#pragma once

#include <rondo/base/detail/take.hpp>
#include <rondo/task/spawn.hpp>
#include <rondo/task/wait.hpp>

#include <optional>
#include <type_traits>
#include <utility>

namespace rondo {

template <class T>
class started;

namespace detail {

/// The wait for a child to be ready. It ends when the child reports, or when the child ends.
class RONDO_API start_op : public op, later_cancel {
 public:
    start_op() noexcept : op(table) {}
    ~start_op() {
        if (child() != nullptr) release_handle(*child());
    }

    /// Whether the end of `f` is the business of a start(), not of its group.
    static bool waits_for(const fiber& f) noexcept { return f.awaited_by != nullptr && f.awaited_by->vt == &table; }
    void report() noexcept;

 protected:
    void wait_for(fiber& child) noexcept;
    bool is_ready() const noexcept { return ready_; }
    [[noreturn]] void throw_not_ready() const;
    /// What attempt() gives: why the child is not ready, if that is a system_error; else it throws.
    failure why_not_ready() const;

 private:
    fiber* child() const noexcept { return later_cancel::target; }  // null once it has reported
    static void cancel(op& o) noexcept;
    static void describe(const op& o, char* text, std::size_t size) noexcept;
    static const op_vtable table;
    bool ready_ = false;
    bool was_asked_ = false;  // to end before that
};

template <class T>
struct start_slot : start_op {
    static_assert(!std::is_reference_v<T>, "let it report a pointer instead");
    std::optional<T> value;
    T take() { return std::move(*value); }
};
template <>
struct start_slot<void> : start_op {
    void take() noexcept {}
};

// The T of the started<T> that a function takes first.
template <class R, class T, class... A>
std::type_identity<T> reported_by(R (*)(started<T>, A...));
template <class R, class T, class... A>
std::type_identity<T> reported_by(R (*)(started<T>&, A...));
template <class C, class R, class T, class... A>
std::type_identity<T> reported_by(R (C::*)(started<T>, A...));
template <class C, class R, class T, class... A>
std::type_identity<T> reported_by(R (C::*)(started<T>&, A...));
template <class C, class R, class T, class... A>
std::type_identity<T> reported_by(R (C::*)(started<T>, A...) const);
template <class C, class R, class T, class... A>
std::type_identity<T> reported_by(R (C::*)(started<T>&, A...) const);

template <class F>
constexpr auto find_reported() {
    if constexpr (requires(F f) { reported_by(f); }) {
        return decltype(reported_by(std::declval<F>())){};
    } else if constexpr (requires { reported_by(&F::operator()); }) {
        return decltype(reported_by(&F::operator())){};
    } else {
        static_assert(!sizeof(F), "start takes a function whose first parameter is a rondo::started<T>");
    }
}
template <class F>
using reported = typename decltype(find_reported<F>())::type;

template <class Group, class T, class F, class... Args>
class [[nodiscard]] start_wait : start_slot<T>, public awaits<start_wait<Group, T, F, Args...>, wait_manner::prompt> {
 public:
    template <class G, class... A>
    explicit start_wait(Group& group, G&& fn, A&&... args)
        : group_(group), call_(std::forward<G>(fn), std::forward<A>(args)...) {}

    T await_resume() {
        if (!this->is_ready()) [[unlikely]]
            this->throw_not_ready();
        return this->take();
    }
    rondo::result<T> finish() {
        if (!this->is_ready()) return this->why_not_ready();
        if constexpr (std::is_void_v<T>) {
            return {};
        } else {
            return this->take();
        }
    }

 private:
    friend awaits<start_wait, wait_manner::prompt>;
    bool start() {
        const auto spawn = [&](F& fn, Args&... args) -> fiber& {
            const std::source_location site = this->owner->leaf->site;
            return group_.make_starting(site, std::move(fn), started<T>(*this), std::move(args)...);
        };
        this->wait_for(std::apply(spawn, call_));
        return true;
    }

    Group& group_;
    std::tuple<F, Args...> call_;
};

}  // namespace detail

/// The first parameter of a function for start(): where it reports that it is ready. Move-only. It may be
/// handed on, also to other tasks, but not beyond the end of the child.
template <class T = void>
class started {
 public:
    explicit started(detail::start_slot<T>& to) noexcept : to_(&to) {}
    started(started&& other) noexcept : to_(detail::take(other.to_)) {}
    started& operator=(started&&) = delete;

    /// Lets start() return, with `value` if T is not void, once. The caller goes on when this task waits;
    /// what it was cancelled for meanwhile does not take the value away, but cancels this task.
    template <class U>
        requires std::is_constructible_v<T, U&&>
    void set(U&& value) {
        assert_waiting();
        to_->value.emplace(std::forward<U>(value));
        detail::take(to_)->report();
    }
    void set() noexcept
        requires std::is_void_v<T>
    {
        assert_waiting();
        detail::take(to_)->report();
    }

 private:
    void assert_waiting() const noexcept { RONDO_ASSERT(to_ != nullptr, "a task reports once that it is ready"); }
    detail::start_slot<T>* to_;
};

}  // namespace rondo
