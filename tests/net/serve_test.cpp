// serve(): sessions, limits, signals, and the end of a server.
#include "support/serving.hpp"

#include <csignal>
#include <set>
#include <stdexcept>

#include <sys/wait.h>
#include <unistd.h>

using namespace rondo;
using namespace std::chrono_literals;
using test::ask;
using test::asks;
using test::controlled;
using test::echo;
using test::echo_by_value;
using test::ends;
using test::heard;
using test::serving;
using test::unsignalled;

namespace {

TEST_CASE("serve: runs a session for each connection, which owns the stream, by reference or by value") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        auto by_reference = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, unsignalled());
        for (const char* question : {"one", "two", "three"}) {
            const std::string answer = co_await asks(listener.local(), question);
            CHECK(answer == question);
        }
        co_await ends(by_reference);

        int sessions = 0;
        auto counting = [&sessions](tcp_stream peer) -> task<> {
            ++sessions;
            co_await echo(peer);
        };
        auto by_value = spawn(serving<decltype(counting)>, std::ref(listener), counting, unsignalled());
        std::vector<task_handle<std::string>> clients;
        for (int i = 0; i < 20; ++i) clients.push_back(spawn(asks, listener.local(), std::to_string(i)));
        for (int i = 0; i < 20; ++i) {
            const std::string answer = co_await clients[static_cast<std::size_t>(i)];
            CHECK(answer == std::to_string(i));
        }
        CHECK(sessions == 20);
        co_await ends(by_value);
        CHECK(listener.is_open());  // it is the caller's
    });
}

TEST_CASE("serve: a session that fails ends only itself") {
    set_log_level(log_level::error);
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        const auto session = [](tcp_stream& peer) -> task<> {
            const buffer data = co_await peer.receive();
            const char what = data.text().at(0);
            if (what == 't') throw std::runtime_error("a bug of the session's");
            if (what == 'o') throw 7;
            if (what == 's') throw std::system_error(errno_code(EIO));
            if (what == 'c') throw cancelled{};
            co_await peer.write_all(data);
        };
        auto server = spawn(serving<decltype(session)>, std::ref(listener), session, unsignalled());
        for (const char* bad : {"t", "o", "s", "c"}) {
            const std::string answer = co_await asks(listener.local(), bad);
            CHECK(answer == "");  // the stream ended
            const std::string good = co_await asks(listener.local(), "f");
            CHECK(good == "f");
        }
        // A client that resets in the middle is no reason either.
        tcp_stream rude = co_await tcp_stream::connect(listener.local());
        rude.reset_on_close();
        co_await rude.close();
        const std::string good = co_await asks(listener.local(), "f");
        CHECK(good == "f");
        co_await ends(server);
    });
    set_log_level(log_level::warning);
}

TEST_CASE("serve: beyond max_connections the next client waits until a session ends") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, unsignalled(2));
        tcp_stream first = co_await tcp_stream::connect(listener.local());
        tcp_stream second = co_await tcp_stream::connect(listener.local());
        const std::string one = co_await ask(first, "1");
        const std::string two = co_await ask(second, "2");
        CHECK(one == "1");
        CHECK(two == "2");
        tcp_stream third = co_await tcp_stream::connect(listener.local());  // in the kernel's backlog
        auto waiting = spawn(ask, std::ref(third), "3");
        co_await test::settle();
        CHECK_FALSE(waiting.done());
        const std::size_t tasks = this_loop().stats().tasks;
        const std::uint64_t turns = this_loop().stats().turns;
        co_await test::settle();
        CHECK(this_loop().stats().tasks == tasks);
        CHECK(this_loop().stats().turns - turns < 30);  // it waits, it does not look again and again
        co_await first.close();
        const std::string three = co_await waiting;
        CHECK(three == "3");
        co_await ends(server);
    });
}

