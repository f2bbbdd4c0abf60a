// thread_channel<T>: values from any thread to the tasks of one loop, bounded.
//
//     rondo::thread_channel<job> jobs(64);
//     std::thread producer([out = jobs.make_sender()] { out.send(job{1}); });   // blocks while it is full
//     while (auto next = co_await jobs.receive()) work(*next);             // empty: no sender is left
//
// It has `capacity` places, made at once, and allocates nothing afterwards. A sender takes a place, builds
// the value in it, and posts it to the loop; a receiver moves the value out and the place is free again.
// While a sender exists the loop stays alive, as with any loop.remote().
#pragma once

#include <rondo/base/detail/move_back.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/task/detail/wait_queue.hpp>
#include <rondo/loop/remote.hpp>
#include <rondo/task/wait.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

namespace rondo {

enum class send_status : std::uint8_t { sent, full, closed };

namespace detail {

class thread_channel_state;

/// A place for one value, which lies behind it.
struct thread_channel_place;

/// What does not depend on the type of the values.
class RONDO_API thread_channel_core {
 public:
    struct value_type_info {
        std::size_t size;
        std::size_t alignment;
        void (*destroy)(void* value) noexcept;
    };

    class receive_op;

    thread_channel_core(std::size_t capacity, const char* name, const value_type_info& type);
    ~thread_channel_core();
    thread_channel_core(const thread_channel_core&) = delete;
    thread_channel_core& operator=(const thread_channel_core&) = delete;

    class sender {
     public:
        sender() noexcept = default;
        explicit sender(thread_channel_state& state);
        sender(const sender& other) noexcept;
        sender(sender&& other) noexcept : state_(detail::take(other.state_)), remote_(std::move(other.remote_)) {}
        sender& operator=(sender other) noexcept {
            detail::trade(state_, other.state_);
            rondo::remote held = std::move(remote_);  // until ~sender of `other`
            remote_ = std::move(other.remote_);
            other.remote_ = std::move(held);
            return *this;
        }
        RONDO_API ~sender();

        /// A place to build a value in, or why there is none. Blocks while it is full if `may_wait`.
        RONDO_API thread_channel_place* take(bool may_wait, send_status& why) const noexcept;
        RONDO_API static void* value_in(thread_channel_place& place) noexcept;
        /// Sends the place, when its value has been built. False: the loop has gone meanwhile; then call refused().
        RONDO_API bool post(thread_channel_place& place) const noexcept;
        /// Destroys what is left of the value.
        RONDO_API void refused(thread_channel_place& place) const noexcept;
        /// Gives the place back, when its value could not be built.
        RONDO_API void put_back(thread_channel_place& place) const noexcept;
        RONDO_API bool closed() const noexcept;

     private:
        thread_channel_state* state_ = nullptr;
        rondo::remote remote_;
    };

    sender make_sender();
    void close() noexcept;
    bool ended() const noexcept;
    std::size_t size() const noexcept;
    thread_channel_place* try_receive() noexcept;
    void* value_of(thread_channel_place& place) const noexcept { return sender::value_in(place); }
    /// Its value was moved out: destroys what is left and frees the place.
    void free(thread_channel_place& place) noexcept;

    class RONDO_API receive_op : public wait_op {
     public:
        explicit receive_op(thread_channel_core& channel) noexcept;
        bool start() noexcept;
        void give_back() noexcept {}

     protected:
        thread_channel_core& of_;
        thread_channel_place* place_ = nullptr;  // null: the end

     private:
        friend thread_channel_core;
        friend class detail::thread_channel_state;
        static void cancel(op& o) noexcept;
        static void describe(const op& o, char* text, std::size_t size) noexcept;
        static const op_vtable table;
    };

 private:
    friend class thread_channel_state;
    thread_channel_state* state_;
    const char* name_;
};

}  // namespace detail

/// The receiving end, for the tasks of the loop that was running when it was made. Several may receive;
/// they are served first come, first served. Values of one thread keep their order.
template <class T>
class thread_channel {
    static_assert(std::is_nothrow_move_constructible_v<T>, "moving a value to its receiver must not throw");

 public:
    using value_type = T;

