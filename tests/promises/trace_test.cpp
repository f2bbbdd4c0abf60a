// What is told of an error that has crossed tasks: its awaits in each of them, where each was spawned, and how much of
// that is kept.
#include <rondo/actor/supervisor.hpp>

#include "support/child_process.hpp"
#include "support/net.hpp"

#include <algorithm>
#include <regex>
#include <stdexcept>
#include <thread>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

// --- who fails, and who is told ------------------------------------------------------------------------

task<int> parse(int n) {
    co_await yield();
    throw std::runtime_error("bad number " + std::to_string(n));
}
task<int> load(int n) {
    const int parsed = co_await parse(n);
    co_return parsed;
}
/// Fails when it is cancelled, however long that takes.
task<int> fails_late(int n) {
    try {
        co_await sleep_for(1h);
    } catch (const cancelled&) {
    }
    const int parsed = co_await shield(parse, n);
    co_return parsed;
}

/// Without folders and numbers of lines, which are those of this file.
std::string without_lines(const std::string& text) {
    return std::regex_replace(text, std::regex(R"([^ ]*trace_test\.cpp:\d+)"), "here:#");
}

/// What is told of the error that `fn(args...)` ends with.
template <class F, class... Args>
std::string told_of(F&& fn, Args&&... args) {
    try {
        test::run(std::forward<F>(fn), std::forward<Args>(args)...);
    } catch (...) {
        return without_lines(describe(std::current_exception()));
    }
    return "no error";
}

std::size_t count_of(const std::string& text, std::string_view part) {
    std::size_t n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}

/// Everything that is logged while it lives, a record in a line.
struct heard {
    heard() {
        detail::pass_log_second();
        set_log_sink([](const log_record& r,
                        void* to) noexcept { static_cast<heard*>(to)->text.append(r.message).append("\n"); },
                     this);
    }
    ~heard() { set_log_sink(nullptr); }
    std::string told() const { return without_lines(text); }
    std::string text;
};

// --- through groups ------------------------------------------------------------------------------------

namespace in_a_group {
task<> child() { static_cast<void>(co_await load(1)); }
task<> app() {
    const auto body = [](task_group& group) -> task<> {
        group.spawn(child).discard();
        co_await sleep_for(1h);
    };
    co_await with_task_group(body);
}
}  // namespace in_a_group

TEST_CASE("trace: a child's error tells its awaits, where it was spawned, and who awaited the group") {
    CHECK(told_of(in_a_group::app) ==
          "rondo::exception_group: 1 error: std::runtime_error: bad number 1\n"
          "  at         here:#  parse\n"
          "  awaited at here:#  load\n"
          "  awaited at here:#  in_a_group::child\n"
          "  spawned at here:#  in_a_group::app\n"
          "  awaited at here:#  in_a_group::app");
}

TEST_CASE("trace: run_main prints it, and nothing of the library's own lines") {
    const test::child_process child([](int) { return run_main(in_a_group::app); }, STDERR_FILENO);
    const std::string text = child.rest();
    const int status = child.ended();
    CAPTURE(text);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 1);
    CHECK(without_lines(text) == "rondo: " + told_of(in_a_group::app) + "\n");
    CHECK(count_of(text, ".hpp:") == 0);
    CHECK(count_of(text, ".cpp:") == count_of(text, "trace_test.cpp:"));
}

namespace in_groups_of_groups {
task<> inner() {
    const auto body = [](task_group& group) -> task<> {
        group.spawn(load, 1).discard();
        group.spawn(fails_late, 2).discard();
        co_await sleep_for(1h);
    };
    co_await with_task_group(body);
}
task<> app() {
    const auto body = [](task_group& group) -> task<> {
        group.spawn(inner).discard();
        group.spawn_background(fails_late, 3).discard();
        co_await sleep_for(1h);
    };
    co_await with_task_group(body);
}
}  // namespace in_groups_of_groups

