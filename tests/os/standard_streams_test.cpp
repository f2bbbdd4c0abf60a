// Standard input, output and error, whatever they are, in processes of their own; and that nobody who shares them
// notices.
#include "support/child_process.hpp"
#include "support/net.hpp"

#include <rondo/io/buffered_reader.hpp>
#include <rondo/os/pipe.hpp>
#include <rondo/os/standard_streams.hpp>

#include <array>
#include <csignal>
#include <cstdlib>
#include <thread>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace rondo;
using namespace std::literals;
using test::error_of;

static_assert(byte_reader<standard_input> && byte_writer<standard_output>);
static_assert(!byte_writer<standard_input> && !byte_reader<standard_output>);

namespace {

bool skipped_in_sim() {
    if (test::on_sim()) MESSAGE("skipped: a simulated world has no standard streams");
    return test::on_sim();
}

/// The ends of something, closed at the end if they still are open.
struct ends {
    ends() = default;
    ends(const ends&) = delete;
    ends& operator=(const ends&) = delete;
    ~ends() {
        close(0);
        close(1);
    }
    void close(int which) {
        if (fds[which] >= 0) ::close(std::exchange(fds[which], -1));
    }
    int fds[2] = {-1, -1};
};

struct pipe_ends : ends {
    pipe_ends() { REQUIRE(::pipe2(fds, O_CLOEXEC) == 0); }
};
struct socket_ends : ends {
    socket_ends() { REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0); }
};
/// [0] is the master, [1] the terminal, in which bytes pass as they are but for lines.
struct terminal_ends : ends {
    terminal_ends() {
        fds[0] = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        REQUIRE(fds[0] >= 0);
        REQUIRE(::grantpt(fds[0]) == 0);
        REQUIRE(::unlockpt(fds[0]) == 0);
        fds[1] = ::open(::ptsname(fds[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
        REQUIRE(fds[1] >= 0);
    }
};
struct temporary_file : ends {
    explicit temporary_file(std::string_view content = {}) {
        char path[] = "/tmp/rondo-XXXXXX";
        fds[0] = ::mkostemp(path, O_CLOEXEC);
        REQUIRE(fds[0] >= 0);
        ::unlink(path);
        REQUIRE(::write(fds[0], content.data(), content.size()) == static_cast<ssize_t>(content.size()));
        ::lseek(fds[0], 0, SEEK_SET);
    }
};

/// A copy of standard input in capital letters, line by line, on standard output: what the tests run.
task<> capitals() {
    standard_input in = standard_input::open();
    standard_output out = standard_output::open();
    buffered_reader lines(in);
    while (auto line = co_await lines.read_line()) {
        for (char& c : *line)
            if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
        *line += '\n';
        co_await out.write_all(*line);
    }
    co_await out.close();
}

/// Runs `body` with these standard streams in a process of its own; gives how it ended, as wait(2) does.
template <class Body>
class program {
 public:
    program(Body body, int in, int out)
        : child_([=](int) {
              if (in >= 0) ::dup2(in, 0);
              if (out >= 0) ::dup2(out, 1);
              for (int fd = 3; fd < 64; ++fd) ::close(fd);  // or the other ends of its own pipes would stay open
              return run_main(body);
          }) {}
    int ended() const { return child_.ended(); }

 private:
    test::child_process child_;
};

std::string read_all(int fd) {
    std::string all;
    char piece[4096];
    for (ssize_t n; (n = ::read(fd, piece, sizeof piece)) > 0;) all.append(piece, static_cast<std::size_t>(n));
    return all;
}

std::string read_count(int fd, std::size_t size) {
    std::string all(size, '?');
    std::size_t got = 0;
    for (ssize_t n; got < size && (n = ::read(fd, all.data() + got, size - got)) > 0;)
        got += static_cast<std::size_t>(n);
    all.resize(got);
    return all;
}

void write_text(int fd, std::string_view text) {
    REQUIRE(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

bool is_blocking(int fd) { return (::fcntl(fd, F_GETFL) & O_NONBLOCK) == 0; }

TEST_CASE("standard streams: a filter between two pipes, which stay as blocking as they were") {
    if (skipped_in_sim()) return;
    pipe_ends in, out;
    const program filter(capitals, in.fds[0], out.fds[1]);
    out.close(1);
    write_text(in.fds[1], "one\ntwo\n");
    CHECK(read_count(out.fds[0], 8) == "ONE\nTWO\n");
    CHECK(is_blocking(in.fds[0]));
    CHECK(is_blocking(out.fds[0]));
    CHECK(is_blocking(in.fds[1]));
    write_text(in.fds[1], "the end");
    in.close(1);
    CHECK(read_all(out.fds[0]) == "THE END\n");
    CHECK(filter.ended() == 0);
}

TEST_CASE("standard streams: a filter between files, whose positions are shared with who gave them") {
    if (skipped_in_sim()) return;
    const std::string text(300'000, 'x');
    temporary_file in("skipped\n" + text + "\nlast\n"), out("before\n");
    ::lseek(in.fds[0], 8, SEEK_SET);
    ::lseek(out.fds[0], 0, SEEK_END);
    auto copies = []() -> task<> {
        standard_input from = standard_input::open();
        standard_output to = standard_output::open();
        for (;;) {
            const buffer part = co_await from.receive();
            if (part.empty()) break;
            co_await to.write_all(part);
        }
    };
    const program filter(copies, in.fds[0], out.fds[0]);
    CHECK(filter.ended() == 0);
    CHECK(::lseek(in.fds[0], 0, SEEK_CUR) == static_cast<off_t>(8 + text.size() + 6));
    write_text(out.fds[0], "after\n");  // behind what the filter has written
    ::lseek(out.fds[0], 0, SEEK_SET);
    CHECK(read_all(out.fds[0]) == "before\n" + text + "\nlast\nafter\n");
}

TEST_CASE("standard streams: /dev/null is at its end, and takes everything") {
    if (skipped_in_sim()) return;
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    auto tries = []() -> task<> {
        standard_input in = standard_input::open();
        standard_output out = standard_output::open();
        std::array<char, 4> into{};
        const std::size_t end = co_await in.read_some(into);
        if (end != 0) std::_Exit(50);
        const std::string much(3'000'000, 'x');
        const std::size_t all = co_await out.write_all(much);
        if (all != much.size()) std::_Exit(51);
    };
    const program filter(tries, null, null);
    CHECK(filter.ended() == 0);
    ::close(null);
}

TEST_CASE("standard streams: at a terminal lines come as they are typed, and Ctrl-D is the end") {
    if (skipped_in_sim()) return;
    terminal_ends terminal;
    const program filter(capitals, terminal.fds[1], terminal.fds[1]);
    write_text(terminal.fds[0], "abc\n");
    CHECK(read_count(terminal.fds[0], 10) == "abc\r\nABC\r\n");
    CHECK(is_blocking(terminal.fds[1]));
    write_text(terminal.fds[0], "\x04");
    CHECK(filter.ended() == 0);
    CHECK(is_blocking(terminal.fds[1]));
}

TEST_CASE("standard streams: a socket is used as it is, and nothing is read from it ahead") {
    if (skipped_in_sim()) return;
    socket_ends socket;
    auto one_word = []() -> task<> {
        standard_input in = standard_input::open();
        standard_output out = standard_output::open();
        std::array<char, 4> word{};
        co_await in.read_exactly(word);
        co_await out.write_all(word);
    };
    const program filter(one_word, socket.fds[1], socket.fds[1]);
    std::this_thread::sleep_for(5ms);
    write_text(socket.fds[0], "wordrest");
    CHECK(filter.ended() == 0);
    CHECK(is_blocking(socket.fds[1]));
    CHECK(read_count(socket.fds[0], 4) == "word");
    CHECK(read_count(socket.fds[1], 4) == "rest");
}

TEST_CASE("standard streams: what may not be opened once more is asked before it is read or written") {
    // As after `su`, where the pipe belongs to another user: here /proc is out of reach.
    if (skipped_in_sim()) return;
    if (::getuid() != 0) return;
    pipe_ends in, out;
    auto other_user = []() -> task<> {
        if (::setuid(65534) != 0) std::_Exit(40);
        return capitals();
    };
    const program filter(other_user, in.fds[0], out.fds[1]);
    out.close(1);
    write_text(in.fds[1], "one\n");
    CHECK(read_count(out.fds[0], 4) == "ONE\n");
    const std::string line = std::string(99, 'X') + '\n';
    std::thread writer([&] {
        for (int i = 0; i < 3000; ++i) static_cast<void>(::write(in.fds[1], line.data(), line.size()));
        in.close(1);
    });
    std::this_thread::sleep_for(20ms);  // so that it has to wait for room
    const std::string got = read_all(out.fds[0]);
    writer.join();
    CHECK(got.size() == 300'000);
    CHECK(got.ends_with(line));
    CHECK(filter.ended() == 0);
    CHECK(is_blocking(out.fds[0]));
}

/// From now on the kernel is one that does not know how to read or write a pipe with flags.
bool forget_flags() {
    sock_filter filter_program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_preadv2, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwritev2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{sizeof filter_program / sizeof filter_program[0], filter_program};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST_CASE("standard streams: on an older kernel a write to a pipe that nobody reads raises no SIGPIPE either") {
    if (skipped_in_sim()) return;
    constexpr int no_filter = 77;
    for (const bool other_user : {false, true}) {
        CAPTURE(other_user);
        if (other_user && ::getuid() != 0) continue;
        pipe_ends in, out;
        auto writes = [other_user]() -> task<> {
            std::signal(SIGPIPE, SIG_DFL);
            if (!forget_flags()) std::_Exit(no_filter);
            if (other_user && ::setuid(65534) != 0) std::_Exit(no_filter);
            standard_input from = standard_input::open();
            standard_output to = standard_output::open();
            std::array<char, 5> word{};
            co_await from.read_exactly(word);
            co_await to.write_all(word);
            std::array<char, 1> one{};
            const std::size_t end = co_await from.read_some(one);
            if (end != 0) std::_Exit(90);
            const std::string much(300'000, 'z');
            const auto broken = co_await attempt(to.write_all(much));
            if (broken.error() != std::errc::broken_pipe) std::_Exit(91);
            sigset_t pending, blocked;
            sigpending(&pending);
            pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
            if (sigismember(&pending, SIGPIPE) != 0 || sigismember(&blocked, SIGPIPE) != 0) std::_Exit(92);
        };
        const program filter(writes, in.fds[0], out.fds[1]);
        out.close(1);
        write_text(in.fds[1], "hello");
        CHECK(read_count(out.fds[0], 5) == "hello");
        in.close(1);
        std::this_thread::sleep_for(20ms);  // until it waits for room
        out.close(0);
        const int status = filter.ended();
        REQUIRE(WIFEXITED(status));
        if (WEXITSTATUS(status) == no_filter) return;
        CHECK(WEXITSTATUS(status) == 0);
    }
}

TEST_CASE("standard streams: a terminal of another user is asked first as well") {
    if (skipped_in_sim()) return;
    if (::getuid() != 0) return;
    terminal_ends terminal;
    auto other_user = []() -> task<> {
        if (::setuid(65534) != 0) std::_Exit(40);
        return capitals();
    };
    const program filter(other_user, terminal.fds[1], terminal.fds[1]);
    write_text(terminal.fds[0], "abc\n");
    CHECK(read_count(terminal.fds[0], 10) == "abc\r\nABC\r\n");
    CHECK(is_blocking(terminal.fds[1]));
    write_text(terminal.fds[0], "\x04");
    CHECK(filter.ended() == 0);
}

TEST_CASE("standard streams: a pipe that is not read makes who writes to it wait, and a reader that is gone ends it") {
    if (skipped_in_sim()) return;
    pipe_ends out;
    auto floods = []() -> task<> {
        standard_output to = standard_output::open();
        const std::string some(50'000, 'y');
        std::size_t written = 0;
        const auto late = co_await attempt(with_timeout(20ms, to.write_all(some + some, &written)));
        if (late || late.error() != std::errc::timed_out || written == 0 || written == 100'000) std::_Exit(60);
        for (;;) {
            const auto more = co_await attempt(to.write_all(some));
            if (more) continue;
            if (more.failure().message() != "write standard output: Broken pipe") std::_Exit(61);
            co_return;  // although SIGPIPE does what it does by default
        }
    };
    const program filter(
        [floods]() -> task<> {
            std::signal(SIGPIPE, SIG_DFL);
            return floods();
        },
        -1, out.fds[1]);
    out.close(1);
    std::this_thread::sleep_for(50ms);
    CHECK(read_count(out.fds[0], 200'000) == std::string(200'000, 'y'));
    out.close(0);
    CHECK(filter.ended() == 0);
}

TEST_CASE("standard streams: one that is closed is an error, also when the loop has got its number") {
    if (skipped_in_sim()) return;
    auto tries = []() -> task<> {
        const auto in = standard_input::try_open();
        const auto out = standard_output::try_open();
        if (in || in.error() != std::errc::bad_file_descriptor) std::_Exit(70);
        if (out || out.error() != std::errc::bad_file_descriptor) std::_Exit(71);
        std::string said;
        try {
            static_cast<void>(standard_output::open());
        } catch (const io_error& e) {
            said = e.what();
        }
        if (said != "open standard output: Bad file descriptor") std::_Exit(72);
        standard_output error = standard_output::open_error();
        co_await error.write_all("");
    };
    const test::child_process child([&](int) {
        ::close(0);
        ::close(1);
        return run_main(tries);
    });
    CHECK(child.ended() == 0);

    pipe_ends wrong_way;  // what is open, but not for that
    const program filter(
        []() -> task<> {
            const auto in = standard_input::try_open();
            if (in || in.error() != std::errc::bad_file_descriptor) std::_Exit(73);
            co_return;
        },
        wrong_way.fds[1], -1);
    CHECK(filter.ended() == 0);
}

TEST_CASE("standard streams: they close what is theirs, and leave 0, 1 and 2 open") {
    if (skipped_in_sim()) return;
    pipe_ends in, out;
    auto closes = []() -> task<> {
        const std::size_t before = test::open_descriptors();
        standard_input from = standard_input::open();
        standard_output to = standard_output::open();
        if (from.native_handle() < 3 || to.native_handle() < 3) std::_Exit(80);
        if (test::open_descriptors() != before + 2) std::_Exit(81);
        co_await from.close();
        const int given = co_await to.release();
        ::close(given);
        if (test::open_descriptors() != before) std::_Exit(82);
        if (::write(1, "still open", 10) != 10) std::_Exit(83);
    };
    const program filter(closes, in.fds[0], out.fds[1]);
    out.close(1);
    CHECK(read_all(out.fds[0]) == "still open");
    CHECK(filter.ended() == 0);
}

TEST_CASE("standard streams: a process that is killed leaves nothing to put right") {
    if (skipped_in_sim()) return;
    terminal_ends terminal;
    pipe_ends in;
    auto dies = []() -> task<> {
        standard_input from = standard_input::open();
        standard_output to = standard_output::open();
        co_await to.write_all("up\n");
        std::array<char, 1> one{};
        co_await from.read_some(one);
        ::kill(::getpid(), SIGKILL);
    };
    const program filter(dies, in.fds[0], terminal.fds[1]);
    CHECK(read_count(terminal.fds[0], 4) == "up\r\n");
    write_text(in.fds[1], "x");
    CHECK(WIFSIGNALED(filter.ended()));
    CHECK(is_blocking(in.fds[0]));
    CHECK(is_blocking(terminal.fds[1]));
}

TEST_CASE("standard streams: a simulated world has none, and says so by name") {
    if (!test::on_sim()) return;
    test::run([]() -> task<> {
        CHECK_THROWS_WITH_AS(static_cast<void>(standard_input::open()),
                             "standard input in a simulated world: Function not implemented", not_simulated);
        CHECK_THROWS_AS(static_cast<void>(standard_output::open()), not_simulated);
        CHECK(standard_output::try_open_error().error() == std::errc::function_not_supported);
        co_return;
    });
}

}  // namespace
