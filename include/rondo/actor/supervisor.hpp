// Supervisors, as in OTP: they start children in order, restart those that fail, give up when that happens
// too often, and stop what is left in the reverse order.
//
//     co_await rondo::with_supervisor([](rondo::supervisor& workers) -> rondo::task<> {
//         co_await workers.start({.name = "w1"}, worker, 1);
//         co_await workers.start({.name = "w2", .restart = rondo::restart::transient}, worker, 2);
//         auto log = co_await workers.start_actor<logger>({.name = "log"});
//         co_await serve_requests(log);
//     }, {.how = rondo::strategy::one_for_one, .intensity = 5, .period = 5min});
//
// A supervisor is a scope: it ends, when its body has ended or is cancelled, no earlier than its last child.
// A child that is a supervisor itself makes a tree. What a supervisor does is done by a task of its own, one
// thing after the other, so that nothing interleaves; a child that never gets ready holds up the others, as
// in OTP, but not the end of the supervisor.
#pragma once

#include <rondo/actor/actor.hpp>
#include <rondo/actor/detail/supervisor.hpp>

namespace rondo {

/// Who else is restarted when one child must be.
enum class strategy : std::uint8_t {
    one_for_one,   // nobody
    one_for_all,   // all others are stopped, in the reverse order, and all are started in order
    rest_for_one,  // the same with those that were started after it
};

/// When a supervisor ends because children of some significance have ended, by themselves and for good.
enum class auto_shutdown : std::uint8_t { off, any_significant, all_significant };

/// A child that is about to be restarted, for supervisor_options::on_restart. Valid during the call.
struct restart_notice {
    const char* supervisor;             // its name; "" if it has none
    std::string_view child;             // its name; empty if it has none
    std::source_location place;         // where it was started
    const std::exception_ptr& error;  // what it has failed with; null: it has ended without an error, or was cancelled
    duration delay;  // until it is restarted
    std::uint32_t count;  // restarts within the period, this one included,
    std::uint32_t intensity;  // of so many that are allowed
    duration period;
};

/// What with_supervisor() takes behind its body.
struct supervisor_options {
    strategy how = strategy::one_for_one;
    std::uint32_t intensity = 1;  // restarts within `period`; with one more it gives up
    duration period = std::chrono::seconds(5);
    auto_shutdown shutdown = auto_shutdown::off;
    const char* name = "";  // for reports; must outlive the supervisor
    /// Called when a child is to be restarted: a function, or a lambda that captures at most two references or
    /// pointers. It must not throw. Null: a warning in the log says the same.
    detail::hook<void(const restart_notice& notice)> on_restart = nullptr;
};
static_assert(std::is_trivially_copyable_v<supervisor_options>);

/// What a supervisor that has given up throws: to its parent, which may be another supervisor. what() names
/// the child and the limit that was reached, and cause() is what the child failed with the last time; null if it had
/// ended without an error. If that is long, as of a supervisor in a supervisor, what() leaves out its middle.
class RONDO_API supervisor_gave_up : public std::runtime_error, public detail::has_cause {
 public:
    supervisor_gave_up(const std::string& what, std::exception_ptr cause);
    supervisor_gave_up(const supervisor_gave_up&);
    ~supervisor_gave_up() override;
    const std::exception_ptr& cause() const noexcept override { return cause_; }

