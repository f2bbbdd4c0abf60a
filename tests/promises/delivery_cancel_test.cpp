// Whatever a phase delivers may cancel whatever a task can be waiting in: all of the one with all of the other.
//
// A deadline around a group with children that waited for their turn once crashed: the short way in which a phase
// delivers a completion knew nothing of what a cancel may queue. So here is the product: how the cancel comes, and
// from which phase, with what it meets; with an observer and without, since that is another way through the loop.
#include "support/net.hpp"

#include <rondo/actor/actor.hpp>
#include <rondo/actor/supervisor.hpp>
#include <rondo/channel/watch.hpp>
#include <rondo/observe/observers.hpp>

#include <algorithm>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

/// One case: what it says of itself, and how it is cancelled.
struct cell {
    cancel_scope* scope = nullptr;  // around what is to be cancelled
    task_handle<>* whole = nullptr;  // the task that this is
    bool by_handle = false;
    std::function<void()> before;    // just before the cancel, in the same step
    event in_place;                  // it waits, or does so in a moment
    event acted;
    event go_on;                     // for what is shielded
    std::vector<std::string> said;
    phase seen_in = phase::none;
    int alive = 0;

    void say(std::string what) { said.push_back(std::move(what)); }
    void act() {
        seen_in = this_loop().current_phase();
        if (before) std::exchange(before, nullptr)();
        by_handle ? whole->cancel() : scope->cancel();
        acted.set();
    }
    /// In any order: ready tasks may run in any.
    std::string text() {
        std::sort(said.begin(), said.end());
        std::string all;
        for (const std::string& one : said) all += (all.empty() ? "" : " ") + one;
        return all;
    }
};

struct counted {
    explicit counted(cell& c) : of(&c) { ++c.alive; }
    counted(counted&& other) noexcept : of(std::exchange(other.of, nullptr)) {}
    ~counted() {
        if (of != nullptr) --of->alive;
    }
    cell* of;
};

// --- what can be waiting -----------------------------------------------------------------------------------

/// Says how a wait ends: "name", or "name cancelled".
template <class Wait>
task<> says(cell& c, const char* name, Wait wait) {
    std::string how;
    try {
        static_cast<void>(co_await std::move(wait));
    } catch (const cancelled&) {
        how = " cancelled";
    }
    c.say(name + how);
    if (!how.empty()) throw cancelled{};
}
/// The same of a wait that is made here.
template <class Make>
task<> says_of(cell& c, const char* name, Make make) {
    std::string how;
    try {
        static_cast<void>(co_await make());
    } catch (const cancelled&) {
        how = " cancelled";
    }
    c.say(name + how);
    if (!how.empty()) throw cancelled{};
}

task<> child(counted c, const char* name) { return says(*c.of, name, sleep_for(1h)); }
auto child_of(cell& c, const char* name) {
    return [held = counted(c), name]() mutable { return child(std::move(held), name); };
}

struct victim {
    const char* name;
    task<> (*run)(cell&);
    const char* says;
};

task<> sleeps(cell& c) {
    c.in_place.set();
    co_await says(c, "sleep", sleep_for(1h));
}
/// From queue to queue; and now and then time has to pass.
task<> goes_round(cell& c) {
    c.in_place.set();
    for (;;) {
        for (int i = 0; i < 5; ++i) {
            co_await yield();
            co_await immediate();
        }
        co_await sleep_for(1ms);
    }
}
task<> deep_in_scopes(cell& c, int depth) {
    if (depth == 0) {
        co_await sleeps(c);
        co_return;
    }
    auto body = [&](task_group& g) -> task<> {
        g.spawn(child_of(c, "child")).discard();
        auto inner = [&]() -> task<> { return deep_in_scopes(c, depth - 1); };
        co_await with_timeout(1h, inner);
    };
    co_await with_task_group(body);
}
task<> three_deep(cell& c) { return deep_in_scopes(c, 3); }

