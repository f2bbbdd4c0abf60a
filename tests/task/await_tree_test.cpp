// The await tree: what it shows, as text and JSON, and that it is bounded; signals, deadlocks, leftovers.
#include <rondo/sim/world.hpp>

#include "support/test.hpp"

#include <rondo/loop/detail/extras.hpp>

#if defined(RONDO_TESTS_HAVE_JSON)
#include <nlohmann/json.hpp>
#endif

#include <csignal>
#include <cstdio>
#include <sys/resource.h>
#include <unistd.h>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

void name_this_task(const char* name) { detail::extras_of(*detail::running().current_fiber()).name = name; }

loop_options tracking() {
    loop_options options;
    options.track_waits = true;
    return options;
}

// The text with the places of this file as "here", without the functions, which only g++ knows, and with
// the columns parted by " | ".
std::string normal(std::string_view text) {
    constexpr std::string_view file = "await_tree_test.cpp:";
    std::string out;
    while (!text.empty()) {
        std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        const std::size_t from = line.find_first_not_of(" \xe2\x94\x82\x80\x9c\xb4\x94");  // branches
        out += line.substr(0, from);
        line.remove_prefix(std::min(from, line.size()));
        while (!line.empty()) {
            if (line.starts_with(file)) {
                line.remove_prefix(file.size());
                line.remove_prefix(std::min(line.find_first_not_of("0123456789"), line.size()));
                if (line.starts_with("  ") && !line.starts_with("   "))
                    line.remove_prefix(std::min(line.find("   ", 2), line.size()));
                out += "here";
            } else if (line.starts_with("   ")) {
                line.remove_prefix(line.find_first_not_of(' '));
                out += " | ";
            } else {
                out += line.front();
                line.remove_prefix(1);
            }
        }
        out += '\n';
    }
    return out;
}

std::string header(std::size_t tasks, const char* more = "") {
    return "rondo: " + std::to_string(tasks) + (tasks == 1 ? " task on " : " tasks on ") +
           name_of(test::backend_under_test()) + more + "\n";
}

std::size_t lines_of(std::string_view text) {
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

task<> sleeper() { co_await sleep_for(1h); }
task<> named_sleeper(const char* name) {
    name_this_task(name);
    co_await sleep_for(1h);
}
task<> limited_sleeper() { co_await with_timeout(2h, sleeper); }

/// Lets all that is ready run, without the loop's time going on.
task<> settle() {
    for (int i = 0; i < 3; ++i) co_await test::others_first();
}

struct for_ever : basic_wait<for_ever> {
    static constexpr const char* name = "Godot";
    bool start() noexcept { return arm(); }
    void cancel() noexcept { complete(-ECANCELED); }
};

task<> waits_for_ever() {
    for_ever godot;
    co_await godot;
}

}  // namespace

// --- what it shows ---------------------------------------------------------------------------------------

namespace {

task<> group_body(task_group& group, await_tree& seen) {
    group.spawn(named_sleeper, "first").discard();
    group.spawn(limited_sleeper).discard();
    co_await settle();
    seen = await_tree();
    group.cancel();
}

task<> group_with_two(await_tree& seen) {
    co_await with_task_group([&](task_group& group) { return group_body(group, seen); });
}

}  // namespace

TEST_CASE("await_tree: tasks are below the scope they are in, awaits below the task") {
    loop none;
    await_tree seen(none);
    CHECK(seen.text() == header(0));
    test::run(tracking(), group_with_two, std::ref(seen));
    CHECK(normal(seen.text()) == header(3, ", next timer in 1 h 0 min") +
                                     "task 1 | the main task\n"
                                     "└─ here | task group, 2 tasks\n"
                                     "   ├─ here | running\n"
                                     "   ├─ task 2 'first' | spawned at here\n"
                                     "   │  └─ here | waits: sleep, 1 h 0 min left | 0 us\n"
                                     "   └─ task 3 | spawned at here\n"
                                     "      └─ here | cancel scope, deadline in 2 h 0 min\n"
                                     "         └─ here | waits: sleep, 1 h 0 min left | 0 us\n");
    CHECK(seen.tasks == 3);
    CHECK(seen.shown == 3);
}