 private:
    std::exception_ptr cause_;
};

/// A child, as which_children() lists it.
struct child_info {
    std::string name;
    child_state state;
    std::uint32_t restarts;
};

/// Made by with_supervisor. It may be handed down, and is used while its body or a child runs.
class RONDO_API supervisor : public detail::supervisor_core {
 public:
    /// Adds a child, starts it, and gives its handle: `fn(args...)`, which gives a task<>; a member function is
    /// `start(options, &type::function, &object, args...)`. All are copied, and the function is called anew for each
    /// restart, with references to the copies. A function that takes a `supervised&` first has started when it
    /// calls ready() on that; throws what it failed with before, and then it is no child. It sees the task locals
    /// of who opened the supervisor, which restarts it, not those of who calls start(). Throws bad_alloc,
    /// and io_error(operation_canceled) when the supervisor is ending.
    /// Cancel: the child may have been started, and then stays.
    template <class F, class... Args>
    [[nodiscard]] detail::start_child_awaiter start(const child_options& options, F&& fn, Args&&... args) {
        detail::assert_child<std::decay_t<F>, std::decay_t<Args>...>();
        check_arguments<F, Args...>();
        using child_type = detail::child_task<std::decay_t<F>, std::decay_t<Args>...>;
        return detail::start_child_awaiter(*this,
                                           *new child_type(options, std::forward<F>(fn), std::forward<Args>(args)...));
    }
    template <class F, class... Args>
        requires(!std::is_same_v<std::remove_cvref_t<F>, child_options>)
    [[nodiscard]] detail::start_child_awaiter start(F&& fn, Args&&... args) {
        return start(child_options{.place = {}}, std::forward<F>(fn), std::forward<Args>(args)...);
    }
    /// The same for an actor; gives its address, which stays valid when the actor is restarted. Messages wait
    /// meanwhile; the one that it failed in is dropped, and who asked gets no_reply.
    template <detail::actor_body F, class... Args>
    [[nodiscard]] auto start_actor(const child_options& options, F&& fn, Args&&... args) {
        check_arguments<F, Args...>();
        using message = typename detail::mailbox_parameter<std::decay_t<F>>::type;
        using child_type = detail::child_actor<message, std::decay_t<F>, std::decay_t<Args>...>;
        return detail::start_actor_awaiter<message>(
            *this, *new child_type(options, std::forward<F>(fn), std::forward<Args>(args)...));
    }
    template <detail::actor_body F, class... Args>
    [[nodiscard]] auto start_actor(F&& fn, Args&&... args) {
        return start_actor(child_options{.place = {}}, std::forward<F>(fn), std::forward<Args>(args)...);
    }
    template <behaviour B, class... Args>
        requires(!(std::is_same_v<std::remove_cvref_t<Args>, child_options> || ...))
    [[nodiscard]] auto start_actor(Args&&... args) {
        return start_actor<B>(child_options{.place = {}}, std::forward<Args>(args)...);
    }
    template <behaviour B, class... Args>
    [[nodiscard]] auto start_actor(const child_options& options, Args&&... args) {
        check_arguments<const B&, Args...>();
        using body = detail::behaves<B, std::decay_t<Args>...>;
        using child_type = detail::child_actor<typename B::message, body, std::decay_t<Args>...>;
        return detail::start_actor_awaiter<typename B::message>(
            *this, *new child_type(options, body(), std::forward<Args>(args)...));
    }
    // What follows does something to a child, given by its handle or its address. *Cancel:* it may be done later all
    // the same.

    /// Stops it, as at the end, and keeps what it is started from; a temporary one is forgotten. It can be
    /// started again by restart_child(), and is when the strategy starts it with others. Meanwhile an actor's
    /// address takes no messages; those that it has not handled wait. No effect on one that does not run.
    [[nodiscard]] detail::command_awaiter terminate_child(const child_handle& c) noexcept {
        return {*this, c, detail::command_wait::act::terminate};
    }
    /// Starts one that was terminated, or has ended, in its old place; it does not count as a failure. Throws
    /// io_error: device_or_resource_busy if it runs or is to be restarted anyway, no_such_process if it is forgotten or
    /// an actor that has ended for good, operation_canceled when the supervisor is ending; and what it failed with
    /// before it was ready: then it is as before.
    [[nodiscard]] detail::command_awaiter restart_child(const child_handle& c) noexcept {
        return {*this, c, detail::command_wait::act::restart};
    }
    /// Forgets one that was terminated, or has ended: an actor has then ended for good. Throws
    /// io_error(device_or_resource_busy) if it runs or is to be restarted. No effect on one that is forgotten.
    [[nodiscard]] detail::command_awaiter delete_child(const child_handle& c) noexcept {
        return {*this, c, detail::command_wait::act::forget};
    }
    /// terminate_child() and delete_child() in one.
    [[nodiscard]] detail::command_awaiter remove(const child_handle& c) noexcept {
        return {*this, c, detail::command_wait::act::remove};
    }
    template <class Message>
    [[nodiscard]] detail::command_awaiter terminate_child(const actor_ref<Message>& actor) noexcept {
        return terminate_child(detail::child_of(actor));
    }
    template <class Message>
    [[nodiscard]] detail::command_awaiter restart_child(const actor_ref<Message>& actor) noexcept {
        return restart_child(detail::child_of(actor));
    }
    template <class Message>
    [[nodiscard]] detail::command_awaiter delete_child(const actor_ref<Message>& actor) noexcept {
        return delete_child(detail::child_of(actor));
    }
    template <class Message>
    [[nodiscard]] detail::command_awaiter remove(const actor_ref<Message>& actor) noexcept {
        return remove(detail::child_of(actor));
    }

