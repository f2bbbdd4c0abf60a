// A world of several loops: who runs when, when the clock jumps, and how hosts come and go.
#include <rondo/sim/world.hpp>

#include <rondo/observe/observers.hpp>
#include <rondo/task/await_tree.hpp>
#include <rondo/sync/semaphore.hpp>

#include "loop/engine.hpp"
#include "loop/places.hpp"
#include "backend/sim/network.hpp"
#include "backend/sim/sim.hpp"
#include "loop/step_counts.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <new>
#include <optional>
#include <utility>

namespace rondo {

leak_error::leak_error(const std::string& report) : runtime_error(report) {}
leak_error::~leak_error() = default;

world_observer::~world_observer() = default;
observer* world_observer::observer_of(const host&) noexcept { return nullptr; }
void world_observer::on_packet(packet, const packet_info&, time_point) noexcept {}
void world_observer::on_event(event, const host*, time_point) noexcept {}

namespace detail {

program::~program() = default;
rule_base::~rule_base() = default;

// --- state ----------------------------------------------------------------------------------------

struct host_state {
    host_state(world_state& w, std::string its_name, simulated::machine& m)
        : of(w), name(std::move(its_name)), machine(m), face(new host(*this)) {}

    time_point next_run() const noexcept;

    world_state& of;
    std::string name;
    simulated::machine& machine;
    std::unique_ptr<host> face;
    std::vector<std::unique_ptr<program>> programs;
    std::unique_ptr<rondo::loop> loop;  // while it is up
    bool began = false;
    bool starts = false;      // a program of it does, in its next step
    bool going_down = false;  // it crashed in the middle of its step; it unwinds when that has ended
    bool unwinding = false;
    bool ignore_errors = false;
    rondo::observer* observer = nullptr;     // of its loop, while that is up
    std::optional<step_counts> counting;      // in a live-lock
    std::optional<observers> with_counting;   // both of them
};

struct world_state final : simulated::wire_tap {
    explicit world_state(const world_options& o)
        : options(o), decisions(o.decisions != nullptr ? *o.decisions : plain), net(decisions) {
        net.set_tap(this);
    }
    ~world_state() { stop_all(); }

    host_state& host_named(std::string_view name);
    host_state& host_of(const simulated::machine& m) noexcept { return *hosts[m.index]; }
    void make_slow(host_state& h);
    void boot(host_state& h);
    void start(host_state& h, program& p);
    void crash(host_state& h, bool silently, world_observer::event why = world_observer::event::crashed);
    void signal(host_state& h, int number);
    void unwind(host_state& h);
    foreign_join* call_from(const host_state& h) const noexcept;

    bool run_round();
    void run(host_state& h);
    bool pass_time();
    void run_until(bool (*done)(world_state&, void*), void* context);
    void end();
    void stop_all() noexcept;
    void fail(host_state& h, std::exception_ptr error, std::source_location place) noexcept;
    std::string deadlock_report();
    std::string livelock_report();
    void tell(world_observer::event what, const host_state* h) noexcept;
    bool ended_by_caller() const { return options.failed != nullptr && options.failed(options.context); }

    fate judge(const simulated::packet& p) noexcept override;
    time_point slow_until(const simulated::machine& m, time_point wanted) noexcept override;
    verdict ask(rule_base& r, const packet_info& about) noexcept;
    rule_base* rule_after(std::uint64_t number) const noexcept;
    void end_rule(std::unique_ptr<rule_base> r) noexcept;
    void on_packet(event what, const simulated::packet& p, time_point when) noexcept override;
    packet_info info(const simulated::packet& p) noexcept;

