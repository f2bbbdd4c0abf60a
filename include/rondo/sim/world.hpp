// A simulated world: several hosts, a network between them, one virtual clock, one thread.
//
//     rondo::world w;
//     w.host("srv").run(app);                      // app() as it is: it takes everything from its loop
//     w.link("srv", "test").latency(1ms, 20ms).loss(rondo::percent(1));
//     w.run([&]() -> rondo::task<> {               // the scenario: a program of the host "test"
//         auto peer = co_await rondo::tcp_stream::connect(w.address_of("srv", 7777));
//         ...
//     });
//
// Each host has a loop of its own. All are stepped in turns; the clock jumps only when none of them can
// run. Whatever is left open is decided by one oracle, so a run can be had again: docs/sim.md.
//
// Everything here is for the thread that made the world.
#pragma once

#include <rondo/base/detail/take.hpp>
#include <rondo/net/endpoint.hpp>
#include <rondo/loop/loop.hpp>
#include <rondo/observe/recorder.hpp>
#include <rondo/sim/replay.hpp>
#include <rondo/task/run.hpp>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace rondo {

class host;
class world;
namespace simulated {
struct link;
struct machine;
}  // namespace simulated

/// How likely something is, in parts of a million: integers, so that every compiler decides alike.
struct chance {
    std::uint32_t per_million = 0;
};
[[nodiscard]] constexpr chance percent(std::uint32_t n) noexcept { return {n * 10'000}; }
/// Once in `n` times on average; never if `n` is 0.
[[nodiscard]] constexpr chance one_in(std::uint32_t n) noexcept { return {n == 0 ? 0 : 1'000'000 / n}; }

/// Something was left when a world ended: descriptors, or tasks that do not end.
class RONDO_API leak_error : public std::runtime_error {
 public:
    explicit leak_error(const std::string& report);
    ~leak_error() override;
};

/// A packet between two hosts, as rules and observers see it. Valid during the call.
struct packet_info {
    using kind = recorded_event::packet_kind;

    kind what;
    bool ends;             // no data of this direction comes behind it
    std::uint8_t attempt;  // how often it was sent before
    std::uint32_t size;    // bytes of data
    std::uint64_t number;  // of the sending: one that is sent again has another, a copy the same
    const host& from;
    const host& to;
    endpoint source;       // of the connection, at `from`
    endpoint destination;  // and at `to`
};

/// What a rule says about a packet.
class verdict {
 public:
    /// Not this rule's business: the next one decides, in the end the link.
    static constexpr verdict pass() noexcept { return verdict(sort::pass, duration{}); }
    /// Lost: its sender will send it again, after the time it takes to notice; but not a datagram.
    static constexpr verdict drop() noexcept { return verdict(sort::drop, duration{}); }
    /// Arrives so much later than the link would have it.
    static constexpr verdict hold(delay extra) noexcept { return verdict(sort::hold, extra.value()); }

    // is_pass() and is_drop() tell what it is, extra() by how much it holds.
    constexpr bool is_pass() const noexcept { return what_ == sort::pass; }
    constexpr bool is_drop() const noexcept { return what_ == sort::drop; }
    constexpr duration extra() const noexcept { return extra_; }

 private:
    enum class sort : std::uint8_t { pass, drop, hold };
    constexpr verdict(sort what, duration extra) noexcept : what_(what), extra_(extra) {}
    sort what_;
    duration extra_;
};

/// Is told what happens in a world; see world_options::observer. It must not change anything.
class RONDO_API world_observer {
 public:
    using packet = recorded_event::packet_fate;
    using event = recorded_event::host_fate;

    virtual ~world_observer();
    /// The observer of the loop of a host, asked whenever the host is started; null: nobody. Times are the host's own.
    virtual observer* observer_of(const host& h) noexcept;
    // What the world sees; times are the world's.
    virtual void on_packet(packet what, const packet_info& p, time_point when) noexcept;
    /// `of` is null for what concerns the network.
    virtual void on_event(event what, const host* of, time_point when) noexcept;
};

struct world_options {
    oracle* decisions = nullptr;  // null: all benign
    order mode = order::spec;  // in which order ready tasks run
    /// So many steps of tasks and callbacks, and the world is said to be stuck in a live-lock.
    std::uint64_t step_limit = 10'000'000;
    /// Asked after each step: a test framework's way to end a run that has failed already. Null: none.
    bool (*failed)(void* context) = nullptr;
    void* context = nullptr;
    world_observer* observer = nullptr;
    /// Each host but "test" may be a slow one, by 0.1, 1 or 10 ms at a time: host::slow() for one in 30 calls.
    bool slow_hosts = false;
};

/// How a host goes down.
enum class crash_mode : std::uint8_t {
    reset,  // the program is killed: its kernel resets the connections
    silent,  // the power is cut: nobody is told; who sends to it gets a reset once it is up again
};

namespace detail {

struct world_state;
struct host_state;

/// What host::run() starts, and starts again.
struct RONDO_API program {
    virtual ~program();
    virtual task<> start() = 0;
};

template <class T>
task<> without_result(task<T> body) {
    static_cast<void>(co_await std::move(body));
}

template <class F, class... Args>
struct program_of final : program {
    template <class G, class... A>
    explicit program_of(G&& g, A&&... a) : call(std::forward<G>(g), std::forward<A>(a)...) {}
    task<> start() override {
        return std::apply([](F& f, Args&... args) -> task<> { return begin(f, args...); }, call);
    }
    static task<> begin(F& f, Args&... args) {
        if constexpr (std::is_void_v<child_value<F, Args...>>) {
            return f(args...);
        } else {
            return without_result(f(args...));
        }
    }
    std::tuple<F, Args...> call;
};

/// The wait for the end of another host's task. Only a crash of who waits ends it before that.
class RONDO_API foreign_join : public linked_op {
 public:
    foreign_join(world_state& w, fiber& target) noexcept;
    bool await_ready() const noexcept { return target_.flags & fiber::ended; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) noexcept {
        begin_shielded(*this, promise_of(h), site);
        return start();
    }
    void await_resume() const {
        constexpr auto outcome = fiber::has_value | fiber::has_error;
        if ((target_.flags & fiber::ended) == 0 || ((target_.flags & outcome) == 0 && was_asked_)) throw_cancelled();
    }
    /// Cancels the task, and waits no more.
    void abandon() noexcept;

 private:
    bool start() noexcept;
    static void ask(op& o) noexcept;
    static const op_vtable table;
    world_state& world_;
    fiber& target_;
    bool was_asked_ = false;  // to end the task, as who waits is cancelled
};

/// The wait for a moment at which no host can run.
class RONDO_API blocked_awaiter : public linked_op {
 public:
    blocked_awaiter(world_state& w, time_point not_before) noexcept;
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> h,
                       std::source_location site = std::source_location::current()) noexcept {
        if (!begin(*this, promise_of(h), site)) return suspended(*this);
        start();
        return true;
    }
    void await_resume() const {
        if (result < 0) throw_failure(result, "wait until all are blocked");
    }
    const time_point moment;

 private:
    void start() noexcept;
    static const op_vtable table;
    world_state& world_;
};

}  // namespace detail

/// A machine of a world. It lives as long as the world.
class RONDO_API host {
 public:
    const std::string& name() const noexcept;
    /// 10.0.0.n; address_v6() is fd00::n. 127.0.0.1 and ::1 stay inside the host.
    ip_address address() const noexcept;
    ip_address address_v6() const noexcept;

    /// Starts `entry(args...)`, which gives a task, as a program of this host. Both are copied, and used
    /// again by restart(). What escapes from it ends the run of the world.
    template <class F, class... Args>
    host& run(F&& entry, Args&&... args) {
        return add(std::make_unique<detail::program_of<std::decay_t<F>, std::decay_t<Args>...>>(
            std::forward<F>(entry), std::forward<Args>(args)...));
    }

    /// Its programs unwind at once, as if they were cancelled, and nothing they still do has an effect;
    /// what they throw is ignored. Its sockets are gone. No effect when it is down. A host that crashes
    /// itself unwinds when its step has ended. Throws bad_alloc.
    void crash(crash_mode how = crash_mode::reset);
    /// Its program gets a signal (SIGTERM, ...), at this moment of the world. If it does not watch that, the signal
    /// does what it does by default: it ends the program, as crash() does, or is ignored. Nobody gets it when the
    /// host is down. Throws io_error(invalid_argument) for what is no signal, and for one that would stop the
    /// program, which is not simulated; bad_alloc.
    void signal(int number);
    /// Starts the programs of run() once more. No effect when it is up.
    void restart();
    bool up() const noexcept;

    /// So many descriptors at most; one more is EMFILE.
    host& descriptor_limit(std::size_t most) noexcept;
    /// Calls may fail although nothing is used up. EMFILE: socket, accept, and a pipe to splice through; ENOBUFS: the
    /// first two, and sending a datagram; ENOMEM: socket, accept, and receiving into a borrowed buffer.
    host& lack_descriptors(chance c) noexcept;
    host& lack_buffers(chance c) noexcept;
    host& lack_memory(chance c) noexcept;
    /// A connection may be reset before it is accepted.
    host& abort_connections(chance c) noexcept;
    /// The machine is slow now and then: with this chance a call of its program (to send, to receive, to accept, ...),
    /// and a look of its loop at what has arrived, comes so much later than its turn began, but not later than the next
    /// moment at which another host has something to do. What arrives meanwhile is there then: so a reset meets a
    /// program that has just read, and two events come in one turn. No effect while time is frozen, nor in the turn
    /// in which a program starts: who connects to a server that was started finds it listening.
    host& slow(chance c, delay by) noexcept;
    /// From now on its clocks gain so many microseconds in each second of the world; negative: lose.
    /// From -500'000 to 500'000.
    host& clock_drift(std::int32_t parts_per_million) noexcept;
    /// Sets its calendar (wall_now()) off by this much; again is a step of the clock, forward or back. Who sleeps until
    /// a moment of the calendar hears of that.
    host& clock_offset(duration ahead) noexcept;

    std::size_t descriptors() const noexcept;
    std::size_t tasks() const noexcept;
    /// The world's time as far as this host has come: while it computes (loop::spin), later than world::now().
    time_point now() const noexcept;
    /// Its loop; it must be up.
    rondo::loop& loop() const noexcept;

 private:
    friend class world;
    friend struct detail::world_state;
    friend struct detail::host_state;
    explicit host(detail::host_state& state) noexcept : state_(&state) {}
    host& add(std::unique_ptr<detail::program> p);
    detail::host_state* state_;
};

/// What w.link() gives: sets the qualities of one direction or of both.
class RONDO_API link_settings {
 public:
    /// Of each packet: from `least` to `most`, mostly near `least`. Initially 50 us to 9.66 ms.
    link_settings& latency(delay least, delay most) noexcept;
    link_settings& latency(delay always) noexcept { return latency(always, always); }
    /// A lost packet costs TCP time: it is sent again after 200 ms (connecting: 1 s), doubling, until
    /// the connection fails with ETIMEDOUT. A lost datagram is lost.
    link_settings& loss(chance c) noexcept;
    link_settings& duplication(chance c) noexcept;
    /// A packet arrives after later ones. (Datagrams overtake each other also without.)
    link_settings& reordering(chance c) noexcept;
    /// 0: no limit.
    link_settings& bandwidth(std::uint64_t bytes_per_second) noexcept;
    /// The most data in one packet; initially 65536. A larger datagram travels in pieces, and is lost with any of them.
    link_settings& packet_size(std::uint32_t bytes) noexcept;

 private:
    friend class world;
    link_settings(simulated::link& one, simulated::link* other) noexcept : one_(one), other_(other) {}
    template <class F>
    link_settings& set(F&& f) noexcept;
    simulated::link& one_;
    simulated::link* other_;
};

/// Links that are cut until this is destroyed or heal() is called. Must not outlive its world.
class RONDO_API partition_guard {
 public:
    partition_guard(partition_guard&& other) noexcept
        : world_(detail::take(other.world_)), cut_(std::move(other.cut_)), era_(other.era_) {}
    partition_guard& operator=(partition_guard&&) = delete;
    ~partition_guard() { heal(); }
    void heal() noexcept;

 private:
    friend class world;
    partition_guard(detail::world_state& w, std::vector<simulated::link*> cut) noexcept;
    detail::world_state* world_;
    std::vector<simulated::link*> cut_;
    std::uint64_t era_;
};

namespace detail {
struct RONDO_API rule_base : links {
    virtual ~rule_base();
    virtual verdict judge(const packet_info& p) = 0;
    world_state* of = nullptr;
    std::uint64_t number = 0;  // a later one has a higher one; 0: it has ended
};
template <class F>
struct rule_of final : rule_base {
    template <class G>
    explicit rule_of(G&& g) : fn(std::forward<G>(g)) {}
    verdict judge(const packet_info& p) override { return fn(p); }
    F fn;
};
}  // namespace detail

/// A rule that holds until this is destroyed. Must not outlive its world.
class RONDO_API packet_rule {
 public:
    packet_rule(packet_rule&&) noexcept = default;
    packet_rule& operator=(packet_rule&&) = delete;
    ~packet_rule();

 private:
    friend class world;
    explicit packet_rule(std::unique_ptr<detail::rule_base> rule) noexcept : rule_(std::move(rule)) {}
    std::unique_ptr<detail::rule_base> rule_;
};

/// While it lives the clock does not jump; only world::advance() moves it. Must not outlive its world.
class RONDO_API frozen_time {
 public:
    frozen_time(frozen_time&& other) noexcept : world_(detail::take(other.world_)) {}
    frozen_time& operator=(frozen_time&&) = delete;
    ~frozen_time();

 private:
    friend class world;
    explicit frozen_time(detail::world_state& w) noexcept;
    detail::world_state* world_;
};

class RONDO_API world {
 public:
    using names = std::initializer_list<std::string_view>;

    explicit world(const world_options& options = {});
    ~world();
    world(const world&) = delete;
    world& operator=(const world&) = delete;

    // --- hosts --------------------------------------------------------------------------------

    /// The host of that name; made when it is first mentioned. "test" is the one of the scenario.
    rondo::host& host(std::string_view name);
    /// Its IPv4 address with a port: what a name server would say.
    endpoint address_of(std::string_view name, std::uint16_t port) { return {host(name).address(), port}; }

    /// Runs `fn(args...)`, which gives a task<T>, on host `h`, which must be up, while the caller waits
    /// on its own; gives its value or throws its error, and io_error(operation_canceled) when the host
    /// crashed. It takes no way through the network, and no time. Cancel: cancels it, and waits for its end; but a
    /// crash of the caller's host waits for nothing, so what `fn` refers to there must not be gone with it.
    template <class F, class... Args>
    auto on(rondo::host& h, F fn, Args... args) -> task<detail::child_value<F, Args...>> {
        detail::hold child(detail::make_child(detail::scheduler::of(h.loop()).root(), std::source_location{},
                                              std::move(fn), std::move(args)...));
        co_await detail::foreign_join(*state_, child.f);
        co_return detail::take_result<detail::child_value<F, Args...>>(child.f);
    }

    // --- the network --------------------------------------------------------------------------

    /// Both directions between two hosts.
    link_settings link(std::string_view a, std::string_view b);
    /// One of them.
    link_settings link_from(std::string_view from, std::string_view to);
    /// Cuts all links between the hosts of `a` and those of `b`. Packets under way are lost, too.
    [[nodiscard]] partition_guard partition(names a, names b) { return cut(a, b, true); }
    /// Only from `a` to `b`; what comes back still arrives.
    [[nodiscard]] partition_guard partition_from(names a, names b) { return cut(a, b, false); }
    /// `fn(const packet_info&)` gives a verdict about each packet between hosts. The oldest rule that does
    /// not pass decides. It is called in the middle of a step: it may make rules and hosts, end rules, also itself, and
    /// heal, but not crash a host. What it throws ends the run of the world.
    template <class F>
    [[nodiscard]] packet_rule rule(F&& fn) {
        return add(std::make_unique<detail::rule_of<std::decay_t<F>>>(std::forward<F>(fn)));
    }
    /// From now on the network is whole: no partition, no rule, no loss; latencies stay. What has to
    /// happen in the end must happen now.
    void heal_all() noexcept;

    // --- time ---------------------------------------------------------------------------------

    /// 0 when the world begins; the hosts' calendars say 2000-01-01 then.
    time_point now() const noexcept;
    /// Waits until no host can run before the clock moves. Cancel: nothing is lost.
    [[nodiscard]] detail::blocked_awaiter wait_all_blocked() noexcept { return {*state_, now()}; }
    /// Lets so much time pass, and whatever happens meanwhile happen. Cancel: nothing is lost.
    [[nodiscard]] detail::blocked_awaiter advance(delay by) noexcept { return {*state_, by.after(now())}; }
    [[nodiscard]] frozen_time freeze_time() noexcept { return frozen_time(*state_); }

    // --- running ------------------------------------------------------------------------------

    /// Runs `scenario(args...)`, which gives a task<T>, on the host "test". When it ends, all tasks of all
    /// hosts are cancelled and unwind; returns its value. Once for a world. Throws
    ///   what the scenario or a program of a host threw,
    ///   deadlock_error     nothing can ever happen again; has the await tree of every host,
    ///   livelock_error     after world_options::step_limit,
    ///   leak_error         a descriptor, or a task that does not end, is left, or permits that a
    ///                      semaphore of a host that was not killed has not got back,
    ///   io_error           (operation_canceled) world_options::failed ended it.
    template <class F, class... Args>
    decltype(auto) run(F&& scenario, Args&&... args) {
        using value = detail::child_value<std::decay_t<F>, std::decay_t<Args>...>;
        detail::hold main(detail::make_child(detail::scheduler::of(test_loop()).root(), std::source_location{},
                                             std::forward<F>(scenario), std::forward<Args>(args)...));
        run_to_end(main.f);
        return detail::take_result<value>(main.f);
    }
    /// Whether world_options::failed ended it.
    bool ended_early() const noexcept;
    /// The host whose program failed, and where its task was spawned; empty if none did.
    const std::string& failed_host() const noexcept;

    /// A choice of the scenario's own, among `alternatives`; 0 is the benign one.
    std::uint32_t choose(std::uint32_t alternatives) noexcept;
    /// Over all that has happened: equal hashes, equal runs.
    std::uint64_t hash() const noexcept;
    /// Steps of tasks and callbacks, of all hosts.
    std::uint64_t steps() const noexcept;

 private:
    packet_rule add(std::unique_ptr<detail::rule_base> rule);
    rondo::loop& test_loop();
    void run_to_end(detail::fiber& main);
    partition_guard cut(names a, names b, bool both);

    std::unique_ptr<detail::world_state> state_;
};

}  // namespace rondo
