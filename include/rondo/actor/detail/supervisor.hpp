// The children of a supervisor: what is kept of each, and how one starts and ends.
#pragma once

#include <rondo/actor/actor.hpp>
#include <rondo/base/detail/hook.hpp>
#include <rondo/base/detail/take.hpp>
#include <rondo/task/group.hpp>
#include <rondo/task/scope.hpp>
#include <rondo/task/wait.hpp>

#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

namespace rondo {

/// Whether a child that has ended is started again.
enum class restart : std::uint8_t {
    permanent,  // always
    transient,  // if it failed
    temporary,  // never, and then it is forgotten
};

/// What to do about an error (Akka's directives).
enum class decision : std::uint8_t {
    restart,   // as the child's kind says
    resume,    // a behaviour goes on with the next message, with the state it has; other children restart
    stop,      // the child has ended for good, as if without an error
    escalate,  // the supervisor gives up
};

enum class child_state : std::uint8_t {
    starting,
    running,
    stopping,
    waiting_to_restart,
    ended,       // by itself, and is not restarted
    terminated,  // by terminate_child()
    removed,     // and forgotten
};

/// What start() and start_actor() take first, if anything has to be said.
struct child_options {
    std::string_view name = {};
    rondo::restart restart = rondo::restart::permanent;
    /// An actor, and a function that takes a `supervised&`, is asked to stop and has so long until it is
    /// cancelled; zero: cancelled at once, as other functions always are. `duration::max()`: never.
    duration shutdown = std::chrono::seconds(5);
    bool significant = false;  // for auto_shutdown; not of a permanent child
    /// Called with what the child has failed with: a function, or a lambda that captures at most two references or
    /// pointers. It must not throw. Null: restart.
    detail::hook<decision(const std::exception_ptr& error)> decide = nullptr;
    /// A restart waits: so long, and each time twice as long up to the second. Then longer by a random part,
    /// at most `jitter` of it. It begins anew after a child has run for `backoff_max`.
    duration backoff_min = duration::zero();
    duration backoff_max = duration::zero();
    double jitter = 0;
    std::uint32_t capacity = 64;          // of an actor: messages that wait in its mailbox
    overflow when_full = overflow::wait;  // and what happens to one for which there is no room
    std::source_location place = std::source_location::current();
};
static_assert(std::is_trivially_copyable_v<child_options>);

class supervisor;

namespace detail {

class supervisor_core;

/// The wait of one task for what another one says through `slot`, where it stands meanwhile.
struct RONDO_API slot_wait : op, awaits<slot_wait> {
    /// `text` and `name` are for reports, and must stay; `name` may be empty.
    slot_wait(op*& place, const char* text, const char* name = "") noexcept
        : op(table), slot(&place), what(text), of(name) {}
    bool start() noexcept {
        RONDO_ASSERT(*slot == nullptr, "two tasks of a child wait until it is asked to stop");
        *slot = this;
        state = armed;
        return true;
    }
    void await_resume() const {
        if (result < 0) [[unlikely]]
            throw_failure(result, what);
    }
    rondo::result<void> finish() const {
        await_resume();
        return {};
    }
    static const op_vtable table;
    op** slot;
    const char* what;
    const char* of;
};
inline void wake_slot(op*& slot) noexcept {
    if (slot != nullptr) current->complete(*take(slot), 0);
}

struct child_record;

}  // namespace detail

/// A child's way to speak with its supervisor: the first parameter of a function that wants it.
class RONDO_API supervised {
 public:
    /// It has started: the next one may.
    void ready() noexcept;
    /// It is asked to stop; if it has not ended in time, it will be cancelled.
    bool stopping() const noexcept;
    /// Waits until it is asked to stop. By one task at a time. Cancel: nothing is lost.
    [[nodiscard]] task<> stop_asked();

    supervised(const supervised&) = delete;

 private:
    friend struct detail::child_record;
    supervised() = default;
    detail::child_record& record() noexcept;
};

namespace detail {

struct RONDO_API child_record : links, supervised, actor_keeper {
    explicit child_record(const child_options& o);
    virtual ~child_record();
    child_record(const child_record&) = delete;

    /// Spawns it into `home`. Throws bad_alloc.
    virtual fiber& spawn(scope& home) = 0;
    /// Asks it to end by itself. False: it cannot hear that.
    virtual bool ask_to_stop() noexcept { return false; }
    /// Its body has ended, perhaps only for now.
    virtual void body_ended() noexcept {}
    /// It will not be started again.
    virtual void end_for_good() noexcept {}
    /// It is to be started again, after all. False: it cannot be.
    virtual bool revive() noexcept { return true; }

