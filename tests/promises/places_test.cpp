// What a program waits for is told by its own lines and the names that it has given: in an await tree no line of the
// library stands, whatever waits.
#include "support/test.hpp"

#include <rondo/actor/supervisor.hpp>
#include <rondo/net/serve.hpp>
#include <rondo/os/signal.hpp>
#include <rondo/io/buffered_reader.hpp>
#include <rondo/io/relay.hpp>

#include <csignal>
#include <memory>
#include <variant>
#include <vector>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

task<> sleeps() { co_await sleep_for(1h); }
task<int> sleeps_long() {
    co_await sleep_for(1h);
    co_return 1;
}

/// What is waited for has to live as long as the tasks.
struct objects {
    channel<int> full{1, "orders"};
    channel<int> meeting{0, "meeting"};
    channel<int> unnamed{1};
    broadcast<int> news{1, when_slow::wait, "news"};
    watch<int> level{0, "level"};
    oneshot<int> reply{"reply"};
    oneshot<int> wanted{"wanted"};
    queue<int> jobs{1, "jobs"};
    priority_queue<int> ranked{1, detail::smaller(), "ranked"};
    thread_channel<int> results{1, "results"};
    keyed_rate_limiter<int> per_client{{.per = 1h}, "per client"};
    rate_limiter limit{{.per = 1h}, "limit"};
    semaphore slots{0, "slots"};
    mutex lock{"lock"};
    shared_mutex table{"table"};
    condition changed{"changed"};
    event stopped{"stopped"};
    auto_event tick{"tick"};
    latch ready{1, "ready"};
    barrier round{2, "round"};
    once loaded{"loaded"};
};

void channels(task_group& group, objects& o) {
    o.full.try_send(1).value();
    group.spawn([&o]() -> task<> { co_await o.full.send(2); });
    group.spawn([&o]() -> task<> { static_cast<void>(co_await o.meeting.receive()); });
    group.spawn([&o]() -> task<> { static_cast<void>(co_await o.unnamed.receive()); });
    group.spawn([&o]() -> task<> {
        auto slow = o.news.subscribe();
        co_await o.news.send(1);
        co_await o.news.send(2);
    });
    group.spawn([&o]() -> task<> {
        auto reader = o.level.reader();
        co_await reader.changed();
    });
    group.spawn([&o]() -> task<> { static_cast<void>(co_await o.reply.receiver.receive()); });
    group.spawn([&o]() -> task<> { co_await o.wanted.sender.unwanted(); });
    group.spawn([&o]() -> task<> {
        co_await o.jobs.put(1);
        co_await o.jobs.put(2);
    });
    group.spawn([&o]() -> task<> { co_await o.jobs.join(); });
    group.spawn([&o]() -> task<> { static_cast<void>(co_await o.ranked.get()); });
    group.spawn([&o]() -> task<> { static_cast<void>(co_await o.results.receive()); });
}

void locks(task_group& group, objects& o) {
    group.spawn([&o]() -> task<> {
        co_await o.per_client.acquire(1);
        co_await o.per_client.acquire(1);
    });
    group.spawn([&o]() -> task<> {
        co_await o.limit.acquire();
        co_await o.limit.acquire();
    });
    group.spawn([&o]() -> task<> { static_cast<void>(co_await o.slots.acquire()); });
    group.spawn([&o]() -> task<> {
        const auto held = co_await o.lock.lock();
        const auto reads = co_await o.table.lock_shared();
        co_await sleep_for(1h);
    });
    group.spawn([&o]() -> task<> { static_cast<void>(co_await o.lock.lock()); });
    group.spawn([&o]() -> task<> { static_cast<void>(co_await o.table.lock()); });
    group.spawn([&o]() -> task<> {
        mutex of_its_own;
        auto held = co_await of_its_own.lock();
        co_await o.changed.wait(held, [] { return false; });
    });
    group.spawn([&o]() -> task<> { co_await o.stopped.wait(); });
    group.spawn([&o]() -> task<> { co_await o.tick.wait(); });
    group.spawn([&o]() -> task<> { co_await o.ready.wait(); });
    group.spawn([&o]() -> task<> { co_await o.round.arrive_and_wait(); });
    group.spawn([&o] { return o.loaded.run(sleeps); });
    group.spawn([&o] { return o.loaded.run(sleeps); });
}

async_generator<int> numbers() {
    co_await sleep_for(1h);
    co_yield 1;
}

