// How other threads reach a loop: they post callables, which it runs.
#pragma once

#include <rondo/base/detail/move_back.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/loop/detail/callback.hpp>

#include <cstdint>
#include <source_location>
#include <type_traits>
#include <utility>

namespace rondo {

/// What try_post() did. `full`: too many posts wait.
enum class post_status : std::uint8_t { posted, full, closed };

namespace detail {

struct remote_state;

/// A place among the posts that wait, or why there is none.
class RONDO_API post_place {
 public:
    explicit post_place(post_status why) noexcept : why_(why) {}
    explicit post_place(remote_state& state) noexcept : state_(&state) {}
    post_place(post_place&& other) noexcept : state_(take(other.state_)), why_(other.why_) {}
    post_place& operator=(post_place&&) = delete;
    ~post_place() { leave(); }

    post_status status() const noexcept { return why_; }
    void leave() noexcept {
        if (state_ != nullptr) give_up(*take(state_));
    }

 private:
    static void give_up(remote_state& state) noexcept;

    remote_state* state_ = nullptr;
    post_status why_ = post_status::posted;
};

/// A callable that has a place until it runs.
template <class F>
struct placed_post {
    template <class G>
    struct parts {
        post_place place;
        G&& fn;
    };
    template <class G>
    explicit placed_post(parts<G>&& from) : place(std::move(from.place)), fn(std::forward<G>(from.fn)) {}

    void operator()() {
        place.leave();  // there is room for what it posts itself
        fn();
    }

    post_place place;
    F fn;
};

}  // namespace detail

/// A counted handle through which other threads reach the loop. It keeps the loop alive; the loop
/// may die first, then posts are refused. Any thread; copies are cheap (one atomic increment).
class RONDO_API remote {
 public:
    remote() noexcept = default;
    remote(const remote& other) noexcept;
    remote(remote&& other) noexcept : state_(detail::take(other.state_)) {}
    remote& operator=(remote other) noexcept {
        detail::trade(state_, other.state_);
        return *this;
    }
    ~remote();

    /// Runs `f` on the loop's thread, in the pending phase of a turn to come; posts keep the order in which they were
    /// made. False when the loop is gone: `f` will not run, and is untouched. Throws bad_alloc. Small callables
    /// go in blocks that are used again.
    /// The queue is not bounded, so that who must be heard is heard: a turn runs loop::posts_per_turn of them, and a
    /// thread that posts faster than the loop runs them fills the memory. try_post() is for such a thread.
    template <class F>
    [[nodiscard]] bool post(F&& f, std::source_location place = std::source_location::current()) const {
        auto& made = detail::make_callback<false>(std::forward<F>(f), place);
        if (post_callback(made)) [[likely]]
            return true;
        detail::move_back<F>(f, made.fn);
        made.discard();
        return false;
    }

    /// Posts `f` unless loop_options::post_limit posts wait already: then the answer is `full`, and `f` is untouched,
    /// as it is when the loop is gone. Posts made by try_post() count from the call until they run, those made by
    /// post() only when a turn of the loop leaves them over.
    template <class F>
    [[nodiscard]] post_status try_post(F&& f, std::source_location place = std::source_location::current()) const {
        using call = detail::placed_post<std::decay_t<F>>;
        detail::post_place room = reserve();
        if (room.status() != post_status::posted) return room.status();
        using parts = typename call::template parts<F>;
        auto& made = detail::callback_of<call, false>::make(parts{std::move(room), std::forward<F>(f)}, place);
        if (post_callback(made)) [[likely]]
            return post_status::posted;
        detail::move_back<F>(f, made.fn.fn);
        made.discard();
        return post_status::closed;
    }

 private:
    friend struct detail::remote_state;
    explicit remote(detail::remote_state& state) noexcept;
    bool post_callback(detail::callback& c) const noexcept;
    detail::post_place reserve() const noexcept;
    detail::remote_state* state_ = nullptr;
};

}  // namespace rondo