TEST_CASE("await_tree: who waits for a group is told by the group's line; who waits for a task, by its name" *
          doctest::test_suite("order")) {
    std::string seen;
    test::run(
        tracking(),
        [](std::string& text) -> task<> {
            auto target = spawn(named_sleeper, "target");
            auto joiner = spawn([](task_handle<>& of) -> task<> { co_await of; }, std::ref(target));
            auto grouped = spawn([]() -> task<> {
                co_await with_supervisor_group([](supervisor_group& group) -> task<> {
                    group.spawn(sleeper).discard();
                    group.spawn_background(sleeper).discard();
                    co_return;
                });
            });
            co_await settle();
            text = await_tree().text();
        },
        std::ref(seen));
    CHECK(normal(seen) == header(6, ", next timer in 1 h 0 min") +
                              "task 1 | the main task\n"
                              "└─ here | running\n"
                              "task 2 'target' | spawned at here\n"
                              "└─ here | waits: sleep, 1 h 0 min left | 0 us\n"
                              "task 3 | spawned at here\n"
                              "└─ here | waits: task 2 'target' | 0 us\n"
                              "task 4 | spawned at here\n"
                              "└─ here | supervisor group; waits: 2 tasks | 0 us\n"
                              "   ├─ task 5 | spawned at here\n"
                              "   │  └─ here | waits: sleep, 1 h 0 min left | 0 us\n"
                              "   └─ task 6 | spawned at here, background\n"
                              "      └─ here | waits: sleep, 1 h 0 min left | 0 us\n");
}

TEST_CASE("await_tree: a task that does not wait is running, ready, not started or held back" *
          doctest::test_suite("order")) {
    loop l;
    std::string seen;
    auto main = spawn_on(
        l,
        [](std::string& text) -> task<> {
            task_group_options one_at_once;
            one_at_once.max_running = 1;
            co_await with_task_group(
                [&](task_group& group) -> task<> {
                    auto yielding = []() -> task<> { co_await yield(); };
                    group.spawn(yielding).discard();
                    group.spawn(yielding).discard();
                    co_await yield();
                    text = await_tree().text();
                },
                one_at_once);
        },
        std::ref(seen));
    CHECK(normal(await_tree(l).text()) == header(1) + "task 1 | spawned at here; not started yet\n");
    l.run();
    CHECK(main.state() == task_state::succeeded);
    CHECK(normal(seen) == header(3) +
                              "task 1 | spawned at here\n"
                              "└─ here | task group, 2 tasks\n"
                              "   ├─ here | running\n"
                              "   ├─ task 2 | spawned at here\n"
                              "   │  └─ here | ready to run\n"
                              "   └─ task 3 | spawned at here; not started, its group runs no more at once\n");
}

TEST_CASE("await_tree: cancelled and shielded scopes say so, and why; so does a task that was cancelled") {
    std::string seen;
    test::run(
        tracking(),
        [](std::string& text) -> task<> {
            auto victim = spawn(
                [](std::string& to) -> task<> {
                    co_await with_cancel_scope([&](cancel_scope& outer) -> task<> {
                        outer.cancel("enough\n");
                        co_await shield([&]() -> task<> {
                            co_await yield();
                            to = await_tree().text();
                        });
                    });
                },
                std::ref(text));
            co_await microtask();
            victim.cancel();
            static_cast<void>(co_await attempt(victim));
        },
        std::ref(seen));
    CHECK(normal(seen) == header(2) +
                              "task 1 | the main task\n"
                              "└─ here | waits: task 2 | 0 us\n"
                              "task 2 | spawned at here, cancelled\n"
                              "└─ here | cancel scope, cancelled: enough\\n\n"
                              "   └─ here | cancel scope, shielded\n"
                              "      └─ here | running\n");
}

TEST_CASE("await_tree: a callback sees the tasks; so does who looks before the loop runs") {
    loop l;
    std::string seen;
    auto child = spawn_on(l, sleeper);
    l.set_immediate([&] { seen = await_tree().text(); });
    l.run_once();
    CHECK(normal(seen).find("task 1 | spawned at here\n└─ here | waits: sleep, ") != std::string::npos);
    child.cancel();
}

namespace {
/// Looks when it goes.
struct witness {
    std::string& seen;
    ~witness() { seen += await_tree().text(); }
};
}  // namespace

