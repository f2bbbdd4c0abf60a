// fork(): a child may drop what it has of its parent's, leave it by an exception, or make a loop of its own, and the
// parent notices nothing.
#include "support/net.hpp"

#include <rondo/observe/stall_watchdog.hpp>
#include <rondo/os.hpp>
#include <rondo/net/udp.hpp>

#include <algorithm>
#include <csignal>
#include <deque>
#include <functional>
#include <semaphore>
#include <thread>

#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

/// What a child throws to leave its parent's loop.
struct child_leaves {};

/// A loop of its own in the child, with everything that a backend does.
task<> own_program() {
    test::connection c = co_await test::connected();
    for (int i = 0; i < 3; ++i) {
        co_await c.client.write_all("ping");
        const std::string heard = co_await test::receive_text(c.server, 4);
        if (heard != "ping") ::_exit(20);
        co_await sleep_for(1ms);
    }
    co_await c.client.close();
    const buffer end = co_await c.server.receive();
    if (!end.empty()) ::_exit(21);
}

void run_own_program() {
    try {
        rondo::run(own_program);
    } catch (...) {
        ::_exit(22);
    }
}

/// Waits for `child`, and whether it ended with success.
bool succeeded(pid_t child) {
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    const bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!well) MESSAGE("a child ended with status ", status);
    return well;
}

/// A fork whose child is no test any more: it ends when it is stuck, and leaves no core.
pid_t fork_child() {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
        std::signal(SIGABRT, SIG_DFL);
        const rlimit no_core{0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        ::alarm(30);
    }
    return child;
}

/// Forks wherever the program below says `here()`.
class forker {
 public:
    enum class way { none, drops, unwinds, makes_a_loop_and_unwinds, forks_again };

    explicit forker(way w) : way_(w) {}

    void here() {
        if (::getpid() != parent) return;  // a task that unwinds in a child
        ++points_;
        if (way_ == way::none) return;
        const pid_t child = fork_child();
        if (child == 0) in_child();
        if (!succeeded(child)) ++failed_;
    }
    /// What a child drops: streams and listeners that its tasks wait for.
    void dropped_in_child(std::function<void()> drop) { drop_ = std::move(drop); }

    int points() const { return points_; }
    int failed() const { return failed_; }
    const pid_t parent = ::getpid();

 private:
    void in_child() {
        switch (way_) {
            case way::drops:
                if (drop_) drop_();
                ::_exit(0);
            case way::makes_a_loop_and_unwinds: run_own_program(); break;
            case way::forks_again: {
                const pid_t grandchild = ::fork();
                if (grandchild == 0) {
                    run_own_program();
                    break;
                }
                if (!succeeded(grandchild)) ::_exit(23);
                run_own_program();
                break;
            }
            default: break;
        }
        throw child_leaves();
    }

    way way_;
    std::function<void()> drop_;
    int points_ = 0;
    int failed_ = 0;
};

struct tally {
    std::size_t echoed = 0;
    std::size_t served = 0;
    int ticks = 0;
    int callbacks = 0;
    int from_channel = 0;
    int from_thread = 0;
    int cleaned = 0;
    bool operator==(const tally&) const = default;
};

/// Streams, accepts, timers, groups, channels, posts, limits, shielded cleanup, and a fork between any two of them.
class program {
 public:
    program(forker& f, tally& t) : fork_(f), tally_(t) {}

    task<> main() {
        fork_.here();
        listener_ = test::listen();
        fork_.dropped_in_child([this] {
            listener_ = {};
            for (tcp_stream& s : streams_) s = {};
        });
        auto everything = [this](task_group& all) -> task<> {
            all.spawn([this](task_group& g) -> task<> { co_await accepts(g); }, std::ref(all));
            for (std::size_t i = 0; i < clients; ++i) all.spawn([this, i]() -> task<> { co_await client(i); });
            all.spawn([this]() -> task<> { co_await ticks(); });
            all.spawn([this]() -> task<> { co_await sends(); });
            all.spawn([this]() -> task<> { co_await receives(); });
            all.spawn([this]() -> task<> { co_await cleans_up(); });
            if (!test::on_sim()) all.spawn([this]() -> task<> { co_await hears_a_thread(); });
            all.spawn([this]() -> task<> { co_await callbacks(); });
            fork_.here();
            co_return;
        };
        co_await with_task_group(everything);
        fork_.here();
        co_await listener_.close();
        fork_.here();
    }