template <std::size_t Children, std::size_t Limit>
task<> children(cell& c) {
    auto body = [&](task_group& g) -> task<> {
        for (std::size_t i = 0; i < Children; ++i) g.spawn(child_of(c, "child")).discard();
        c.in_place.set();
        co_return;
    };
    co_await with_task_group(body, {.max_running = Limit});
}
template <std::size_t Limit>
task<> supervised_children(cell& c) {
    auto body = [&](supervisor_group& g) -> task<> {
        for (int i = 0; i < 3; ++i) g.spawn(child_of(c, "child")).discard();
        c.in_place.set();
        co_await says(c, "body", sleep_for(1h));
    };
    co_await with_supervisor_group(body, {.max_running = Limit});
}
task<> limited_in_timeout(cell& c) {
    auto inner = [&]() -> task<> { return children<3, 1>(c); };
    co_await with_timeout(1h, inner);
}
task<> background_child(cell& c) {
    auto body = [&](task_group& g) -> task<> {
        g.spawn_background(child_of(c, "background")).discard();
        c.in_place.set();
        co_await says(c, "body", sleep_for(1h));
    };
    co_await with_task_group(body);
}
/// Spawned in the step that cancels: it never runs.
task<> unborn_child(cell& c) {
    auto body = [&](task_group& g) -> task<> {
        c.before = [&] { g.spawn(child_of(c, "child")).discard(); };
        c.in_place.set();
        co_await says(c, "body", sleep_for(1h));
    };
    co_await with_task_group(body);
}
/// Its wait has ended in the step that cancels: it goes on with that, and the cancel meets the next.
task<> woken_child(cell& c) {
    event happens;
    c.before = [&] { happens.set(); };
    c.in_place.set();
    co_await says(c, "event", happens.wait());
    co_await says(c, "next", sleep_for(1h));
}
task<> starting_child(started<> ready, counted c) {
    co_await says(*c.of, "start", sleep_for(1h));
    ready.set();
}
task<> starts(cell& c) {
    auto body = [&](task_group& g) -> task<> {
        auto fn = [&](started<> ready) { return starting_child(std::move(ready), counted(c)); };
        c.in_place.set();
        co_await says_of(c, "caller", [&] { return g.start(fn); });
    };
    co_await with_task_group(body);
}
task<> starts_in_starts(cell& c) {
    auto body = [&](task_group& g) -> task<> {
        auto outer = [&](started<> ready) -> task<> {
            auto inner = [&](started<> also) { return starting_child(std::move(also), counted(c)); };
            co_await says_of(c, "inner", [&] { return g.start(inner); });
            ready.set();
        };
        c.in_place.set();
        co_await says_of(c, "outer", [&] { return g.start(outer); });
    };
    co_await with_task_group(body);
}
task<> starts_in_turn(cell& c) {
    auto body = [&](task_group& g) -> task<> {
        g.spawn(child_of(c, "first")).discard();
        auto fn = [&](started<> ready) { return starting_child(std::move(ready), counted(c)); };
        c.in_place.set();
        co_await says_of(c, "caller", [&] { return g.start(fn); });
    };
    co_await with_task_group(body, {.max_running = 1});
}
task<> shielded(cell& c) {
    auto inside = [&]() -> task<> { return says(c, "shielded", c.go_on.wait()); };
    auto body = [&](task_group& g) -> task<> {
        g.spawn([&]() -> task<> {
             c.in_place.set();
             co_await shield(inside);
             co_await says(c, "next", sleep_for(1h));
         }).discard();
        co_return;
    };
    co_await with_task_group(body);
}
task<> cleans_up(cell& c) {
    auto body = [&]() -> task<> {
        c.in_place.set();
        return says(c, "body", sleep_for(1h));
    };
    auto cleanup = [&]() -> task<> { return says(c, "cleanup", c.go_on.wait()); };
    co_await with_cleanup(body, cleanup, 1h);
}
async_generator<int> numbers(cell& c) {
    co_yield 1;
    co_await says(c, "generator", sleep_for(1h));
    co_yield 2;
}
task<> asks_a_generator(cell& c) {
    auto all = numbers(c);
    static_cast<void>(co_await all.next());
    c.in_place.set();
    co_await says_of(c, "asks", [&] { return all.next(); });
}
task<> selects(cell& c) {
    channel<int> values;
    semaphore permits(0);
    event happens;
    c.in_place.set();
    co_await says(c, "select", select_one(values.receive(), permits.acquire(), happens.wait(), sleep_for(1h)));
    CHECK(values.waiting_receivers() + permits.waiting() + happens.waiting() == 0);
}
/// One arm has completed in the step that cancels: that is what it gives.
task<> selects_what_is_there(cell& c) {
    channel<int> values;
    semaphore permits(0);
    c.before = [&] { permits.release(); };
    c.in_place.set();
    std::size_t index = 9;
    {
        const auto got = co_await select_one(values.receive(), permits.acquire(), sleep_for(1h));
        index = got.index();
    }
    c.say(index == 1 ? "permit" : "another arm");
    CHECK(permits.available() == 1);
    co_await says(c, "next", sleep_for(1h));
}
task<> waits_for_go_on(cell& c) {
    co_await c.go_on.wait();
    c.say("other");
}
task<> joins(cell& c) {
    auto other = spawn(waits_for_go_on, std::ref(c));
    c.in_place.set();
    std::exception_ptr end;
    try {
        co_await other;
    } catch (const cancelled&) {
        end = std::current_exception();
    }
    c.say(end ? "join cancelled" : "join");
    auto rest = [&]() -> task<> { co_await other; };
    co_await shield(rest);
    if (end) std::rethrow_exception(end);
}
task<> in_back_off(cell& c) {
    auto fails = [](cell* of) -> task<> {
        of->in_place.set();
        throw std::runtime_error("again");
        co_return;
    };
    auto body = [&](supervisor& s) -> task<> {
        const child_options options{.backoff_min = 1h, .backoff_max = 1h};
        static_cast<void>(co_await s.start(options, fails, &c));
        co_await says(c, "body", sleep_for(1h));
    };
    co_await with_supervisor(body);
}
task<> supervised_child(cell& c) {
    auto works = [](cell* of) -> task<> {
        of->in_place.set();
        return says(*of, "child", sleep_for(1h));
    };
    auto body = [&](supervisor& s) -> task<> {
        static_cast<void>(co_await s.start({}, works, &c));
        co_await says(c, "body", sleep_for(1h));
    };
    co_await with_supervisor(body);
}
struct question : request<int> {};
/// An actor that waits for mail, and one who waits for an answer.
task<> asks_an_actor(cell& c) {
    auto body = [&](task_group& g) -> task<> {
        auto never_answers = [&](mailbox<question>& mail) -> task<> {
            auto first = co_await mail.receive();
            c.in_place.set();
            co_await says_of(c, "actor", [&] { return mail.receive(); });
            static_cast<void>(first);
        };
        auto who = spawn_actor(actor_options{.in = &g}, never_answers);
        co_await says_of(c, "asks", [&] { return who.ask<question>(); });
    };
    co_await with_task_group(body);
}
/// It was notified before the cancel came, or in the same step, and waits for the mutex: that is shielded.
template <bool Notified>
task<> locks_again(cell& c) {
    mutex lock;
    condition changed;
    auto holds = [&](started<> ready) -> task<> {
        const auto guard = co_await lock.lock();
        ready.set();
        auto stays = [&]() -> task<> { co_await c.go_on.wait(); };
        co_await shield(stays);
    };
    auto body = [&](task_group& g) -> task<> {
        auto guard = co_await lock.lock();
        auto other = [&]() -> task<> {
            co_await g.start(holds);
            if (Notified) {
                changed.notify_one();
            } else {
                c.before = [&] { changed.notify_one(); };
            }
            c.in_place.set();
        };
        g.spawn(other).discard();
        co_await says(c, "condition", changed.wait(guard));
        co_await says(c, "next", sleep_for(1h));
    };
    co_await with_task_group(body);
    CHECK_FALSE(lock.locked());
}
task<> waits_for_condition(cell& c) {
    mutex lock;
    condition changed;
    auto guard = co_await lock.lock();
    c.in_place.set();
    co_await says(c, "condition", changed.wait(guard));
}
task<> combines(cell& c) {
    auto of_all = [&] { return child(counted(c), "all"); };
    auto of_any = [&] { return child(counted(c), "any"); };
    auto of_race = [&] { return child(counted(c), "race"); };
    auto all = [&]() -> task<> { co_await when_all(of_all, of_all); };
    auto any = [&]() -> task<> { static_cast<void>(co_await when_any(of_any, of_any)); };
    auto first = [&]() -> task<> { co_await race(of_race, of_race); };
    auto mapped = [&]() -> task<> {
        const int items[] = {1, 2, 3};
        auto each = [&](int) { return child(counted(c), "map"); };
        co_await map_concurrent(items, 2, each);
    };
    c.in_place.set();
    co_await when_all(all, any, first, mapped);
}