TEST_CASE("await_tree: destructors see it, while an error and while a cancel unwinds their task") {
    std::string seen;
    const auto unwound = [](std::string& to, bool fails) -> task<> {
        co_await with_timeout(1h, [&]() -> task<> {
            const witness at_the_end{to};
            co_await with_task_group([&](task_group& group) -> task<> {
                const witness in_the_group{to};
                group.spawn(sleeper).discard();
                co_await settle();
                if (fails) throw std::runtime_error("fails");
                co_await sleep_for(1h);
            });
        });
    };
    CHECK_THROWS(test::run(tracking(), unwound, std::ref(seen), true));
    CHECK(normal(seen) == header(2, ", next timer in 1 h 0 min") +
                              "task 1 | the main task\n"
                              "└─ here | cancel scope, deadline in 1 h 0 min\n"
                              "   └─ here | task group, 1 task\n"
                              "      ├─ here | running\n"
                              "      └─ task 2 | spawned at here\n"
                              "         └─ here | waits: sleep, 1 h 0 min left | 0 us\n" +
                              header(1, ", next timer in 1 h 0 min") +
                              "task 1 | the main task\n"
                              "└─ here | cancel scope, deadline in 1 h 0 min\n"
                              "   └─ here | running\n");
    seen.clear();
    test::run(
        [](auto fn, std::string& to) -> task<> {
            auto victim = spawn(fn, std::ref(to), false);
            co_await settle();
            co_await settle();
            victim.cancel();
            static_cast<void>(co_await attempt(victim));
        },
        unwound, std::ref(seen));
    CHECK(normal(seen).find("spawned at here, cancelled\n") != std::string::npos);
    CHECK(normal(seen).find("here | running\n") != std::string::npos);
}

TEST_CASE("await_tree: what outlives its coroutine, the arguments of a task, may look as well") {
    std::string seen;
    test::run(
        [](std::string& to) -> task<> {
            struct owned {
                std::string* seen;
                explicit owned(std::string& s) : seen(&s) {}
                owned(owned&& other) noexcept : seen(std::exchange(other.seen, nullptr)) {}
                ~owned() {
                    if (seen != nullptr) *seen += await_tree().text();
                }
            };
            const auto body = [](const owned&) -> task<> { co_await yield(); };
            owned mine(to);
            auto child = spawn(body, std::move(mine));
            auto never_started = spawn(body, owned(to));
            never_started.cancel();
            co_await child;
        },
        std::ref(seen));
    CHECK(normal(seen).find("task 3 | spawned at here, cancelled; running\n") != std::string::npos);
    CHECK(normal(seen).find("task 2 | spawned at here; running\n") != std::string::npos);
}

// --- for how long ----------------------------------------------------------------------------------------

TEST_CASE("await_tree: with track_waits it tells since when, by the loop's clock") {
    await_tree seen{loop()};
    duration passed{};
    test::run(
        tracking(),
        [](await_tree& to, duration& since) -> task<> {
            auto child = spawn([]() -> task<> {
                co_await sleep_for(1ms);
                co_await sleep_for(1h);
            });
            co_await sleep_for(2ms);
            const time_point began = now();  // later than the child's second wait, or at the same time
            co_await sleep_for(30ms);
            to = await_tree();
            since = now() - began;
            child.cancel();
        },
        std::ref(seen), std::ref(passed));
    for (const tree_node& n : seen.nodes)
        if (n.task == 2) {
            CHECK(n.waited >= passed);
            CHECK(n.waited <= passed + 1min);
        }
    CHECK(passed >= 30ms);
}

TEST_CASE("await_tree: without track_waits it does not know since when") {
    await_tree seen{loop()};
    test::run(
        [](await_tree& to) -> task<> {
            auto child = spawn(sleeper);
            co_await settle();
            to = await_tree();
            child.cancel();
        },
        std::ref(seen));
    REQUIRE(seen.nodes.size() == 4);
    CHECK(seen.nodes[2].task == 2);
    CHECK(seen.nodes[2].waited < duration{});
    CHECK(normal(seen.text()).ends_with("└─ here | waits: sleep, 1 h 0 min left\n"));
}

// --- names of others -----------------------------------------------------------------------------------------