    /// Any thread. Copies are counted; when the last one has gone and everything is received, the
    /// channel ends. May outlive channel and loop: sending then gives `closed`.
    class sender : detail::thread_channel_core::sender {
        using core = detail::thread_channel_core::sender;

     public:
        sender() noexcept = default;

        /// Blocks the calling thread while the channel is full; those that wait are served in order.
        /// False when the channel is closed or the loop gone: then `value` is untouched. (A sender that waits when
        /// the loop goes is told when the channel is destroyed.) True does not say that it will be received: channel
        /// and loop may go first. Not for the loop's own thread: that asserts. Throws what building a T from it
        /// throws.
        template <class U = T>
        bool send(U&& value) const {
            return put(true, std::forward<U>(value)) == send_status::sent;
        }
        /// Does not wait. `full` also while others wait in send(). If it is not `sent`, `value` is
        /// untouched, as above. Any thread, the loop's own included.
        template <class U = T>
        send_status try_send(U&& value) const {
            return put(false, std::forward<U>(value));
        }
        bool closed() const noexcept { return core::closed(); }

     private:
        friend thread_channel;
        explicit sender(core&& made) noexcept : core(std::move(made)) {}

        template <class U>
        send_status put(bool may_wait, U&& value) const {
            send_status status = send_status::sent;
            detail::thread_channel_place* const place = core::take(may_wait, status);
            if (place == nullptr) return status;
            T* made;
            try {
                made = ::new (core::value_in(*place)) T(std::forward<U>(value));
            } catch (...) {
                core::put_back(*place);
                throw;
            }
            if (core::post(*place)) [[likely]]
                return send_status::sent;
            // A value that cannot be moved back counts as sent: it goes with the loop, as those do that waited there.
            detail::move_back<U>(value, *made);
            core::refused(*place);
            return detail::comes_back<U, T> ? send_status::closed : send_status::sent;
        }
    };

    class receive_awaiter : public detail::thread_channel_core::receive_op, public awaits<receive_awaiter> {
     public:
        using receive_op::receive_op;
        std::optional<T> await_resume() {
            if (this->result < 0) [[unlikely]]
                detail::throw_failure(this->result, "receive");
            return take_from(this->of_, this->place_);
        }
        rondo::result<std::optional<T>> finish() { return await_resume(); }
    };

    /// Room for `capacity` values, at least one. Needs a running loop. Throws bad_alloc, or
    /// invalid_argument for a capacity of 0 or of 2^31 and more. `name` is for reports and must outlive it (a literal).
    explicit thread_channel(std::size_t capacity, const char* name = "")
        : core_(capacity, name, {sizeof(T), alignof(T), [](void* value) noexcept { static_cast<T*>(value)->~T(); }}) {}
    /// Closes it. Values that nobody received are destroyed. Asserts that no task waits.
    ~thread_channel() = default;

    /// A sender, to be handed to other threads. The channel ends when there was a sender and, in a later turn of the
    /// loop, none is left: who makes several and does not wait meanwhile need not care how fast the first is done.
    /// Asserts that the channel has not ended.
    [[nodiscard]] sender make_sender() { return sender(core_.make_sender()); }

    /// Waits for a value. Empty at the end: the channel is closed or the last sender gone, and all
    /// that was sent is received. Cancel: nothing is lost; a value that was given to this wait already
    /// is its result all the same.
    [[nodiscard]] receive_awaiter receive() noexcept { return receive_awaiter(core_); }
    /// A value that has arrived and that nobody waits for; empty if there is none.
    std::optional<T> try_receive() noexcept { return take_from(core_, core_.try_receive()); }

    /// No more sending: senders get `closed`, also those that wait. What was sent can still be received.
    void close() noexcept { core_.close(); }
    /// Values that have arrived and are not received.
    std::size_t size() const noexcept { return core_.size(); }

 private:
    static std::optional<T> take_from(detail::thread_channel_core& core, detail::thread_channel_place* place) noexcept {
        std::optional<T> value;
        if (place == nullptr) return value;
        value.emplace(std::move(*static_cast<T*>(core.value_of(*place))));
        core.free(*place);
        return value;
    }

    detail::thread_channel_core core_;
};

}  // namespace rondo