// The plain waits for other tasks.
task<> waits_for_everything(cell& c) {
    channel<int> full(0), empty(0);
    queue<int> taken(1);
    semaphore permits(0);
    event happens;
    auto_event once_happens;
    latch counts(1);
    barrier meets(2);
    watch<int> changes(0);
    auto reader = changes.reader();
    broadcast<int> says_it(1);
    auto listens = says_it.subscribe();
    oneshot<int> answer;
    mutex lock;
    shared_mutex shared;
    auto holds = [&](started<> ready) -> task<> {
        const auto guard = co_await lock.lock();
        const auto other = co_await shared.lock();
        ready.set();
        co_await says(c, "holds", sleep_for(1h));
    };
    auto body = [&](task_group& g) -> task<> {
        co_await g.start(holds);
        const auto add = [&]<class Make>(Make make) {
            g.spawn([&c, make] { return says_of(c, "wait", make); }).discard();
        };
        add([&] { return full.emplace(1); });
        add([&] { return empty.receive(); });
        add([&] { return taken.get(); });
        add([&] { return permits.acquire(); });
        add([&] { return happens.wait(); });
        add([&] { return once_happens.wait(); });
        add([&] { return counts.wait(); });
        add([&] { return meets.arrive_and_wait(); });
        add([&] { return reader.changed(); });
        add([&] { return listens.receive(); });
        add([&] { return lock.lock(); });
        add([&] { return shared.lock(); });
        add([&] { return shared.lock_shared(); });
        c.in_place.set();
    };
    co_await with_task_group(body);
    CHECK(full.waiting_senders() + empty.waiting_receivers() + permits.waiting() + lock.waiting() == 0);
}