TEST_CASE("trace: of several errors each has its own, below it in the tree" * doctest::test_suite("order")) {
    CHECK(told_of(in_groups_of_groups::app) ==
          "rondo::exception_group: 2 errors; the first: 2 errors; the first: std::runtime_error: bad number 1\n"
          "  at         here:#  in_groups_of_groups::app\n"
          "|- 2 errors\n"
          "|  at         here:#  in_groups_of_groups::inner\n"
          "|  spawned at here:#  in_groups_of_groups::app\n"
          "|  |- std::runtime_error: bad number 1\n"
          "|  |    at         here:#  parse\n"
          "|  |    awaited at here:#  load\n"
          "|  |    spawned at here:#  in_groups_of_groups::inner\n"
          "|  `- std::runtime_error: bad number 2\n"
          "|       at         here:#  parse\n"
          "|       awaited at here:#  fails_late\n"
          "|       spawned at here:#  in_groups_of_groups::inner\n"
          "`- std::runtime_error: bad number 3\n"
          "     at         here:#  parse\n"
          "     awaited at here:#  fails_late\n"
          "     spawned at here:#  in_groups_of_groups::app");
}

TEST_CASE("trace: the tree of an exception_group has it, too") {
    struct local {
        static task<std::string> app() {
            try {
                co_await in_a_group::app();
            } catch (const exception_group& group) {
                co_return group.tree();
            }
            co_return "no error";
        }
    };
    CHECK(without_lines(test::run(local::app)) ==
          "1 error\n"
          "`- std::runtime_error: bad number 1\n"
          "     at         here:#  parse\n"
          "     awaited at here:#  load\n"
          "     awaited at here:#  in_a_group::child\n"
          "     spawned at here:#  in_a_group::app");
}

namespace passed_on {
task<> unwrapped() {
    const auto body = [](task_group& group) -> task<> {
        group.spawn(load, 1).discard();
        co_await sleep_for(1h);
    };
    co_await with_task_group(body, {.unwrap_single = true});
}
task<> cleaned() {
    const auto body = [] { return load(1); };
    const auto cleanup = []() -> task<> { co_return; };
    static_cast<void>(co_await with_cleanup(body, cleanup, 1s));
}
task<> limited() { static_cast<void>(co_await with_timeout(1h, load, 1)); }
task<> retried() {
    const retry_policy policy{
        .attempts = 2, .first_delay = 1ms, .retries = [](const std::exception_ptr&) { return true; }};
    static_cast<void>(co_await retry(policy, load, 1));
}
async_generator<int> numbers() {
    co_yield 1;
    static_cast<void>(co_await load(1));
}
task<> generated() {
    auto all = numbers();
    for (const int* each = co_await all.next(); each != nullptr;) each = co_await all.next();
}
}  // namespace passed_on

TEST_CASE("trace: it goes through everything that passes an error on in the same task") {
    const std::string inside =
        "std::runtime_error: bad number 1\n"
        "  at         here:#  parse\n"
        "  awaited at here:#  load\n";
    CHECK(told_of(passed_on::unwrapped) == inside +
                                               "  spawned at here:#  passed_on::unwrapped\n"
                                               "  awaited at here:#  passed_on::unwrapped");
    CHECK(told_of(passed_on::cleaned) == inside + "  awaited at here:#  passed_on::cleaned");
    CHECK(told_of(passed_on::limited) == inside + "  awaited at here:#  passed_on::limited");
    CHECK(told_of(passed_on::retried) == inside + "  awaited at here:#  passed_on::retried");
    CHECK(told_of(passed_on::generated) == inside +
                                               "  awaited at here:#  passed_on::numbers\n"
                                               "  awaited at here:#  passed_on::generated");
}

// --- through handles and combinators -------------------------------------------------------------------

namespace through_handles {
task<> first() { static_cast<void>(co_await load(1)); }
task<> second() {
    auto child = spawn(first);
    co_await child;
}
task<> app() {
    auto child = spawn(second);
    co_await child;
}
}  // namespace through_handles

TEST_CASE("trace: through handles it crosses as many tasks as the error does") {
    CHECK(told_of(through_handles::app) ==
          "std::runtime_error: bad number 1\n"
          "  at         here:#  parse\n"
          "  awaited at here:#  load\n"
          "  awaited at here:#  through_handles::first\n"
          "  spawned at here:#  through_handles::second\n"
          "  awaited at here:#  through_handles::second\n"
          "  spawned at here:#  through_handles::app\n"
          "  awaited at here:#  through_handles::app");
}