 private:
    static constexpr std::size_t clients = 3;
    static constexpr std::size_t rounds = 3;

    task<> accepts(task_group& all) {
        for (std::size_t i = 0; i < clients; ++i) {
            tcp_stream& s = streams_.emplace_back(co_await listener_.accept());
            fork_.here();
            all.spawn([this](tcp_stream& own) -> task<> { co_await session(own); }, std::ref(s));
        }
    }
    task<> session(tcp_stream& own) {
        for (;;) {
            auto data = co_await own.receive();
            fork_.here();  // with the buffer in hand
            if (data.empty()) break;
            tally_.served += data.size();
            co_await own.write_all(data);
            fork_.here();
        }
        co_await own.close();
        fork_.here();
    }
    task<> client(std::size_t i) {
        tcp_stream& own = streams_.emplace_back(co_await tcp_stream::connect(listener_.local()));
        const test::bytes out = test::make_pattern(i, 0, 5000);
        for (std::size_t k = 0; k < rounds; ++k) {
            co_await own.write_all(out);
            fork_.here();
            test::bytes in(out.size());
            const std::size_t n = co_await own.read_exactly(in);
            fork_.here();
            if (test::is_pattern(std::span(in).first(n), i)) tally_.echoed += n;
        }
        own.shutdown();
        fork_.here();
        const buffer end = co_await own.receive();
        CHECK(end.empty());
        own = {};
        fork_.here();
    }
    task<> ticks() {
        for (; tally_.ticks < 4; ++tally_.ticks) {
            co_await sleep_for(300us);
            fork_.here();
        }
        co_await move_on_after(1ms, [this]() -> task<> { co_await never_.wait(); });
        fork_.here();
    }
    task<> sends() {
        for (int i = 0; i < 4; ++i) {
            co_await values_.send(i);
            fork_.here();
        }
        values_.close();
    }
    task<> receives() {
        for (;;) {
            const auto next = co_await values_.receive();
            fork_.here();
            if (!next) co_return;
            ++tally_.from_channel;
        }
    }
    task<> cleans_up() {
        co_await shield([this]() -> task<> {
            co_await sleep_for(1ms);
            fork_.here();
            co_await sleep_for(1ms);
        });
        ++tally_.cleaned;
    }
    task<> hears_a_thread() {
        thread_channel<int> jobs(2);
        thread = std::thread([out = jobs.make_sender()]() mutable {
            for (int i = 0; i < 5; ++i)
                if (!out.send(i)) return;
            const auto gone = std::move(out);
        });
        for (;;) {
            const auto next = co_await jobs.receive();
            fork_.here();
            if (!next) co_return;
            ++tally_.from_thread;
        }
    }
    task<> callbacks() {
        event done;
        loop& l = this_loop();
        timer every;
        every = l.set_interval(500us, [&] {
            fork_.here();
            if (++tally_.callbacks < 3) return;
            every.cancel();
            l.next_tick([&] {
                fork_.here();
                l.queue_microtask([&] {
                    fork_.here();
                    l.set_immediate([&] {
                        fork_.here();
                        const bool posted = l.remote().post([&] {
                            fork_.here();
                            l.queue_close([&] {
                                fork_.here();
                                done.set();
                            });
                        });
                        CHECK(posted);
                    });
                });
            });
        });
        co_await done.wait();
    }

    forker& fork_;
    tally& tally_;
    tcp_listener listener_;
    std::deque<tcp_stream> streams_;
    channel<int> values_{1};
    event never_;