TEST_CASE("serve: clients beyond max_connections cost no descriptors") {
    // A multishot accept once took the whole backlog in one go.
    test::run([]() -> task<> {
        constexpr std::size_t most = 5, all = 60;
        tcp_listener listener = test::listen();
        std::size_t served = 0;
        const auto session = [&served](tcp_stream& peer) -> task<> {
            ++served;
            co_await echo(peer);
        };
        auto server = spawn(serving<decltype(session)>, std::ref(listener), session, unsignalled(most));
        const auto open = [] {
            return test::on_sim() ? test::simulated_descriptors(this_loop()) : test::open_descriptors();
        };
        co_await test::settle();
        std::vector<tcp_stream> clients;
        const std::size_t before = open();
        for (std::size_t i = 0; i < all; ++i) {
            tcp_stream client = co_await tcp_stream::connect(listener.local());
            clients.push_back(std::move(client));
        }
        co_await test::settle();
        CHECK(served == most);
        CHECK(open() - before - all <= most);
        // As sessions end the others have their turn: none of them is lost.
        std::size_t left = all;
        const auto client_asks = [&](tcp_stream& client) -> task<> {
            const std::string answer = co_await ask(client, "?");
            CHECK(answer == "?");
            CHECK(open() - before - left <= most);
            co_await client.close();
            --left;
        };
        std::vector<task_handle<>> answered;
        for (tcp_stream& client : clients) answered.push_back(spawn(client_asks, std::ref(client)));
        for (task_handle<>& each : answered) co_await each;
        CHECK(left == 0);
        CHECK(served == all);
        co_await ends(server);
    });
}

TEST_CASE("serve: cancelled, it cancels its sessions and waits for them; full or not") {
    for (const std::uint32_t most : {0u, 3u}) {
        CAPTURE(most);
        test::run(
            [](std::uint32_t limit) -> task<> {
                tcp_listener listener = test::listen();
                int begun = 0, unwound = 0;
                const auto session = [&](tcp_stream& peer) -> task<> {
                    ++begun;
                    struct at_end {
                        int& count;
                        ~at_end() { ++count; }
                    } count{unwound};
                    bool was_cancelled = false;
                    try {
                        co_await echo(peer);
                    } catch (const cancelled&) {
                        was_cancelled = true;
                    }
                    co_await peer.close();  // shielded: it works in a cancelled task
                    if (was_cancelled) throw cancelled{};
                };
                auto server = spawn(serving<decltype(session)>, std::ref(listener), session, unsignalled(limit));
                std::vector<tcp_stream> clients;
                for (int i = 0; i < 3; ++i) {
                    tcp_stream client = co_await tcp_stream::connect(listener.local());
                    const std::string answer = co_await ask(client, "?");
                    CHECK(answer == "?");
                    clients.push_back(std::move(client));
                }
                CHECK(begun == 3);
                co_await ends(server);
                CHECK(unwound == 3);
                for (tcp_stream& client : clients) {
                    const buffer end = co_await client.receive();
                    CHECK(end.empty());
                }
            },
            most);
    }
}

TEST_CASE("serve: when the listener is closed it ends its sessions and says bad_file_descriptor") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, unsignalled());
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        const std::string answer = co_await ask(client, "?");
        CHECK(answer == "?");
        co_await listener.close();
        const auto ended = co_await attempt(server);
        CHECK(ended.error() == std::errc::bad_file_descriptor);
        const buffer end = co_await client.receive();
        CHECK(end.empty());
    });
}

TEST_CASE("serve: a peer that is gone, in whatever way, is logged at debug, anything else as a warning") {
    struct levels {
        std::vector<log_level> seen;
        levels() {
            set_log_level(log_level::debug);
            set_log_sink(
                [](const log_record& r, void* to) noexcept {
                    if (r.message.find("session with") != std::string_view::npos)
                        static_cast<levels*>(to)->seen.push_back(r.level);
                },
                this);
        }
        ~levels() {
            set_log_sink(nullptr);
            set_log_level(log_level::warning);
        }
    } told;
    const std::vector<int> gone = {ECONNRESET, ECONNABORTED, EPIPE,    ETIMEDOUT, EHOSTUNREACH,
                                   EHOSTDOWN,  ENETUNREACH,  ENETDOWN, ENETRESET, ENONET};
    const std::vector<int> other = {EIO, ENOMEM};
    test::run(
        [](const std::vector<int>& first, const std::vector<int>& second) -> task<> {
            for (const auto& errors : {first, second})
                for (const int error : errors) {
                    tcp_listener listener = test::listen();
                    const auto session = [error](tcp_stream&) -> task<> {
                        co_await yield();
                        throw io_error(errno_code(error), "read");
                    };
                    auto server = spawn(serving<decltype(session)>, std::ref(listener), session, unsignalled());
                    static_cast<void>(co_await asks(listener.local(), "?"));
                    co_await test::settle();
                    co_await ends(server);
                    detail::pass_log_second();
                }
        },
        std::cref(gone), std::cref(other));
    REQUIRE(told.seen.size() == gone.size() + other.size());
    for (std::size_t i = 0; i < told.seen.size(); ++i) {
        CAPTURE(i);
        CHECK(told.seen[i] == (i < gone.size() ? log_level::debug : log_level::warning));
    }
}

/// Time enough for a server to meet its fate, without a frame of the test's own.
constexpr int a_few = 20;