    world_options options;
    benign_oracle plain;
    oracle& decisions;
    simulated::network net;
    std::vector<std::unique_ptr<host_state>> hosts;
    std::vector<host_state*> runnable;
    time_point soonest = never;  // of the latest round: when a host wants to run
    host_state* running = nullptr;
    ring<blocked_awaiter> blocked;  // who waits until no host can run, by moment
    ring<foreign_join> calls;       // who waits for a task of another host
    ring<rule_base> rules;          // oldest first
    std::uint64_t era = 0;          // of partitions: heal_all() begins a new one
    ring<rule_base> ended_rules;    // while rules judge: gone for the user
    std::uint64_t last_rule = 0;    // its number
    std::size_t judging = 0;        // calls of rules in progress
    std::size_t frozen = 0;
    std::uint64_t steps = 0;
    std::uint64_t most_steps = options.step_limit;
    const std::size_t lost_before = permits_lost().count;
    bool began = false;
    bool stopped_early = false;
    std::exception_ptr failure;
    std::string failed_host;
};

// --- hosts ----------------------------------------------------------------------------------------

namespace {

raw_address v4_of(std::uint32_t n) {
    raw_address a;
    a.kind = raw_address::family::v4;
    a.bytes[0] = 10;
    a.bytes[1] = static_cast<std::uint8_t>(n >> 16);
    a.bytes[2] = static_cast<std::uint8_t>(n >> 8);
    a.bytes[3] = static_cast<std::uint8_t>(n);
    return a;
}

raw_address v6_of(std::uint32_t n) {
    raw_address a;
    a.kind = raw_address::family::v6;
    a.bytes[0] = 0xfd;
    a.bytes[14] = static_cast<std::uint8_t>(n >> 8);
    a.bytes[15] = static_cast<std::uint8_t>(n);
    return a;
}

}  // namespace

host_state& world_state::host_named(std::string_view name) {
    for (const auto& h : hosts)
        if (h->name == name) return *h;
    RONDO_ASSERT(hosts.size() < simulated::most_machines, "a world of more than two thousand hosts");
    const auto n = static_cast<std::uint32_t>(hosts.size() + 1);
    hosts.reserve(n);
    runnable.reserve(n);
    hosts.push_back(std::make_unique<host_state>(*this, std::string(name), net.add_machine(v4_of(n), v6_of(n))));
    boot(*hosts.back());
    if (options.slow_hosts && n > 1) make_slow(*hosts.back());
    return *hosts.back();
}

/// Some hosts are slow; the benign ones are not.
void world_state::make_slow(host_state& h) {
    constexpr duration by[] = {duration::zero(), std::chrono::microseconds(100), std::chrono::milliseconds(1),
                               std::chrono::milliseconds(10)};
    if (const auto n = decisions.choose(choice::slow_host, std::size(by)); n != 0) h.face->slow(one_in(30), by[n]);
}

/// A host's loop has a machine of the network for its backend.
class machine_backend final : public backend_factory {
 public:
    machine_backend(oracle& decisions, simulated::machine& of) noexcept : decisions_(decisions), machine_(of) {}
    std::unique_ptr<backend> make(const backend_options& options, std::string& why) override {
        why = "asked for";
        return make_sim(options, {.decisions = &decisions_, .machine = &machine_});
    }