 public:
    static inline std::thread thread;  // outside: in a child there is none to join
};

struct outcome {
    tally counts;
    int points = 0;
    int failed = 0;
    std::string backend;
};

outcome run_with(forker::way way) {
    outcome all;
    forker f(way);
    try {
        program p(f, all.counts);
        loop l;
        // What a callback throws leaves run(), too; then it is the loop that unwinds the tasks when it goes.
        l.on_unhandled([](std::exception_ptr e, std::source_location, void*) { std::rethrow_exception(e); });
        run_on(l, [&]() -> task<> { co_await p.main(); });
        all.backend = l.backend_info();
    } catch (...) {
        if (::getpid() != f.parent) ::_exit(0);
        throw;
    }
    if (::getpid() != f.parent) ::_exit(24);
    if (program::thread.joinable()) program::thread.join();
    all.points = f.points();
    all.failed = f.failed();
    return all;
}

TEST_CASE("fork: in the middle of everything, a child leaves in any way, and the parent notices nothing") {
    const outcome alone = run_with(forker::way::none);
    CHECK(alone.counts.echoed == 3 * 3 * 5000);
    CHECK(alone.counts.from_channel == 4);
    CHECK(alone.points > 40);
    for (const forker::way way :
         {forker::way::drops, forker::way::unwinds, forker::way::makes_a_loop_and_unwinds, forker::way::forks_again}) {
        CAPTURE(static_cast<int>(way));
        const outcome all = run_with(way);
        CHECK(all.counts == alone.counts);
        CHECK(all.failed == 0);
        if (!test::on_sim()) continue;
        CHECK(all.points == alone.points);
        CHECK(all.backend == alone.backend);  // the world went exactly as it does without
    }
}

// epoll: the child took the registration out, and no event came any more. io_uring: it wrote into the shared ring.
TEST_CASE("fork: a stream that a child drops is still heard by the parent") {
    test::run([]() -> task<> {
        test::connection c = co_await test::connected();
        auto reading = spawn([](tcp_stream& s) -> task<std::string> { co_return co_await test::receive_text(s, 5); },
                             std::ref(c.server));
        co_await test::settle();
        const pid_t child = fork_child();
        if (child == 0) {
            c.server = {};
            c.client = {};
            ::_exit(0);
        }
        CHECK(succeeded(child));
        co_await c.client.write_all("hello");
        const std::string heard = co_await reading;
        CHECK(heard == "hello");
    });
}

TEST_CASE("fork: a child that drops a listener neither refuses nor resets what the parent has accepted") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        tcp_stream client;
        event now;
        now.set();
        for (bool lost = false; !lost;) {
            client = co_await tcp_stream::connect(listener.local());
            co_await test::settle();
            // When it loses, its connection waits in the listener for the next accept.
            auto either = co_await select_one(now.wait(), listener.accept());
            lost = either.index() == 0;
        }
        const pid_t child = fork_child();
        if (child == 0) {
            listener = {};
            ::_exit(0);
        }
        CHECK(succeeded(child));
        tcp_stream server = co_await listener.accept();
        co_await server.write_all("welcome");
        co_await server.close();
        const std::string heard = co_await test::receive_text(client, 8);
        CHECK(heard == "welcome");
    });
}

