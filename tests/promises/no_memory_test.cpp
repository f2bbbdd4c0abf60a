// No memory at all: every call of malloc fails in turn, alone, and with all that come after it.
//
// A thread of its own runs each program, so that its first loop, post and exception are among what fails: what a
// thread has once, it gets then. The answer must be an error or a success; nothing may be left; and the same thread
// must be able to run the program when there is memory again.
#include "support/net.hpp"

#include <rondo/actor/actor.hpp>
#include <rondo/loop/memory.hpp>
#include <rondo/observe/chrome_trace.hpp>
#include <rondo/observe/loop_metrics.hpp>
#include <rondo/observe/recorder.hpp>
#include <rondo/actor/supervisor.hpp>

#include <cerrno>
#include <functional>
#include <map>
#include <stdexcept>
#include <thread>
#include <variant>

#include <unistd.h>

using namespace rondo;
using namespace std::chrono_literals;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RONDO_TESTS_OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define RONDO_TESTS_OWN_MALLOC 0
#endif
#endif
#ifndef RONDO_TESTS_OWN_MALLOC
#define RONDO_TESTS_OWN_MALLOC 1
#endif

#if RONDO_TESTS_OWN_MALLOC  // a sanitizer has one already

namespace {

/// The calls of this thread that fail: `count` of them, when `before` have succeeded.
struct shortage {
    bool on = false;
    std::size_t before = 0;
    std::size_t count = 0;
    std::size_t failed = 0;

    bool fails() noexcept {
        if (!on) return false;
        if (before != 0) return --before, false;
        if (failed == count) return false;
        return ++failed, true;
    }
};
constinit thread_local shortage here{};

}  // namespace

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

static void* none() {
    errno = ENOMEM;
    return nullptr;
}
void* malloc(std::size_t size) { return here.fails() ? none() : __libc_malloc(size); }
void* calloc(std::size_t n, std::size_t size) { return here.fails() ? none() : __libc_calloc(n, size); }
void* realloc(void* at, std::size_t size) { return here.fails() ? none() : __libc_realloc(at, size); }
void* aligned_alloc(std::size_t to, std::size_t size) { return here.fails() ? none() : __libc_memalign(to, size); }
int posix_memalign(void** at, std::size_t to, std::size_t size) {
    if (here.fails()) return ENOMEM;
    *at = __libc_memalign(to, size);
    return *at != nullptr ? 0 : ENOMEM;
}
}

namespace {

// --- what may come out ----------------------------------------------------------------------------------

enum class ending { success, no_memory, consequence };

/// Consequences: a peer, a helper or a body that failed for lack of memory is missed by others.
ending judge(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::bad_alloc&) {
        return ending::no_memory;
    } catch (const std::system_error& e) {
        return e.code() == std::errc::not_enough_memory ? ending::no_memory : ending::consequence;
    } catch (...) {
        return ending::consequence;
    }
}

struct subject {
    std::string name;
    task<> (*program)();
};

ending run_once(const subject& what, loop_options options = {}) {
    try {
        loop l(options);
        l.on_unhandled([](std::exception_ptr, std::source_location, void*) {});
        run_on(l, what.program);
        return ending::success;
    } catch (...) {
        return judge(std::current_exception());
    }
}

struct tally {
    std::size_t runs = 0;
    std::size_t frames_left = 0;
    std::size_t descriptors_left = 0;
    std::size_t not_again = 0;  // the run after it, with memory, did not succeed
    std::size_t unfounded = 0;  // an error although nothing failed
};

/// One run without some calls of malloc, on a thread of its own. Whether any failed.
bool run_without(const subject& what, std::size_t before, std::size_t count, tally& to) {
    bool any = false;
    const std::size_t descriptors = test::open_descriptors();
    std::thread([&] {
        here = {true, before, count, 0};
        const ending how = run_once(what);
        here.on = false;
        any = here.failed != 0;
        ++to.runs;
        to.unfounded += !any && how != ending::success;
        to.frames_left += detail::frames_live() != 0;
        to.not_again += run_once(what) != ending::success;
        to.frames_left += detail::frames_live() != 0;
    }).join();
    to.descriptors_left += test::open_descriptors() != descriptors;
    return any;
}