// Their functions are what the library gives, so that no coroutine of the program stands around them.
void combined(task_group& group) {
    group.spawn([] { return when_all(sleeps(), sleeps_long()); });
    group.spawn([] { return when_any(sleeps_long(), sleeps_long()); });
    group.spawn([] { return race(sleeps_long(), sleeps_long()); });
    group.spawn([] { return all_settled(sleeps(), sleeps()); });
    group.spawn([] {
        std::vector<task<int>> all;
        all.push_back(sleeps_long());
        return as_completed(std::move(all), [](auto& next) -> task<> { static_cast<void>(co_await next.next()); });
    });
    group.spawn([] { return map_concurrent(std::vector<int>{1, 2, 3}, 2, [](int) { return sleeps_long(); }); });
    group.spawn([] {
        return with_joiner(joiners::wait_for_all(), [](auto& children) -> task<> {
            children.spawn(sleeps).discard();
            co_await sleep_for(1h);
        });
    });
    group.spawn([]() -> task<> {
        auto child = spawn(sleeps);
        static_cast<void>(co_await wait_for_tasks(return_when::all_completed, child));
    });
    group.spawn([]() -> task<> {
        event never_set("never set");
        static_cast<void>(co_await select_one(sleep_for(1h), never_set.wait()));
    });
}

void scopes(task_group& group) {
    group.spawn([] {
        return with_task_group([](task_group& inner) -> task<> {
            inner.spawn(sleeps).discard();
            inner.spawn_background(sleeps).discard();
            co_await inner.start([](started<> ready) -> task<> {
                co_await sleep_for(1h);
                ready.set();
            });
        });
    });
    group.spawn([] {
        return with_supervisor_group([](supervisor_group& inner) -> task<> {
            inner.spawn(sleeps).discard();
            co_return;
        });
    });
    group.spawn_background([] { return retry({}, sleeps); });
    const auto nothing = []() -> task<> { co_return; };
    const auto not_for_long = []() -> task<> { static_cast<void>(co_await move_on_after(100ms, sleeps)); };
    group.spawn([=] { return with_cleanup(sleeps, nothing, 1h); });
    group.spawn([=] { return with_cleanup(nothing, not_for_long, 1h); });
    group.spawn([]() -> task<> { co_await with_timeout(2h, shield(move_on_after(100ms, sleeps))); });
    group.spawn([]() -> task<> {
        auto all = numbers();
        co_await all.next();
    });
    group.spawn([]() -> task<> {
        static const task_local<int> depth;
        co_await depth.with(1, sleeps);
    });
    group.spawn([]() -> task<> {
        signals hears(SIGUSR2);
        static_cast<void>(co_await hears.next());
    });
    group.spawn([](int, int, int, int) { return sleeps(); }, 1, 2, 3, 4);
}

void streams(task_group& group) {
    group.spawn([]() -> task<> {
        auto listener = tcp_listener::bind("127.0.0.1", 0);
        const endpoint at = listener.local();
        co_await with_task_group([&](task_group& inner) -> task<> {
            inner.spawn([&] {
                return serve(listener, [](tcp_stream& s) -> task<> { static_cast<void>(co_await s.receive()); });
            });
            tcp_stream first = co_await tcp_stream::connect(at);
            tcp_stream second = co_await tcp_stream::connect(at);
            tcp_stream third = co_await tcp_stream::connect(at);
            buffered_reader reader(third);
            inner.spawn([&] { return relay(first, second); });
            inner.spawn([&] { return reader.read_line(); });
            co_await sleep_for(1h);
        });
    });
}

struct question : request<int> {};
struct asked {
    using message = std::variant<question, int>;
    explicit asked(int) {}
    task<int> on(question&) { co_return co_await sleeps_long(); }
    void on(int&) {}
};
task<> reads(mailbox<int>& box) { static_cast<void>(co_await box.receive()); }
task<> never_ready(supervised& self) { co_await self.stop_asked(); }
task<> fails_at_once() {
    co_await yield();
    throw std::runtime_error("no luck");
}

void supervised_ones(task_group& group) {
    group.spawn([] {
        return with_supervisor(
            [](supervisor& s) -> task<> {
                auto a = co_await s.start_actor<asked>({.name = "asked"}, 1);
                co_await s.start_actor(reads);
                co_await s.start({.name = "flaky", .backoff_min = 1h, .backoff_max = 1h}, fails_at_once);
                co_await s.start(never_ready);
                static_cast<void>(a);
            },
            {.name = "top", .on_restart = [](const restart_notice&) {}});
    });
    group.spawn([]() -> task<> {
        auto a = spawn_actor<asked>(1);
        auto b = spawn_actor(reads);
        co_await with_task_group([&](task_group& inner) -> task<> {
            inner.spawn([&]() -> task<> { static_cast<void>(co_await a.ask<question>()); });
            inner.spawn([&]() -> task<> { static_cast<void>(co_await b.ended()); });
            co_return;
        });
    });
}