TEST_CASE("fork: what else was ready at that moment runs in the parent only") {
    // Shared with the children.
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const auto say = [&](char c) { CHECK(::write(ends[1], &c, 1) == 1); };
    const pid_t parent = ::getpid();
    try {
        test::run([&]() -> task<> {
            for (int i = 0; i < 5; ++i)
                spawn([&]() -> task<> {
                    co_await sleep_for(1ms);  // all are due in one phase
                    say('t');
                    co_await yield();
                    say('y');
                }).discard();
            this_loop().set_timeout(1ms, [&] { say('c'); });
            this_loop().set_immediate([&] { say('i'); });
            co_await sleep_for(1us);
            spawn([&]() -> task<> {
                say('s');
                co_return;
            }).discard();
            const pid_t child = fork_child();
            if (child == 0) throw child_leaves();
            CHECK(succeeded(child));
            co_await sleep_for(5ms);
        });
    } catch (...) {
        ::_exit(0);
    }
    REQUIRE(::getpid() == parent);
    ::close(ends[1]);
    std::string said;
    char c;
    while (::read(ends[0], &c, 1) == 1) said += c;
    ::close(ends[0]);
    std::sort(said.begin(), said.end());
    CHECK(said ==
          "cisttttt"
          "yyyyy");
}

TEST_CASE("fork: a child lets go of the loop of another thread, and of the objects that belong to it") {
    std::binary_semaphore stands{0}, go{0};
    tcp_stream* of_the_other = nullptr;
    std::string heard;
    std::thread other([&] {
        rondo::run([&]() -> task<> {
            test::connection c = co_await test::connected();
            of_the_other = &c.server;
            auto reading =
                spawn([](tcp_stream& s) -> task<std::string> { co_return co_await test::receive_text(s, 2); },
                      std::ref(c.server));
            co_await test::settle();
            stands.release();
            go.acquire();
            co_await c.client.write_all("ok");
            heard = co_await reading;
        });
    });
    stands.acquire();
    const pid_t child = fork_child();
    if (child == 0) {
        *of_the_other = {};
        run_own_program();
        ::_exit(0);
    }
    CHECK(succeeded(child));
    go.release();
    other.join();
    CHECK(heard == "ok");
}

TEST_CASE("fork: a child that drops remotes and senders does not wake the parent, nor wait for its threads") {
    test::run([]() -> task<> {
        auto r = std::make_unique<remote>(this_loop().remote());
        thread_channel<int> values(1);
        auto out = std::make_unique<thread_channel<int>::sender>(values.make_sender());
        std::thread blocked([out = values.make_sender()] {
            CHECK(out.send(1));
            CHECK(out.send(2));  // full: it blocks, at the latest until the loop turns
        });
        const std::uint64_t turns = this_loop().stats().turns;
        const pid_t child = fork_child();
        if (child == 0) {
            r.reset();
            out.reset();
            values.close();
            ::_exit(0);
        }
        CHECK(succeeded(child));
        CHECK(this_loop().stats().turns == turns);
        for (int i = 1; i < 3; ++i) {
            const auto next = co_await values.receive();
            CHECK(next == i);
        }
        blocked.join();
        out.reset();
        const auto end = co_await values.receive();
        CHECK(!end);
    });
}

TEST_CASE("fork: a child has no watchdog's thread to wait for") {
    auto watch = std::make_unique<stall_watchdog>();
    const pid_t child = fork_child();
    if (child == 0) {
        watch.reset();
        ::_exit(0);
    }
    CHECK(succeeded(child));
}

// The handler stayed, and posted to the parent's loop: nothing could end the child but SIGKILL.
TEST_CASE("fork: in a child signals do again what they did before the parent's loop watched them") {
    test::run([]() -> task<> {
        auto watching = std::make_unique<dump_on_signal>(SIGUSR1, this_loop());
        const pid_t child = fork_child();
        if (child == 0) {
            ::raise(SIGUSR1);
            ::_exit(0);
        }
        int status = 0;
        CHECK(::waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status));
        CHECK(WTERMSIG(status) == SIGUSR1);
        const pid_t tidy = fork_child();
        if (tidy == 0) {
            std::signal(SIGUSR1, SIG_IGN);
            watching.reset();  // what the child has installed itself stays
            ::raise(SIGUSR1);
            ::_exit(0);
        }
        CHECK(succeeded(tidy));
        co_return;
    });
}