    const char* shown_name() const noexcept { return name.empty() ? "a child" : name.c_str(); }
    void share() noexcept { ++shares; }
    void release() noexcept;
    void over(const actor_exit& exit) noexcept;
    static bool resumes_after(const actor_keeper& self, const std::exception_ptr& error) noexcept;

    std::string name;
    child_options options;
    supervisor_core* of = nullptr;
    fiber* body = nullptr;         // while it runs
    op* waiter = nullptr;          // the manager, until it is ready or over
    op* stop_waiter = nullptr;     // the child, until it is asked to stop
    time_point due = never;        // of its restart
    std::size_t due_place = 0;     // among those that have one
    std::uint64_t number = 0;      // in the order of the starts
    time_point started{};
    actor_exit exit;               // the latest
    std::uint32_t shares = 1;
    std::uint32_t restarts = 0;
    std::uint32_t failures = 0;    // in a row, for the back-off
    child_state state = child_state::starting;
    bool announces = false;        // it says itself that it is ready
    bool is_ready = false;
    bool asked_to_stop = false;
    bool is_over = false;          // it will not be started again, and who watches it knows
    bool noted = false;            // it stands among those that have ended
    child_record* next = nullptr;  // there
};

struct child_over {
    static void over(child_record* c, const actor_exit& exit) noexcept { c->over(exit); }
};

/// How the function of a child is called, at each start: with references to its arguments, and before these, but
/// behind the object of a member function, with the supervised& if it takes one.
template <class F, class... Args>
struct child_call {
    static constexpr bool wants_supervised = std::is_invocable_v<F&, supervised&, Args&...>;
    static constexpr bool fits = wants_supervised || std::is_invocable_v<F&, Args&...>;
    static auto call(F& fn, supervised& self, Args&... args) {
        if constexpr (wants_supervised) {
            return fn(self, args...);
        } else {
            return fn(args...);
        }
    }
};
template <class F, class Object, class... Args>
    requires std::is_member_pointer_v<F>
struct child_call<F, Object, Args...> {
    static constexpr bool wants_supervised = std::is_invocable_v<F&, Object&, supervised&, Args&...>;
    static constexpr bool fits = wants_supervised || std::is_invocable_v<F&, Object&, Args&...>;
    static auto call(F& fn, supervised& self, Object& object, Args&... args) {
        if constexpr (wants_supervised) {  // (apply calls as std::invoke does, and comes without <functional>)
            return std::apply(fn, std::tuple<Object&, supervised&, Args&...>(object, self, args...));
        } else {
            return std::apply(fn, std::tuple<Object&, Args&...>(object, args...));
        }
    }
};

template <class F, class... Args>
constexpr void assert_child() noexcept {
    using how = child_call<F, Args...>;
    static_assert(!is_task<F>, "give the function, not its task: start(child, 1) instead of start(child(1))");
    static_assert(is_task<F> || how::fits,
                  "the function of a child cannot be called with these arguments, which are kept and given to it as "
                  "lvalues");
    if constexpr (how::fits)
        static_assert(
            std::is_same_v<
                decltype(how::call(std::declval<F&>(), std::declval<supervised&>(), std::declval<Args&>()...)), task<>>,
            "the function of a child must give a task<>");
}

template <class F, class... Args>
struct child_task final : child_record {
    using how = child_call<F, Args...>;
    static constexpr bool wants_supervised = how::wants_supervised;