namespace combined {
task<int> waits() {
    co_await sleep_for(1h);
    co_return 0;
}
task<> all() { static_cast<void>(co_await when_all(load(1), waits())); }
task<> raced() { static_cast<void>(co_await race(load(1))); }
task<> mapped() {
    const std::vector<int> numbers = {1, 2};
    static_cast<void>(co_await map_concurrent(numbers, 1, load));
}
task<> completed_later() {
    std::vector<task<int>> tasks;
    tasks.push_back(load(1));
    const auto body = [](completion_sequence<int>& sequence) -> task<> {
        auto ended = co_await sequence.next();
        co_await yield();
        static_cast<void>(ended->value());
    };
    co_await as_completed(std::move(tasks), body);
}
task<> outcomes() {
    auto both = co_await all_settled(load(1), load(2));
    static_cast<void>(std::get<0>(both).value());
}
task<int> never_ready(started<int>) { return load(1); }
task<> starting() {
    const auto body = [](task_group& group) -> task<> { static_cast<void>(co_await group.start(never_ready)); };
    co_await with_task_group(body, {.unwrap_single = true});
}
}  // namespace combined

// Who awaits a combinator has spawned its children there: that line is told once.
TEST_CASE("trace: combinators pass it on, and tell the line that awaits them") {
    const std::string inside =
        "std::runtime_error: bad number 1\n"
        "  at         here:#  parse\n"
        "  awaited at here:#  load\n";
    CHECK(told_of(combined::all) == inside + "  awaited at here:#  combined::all");
    CHECK(told_of(combined::raced) ==
          "rondo::exception_group: 1 error: " + inside + "  awaited at here:#  combined::raced");
    CHECK(told_of(combined::mapped) == inside + "  awaited at here:#  combined::mapped");
    CHECK(told_of(combined::completed_later) == inside +
                                                    "  spawned at here:#  combined::completed_later\n"
                                                    "  awaited at here:#  combined::completed_later\n"
                                                    "  awaited at here:#  combined::completed_later");
    CHECK(told_of(combined::outcomes) == inside + "  awaited at here:#  combined::outcomes");
    CHECK(told_of(combined::starting) == inside +
                                             "  awaited at here:#  combined::starting\n"
                                             "  awaited at here:#  combined::starting");
}

namespace not_a_coroutine {
task<> refuses(int) { throw std::logic_error("no"); }
task<> app() {
    auto child = spawn(refuses, 1);
    co_await child;
}
}  // namespace not_a_coroutine

TEST_CASE("trace: of a function that fails before it gives a task, it has where that was spawned") {
    CHECK(told_of(not_a_coroutine::app) ==
          "std::logic_error: no\n"
          "  spawned at here:#  not_a_coroutine::app\n"
          "  awaited at here:#  not_a_coroutine::app");
}

// --- caught, kept, thrown again --------------------------------------------------------------------------

namespace caught {
task<> catches(int times) {
    for (int i = 0; i < times; ++i) {
        try {
            static_cast<void>(co_await load(i));
        } catch (const std::runtime_error&) {
        }
    }
}
// An exception of the same type, where the one that was caught has been.
task<> own() {
    co_await catches(3);
    throw std::runtime_error("own");
}
task<> in_the_same_coroutine() {
    try {
        static_cast<void>(co_await load(1));
    } catch (const std::runtime_error&) {
    }
    throw std::runtime_error("own");
}
task<> of_a_child() {
    auto child = spawn(load, 1);
    try {
        static_cast<void>(co_await child);
    } catch (const std::runtime_error&) {
    }
    const std::exception_ptr made = std::make_exception_ptr(std::runtime_error("own"));
    std::rethrow_exception(made);
}
}  // namespace caught

// It showed the way of the earlier one when it came to lie at the same address and was thrown where that had been
// caught.
TEST_CASE("trace: an error that was caught is forgotten") {
    CHECK(told_of(caught::own) == "std::runtime_error: own\n  at         here:#  caught::own");
    CHECK(told_of(caught::in_the_same_coroutine) ==
          "std::runtime_error: own\n  at         here:#  caught::in_the_same_coroutine");
    CHECK(told_of(caught::of_a_child) == "std::runtime_error: own\n  at         here:#  caught::of_a_child");
}

namespace kept {
task<> keeps(std::exception_ptr& error) {
    try {
        static_cast<void>(co_await load(1));
    } catch (...) {
        error = std::current_exception();
    }
}
task<> throws(const std::exception_ptr& error) {
    co_await yield();
    std::rethrow_exception(error);
}
task<> in_another_task() {
    std::exception_ptr error;
    auto first = spawn(keeps, std::ref(error));
    co_await first;
    auto second = spawn(throws, std::cref(error));
    co_await second;
}
task<> by_many() {
    std::exception_ptr error;
    co_await keeps(error);
    for (int i = 0; i < 100; ++i) {
        auto one = spawn(throws, std::cref(error));
        try {
            co_await one;
        } catch (const std::runtime_error&) {
        }
    }
    co_await throws(error);
}
task<> of_an_outcome() {
    auto both = co_await all_settled(load(1), load(2));
    auto other = spawn(throws, std::cref(std::get<0>(both).error()));
    co_await other;
}
}  // namespace kept