// Streams: afterwards they are as if the wait had never begun.
task<> on_streams(cell& c) {
    auto listener = test::listen();
    auto idle = test::listen();
    auto pair = co_await test::connect_to(listener);
    auto other = co_await test::connect_to(listener);
    std::byte some[8];
    std::byte more[8];
    auto body = [&](task_group& g) -> task<> {
        g.spawn([&] { return says_of(c, "read", [&] { return pair.client.read_some(some); }); }).discard();
        g.spawn([&] { return says_of(c, "exactly", [&] { return pair.server.read_exactly(more); }); }).discard();
        g.spawn([&] { return says_of(c, "receive", [&] { return other.client.receive(); }); }).discard();
        g.spawn([&] { return says_of(c, "accept", [&] { return idle.accept(); }); }).discard();
        c.in_place.set();
        co_return;
    };
    std::exception_ptr end;
    try {
        co_await with_task_group(body);
    } catch (const cancelled&) {
        end = std::current_exception();
    }
    auto afterwards = [&]() -> task<> {
        co_await pair.server.write_all("1");
        const std::size_t n = co_await pair.client.read_some(some);
        CHECK(n == 1);
        co_await other.server.write_all("2");
        const auto got = co_await other.client.receive();
        CHECK(got.text() == "2");
        auto last = co_await test::connect_to(idle);
        co_await last.client.close();
        co_await last.server.close();
        co_await pair.client.close();
        co_await pair.server.close();
        co_await other.client.close();
        co_await other.server.close();
        co_await listener.close();
        co_await idle.close();
    };
    co_await shield(afterwards);
    if (end) std::rethrow_exception(end);
}
task<> writes(cell& c) {
    auto pair = co_await test::connected();
    test::keep_small(pair);
    const test::bytes much(4 << 20);
    c.in_place.set();
    co_await says_of(c, "write", [&] { return pair.client.write_all(much); });
}