TEST_CASE("await_tree: names are printable in the text, and cut") {
    std::string seen;
    std::string name = "a\n\x1b[31m\"\\\x80";
    std::string longest;
    for (int i = 0; i < 300; ++i) longest += "ö";
    test::run(
        [&](std::string& to) -> task<> {
            auto child = spawn(named_sleeper, name.c_str());
            auto other = spawn(named_sleeper, longest.c_str());
            co_await settle();
            to = await_tree().text();
        },
        std::ref(seen));
    CHECK(seen.find("task 2 'a\\n\\x1b[31m\"\\\\x80'") != std::string::npos);
    std::string begin;
    for (int i = 0; i < 48; ++i) begin += "ö";
    CHECK(seen.find("task 3 '" + begin + "...'") != std::string::npos);
}

#if defined(RONDO_TESTS_HAVE_JSON)

TEST_CASE("await_tree: the JSON has the same tree, with whole paths and all names escaped") {
    await_tree seen{loop()};
    test::run(tracking(), group_with_two, std::ref(seen));
    const auto json = nlohmann::json::parse(seen.json());
    CHECK(json["tasks"] == 3);
    CHECK(json["shown"] == 3);
    CHECK(json["backend"] == name_of(test::backend_under_test()));
    CHECK(json["next_timer_ms"] == 3'600'000.0);
    REQUIRE(json["tree"].size() == 1);
    const auto& main = json["tree"][0];
    CHECK(main["task"] == 1);
    CHECK(main["activity"] == "running");
    const auto& group = main["below"][0];
    CHECK(group["await"]["file"] == __FILE__);
    CHECK(group["await"]["line"] > 0);
    CHECK(group["scope"]["kind"] == "task group");
    CHECK(group["scope"]["tasks"] == 2);
    REQUIRE(group["below"].size() == 3);
    const auto& first = group["below"][1];
    CHECK(first["name"] == "first");
    CHECK(first["waits_for"] == "sleep, 1 h 0 min left");
    CHECK(first["waited_ms"] == 0.0);
    CHECK(first["spawned"]["file"] == __FILE__);
    CHECK(first["below"][0]["innermost"] == true);
    const auto& limited = group["below"][2];
    CHECK(limited["below"][0]["scope"]["deadline_ms"] == 7'200'000.0);
    CHECK(limited["below"][0]["below"][0]["below"].empty());
}

TEST_CASE("await_tree: the JSON of hostile names is valid") {
    await_tree seen{loop()};
    const char* const name = "a\n\x1b\"\\\x80\xc3\xb6\xe2\x82";
    test::run(
        [&](await_tree& to) -> task<> {
            auto child = spawn(named_sleeper, name);
            co_await settle();
            to = await_tree();
        },
        std::ref(seen));
    const auto json = nlohmann::json::parse(seen.json());
    CHECK(json["tree"][1]["name"] == "a\n\x1b\"\\\ufffd\xc3\xb6\ufffd\ufffd");
}

TEST_CASE("await_tree: the JSON of what was cut is valid" * doctest::test_suite("order")) {
    await_tree seen{loop()};
    test::run(
        [](await_tree& to) -> task<> {
            co_await with_task_group([&](task_group& group) -> task<> {
                for (int i = 0; i < 50; ++i) group.spawn(sleeper).discard();
                co_await settle();
                to = await_tree();
                group.cancel();
            });
        },
        std::ref(seen));
    const auto json = nlohmann::json::parse(seen.json());
    CHECK(json["tasks"] == 51);
    CHECK(json["shown"] == 4);
    const auto& group = json["tree"][0]["below"][0]["below"];
    CHECK(group.back()["left_out"] == "tasks");
    CHECK(group.back()["count"] == 47);
    CHECK(group.back()["like_task"] == 2);
}

#endif

// --- bounds ------------------------------------------------------------------------------------------------

namespace {

task<> many(int count, tree_options options, await_tree& seen) {
    co_await with_task_group([&](task_group& group) -> task<> {
        for (int i = 0; i < count; ++i) group.spawn(sleeper).discard();
        while (this_loop().stats().timers < static_cast<std::size_t>(count)) co_await yield();
        seen = await_tree(this_loop(), options);
        group.cancel();
    });
}

// Each in the body of the one outside.
task<> nested_scopes(int depth, await_tree& seen) {
    if (depth == 0) {
        seen = await_tree();
        co_return;
    }
    co_await with_task_group([&](task_group&) { return nested_scopes(depth - 1, seen); });
}

// Each in a task of its own.
task<> nested_tasks(int depth, await_tree& seen) {
    if (depth == 0) {
        seen = await_tree();
        co_return;
    }
    co_await with_task_group([&](task_group& group) -> task<> {
        group.spawn(nested_tasks, depth - 1, std::ref(seen)).discard();
        co_return;
    });
}

task<> nested_awaits(int depth, await_tree& seen) {
    if (depth == 0) {
        seen = await_tree();
        co_return;
    }
    co_await nested_awaits(depth - 1, seen);
}

std::size_t deepest(const await_tree& tree) {
    std::size_t depth = 0;
    for (const tree_node& n : tree.nodes) depth = std::max(depth, n.depth);
    return depth;
}

}  // namespace