TEST_CASE("trace: an error that is rethrown in another task keeps it") {
    const std::string inside =
        "std::runtime_error: bad number 1\n"
        "  at         here:#  parse\n"
        "  awaited at here:#  load\n";
    CHECK(told_of(kept::in_another_task) == inside +
                                                "  rethrown   here:#  kept::throws\n"
                                                "  spawned at here:#  kept::in_another_task\n"
                                                "  awaited at here:#  kept::in_another_task");
    CHECK(told_of(kept::of_an_outcome) == inside +
                                              "  spawned at here:#  kept::of_an_outcome\n"
                                              "  rethrown   here:#  kept::throws\n"
                                              "  spawned at here:#  kept::of_an_outcome\n"
                                              "  awaited at here:#  kept::of_an_outcome");
}

TEST_CASE("trace: of an error that many rethrow, it has the latest way from where the error was kept") {
    CHECK(told_of(kept::by_many) ==
          "std::runtime_error: bad number 1\n"
          "  at         here:#  parse\n"
          "  awaited at here:#  load\n"
          "  rethrown   here:#  kept::throws\n"
          "  awaited at here:#  kept::by_many");
}

// --- bounds ----------------------------------------------------------------------------------------------

namespace deep {
task<> down(int levels) {
    if (levels == 0) {
        static_cast<void>(co_await load(1));
    } else {
        co_await down(levels - 1);
    }
}
task<> app(int levels) {
    auto child = spawn(down, levels);
    co_await yield();
    co_await child;
}
}  // namespace deep

TEST_CASE("trace: of a long way the first 24 places and the last 8 are kept") {
    const std::string text = told_of(deep::app, 1000);
    CHECK(std::count(text.begin(), text.end(), '\n') == 1 + 32);
    CHECK(text.find("  at         here:#  parse\n  awaited at here:#  load\n") != text.npos);
    CHECK(text.find("\n  ... and 973 more\n") != text.npos);
    CHECK(
        text.ends_with("  awaited at here:#  deep::down\n"
                       "  spawned at here:#  deep::app\n"
                       "  awaited at here:#  deep::app"));
}

namespace many {
task<> app(int children) {
    const auto body = [&](task_group& group) -> task<> {
        for (int i = 0; i < children; ++i) group.spawn(fails_late, i).discard();
        group.spawn(load, -1).discard();
        co_await sleep_for(1h);
    };
    co_await with_task_group(body);
}
}  // namespace many

TEST_CASE("trace: when very many fail, the first one still has its own, and the report stays short" *
          doctest::test_suite("order")) {
    const std::string text = told_of(many::app, 1000);
    CHECK(text.find("1001 errors; the first: std::runtime_error: bad number -1\n") != text.npos);
    CHECK(text.find("\n|- std::runtime_error: bad number -1\n"
                    "|    at         here:#  parse\n"
                    "|    awaited at here:#  load\n"
                    "|    spawned at here:#  ") != text.npos);
    CHECK(std::count(text.begin(), text.end(), '\n') <= 1 + 100 + 1 + 100 + 1);
    CHECK(count_of(text, "... and 901 more") == 1);
}

TEST_CASE("trace: an error that waits in a group keeps its own while thousands of others come and go" *
          doctest::test_suite("order")) {
    struct local {
        static task<> app() {
            const auto body = [](task_group& group) -> task<> {
                group.spawn(load, 1).discard();
                try {
                    co_await sleep_for(1h);
                } catch (const cancelled&) {
                }
                co_await shield(caught::catches, 3000);
            };
            co_await with_task_group(body);
        }
    };
    const std::string text = told_of(local::app);
    CHECK(text.find("bad number 1\n  at         here:#  parse\n  awaited at here:#  load\n") != text.npos);
}

TEST_CASE("trace: an error of another thread is told without one") {
    std::exception_ptr error;
    std::thread([&] {
        try {
            rondo::run(in_a_group::app);
        } catch (...) {
            error = std::current_exception();
        }
    }).join();
    CHECK(describe(error) == "rondo::exception_group: 1 error: std::runtime_error: bad number 1");
}

// --- who tells it ----------------------------------------------------------------------------------------