TEST_CASE("serve: without memory for a session it drops that connection, pauses, and serves on") {
    heard log;
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, unsignalled());
        co_await test::settle();
        std::size_t dropped = 0;
        for (std::size_t n = 1; n <= 8; ++n) {
            CAPTURE(n);
            detail::fail_allocation(n);
            auto connected = co_await attempt(tcp_stream::connect(listener.local()));
            for (int i = 0; i < a_few; ++i) co_await sleep_for(1ms);
            detail::fail_allocation(0);
            REQUIRE_FALSE(server.done());
            if (connected) {
                const std::string answer = co_await ask(*connected, "?");
                if (answer != "?") ++dropped;
            }
            const std::string good = co_await asks(listener.local(), "fine");
            CHECK(good == "fine");
        }
        CHECK(dropped > 0);
        co_await ends(server);
    });
    CHECK(log.text.find("serve: out of memory; accepting again in") != std::string::npos);
}

// --- signals -----------------------------------------------------------------------------------------------

struct dispositions {
    dispositions() {
        sigaction(SIGINT, nullptr, &interrupt);
        sigaction(SIGTERM, nullptr, &terminate);
    }
    bool operator==(const dispositions& o) const {
        return interrupt.sa_handler == o.interrupt.sa_handler && terminate.sa_handler == o.terminate.sa_handler;
    }
    struct sigaction interrupt{};
    struct sigaction terminate{};
};

serve_options signalled(delay grace = 10s) {
    serve_options options;
    options.grace = grace;
    return options;
}

TEST_CASE("serve: a signal stops accepting, and the server ends when its sessions have") {
    for (const int signal : {SIGTERM, SIGINT}) {
        CAPTURE(signal);
        const dispositions before;
        test::run(
            [](int number, const dispositions& usual) -> task<> {
                tcp_listener listener = test::listen();
                const endpoint where = listener.local();
                auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, signalled());
                tcp_stream client = co_await tcp_stream::connect(where);
                const std::string first = co_await ask(client, "before");
                CHECK(first == "before");
                CHECK_FALSE(dispositions() == usual);
                std::raise(number);
                co_await test::settle();
                CHECK_FALSE(server.done());
                const std::string second = co_await ask(client, "after");  // the session goes on
                CHECK(second == "after");
                CHECK_FALSE(listener.is_open());
                const auto late = co_await attempt(tcp_stream::connect(where));  // it may go elsewhere
                CHECK(late.error() == std::errc::connection_refused);
                CHECK_FALSE(server.done());
                co_await client.close();
                const auto ended = co_await attempt(server);
                CHECK(ended);
                CHECK(dispositions() == usual);
            },
            signal, std::cref(before));
        CHECK(dispositions() == before);
    }
}

TEST_CASE("serve: with keep_listening clients that come after the stop wait for who serves next") {
    test::run([]() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        serve_options options = controlled(control);
        options.keep_listening = true;
        auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, options);
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        const std::string first = co_await ask(client, "before");
        CHECK(first == "before");
        control.stop();
        co_await test::settle();
        tcp_stream late = co_await tcp_stream::connect(listener.local());  // nobody accepts it
        auto unanswered = spawn(ask, std::ref(late), "late");
        co_await test::settle();
        CHECK_FALSE(unanswered.done());
        co_await client.close();
        co_await server;
        CHECK(listener.is_open());
        auto next = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, unsignalled());
        const std::string answer = co_await unanswered;
        CHECK(answer == "late");
        co_await ends(next);
    });
}

TEST_CASE("serve: SIGINT and SIGTERM that were ignored when it began stay ignored") {
    // A program started with nohup, or in the background of a shell's script, was stopped by the Ctrl-C that
    // was meant for another.
    for (const int ignored : {SIGINT, SIGTERM}) {
        CAPTURE(ignored);
        struct sigaction usual{};
        struct sigaction none{};
        none.sa_handler = SIG_IGN;
        sigaction(ignored, &none, &usual);
        test::run(
            [](int number) -> task<> {
                tcp_listener listener = test::listen();
                auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, signalled());
                tcp_listener another = test::listen();
                auto other = spawn(serving<decltype(&echo)>, std::ref(another), &echo, signalled());
                co_await test::settle();
                std::raise(number);
                co_await test::settle();
                CHECK_FALSE(server.done());
                const std::string answer = co_await asks(listener.local(), "still here");
                CHECK(answer == "still here");
                std::raise(number == SIGINT ? SIGTERM : SIGINT);
                const auto ended = co_await attempt(server);
                CHECK(ended);
                const auto other_ended = co_await attempt(other);
                CHECK(other_ended);
            },
            ignored);
        struct sigaction left{};
        sigaction(ignored, nullptr, &left);
        const bool is_ignored = left.sa_handler == SIG_IGN;
        CHECK(is_ignored);
        sigaction(ignored, &usual, nullptr);
    }
}