TEST_CASE("await_tree: of 100,000 tasks that are alike three are shown, the others counted") {
    await_tree seen{loop()};
    test::run(many, 99'999, tree_options{}, std::ref(seen));
    CHECK(seen.tasks == 100'000);
    CHECK(seen.shown == 4);
    CHECK(seen.nodes.size() == 10);
    INFO(seen.text());
    CHECK(seen.visits <= 100'020);
    const std::string text = seen.text();
    CHECK(text.size() < 1500);
    CHECK(normal(text).ends_with("   └─ ... and 99,996 more like task 2 | spawned at here\n"));
    CHECK(text.starts_with("rondo: 100,000 tasks on " + std::string(name_of(test::backend_under_test())) +
                           ", 4 of them shown, next timer in "));
}

TEST_CASE("await_tree: no more tasks are looked at, and none more shown, than it is told to") {
    await_tree seen{loop()};
    tree_options few;
    few.max_visits = 1000;
    test::run(many, 20'000, few, std::ref(seen));
    CHECK(seen.visits <= 1020);
    INFO(seen.text());
    // One is main; of the others 999 were looked at.
    CHECK(normal(seen.text()).find("... and 996 more like task 2 |") != std::string::npos);
    CHECK(normal(seen.text()).ends_with("... and 19,001 more tasks\n"));

    few = {};
    few.max_tasks = 2;
    test::run(many, 10, few, std::ref(seen));
    CHECK(seen.shown == 2);
    CHECK(normal(seen.text()).ends_with("... and 9 more like task 2 | spawned at here\n"));

    few.max_tasks = 0;
    test::run(many, 10, few, std::ref(seen));
    CHECK(normal(seen.text()).ends_with("\n... and 1 more task\n"));

    few = {};
    few.max_depth = 0;
    test::run(many, 10, few, std::ref(seen));
    CHECK(seen.nodes.size() == 1);
    CHECK(normal(seen.text()).ends_with("\ntask 1 | the main task; running\n"));
}

TEST_CASE("await_tree: tasks of many kinds are bounded as well" * doctest::test_suite("order")) {
    await_tree seen{loop()};
    test::run(
        [](await_tree& to) -> task<> {
            co_await with_task_group([&](task_group& group) -> task<> {
                for (std::uint32_t line = 1; line <= 1000; ++line) group.spawn(nested_tasks, 0, std::ref(to)).discard();
                group.cancel();
                co_return;
            });
            std::vector<task_handle<>> all;
            for (int i = 0; i < 1000; ++i) all.push_back(spawn(limited_sleeper));
            for (int i = 0; i < 1000; ++i) all.push_back(spawn(sleeper));
            co_await settle();
            to = await_tree();
        },
        std::ref(seen));
    CHECK(seen.tasks == 2001);
    CHECK(seen.shown == 7);
    CHECK(lines_of(seen.text()) < 30);
}

TEST_CASE("await_tree: 10,000 nested groups are cut at the outside, and no stack overflows") {
    rlimit before{};
    REQUIRE(getrlimit(RLIMIT_STACK, &before) == 0);
    const tree_options limits;
    await_tree seen{loop()};
    for (const auto nested : {&nested_scopes, &nested_awaits}) {
        test::run(nested, 10'000, std::ref(seen));
        CHECK(seen.tasks == 1);
        CHECK(deepest(seen) <= limits.max_depth);
        CHECK(seen.visits < 10 * limits.max_depth);
        CHECK(seen.text().size() < 20'000);
        CHECK(seen.text().find("... outer awaits are not shown") != std::string::npos);
        CHECK(normal(seen.text()).ends_with("└─ here | running\n"));
    }
}

TEST_CASE("await_tree: of 10,000 tasks, each below the one before, the outer ones are shown") {
    const tree_options limits;
    await_tree seen{loop()};
    test::run(nested_tasks, 10'000, std::ref(seen));
    CHECK(seen.tasks == 10'001);
    CHECK(seen.shown > 10);
    CHECK(seen.shown <= limits.max_depth + 1);
    CHECK(deepest(seen) <= limits.max_depth + 1);
    CHECK(seen.visits < 10 * limits.max_depth);
    CHECK(seen.text().size() < 20'000);
}

// --- deadlocks -----------------------------------------------------------------------------------------------

namespace {
task<> all_asleep(int tasks) {
    co_await with_task_group([&](task_group& group) -> task<> {
        for (int i = 0; i < tasks; ++i) group.spawn(waits_for_ever).discard();
        co_return;
    });
}
}  // namespace

TEST_CASE("deadlock: what() is the await tree, as it was before the tasks unwound") {
    std::string report;
    try {
        test::run(tracking(), all_asleep, 1);
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CHECK(normal(report) == "deadlock: nothing is left that could wake these tasks\n" + header(2) +
                                "task 1 | the main task\n"
                                "└─ here | task group; waits: 1 task | 0 us\n"
                                "   └─ task 2 | spawned at here\n"
                                "      └─ here | waits: Godot | 0 us\n");
}

TEST_CASE("deadlock: of 10,000 tasks that are asleep a few are shown") {
    std::string report;
    try {
        test::run(all_asleep, 10'000);
    } catch (const deadlock_error& e) {
        report = e.what();
    }
    CHECK(report.size() < 1500);
    CHECK(report.find("... and 9,997 more like task 2") != std::string::npos);
}

// --- signals -----------------------------------------------------------------------------------------------

namespace {

/// Standard error, in a file for as long as this lives.
class caught_errors {
 public:
    caught_errors() : file_(std::tmpfile()), before_(::dup(STDERR_FILENO)) {
        REQUIRE(file_ != nullptr);
        REQUIRE(before_ >= 0);
        ::dup2(::fileno(file_), STDERR_FILENO);
    }
    ~caught_errors() {
        ::dup2(before_, STDERR_FILENO);
        ::close(before_);
        std::fclose(file_);
    }
    std::string text() const {
        std::string all;
        std::rewind(file_);
        for (int c; (c = std::fgetc(file_)) != EOF;) all += static_cast<char>(c);
        return all;
    }

 private:
    std::FILE* file_;
    int before_;
};

int quits = 0;

}  // namespace

TEST_CASE("dump_on_signal: the signal prints the tree, once for each; then the old handler is back") {
    struct sigaction counting{};
    struct sigaction before{};
    counting.sa_handler = [](int) { ++quits; };
    sigaction(SIGQUIT, &counting, &before);
    quits = 0;
    std::string seen;
    {
        const caught_errors errors;
        test::run([]() -> task<> {
            const dump_on_signal dump(SIGQUIT);
            auto child = spawn(named_sleeper, "child");
            co_await settle();
            ::raise(SIGQUIT);
            ::raise(SIGQUIT);
            co_await immediate();
            co_await immediate();
            ::raise(SIGQUIT);
            co_await immediate();
            co_await immediate();
        });
        ::raise(SIGQUIT);
        seen = errors.text();
    }
    sigaction(SIGQUIT, &before, nullptr);
    CHECK(quits == 1);
    const std::size_t first = seen.find("rondo: 2 tasks on ");
    CHECK(first != std::string::npos);
    CHECK(seen.find("task 2 'child'") != std::string::npos);
    const std::size_t second = seen.find("rondo: 2 tasks on ", first + 1);
    CHECK(second != std::string::npos);
    CHECK(seen.find("rondo: 2 tasks on ", second + 1) == std::string::npos);
}

TEST_CASE("dump_on_signal: each loop of two prints its own; one that is gone does no harm") {
    loop a;
    loop b;
    auto in_a = spawn_on(a, named_sleeper, "in a");
    auto in_b = spawn_on(b, named_sleeper, "in b");
    a.run_nowait();
    b.run_nowait();
    const caught_errors errors;
    auto of_a = std::make_unique<dump_on_signal>(SIGQUIT, a);
    {
        const dump_on_signal of_b(SIGQUIT, b);
        ::raise(SIGQUIT);
        b.run_nowait();
        CHECK(errors.text().find("'in b'") != std::string::npos);
        CHECK(errors.text().find("'in a'") == std::string::npos);
    }
    ::raise(SIGQUIT);
    of_a.reset();  // its tree was still to be printed
    a.run_nowait();
    CHECK(errors.text().find("'in a'") == std::string::npos);
}

TEST_CASE("dump_on_signal: any number may watch a signal, and each is told") {
    // There were places for 32.
    loop l;
    auto task = spawn_on(l, named_sleeper, "watched");
    l.run_nowait();
    const caught_errors errors;
    std::vector<std::unique_ptr<dump_on_signal>> all;
    for (int i = 0; i < 100; ++i) all.push_back(std::make_unique<dump_on_signal>(SIGQUIT, l));
    for (std::size_t i = 0; i < all.size(); i += 3) all[i].reset();
    ::raise(SIGQUIT);
    l.run_nowait();
    const std::string seen = errors.text();
    std::size_t trees = 0;
    for (std::size_t at = seen.find("'watched'"); at != seen.npos; at = seen.find("'watched'", at + 1)) ++trees;
    CHECK(trees == 66);
}

TEST_CASE("dump_on_signal: in a world it is the host's signal") {
    const caught_errors errors;
    world w;
    auto& a = w.host("a").run([]() -> task<> {
        const dump_on_signal dump(SIGQUIT);
        co_await named_sleeper("in a");
    });
    auto& b = w.host("b").run([]() -> task<> { co_await named_sleeper("in b"); });
    w.run([&]() -> task<> {
        co_await sleep_for(1ms);
        a.signal(SIGQUIT);
        co_await sleep_for(1ms);
        CHECK(a.up());
        b.signal(SIGQUIT);
        CHECK_FALSE(b.up());
    });
    const std::string seen = errors.text();
    const std::size_t first = seen.find("rondo: 1 task on ");
    CHECK(first != std::string::npos);
    CHECK(seen.find("rondo: 1 task on ", first + 1) == std::string::npos);
}

TEST_CASE("dump_on_signal: a signal that cannot be caught is refused, and nothing is changed") {
    const loop idle;
    loop l;
    CHECK_THROWS_AS(dump_on_signal(SIGKILL, l), io_error);
    CHECK_THROWS_AS(dump_on_signal(0, l), io_error);
    CHECK_THROWS_AS(dump_on_signal(65, l), io_error);
}

// --- leftovers -----------------------------------------------------------------------------------------------

namespace {

/// What is logged while it lives, one line each. Flushes what gates have dropped before.
class caught_log {
 public:
    caught_log() {
        set_log_level(log_level::debug);
        set_log_sink(
            [](const log_record& r, void* to) noexcept {
                if (r.message.find("epoll instead of io_uring") != r.message.npos) return;  // the kernel refuses it
                static_cast<caught_log*>(to)->text_.append(name_of(r.level)).append(" ").append(r.message).append("\n");
            },
            this);
    }
    ~caught_log() {
        set_log_sink(nullptr);
        set_log_level(detail::debug_enabled ? log_level::debug : log_level::warning);
    }
    const std::string& text() const { return text_; }

 private:
    std::string text_;
};

}  // namespace

TEST_CASE("leftovers: tasks that are left when the main task ends are named in the log") {
    detail::pass_log_second();  // the log's limit for lines of one kind is counted by the second
    const caught_log log;
    test::run([]() -> task<> {
        for (int i = 0; i < 6; ++i) spawn(named_sleeper, "left").discard();
        co_await settle();
    });
    CHECK(log.text().find("debug 6 tasks were left when the main task ended, and cancelled: task 2 'left' at "
                          "await_tree_test.cpp:") != std::string::npos);
    CHECK(log.text().find("task 5 'left' at ") != std::string::npos);
    CHECK(log.text().find("task 6") == std::string::npos);
    CHECK(log.text().find(", ...") != std::string::npos);
}

TEST_CASE("leftovers: so are those of a loop that is destroyed; nothing is said where nothing is left") {
    detail::pass_log_second();
    const caught_log log;
    {
        loop l;
        auto one = spawn_on(l, sleeper);
        l.run_nowait();
    }
    CHECK(log.text().find("debug 1 task was left when its loop was destroyed, and cancelled: task 1 at "
                          "await_tree_test.cpp:") != std::string::npos);
    const std::string before = log.text();
    test::run([]() -> task<> {
        auto child = spawn([]() -> task<> { co_return; });
        co_await child;
    });
    CHECK(log.text() == before);
}