TEST_CASE("fork: inside an embedded loop, the child comes back to its host, and the parent goes on") {
    if (test::on_sim()) return;  // it has no descriptor to wait for
    loop l;
    const int readable = l.poll_fd();
    REQUIRE(readable >= 0);
    const pid_t parent = ::getpid();
    pid_t child = -1;
    std::string heard;
    auto main = spawn_on(l, [&]() -> task<> {
        test::connection c = co_await test::connected();
        auto reading = spawn([](tcp_stream& s) -> task<std::string> { co_return co_await test::receive_text(s, 2); },
                             std::ref(c.server));
        co_await test::settle();
        child = fork_child();
        if (child == 0) co_return;
        CHECK(succeeded(child));
        co_await c.client.write_all("ok");
        heard = co_await reading;
    });
    while (l.run_nowait()) {
        if (::getpid() != parent) ::_exit(0);
        pollfd ours{readable, POLLIN, 0};
        const bool waits = l.next_deadline() == never;
        ::poll(&ours, 1, waits ? -1 : 1);
    }
    if (::getpid() != parent) ::_exit(0);
    CHECK(heard == "ok");
    CHECK(main.done());
}

TEST_CASE("fork: a wait for a descriptor of others is cancelled in the child, and goes on in the parent") {
    if (test::on_sim()) return;  // there are only simulated ones
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const pid_t parent = ::getpid();
    try {
        test::run([&]() -> task<> {
            auto body = [&](task_group& g) -> task<> {
                g.spawn([&]() -> task<> { co_await wait_readable(ends[0]); });
                co_await test::settle();
                const pid_t child = fork_child();
                if (child == 0) throw child_leaves();
                CHECK(succeeded(child));
                CHECK(::write(ends[1], "x", 1) == 1);
            };
            co_await with_task_group(body);
        });
    } catch (...) {
        if (::getpid() == parent) throw;
        ::_exit(0);
    }
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_CASE("fork: who sleeps by the wall clock unwinds in the child, and sleeps on in the parent") {
    bool woken = false;
    const pid_t parent = ::getpid();
    try {
        test::run([&]() -> task<> {
            auto body = [&](task_group& g) -> task<> {
                g.spawn([&]() -> task<> {
                    co_await sleep_until(wall_now() + 20ms);
                    woken = true;
                });
                co_await sleep_for(1ms);
                const pid_t child = fork_child();
                if (child == 0) throw child_leaves();
                CHECK(succeeded(child));
            };
            co_await with_task_group(body);
        });
    } catch (...) {
        if (::getpid() == parent) throw;
        ::_exit(0);
    }
    CHECK(woken);
}

/// What a child writes to standard error before it aborts.
template <class F>
std::string last_words(F what) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const pid_t child = fork_child();
    if (child == 0) {
        ::dup2(ends[1], 2);
        what();
        ::_exit(0);
    }
    ::close(ends[1]);
    std::string text;
    char piece[1024];
    for (ssize_t n; (n = ::read(ends[0], piece, sizeof piece)) > 0;) text.append(piece, static_cast<std::size_t>(n));
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) text += "(it went well)";
    return text;
}