TEST_CASE("serve: a forked child takes signals as if no server watched them") {
    test::run([]() -> task<> {
        const dispositions usual;
        tcp_listener listener = test::listen();
        auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, signalled());
        co_await test::settle();
        CHECK_FALSE(dispositions() == usual);
        const pid_t child = ::fork();
        if (child == 0) ::_exit(dispositions() == usual ? 0 : 1);
        int status = -1;
        ::waitpid(child, &status, 0);
        CHECK(status == 0);
        CHECK_FALSE(dispositions() == usual);
        std::raise(SIGTERM);
        const auto ended = co_await attempt(server);
        CHECK(ended);
    });
}

TEST_CASE("serve: a second signal cancels the sessions") {
    const dispositions before;
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        auto server = spawn(serving<decltype(&echo_by_value)>, std::ref(listener), &echo_by_value, signalled(1h));
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        const std::string answer = co_await ask(client, "?");
        CHECK(answer == "?");
        std::raise(SIGTERM);
        co_await test::settle();
        CHECK_FALSE(server.done());
        std::raise(SIGTERM);
        const auto ended = co_await attempt(server);
        CHECK(ended);
        const buffer end = co_await client.receive();
        CHECK(end.empty());
    });
    CHECK(dispositions() == before);
}

TEST_CASE("serve: sessions that outlast the grace are cancelled; no sessions, no grace") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, signalled(20ms));
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        const std::string answer = co_await ask(client, "?");
        CHECK(answer == "?");
        const time_point before = now();
        std::raise(SIGTERM);
        const auto ended = co_await attempt(server);
        CHECK(ended);
        CHECK(now() - before >= 20ms);
        const buffer end = co_await client.receive();
        CHECK(end.empty());

        tcp_listener another = test::listen();
        auto idle = spawn(serving<decltype(&echo)>, std::ref(another), &echo, signalled(1h));
        co_await immediate();
        std::raise(SIGTERM);
        const auto idle_ended = co_await attempt(idle);
        CHECK(idle_ended);
        CHECK(this_loop().stats().timers == 0);  // the grace is not waited for, nor left behind
    });
}

TEST_CASE("serve: cancelled during the grace, it does not wait for it") {
    const dispositions before;
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, signalled(1h));
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        const std::string answer = co_await ask(client, "?");
        CHECK(answer == "?");
        std::raise(SIGTERM);
        co_await test::settle();
        co_await ends(server);
        CHECK(this_loop().stats().timers == 0);
    });
    CHECK(dispositions() == before);
}

TEST_CASE("serve: without memory for the timer of the grace, there is no grace") {
    test::run([]() -> task<> {
        int without = 0;
        for (std::size_t n = 1; n <= 4; ++n) {
            CAPTURE(n);
            tcp_listener listener = test::listen();
            auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, signalled(1h));
            tcp_stream client = co_await tcp_stream::connect(listener.local());
            const std::string answer = co_await ask(client, "?");
            CHECK(answer == "?");
            detail::fail_allocation(n);
            std::raise(SIGTERM);
            for (int i = 0; i < a_few; ++i) co_await sleep_for(1ms);
            detail::fail_allocation(0);
            if (server.done()) {
                ++without;
            } else {
                std::raise(SIGTERM);
            }
            const auto ended = co_await attempt(server);
            CHECK(ended);
            CHECK_FALSE(listener.is_open());
            const buffer end = co_await client.receive();
            CHECK(end.empty());
        }
        CHECK(without > 0);
    });
}

TEST_CASE("serve: several servers in one process stop at one signal, and the usual handlers come back last") {
    const dispositions before;
    test::run(
        [](const dispositions& usual) -> task<> {
            tcp_listener one = test::listen();
            tcp_listener other = test::listen();
            auto first = spawn(serving<decltype(&echo)>, std::ref(one), &echo, signalled());
            auto second = spawn(serving<decltype(&echo)>, std::ref(other), &echo, signalled());
            tcp_listener third = test::listen();
            auto unmoved = spawn(serving<decltype(&echo)>, std::ref(third), &echo, unsignalled());
            co_await immediate();
            first.cancel();
            const auto ended = co_await attempt(first);
            CHECK_FALSE(ended);
            CHECK_FALSE(dispositions() == usual);
            std::raise(SIGINT);
            const auto stopped = co_await attempt(second);
            CHECK(stopped);
            CHECK(dispositions() == usual);
            CHECK_FALSE(unmoved.done());
            co_await ends(unmoved);
        },
        std::cref(before));
}