namespace supervised_by {
task<> worker() { static_cast<void>(co_await load(1)); }
task<> app() {
    const auto body = [](supervisor& workers) -> task<> {
        co_await workers.start({.name = "w"}, worker);
        co_await sleep_for(1h);
    };
    co_await with_supervisor(body, {.intensity = 0});
}
task<> not_ready(supervised&) { static_cast<void>(co_await load(1)); }
task<> start_fails() {
    const auto body = [](supervisor& workers) -> task<> { co_await workers.start({.name = "w"}, not_ready); };
    co_await with_supervisor(body);
}
}  // namespace supervised_by

TEST_CASE("trace: of a supervisor that gives up, the last error of the child is told with its own") {
    CHECK(told_of(supervised_by::app) ==
          "rondo::supervisor_gave_up: supervisor gave up on w: more than 0 restarts within 5.0 s; the last error: "
          "std::runtime_error: bad number 1\n"
          "  at         here:#  supervised_by::app\n"
          "  caused by: std::runtime_error: bad number 1\n"
          "  at         here:#  parse\n"
          "  awaited at here:#  load\n"
          "  awaited at here:#  supervised_by::worker\n"
          "  spawned at here:#  supervised_by::app");
    CHECK(told_of(supervised_by::start_fails) ==
          "std::runtime_error: bad number 1\n"
          "  at         here:#  parse\n"
          "  awaited at here:#  load\n"
          "  awaited at here:#  supervised_by::not_ready\n"
          "  awaited at here:#  supervised_by::start_fails\n"
          "  awaited at here:#  supervised_by::start_fails");
}

namespace served {
task<> session(tcp_stream&) { static_cast<void>(co_await load(1)); }
task<> serving(tcp_listener& listener) {
    serve_options options;
    options.stop_on_signals = false;
    co_await serve(listener, session, options);
}
task<> app() {
    tcp_listener listener = test::listen();
    auto server = spawn(serving, std::ref(listener));
    tcp_stream client = co_await tcp_stream::connect(listener.local());
    static_cast<void>(co_await attempt(client.receive()));
    server.cancel();
    static_cast<void>(co_await attempt(server));
}
}  // namespace served

TEST_CASE("trace: what serve logs of a session has it") {
    heard log;
    test::run(served::app);
    const std::string told = log.told();
    CAPTURE(told);
    CHECK(told.starts_with("session with "));
    CHECK(told.ends_with(
        " ended: std::runtime_error: bad number 1; at here:# parse, awaited at here:# load, awaited at here:# "
        "served::session\n"));
}

TEST_CASE("trace: what a supervisor group logs has it, of children in the background too") {
    struct local {
        static task<> app() {
            const auto body = [](supervisor_group& group) -> task<> {
                group.spawn(load, 1).discard();
                group.spawn_background(in_a_group::app).discard();
                co_await sleep_for(1ms);
            };
            co_await with_supervisor_group(body);
        }
    };
    heard log;
    test::run(local::app);
    const std::string told = log.told();
    CAPTURE(told);
    CHECK(told.find("failed: std::runtime_error: bad number 1; at here:# parse, awaited at here:# load\n") !=
          told.npos);
    CHECK(told.find("failed: rondo::exception_group: 1 error: std::runtime_error: bad number 1; at here:# parse, "
                    "awaited at here:# load, awaited at here:# in_a_group::child, spawned at here:# "
                    "in_a_group::app, awaited at here:# in_a_group::app\n") != told.npos);
}

namespace stuck {
task<int> joins(task_handle<int>& child) {
    const int parsed = co_await child;
    co_return parsed;
}
task<> app() {
    auto child = spawn(load, 1);
    event never_set;
    try {
        co_await never_set.wait();
    } catch (const cancelled&) {
    }
    static_cast<void>(co_await shield(joins, std::ref(child)));
}
}  // namespace stuck

TEST_CASE("trace: a deadlock_error tells what the main task failed with when it was cancelled") {
    const std::string told = told_of(stuck::app);
    CAPTURE(told);
    CHECK(told.find("rondo::deadlock_error: deadlock: ") == 0);
    CHECK(told.find("\nWhen it was cancelled, the main task failed: std::runtime_error: bad number 1\n"
                    "  at         here:#  parse\n"
                    "  awaited at here:#  load\n"
                    "  spawned at here:#  stuck::app\n"
                    "  awaited at here:#  stuck::joins\n"
                    "  awaited at here:#  stuck::app") != told.npos);
}

}  // namespace
