// What the library says on standard error, when the other end does not listen.
#include "support/child_process.hpp"
#include "support/net.hpp"

#include <rondo/observe/chrome_trace.hpp>

#include <csignal>
#include <cstdio>
#include <stdexcept>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

using namespace rondo;
using namespace std::chrono_literals;

namespace {

/// Standard error is something else as long as this lives.
class standard_error {
 public:
    explicit standard_error(int instead) : saved_(fcntl(2, F_DUPFD_CLOEXEC, 100)) {
        if (instead >= 0) {
            dup2(instead, 2);
        } else {
            close(2);
        }
    }
    ~standard_error() {
        dup2(saved_, 2);
        close(saved_);
    }
    standard_error(const standard_error&) = delete;

 private:
    int saved_;
};

struct two_ends {
    two_ends() { REQUIRE(pipe2(ends, O_CLOEXEC) == 0); }
    ~two_ends() {
        close_reader();
        close(ends[1]);
    }
    two_ends(const two_ends&) = delete;

    void close_reader() {
        if (ends[0] >= 0) close(ends[0]);
        ends[0] = -1;
    }
    /// Nothing more goes in.
    void fill() const {
        const int flags = fcntl(ends[1], F_GETFL);
        fcntl(ends[1], F_SETFL, flags | O_NONBLOCK);
        char much[4096] = "";
        while (write(ends[1], much, sizeof much) > 0 || write(ends[1], much, 1) > 0) {
        }
        fcntl(ends[1], F_SETFL, flags);
    }
    int ends[2];
};

std::string read_all(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    std::string text;
    char piece[4096];
    for (ssize_t n; (n = read(fd, piece, sizeof piece)) > 0;) text.append(piece, static_cast<std::size_t>(n));
    return text;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void say(const char* text) {
    static detail::log_gate gate(1000);
    detail::write_log(gate, log_level::error, {}, "%s", text);
}

/// The records that were lost in the meantime. What was lost before is told.
struct losses {
    losses() {
        const two_ends pipe;
        const standard_error is(pipe.ends[1]);
        say("what was lost before");
    }
    std::uint64_t before = lost_log_records();
    std::uint64_t now() const { return lost_log_records() - before; }
};

TEST_CASE("report: a full pipe at standard error does not hold up who logs; what was lost is counted, and told later") {
    // The loop's thread wrote to standard error and waited there, with every connection, for a log collector that hung.
    const two_ends pipe;
    pipe.fill();
    const losses lost;
    const standard_error is(pipe.ends[1]);
    say("one");
    say("two");
    CHECK(lost.now() == 2);
    read_all(pipe.ends[0]);
    say("three");
    CHECK(read_all(pipe.ends[0]) ==
          "rondo warning: 2 messages were lost: standard error did not take them\nrondo error: three\n");
    say("four");
    CHECK(read_all(pipe.ends[0]) == "rondo error: four\n");
    CHECK(lost.now() == 2);
    CHECK((fcntl(pipe.ends[1], F_GETFL) & O_NONBLOCK) == 0);  // others write to it as well
}

TEST_CASE("report: standard error without a reader does not end the process") {
    // A write to such a pipe or socket raises SIGPIPE, and the library wrote without a thought of it.
    two_ends pipe;
    pipe.close_reader();
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    close(pair[0]);
    sigset_t mask_before;
    pthread_sigmask(SIG_BLOCK, nullptr, &mask_before);
    const losses lost;
    {
        const standard_error is(pipe.ends[1]);
        say("into nothing");
    }
    {
        const standard_error is(pair[1]);
        say("into nothing");
    }
    close(pair[1]);
    CHECK(lost.now() == 2);
    sigset_t mask, pending;
    pthread_sigmask(SIG_BLOCK, nullptr, &mask);
    sigpending(&pending);
    CHECK(sigismember(&mask, SIGPIPE) == sigismember(&mask_before, SIGPIPE));
    CHECK(sigismember(&pending, SIGPIPE) == 0);
}

TEST_CASE("report: a SIGPIPE that was pending before stays so") {
    sigset_t pipe_signal, mask_before;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &mask_before);
    pthread_kill(pthread_self(), SIGPIPE);
    two_ends pipe;
    pipe.close_reader();
    {
        const standard_error is(pipe.ends[1]);
        say("into nothing");
    }
    const timespec at_once{0, 0};
    CHECK(sigtimedwait(&pipe_signal, nullptr, &at_once) == SIGPIPE);
    CHECK(sigtimedwait(&pipe_signal, nullptr, &at_once) == -1);
    pthread_sigmask(SIG_SETMASK, &mask_before, nullptr);
}

TEST_CASE("report: a terminal that was stopped does not hold up who logs") {
    const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    REQUIRE(master >= 0);
    REQUIRE(grantpt(master) == 0);
    REQUIRE(unlockpt(master) == 0);
    const int terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    REQUIRE(terminal >= 0);
    const losses lost;
    {
        const standard_error is(terminal);
        REQUIRE(tcflow(terminal, TCOOFF) == 0);  // as Ctrl-S does
        say("stopped");
        CHECK(lost.now() == 1);
        REQUIRE(tcflow(terminal, TCOON) == 0);
        say("goes on");
        CHECK((fcntl(terminal, F_GETFL) & O_NONBLOCK) == 0);
    }
    std::string text;  // a terminal passes on what it gets a little later
    pollfd arrives{master, POLLIN, 0};
    while (!has(text, "goes on\r\n") && poll(&arrives, 1, 5000) == 1) text += read_all(master);
    CHECK(has(text, "1 message was lost: standard error did not take it\r\nrondo error: goes on\r\n"));
    CHECK_FALSE(has(text, "stopped"));
    close(terminal);
    close(master);
}

TEST_CASE("report: of a message that a socket took half, the rest is lost, and the next one begins a line") {
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    const losses lost;
    {
        const standard_error is(pair[1]);
        std::string taken;
        while (lost.now() == 0) say("a line");
        CHECK((fcntl(pair[1], F_GETFL) & O_NONBLOCK) == 0);
        taken = read_all(pair[0]);
        say("the next line");
        const std::string next = read_all(pair[0]);
        const std::string all = taken + next;
        CHECK(next.ends_with(
            "rondo warning: 1 message was lost: standard error did not take it\nrondo error: the next line\n"));
        CHECK(has(all, "\nrondo warning: 1 message"));
    }
    close(pair[0]);
    close(pair[1]);
}

TEST_CASE("report: a standard error that was closed is not the next socket's number") {
    // What the program wrote there afterwards, and a warning of the library, went to the peer of a connection.
    const losses lost;
    std::string got;
    {
        const standard_error is(-1);
        say("nowhere");
        CHECK(lost.now() == 1);
        loop l;
        struct stat there{}, null{};
        REQUIRE(fstat(2, &there) == 0);
        REQUIRE(stat("/dev/null", &null) == 0);
        CHECK(there.st_rdev == null.st_rdev);
        run_on(l, []() -> task<> {
            tcp_listener listener = tcp_listener::bind("127.0.0.1", 0);
            tcp_stream client = co_await tcp_stream::connect(listener.local());
            tcp_stream server = co_await listener.accept();
            say("into /dev/null");
            co_await client.write_all("x");
            const auto data = co_await server.receive();
            CHECK(data.size() == 1);
        });
    }
    CHECK(lost.now() == 1);
}

/// How a child process ends in which `program` runs with `error` as its standard error.
template <class Program>
int ending_of(int error, Program program) {
    std::fflush(nullptr);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        dup2(error, 2);
        std::signal(SIGABRT, SIG_DFL);
        std::signal(SIGPIPE, SIG_DFL);
        alarm(20);
        _exit(program());
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

int failing_main() {
    return run_main([]() -> task<> {
        co_await yield();
        throw std::runtime_error("it does not work");
    });
}

TEST_CASE("report: run_main gives 1 after an error, also when nobody reads or listens") {
    two_ends full, gone;
    full.fill();
    gone.close_reader();
    for (const int error : {full.ends[1], gone.ends[1]}) {
        const int status = ending_of(error, failing_main);
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 1);
    }
}

TEST_CASE("report: an assertion aborts, also when nobody reads or listens") {
    two_ends full, gone;
    full.fill();
    gone.close_reader();
    for (const int error : {full.ends[1], gone.ends[1]}) {
        const int status = ending_of(error, [] {
            detail::assertion_failed("a test", "true == false", std::source_location::current());
            return 0;
        });
        const bool aborted =
            WIFSIGNALED(status) ? WTERMSIG(status) == SIGABRT : WEXITSTATUS(status) != 0;  // sanitizers
        CHECK(aborted);
    }
}

TEST_CASE("report: last words wait for a slow reader, however long they are") {
    const test::child_process child(
        [](int) {
            return run_main([]() -> task<> {
                co_await yield();
                throw std::runtime_error(std::string(300'000, 'x') + "the end");
            });
        },
        STDERR_FILENO);
    const std::string text = child.rest();
    const int status = child.ended();
    CHECK(WEXITSTATUS(status) == 1);
    CHECK(text.size() > 300'000);
    CHECK(has(text, "xthe end\n"));
}

TEST_CASE("report: a tree that is asked for by a signal does not end the process, nor stop it") {
    two_ends full, gone;
    full.fill();
    gone.close_reader();
    for (const int error : {full.ends[1], gone.ends[1]}) {
        const int status = ending_of(error, [] {
            set_log_level(log_level::warning);  // a loop says at debug level which backend was refused
            const losses lost;
            loop l;
            const dump_on_signal dump(SIGUSR1, l);
            run_on(l, []() -> task<> {
                std::raise(SIGUSR1);
                for (int i = 0; i < 3; ++i) co_await immediate();
            });
            return lost.now() == 1 ? 7 : 8;
        });
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 7);
    }
}

TEST_CASE("report: a file that may not grow any more is an error, not the end of the process") {
    // SIGXFSZ, like SIGPIPE, ends a process that has not heard of it.
    rlimit before{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    char path[] = "/tmp/rondo-report-XXXXXX";
    const int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    recorder seen;
    std::error_code code;
    {
        rlimit none = before;
        none.rlim_cur = 0;
        REQUIRE(setrlimit(RLIMIT_FSIZE, &none) == 0);
        const standard_error is(fd);  // a file as well
        say("no room");
        try {
            save_chrome_trace(seen, path);
        } catch (const io_error& e) {
            code = e.code();
        }
        REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    }
    CHECK(code == std::errc::file_too_large);
    close(fd);
    unlink(path);
}

}  // namespace
