// The contract of a backend (loop/backend.hpp) where there is a kernel: its descriptors, limits, signals and forks.
#include "support/backend_rig.hpp"

#include <doctest/doctest.h>
#include <rondo/loop/backend.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

using namespace test::raw;

namespace {

/// All the descriptors there are.
struct hoard {
    explicit hoard(int of) {
        for (int fd; (fd = dup(of)) >= 0;) kept.push_back(fd);
    }
    hoard(const hoard&) = delete;
    ~hoard() {
        for (const int fd : kept) close(fd);
    }
    std::vector<int> kept;
};

TEST_CASE("backend: out of descriptors, accept says so, and works again later") {
    // The limit is the process's. It is lowered first: io_uring reads it when accept is prepared.
    const descriptor_limit lowered(64);
    on_real([](rig& r) {
        auto [listener, at] = r.listen();
        for (const bool waiting : {false, true}) {
            test_op waits(io_kind::accept, listener);
            if (waiting) {
                CHECK_FALSE(r.start(waits));
                r.turn(time_point::min());
            }
            const int client = r.tcp_socket(at);
            test_op connecting(io_kind::connect, client);
            connecting.data = &at;
            {
                const hoard none_left(client);
                CHECK(r.run(connecting) == 0);
                if (!waiting) r.start(waits);
                CHECK(r.finish(waits) == -EMFILE);
                CHECK(r.run(test_op(io_kind::accept, listener)) == -EMFILE);
            }
            const int server = r.run(test_op(io_kind::accept, listener));
            CHECK(server >= 0);
            r.close({client, server});
        }
        r.close(listener);
    });
}

TEST_CASE("backend: descriptors of others can be polled, both ways, again and again") {
    on_real([](rig& r) {  // sim has no descriptors but its own
        int ends[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
        const auto poll_op = [&](io_kind kind) {
            test_op o(kind, ends[0]);
            o.flags = io_op::foreign;
            return o;
        };
        char area[4096] = {};
        for (int round = 0; round < 3; ++round) {
            auto in = poll_op(io_kind::poll_in), out = poll_op(io_kind::poll_out);
            CHECK_FALSE(r.start(in));
            CHECK(r.run(out) == 0);
            CHECK_FALSE(in.finished);
            while (write(ends[0], area, sizeof area) > 0) {
            }
            auto room = poll_op(io_kind::poll_out), second = poll_op(io_kind::poll_out);
            CHECK_FALSE(r.start(room));
            CHECK(r.run(second) == -EBUSY);
            r.settle();
            CHECK_FALSE(room.finished);
            CHECK_FALSE(in.finished);
            REQUIRE(write(ends[1], area, 1) == 1);
            CHECK(r.finish(in) == 0);
            CHECK_FALSE(room.finished);
            auto level = poll_op(io_kind::poll_in);  // still unread: still ready
            CHECK(r.run(level) == 0);
            CHECK_FALSE(room.finished);
            REQUIRE(read(ends[0], area, 1) == 1);
            auto none = poll_op(io_kind::poll_in);
            CHECK_FALSE(r.start(none));
            r.settle();
            CHECK_FALSE(none.finished);
            r.io->cancel(none);
            CHECK(r.finish(none) == -ECANCELED);
            CHECK_FALSE(room.finished);
            while (read(ends[1], area, sizeof area) > 0) {
            }
            CHECK(r.finish(room) == 0);
        }
        auto hung = poll_op(io_kind::poll_in);
        CHECK_FALSE(r.start(hung));
        close(ends[1]);
        CHECK(r.finish(hung) == 0);
        close(ends[0]);

        test_op nothing(io_kind::poll_in, ends[0]);
        nothing.flags = io_op::foreign;
        CHECK(r.run(nothing) == -EBADF);
    });
}

TEST_CASE("backend: a regular file is always ready (hazard C15)") {
    on_real([](rig& r) {
        const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        REQUIRE(fd >= 0);
        for (const std::uint8_t flags : {std::uint8_t{io_op::foreign}, std::uint8_t{0}}) {
            test_op in(io_kind::poll_in, fd);
            in.flags = flags;
            CHECK(r.run(in) == 0);
        }
        close(fd);
    });
}

TEST_CASE("backend: a foreign descriptor closed under a poll does not harm its successor") {
    on_real([](rig& r) {
        auto [listener, at] = r.listen();
        const int client = r.tcp_socket(at);
        const int theirs = dup(client);
        REQUIRE(theirs >= 0);
        test_op lost(io_kind::poll_in, theirs);
        lost.flags = io_op::foreign;
        int pipe_ends[2];
        REQUIRE(pipe(pipe_ends) == 0);
        REQUIRE(dup2(pipe_ends[0], theirs) == theirs);
        CHECK_FALSE(r.start(lost));
        r.turn(time_point::min());
        close(theirs);
        test_op connecting(io_kind::connect, client);
        connecting.data = &at;
        CHECK(r.run(connecting) == 0);
        const int server = r.run(test_op(io_kind::accept, listener));
        CHECK(server == theirs);  // the number has a new owner
        bytes out(5), in(5);
        auto read = receive(server, in);
        CHECK_FALSE(r.start(read));
        CHECK(r.finish(lost) == -EBADF);
        CHECK(r.run(send(client, out)) == 5);
        CHECK(r.finish(read) == 5);
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        for (const int fd : {client, server, listener}) r.close(fd);
    });
}

TEST_CASE("backend: inside another loop, its descriptor tells when to call wait") {
    on_real([](rig& r) {  // sim has no descriptor
        pollfd outer{r.io->poll_fd(), POLLIN, 0};
        REQUIRE(outer.fd >= 0);
        const auto host_waits = [&](int ms) {
            r.io->flush();
            return ::poll(&outer, 1, ms) == 1;
        };
        const auto ends = r.pair();
        bytes out(3), in(3);
        for (int round = 0; round < 20; ++round) {
            auto read = receive(ends.first, in);
            test_op lent(io_kind::borrow, ends.second);
            CHECK_FALSE(r.start(read));
            CHECK_FALSE(r.start(lent));
            while (host_waits(0)) r.turn(time_point::min());
            CHECK_FALSE(host_waits(5));
            REQUIRE(write(ends.second, out.data(), 3) == 3);
            while (!read.finished) {
                REQUIRE(host_waits(5000));
                r.turn(time_point::min());
            }

            r.io->cancel(lent);  // nothing for the kernel, yet `wait` has something to report
            while (!lent.finished) {
                REQUIRE(host_waits(5000));
                r.turn(time_point::min());
            }
            CHECK(lent.result == -ECANCELED);

            while (host_waits(0)) r.turn(time_point::min());
            r.io->wake();
            CHECK(host_waits(5000));
            r.turn(time_point::min());
        }
        r.close(ends);
    });
}

TEST_CASE("backend: signals in the middle change nothing (hazard C10)") {
    static volatile sig_atomic_t alarms;
    alarms = 0;
    struct sigaction act = {}, before = {};
    act.sa_handler = [](int) { alarms = alarms + 1; };  // no SA_RESTART
    sigaction(SIGALRM, &act, &before);
    itimerval often{{0, 500}, {0, 500}}, off{};
    setitimer(ITIMER_REAL, &often, nullptr);
    on_real([](rig& r) {
        auto [client, server] = r.tcp();
        bytes out = make_pattern(21, 0, 2 << 20), in(2 << 20);
        for (int round = 0; round < 10; ++round) {
            auto whole = send(client, out, io_op::all);
            auto all = receive(server, in, io_op::all);
            r.start(all);
            r.start(whole);
            CHECK(r.finish(all) == 2 << 20);
            CHECK(r.finish(whole) == 2 << 20);
            CHECK(is_pattern(in, 21));
        }
        const time_point until = r.io->now() + 20ms;
        CHECK(r.turn(until) == 0);
        CHECK(r.io->now() >= until);
        r.close({client, server});
    });
    setitimer(ITIMER_REAL, &off, nullptr);
    sigaction(SIGALRM, &before, nullptr);
    if (wanted(backend_kind::epoll)) CHECK(alarms > 0);
}

TEST_CASE("backend: a forked child must not use it") {
    on_real([](rig& r) {
        const auto ends = r.pair();
        bytes area(8);
        auto read = receive(ends.first, area);
        CHECK_FALSE(r.start(read));
        r.turn(time_point::min());
        const pid_t child = fork();
        if (child == 0) {
            signal(SIGABRT, SIG_DFL);
            const rlimit no_core{0, 0};
            setrlimit(RLIMIT_CORE, &no_core);
            close(STDERR_FILENO);
            rondo::completions done;
            r.io->wait(time_point::min(), done);
            _exit(0);
        }
        int status = 0;
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status));
        CHECK(r.run(send(ends.second, area)) == 8);
        CHECK(r.finish(read) == 8);
        r.close(ends);
    });
}

}  // namespace