constexpr victim victims[] = {
    {"a sleep", sleeps, "sleep cancelled"},
    {"a place in one queue after the other", goes_round, ""},
    {"scopes in scopes", three_deep, "child cancelled child cancelled child cancelled sleep cancelled"},
    {"a child", children<1, 9>, "child cancelled"},
    {"children", children<3, 9>, "child cancelled child cancelled child cancelled"},
    {"children that wait for their turn", children<4, 1>, "child cancelled"},
    {"two of them running", children<4, 2>, "child cancelled child cancelled"},
    {"children of a supervisor group", supervised_children<9>,
     "body cancelled child cancelled child cancelled child cancelled"},
    {"those that wait for their turn", supervised_children<1>, "body cancelled child cancelled"},
    {"the same in a timeout", limited_in_timeout, "child cancelled"},
    {"a background child", background_child, "background cancelled body cancelled"},
    {"a child that has not begun", unborn_child, "body cancelled"},
    {"a task that has just been woken", woken_child, "event next cancelled"},
    {"a start", starts, "caller cancelled start cancelled"},
    {"a start in a start", starts_in_starts, "inner cancelled outer cancelled start cancelled"},
    {"a start that waits for its turn", starts_in_turn, "caller cancelled first cancelled"},
    {"a shielded child", shielded, "next cancelled shielded"},
    {"a cleanup", cleans_up, "body cancelled cleanup"},
    {"a generator", asks_a_generator, "asks cancelled generator cancelled"},
    {"a select", selects, "select cancelled"},
    {"a select that has one", selects_what_is_there, "next cancelled permit"},
    {"a join", joins, "join cancelled other"},
    {"a supervisor's child in back-off", in_back_off, "body cancelled"},
    {"a supervisor's child", supervised_child, "body cancelled child cancelled"},
    {"an actor", asks_an_actor, "actor cancelled asks cancelled"},
    {"a condition", waits_for_condition, "condition cancelled"},
    {"a condition's lock", locks_again<true>, "condition next cancelled"},
    {"a condition notified just now", locks_again<false>, "condition next cancelled"},
    {"combinators", combines,
     "all cancelled all cancelled any cancelled any cancelled map cancelled map cancelled race cancelled race "
     "cancelled"},
    {"every wait for other tasks", waits_for_everything,
     "holds cancelled wait cancelled wait cancelled wait cancelled wait cancelled wait cancelled wait cancelled wait "
     "cancelled wait cancelled wait cancelled wait cancelled wait cancelled wait cancelled wait cancelled"},
    {"streams", on_streams, "accept cancelled exactly cancelled read cancelled receive cancelled"},
    {"a writer", writes, "write cancelled"},
};

// --- how the cancel comes ------------------------------------------------------------------------------------

struct delivery {
    const char* name;
    task<> (*run)(cell&);
    phase in;  // none: any
};

task<> from_timer(cell& c) {
    this_loop().set_timeout(1us, [&c] { c.act(); });
    co_return;
}
task<> from_sleeper(cell& c) {
    co_await sleep_for(1us);
    c.act();
}
task<> waits_for_ever() { co_await sleep_for(1h); }
/// The scope's own; it comes alone, so that with anything before it in the same step it has passed already. Or
/// that of a scope around the task that cancels.
task<> from_deadline(cell& c) {
    if (c.by_handle) {
        static_cast<void>(co_await move_on_after(1us, waits_for_ever));
        co_return c.act();
    }
    c.seen_in = phase::timers;
    if (c.before) {
        std::exchange(c.before, nullptr)();
        c.scope->set_deadline(now());
    } else {
        c.scope->set_deadline(now() + 1us);
        co_await sleep_for(2us);  // its deadline comes first
    }
    c.acted.set();
}
task<> from_select(cell& c) {
    event never_set;
    static_cast<void>(co_await select_one(sleep_for(1us), never_set.wait()));
    c.act();
}
task<> from_immediate(cell& c) {
    this_loop().set_immediate([&c] { c.act(); });
    co_return;
}
task<> from_check(cell& c) {
    co_await immediate();
    c.act();
}
task<> from_post(cell& c) {
    static_cast<void>(this_loop().remote().post([&c] { c.act(); }));
    co_return;
}
task<> from_tick(cell& c) {
    this_loop().next_tick([&c] { c.act(); });
    co_return;
}
task<> from_microtask(cell& c) {
    this_loop().queue_microtask([&c] { c.act(); });
    co_return;
}
task<> from_close(cell& c) {
    this_loop().queue_close([&c] { c.act(); });
    co_return;
}
template <class Watch>
task<> from_watcher(cell& c, Watch watch_with) {
    watcher w = watch_with([&c, acted = false]() mutable {
        if (!std::exchange(acted, true)) c.act();
    });
    while (!c.acted.is_set()) co_await immediate();  // a watcher alone keeps no loop turning
    w.cancel();
}
task<> from_idle(cell& c) {
    return from_watcher(c, [](auto f) { return this_loop().on_idle(std::move(f)); });
}
task<> from_prepare(cell& c) {
    return from_watcher(c, [](auto f) { return this_loop().on_prepare(std::move(f)); });
}
task<> from_check_watcher(cell& c) {
    return from_watcher(c, [](auto f) { return this_loop().on_check(std::move(f)); });
}
task<> from_first_step(cell& c) {
    auto acts = [&c]() -> task<> {
        c.act();
        co_return;
    };
    co_await spawn(acts);
}
task<> from_woken_task(cell& c) {
    semaphore permits(0);
    auto gives = [&]() -> task<> {
        permits.release();
        co_return;
    };
    auto giver = spawn(gives);
    {
        const auto permit = co_await permits.acquire();
        c.act();
    }
    co_await giver;
}
task<> from_join(cell& c) {
    co_await spawn([]() -> task<> { co_await yield(); });
    c.act();
}
task<> from_read(cell& c) {
    auto pair = co_await test::connected();
    auto later = [&]() -> task<> {
        co_await immediate();
        co_await pair.server.write_all("x");
    };
    auto writer = spawn(later);
    std::byte one[1];
    static_cast<void>(co_await pair.client.read_some(one));
    c.act();
    co_await writer;
}
/// Operations that are over at once go round by the pending phase when there are many (where they are at all).
task<> from_put_off(cell& c) {
    auto pair = co_await test::connected();
    std::byte one[1];
    for (int i = 0; i < 200 && this_loop().stats().put_off == 0; ++i) {
        co_await pair.server.write_all("x");
        static_cast<void>(co_await pair.client.read_some(one));
    }
    const auto before = this_loop().stats().put_off;
    for (int i = 0; i < 200 && this_loop().stats().put_off == before; ++i) {
        co_await pair.server.write_all("x");
        if (this_loop().stats().put_off != before) break;
        static_cast<void>(co_await pair.client.read_some(one));
    }
    c.act();
}