    template <class G, class... A>
    explicit child_task(const child_options& o, G&& f, A&&... a)
        : child_record(o), fn(std::forward<G>(f)), args(std::forward<A>(a)...) {
        announces = wants_supervised;
    }
    struct call {
        task<> operator()(child_task* c) const {
            return std::apply([c](Args&... a) { return how::call(c->fn, *c, a...); }, c->args);
        }
    };
    fiber& spawn(scope& home) override { return make_ending_child<child_over>(home, options.place, call(), this); }
    bool ask_to_stop() noexcept override {
        if constexpr (wants_supervised) {
            asked_to_stop = true;
            wake_slot(stop_waiter);
        }
        return wants_supervised;
    }
    F fn;
    std::tuple<Args...> args;
};

template <class Message, class F, class... Args>
struct child_actor final : child_record {
    template <class G, class... A>
    explicit child_actor(const child_options& o, G&& f, A&&... a)
        : child_record(o),
          fn(std::forward<G>(f)),
          args(std::forward<A>(a)...),
          box(*new mailbox<Message>({.name = name.c_str(), .capacity = o.capacity, .when_full = o.when_full})) {
        box->core().keeper = this;
    }
    struct call {
        task<> operator()(child_actor* c) const {
            return std::apply([c](Args&... a) { return c->fn(*c->box.get(), Args(a)...); }, c->args);
        }
    };
    fiber& spawn(scope& home) override {
        box->core().reopen();
        fiber& f = make_ending_child<child_over>(home, options.place, call(), this);
        box->core().body = &f;
        return f;
    }
    bool ask_to_stop() noexcept override {
        box->core().stop();
        return true;
    }
    void body_ended() noexcept override { box->core().body = nullptr; }
    void end_for_good() noexcept override {
        box->core().keeper = nullptr;
        box->end(exit);
        box->core().name = "";  // it was this record's
    }
    bool revive() noexcept override { return !box->core().ended; }
    F fn;
    std::tuple<Args...> args;
    mailbox_share<Message> box;
};

/// What a task asks the supervisor to do, and the wait for it. Owns a share of the child.
struct RONDO_API command_wait : wait_op {
    enum class act : std::uint8_t { start, terminate, restart, forget, remove };
    command_wait(supervisor_core& s, child_record* c, act a) noexcept;
    command_wait(command_wait&& other) noexcept;
    ~command_wait();
    bool start() noexcept;
    void refuse() noexcept;
    bool starts_something() const noexcept { return what == act::start || what == act::restart; }
    /// Throws what went wrong.
    void check() const;
    rondo::result<void> as_result() const;
    static const op_vtable table;
    supervisor_core* of;
    child_record* child;  // null: nothing is to be done
    act what;
    std::exception_ptr error;
};

/// A supervisor but for what it does.
class RONDO_API supervisor_core : public group {
 protected:
    explicit supervisor_core(scheduler& l, ended_hook hook) noexcept;
    ~supervisor_core();
    /// One of the children is gone.
    void note_end(child_record& c) noexcept;
    /// The supervisor ends: nothing is started any more.
    void refuse_commands() noexcept;

    rondo::detail::scope children_;  // entered by the manager; shielded, because they are stopped in order
    ring<child_record> all_;
    queue<child_record> ended_;
    ring<command_wait> commands_;
    command_wait* command_ = nullptr;  // the one that is carried out
    op* news_ = nullptr;               // the manager, while nothing is to be done
    bool ending_ = false;

 private:
    friend child_record;
    friend command_wait;
};

}  // namespace detail

/// A child, for terminate_child() and the like. Copies stand for the same one; it may outlive the supervisor. One
/// that is empty, or was moved from, stands for none.
class child_handle {
 public:
    child_handle() noexcept = default;
    explicit child_handle(detail::child_record& c) noexcept : of_(&c) { c.share(); }
    child_handle(const child_handle& other) noexcept : of_(other.of_) {
        if (of_ != nullptr) of_->share();
    }
    child_handle(child_handle&& other) noexcept : of_(take(other.of_)) {}
    child_handle& operator=(child_handle other) noexcept {
        trade(of_, other.of_);
        return *this;
    }
    ~child_handle() {
        if (of_ != nullptr) of_->release();
    }
    explicit operator bool() const noexcept { return of_ != nullptr; }

    // What follows is about the child, and asserts that the handle is not empty.

    const std::string& name() const noexcept { return child().name; }
    child_state state() const noexcept { return child().state; }
    std::uint32_t restarts() const noexcept { return child().restarts; }
    detail::child_record* record() const noexcept { return of_; }  // for supervisors; null: none

 private:
    detail::child_record& child() const noexcept {
        RONDO_ASSERT(of_ != nullptr, "an empty child_handle is used");
        return *of_;
    }
    detail::child_record* of_ = nullptr;
};

namespace detail {

struct start_child_awaiter : command_wait, awaits<start_child_awaiter> {
    start_child_awaiter(supervisor_core& s, child_record& c) noexcept : command_wait(s, &c, act::start) { c.release(); }
    child_handle await_resume() const {
        check();
        return child_handle(*child);
    }
};

template <class Message>
struct start_actor_awaiter : command_wait, awaits<start_actor_awaiter<Message>> {
    template <class Actor>
    start_actor_awaiter(supervisor_core& s, Actor& c) noexcept : command_wait(s, &c, act::start), box(c.box) {
        c.release();
    }
    actor_ref<Message> await_resume() const {
        check();
        return actor_ref<Message>(*box.get());
    }
    mailbox_share<Message> box;
};

struct command_awaiter : command_wait, awaits<command_awaiter> {
    command_awaiter(supervisor_core& s, const child_handle& c, act a) noexcept : command_wait(s, c.record(), a) {}
    void await_resume() const { check(); }
    rondo::result<void> finish() const { return as_result(); }
};

/// The child that an actor is.
template <class Message>
child_handle child_of(const actor_ref<Message>& actor) noexcept {
    child_record* const c = static_cast<child_record*>(actor.box().core().keeper);
    return c != nullptr ? child_handle(*c) : child_handle();
}

}  // namespace detail
}  // namespace rondo