constexpr std::size_t for_ever = ~std::size_t{0};

void check_all(const subject& what, std::initializer_list<std::size_t> counts = {1, 7, for_ever}) {
    CAPTURE(what.name);
    set_log_sink([](const log_record&, void*) noexcept {});
    for (const std::size_t count : counts) {
        CAPTURE(count);
        tally seen;
        std::size_t before = 0;
        while (run_without(what, before, count, seen) && before < 20'000) ++before;
        CAPTURE(before);
        CHECK(seen.runs > 5);
        CHECK(seen.frames_left == 0);
        CHECK(seen.descriptors_left == 0);
        CHECK(seen.not_again == 0);
        CHECK(seen.unfounded == 0);
    }
    set_log_sink(nullptr);
}

// --- the programs -------------------------------------------------------------------------------------

task<int> soon(int value) {
    co_await sleep_for(1us);
    co_return value;
}

task<int> fails(const char* why) {
    co_await yield();
    throw std::runtime_error(why);
}

const task_local<std::string> who("nobody");

task<> scopes() {
    auto body = [](task_group& group) -> task<int> {
        name_task("the body of a group, with a name that is longer than a short one");
        auto a = group.spawn(soon, 1);
        auto b = group.spawn(soon, 2);
        group.spawn_background([]() -> task<> { co_await sleep_for(1h); });
        const int x = co_await a;
        const int y = co_await b;
        co_return x + y;
    };
    auto inside = [&]() -> task<int> {
        const int sum = co_await with_task_group(body, {.max_running = 2});
        co_return sum;
    };
    static_cast<void>(co_await who.with(std::string("somebody with a name that is quite long"), inside));
    static_cast<void>(co_await with_timeout(1h, soon, 3));
    const bool slept = co_await move_on_after(1us, []() -> task<> { co_await sleep_for(1h); });
    if (slept) throw std::logic_error("too long");
    auto work = []() -> task<int> { return soon(5); };
    auto close = []() -> task<> { co_await yield(); };
    static_cast<void>(co_await with_cleanup(work, close, 1h));
    co_await shield([]() -> task<> { co_await yield(); });
}

task<> errors() {
    auto body = [](task_group& group) -> task<> {
        group.spawn(fails, "one").discard();
        group.spawn(fails, "two").discard();
        group.spawn(fails, "a third error whose text is rather long and needs memory of its own").discard();
        co_await sleep_for(1h);
    };
    try {
        co_await with_task_group(body);
    } catch (const exception_group& g) {
        if (g.errors().empty()) throw;
    } catch (const std::runtime_error&) {  // the group needs memory
    }
    try {
        auto one = []() -> task<> { static_cast<void>(co_await fails("nested")); };
        auto two = [&]() -> task<> { co_await one(); };
        co_await two();
    } catch (const std::runtime_error& e) {
        if (detail::message_of(std::current_exception()).empty()) throw;
    }
    auto supervised = [](supervisor_group& group) -> task<> {
        group.spawn(fails, "alone").discard();
        co_await yield();
        co_await yield();
    };
    supervisor_group_options options;
    options.on_error = [](const std::exception_ptr&, std::source_location, void*) {};
    co_await with_supervisor_group(supervised, options);
}

task<> refused() {
    const auto result = co_await attempt(tcp_stream::connect(endpoint("127.0.0.1", 1)));
    if (result) throw std::logic_error("nobody listens there");
}

task<> combined() {
    static_cast<void>(co_await when_all(soon(1), soon(2)));
    auto first = co_await when_any(soon(1), soon(2));
    static_cast<void>(first);
    static_cast<void>(co_await race(soon(1), soon(2)));
    static_cast<void>(co_await all_settled(soon(1), soon(2)));
    std::vector<int> numbers{1, 2, 3};
    static_cast<void>(co_await map_concurrent(numbers, 2, soon));
    std::vector<task<int>> tasks;
    for (int i = 0; i < 3; ++i) tasks.push_back(soon(i));
    auto look = [](completion_sequence<int>& parts) -> task<> {
        for (;;) {
            auto part = co_await parts.next();
            if (!part) break;
        }
    };
    co_await as_completed(std::move(tasks), look);
    auto a = spawn(soon, 1);
    auto b = spawn(soon, 2);
    static_cast<void>(co_await wait_for_tasks(return_when::all_completed, 2s, a, b));
}

async_generator<int> counts() {
    for (int i = 0; i < 3; ++i) {
        co_await yield();
        co_yield i;
    }
}

task<> synchronised() {
    semaphore permits(1);
    mutex m;
    shared_mutex both;
    condition changed;
    event opened;
    latch down(2);
    barrier meet(2);
    once first;
    rate_limiter limit({.tokens = 1, .per = 1us, .burst = 1});
    keyed_rate_limiter<std::string> limits({.tokens = 1, .per = 1us, .burst = 1});
    bool ready = false;
    auto each = [&]() -> task<> {
        {
            auto permit = co_await permits.acquire();
            co_await yield();
        }
        {
            auto lock = co_await m.lock();
            co_await yield();
        }
        {
            auto lock = co_await both.lock_shared();
            co_await yield();
        }
        {
            auto lock = co_await both.lock();
            co_await yield();
        }
        co_await limit.acquire();
        co_await limits.acquire("a key that is longer than a short string");
        down.count_down();
        co_await down.wait();
        static_cast<void>(co_await meet.arrive_and_wait());
        opened.set();
        co_await opened.wait();
    };
    auto body = [&](task_group& group) -> task<> {
        group.spawn(each).discard();
        group.spawn(each).discard();
        group
            .spawn([&]() -> task<> {
                auto lock = co_await m.lock();
                while (!ready) co_await changed.wait(lock);
            })
            .discard();
        co_await yield();
        auto lock = co_await m.lock();
        ready = true;
        changed.notify_all();
    };
    co_await with_task_group(body);
    auto numbers = counts();
    for (;;) {
        auto n = co_await numbers.next();
        if (!n) break;
    }
}

task<> piped() {
    channel<std::string> lines(1);
    oneshot<int> answer;
    broadcast<int> news(4);
    watch<int> level(0);
    queue<int> jobs(unbounded);
    auto body = [&](task_group& group) -> task<> {
        group
            .spawn([&]() -> task<> {
                for (int i = 0; i < 3; ++i) co_await lines.send(std::string(40, 'x'));
                lines.close();
            })
            .discard();
        group
            .spawn([&]() -> task<> {
                for (;;) {
                    auto line = co_await lines.receive();
                    if (!line) co_return;
                }
            })
            .discard();
        auto subscribed = news.subscribe();
        static_cast<void>(co_await news.send(1));
        static_cast<void>(co_await subscribed.receive());
        for (int i = 0; i < 20; ++i) co_await jobs.emplace(i);
        for (int i = 0; i < 20; ++i) {
            static_cast<void>(co_await jobs.get());
            jobs.task_done();
        }
        level.set(1);
        auto chosen = co_await select_one(sleep_for(1us), sleep_for(1h));
        static_cast<void>(chosen);
        static_cast<void>(answer.sender.send(3));
        static_cast<void>(co_await answer.receiver.receive());
    };
    co_await with_task_group(body);
}

struct add {
    int by;
};
struct get : request<int> {};
struct broken {};
struct adder {
    using message = std::variant<add, get, broken>;
    void on(add& a) { sum += a.by; }
    void on(get& g) { g.reply(sum); }
    void on(broken&) { throw std::runtime_error("an actor that fails with a long explanation of why it did"); }
    int sum = 0;
};

task<> acting() {
    auto use = [](supervisor& all) -> task<> {
        auto ref = co_await all.start_actor<adder>({.name = "adder"});
        co_await ref.tell<add>(1);
        co_await ref.tell<broken>();
        const auto sum = co_await attempt(ref.ask<get>());
        static_cast<void>(sum);
    };
    co_await with_supervisor(use, {.how = strategy::one_for_one, .intensity = 4, .period = 5min});
}

task<> streaming() {
    tcp_listener listener = test::listen();
    const endpoint where = listener.local();
    auto body = [&](task_group& group) -> task<> {
        serve_options options;
        options.stop_on_signals = false;
        auto server = group.spawn_background(
            [](tcp_listener& l, serve_options o) -> task<> { co_await serve(l, test::echo_session, o); },
            std::ref(listener), options);
        tcp_stream client = co_await tcp_stream::connect(where);
        for (int i = 0; i < 3; ++i) {
            co_await client.write_all(test::as_bytes("hello"));
            std::byte back[5];
            co_await client.read_exactly(back);
        }
        co_await client.write_all(test::as_bytes("more"));
        const auto late = co_await move_on_after(1us, [&]() -> task<> {
            std::byte much[100];
            co_await client.read_exactly(much);
        });
        static_cast<void>(late);
        co_await client.close();
        server.cancel();
    };
    co_await with_task_group(body);
}

task<> callbacks() {
    loop& l = this_loop();
    int count = 0;
    auto timeout = l.set_timeout(1us, [&] { ++count; });
    auto interval = l.set_interval(1us, [&] { ++count; });
    auto immediate_one = l.set_immediate([&] { ++count; });
    l.next_tick([&] { ++count; });
    l.queue_microtask([&] { ++count; });
    const auto from = l.remote();
    static_cast<void>(from.post([&] { ++count; }));
    thread_channel<int> in(4);
    {
        auto out = in.make_sender();
        static_cast<void>(out.try_send(1));
    }
    static_cast<void>(co_await in.receive());
    co_await sleep_for(10us);
    co_await immediate();
    interval.cancel();
}

task<> watched() {
    auto sleeper = spawn([]() -> task<> { co_await sleep_for(1h); });
    co_await yield();
    const await_tree tree(this_loop());
    if (tree.text().empty() || tree.json().empty()) throw std::logic_error("no tree");
    static_cast<void>(this_loop().why_alive());
    sleeper.cancel();
    static_cast<void>(co_await attempt(sleeper));
}

task<> takes_one(rate_limiter& limit) { co_await limit.acquire(); }

// The timer for the next token was removed and added again when the first in line was cancelled. In the middle of a
// cancel what is removed leaves its slot later, so the other one could need memory, in a function that cannot fail.
task<> cancels_the_first_in_line() {
    rate_limiter limit({.tokens = 1, .per = 1h, .burst = 1});
    co_await limit.acquire();
    std::vector<timer> slots;  // with the limiter's own, as many as the loop has memory for at first
    for (int i = 0; i < 63; ++i) slots.push_back(this_loop().set_timeout(1us, [] {}));
    co_await sleep_for(1ms);
    CHECK(this_loop().stats().timers == 0);
    auto first = spawn(takes_one, std::ref(limit));
    auto second = spawn(takes_one, std::ref(limit));
    for (int i = 0; i < 4; ++i) co_await test::others_first();
    here = {true, 0, for_ever, 0};
    first.cancel();
    here.on = false;
    co_await test::others_first();
    CHECK(this_loop().stats().timers == 1);  // for the second
    second.cancel();
    static_cast<void>(co_await attempt(first));
    static_cast<void>(co_await attempt(second));
    CHECK(this_loop().stats().timers == 0);
}

TEST_CASE("no memory: cancelling the first who waits for a token needs none") { test::run(cancels_the_first_in_line); }

task<> nested_sleep(int depth, int& ended) {
    struct count_end {
        int& n;
        ~count_end() { ++n; }
    } count{ended};
    if (depth != 0) {
        co_await nested_sleep(depth - 1, ended);
    } else {
        co_await sleep_for(1h);
    }
}

TEST_CASE("no memory: any number of tasks is cancelled, also if their handles stay") {
    // Each handle kept the exception that its task had been cancelled by. Without memory the C++ runtime has room for a
    // few hundred of them, and then ends the process.
    constexpr int many = 5000;
    int ended = 0;
    test::run([&]() -> task<> {
        std::vector<task_handle<void>> handles;
        handles.reserve(many);
        auto body = [&](task_group& group) -> task<> {
            for (int i = 0; i < many; ++i) handles.push_back(group.spawn(nested_sleep, 2, std::ref(ended)));
            while (this_loop().stats().timers < many) co_await immediate();
            here = {true, 0, for_ever, 0};
            group.cancel();
            co_await yield();
        };
        const auto all = [&]() -> task<> { co_await with_task_group(body); };
        co_await all();
        here.on = false;
        for (const auto& each : handles) CHECK(each.state() == task_state::cancelled);
    });
    CHECK(ended == 3 * many);
}

TEST_CASE("no memory: the first post of a thread throws bad_alloc, and the second one is delivered") {
    // What a thread gives back at its end was registered with memory of its own, and glibc ended the process.
    trim_memory();  // or a block that came back earlier would do for it
    bool failed = false;
    bool ran = false;
    loop l;
    std::thread([&, to = l.remote()] {
        here = {true, 0, for_ever, 0};
        try {
            static_cast<void>(to.post([] {}));
        } catch (const std::bad_alloc&) {
            failed = true;
        }
        here.on = false;
        static_cast<void>(to.post([&] { ran = true; }));
    }).join();
    l.run();
    CHECK(failed);
    CHECK(ran);
}

TEST_CASE("no memory: the report of an error needs none") {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const int standard_error = dup(2);
    const auto error = std::make_exception_ptr(
        io_error(std::error_code(ECONNREFUSED, std::system_category()), "connect", "[2001:db8::1:2:3:4]:8080"));
    dup2(ends[1], 2);
    here = {true, 0, for_ever, 0};
    detail::report_escaped(error);
    here.on = false;
    dup2(standard_error, 2);
    close(standard_error);
    close(ends[1]);
    char text[200] = "";
    static_cast<void>(read(ends[0], text, sizeof text - 1));
    close(ends[0]);
    CHECK(std::string_view(text).starts_with(
        "rondo: connect [2001:db8::1:2:3:4]:8080: Connection refused (errno 111)\n"));
}

TEST_CASE("no memory: scopes, groups, deadlines and cleanup fail as a whole, or do not") {
    check_all({"scopes", scopes});
}
TEST_CASE("no memory: errors arrive, perhaps not all of them") { check_all({"errors", errors}); }
TEST_CASE("no memory: combinators") { check_all({"combined", combined}); }
TEST_CASE("no memory: locks, permits, limits and generators") { check_all({"synchronised", synchronised}); }
TEST_CASE("no memory: channels, queues and select") { check_all({"piped", piped}); }
TEST_CASE("no memory: actors and supervisors") { check_all({"acting", acting}); }
TEST_CASE("no memory: streams and serve") {
    check_all({"streaming", streaming}, {1, 3});  // a server without memory tries again, for ever
}
TEST_CASE("no memory: a connection that is refused") { check_all({"refused", refused}); }
TEST_CASE("no memory: callbacks, and what other threads send") { check_all({"callbacks", callbacks}); }
TEST_CASE("no memory: reports") { check_all({"watched", watched}); }

}  // namespace

#endif