TEST_CASE("serve: the program stops it: no more connections, sessions finish, and it returns") {
    test::run([]() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, controlled(control));
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        const std::string first = co_await ask(client, "first");
        CHECK(first == "first");
        CHECK(!control.stopping());
        control.stop();
        CHECK(control.stopping());
        const std::string still = co_await ask(client, "still here");
        CHECK(still == "still here");
        CHECK(!server.done());
        CHECK(control.stats().running == 1);
        co_await client.close();
        co_await server;
        CHECK(control.stats().running == 0);
        CHECK(control.stats().accepted == 1);
        CHECK(control.stats().failed == 0);
    });
}

TEST_CASE("serve: sessions are told that it stops, and end in their own way") {
    test::run([]() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        auto says_goodbye = [&control](tcp_stream& peer) -> task<> {
            for (;;) {
                auto chosen = co_await select_one(peer.receive(), control.wait_stopping());
                if (chosen.index() == 1) break;
                const buffer data = std::move(chosen.get<0>());
                if (data.empty()) co_return;
                co_await peer.write_all(data);
            }
            co_await peer.write_all("goodbye");
        };
        auto server = spawn(serving<decltype(says_goodbye)>, std::ref(listener), says_goodbye, controlled(control, 1h));
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        const std::string first = co_await ask(client, "first");
        CHECK(first == "first");
        control.stop();
        const std::string last = co_await test::receive_text(client, 7);
        CHECK(last == "goodbye");
        co_await server;
    });
}

TEST_CASE("serve: cancel_sessions does not wait for the grace, and a stop before it began ends it at once") {
    test::run([]() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, controlled(control, 1h));
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        const std::string first = co_await ask(client, "first");
        CHECK(first == "first");
        control.cancel_sessions();
        co_await server;
        CHECK(control.stats().ended == 1);
        tcp_listener next = test::listen();
        co_await serve(next, &echo, controlled(control, 1h));
        CHECK(control.stats().accepted == 1);
        CHECK_FALSE(next.is_open());

        server_control early;
        early.stop();
        tcp_listener last = test::listen();
        co_await serve(last, &echo, controlled(early, 1h));
        CHECK(early.stats().accepted == 0);
        CHECK_FALSE(last.is_open());
    });
}

TEST_CASE("serve: that it stops is in the log, with how many sessions and how long") {
    struct told {
        std::string text;
        told() {
            set_log_level(log_level::info);
            set_log_sink(
                [](const log_record& r, void* to) noexcept {
                    if (r.message.starts_with("stopping"))
                        *static_cast<std::string*>(to) += std::string(r.message) + '|';
                },
                &text);
        }
        ~told() {
            set_log_sink(nullptr);
            set_log_level(detail::debug_enabled ? log_level::debug : log_level::warning);
        }
    } log;
    test::run([]() -> task<> {
        server_control control;
        tcp_listener listener = test::listen();
        auto server = spawn(serving<decltype(&echo)>, std::ref(listener), &echo, controlled(control, 20ms));
        tcp_stream client = co_await tcp_stream::connect(listener.local());
        const std::string first = co_await ask(client, "first");
        CHECK(first == "first");
        control.stop();
        control.stop();  // says nothing new
        co_await server;
    });
    CHECK(log.text == "stopping: 1 session, 0.02 s|stopping: 1 session is cancelled after 0.02 s|");
}

TEST_CASE("serve: no request that was accepted is lost in a stop under load") {
    test::run([]() -> task<> {
        tcp_listener listener = test::listen();
        std::size_t begun = 0;
        const auto session = [&begun](tcp_stream& peer) -> task<> {
            ++begun;
            co_await echo(peer);
        };
        auto server = spawn(serving<decltype(session)>, std::ref(listener), session, signalled());
        std::vector<task_handle<std::string>> clients;
        for (int i = 0; i < 100; ++i) clients.push_back(spawn(asks, listener.local(), "q"));
        while (begun < 10) co_await sleep_for(100us);
        std::raise(SIGTERM);
        const auto ended = co_await attempt(server);
        CHECK(ended);
        co_await listener.close();  // those nobody accepted are refused or reset now
        std::size_t answered = 0;
        for (auto& client : clients) {
            const auto answer = co_await attempt(client);
            if (answer && *answer == "q") ++answered;
        }
        CHECK(answered == begun);
    });
}

}  // namespace