/// What is wrong with a tree: lines of the library, and tasks of which nothing is known.
std::string complaints(const await_tree& tree) {
    std::string all;
    for (const tree_node& n : tree.nodes) {
        const std::string_view file = n.place.file_name();
        const bool known = n.place.line() != 0;
        if (known && !file.ends_with("/places_test.cpp")) all += "a line of " + std::string(file) + "\n";
        if (n.what == tree_node::kind::task && !known && !n.main)
            all += "task " + std::to_string(n.task) + " of nowhere\n";
        if (n.what == tree_node::kind::await && !known && n.scope == nullptr) all += "an await of nowhere\n";
    }
    return all;
}

/// Takes the tree of what the parts have started, checks it, and gives its text.
template <class... Parts>
task<std::string> tree_of(Parts... parts) {
    std::string text;
    std::string wrong;
    co_await with_task_group([&](task_group& group) -> task<> {
        (parts(group), ...);
        for (int i = 0; i < 20; ++i) co_await immediate();
        co_await sleep_for(20ms);  // until what is connected is connected
        const await_tree tree(this_loop(), {.max_tasks = 1000});
        text = tree.text();
        wrong = complaints(tree);
        for (const alive_entry& e : this_loop().why_alive())
            if (e.place.line() != 0 && !std::string_view(e.place.file_name()).ends_with("/places_test.cpp"))
                wrong += e.what + " is kept by " + e.place.file_name() + "\n";
        group.cancel();
    });
    CAPTURE(text);
    CHECK(wrong == "");
    co_return text;
}

/// What a tree should say, but does not.
std::string missing_in(const std::string& tree, std::initializer_list<const char*> names) {
    std::string all;
    for (const char* name : names)
        if (tree.find(name) == std::string::npos) all += std::string(name) + "\n";
    return all;
}

}  // namespace

TEST_CASE("places: of channels and queues the tree knows the names, and no line of the library" *
          doctest::test_suite("order")) {
    const auto body = []() -> task<> {
        objects o;
        const std::string tree = co_await tree_of([&o](task_group& group) { channels(group, o); });
        const std::string missing = missing_in(
            tree, {"send to channel 'orders' with 1 of 1 values", "receive from unbuffered channel 'meeting'",
                   "receive from a channel with 0 of 1 values", "send to broadcast 'news'", "watch 'level' to change",
                   "receive from oneshot 'reply'", "the receiver of oneshot 'wanted' to go", "put into queue 'jobs'",
                   "join queue 'jobs'", "get from priority_queue 'ranked'", "receive from thread_channel 'results'"});
        CHECK(missing == "");
    };
    test::run(body);
}

TEST_CASE("places: of locks and limiters the tree knows the names, and no line of the library" *
          doctest::test_suite("order")) {
    const auto body = []() -> task<> {
        objects o;
        const std::string tree = co_await tree_of([&o](task_group& group) { locks(group, o); });
        const std::string missing =
            missing_in(tree, {"rate limiter 'per client'", "rate limiter 'limit'", "semaphore 'slots'", "mutex 'lock'",
                              "shared_mutex 'table'", "condition 'changed'", "event 'stopped'", "auto_event 'tick'",
                              "latch 'ready'", "barrier 'round'", "once 'loaded'"});
        CHECK(missing == "");
    };
    test::run(body);
}

TEST_CASE("places: of combinators and scopes, spawned without a coroutine around them, no line of the library shows") {
    static_cast<void>(test::run(tree_of<decltype(&combined)>, &combined));
    static_cast<void>(test::run(tree_of<decltype(&scopes)>, &scopes));
}

TEST_CASE("places: of servers, relays and readers no line of the library shows") {
    static_cast<void>(test::run(tree_of<decltype(&streams)>, &streams));
}

TEST_CASE("places: of actors and supervisors no line of the library shows, and the children's names") {
    const std::string tree = test::run(tree_of<decltype(&supervised_ones)>, &supervised_ones);
    CHECK(missing_in(tree, {"'supervisor top'", "'asked'", "a message for asked", "the ready() of a child"}) == "");
}

TEST_CASE("places: a deadlock names what is waited for") {
    const auto waits = []() -> task<> {
        channel<int> orders(0, "orders");
        static_cast<void>(co_await orders.receive());
    };
    std::string said;
    try {
        run(waits);
    } catch (const deadlock_error& e) {
        said = e.what();
    }
    CHECK(missing_in(said, {"receive from unbuffered channel 'orders'"}) == "");
}