    /// In the order of their starts. Throws bad_alloc.
    std::vector<child_info> which_children() const;

    // What with_supervisor uses.
    supervisor(detail::scheduler& l, const supervisor_options& options) noexcept;
    void begin();
    static constexpr std::size_t limit() noexcept { return ~std::size_t{0}; }
    std::exception_ptr take_errors(std::exception_ptr body_error) noexcept;

 private:
    using child = detail::child_record;
    static void task_ended(detail::scope& base, detail::fiber& f) noexcept;
    template <class F, class... Args>
    static void check_arguments() {
        RONDO_ASSERT_SAFE_CALLABLE(F);
        (detail::assert_safe_argument<Args>(), ...);
    }
    task<> listen_for_cancel();
    task<> manage();
    task<> supervise();
    task<> carry_out(detail::command_wait& command);
    task<> add(detail::command_wait& command);
    task<> terminate(child& c);
    task<> restart_by_hand(child& c);
    task<> launch(child& c);
    task<> look_after(child& c);
    task<> start_again(child& c);
    task<> stop_others(child& failed);
    task<> stop(child& c);
    task<> stop_all();
    void note_restart(child& c);
    void tell_of_restart(const child& c, duration pause) const noexcept;
    std::string title() const;
    void end_for_good(child& c) noexcept;
    void forget(child& c) noexcept;
    [[noreturn]] void give_up(const child& c, const char* why) const;
    bool is_over_after(const child& c) const noexcept;
    child* first_due() const noexcept { return due_.empty() ? nullptr : due_.front(); }
    void set_due(child& c, time_point due) noexcept;
    void place_due(child& c, std::size_t at) noexcept;
    void set_state(child& c, child_state state) noexcept;
    void make_room();
    void fail_command(std::exception_ptr error) noexcept;

    supervisor_options options_;
    cancel_scope* work_ = nullptr;  // what the manager does until the end begins
    detail::fiber* manager_ = nullptr;  // gone when it has ended
    std::size_t child_count_ = 0;
    std::uint64_t started_count_ = 0;
    std::size_t significant_up_ = 0;  // children that may still end it, if `all_significant` do
    std::vector<child*> due_;  // those that wait to be restarted, a heap; room for all children
    std::vector<time_point> restarts_;  // within the period, from oldest_restart_ on
    std::size_t oldest_restart_ = 0;
    std::exception_ptr gave_up_;
};

namespace detail {
template <class F>
struct with_manager {
    F fn;
    auto operator()(supervisor& s) {
        s.begin();
        return fn(s);
    }
};
}  // namespace detail

/// Awaits `fn(supervisor)`, which gives a task<T>, and gives its value; children are supervised meanwhile, and
/// stopped afterwards, in the reverse order. When the supervisor gives up, all children are stopped, the body
/// is cancelled, and supervisor_gave_up is thrown; an automatic shutdown is no error. Throws what fn throws, and
/// bad_alloc.
/// Cancel: reaches the body at once, the children in their order; `cancelled` goes on when all have ended.
template <class F>
[[nodiscard]] auto with_supervisor(F&& fn, supervisor_options options = {}) {
    RONDO_ASSERT_SAFE_CALLABLE(F);
    using function = detail::with_manager<std::decay_t<F>>;
    return detail::run_group<supervisor, detail::group_value<std::decay_t<F>, supervisor>, function>(
        function{std::forward<F>(fn)}, options);
}

}  // namespace rondo