 private:
    oracle& decisions_;
    simulated::machine& machine_;
};

void world_state::boot(host_state& h) {
    machine_backend machine(decisions, h.machine);
    loop_options how;
    how.kind = backend_kind::sim;
    how.factory = &machine;
    how.step_limit = loop_options::no_step_limit;  // steps are counted here
    h.machine.up = true;
    h.loop = std::make_unique<rondo::loop>(how);
    h.began = h.going_down = h.ignore_errors = false;
    h.loop->on_unhandled(
        [](std::exception_ptr error, std::source_location place, void* context) {
            auto& self = *static_cast<host_state*>(context);
            self.of.fail(self, std::move(error), place);
        },
        &h);
    if (options.observer != nullptr) {
        h.observer = options.observer->observer_of(*h.face);
        detail::engine::of(*h.loop).set_observer(h.observer);
    }
    if (options.mode == order::chaos) detail::engine::of(*h.loop).set_any_order();
    tell(world_observer::event::started, &h);
}

void world_state::start(host_state& h, program& p) {
    h.starts = true;
    const std::source_location nowhere;  // a line of the library would tell nothing
    spawn_at(scheduler::of(*h.loop), nowhere, [](program& its) { return its.start(); }, std::ref(p)).discard();
}

void world_state::crash(host_state& h, bool silently, world_observer::event why) {
    RONDO_ASSERT(judging == 0, "a rule judges a packet: it cannot crash a host in the middle of a step");
    if (!h.loop || h.going_down || h.unwinding) return;
    crash_machine(detail::engine::of(*h.loop).io(), silently);
    h.ignore_errors = true;
    tell(why, &h);
    if (h.loop->running()) {
        h.going_down = true;
        detail::engine::of(*h.loop).root().cancel();
    } else {
        unwind(h);
    }
}

void world_state::signal(host_state& h, int number) {
    if (!signal_watch::is_signal(number)) throw io_error(errno_code(EINVAL), "signal a host", std::to_string(number));
    if (!h.loop || h.going_down || h.unwinding) return;
    tell(world_observer::event::signalled, &h);
    if (number != SIGKILL && signal_machine(detail::engine::of(*h.loop).io(), number)) return;
    switch (number) {  // what it does by default
        case SIGCHLD:
        case SIGCONT:
        case SIGURG:
        case SIGWINCH: return;
        case SIGSTOP:
        case SIGTSTP:
        case SIGTTIN:
        case SIGTTOU:
            throw io_error(errno_code(EINVAL), "signal a host", std::to_string(number) + ": it would stop the program");
    }
    crash(h, false);
}

/// A wait of that host for another; null if there is none.
foreign_join* world_state::call_from(const host_state& h) const noexcept {
    foreign_join* found = nullptr;
    calls.for_each([&](foreign_join& call) {
        if (found == nullptr && &call.owner->inside->its_loop.loop() == h.loop.get()) found = &call;
    });
    return found;
}

/// The program of a crashed host ends: its loop turns in a time of its own, in which no other host runs.
void world_state::unwind(host_state& h) {
    while (foreign_join* const call = call_from(h)) call->abandon();
    h.going_down = false;
    h.unwinding = true;
    host_state* const outer = std::exchange(running, &h);
    detail::engine::of(*h.loop).set_observer(nullptr);
    const lost_permits before = permits_lost();
    detail::engine::of(*h.loop).drain_root();
    h.loop.reset();
    permits_lost() = before;  // who is killed gives nothing back
    h.unwinding = false;
    running = outer;
}

void world_state::fail(host_state& h, std::exception_ptr error, std::source_location place) noexcept {
    if (h.ignore_errors || failure) return;
    failure = std::move(error);
    try {
        failed_host = h.name + (place.line() != 0 ? ", the task spawned" + at_place(place) : "");
    } catch (const std::bad_alloc&) {
        failed_host.clear();
    }
}

// --- who runs, and when ---------------------------------------------------------------------------

/// When it wants to run if no packet arrives before, in the world's time: now or earlier, if it can.
time_point host_state::next_run() const noexcept {
    if (!loop) return never;
    if (machine.due_count > 0) return machine.busy_until;
    const time_point wanted = machine.world_time(loop->next_deadline());
    return wanted == never ? never : std::max(wanted, machine.busy_until);
}

/// Each host that can run takes a step, in any order. False: none can.
bool world_state::run_round() {
    net.deliver();
    runnable.clear();
    soonest = never;
    for (const auto& h : hosts) {
        const time_point wanted = h->next_run();
        if (wanted <= net.now()) {
            runnable.push_back(h.get());
        } else {
            soonest = std::min(soonest, wanted);
        }
    }
    if (runnable.empty()) return false;
    while (!runnable.empty() && !failure) {
        const auto n = decisions.choose(choice::host_order, static_cast<std::uint32_t>(runnable.size()));
        host_state& h = *runnable[n];
        runnable.erase(runnable.begin() + n);
        if (h.loop) run(h);  // another one may have crashed it meanwhile
    }
    return true;
}

void world_state::run(host_state& h) {
    running = &h;
    // A server listens before whoever starts it can connect, also on a slow host.
    h.machine.prompt = std::exchange(h.starts, false);
    const std::uint64_t before = detail::engine::of(*h.loop).steps_taken();
    detail::engine::of(*h.loop).limit_steps(
        most_steps - std::min(steps, most_steps));  // also in the middle of a step: a storm of ticks
    try {
        detail::engine::of(*h.loop).step(!std::exchange(h.began, true));
    } catch (...) {
        fail(h, std::current_exception(), {});
    }
    steps += detail::engine::of(*h.loop).steps_taken() - before;
    if (h.loop->stopped()) detail::engine::of(*h.loop).root().cancel();
    running = nullptr;
    if (h.going_down) unwind(h);
    if (!failure && ended_by_caller()) stopped_early = true;
}

/// After a round in which no host could run: wakes who waited for that, or moves the clock. False: nothing
/// can ever happen.
bool world_state::pass_time() {
    const time_point wanted = blocked.empty() ? never : blocked.front().moment;
    if (wanted <= net.now()) {
        blocked_awaiter& first = blocked.pop_front();
        first.owner->inside->its_loop.complete(first, 0);
        return true;
    }
    const time_point next = std::min({wanted, net.next_arrival(), soonest});
    if (next == never || (frozen != 0 && blocked.empty())) return false;
    net.move_to(std::max(next, net.now()));
    return true;
}

/// The clock may move in the middle of a step, but no further than to where another host would be late, or who moves
/// the clock by hand.
time_point world_state::slow_until(const simulated::machine& m, time_point wanted) noexcept {
    if (frozen != 0 || judging != 0) return net.now();
    time_point latest = wanted;
    if (!blocked.empty()) latest = std::min(latest, blocked.front().moment);
    for (const auto& h : hosts)
        if (&h->machine != &m) latest = std::min(latest, h->next_run());
    if (latest > net.now()) tell(world_observer::event::slowed, &host_of(m));
    return latest;
}

void world_state::run_until(bool (*done)(world_state&, void*), void* context) {
    while (!failure && !stopped_early && !done(*this, context)) {
        if (run_round()) {
            if (steps > most_steps) throw livelock_error(livelock_report());
        } else if (!pass_time()) {
            throw deadlock_error(deadlock_report());
        }
    }
}

/// All programs are asked to end, and do, as long as it takes.
void world_state::end() {
    for (const auto& h : hosts)
        if (h->loop) detail::engine::of(*h->loop).root().cancel();
    const auto all_ended = [](world_state& w, void*) {
        return std::all_of(w.hosts.begin(), w.hosts.end(), [](const auto& h) {
            return !h->loop || (detail::engine::of(*h->loop).root().size() == 0 && h->loop->stats().operations == 0);
        });
    };
    try {
        run_until(all_ended, nullptr);
    } catch (const deadlock_error&) {
        throw leak_error("tasks were cancelled at the end of the world and do not end; " + deadlock_report());
    }
    if (failure || stopped_early) return;
    std::string left;
    for (const auto& h : hosts) {
        if (h->machine.open == 0) continue;
        left += "\n  host '" + h->name + "': " + std::to_string(h->machine.open) + " descriptors";
    }
    if (!left.empty()) throw leak_error("left open at the end of the world:" + left);
    left = permits_lost().since(lost_before);
    if (!left.empty()) throw leak_error(left);
}

/// Whatever still runs unwinds, without an effect and in no time. Who has called another host after that one,
/// since the call may look at what its caller has; the scenario last.
void world_state::stop_all() noexcept {
    for (;;) {
        host_state* next = nullptr;
        for (const auto& h : hosts)
            if (h->loop && (next == nullptr || call_from(*h) == nullptr || call_from(*next) != nullptr)) next = h.get();
        if (next == nullptr) return;
        crash(*next, true, world_observer::event::stopped);
    }
}

// --- reports --------------------------------------------------------------------------------------

/// The lines of an await tree but the first, which counts, each below the name of its host.
static std::string indented(std::string_view tree) {
    std::string text;
    tree.remove_prefix(tree.find('\n') + 1);
    while (!tree.empty()) {
        const std::string_view line = tree.substr(0, tree.find('\n'));
        text += "\n    ";
        text += line;
        tree.remove_prefix(line.size() + 1);
    }
    return text;
}

std::string world_state::deadlock_report() {
    std::string text = "deadlock at " + written_time(net.now()) + ": nothing is left that could wake these tasks";
    if (frozen != 0) text += " (time is frozen, and nobody advances it)";
    for (const auto& h : hosts) {
        text += "\n  host '" + h->name + "'" + (h->loop ? "" : " is down");
        if (!h->loop) continue;
        text += indented(await_tree(*h->loop).text());
    }
    return text;
}

/// Lets it go on a little, and counts.
std::string world_state::livelock_report() {
    for (const auto& h : hosts) {
        if (!h->loop) continue;
        const std::initializer_list<observer*> both = {h->observer, &h->counting.emplace()};
        detail::engine::of(*h->loop).set_observer(&h->with_counting.emplace(both));
    }
    most_steps = steps + counted_steps;
    for (int i = 0; i < counted_turns && steps <= most_steps && !failure && (run_round() || pass_time()); ++i) {
    }
    std::vector<step_counts::one> all;
    for (const auto& h : hosts) {
        if (h->counting) h->counting->append_to(all, h->name);
        if (h->loop) detail::engine::of(*h->loop).drop_callbacks();
    }
    return "live-lock: " + std::to_string(options.step_limit) + " steps were taken by " + written_time(net.now()) +
           ", and there is no end" + busiest_of(std::move(all));
}

void world_state::tell(world_observer::event what, const host_state* h) noexcept {
    if (options.observer != nullptr)
        options.observer->on_event(what, h != nullptr ? h->face.get() : nullptr, net.now());
}

// --- packets --------------------------------------------------------------------------------------

packet_info world_state::info(const simulated::packet& p) noexcept {
    return {static_cast<packet_info::kind>(p.what),
            p.last,
            p.attempt,
            p.size,
            p.sending,
            *host_of(p.from()).face,
            *host_of(p.target()).face,
            endpoint(p.source()),
            endpoint(p.destination())};
}

/// The oldest rule that is younger than the one of that number.
rule_base* world_state::rule_after(std::uint64_t number) const noexcept {
    rule_base* at = rules.empty() ? nullptr : &rules.front();
    while (at != nullptr && at->number <= number) at = rules.after(*at);
    return at;
}

verdict world_state::ask(rule_base& r, const packet_info& about) noexcept {
    try {
        return r.judge(about);
    } catch (...) {
        if (!failure) failure = std::current_exception();
    }
    return verdict::pass();
}

/// A rule is the user's code, and may end itself and others, and make new ones: the next one is looked for by its
/// number, and none is freed while one is asked.
simulated::wire_tap::fate world_state::judge(const simulated::packet& p) noexcept {
    fate decided;
    if (rules.empty()) return decided;
    const packet_info about = info(p);
    ++judging;
    for (rule_base* r = rule_after(0); r != nullptr;) {
        const std::uint64_t number = r->number;
        const verdict v = ask(*r, about);
        if (!v.is_pass()) {
            decided.drop = v.is_drop();
            decided.extra = std::max(v.extra(), duration::zero());
            break;
        }
        r = r->number == number && r->linked() ? rules.after(*r) : rule_after(number);
    }
    if (--judging == 0)
        while (!ended_rules.empty()) delete &ended_rules.pop_front();
    return decided;
}

void world_state::end_rule(std::unique_ptr<rule_base> r) noexcept {
    if (r->linked()) r->unlink();
    r->number = 0;
    if (judging != 0) ended_rules.push_back(*r.release());
}

void world_state::on_packet(event what, const simulated::packet& p, time_point when) noexcept {
    if (options.observer != nullptr)
        options.observer->on_packet(static_cast<world_observer::packet>(what), info(p), when);
}

// --- waits ----------------------------------------------------------------------------------------

namespace {
/// The loop of the one who waits is not the one that runs.
void wake_owner_elsewhere(op& o) noexcept { o.owner->inside->its_loop.make_ready(*o.owner); }
}  // namespace

const op_vtable foreign_join::table = {
    &foreign_join::ask,
    [](op& o) noexcept {
        static_cast<foreign_join&>(o).unlink();
        wake_owner_elsewhere(o);
    },
    [](const op& o, char* text, std::size_t size) noexcept {
        std::snprintf(text, size, "task %u of another host",
                      static_cast<unsigned>(static_cast<const foreign_join&>(o).target_.id));
    },
};

foreign_join::foreign_join(world_state& w, fiber& target) noexcept : linked_op(table), world_(w), target_(target) {}

bool foreign_join::start() noexcept {
    if (!world_.running->machine.up) {  // it has crashed, and unwinds
        cancel_fiber(target_);
        owner->waiting = nullptr;
        return false;
    }
    state = armed;
    target_.awaited_by = this;
    world_.calls.push_back(*this);
    if (owner->flags & fiber::cancel_pending) ask(*this);
    return true;
}

void foreign_join::ask(op& o) noexcept {
    auto& self = static_cast<foreign_join&>(o);
    self.was_asked_ = true;
    cancel_fiber(self.target_);
}

void foreign_join::abandon() noexcept {
    target_.awaited_by = nullptr;
    cancel_fiber(target_);
    owner->inside->its_loop.complete(*this, -ECANCELED);
}

const op_vtable blocked_awaiter::table = {
    [](op& o) noexcept {
        static_cast<blocked_awaiter&>(o).unlink();
        o.owner->inside->its_loop.complete(o, -ECANCELED);
    },
    &wake_owner_elsewhere,
    [](const op& o, char* text, std::size_t size) noexcept {
        std::snprintf(text, size, "the moment at which no host can run, at %s or later",
                      written_time(static_cast<const blocked_awaiter&>(o).moment).c_str());
    },
};

blocked_awaiter::blocked_awaiter(world_state& w, time_point not_before) noexcept
    : linked_op(table), moment(not_before), world_(w) {}

void blocked_awaiter::start() noexcept {
    state = armed;
    if (!world_.running->machine.up) {  // it has crashed, and unwinds: the world goes on without it
        return owner->inside->its_loop.complete(*this, -ECANCELED);
    }
    world_.blocked.insert_ordered(*this, [&](const blocked_awaiter& other) { return other.moment <= moment; });
}

}  // namespace detail

// --- the public face ------------------------------------------------------------------------------

using detail::host_state;
using detail::world_state;

const std::string& host::name() const noexcept { return state_->name; }
ip_address host::address() const noexcept { return endpoint(state_->machine.v4).address(); }
ip_address host::address_v6() const noexcept { return endpoint(state_->machine.v6).address(); }
bool host::up() const noexcept { return state_->loop != nullptr && !state_->going_down && !state_->unwinding; }
std::size_t host::descriptors() const noexcept { return state_->machine.open; }
std::size_t host::tasks() const noexcept { return state_->loop ? state_->loop->stats().tasks : 0; }

time_point host::now() const noexcept { return std::max(state_->of.net.now(), state_->machine.busy_until); }

rondo::loop& host::loop() const noexcept {
    RONDO_ASSERT(state_->loop != nullptr, "a host that is down has no loop");
    return *state_->loop;
}

host& host::add(std::unique_ptr<detail::program> p) {
    state_->programs.push_back(std::move(p));
    if (state_->loop) state_->of.start(*state_, *state_->programs.back());
    return *this;
}

void host::crash(crash_mode how) { state_->of.crash(*state_, how == crash_mode::silent); }

void host::signal(int number) { state_->of.signal(*state_, number); }

void host::restart() {
    RONDO_ASSERT(!state_->going_down, "a host that crashes itself is restarted by another one");
    if (state_->loop) return;
    state_->of.boot(*state_);
    for (const auto& p : state_->programs) state_->of.start(*state_, *p);
}

host& host::descriptor_limit(std::size_t most) noexcept {
    state_->machine.descriptor_limit = most;
    return *this;
}
host& host::lack_descriptors(chance c) noexcept {
    state_->machine.lacks.descriptors = c.per_million;
    return *this;
}
host& host::lack_buffers(chance c) noexcept {
    state_->machine.lacks.buffers = c.per_million;
    return *this;
}
host& host::lack_memory(chance c) noexcept {
    state_->machine.lacks.memory = c.per_million;
    return *this;
}
host& host::abort_connections(chance c) noexcept {
    state_->machine.lacks.aborted = c.per_million;
    return *this;
}

host& host::slow(chance c, delay by) noexcept {
    state_->machine.slow = c.per_million;
    state_->machine.slow_by = by.value();
    return *this;
}

host& host::clock_drift(std::int32_t parts_per_million) noexcept {
    simulated::machine& m = state_->machine;
    const time_point local = m.local_time();
    m.drift_since = std::max(m.of.now(), m.busy_until);
    m.drift_since_local = local;
    m.drift = std::clamp(parts_per_million, -500'000, 500'000);
    return *this;
}

host& host::clock_offset(duration ahead) noexcept {
    state_->machine.of.set_wall_offset(state_->machine, ahead);
    return *this;
}

template <class F>
link_settings& link_settings::set(F&& f) noexcept {
    f(one_);
    if (other_ != nullptr) f(*other_);
    return *this;
}
link_settings& link_settings::latency(delay least, delay most) noexcept {
    return set([&](simulated::link& l) {
        l.latency_min = std::max(least.value(), duration(1));
        l.latency_max = std::max(most.value(), l.latency_min);
    });
}
link_settings& link_settings::loss(chance c) noexcept {
    return set([&](simulated::link& l) { l.loss = c.per_million; });
}
link_settings& link_settings::duplication(chance c) noexcept {
    return set([&](simulated::link& l) { l.copies = c.per_million; });
}
link_settings& link_settings::reordering(chance c) noexcept {
    return set([&](simulated::link& l) { l.held_up = c.per_million; });
}
link_settings& link_settings::bandwidth(std::uint64_t bytes_per_second) noexcept {
    return set([&](simulated::link& l) { l.bytes_per_second = bytes_per_second; });
}
link_settings& link_settings::packet_size(std::uint32_t bytes) noexcept {
    return set([&](simulated::link& l) { l.packet_size = std::max(bytes, 1u); });
}

partition_guard::partition_guard(world_state& w, std::vector<simulated::link*> cut) noexcept
    : world_(&w), cut_(std::move(cut)), era_(w.era) {
    for (simulated::link* l : cut_) ++l->cuts;
    w.net.watch_peers();
    w.tell(world_observer::event::cut, nullptr);
}

void partition_guard::heal() noexcept {
    world_state* const w = std::exchange(world_, nullptr);
    if (w == nullptr || w->era != era_) return;  // heal_all() was faster
    for (simulated::link* l : cut_) --l->cuts;
    w->tell(world_observer::event::healed, nullptr);
}

packet_rule::~packet_rule() {
    if (!rule_) return;
    world_state& w = *rule_->of;
    w.end_rule(std::move(rule_));
}

frozen_time::frozen_time(world_state& w) noexcept : world_(&w) { ++w.frozen; }
frozen_time::~frozen_time() {
    if (world_ != nullptr) --world_->frozen;
}

world::world(const world_options& options) : state_(std::make_unique<world_state>(options)) { host("test"); }
world::~world() = default;

host& world::host(std::string_view name) { return *state_->host_named(name).face; }

link_settings world::link(std::string_view a, std::string_view b) {
    auto& one = state_->host_named(a).machine;
    auto& other = state_->host_named(b).machine;
    return {state_->net.link_between(one, other), &state_->net.link_between(other, one)};
}

link_settings world::link_from(std::string_view from, std::string_view to) {
    auto& one = state_->host_named(from).machine;
    return {state_->net.link_between(one, state_->host_named(to).machine), nullptr};
}

partition_guard world::cut(names a, names b, bool both) {
    for (const std::string_view name : a) host(name);
    for (const std::string_view name : b) host(name);
    std::vector<simulated::link*> links;
    for (const std::string_view from : a) {
        for (const std::string_view to : b) {
            auto& one = state_->host_named(from).machine;
            auto& other = state_->host_named(to).machine;
            links.push_back(&state_->net.link_between(one, other));
            if (both) links.push_back(&state_->net.link_between(other, one));
        }
    }
    return partition_guard(*state_, std::move(links));
}

packet_rule world::add(std::unique_ptr<detail::rule_base> rule) {
    rule->of = state_.get();
    rule->number = ++state_->last_rule;
    state_->rules.push_back(*rule);
    return packet_rule(std::move(rule));
}

void world::heal_all() noexcept {
    ++state_->era;
    while (!state_->rules.empty()) state_->rules.pop_front();
    state_->net.for_each_link([](simulated::link& l) { l.cuts = l.loss = l.copies = l.held_up = 0; });
    state_->tell(world_observer::event::healed, nullptr);
}

time_point world::now() const noexcept { return state_->net.now(); }
bool world::ended_early() const noexcept { return state_->stopped_early; }
const std::string& world::failed_host() const noexcept { return state_->failed_host; }
std::uint32_t world::choose(std::uint32_t alternatives) noexcept {
    return state_->decisions.choose(choice::scenario, alternatives);
}
std::uint64_t world::hash() const noexcept { return state_->net.hash(); }
std::uint64_t world::steps() const noexcept { return state_->steps; }

rondo::loop& world::test_loop() {
    RONDO_ASSERT(!std::exchange(state_->began, true), "a world runs once");
    RONDO_ASSERT(detail::current == nullptr, "a world is not run from inside a loop");
    return state_->hosts.front()->face->loop();
}

void world::run_to_end(detail::fiber& main) {
    world_state& w = *state_;
    const auto ended = [](world_state&, void* f) {
        return (static_cast<detail::fiber*>(f)->flags & detail::fiber::ended) != 0;
    };
    try {
        w.run_until(ended, &main);
        // An error of the scenario ends the world at once, as any other does.
        if ((main.flags & detail::fiber::has_error) == 0) w.end();
    } catch (...) {
        w.stop_all();
        throw;
    }
    w.stop_all();
    if (w.failure) std::rethrow_exception(w.failure);
}

}  // namespace rondo