constexpr delivery deliveries[] = {
    {"a timer", from_timer, phase::timers},
    {"a sleeping task", from_sleeper, phase::timers},
    {"a deadline", from_deadline, phase::timers},
    {"an arm of a select", from_select, phase::timers},
    {"an immediate", from_immediate, phase::check},
    {"a task in the check phase", from_check, phase::check},
    {"a post", from_post, phase::pending},
    {"a tick", from_tick, phase::none},
    {"a microtask", from_microtask, phase::none},
    {"a close callback", from_close, phase::close},
    {"an idle watcher", from_idle, phase::idle},
    {"a prepare watcher", from_prepare, phase::prepare},
    {"a check watcher", from_check_watcher, phase::check},
    {"a first step", from_first_step, phase::none},
    {"a task that another woke", from_woken_task, phase::none},
    {"a join", from_join, phase::none},
    {"a read", from_read, phase::none},
    {"a put-off operation", from_put_off, phase::none},
};

task<> cancelled_by(const delivery& how, const victim& what, bool by_handle) {
    cell c;
    c.by_handle = by_handle;
    bool cut_short = false;
    auto whole = [&]() -> task<> {
        auto body = [&](cancel_scope& s) -> task<> {
            c.scope = &s;
            return what.run(c);
        };
        const bool done = co_await with_cancel_scope(body);
        cut_short = !done;
    };
    task_handle<> running = spawn(whole);
    c.whole = &running;
    co_await c.in_place.wait();
    for (int i = 0; i < 4; ++i) co_await immediate();
    co_await how.run(c);
    co_await c.acted.wait();
    co_await immediate();
    c.go_on.set();
    const auto end = co_await attempt(running);
    const std::string which =
        std::string(what.name) + ", cancelled by " + how.name + (by_handle ? ", by its handle" : "");
    CAPTURE(which);
    CHECK(c.text() == std::string(what.says));
    CHECK(cut_short == !by_handle);
    CHECK(end.has_value() == !by_handle);
    CHECK(c.alive == 0);
    if (how.in != phase::none) CHECK(c.seen_in == how.in);
}

task<> all_of(const delivery& how) {
    for (const victim& what : victims) {
        co_await cancelled_by(how, what, false);
        co_await cancelled_by(how, what, true);
    }
}

TEST_CASE("cancel: from each phase, it ends whatever a task can be waiting in, and as documented") {
    for (const delivery& how : deliveries) test::run(all_of, how);
}

TEST_CASE("cancel: the same under an observer") {
    observers nobody{};
    loop_options options;
    options.observer = &nobody;
    for (const delivery& how : deliveries) run(options, all_of, how);
}

}  // namespace