TEST_CASE("fork: whatever else a child does with the parent's loop is told") {
    test::run([]() -> task<> {
        test::connection c = co_await test::connected();
        loop& l = this_loop();
        const remote r = l.remote();
        thread_channel<int> values(1);
        const auto out = values.make_sender();
        CHECK(out.send(1));
        co_await test::settle();
        const std::pair<const char*, std::function<void()>> uses[] = {
            {"a call on descriptor", [&] { static_cast<void>(c.client.try_write_some("x")); }},
            {"a call on descriptor", [&] { static_cast<void>(c.client.try_read_some(writable_bytes())); }},
            {"a call on descriptor", [&] { c.client.shutdown(); }},
            {"a call on descriptor", [&] { static_cast<void>(c.client.try_no_delay(true)); }},
            {"making a socket", [&] { static_cast<void>(test::listen()); }},
            {"making a socket", [&] { static_cast<void>(udp_socket::try_unbound_v4()); }},
            {"making a pipe", [&] { static_cast<void>(try_make_pipe()); }},
            {"making a terminal", [&] { static_cast<void>(pty::try_make()); }},
            {"making a FIFO", [&] { static_cast<void>(try_make_fifo("f")); }},
            {"opening a FIFO", [&] { static_cast<void>(try_open_fifo_reader("f")); }},
            {"opening a standard stream", [&] { static_cast<void>(standard_input::try_open()); }},
            {"a post", [&] { static_cast<void>(r.post([] {})); }},
            {"a blocking send", [&] { static_cast<void>(out.send(2)); }},
            {"poll_fd()", [&] { static_cast<void>(l.poll_fd()); }},
        };
        for (const auto& [name, use] : uses) {
            const std::string said = last_words(use);
            CAPTURE(said);
            CHECK(said.find(std::string(name)) != said.npos);
            CHECK(said.find("a loop cannot be used in a forked child; make a new one") != said.npos);
        }
        // Looking is no use of it.
        const std::string looked = last_words([&] {
            static_cast<void>(c.client.local());
            static_cast<void>(l.backend_info());
            static_cast<void>(await_tree(l).text());
            if (!l.left_behind()) ::_exit(1);
        });
        CHECK(looked == "(it went well)");
        CHECK(!l.left_behind());
    });
}

TEST_CASE("fork: a child that awaits something of its parent's is told so") {
    const auto in_child = [](auto await_it) {
        return last_words([&] {
            rondo::run([&]() -> task<> {
                test::connection c = co_await test::connected();
                const pid_t child = fork_child();
                if (child == 0) {
                    co_await await_it(c);
                    ::_exit(0);
                }
                ::_exit(succeeded(child) ? 0 : 1);
            });
        });
    };
    const std::string writes = in_child([](test::connection& c) -> task<> { co_await c.client.write_all("x"); });
    const std::string sleeps = in_child([](test::connection&) -> task<> { co_await sleep_for(1ms); });
    const std::string connects = in_child(
        [](test::connection& c) -> task<> { static_cast<void>(co_await tcp_stream::connect(c.client.peer())); });
    for (const std::string& said : {writes, sleeps, connects}) {
        CAPTURE(said);
        CHECK(said.find("a loop cannot be used in a forked child; make a new one") != said.npos);
    }
}

// It was told that it had used the loop, and not for whom it had waited.
TEST_CASE("fork: a child does not wait for what is shielded and never woken, but names it") {
    const std::string said = last_words([] {
        const pid_t parent = ::getpid();
        event never_set;
        const auto main = [&]() -> task<> {
            auto waits = [&]() -> task<> {
                name_task("stubborn");
                co_await shield([&]() -> task<> { co_await never_set.wait(); });
            };
            auto stubborn = spawn(waits);
            co_await test::settle();
            const pid_t child = fork_child();
            if (child == 0) throw child_leaves();
            static_cast<void>(succeeded(child));
            never_set.set();
            co_await stubborn;
        };
        try {
            rondo::run(main);
        } catch (const child_leaves&) {
        }
        if (::getpid() == parent) ::_exit(0);
    });
    CHECK(said.find("stubborn") != said.npos);
    CHECK(said.find("cannot be used") == said.npos);
}

TEST_CASE("fork: exit() in a child under run() leaves the loop as it is") {
    const std::string said = last_words([] {
        set_log_level(log_level::warning);  // at debug level a loop may say which backend was refused
        static std::unique_ptr<loop> l;  // goes when the process exits
        l = std::make_unique<loop>();
        run_on(*l, []() -> task<> {
            spawn([]() -> task<> { co_await sleep_for(1h); }).discard();
            co_await test::settle();
            const pid_t child = fork_child();
            if (child == 0) {
                l.reset();
                ::_exit(0);
            }
            ::_exit(succeeded(child) ? 0 : 1);
        });
    });
    CHECK(said == "(it went well)");
}

}  // namespace
